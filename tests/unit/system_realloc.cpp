// System::realloc, grow and shrink: contents are kept, failures change nothing, and what need not
// move stays where it is.

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <sysalloc/system.hpp>
#include <vector>

#include "support/address_space.hpp"
#include "support/bytes.hpp"
#include "support/environment.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace {

using sysalloc::Layout;
using sysalloc::System;
using tests::opaque;

constexpr System heap;

Layout layout(std::size_t size, std::size_t align) {
  return Layout::from_size_align(size, align).value();
}

#if defined(__linux__)
// Pages of [begin, begin + size) that take up memory now.
std::size_t resident_pages(std::byte* begin, std::size_t size) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  std::byte* const first = begin + (0 - reinterpret_cast<std::uintptr_t>(begin)) % page;
  const std::size_t pages = (size - static_cast<std::size_t>(first - begin)) / page;
  std::vector<unsigned char> states(pages);
  REQUIRE(mincore(first, pages * page, states.data()) == 0);
  std::size_t resident = 0;
  for (const unsigned char state : states) resident += state & 1U;
  return resident;
}
#endif

}  // namespace

TEST_CASE("realloc keeps contents, alignment and the bytes asked for, whatever changes") {
  const std::size_t sizes[] = {1, 16, 17, 100, 5000, 200'000};
  const std::size_t aligns[] = {1, 8, 16, 32, 256, 65'536};
  for (const std::size_t size : sizes) {
    for (const std::size_t new_size : sizes) {
      for (const std::size_t align : aligns) {
        for (const std::size_t new_align : aligns) {
          const Layout from = layout(size, align);
          const Layout to = layout(new_size, new_align);
          void* const ptr = heap.alloc(from);
          tests::fill(ptr, size);
          // The overload with a size is for the same alignment; both must do the same there.
          void* const moved = align == new_align && new_size % 2 == 1
                                  ? heap.realloc(ptr, from, new_size)
                                  : heap.realloc(ptr, from, to);
          CAPTURE(from);
          CAPTURE(to);
          REQUIRE(moved != nullptr);
          REQUIRE(tests::is_aligned(moved, new_align));
          REQUIRE(tests::holds(moved, size < new_size ? size : new_size));
          tests::fill(moved, new_size);
          heap.dealloc(moved, to);
        }
      }
    }
  }
}

TEST_CASE("a realloc that fails leaves the old block intact") {
  const tests::CrowdedAddressSpace crowded;
  for (const std::size_t align : {1, 16, 64, 4096}) {
    const Layout from = layout(100, align);
    void* const ptr = heap.alloc(from);
    REQUIRE(ptr != nullptr);
    tests::fill(ptr, 100);
    const std::size_t huge = opaque(tests::impossible_size);
    CHECK(heap.realloc(ptr, from, huge) == nullptr);
    CHECK(heap.realloc(ptr, from, layout(huge, align)) == nullptr);
    CHECK(heap.realloc(ptr, from, layout(huge, 2 * align)) == nullptr);
    CHECK_FALSE(heap.grow(ptr, from, layout(huge, align)));
    CHECK_FALSE(heap.grow_zeroed(ptr, from, layout(huge, align)));
    // Sizes that make no Layout at all.
    CHECK(heap.realloc(ptr, from, opaque(std::size_t{PTRDIFF_MAX} + 1)) == nullptr);
    CHECK(heap.realloc(ptr, from, opaque(std::size_t{SIZE_MAX})) == nullptr);
    if (!tests::under_valgrind()) {
      CHECK_FALSE(heap.shrink(ptr, from, layout(1, tests::impossible_align)));
    }
    CHECK(tests::holds(ptr, 100));
    heap.dealloc(ptr, from);
  }
}

TEST_CASE("an over-aligned block grows in place as far as it holds") {
  for (const std::size_t align : {32, 64, 4096, 1 << 20}) {
    for (const std::size_t size : {1, 40, 1000, 200'000}) {
      const Layout from = layout(size, align);
      void* const ptr = heap.alloc(from);
      REQUIRE(ptr != nullptr);
      tests::fill(ptr, size);
      const std::size_t usable = heap.usable_size(ptr, align);
      // HeapAlloc rounds nothing up, and a header may leave no more.
      if (tests::plain_malloc() && !tests::blocks_have_headers && size == 1) CHECK(usable > size);
      void* const grown = heap.realloc(ptr, from, usable);
      CHECK(grown == ptr);
      CHECK(tests::holds(grown, size));
      // Every byte of it may now be used.
      tests::fill(grown, usable, 3);
      const auto more = heap.grow(grown, layout(usable, align), layout(usable + 100'000, align));
      REQUIRE(more);
      CHECK(tests::is_aligned(more->data(), align));
      CHECK(tests::holds(more->data(), usable, 3));
      heap.dealloc(more->data(), layout(usable + 100'000, align));
    }
  }
  if (!tests::plain_malloc()) {
    tests::not_checked("growth in place to more than was asked for",
                       "a checker watches, and blocks hold exactly what was asked for");
  }
}

TEST_CASE("an over-aligned block shrinks in place") {
  for (const std::size_t align : {32, 64, 4096}) {
    for (const std::size_t size : {40, 1000, 200'000, 3'000'000}) {
      const Layout from = layout(size, align);
      void* const ptr = heap.alloc(from);
      REQUIRE(ptr != nullptr);
      tests::fill(ptr, size);
      const auto half = heap.shrink(ptr, from, layout(size / 2, align));
      REQUIRE(half);
      CHECK(half->data() == ptr);
      CHECK(half->size() == size / 2);
      CHECK(tests::holds(half->data(), size / 2));
      const auto one = heap.shrink(half->data(), layout(size / 2, align), layout(1, align));
      REQUIRE(one);
      CHECK(one->data() == ptr);
      CHECK(tests::holds(one->data(), 1));
      heap.dealloc(one->data(), layout(1, align));
    }
  }
}

TEST_CASE("a changed alignment stays in place when the address already satisfies it") {
  const Layout from = layout(1000, 4096);
  void* const ptr = heap.alloc(from);
  REQUIRE(ptr != nullptr);
  tests::fill(ptr, 1000);
  const auto lower = heap.grow(ptr, from, layout(1000, 64));
  REQUIRE(lower);
  CHECK(lower->data() == ptr);
  const auto low = heap.shrink(lower->data(), layout(1000, 64), layout(500, 32));
  REQUIRE(low);
  CHECK(low->data() == ptr);
  const auto higher = heap.shrink(low->data(), layout(500, 32), layout(400, 2048));
  REQUIRE(higher);
  CHECK(higher->data() == ptr);
  CHECK(tests::holds(higher->data(), 400));
  const auto lowest = heap.shrink(higher->data(), layout(400, 2048), layout(300, 1));
  REQUIRE(lowest);
  CHECK((lowest->data() == ptr) == !tests::blocks_have_headers);
  CHECK(tests::holds(lowest->data(), 300));
  const auto highest = heap.shrink(lowest->data(), layout(300, 1), layout(200, 2048));
  REQUIRE(highest);
  if (!tests::blocks_have_headers) CHECK(highest->data() == ptr);
  CHECK(tests::is_aligned(highest->data(), 2048));
  CHECK(tests::holds(highest->data(), 200));
  heap.dealloc(highest->data(), layout(200, 2048));

  // From an alignment that malloc serves to one that the address happens to have.
  constexpr std::size_t min_align = System::min_align;
  void* const small = heap.alloc(layout(1000, min_align));
  REQUIRE(small != nullptr);
  std::size_t align = 2 * min_align;
  while (tests::is_aligned(small, 2 * align)) align *= 2;
  if (tests::is_aligned(small, align) && !tests::blocks_have_headers) {
    CHECK(heap.realloc(small, layout(1000, min_align), layout(900, align)) == small);
    heap.dealloc(small, layout(900, align));
  } else {
    // The address has no more than that, or the block gets a header: so it must move.
    tests::fill(small, 1000);
    const auto moved = heap.grow(small, layout(1000, min_align), layout(1000, align));
    REQUIRE(moved);
    CHECK(moved->data() != small);
    CHECK(tests::is_aligned(moved->data(), align));
    CHECK(tests::holds(moved->data(), 1000));
    heap.dealloc(moved->data(), layout(1000, align));
  }
}

TEST_CASE("grow_zeroed clears the bytes that are new and no others, also in place") {
  for (const std::size_t align : {1, 16, 64, 4096}) {
    const Layout from = layout(100, align);
    void* const ptr = heap.alloc(layout(1000, align));
    REQUIRE(ptr != nullptr);
    tests::fill(ptr, 1000);
    // Shrunk first, so that the tail is dirty where it grows again.
    const auto shrunk = heap.shrink(ptr, layout(1000, align), from);
    REQUIRE(shrunk);
    const auto grown = heap.grow_zeroed(shrunk->data(), from, layout(900, align));
    REQUIRE(grown);
    CHECK(grown->size() == 900);
    CHECK(tests::holds(grown->data(), 100));
    CHECK(tests::is_zero(grown->data() + 100, 800));
    heap.dealloc(grown->data(), layout(900, align));
  }
}

TEST_CASE("a big over-aligned block that shrinks gives its pages back") {
#if defined(__linux__)
  if (!tests::plain_malloc()) {
    tests::not_checked("pages of a shrunk block", "checkers keep pages of their own about it");
    return;
  }
  constexpr std::size_t size = std::size_t{32} << 20;
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  // The first comes from a mapping of its own, the others from wherever the heap grows.
  for (const std::size_t kept : {std::size_t{100}, 3 * page, size / 2}) {
    CAPTURE(kept);
    auto* const ptr = static_cast<std::byte*>(heap.alloc(layout(size, 64)));
    REQUIRE(ptr != nullptr);
    tests::fill(ptr, size);
    REQUIRE(resident_pages(ptr, size) >= size / page - 1);
    REQUIRE(heap.realloc(ptr, layout(size, 64), layout(kept, 64)) == ptr);
    CHECK(resident_pages(ptr + kept, size - kept) <= 1);
    CHECK(tests::holds(ptr, kept));
    // The room is still there and can be used again.
    REQUIRE(heap.realloc(ptr, layout(kept, 64), layout(size, 64)) == ptr);
    tests::fill(ptr, size);
    CHECK(tests::holds(ptr, size));
    heap.dealloc(ptr, layout(size, 64));
  }
#else
  tests::not_checked("pages of a shrunk block", "only Linux tells which pages are resident");
#endif
}
