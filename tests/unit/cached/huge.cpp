// Large blocks that grow: moved by the backend, which need not copy them.

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <sysalloc/cached.hpp>
#include <sysalloc/failing.hpp>
#include <sysalloc/limited.hpp>
#include <sysalloc/system.hpp>

#include "../support/bytes.hpp"
#include "support.hpp"

namespace {

using sysalloc::Layout;
using sysalloc::System;

constexpr std::size_t MiB = std::size_t{1} << 20;
constexpr std::size_t page = 4096;
constexpr std::size_t unit = 64 * 1024;

Layout layout(std::size_t size, std::size_t align = 8) {
  return Layout::from_size_align_unchecked(size, align);
}

// A backend with a realloc, and failures on demand. What is large, and of no alignment, begins at
// another page of a unit each time.
struct Moving {
  static inline constinit const sysalloc::Failing<System> failing{};
  static inline std::size_t moves = 0;
  static inline std::size_t given = 0;
  static inline std::size_t most = SIZE_MAX;  // of what it has memory for

  static bool is_odd(Layout asked) { return asked.size() >= MiB && asked.align() == 1; }
  static Layout aligned(std::size_t size) { return layout(size + unit, unit); }

  void* alloc(Layout asked) const noexcept {
    if (asked.size() > most) return nullptr;
    if (!is_odd(asked)) return counted(failing.alloc(asked));
    void* const ptr = counted(failing.alloc(aligned(asked.size())));
    if (ptr == nullptr) return nullptr;
    moves += 5;
    return static_cast<std::byte*>(ptr) + moves % 16 * page + 16;
  }
  void dealloc(void* ptr, Layout asked) const noexcept {
    --given;
    if (!is_odd(asked)) return failing.dealloc(ptr, asked);
    const auto address = reinterpret_cast<std::uintptr_t>(ptr);
    failing.dealloc(reinterpret_cast<void*>(address & ~(unit - 1)), aligned(asked.size()));
  }
  void* realloc(void* ptr, Layout asked, std::size_t new_size) const noexcept {
    return sysalloc::detail::realloc_by_copy(*this, ptr, asked, layout(new_size, asked.align()));
  }

 private:
  static void* counted(void* ptr) {
    if (ptr != nullptr) ++given;
    return ptr;
  }
};

using Heap = sysalloc::Cached<Moving>;
constexpr Heap heap;

void* block(std::size_t size, std::uint64_t seed) {
  void* const ptr = heap.alloc(layout(size));
  REQUIRE(ptr != nullptr);
  tests::fill_words(ptr, size, seed);
  return ptr;
}

}  // namespace

TEST_CASE("wherever the backend moves it, it begins at a unit and holds what it held") {
  std::size_t size = 2 * MiB;
  void* ptr = block(size, size);
  for (int i = 0; i < 60; ++i) {
    const std::size_t next = size + size / 3 % (3 * MiB) + 100 + static_cast<std::size_t>(i);
    void* const grown = heap.realloc(ptr, layout(size), next);
    REQUIRE(grown != nullptr);
    CHECK(tests::is_aligned(grown, unit));
    CHECK(tests::holds_words(grown, size / 8 * 8, size));
    CHECK(heap.usable_size(grown) == (next + page - 1) / page * page);
    CHECK(Heap::stats().live == heap.usable_size(grown));
    tests::fill_words(grown, next, next);
    ptr = grown;
    size = next;
  }
  CHECK(tests::holds_words(ptr, size / 8 * 8, size));
  heap.dealloc(ptr, layout(size));
  tests::check_nothing_is_held<Heap>();
  CHECK(Heap::stats().wrong_sizes == 0);
}

