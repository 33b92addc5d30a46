// Memory at addresses that a heap rarely sees together: a multiple of 4 GiB apart, so that all of
// it shares the hints that a deallocation looks at first.

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <sysalloc/cached.hpp>
#include <utility>
#include <vector>

#include "support.hpp"

#if defined(_WIN32)
#include "../support/windows.hpp"
#else
#include <sys/mman.h>
#endif

namespace {

using sysalloc::Layout;

constexpr std::size_t segment = std::size_t{4} << 20;
constexpr std::uintptr_t step = std::uintptr_t{1} << 32;

// Memory at an address or nowhere.
#if defined(_WIN32)
void* map(void* wanted, std::size_t size = segment) {
  return VirtualAlloc(wanted, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}
void unmap(void* ptr, std::size_t /*size*/ = segment) { VirtualFree(ptr, 0, MEM_RELEASE); }
#else
void* map(void* wanted, std::size_t size = segment) {
  void* const ptr = mmap(wanted, size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  return ptr == MAP_FAILED ? nullptr : ptr;
}
void unmap(void* ptr, std::size_t size = segment) { munmap(ptr, size); }
#endif

// Gives each segment 4 GiB above the one before it; all else comes from System.
struct Distant {
  // Far from the rest of the program, and with room for many more above it.
  static inline std::uintptr_t next = 0x200000000000;
  static inline std::size_t given = 0;

  void* alloc(Layout layout) const noexcept {
    if (layout.size() != segment) return sysalloc::System{}.alloc(layout);
    for (int tries = 0; tries < 64; ++tries, next += step) {
      void* const wanted = reinterpret_cast<void*>(next);
      void* const ptr = map(wanted);
      if (ptr != wanted) continue;
      next += step;
      ++given;
      return ptr;
    }
    return nullptr;
  }
  void dealloc(void* ptr, Layout layout) const noexcept {
    if (layout.size() != segment) {
      sysalloc::System{}.dealloc(ptr, layout);
    } else {
      unmap(ptr);
      --given;
    }
  }
};

using Heap = sysalloc::Cached<Distant>;
constexpr Heap heap;

struct Block {
  void* ptr;
  Layout layout;
};

Layout of(std::size_t size) { return Layout::from_size_align_unchecked(size, 8); }

}  // namespace

TEST_CASE("slabs of different classes that share a hint") {
  if (!tests::plain_malloc()) {
    tests::not_checked("distant segments", "sanitizers and valgrind divide the address space");
    return;
  }
  // More than a segment of each size, so that each unit's hint is crowded out many times.
  const std::vector<std::size_t> sizes{64, 1000, 7000, 30'000, 200'000};
  std::vector<Block> blocks;
  for (const std::size_t size : sizes) {
    for (std::size_t bytes = 0; bytes < 2 * segment; bytes += size) {
      void* const ptr = heap.alloc(of(size));
      REQUIRE(ptr != nullptr);
      tests::fill_words(ptr, size, size);
      blocks.push_back({ptr, of(size)});
    }
  }
  CHECK(Distant::given >= 2 * sizes.size());
  std::size_t live = 0;
  for (const Block& block : blocks) live += heap.usable_size(block.ptr);
  CHECK(Heap::stats().live == live);

  tests::Random random(tests::seed());
  for (std::size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[random() % i]);
  std::size_t faults = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto& [ptr, layout] = blocks[i];
    if (!tests::holds_words(ptr, layout.size(), layout.size())) ++faults;
    live -= heap.usable_size(ptr);
    if (i % 2 == 0) {
      heap.dealloc(ptr, layout);
    } else {
      heap.dealloc_unsized(ptr, layout.align());
    }
    if (i % 1024 == 0 && Heap::stats().live != live) ++faults;
  }
  CHECK(faults == 0);
  CHECK(Heap::stats().live == 0);
  CHECK(Heap::stats().wrong_sizes == 0);
  Heap::purge();
  CHECK(Heap::stats().mapped == Heap::stats().metadata);
  CHECK(Distant::given == 0);
}
