// Counting: the counts are exact, also when many threads count at once.

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <ostream>
#include <random>
#include <sysalloc/counting.hpp>
#include <sysalloc/failing.hpp>
#include <sysalloc/limited.hpp>
#include <sysalloc/system.hpp>
#include <thread>
#include <vector>

#include "support/bytes.hpp"
#include "support/mock.hpp"
#include "support/threads.hpp"

namespace {

using sysalloc::Counting;
using sysalloc::CountingStats;
using sysalloc::Layout;
using sysalloc::System;

constexpr Layout layout(std::size_t size, std::size_t align) {
  return Layout::from_size_align(size, align).value();
}

// Usable as a global allocator: made before any code runs.
constinit const Counting<System> at_startup;

// Nothing that counts may be copied by accident.
static_assert(!std::is_copy_constructible_v<Counting<System>>);

// What can be made says so, and nothing else: of an allocator with no default, and of one that
// cannot be copied.
using tests::NoDefault;
static_assert(!std::is_default_constructible_v<sysalloc::Counting<NoDefault>>);
static_assert(!std::is_constructible_v<sysalloc::Counting<sysalloc::Limited<System>>,
                                       const sysalloc::Limited<System>&>);
static_assert(std::is_constructible_v<sysalloc::Counting<NoDefault>, NoDefault>);

}  // namespace

TEST_CASE("each operation counts what it did") {
  const Counting<System> a;
  CHECK(a.stats() == CountingStats{});
  void* const one = a.alloc(layout(100, 8));
  CHECK(a.stats() == CountingStats{.bytes_live = 100,
                                   .blocks_live = 1,
                                   .bytes_peak = 100,
                                   .bytes_total = 100,
                                   .blocks_total = 1});
  void* two = a.alloc_zeroed(layout(50, 64));
  CHECK(tests::is_zero(two, 50));
  CHECK(a.stats() == CountingStats{.bytes_live = 150,
                                   .blocks_live = 2,
                                   .bytes_peak = 150,
                                   .bytes_total = 150,
                                   .blocks_total = 2});
  // Growing adds what it grew by, shrinking takes back, and neither is a new block.
  two = a.realloc(two, layout(50, 64), std::size_t{80});
  CHECK(a.stats() == CountingStats{.bytes_live = 180,
                                   .blocks_live = 2,
                                   .bytes_peak = 180,
                                   .bytes_total = 180,
                                   .blocks_total = 2});
  two = a.realloc(two, layout(80, 64), layout(20, 128));
  CHECK(a.stats() == CountingStats{.bytes_live = 120,
                                   .blocks_live = 2,
                                   .bytes_peak = 180,
                                   .bytes_total = 180,
                                   .blocks_total = 2});
  a.dealloc(one, layout(100, 8));
  a.dealloc(two, layout(20, 128));
  CHECK(a.stats() == CountingStats{.bytes_live = 0,
                                   .blocks_live = 0,
                                   .bytes_peak = 180,
                                   .bytes_total = 180,
                                   .blocks_total = 2});
}

TEST_CASE("the Allocator interface counts the same") {
  const Counting<System> a;
  const auto block = a.allocate_zeroed(layout(10, 8));
  REQUIRE(block);
  const auto grown = a.grow_zeroed(block->data(), layout(10, 8), layout(30, 64));
  REQUIRE(grown);
  const auto shrunk = a.shrink(grown->data(), layout(30, 64), layout(5, 8));
  REQUIRE(shrunk);
  CHECK(a.stats().bytes_live == 5);
  CHECK(a.stats().blocks_live == 1);
  REQUIRE(a.shrink(shrunk->data(), layout(5, 8), layout(0, 8)));
  CHECK(a.stats() == CountingStats{.bytes_live = 0,
                                   .blocks_live = 0,
                                   .bytes_peak = 30,
                                   .bytes_total = 30,
                                   .blocks_total = 1});
}

TEST_CASE("what fails is not counted") {
  const sysalloc::Failing<System> failing;
  const Counting<sysalloc::ByRef<sysalloc::Failing<System>>> a(failing.by_ref());
  void* const ptr = a.alloc(layout(100, 8));
  REQUIRE(ptr != nullptr);
  const CountingStats before = a.stats();
  failing.fail_share(1);
  CHECK(a.alloc(layout(100, 8)) == nullptr);
  CHECK(a.alloc_zeroed(layout(100, 8)) == nullptr);
  CHECK(a.realloc(ptr, layout(100, 8), std::size_t{200}) == nullptr);
  CHECK(a.realloc(ptr, layout(100, 8), layout(50, 64)) == nullptr);
  CHECK(a.stats() == before);
  a.dealloc(ptr, layout(100, 8));
}

TEST_CASE("an allocator with the two members alone can be counted") {
  const tests::Minimal minimal;
  const Counting<sysalloc::ByRef<tests::Minimal>> a(minimal.by_ref());
  void* ptr = a.alloc_zeroed(layout(10, 8));
  ptr = a.realloc(ptr, layout(10, 8), std::size_t{20});
  CHECK(a.stats().bytes_live == 20);
  CHECK(a.stats().blocks_live == 1);
  a.dealloc(ptr, layout(20, 8));
  CHECK(a.stats().bytes_live == 0);
  CHECK(minimal.log == tests::Log{"alloc 10/8", "alloc 20/8", "dealloc 10/8", "dealloc 20/8"});
}

