// Tells whose operator new and delete this program really runs.
//
// A new_handler is called from inside operator new, so its return address lies in the definition
// that serves. For each form of new the program prints that address and the file that is mapped
// there; the test looks the address up among the file's symbols. What cannot be seen so, the
// deletes, are called with blocks of every form of new.
//
// Compiles from C++14 on, without exceptions and without RTTI, so that it can stand for any
// program.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

static void* served_from = nullptr;

// Takes the address and gives up, so that the form of new fails.
static void handler() {
  served_from = __builtin_extract_return_addr(__builtin_return_address(0));
  std::set_new_handler(nullptr);
}

// Prints `NAME ADDRESS BASE FILE`: where the address is, and where the file it is in starts.
static void report(const char* form) {
  std::FILE* const maps = std::fopen("/proc/self/maps", "r");
  if (maps == nullptr) std::exit(2);
  const auto address = reinterpret_cast<std::uintptr_t>(served_from);
  char line[4352];
  char file[4096];
  char previous_file[4096] = "";
  unsigned long base = 0;
  while (std::fgets(line, sizeof line, maps) != nullptr) {
    unsigned long start = 0;
    unsigned long end = 0;
    file[0] = '\0';
    if (std::sscanf(line, "%lx-%lx %*s %*s %*s %*s %4095s", &start, &end, file) < 2) continue;
    if (std::strcmp(file, previous_file) != 0) base = start;
    std::memcpy(previous_file, file, sizeof file);
    if (address >= start && address < end) {
      std::printf("%s %lx %lx %s\n", form, static_cast<unsigned long>(address), base, file);
      break;
    }
  }
  std::fclose(maps);
}

// The forms are called by name, not through new expressions: compilers may leave those out.
template <class Allocate>
static void probe(const char* form, Allocate allocate, void (*deallocate)(void*)) {
  // Through a volatile, so that no compiler sees a size that cannot be and calls something else.
  volatile std::size_t too_much = static_cast<std::size_t>(PTRDIFF_MAX) + 1;
  served_from = nullptr;
  std::set_new_handler(handler);
#if defined(__cpp_exceptions)
  try {
    if (allocate(too_much) != nullptr) std::exit(3);
  } catch (const std::bad_alloc&) {
  }
#else
  if (std::strstr(form, "nothrow") != nullptr && allocate(too_much) != nullptr) std::exit(3);
#endif
  std::set_new_handler(nullptr);
#if !defined(__cpp_exceptions)
  if (std::strstr(form, "nothrow") == nullptr) served_from = nullptr;
#endif
  if (served_from != nullptr) report(form);

  // And it serves: blocks that can be written and are freed by each matching form of delete.
  for (std::size_t size = 0; size < 5000; size = 2 * size + 1) {
    void* const block = allocate(size);
    if (block == nullptr) std::exit(4);
    std::memset(block, 0x5a, size);
    deallocate(block);
  }
  deallocate(nullptr);
}

int main() {
  probe(
      "new", [](std::size_t size) { return ::operator new(size); },
      [](void* ptr) { ::operator delete(ptr); });
  probe(
      "new[]", [](std::size_t size) { return ::operator new[](size); },
      [](void* ptr) { ::operator delete[](ptr); });
  probe(
      "new_nothrow", [](std::size_t size) { return ::operator new(size, std::nothrow); },
      [](void* ptr) { ::operator delete(ptr, std::nothrow); });
  probe(
      "new[]_nothrow", [](std::size_t size) { return ::operator new[](size, std::nothrow); },
      [](void* ptr) { ::operator delete[](ptr, std::nothrow); });
#if defined(__cpp_aligned_new)
  constexpr auto align = static_cast<std::align_val_t>(64);
  probe(
      "new_aligned", [](std::size_t size) { return ::operator new(size, align); },
      [](void* ptr) { ::operator delete(ptr, align); });
  probe(
      "new[]_aligned", [](std::size_t size) { return ::operator new[](size, align); },
      [](void* ptr) { ::operator delete[](ptr, align); });
  probe(
      "new_aligned_nothrow",
      [](std::size_t size) { return ::operator new(size, align, std::nothrow); },
      [](void* ptr) { ::operator delete(ptr, align, std::nothrow); });
  probe(
      "new[]_aligned_nothrow",
      [](std::size_t size) { return ::operator new[](size, align, std::nothrow); },
      [](void* ptr) { ::operator delete[](ptr, align, std::nothrow); });
#endif
#if defined(__cpp_sized_deallocation)
  ::operator delete(::operator new(100), static_cast<std::size_t>(100));
  ::operator delete[](::operator new[](100), static_cast<std::size_t>(100));
#if defined(__cpp_aligned_new)
  ::operator delete(::operator new(100, align), static_cast<std::size_t>(100), align);
  ::operator delete[](::operator new[](100, align), static_cast<std::size_t>(100), align);
#endif
#endif
  std::puts("done");
  return 0;
}