TEST_CASE("each of the backend's allocations fails once while it grows") {
  constexpr std::size_t size = 40 * MiB;
  // First that of what describes it wherever it goes, which stays at hand; then that of the block.
  for (int round = 0; round < 2; ++round) {
    CAPTURE(round);
    std::size_t walked = 0;
    for (std::size_t n = 1;; ++n) {
      CAPTURE(n);
      void* const ptr = block(size, n);
      const std::size_t given = Moving::given;
      const std::size_t metadata = Heap::stats().metadata;
      const std::size_t failures = Moving::failing.failures();
      Moving::failing.fail_nth(n);
      void* const grown = heap.realloc(ptr, layout(size), 60 * MiB);
      Moving::failing.fail_none();
      // There is memory for what is tried next.
      REQUIRE(grown != nullptr);
      CHECK(tests::holds_words(grown, size, n));
      const std::size_t leaves = Moving::given - given;
      CHECK(Heap::stats().metadata - metadata ==
            leaves * sizeof(sysalloc::detail::cached::PageMap::Leaf));
      CHECK(leaves <= 1);
      heap.dealloc(grown, layout(60 * MiB));
      if (Moving::failing.failures() == failures) break;
      walked = n;
    }
    CHECK(walked >= 1);
  }
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("without memory for it it stays as it is") {
  constexpr std::size_t size = 40 * MiB;
  void* const ptr = block(size, 1);
  const sysalloc::CachedStats before = Heap::stats();
  // For what describes it there is, or there is not.
  for (const std::size_t most : {size, std::size_t{0}}) {
    CAPTURE(most);
    Moving::most = most;
    CHECK(heap.realloc(ptr, layout(size), 60 * MiB) == nullptr);
    CHECK(heap.realloc(ptr, layout(size), layout(60 * MiB, 2 * unit)) == nullptr);
    Moving::most = SIZE_MAX;
    CHECK(heap.usable_size(ptr) == size);
    CHECK(Heap::stats().live == before.live);
    // What would have described it elsewhere stays at hand.
    const sysalloc::CachedStats after = Heap::stats();
    CHECK(after.mapped - after.metadata == before.mapped - before.metadata);
    CHECK(tests::holds_words(ptr, size, 1));
  }
  heap.dealloc(ptr, layout(size));
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("a larger alignment is kept, and a block that shrank may be small again") {
  constexpr std::size_t size = 40 * MiB;
  void* const ptr = block(size, 1);
  void* const grown = heap.realloc(ptr, layout(size), layout(80 * MiB, 4 * MiB));
  REQUIRE(grown != nullptr);
  CHECK(tests::is_aligned(grown, 4 * MiB));
  CHECK(tests::holds_words(grown, size, 1));
  // One that was allocated at such an alignment is copied.
  void* const again = heap.realloc(grown, layout(80 * MiB, 4 * MiB), 90 * MiB);
  REQUIRE(again != nullptr);
  CHECK(tests::holds_words(again, size, 1));
  void* const small = heap.realloc(again, layout(90 * MiB), 100);
  REQUIRE(small != nullptr);
  CHECK(tests::holds_words(small, 96, 1));
  heap.dealloc(small, layout(100));
  tests::check_nothing_is_held<Heap>();
}

namespace {

// What is asked of the system is counted against a budget.
struct Budget {
  static inline constinit const sysalloc::Limited<System> limited{};
  void* alloc(Layout asked) const noexcept { return limited.alloc(asked); }
  void dealloc(void* ptr, Layout asked) const noexcept { limited.dealloc(ptr, asked); }
  void* realloc(void* ptr, Layout asked, std::size_t new_size) const noexcept {
    return limited.realloc(ptr, asked, new_size);
  }
};

[[maybe_unused]] void check_touched_less(long touched, long pages) {
  if (!tests::plain_malloc() || tests::emulated()) {
    tests::not_checked("page faults", "a checker or emulator has its own");
  } else {
    CHECK(touched < pages);
  }
}

}  // namespace

TEST_CASE("it is never there twice") {
#if !defined(__linux__)
  tests::not_checked("how a huge block grows", "the C library here copies it");
#else
  const sysalloc::Cached<Budget> budget;
  constexpr std::size_t step = 11 * MiB;
  std::size_t size = 64 * MiB;
  void* ptr = budget.alloc(layout(size));
  REQUIRE(ptr != nullptr);
  tests::fill_words(ptr, size, 1);
  long touched = 0;
  for (int i = 0; i < 8; ++i) {
    // Room for what is added, and for what describes it.
    Budget::limited.set_limit(Budget::limited.used() + step + 3 * MiB);
    const long before = tests::page_faults();
    void* const grown = budget.realloc(ptr, layout(size), size + step);
    touched += tests::page_faults() - before;
    REQUIRE(grown != nullptr);
    tests::fill_words(static_cast<std::byte*>(grown) + size, step, size);
    size += step;
    ptr = grown;
  }
  CHECK(tests::holds_words(ptr, 64 * MiB, 1));
  for (std::size_t at = 64 * MiB; at != size; at += step) {
    CHECK(tests::holds_words(static_cast<std::byte*>(ptr) + at, step, at));
  }
  budget.dealloc(ptr, layout(size));
  CHECK(Budget::limited.used() <= 4 * MiB);
  // A copy touches 16384 pages at least.
  check_touched_less(touched, 8192);
#endif
}

TEST_CASE("nor is one that shrinks, and what it does not need goes back") {
#if !defined(__linux__)
  tests::not_checked("how a huge block shrinks", "the C library here copies it");
#else
  const sysalloc::Cached<Budget> budget;
  constexpr std::size_t size = 128 * MiB;
  constexpr std::size_t rest = 48 * MiB;
  Budget::limited.set_limit(SIZE_MAX);
  void* const ptr = budget.alloc(layout(size));
  REQUIRE(ptr != nullptr);
  tests::fill_words(ptr, size, 1);
  Budget::limited.set_limit(Budget::limited.used() + MiB);
  const long before = tests::page_faults();
  void* const less = budget.realloc(ptr, layout(size), rest);
  const long touched = tests::page_faults() - before;
  REQUIRE(less != nullptr);
  CHECK(budget.usable_size(less) == rest);
  CHECK(Budget::limited.used() <= rest + 4 * MiB);
  CHECK(tests::holds_words(less, rest, 1));
  budget.dealloc(less, layout(rest));
  CHECK(Budget::limited.used() <= 4 * MiB);
  // A copy touches 12288 pages.
  check_touched_less(touched, 6144);
#endif
}

namespace {

// Of a heap of its own, which has nothing at hand that describes a block elsewhere.
struct Fresh : Moving {};

}  // namespace

TEST_CASE("each of the backend's allocations fails once while it shrinks") {
#if !defined(__linux__)
  tests::not_checked("how a huge block shrinks", "the C library here copies it");
#else
  using FreshHeap = sysalloc::Cached<Fresh>;
  constexpr FreshHeap fresh;
  constexpr std::size_t size = 80 * MiB;
  constexpr std::size_t rest = 10 * MiB;
  std::size_t walked = 0;
  for (std::size_t n = 1;; ++n) {
    CAPTURE(n);
    void* const ptr = fresh.alloc(layout(size));
    REQUIRE(ptr != nullptr);
    tests::fill_words(ptr, size, n);
    const std::size_t failures = Fresh::failing.failures();
    Fresh::failing.fail_nth(n);
    void* const less = fresh.realloc(ptr, layout(size), rest);
    Fresh::failing.fail_none();
    REQUIRE(less != nullptr);
    CHECK(fresh.usable_size(less) == rest);
    // What it does not need is with the backend again.
    CHECK(FreshHeap::stats().mapped - FreshHeap::stats().metadata <= rest + MiB);
    CHECK(tests::holds_words(less, rest, n));
    fresh.dealloc(less, layout(rest));
    if (Fresh::failing.failures() == failures) break;
    ++walked;
  }
  CHECK(walked >= 1);
  tests::check_nothing_is_held<FreshHeap>();
#endif
}

TEST_CASE("it shrinks where it is when the backend cannot") {
#if !defined(__linux__)
  tests::not_checked("how a huge block shrinks", "the C library here copies it");
#else
  constexpr std::size_t size = 80 * MiB;
  constexpr std::size_t rest = 10 * MiB;
  void* const ptr = block(size, 1);
  Moving::most = 0;
  CHECK(heap.realloc(ptr, layout(size), rest) == ptr);
  Moving::most = SIZE_MAX;
  CHECK(heap.usable_size(ptr) == rest);
  CHECK(Heap::stats().live == rest);
  CHECK(tests::holds_words(ptr, rest, 1));
  // And gives the rest back when it can.
  void* const less = heap.realloc(ptr, layout(rest), rest - MiB);
  REQUIRE(less != nullptr);
  CHECK(Heap::stats().mapped - Heap::stats().metadata <= rest + MiB);
  CHECK(tests::holds_words(less, rest - MiB, 1));
  heap.dealloc(less, layout(rest - MiB));
  tests::check_nothing_is_held<Heap>();
  CHECK(Heap::stats().wrong_sizes == 0);
#endif
}
