// What a thread keeps of a container that dies, and what it does not.

#include <doctest/doctest.h>

#include <algorithm>
#include <barrier>
#include <cstddef>
#include <iterator>
#include <sysalloc/cached.hpp>
#include <thread>
#include <vector>

#include "support.hpp"

namespace {

namespace c = sysalloc::detail::cached;
using sysalloc::Layout;
using tests::Heap;

constexpr std::size_t size = 32;
// 256 KiB of blocks may stay, 8 MiB may not: a few then, out of what has no order.
constexpr std::size_t few = 8 * 1024;
constexpr std::size_t many = 256 * 1024;
constexpr std::size_t rest = 256;

Layout layout(std::size_t bytes) { return Layout::from_size_align_unchecked(bytes, 8); }

std::vector<void*> build(std::size_t count, std::size_t bytes = size) {
  std::vector<void*> blocks(count);
  std::size_t failed = 0;
  for (std::size_t i = 0; i < count; ++i) {
    blocks[i] = Heap{}.alloc(layout(bytes));
    if (blocks[i] == nullptr) {
      ++failed;
    } else {
      tests::fill_words(blocks[i], bytes, i);
    }
  }
  CHECK(failed == 0);
  return blocks;
}

// Frees them in random order, each with what was written to it.
void destroy(std::vector<void*>& blocks, tests::Random& random, std::size_t bytes = size) {
  std::vector<std::size_t> order(blocks.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random);
  std::size_t spoilt = 0;
  for (const std::size_t i : order) {
    if (!tests::holds_words(blocks[i], bytes, i)) ++spoilt;
    Heap{}.dealloc(blocks[i], layout(bytes));
  }
  CHECK(spoilt == 0);
}

sysalloc::CachedStats::Class class_of_blocks() { return Heap::stats().classes[size / 16]; }

TEST_CASE("a small container that dies stays in the thread's cache, and is built from it again") {
  tests::Random random(tests::seed());
  std::vector<void*> first = build(few);
  destroy(first, random);
  CHECK(class_of_blocks().blocks_cached >= few);
  for (int round = 0; round < 20; ++round) {
    std::vector<void*> again = build(few);
    const auto now = class_of_blocks();
    CHECK(now.blocks_live == few);
    CHECK(now.blocks_cached < 1024);
    std::vector<void*> ordered = again;
    std::sort(ordered.begin(), ordered.end());
    CHECK(std::adjacent_find(ordered.begin(), ordered.end()) == ordered.end());
    std::sort(first.begin(), first.end());
    std::vector<void*> common;
    std::set_intersection(first.begin(), first.end(), ordered.begin(), ordered.end(),
                          std::back_inserter(common));
    CHECK(common.size() > few * 9 / 10);
    destroy(again, random);
  }
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("so it is after a time when blocks of many sizes came and went, which do no more") {
  tests::Random random(tests::seed());
  for (std::size_t bytes = 64; bytes <= 8192; bytes += 64) {
    std::vector<void*> blocks = build(200, bytes);
    destroy(blocks, random, bytes);
  }
  // In a bin that is extended once, and as much as may be.
  for (const std::size_t count : {few / 4, few}) {
    for (int round = 0; round < 3; ++round) {
      std::vector<void*> blocks = build(count);
      destroy(blocks, random);
      CHECK(class_of_blocks().blocks_cached >= count);
    }
  }
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("so it goes on where blocks of many sizes die all at once, again and again") {
  tests::Random random(tests::seed());
  struct Block {
    void* address;
    std::size_t size;
  };
  const std::size_t rounds = 1 + tests::steps(40);
  std::size_t failed = 0;
  for (std::size_t round = 0; round < rounds; ++round) {
    // What the thread keeps is much of these, and it is told so while one size makes room for
    // another.
    const std::size_t total = (20 + round % 4 * 4) * c::MiB;
    std::vector<Block> blocks;
    for (std::size_t sum = 0; sum < total; sum += blocks.back().size) {
      const std::size_t bytes = tests::log_uniform(random, 16, 2048);
      blocks.push_back({.address = Heap{}.alloc(layout(bytes)), .size = bytes});
      if (blocks.back().address == nullptr) {
        ++failed;
        blocks.pop_back();
        break;
      }
      tests::fill_words(blocks.back().address, bytes, bytes);
    }
    std::shuffle(blocks.begin(), blocks.end(), random);
    std::size_t spoilt = 0;
    for (const Block& block : blocks) {
      if (!tests::holds_words(block.address, block.size, block.size)) ++spoilt;
      Heap{}.dealloc(block.address, layout(block.size));
    }
    CHECK(spoilt == 0);
  }
  CHECK(failed == 0);
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("what is too much to stay is built again in the order of addresses") {
  tests::Random random(tests::seed());
  for (int round = 0; round < 5; ++round) {
    std::vector<void*> blocks = build(many);
    // The first is of a fresh heap.
    std::size_t backwards = 0;
    for (std::size_t i = 1; i < many; ++i) {
      if (blocks[i] < blocks[i - 1]) ++backwards;
    }
    // From one slab to the next, and those that the bin has at first.
    CHECK(backwards < many * size / c::unit_size + rest);
    destroy(blocks, random);
    CHECK(class_of_blocks().blocks_cached <= rest);
  }
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("it stays while large blocks come and go that find their place without it") {
  tests::Random random(tests::seed());
  // As a vector grows: each is freed when the next one is there.
  const auto grow = [] {
    void* last = nullptr;
    std::size_t last_size = 0;
    for (std::size_t bytes = 50'000; bytes < 1'000'000; bytes += bytes / 2) {
      void* const next = Heap{}.alloc(layout(bytes));
      CHECK(next != nullptr);
      Heap{}.dealloc(last, layout(last_size));
      last = next;
      last_size = bytes;
    }
    Heap{}.dealloc(last, layout(last_size));
  };
  // At first the heap grows, and before it does all goes that the thread keeps.
  for (int round = 0; round < 40; ++round) {
    std::vector<void*> blocks = build(few);
    destroy(blocks, random);
    grow();
    if (round >= 20) CHECK(class_of_blocks().blocks_cached >= few);
  }
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("a number of blocks that goes up and down about where an array ends") {
  tests::Random random(tests::seed());
  std::vector<void*> blocks = build(few);
  std::size_t spoilt = 0;
  // Any boundary is crossed many times in both directions: the block freed last comes back.
  while (!blocks.empty()) {
    for (std::size_t i = 1 + random() % 3; i != 0 && !blocks.empty(); --i) {
      Heap{}.dealloc(blocks.back(), layout(size));
      blocks.pop_back();
    }
    void* const one = Heap{}.alloc(layout(size));
    void* const two = Heap{}.alloc(layout(size));
    if (one == two || one == nullptr || two == nullptr) ++spoilt;
    Heap{}.dealloc(two, layout(size));
    Heap{}.dealloc(one, layout(size));
    if (Heap{}.alloc(layout(size)) != one) ++spoilt;
    Heap{}.dealloc(one, layout(size));
  }
  CHECK(spoilt == 0);
  CHECK(class_of_blocks().blocks_live == 0);
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("a batch of blocks of a few KiB stays, too, as long as a thread may keep so much") {
  tests::Random random(tests::seed());
  constexpr std::size_t larger = 4096;
  constexpr std::size_t count = 512 * 1024 / larger;
  for (int round = 0; round < 3; ++round) {
    std::vector<void*> blocks = build(count, larger);
    destroy(blocks, random, larger);
    CHECK(Heap::stats().classes[c::class_of(larger)].blocks_cached == count);
  }
  for (std::size_t bytes = 1536; bytes <= 8192; bytes += 512) {
    std::vector<void*> blocks = build(count * larger / bytes, bytes);
    destroy(blocks, random, bytes);
    CHECK(Heap::stats().cached <= 2 * c::MiB);
  }
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("what small blocks leave is used for others before the heap grows") {
  tests::Random random(tests::seed());
  std::vector<void*> blocks = build(few);
  destroy(blocks, random);
  CHECK(class_of_blocks().blocks_cached >= few);
  std::vector<void*> others;
  for (int i = 0; i < 1024; ++i) others.push_back(Heap{}.alloc(layout(4096)));
  CHECK(class_of_blocks().blocks_cached < 1024);
  for (void* const ptr : others) Heap{}.dealloc(ptr, layout(4096));
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("a thread that only frees keeps little of what others allocated") {
  tests::Random random(tests::seed());
  // This thread has its cache first, so the other one takes from another shard.
  std::vector<void*> blocks = build(few);
  std::thread([&] {
    Heap{}.dealloc(Heap{}.alloc(layout(64)), layout(64));
    destroy(blocks, random);
    const auto now = class_of_blocks();
    CHECK(now.blocks_live == 0);
    CHECK(now.blocks_cached <= 2048);
  }).join();
  tests::check_nothing_is_held<Heap>();
}

}  // namespace

TEST_CASE("what threads that ended had for containers does not add up") {
  tests::Random random(tests::seed());
  // The thread that takes their caches back has one, too.
  std::vector<void*> own = build(1);
  const auto come_and_go = [&random] {
    std::thread([&random] {
      std::vector<void*> blocks = build(few);
      destroy(blocks, random);
    }).join();
    Heap::purge();
  };
  come_and_go();
  const std::size_t metadata = Heap::stats().metadata;
  for (int i = 0; i < 10; ++i) come_and_go();
  CHECK(Heap::stats().metadata == metadata);
  destroy(own, random);
}

TEST_CASE("what many threads had for containers goes back when they ended") {
  constexpr std::ptrdiff_t threads = 64;
  Heap::purge();
  const std::size_t before = Heap::stats().metadata;
  std::barrier together(threads);
  std::vector<std::thread> all;
  for (std::ptrdiff_t i = 0; i < threads; ++i) {
    all.emplace_back([&together] {
      tests::Random random(tests::seed());
      std::vector<void*> blocks = build(few);
      destroy(blocks, random);
      together.arrive_and_wait();
    });
  }
  for (std::thread& thread : all) thread.join();
  tests::check_nothing_is_held<Heap>();
  // What describes slabs stays, and the page map.
  constexpr std::size_t slabs = threads * (few * size / c::unit_size + 1);
  MESSAGE("KiB: ", before >> 10, ", ", Heap::stats().metadata >> 10);
  CHECK(Heap::stats().metadata - before <= slabs * 512 + 2 * sizeof(c::PageMap::Leaf));
}
