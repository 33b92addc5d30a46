// stats() and purge(): what the heap says it holds is what the test holds, and what the backend
// gave.

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdlib>
#include <sysalloc/cached.hpp>
#include <utility>
#include <vector>

#include "../support/threads.hpp"
#include "support.hpp"

namespace {

namespace c = sysalloc::detail::cached;
using sysalloc::CachedStats;
using sysalloc::Layout;

Layout layout(std::size_t size, std::size_t align = 8) {
  return Layout::from_size_align_unchecked(size, align);
}

using tests::Backend;
using tests::Heap;
constexpr Heap heap;

// The bytes in size classes by their state, which must be all that the slabs hold.
std::size_t bytes_of(const CachedStats::Class& entry) {
  return (entry.blocks_live + entry.blocks_cached + entry.blocks_free) * entry.size;
}

}  // namespace

TEST_CASE("a fresh heap holds nothing, and asking changes nothing") {
  const CachedStats stats = Heap::stats();
  CHECK(stats.live == 0);
  CHECK(stats.cached == 0);
  CHECK(stats.free == 0);
  CHECK(stats.dirty == 0);
  CHECK(stats.large == 0);
  CHECK(stats.mapped == 0);
  CHECK(Backend::bytes() == 0);
}

TEST_CASE("what is live is what the test holds, class by class, and purge gives everything back") {
  std::vector<std::pair<void*, Layout>> blocks;
  std::size_t live = 0;
  for (std::size_t i = 1; i < c::class_count; ++i) {
    const auto each = layout(c::class_info[i].size);
    for (std::size_t n = 0; n < 1 + i % 5; ++n) {
      blocks.emplace_back(heap.alloc(each), each);
      REQUIRE(blocks.back().first != nullptr);
      live += each.size();
    }
  }
  const CachedStats small = Heap::stats();
  CHECK(small.live == live);
  CHECK(small.large == 0);
  for (std::size_t i = 1; i < c::class_count; ++i) {
    const CachedStats::Class& entry = small.classes[i];
    CAPTURE(i);
    CHECK(entry.size == c::class_info[i].size);
    CHECK(entry.blocks_live == 1 + i % 5);
    CHECK(bytes_of(entry) == entry.slabs * c::class_info[i].blocks * entry.size);
  }

  const std::size_t large = (2 << 20) + 1;
  void* const large_ptr = heap.alloc(layout(large));
  const CachedStats both = Heap::stats();
  CHECK(both.large >= large);
  CHECK(both.large < large + 4096);
  CHECK(both.live == live + both.large);
  // Asked twice, the same.
  CHECK(Heap::stats().live == both.live);
  CHECK(both.mapped == Backend::bytes());
  CHECK(both.mapped >= both.live + both.cached + both.free + both.dirty);

  heap.dealloc(large_ptr, layout(large));
  for (const auto& [ptr, each] : blocks) heap.dealloc(ptr, each);
  const CachedStats after = Heap::stats();
  CHECK(after.live == 0);
  CHECK(after.large == 0);
  CHECK(after.cached > 0);
  CHECK(after.mapped == Backend::bytes());

  // But what describes the rest.
  Heap::purge();
  const CachedStats purged = Heap::stats();
  CHECK(purged.cached == 0);
  CHECK(purged.free == 0);
  CHECK(purged.dirty == 0);
  CHECK(purged.mapped == purged.metadata);
  CHECK(purged.mapped == Backend::bytes());
  CHECK(purged.metadata < 2 << 20);
}

TEST_CASE("resident memory into which a block does not fit goes before other memory comes") {
  constexpr std::size_t gap = 3 * c::unit_size;
  constexpr std::size_t larger = 4 * c::unit_size;
  std::vector<void*> blocks(30);
  for (void*& block : blocks) block = heap.alloc(layout(gap));
  for (std::size_t i = 0; i < blocks.size(); i += 2) heap.dealloc(blocks[i], layout(gap));
  std::size_t dirty = blocks.size() / 2 * gap;
  REQUIRE(Heap::stats().dirty == dirty);
  // But in all no more than an eighth of what was ever in use, in whole units.
  std::size_t left = blocks.size() * gap / 8 / c::unit_size * c::unit_size;
  for (std::size_t i = 0; i < 8; i += 2) {
    blocks[i] = heap.alloc(layout(larger));
    CHECK(blocks[i] != nullptr);
    const std::size_t goes = left < larger ? left : larger;
    left -= goes;
    dirty -= goes;
    CHECK(Heap::stats().dirty == dirty);
  }
  CHECK(left == 0);
  // What fits still does.
  void* const fits = heap.alloc(layout(gap));
  CHECK(Heap::stats().dirty == dirty - gap);
  heap.dealloc(fits, layout(gap));
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (i % 2 == 1) heap.dealloc(blocks[i], layout(gap));
    if (i % 2 == 0 && i < 8) heap.dealloc(blocks[i], layout(larger));
  }
  CHECK(Heap::stats().live == 0);
}

