// Blocks above 1 MiB: resized where they are when that can be, copied seldom when not.

#include <doctest/doctest.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <sysalloc/cached.hpp>

#if !defined(_WIN32)
#include <sys/mman.h>
#endif

#include "../support/bytes.hpp"
#include "support.hpp"

namespace {

using sysalloc::Layout;
using tests::Backend;
using tests::Heap;

constexpr std::size_t MiB = std::size_t{1} << 20;
constexpr std::size_t page = 4096;

Layout layout(std::size_t size, std::size_t align = 8) {
  return Layout::from_size_align_unchecked(size, align);
}

}  // namespace

TEST_CASE("a block that shrinks by less than half stays where it is") {
  const Heap heap;
  constexpr std::size_t size = 8 * MiB;
  void* const ptr = heap.alloc(layout(size));
  REQUIRE(ptr != nullptr);
  tests::fill_words(ptr, size, 1);
  std::size_t now = size;
  // Within the last page, to the end of a page, to one within a unit, and by much.
  for (const std::size_t next : {size - 1, size - page, size - 100'000, 5 * MiB}) {
    CAPTURE(next);
    CHECK(heap.realloc(ptr, layout(now), next) == ptr);
    now = next;
    CHECK(Heap::stats().live == (now + page - 1) / page * page);
    CHECK(heap.usable_size(ptr) == Heap::stats().live);
    CHECK(Heap::stats().mapped == Backend::bytes());
  }
  CHECK(tests::holds_words(ptr, now / 8 * 8, 1));
  // And back, with the room that it had.
  CHECK(heap.realloc(ptr, layout(now), size) == ptr);
  CHECK(heap.usable_size(ptr) == size);
  tests::fill_words(ptr, size, 2);
  CHECK(tests::holds_words(ptr, size, 2));
  // To much less it moves, so that the rest is free.
  const std::size_t mapped = Heap::stats().mapped;
  void* const little = heap.realloc(ptr, layout(size), 2 * MiB);
  REQUIRE(little != nullptr);
  CHECK(Heap::stats().mapped < mapped - 5 * MiB);
  CHECK(tests::holds_words(little, 2 * MiB / 8 * 8, 2));
  heap.dealloc(little, layout(2 * MiB));
  CHECK(Heap::stats().wrong_sizes == 0);
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("shrinking by little needs no memory") {
  const Heap heap;
  void* const ptr = heap.alloc(layout(8 * MiB));
  REQUIRE(ptr != nullptr);
  Backend::failing.fail_nth(1);
  const auto shrunk = heap.shrink(ptr, layout(8 * MiB), layout(6 * MiB));
  Backend::failing.fail_none();
  REQUIRE(shrunk.has_value());
  CHECK(shrunk->data() == ptr);
  heap.dealloc(ptr, layout(6 * MiB));
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("a block that grows bit by bit is copied seldom, and keeps its contents") {
  const Heap heap;
  constexpr std::size_t step = 64 * 1024;
  std::size_t size = MiB + step;
  void* ptr = heap.alloc(layout(size));
  REQUIRE(ptr != nullptr);
  int moves = 0;
  for (; size < 16 * MiB; size += step) {
    tests::fill_words(ptr, size, size);
    void* const next = heap.realloc(ptr, layout(size), size + step);
    REQUIRE(next != nullptr);
    if (next != ptr) ++moves;
    CHECK(heap.usable_size(next) == size + step);
    CHECK(tests::holds_words(next, size, size));
    ptr = next;
  }
  // By a quarter at a time it is 16 times as large after 13.
  CHECK(moves <= 13);
  CHECK(Heap::stats().live == size);
  heap.dealloc(ptr, layout(size));
  CHECK(Heap::stats().wrong_sizes == 0);
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("grow_zeroed clears what was there before") {
  const Heap heap;
  void* ptr = heap.alloc(layout(8 * MiB));
  REQUIRE(ptr != nullptr);
  tests::fill_words(ptr, 8 * MiB, 1);
  CHECK(heap.realloc(ptr, layout(8 * MiB), 5 * MiB + 8) == ptr);
  const auto grown = heap.grow_zeroed(ptr, layout(5 * MiB + 8), layout(7 * MiB));
  REQUIRE(grown.has_value());
  CHECK(grown->data() == ptr);
  bool zero = true;
  for (std::size_t i = 5 * MiB + 8; i < 7 * MiB; ++i) zero = zero && (*grown)[i] == std::byte{0};
  CHECK(zero);
  CHECK(tests::holds_words(ptr, 5 * MiB + 8, 1));
  heap.dealloc(ptr, layout(7 * MiB));
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("a new alignment is kept") {
  const Heap heap;
  for (std::size_t align = 8; align <= 4 * MiB; align *= 8) {
    CAPTURE(align);
    void* const ptr = heap.alloc(layout(3 * MiB));
    REQUIRE(ptr != nullptr);
    tests::fill_words(ptr, 3 * MiB, align);
    void* const next = heap.realloc(ptr, layout(3 * MiB), layout(3 * MiB - page, align));
    REQUIRE(next != nullptr);
    CHECK(tests::is_aligned(next, align));
    CHECK(tests::holds_words(next, (3 * MiB - page) / 8 * 8, align));
    heap.dealloc(next, layout(3 * MiB - page, align));
  }
  CHECK(Heap::stats().wrong_sizes == 0);
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("to grow it does without more room where there is none") {
  const Heap heap;
  void* const ptr = heap.alloc(layout(8 * MiB));
  REQUIRE(ptr != nullptr);
  Backend::limited.set_limit(Backend::limited.used() + 10 * MiB);
  void* const next = heap.realloc(ptr, layout(8 * MiB), 9 * MiB);
  REQUIRE(next != nullptr);
  CHECK(heap.realloc(next, layout(9 * MiB), 18 * MiB) == nullptr);
  tests::fill_words(next, 9 * MiB, 1);
  CHECK(tests::holds_words(next, 9 * MiB, 1));
  heap.dealloc(next, layout(9 * MiB));
  CHECK(Heap::stats().live == 0);
}

TEST_CASE("what a deallocation asks of the system in vain leaves errno as it was") {
#if defined(_WIN32)
  tests::not_checked("errno", "System frees with functions of Windows, which know nothing of it");
#else
  const Heap heap;
  constexpr std::size_t size = 40 * MiB;
  void* const ptr = heap.alloc(layout(size));
  REQUIRE(ptr != nullptr);
  // A page that is locked is not given back, which the system calls an error.
  if (mlock(ptr, page) != 0) {
    tests::not_checked("errno", "no page may be locked here");
  }
  errno = EDOM;
  heap.dealloc(ptr, layout(size));
  CHECK(errno == EDOM);
#endif
}
