// The block above 64 KiB that a thread keeps when one comes and goes, and when it does not.

#include <doctest/doctest.h>

#include <cstddef>
#include <sysalloc/cached.hpp>
#include <thread>
#include <vector>

#include "support.hpp"

namespace {

namespace c = sysalloc::detail::cached;
using sysalloc::Layout;
using tests::Heap;

Layout layout(std::size_t bytes) { return Layout::from_size_align_unchecked(bytes, 8); }

constexpr std::size_t KiB = 1024;

// Takes a block, writes all of it, and frees it. Returns where it was.
void* come_and_go(std::size_t size) {
  void* const ptr = Heap{}.alloc(layout(size));
  REQUIRE(ptr != nullptr);
  tests::fill_words(ptr, size, size);
  CHECK(tests::holds_words(ptr, size, size));
  Heap{}.dealloc(ptr, layout(size));
  return ptr;
}

}  // namespace

TEST_CASE("a buffer that comes and goes stays with its thread") {
  for (const std::size_t size : {72 * KiB, 100 * KiB, 256 * KiB, 600 * KiB, 1024 * KiB}) {
    CAPTURE(size);
    CHECK(come_and_go(size) != nullptr);
    // Not the first of its class: it may be a vector that grows.
    CHECK(Heap::stats().cached == 0);
    void* const ptr = come_and_go(size);
    const std::size_t kept = Heap{}.usable_size(ptr);
    CHECK(kept >= size);
    CHECK(Heap::stats().cached == kept);
    CHECK(Heap::stats().live == 0);
    for (int i = 0; i < 10; ++i) {
      void* const again = Heap{}.alloc(layout(size));
      CHECK(again == ptr);
      CHECK(Heap::stats().cached == 0);
      CHECK(Heap::stats().live == kept);
      Heap{}.dealloc(again, layout(size));
    }
    // Of several only one.
    std::vector<void*> blocks;
    for (int i = 0; i < 4; ++i) blocks.push_back(Heap{}.alloc(layout(size)));
    for (void* const block : blocks) Heap{}.dealloc(block, layout(size));
    CHECK(Heap::stats().cached == kept);
    tests::check_nothing_is_held<Heap>();
  }
}

TEST_CASE("of vectors that grow nothing stays") {
  for (int round = 0; round < 10; ++round) {
    for (std::size_t size = 72 * KiB; size <= 1024 * KiB; size *= 2) {
      come_and_go(size);
      CHECK(Heap::stats().cached == 0);
    }
  }
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("of many of one class, as long as none is freed, nothing stays") {
  constexpr std::size_t size = 100 * KiB;
  std::vector<void*> blocks;
  for (int i = 0; i < 20; ++i) blocks.push_back(Heap{}.alloc(layout(size)));
  for (void* const block : blocks) {
    Heap{}.dealloc(block, layout(size));
    CHECK(Heap::stats().cached == 0);
  }
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("two that come and go together stay both") {
  void* first = nullptr;
  void* second = nullptr;
  for (int i = 0; i < 10; ++i) {
    void* const one = Heap{}.alloc(layout(128 * KiB));
    void* const other = Heap{}.alloc(layout(320 * KiB));
    // At first each is asked for where the other was freed last.
    if (i > 2) {
      CHECK(one == first);
      CHECK(other == second);
    }
    first = one;
    second = other;
    Heap{}.dealloc(other, layout(320 * KiB));
    Heap{}.dealloc(one, layout(128 * KiB));
    if (i > 2) CHECK(Heap::stats().cached == 448 * KiB);
  }
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("it goes before the heap grows") {
  constexpr std::size_t size = 256 * KiB;
  constexpr std::size_t part = 64 * KiB;
  // A heap so large that it does not look for what else lies idle with each bit that it grows.
  std::vector<void*> blocks;
  for (int i = 0; i < 1000; ++i) blocks.push_back(Heap{}.alloc(layout(part)));
  for (int round = 0; round < 4; ++round) {
    come_and_go(size);
    const auto* const kept = static_cast<std::byte*>(come_and_go(size));
    CHECK(Heap::stats().cached == size);
    for (std::size_t i = 0; i < size / part; ++i) {
      auto* const block = static_cast<std::byte*>(Heap{}.alloc(layout(part)));
      const bool there = block >= kept && block < kept + size;
      CHECK(there);
      blocks.push_back(block);
    }
    CHECK(Heap::stats().cached == 0);
  }
  for (void* const block : blocks) Heap{}.dealloc(block, layout(part));
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE(
    "it has room whatever else the thread caches, which stays within the bound all the same") {
  // Of every class up to 16 KiB as much as the cache takes, so that little of it is left.
  const auto fill = [] {
    for (std::size_t size = 16; size <= 16 * KiB; size += size < 128 ? 16 : size / 8) {
      std::vector<void*> blocks(2 * c::cache_max_bytes / size + 2);
      for (void*& block : blocks) block = Heap{}.alloc(layout(size));
      for (void* const block : blocks) Heap{}.dealloc(block, layout(size));
    }
  };
  constexpr std::size_t size = 256 * KiB;
  constexpr std::size_t most = 1024 * KiB;
  // Both once before: when the heap grows for them, much of the cache goes.
  come_and_go(size);
  come_and_go(most);
  fill();
  fill();
  CHECK(Heap::stats().cached <= 2048 * KiB);
  // The others do not give way to what is larger than a few of them,
  for (int i = 0; i < 4; ++i) come_and_go(most);
  CHECK(Heap::stats().classes[c::class_count - 1].size == most);
  CHECK(Heap::stats().classes[c::class_count - 1].blocks_cached == 0);
  // but to this.
  come_and_go(size);
  come_and_go(size);
  CHECK(Heap::stats().classes[c::class_of(size)].blocks_cached == 1);
  CHECK(Heap::stats().cached <= 2048 * KiB);
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("a thread that ends gives it up, and what another one allocated may be it") {
  constexpr std::size_t size = 200 * KiB;
  std::vector<void*> blocks;
  for (int i = 0; i < 4; ++i) blocks.push_back(Heap{}.alloc(layout(size)));
  std::thread([&blocks] {
    come_and_go(size);
    come_and_go(size);
    for (void* const block : blocks) Heap{}.dealloc(block, layout(size));
    CHECK(Heap::stats().cached == Heap{}.usable_size(blocks.back()));
    CHECK(Heap{}.alloc(layout(size)) == blocks.back());
    Heap{}.dealloc(blocks.back(), layout(size));
  }).join();
  CHECK(Heap::stats().cached == 0);
  CHECK(Heap::stats().live == 0);
  tests::check_nothing_is_held<Heap>();
}