TEST_CASE("purge keeps the blocks") {
  std::vector<std::pair<void*, Layout>> blocks;
  tests::Random random(tests::seed());
  for (std::size_t i = 0; i < 3000; ++i) {
    const auto each = layout(tests::log_uniform(random, 16, 40'000));
    void* const ptr = heap.alloc(each);
    REQUIRE(ptr != nullptr);
    tests::fill_words(ptr, each.size(), i);
    blocks.emplace_back(ptr, each);
  }
  // Between live blocks, so that slabs and segments stay in part.
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (i % 10 != 0) heap.dealloc(blocks[i].first, blocks[i].second);
  }
  const std::size_t live = Heap::stats().live;
  for (int i = 0; i < 3; ++i) Heap::purge();
  CHECK(Heap::stats().live == live);
  bool intact = true;
  for (std::size_t i = 0; i < blocks.size(); i += 10) {
    intact = intact && tests::holds_words(blocks[i].first, blocks[i].second.size(), i);
  }
  CHECK(intact);
  // What was given back serves again.
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    auto& [ptr, each] = blocks[i];
    if (i % 10 == 0) continue;
    ptr = heap.alloc(each);
    REQUIRE(ptr != nullptr);
    tests::fill_words(ptr, each.size(), i);
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    intact = intact && tests::holds_words(blocks[i].first, blocks[i].second.size(), i);
    heap.dealloc(blocks[i].first, blocks[i].second);
  }
  CHECK(intact);
  CHECK(Heap::stats().live == 0);
}

TEST_CASE("threads at work at the same time are counted, and their caches come back") {
  const std::size_t before = Heap::stats().live;
  tests::Threads threads;
  for (int i = 0; i < 4; ++i) {
    threads.add([] {
      for (int n = 0; n < 20'000; ++n) {
        void* const ptr = heap.alloc(layout(40));
        heap.dealloc(ptr, layout(40));
        if (n % 1000 == 0) {
          const CachedStats stats = Heap::stats();
          // At most one block of each thread, and those that are being counted.
          if (stats.mapped == 0) std::abort();
        }
      }
    });
  }
  threads.join();
  CHECK(Heap::stats().live == before);
  Heap::purge();
  CHECK(Heap::stats().cached == 0);
}

TEST_CASE("a wrong size is repaired and counted") {
  const std::vector<std::pair<std::size_t, std::size_t>> sizes = {
      {100, 10}, {10, 100}, {100, 2 << 20}, {2 << 20, 100}, {2 << 20, 3 << 20}, {70'000, 8}};
  std::size_t count = 0;
  for (const auto& [size, said] : sizes) {
    void* const ptr = heap.alloc(layout(size));
    REQUIRE(ptr != nullptr);
    heap.dealloc(ptr, layout(said));
    ++count;
    CHECK(Heap::stats().wrong_sizes == count);
    CHECK(Heap::stats().live == 0);
  }
  // Another size of the same class is none.
  void* const ptr = heap.alloc(layout(100));
  heap.dealloc(ptr, layout(98));
  CHECK(Heap::stats().wrong_sizes == count);
}

TEST_CASE("what describes the slabs of one class serves others") {
  // A block in each segment, so that none goes back and comes again elsewhere, which would take a
  // part of the page map.
  constexpr std::size_t unit = 60 << 10;
  std::vector<void*> pins(1024);
  for (void*& pin : pins) pin = heap.alloc(layout(unit));
  for (std::size_t i = 0; i < pins.size(); ++i) {
    if (i % 64 != 0) heap.dealloc(pins[i], layout(unit));
  }
  std::size_t first = 0;
  for (const c::ClassInfo& info : c::class_info) {
    // Of smaller ones it is longer.
    if (info.size < 128 || info.size > c::max_slab_size) continue;
    std::vector<void*> blocks((32 << 20) / info.size);
    for (void*& block : blocks) block = heap.alloc(layout(info.size));
    for (void* const block : blocks) heap.dealloc(block, layout(info.size));
    Heap::purge();
    if (first == 0) first = Heap::stats().metadata;
  }
  CHECK(first != 0);
  CHECK(Heap::stats().metadata <= first + 2 * c::Metadata::chunk_size);
  for (std::size_t i = 0; i < pins.size(); i += 64) heap.dealloc(pins[i], layout(unit));
  Heap::purge();
}
