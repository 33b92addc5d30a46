// Cached when its backend has no memory: nullptr, nothing corrupted, nothing lost, and it serves
// again once there is some.

#include <doctest/doctest.h>

#include <algorithm>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <sysalloc/cached.hpp>
#include <thread>
#include <vector>

#include "../support/address_space.hpp"
#include "../support/bytes.hpp"
#include "support.hpp"

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace {

using sysalloc::Cached;
using sysalloc::Layout;
using tests::Backend;
using tests::Heap;

struct Block {
  void* ptr;
  Layout layout;
  std::uint64_t seed;
};

Layout layout(std::size_t size, std::size_t align = 8) {
  return Layout::from_size_align_unchecked(size, align);
}

// Layouts that reach every part of the heap: slabs of each shape, spans, large blocks, alignments.
std::vector<Layout> layouts() {
  std::vector<Layout> all;
  for (std::size_t size = 16; size <= 2 << 20; size *= 2) all.push_back(layout(size - 3));
  for (std::size_t align = 32; align <= 1 << 20; align *= 4) all.push_back(layout(100, align));
  return all;
}

// Allocates each layout a few times; resizes every third block. What fails is left out. Returns
// whether every block held its contents and null was the only failure.
bool live_through(std::size_t& refused) {
  const Heap heap;
  std::vector<Block> blocks;
  bool good = true;
  for (int round = 0; round < 2; ++round) {
    for (const Layout& each : layouts()) {
      const std::uint64_t seed = blocks.size() + 1;
      void* const ptr = heap.alloc(each);
      if (ptr == nullptr) {
        ++refused;
        continue;
      }
      good = good && tests::is_aligned(ptr, each.align());
      tests::fill_words(ptr, each.size(), seed);
      blocks.push_back({ptr, each, seed});
      if (seed % 3 != 0) continue;
      const auto larger = layout(each.size() * 2, each.align());
      void* const moved = heap.realloc(ptr, each, larger);
      if (moved == nullptr) {
        ++refused;
        continue;
      }
      good = good && tests::holds_words(moved, each.size() / 8 * 8, seed);
      tests::fill_words(moved, larger.size(), seed);
      blocks.back() = {moved, larger, seed};
    }
  }
  for (const Block& block : blocks) {
    good = good && tests::holds_words(block.ptr, block.layout.size(), block.seed);
    heap.dealloc(block.ptr, block.layout);
  }
  return good;
}

// True when the heap holds nothing that it should not after everything was freed.
bool is_clean() {
  Heap::purge();
  const sysalloc::CachedStats stats = Heap::stats();
  return stats.live == 0 && stats.cached == 0 && stats.mapped == stats.metadata &&
         stats.mapped == Backend::bytes();
}

// Runs `work` in a child, which begins with a fresh heap. Returns its status. Without fork it runs
// here, and only the first one has such a heap.
template <class Work>
int in_child(Work work) {
#if defined(_WIN32)
  return work();
#else
  const pid_t child = fork();
  if (child == 0) _exit(work());
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
#endif
}

}  // namespace

TEST_CASE("each of the backend's allocations fails once, from the first one of a heap on") {
  enum Status { ok, not_reached, corrupt, no_refusal, unclean, not_serving };
  std::size_t walked = 0;
  for (std::size_t n = 1;; ++n) {
    const int status = in_child([n] {
      std::size_t refused = 0;
      const std::size_t failures = Backend::failing.failures();
      Backend::failing.fail_nth(n);
      if (!live_through(refused)) return corrupt;
      if (Backend::failing.failures() == failures) return not_reached;
      if (!is_clean()) return unclean;
      // A thread that got no cache serves itself from slabs, so a refusal need not show.
      refused = 0;
      if (!live_through(refused) || refused != 0) return not_serving;
      return is_clean() ? ok : unclean;
    });
    if (status == not_reached) break;
    CAPTURE(n);
    CHECK(status == ok);
    walked = n;
  }
#if defined(_WIN32)
  tests::not_checked("what only a fresh heap allocates", "there is no fork");
  CHECK(walked > 5);
#else
  // A cache, the page map, descriptors, segments and large blocks.
  CHECK(walked > 10);
#endif
}

TEST_CASE("a share of the backend's allocations fails, for long") {
  const std::uint64_t seed = tests::seed();
  INFO("SYSALLOC_TEST_SEED=" << seed);
  std::size_t held = 0;
  std::size_t mapped = 0;
  const auto& map = sysalloc::detail::cached::Heap<Backend>::map;
  const std::size_t rounds = tests::plain_malloc() ? 30 : 10;
  for (std::size_t round = 0; round < rounds; ++round) {
    std::size_t refused = 0;
    Backend::failing.fail_share(static_cast<double>(round % 10) / 10, seed + round);
    const bool good = live_through(refused);
    CHECK(good);
    if (round % 10 == 9) CHECK(refused > 0);
    Backend::failing.fail_none();
    refused = 0;
    CHECK(live_through(refused));
    CHECK(refused == 0);
    CHECK(is_clean());
    // What it keeps for itself does not grow from round to round.
    if (round == rounds / 2) {
      held = Backend::bytes();
      mapped = map.bytes();
    }
  }
  // But for the page map, of which each 4 GiB of addresses has a leaf: the memory of a sanitizer is
  // spread over many.
  CHECK(Backend::bytes() - map.bytes() == held - mapped);
  CHECK(map.bytes() <= mapped + 2 * sizeof(sysalloc::detail::cached::PageMap::Leaf));
}

