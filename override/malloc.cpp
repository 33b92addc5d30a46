// malloc and its kin over Cached: for programs that take much of their memory as C does, or in C
// libraries. free() and delete take each other's blocks then, as with glibc alone.
//
// Part of override.cpp, in a shared library. That is glibc's way to replace malloc: the whole
// process uses the first one that the loader finds, the C library too, and what a program does not
// find here, as mallopt and mallinfo, is about what glibc itself gave out, to Cached above all (the
// manual, "Replacing malloc").
//
// Where the program itself exports a malloc, that comes first, and is what System stands for here;
// Cached steps aside (src/process_malloc.hpp). Unless that malloc turns out to call this one, as
// those of heap profilers do: then it was none, and all is as without it.
//
// So this code runs inside of whatever the C library does: before any constructor, in the middle of
// pthread_setspecific, in the last breath of a thread. What Cached does about that is said in
// cached/heap.hpp, os_unix.hpp (PerThread) and threads.hpp.

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <sysalloc/cached.hpp>
#include <sysalloc/detail/compiler.hpp>
#include <sysalloc/detail/visibility.hpp>
#include <sysalloc/layout.hpp>
#include <type_traits>
#include <utility>

#include "../src/c_library.hpp"
#include "../src/process_malloc.hpp"
#include "next.hpp"

namespace {

using sysalloc::Layout;
using sysalloc::System;
namespace cached = sysalloc::detail::cached;
using cached::os::real_page_size;
using Heap = cached::Heap<System>;
constexpr sysalloc::Cached<> heap;

using sysalloc::detail::MallocFunctions;

/// What the program has, and whether the thread is there, called from here.
constinit MallocFunctions own_malloc{};
[[gnu::tls_model("initial-exec")]] constinit thread_local bool is_in_own = false;
class InOwn {
 public:
  InOwn() noexcept : before_(std::exchange(is_in_own, true)) {}
  InOwn(const InOwn&) = delete;
  InOwn& operator=(const InOwn&) = delete;
  ~InOwn() { is_in_own = before_; }

 private:
  bool before_;
};
template <auto Function>
constexpr auto in_own = [](auto... args) noexcept {
  const InOwn in;
  return (own_malloc.*Function)(args...);
};
constexpr MallocFunctions program_malloc{
    in_own<&MallocFunctions::malloc>, in_own<&MallocFunctions::calloc>,
    in_own<&MallocFunctions::realloc>, in_own<&MallocFunctions::posix_memalign>,
    in_own<&MallocFunctions::free>};
/// One of these two, once that is known.
constinit std::atomic<const MallocFunctions*> found_malloc{nullptr};

/// What was found is in front of this library's functions and calls them. Nobody else does: so it
/// only passes on what it is asked, and would be asked by this library without end.
SYSALLOC_COLD void see_through_own() noexcept {
  found_malloc.store(&sysalloc::detail::glibc_malloc, std::memory_order_release);
  Heap::look_for_checkers();
}

/// glibc's, from when this library is loaded: later, in the child of a fork, nobody may be asked.
constinit std::atomic<void*> next_trim{nullptr};
[[gnu::constructor]] void find_next_trim() noexcept {
  static_cast<void>(sysalloc::detail::next_of("malloc_trim", next_trim));
}

/// errno as it was `before` a call that succeeded, also where a first attempt failed; and why one
/// did not.
void* with_errno(void* ptr, int before) noexcept {
  errno = ptr != nullptr ? before : ENOMEM;
  return ptr;
}

/// A block as these functions promise it: one without bytes has an address too. Costs a call more
/// than the allocation.
SYSALLOC_NOINLINE void* allocate(std::size_t size, std::size_t align, bool zeroed) noexcept {
  const int before = errno;
  if (is_in_own) [[unlikely]]
    see_through_own();
  const auto layout = Layout::from_size_align(size == 0 ? 1 : size, align);
  if (!layout) return with_errno(nullptr, before);
  return with_errno(zeroed ? heap.alloc_zeroed(*layout) : heap.alloc(*layout), before);
}

/// As above, for an alignment that a program chose.
void* allocate_aligned(std::size_t size, std::size_t align) noexcept {
  return allocate(size, align < System::min_align ? System::min_align : align, false);
}

void* invalid() noexcept {
  errno = EINVAL;
  return nullptr;
}

bool product(std::size_t count, std::size_t size, std::size_t& bytes) noexcept {
  if (!__builtin_mul_overflow(count, size, &bytes)) return true;
  errno = ENOMEM;
  return false;
}

/// What a block that has room for `usable` bytes gets when it is to hold `size`. One that grows by
/// little is read into, and grows again: it gets a quarter more, or it would be copied eight times
/// for each doubling. Blocks above max_class_size get that from the heap.
std::size_t with_room(std::size_t usable, std::size_t size) noexcept {
  const bool grows_by_little = size > usable && size - usable <= usable / 8;
  const bool is_medium = usable >= cached::unit_size / 2 && usable <= cached::max_class_size;
  return grows_by_little && is_medium ? size + size / 4 : size;
}

/// A block of this heap that has room for `usable` bytes.
void* resize(void* ptr, std::size_t usable, std::size_t size) noexcept {
  // A small block that is still half full stays: the next one would hardly be smaller, and what
  // shrinks often grows again.
  if (size <= usable && size > usable / 2 && usable <= cached::max_class_size) return ptr;
  const int before = errno;
  const Layout layout = Layout::from_size_align_unchecked(usable, System::min_align);
  const std::size_t roomy = with_room(usable, size);
  void* moved = heap.realloc(ptr, layout, roomy);
  if (moved == nullptr && roomy != size) moved = heap.realloc(ptr, layout, size);
  // Without memory for a smaller one it is the same one: programs do not expect that to fail.
  return with_errno(moved == nullptr && size <= usable ? ptr : moved, before);
}

}  // namespace

