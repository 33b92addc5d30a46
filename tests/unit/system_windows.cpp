// System on Windows: where a block begins, and what a call leaves alone.

#include <doctest/doctest.h>

#include <cstddef>
#include <sysalloc/system.hpp>

#include "support/bytes.hpp"
#include "support/windows.hpp"

namespace {

using sysalloc::Layout;
using sysalloc::System;

Layout layout(std::size_t size, std::size_t align) {
  return Layout::from_size_align(size, align).value();
}

bool is_block_of_heap(const void* ptr) { return HeapValidate(GetProcessHeap(), 0, ptr) != 0; }

}  // namespace

TEST_CASE("up to min_align a block is the heap's, and above it the header tells where that is") {
  for (std::size_t align = 1; align <= 1 << 20; align *= 2) {
    for (const std::size_t size : {1, 100, 5000, 300'000}) {
      CAPTURE(align);
      CAPTURE(size);
      auto* const ptr = static_cast<std::byte*>(System{}.alloc(layout(size, align)));
      REQUIRE(ptr != nullptr);
      auto* const start =
          align <= System::min_align ? ptr : *(reinterpret_cast<std::byte**>(ptr) - 1);
      CHECK(is_block_of_heap(start));
      const auto offset = static_cast<std::size_t>(ptr - start);
      CHECK((offset == 0) == (align <= System::min_align));
      CHECK(offset <= (align <= System::min_align ? 0 : align));
      const std::size_t heap_size = HeapSize(GetProcessHeap(), 0, start);
      CHECK(System{}.usable_size(ptr, align) == heap_size - offset);
      CHECK(heap_size - offset >= size);
      tests::fill(ptr, size);
      CHECK(is_block_of_heap(start));
      System{}.dealloc(ptr, layout(size, align));
    }
  }
}

TEST_CASE("a resized block keeps its header whole") {
  for (const std::size_t align : {32, 64, 4096, 1 << 17}) {
    auto* ptr = static_cast<std::byte*>(System{}.alloc(layout(1000, align)));
    REQUIRE(ptr != nullptr);
    std::size_t size = 1000;
    for (const std::size_t next : {2000, 600'000, 599'000, 2'000'000, 100, 1'000'000, 1}) {
      tests::fill(ptr, size);
      ptr = static_cast<std::byte*>(System{}.realloc(ptr, layout(size, align), next));
      REQUIRE(ptr != nullptr);
      CAPTURE(align);
      CAPTURE(next);
      CHECK(tests::is_aligned(ptr, align));
      CHECK(tests::holds(ptr, size < next ? size : next));
      CHECK(is_block_of_heap(*(reinterpret_cast<std::byte**>(ptr) - 1)));
      CHECK(System{}.usable_size(ptr, align) >= next);
      size = next;
    }
    System{}.dealloc_unsized(ptr, align);
  }
}

TEST_CASE("a big over-aligned block that shrinks gives its tail back to the heap") {
  // Not so big that the heap maps it by itself: of such a one it need not take anything back.
  auto* const ptr = System{}.alloc(layout(400'000, 64));
  REQUIRE(ptr != nullptr);
  REQUIRE(System{}.realloc(ptr, layout(400'000, 64), 1000) == ptr);
  CHECK(System{}.usable_size(ptr, 64) < 100'000);
  System{}.dealloc(ptr, layout(1000, 64));
}

TEST_CASE("a size that an alignment would take beyond the largest is refused") {
  const std::size_t align = 1 << 20;
  const Layout largest = layout(std::size_t{PTRDIFF_MAX} + 1 - align, align);
  CHECK(System{}.alloc(largest) == nullptr);
  CHECK(System{}.alloc_zeroed(largest) == nullptr);
  void* const ptr = System{}.alloc(layout(100, align));
  REQUIRE(ptr != nullptr);
  CHECK(System{}.realloc(ptr, layout(100, align), largest) == nullptr);
  System{}.dealloc(ptr, layout(100, align));
  const std::size_t half = std::size_t{PTRDIFF_MAX} / 2 + 1;
  CHECK(System{}.alloc(Layout::from_size_align_unchecked(half, half)) == nullptr);
}