TEST_CASE("with no memory at all, every size is refused and contents stay") {
  const Heap heap;
  void* const ptr = heap.alloc(layout(3 << 20));
  REQUIRE(ptr != nullptr);
  tests::fill_words(ptr, 3 << 20, 7);
  Backend::failing.fail_share(1);
  CHECK(heap.alloc(layout(2 << 20)) == nullptr);
  CHECK(heap.alloc_zeroed(layout(2 << 20)) == nullptr);
  CHECK(heap.realloc(ptr, layout(3 << 20), std::size_t{4} << 20) == nullptr);
  // An alignment that it does not have by chance, for then it could stay.
  std::size_t align = 1 << 20;
  while (tests::is_aligned(ptr, align)) align *= 2;
  CHECK(heap.realloc(ptr, layout(3 << 20), layout(3 << 20, align)) == nullptr);
  CHECK(!heap.allocate(layout(2 << 20)));
  CHECK(!heap.grow(ptr, layout(3 << 20), layout(4 << 20)));
  Backend::failing.fail_none();
  CHECK(tests::holds_words(ptr, 3 << 20, 7));
  heap.dealloc(ptr, layout(3 << 20));
  CHECK(is_clean());
}

TEST_CASE("sizes up to the largest fail cleanly") {
  const tests::CrowdedAddressSpace crowded;
  const Cached<> heap;
  for (std::size_t align = 1; align <= std::size_t{1} << 31; align *= 2) {
    if (align > tests::largest_align()) break;
    CAPTURE(align);
    const std::size_t most = std::size_t{PTRDIFF_MAX} + 1 - align;
    CHECK(heap.alloc(layout(tests::opaque(most), align)) == nullptr);
    CHECK(heap.alloc_zeroed(layout(tests::opaque(most), align)) == nullptr);
    CHECK(heap.alloc(layout(tests::opaque(most - 5000), align)) == nullptr);
    void* const ptr = heap.alloc(layout(10, 8));
    REQUIRE(ptr != nullptr);
    CHECK(heap.realloc(ptr, layout(10, 8), tests::opaque(most)) == nullptr);
    CHECK(heap.realloc(ptr, layout(10, 8), layout(tests::opaque(most), align)) == nullptr);
    CHECK(heap.realloc(ptr, layout(10, 8), tests::opaque(std::size_t{SIZE_MAX})) == nullptr);
    heap.dealloc(ptr, layout(10, 8));
  }
}

TEST_CASE("a budget is kept, and used again when blocks came back") {
  const Heap heap;
  constexpr std::size_t budget = 32 << 20;
  Backend::limited.set_limit(budget);
  for (const std::size_t size : {100, 3000, 50'000, 700'000, 3'000'000}) {
    CAPTURE(size);
    std::size_t first = 0;
    for (int round = 0; round < 3; ++round) {
      std::vector<void*> blocks;
      while (void* const ptr = heap.alloc(layout(size))) {
        tests::fill_words(ptr, size, blocks.size());
        blocks.push_back(ptr);
      }
      CHECK(Backend::limited.used() <= budget);
      // Most of the budget is blocks.
      CHECK(blocks.size() * size > budget / 2);
      if (round == 0) first = blocks.size();
      CHECK(blocks.size() == first);
      bool intact = true;
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        intact = intact && tests::holds_words(blocks[i], size, i);
        heap.dealloc(blocks[i], layout(size));
      }
      CHECK(intact);
      Heap::purge();
    }
  }
}

TEST_CASE("what lies free in one part of the heap is there for every other") {
  const Heap heap;
  constexpr std::size_t budget = 64 << 20;
  Backend::limited.set_limit(budget);
  std::vector<void*> blocks;
  constexpr std::size_t size = 4096;
  for (std::size_t bytes = 0; bytes < 48 << 20; bytes += size) {
    blocks.push_back(heap.alloc(layout(size)));
    REQUIRE(blocks.back() != nullptr);
  }
  tests::Random random(tests::seed());
  std::shuffle(blocks.begin(), blocks.end(), random);
  for (void* const block : blocks) heap.dealloc(block, layout(size));
  // Nearly all of it is free, and nothing was said.
  constexpr std::size_t large = 32 << 20;
  void* const ptr = heap.alloc(layout(large));
  CHECK(ptr != nullptr);
  CHECK(Backend::limited.used() <= budget);
  if (ptr != nullptr) heap.dealloc(ptr, layout(large));
  Heap::purge();
}

