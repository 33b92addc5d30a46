// Blocks that are freed without their size wait in a short queue first.

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

constexpr std::size_t align = 8;
Layout layout(std::size_t size) { return Layout::from_size_align_unchecked(size, align); }

}  // namespace

TEST_CASE("a block that waits is in the thread's cache, not live, and purge gives it back") {
  for (int round = 0; round < 10; ++round) {
    void* const block = Heap{}.alloc(layout(100));
    REQUIRE(block != nullptr);
    const std::size_t cached = Heap::stats().cached;
    Heap{}.dealloc_unsized(block, align);
    const sysalloc::CachedStats stats = Heap::stats();
    CHECK(stats.live == 0);
    CHECK(stats.cached == cached + 112);
  }
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("every block is handed out again, and none twice") {
  tests::Random random(tests::seed());
  struct Block {
    std::byte* ptr;
    std::size_t size;
  };
  std::vector<Block> blocks;
  std::size_t spoilt = 0;
  std::size_t mapped = 0;
  for (std::size_t step = 0; step < tests::steps(200'000); ++step) {
    if (blocks.size() < 40) {
      const std::size_t size = tests::log_uniform(random, 16, 100'000);
      auto* const ptr = static_cast<std::byte*>(Heap{}.alloc(layout(size)));
      REQUIRE(ptr != nullptr);
      blocks.push_back({ptr, size});
      tests::fill_words(ptr, size, reinterpret_cast<std::size_t>(ptr) + size);
    } else {
      Block& block = blocks[random() % blocks.size()];
      const std::size_t mark = reinterpret_cast<std::size_t>(block.ptr) + block.size;
      if (!tests::holds_words(block.ptr, block.size, mark)) ++spoilt;
      // Now and then null, which frees nothing, and one with its size.
      if (random() % 16 == 0) Heap{}.dealloc_unsized(nullptr, align);
      if (random() % 16 == 0) {
        Heap{}.dealloc(block.ptr, layout(block.size));
      } else {
        Heap{}.dealloc_unsized(block.ptr, align);
      }
      block = blocks.back();
      blocks.pop_back();
    }
    if (step == tests::steps(200'000) / 2) mapped = Heap::stats().mapped;
  }
  CHECK(spoilt == 0);
  CHECK(Heap::stats().mapped <= mapped + (8 << 20));
  for (const Block& block : blocks) Heap{}.dealloc_unsized(block.ptr, align);
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("larger blocks do not wait") {
  // Not cached by threads either, as long as the class changes: so they are free at once.
  for (std::size_t i = 0; i < 2 * c::Deferred::count; ++i) {
    const std::size_t size = (1 + i % 2) * c::cached_max_size + 1;
    Heap{}.dealloc_unsized(Heap{}.alloc(layout(size)), align);
    CHECK(Heap::stats().live == 0);
    CHECK(Heap::stats().cached == 0);
  }
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("a thread that ends leaves no block that waits") {
  for (int i = 0; i < 10; ++i) {
    std::thread([] {
      for (const std::size_t size : {16, 200, 3000}) {
        Heap{}.dealloc_unsized(Heap{}.alloc(layout(size)), align);
      }
    }).join();
    CHECK(Heap::stats().live == 0);
    CHECK(Heap::stats().cached == 0);
  }
  tests::check_nothing_is_held<Heap>();
}