// malloc(3), posix_memalign(3) and malloc_usable_size(3) say what these do; where they leave a
// choice it is glibc's. All are thread-safe, and none changes errno where it does not fail.
// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name): the names are ours
extern "C" {

/// Costs what operator new does.
SYSALLOC_EXPORT void* malloc(std::size_t size) noexcept {
  if (void* const ptr = heap.try_alloc(size)) [[likely]]
    return ptr;
  return allocate(size, System::min_align, false);
}

/// Costs what operator delete without a size does; nothing for a null pointer, which C programs
/// free more often than those in C++.
SYSALLOC_EXPORT void free(void* ptr) noexcept {
  if (ptr != nullptr) [[likely]]
    heap.dealloc_unsized(ptr, System::min_align);
}

/// In programs from before 2018 (glibc 2.26).
SYSALLOC_EXPORT void cfree(void* ptr) noexcept { free(ptr); }

/// Above 1 MiB what comes zeroed from the kernel is not touched.
SYSALLOC_EXPORT void* calloc(std::size_t count, std::size_t size) noexcept {
  std::size_t bytes = 0;
  return product(count, size, bytes) ? allocate(bytes, System::min_align, true) : nullptr;
}

/// A size of zero frees the block.
SYSALLOC_EXPORT void* realloc(void* ptr, std::size_t size) noexcept {
  if (ptr == nullptr) return malloc(size);
  if (size == 0) {
    free(ptr);
    return nullptr;
  }
  if (const std::size_t usable = Heap::own_usable_size(ptr)) return resize(ptr, usable, size);
  // One that was freed, or lies within a block: the program ends with a message.
  if (!Heap::is_foreign(ptr, Heap::map.kind(ptr))) Heap::dealloc_rest(ptr, 0, System::min_align);
  const int before = errno;
  void* const moved = sysalloc::detail::c_library::realloc(ptr, size);
  if (moved != nullptr || Heap::steps_aside) return moved;
  // What this heap has free the C library does not know of. `ptr` is as it was, what the analyzer
  // does not see: the size is not zero. NOLINTBEGIN(clang-analyzer-unix.Malloc)
  void* const block = malloc(size);
  if (block == nullptr) return nullptr;
  std::memcpy(block, ptr, std::min(malloc_usable_size(ptr), size));
  free(ptr);
  return with_errno(block, before);
  // NOLINTEND(clang-analyzer-unix.Malloc)
}

SYSALLOC_EXPORT void* reallocarray(void* ptr, std::size_t count, std::size_t size) noexcept {
  std::size_t bytes = 0;
  return product(count, size, bytes) ? realloc(ptr, bytes) : nullptr;
}

SYSALLOC_EXPORT int posix_memalign(void** ptr, std::size_t align, std::size_t size) noexcept {
  if (!sysalloc::detail::is_power_of_two(align) || align % sizeof(void*) != 0) return EINVAL;
  void* const block = allocate_aligned(size, align);
  if (block == nullptr) return ENOMEM;
  *ptr = block;
  return 0;
}

/// Rounds the alignment up to a power of two.
SYSALLOC_EXPORT void* memalign(std::size_t align, std::size_t size) noexcept {
  if (align > std::size_t{PTRDIFF_MAX} + 1) return invalid();
  return allocate_aligned(size, std::bit_ceil(align));
}

/// As that, as in glibc up to 2.37; the size need not be a multiple of the alignment.
SYSALLOC_EXPORT void* aligned_alloc(std::size_t align, std::size_t size) noexcept {
  return memalign(align, size);
}

SYSALLOC_EXPORT void* valloc(std::size_t size) noexcept {
  return allocate_aligned(size, real_page_size());
}

/// Rounds the size up to whole pages; zero is one.
SYSALLOC_EXPORT void* pvalloc(std::size_t size) noexcept {
  const std::size_t page = real_page_size();
  if (size > PTRDIFF_MAX) return allocate(size, page, false);
  return allocate_aligned(size == 0 ? page : (size + page - 1) & ~(page - 1), page);
}

/// Gives back all that is free, here and in the C library, but for what other threads cache: 1, as
/// if there were always something. Costs system calls in proportion to that. Nothing is kept for
/// what comes next, as `pad` asks for.
SYSALLOC_EXPORT int malloc_trim(std::size_t /*pad*/) noexcept {
  const cached::os::KeepErrno keep;
  heap.purge();
  return 1;
}

/// C23's. A block that was resized may hold more than the size says, so that is not looked at.
SYSALLOC_EXPORT void free_sized(void* ptr, std::size_t /*size*/) noexcept { free(ptr); }
SYSALLOC_EXPORT void free_aligned_sized(void* ptr, std::size_t /*align*/,
                                        std::size_t /*size*/) noexcept {
  free(ptr);
}

}  // extern "C"
// NOLINTEND(readability-inconsistent-declaration-parameter-name)