namespace {

// While there is one, the backend gives no more than it has given so far.
struct Full {
  Full() { Backend::limited.set_limit(Backend::limited.used()); }
  Full(const Full&) = delete;
  Full& operator=(const Full&) = delete;
  ~Full() { Backend::limited.set_limit(SIZE_MAX); }
};

std::vector<void*> blocks_of(std::size_t size, std::size_t count) {
  std::vector<void*> blocks;
  while (blocks.size() < count) blocks.push_back(Heap{}.alloc(layout(size)));
  return blocks;
}

void free_all(const std::vector<void*>& blocks, std::size_t size) {
  for (void* const ptr : blocks) Heap{}.dealloc(ptr, layout(size));
}

}  // namespace

TEST_CASE("the last slab of one class, if empty, serves another where no segment goes back") {
  const std::vector<void*> others = blocks_of(2000, 50);
  std::vector<void*> blocks = blocks_of(64, 1000);
  {
    const Full full;
    while (void* const ptr = Heap{}.alloc(layout(64))) blocks.push_back(ptr);
    free_all(others, 2000);
    void* const ptr = Heap{}.alloc(layout(64));
    CHECK(ptr != nullptr);
    if (ptr != nullptr) blocks.push_back(ptr);
  }
  free_all(blocks, 64);
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("segments that hold nothing go back for what describes a slab") {
  const std::vector<void*> others = blocks_of(1 << 20, 12);
  std::vector<void*> blocks = blocks_of(16, 4096 * 110);
  {
    const Full full;
    free_all(others, 1 << 20);
    // More than one such chunk describes.
    bool served = true;
    for (std::size_t i = 0; served && i < 4096 * 130; ++i) {
      void* const ptr = Heap{}.alloc(layout(16));
      served = ptr != nullptr;
      if (served) blocks.push_back(ptr);
    }
    CHECK(served);
  }
  free_all(blocks, 16);
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("segments that hold nothing go back for what describes a large block") {
  if (sizeof(void*) == 4) {
    tests::not_checked("what describes many large blocks",
                       "they need more addresses than there are");
    return;
  }
  constexpr std::size_t size = (1 << 20) + 1;
  std::vector<void*> blocks;
  // With as much as the block itself takes, until there are more than one chunk describes.
  bool served = true;
  for (std::size_t i = 0; served && i < 1100; ++i) {
    Backend::limited.set_limit(SIZE_MAX);
    free_all(blocks_of(1 << 20, 4), 1 << 20);
    Backend::limited.set_limit(Backend::limited.used() + (1 << 20) + (68 << 10) - 1);
    void* const ptr = Heap{}.alloc(layout(size));
    served = ptr != nullptr;
    if (served) blocks.push_back(ptr);
  }
  CHECK(served);
  Backend::limited.set_limit(SIZE_MAX);
  free_all(blocks, size);
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("the caches of threads that ended go back before an allocation fails") {
  constexpr std::size_t threads = 16;
  std::vector<std::thread> all;
  std::barrier together(threads);
  for (std::size_t i = 0; i < threads; ++i) {
    all.emplace_back([&together] {
      free_all(blocks_of(64, 8000), 64);
      together.arrive_and_wait();
    });
  }
  for (std::thread& thread : all) thread.join();
  const std::size_t before = Heap::stats().metadata;
  Backend::limited.set_limit(Backend::limited.used());
  CHECK(Heap{}.alloc(layout(Backend::limited.used())) == nullptr);
  Backend::limited.set_limit(SIZE_MAX);
  MESSAGE("KiB that describe the heap, before and after: ", before >> 10, ", ",
          Heap::stats().metadata >> 10);
  CHECK(Heap::stats().metadata <= before - (threads - 1) * (32 << 10));
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("a block that was just freed is there, with its size or without") {
  const Heap heap;
  for (const std::size_t size : {32, 1024, 5000}) {
    Backend::limited.set_limit(Backend::limited.used() + (16 << 20));
    std::vector<void*> blocks;
    while (void* const ptr = heap.alloc(layout(size))) blocks.push_back(ptr);
    REQUIRE(!blocks.empty());
    std::size_t refused = 0;
    for (std::size_t i = 0; i < blocks.size(); i += 100) {
      if (i % 200 == 0) {
        heap.dealloc_unsized(blocks[i], 8);
      } else {
        heap.dealloc(blocks[i], layout(size));
      }
      blocks[i] = heap.alloc(layout(size));
      if (blocks[i] == nullptr) ++refused;
    }
    CHECK(refused == 0);
    Backend::limited.set_limit(SIZE_MAX);
    for (void* const ptr : blocks) heap.dealloc(ptr, layout(size));
  }
  tests::check_nothing_is_held<Heap>();
}
