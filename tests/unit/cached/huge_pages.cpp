// Huge pages: where the system uses them of itself, they back the first GiB of a heap only with
// SYSALLOC_HUGE_PAGES=1 in the environment.

#include <doctest/doctest.h>

#include <array>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sysalloc/cached.hpp>
#include <sysalloc/system.hpp>
#include <vector>

#include "support.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(MADV_HUGEPAGE)

namespace {

using sysalloc::Layout;

constexpr std::size_t page_size = 4096;
constexpr std::size_t huge_page_size = std::size_t{2} << 20;

// As on a system that uses huge pages wherever it can.
void ask_for_huge_pages(void* ptr, std::size_t size) {
  const auto first = (reinterpret_cast<std::uintptr_t>(ptr) + page_size - 1) & ~(page_size - 1);
  const auto end = (reinterpret_cast<std::uintptr_t>(ptr) + size) & ~(page_size - 1);
  if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
}

struct OfHugePages {
  void* alloc(Layout layout) const noexcept {
    void* const ptr = sysalloc::System{}.alloc(layout);
    if (ptr != nullptr) ask_for_huge_pages(ptr, layout.size());
    return ptr;
  }
  void dealloc(void* ptr, Layout layout) const noexcept { sysalloc::System{}.dealloc(ptr, layout); }
};

// Does the system bring the others, too, when the first page of a huge one is touched?
bool has_huge_pages() {
  if (!tests::plain_malloc() || tests::emulated()) return false;
  constexpr std::size_t size = 2 * huge_page_size;
  void* const map = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return false;
  ask_for_huge_pages(map, size);
  const auto address = reinterpret_cast<std::uintptr_t>(map);
  auto* const huge =
      static_cast<std::byte*>(map) + (huge_page_size - address % huge_page_size) % huge_page_size;
  *huge = std::byte{1};
  const std::size_t there = tests::pages_there(huge, huge_page_size);
  munmap(map, size);
  return there == huge_page_size / page_size;
}

// May the system back the memory at `ptr` with huge pages, since it was asked to (VmFlags in
// proc_pid_smaps(5))? Not whether it does, for it may have none left.
bool may_be_huge(const void* ptr) {
  std::FILE* const file = std::fopen("/proc/self/smaps", "r");
  if (file == nullptr) return false;
  std::array<char, 4096> line{};
  bool is_here = false;
  bool may_be = false;
  while (std::fgets(line.data(), static_cast<int>(line.size()), file) != nullptr) {
    std::uintptr_t from = 0;
    std::uintptr_t to = 0;
    if (std::sscanf(line.data(), "%" SCNxPTR "-%" SCNxPTR, &from, &to) == 2) {
      const auto address = reinterpret_cast<std::uintptr_t>(ptr);
      is_here = from <= address && address < to;
    } else if (is_here && std::strncmp(line.data(), "VmFlags:", 8) == 0) {
      may_be = std::strstr(line.data(), " hg") != nullptr;
    }
  }
  std::fclose(file);
  return may_be;
}

}  // namespace

TEST_CASE("huge pages back a small heap where the environment allows it, and nowhere else") {
  if (!has_huge_pages()) {
    tests::not_checked("huge pages", "a checker or emulator is at work, or the system has none");
    return;
  }
  const bool allowed = std::getenv("SYSALLOC_HUGE_PAGES") != nullptr;
  constexpr sysalloc::Cached<OfHugePages> heap;
  // Each has a unit to itself.
  constexpr std::size_t size = std::size_t{64} << 10;
  constexpr auto layout = Layout::from_size_align_unchecked(size, 8);
  const auto alloc = [&] {
    auto* const block = static_cast<std::byte*>(heap.alloc(layout));
    REQUIRE(block != nullptr);
    return block;
  };
  // 4 MiB, and so a whole huge page, wherever they begin.
  std::vector<std::byte*> blocks(64);
  std::size_t there = 0;
  for (std::byte*& block : blocks) {
    block = alloc();
    *block = std::byte{1};
  }
  for (std::byte* const block : blocks) {
    there += tests::pages_there(block, size);
    CHECK(may_be_huge(block) == allowed);
  }
  if (!allowed) CHECK(there == blocks.size());
  // A large one has what the system gives, and no mapping for each segment.
  if (sizeof(void*) >= 8) {
    while (blocks.size() * size <= std::size_t{1} << 30) blocks.push_back(alloc());
    CHECK(may_be_huge(blocks.back()));
  }
  for (std::byte* const block : blocks) heap.dealloc(block, layout);
}

#else

TEST_CASE("huge pages") {
  tests::not_checked("huge pages", "the system knows of none that a program can ask for");
}

#endif
