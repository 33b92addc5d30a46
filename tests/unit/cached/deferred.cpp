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
  using H = Heap<0>;
  for (int round = 0; round < 10; ++round) {
    void* const block = H{}.alloc(layout(100));
    REQUIRE(block != nullptr);
    const std::size_t cached = H::stats().cached;
    H{}.dealloc_unsized(block, align);
    const sysalloc::CachedStats stats = H::stats();
    CHECK(stats.live == 0);
    CHECK(stats.cached == cached + 112);
  }
  tests::check_nothing_is_held<H>();
}

TEST_CASE("every block is handed out again, and none twice") {
  using H = Heap<1>;
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
      auto* const ptr = static_cast<std::byte*>(H{}.alloc(layout(size)));
      REQUIRE(ptr != nullptr);
      blocks.push_back({ptr, size});
      tests::fill_words(ptr, size, reinterpret_cast<std::size_t>(ptr) + size);
    } else {
      Block& block = blocks[random() % blocks.size()];
      const std::size_t mark = reinterpret_cast<std::size_t>(block.ptr) + block.size;
      if (!tests::holds_words(block.ptr, block.size, mark)) ++spoilt;
      // Now and then null, which frees nothing, and one with its size.
      if (random() % 16 == 0) H{}.dealloc_unsized(nullptr, align);
      if (random() % 16 == 0) {
        H{}.dealloc(block.ptr, layout(block.size));
      } else {
        H{}.dealloc_unsized(block.ptr, align);
      }
      block = blocks.back();
      blocks.pop_back();
    }
    if (step == tests::steps(200'000) / 2) mapped = H::stats().mapped;
  }
  CHECK(spoilt == 0);
  CHECK(H::stats().mapped <= mapped + (8 << 20));
  for (const Block& block : blocks) H{}.dealloc_unsized(block.ptr, align);
  tests::check_nothing_is_held<H>();
}

TEST_CASE("larger blocks do not wait") {
  using H = Heap<2>;
  // Not cached by threads either, as long as the class changes: so they are free at once.
  for (std::size_t i = 0; i < 2 * c::Deferred::count; ++i) {
    const std::size_t size = (1 + i % 2) * c::cached_max_size + 1;
    H{}.dealloc_unsized(H{}.alloc(layout(size)), align);
    CHECK(H::stats().live == 0);
    CHECK(H::stats().cached == 0);
  }
  tests::check_nothing_is_held<H>();
}

TEST_CASE("a thread that ends leaves no block that waits") {
  using H = Heap<3>;
  for (int i = 0; i < 10; ++i) {
    std::thread([] {
      for (const std::size_t size : {16, 200, 3000}) {
        H{}.dealloc_unsized(H{}.alloc(layout(size)), align);
      }
    }).join();
    CHECK(H::stats().live == 0);
    CHECK(H::stats().cached == 0);
  }
  tests::check_nothing_is_held<H>();
}