namespace sysalloc::detail {

// Two threads may find the same. What the loader allocates meanwhile is for this library to serve,
// or it would not have got here.
const MallocFunctions& process_malloc() noexcept {
  [[gnu::tls_model("initial-exec")]] static constinit thread_local bool is_looking = false;
  const MallocFunctions* functions = found_malloc.load(std::memory_order_acquire);
  if (functions != nullptr) [[likely]]
    return *functions;
  if (is_looking) return glibc_malloc;
  is_looking = true;
  const auto set = [](auto& function, const char* name, auto* here) {
    void* const before = before_this_library(name, reinterpret_cast<const void*>(here));
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(before);
    return before != nullptr;
  };
  const bool all = set(own_malloc.malloc, "malloc", &::malloc) &&
                   set(own_malloc.calloc, "calloc", &::calloc) &&
                   set(own_malloc.realloc, "realloc", &::realloc) &&
                   set(own_malloc.posix_memalign, "posix_memalign", &::posix_memalign) &&
                   set(own_malloc.free, "free", &::free);
  is_looking = false;
  // Another thread may know better by now.
  const MallocFunctions* expected = nullptr;
  functions = all ? &program_malloc : &glibc_malloc;
  if (found_malloc.compare_exchange_strong(expected, functions, std::memory_order_acq_rel)) {
    return *functions;
  }
  return *expected;
}

bool program_has_malloc() noexcept { return &process_malloc() != &glibc_malloc; }

int trim_c_library() noexcept {
  using Function = int(std::size_t) noexcept;
  auto* const trim = reinterpret_cast<Function*>(next_trim.load(std::memory_order_relaxed));
  return trim == nullptr ? 0 : trim(0);
}

}  // namespace sysalloc::detail