TEST_CASE("usable_size is that of the allocator below") {
  void* const ptr = at_startup.alloc(layout(100, 8));
  REQUIRE(ptr != nullptr);
  CHECK(at_startup.usable_size(ptr) == System{}.usable_size(ptr));
  at_startup.dealloc(ptr, layout(100, 8));
}

TEST_CASE("counts are exact after many threads, and may be read meanwhile") {
  constexpr std::size_t threads = 4;
  constexpr std::size_t rounds = 2000;
  const Counting<System> a;
  std::atomic<bool> done{false};
  std::atomic<std::size_t> absurd{0};
  std::atomic<std::size_t> bytes_asked{0};
  std::thread reader([&] {
    while (!done) {
      const CountingStats stats = a.stats();
      // More than could ever be live shows a count that went below zero for a moment.
      if (stats.bytes_live > threads * 2000 || stats.blocks_live > threads ||
          stats.bytes_peak > threads * 2000) {
        ++absurd;
      }
      std::this_thread::yield();
    }
  });
  {
    tests::Threads workers;
    for (unsigned seed = 1; seed <= threads; ++seed) {
      workers.add([&, seed] {
        std::mt19937 random(seed);
        std::size_t asked = 0;
        for (std::size_t i = 0; i < rounds; ++i) {
          const Layout first = layout(1 + random() % 1000, 16);
          const Layout second = layout(1 + random() % 2000, 16);
          void* ptr = a.alloc(first);
          asked += first.size();
          if (ptr == nullptr) continue;
          if (void* const moved = a.realloc(ptr, first, second)) {
            if (second.size() > first.size()) asked += second.size() - first.size();
            a.dealloc(moved, second);
          }
        }
        bytes_asked += asked;
      });
    }
  }
  done = true;
  reader.join();
  const CountingStats stats = a.stats();
  CHECK(absurd == 0);
  CHECK(stats.bytes_live == 0);
  CHECK(stats.blocks_live == 0);
  CHECK(stats.blocks_total == threads * rounds);
  CHECK(stats.bytes_total == bytes_asked);
  CHECK(stats.bytes_peak <= threads * 2000);
  CHECK(stats.bytes_peak > 0);
}

TEST_CASE("no count is lost when threads do nothing but count") {
  constexpr std::size_t threads = 4;
  constexpr std::size_t rounds = 100'000;
  const Counting<tests::Nothing> a;
  {
    tests::Threads workers;
    for (std::size_t t = 0; t < threads; ++t) {
      workers.add([&] {
        for (std::size_t i = 0; i < rounds; ++i) a.dealloc(a.alloc(layout(3, 1)), layout(3, 1));
      });
    }
  }
  const CountingStats stats = a.stats();
  CHECK(stats.bytes_live == 0);
  CHECK(stats.blocks_live == 0);
  CHECK(stats.bytes_total == threads * rounds * 3);
  CHECK(stats.blocks_total == threads * rounds);
  CHECK(stats.bytes_peak >= 3);
  CHECK(stats.bytes_peak <= threads * 3);
}

TEST_CASE("the peak is exact when threads reach it together") {
  // Every thread holds its blocks until all have theirs, so the peak is the sum.
  constexpr std::size_t threads = 4;
  constexpr std::size_t blocks = 200;
  const Counting<System> a;
  std::atomic<std::size_t> arrived{0};
  {
    tests::Threads workers;
    for (std::size_t t = 0; t < threads; ++t) {
      workers.add([&] {
        std::vector<void*> held;
        for (std::size_t i = 0; i < blocks; ++i) held.push_back(a.alloc(layout(32, 16)));
        ++arrived;
        while (arrived < threads) std::this_thread::yield();
        for (void* const ptr : held) a.dealloc(ptr, layout(32, 16));
      });
    }
  }
  CHECK(a.stats() == CountingStats{.bytes_live = 0,
                                   .blocks_live = 0,
                                   .bytes_peak = threads * blocks * 32,
                                   .bytes_total = threads * blocks * 32,
                                   .blocks_total = threads * blocks});
}

TEST_CASE("of allocators that nest each is there") {
  const Counting<sysalloc::Limited<sysalloc::Failing<System>>> a;
  a.inner().set_limit(100);
  CHECK(a.alloc(layout(101, 1)) == nullptr);
  void* const ptr = a.alloc(layout(60, 1));
  REQUIRE(ptr != nullptr);
  a.inner().inner().fail_nth(1);
  CHECK(a.alloc(layout(10, 1)) == nullptr);
  CHECK(a.inner().inner().failures() == 1);
  CHECK(a.inner().used() == 60);
  CHECK(a.stats().bytes_live == 60);
  CHECK(a.inner().inner().inner() == System{});
  a.dealloc(ptr, layout(60, 1));
  CHECK(a.inner().used() == 0);
}
