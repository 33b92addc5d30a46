// A backend may call the heap above it: to give back what is idle where it has no memory, or
// because what it does itself allocates.

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <utility>
#include <vector>

#include "../support/threads.hpp"
#include "support.hpp"

namespace {

using sysalloc::Layout;
using tests::Backend;
using tests::Heap;

Layout layout(std::size_t size) { return Layout::from_size_align_unchecked(size, 8); }

void churn(std::size_t seed) {
  struct Block {
    void* ptr;
    std::size_t size;
  };
  tests::Random random(tests::seed() + seed);
  std::vector<Block> blocks;
  std::size_t faults = 0;
  const auto drop = [&](Block block) {
    if (!tests::holds_words(block.ptr, block.size, block.size)) ++faults;
    Heap{}.dealloc(block.ptr, layout(block.size));
  };
  for (std::size_t i = 0; i < tests::steps(20'000); ++i) {
    if (blocks.size() < 2000 && random() % 5 < 3) {
      const std::size_t size = tests::log_uniform(random, 1, 200'000);
      void* const ptr = Heap{}.alloc(layout(size));
      if (ptr == nullptr) continue;
      tests::fill_words(ptr, size, size);
      blocks.push_back({ptr, size});
    } else if (!blocks.empty()) {
      std::swap(blocks[random() % blocks.size()], blocks.back());
      drop(blocks.back());
      blocks.pop_back();
    }
  }
  for (const Block& block : blocks) drop(block);
  CHECK(faults == 0);
}

thread_local bool is_hooked = false;
std::atomic<std::size_t> hooked{0};

// While the heap calls its backend, once.
template <auto what>
void hook() {
  if (std::exchange(is_hooked, true)) return;
  ++hooked;
  what();
  is_hooked = false;
}

void allocate_and_free() {
  for (const std::size_t size : {16, 100, 3000, 70'000}) {
    void* const ptr = Heap{}.alloc(layout(size));
    if (ptr != nullptr) Heap{}.dealloc(ptr, layout(size));
  }
}

void purge() { Heap::purge(); }

void run(void (*what)()) {
  hooked = 0;
  Backend::hook = what;
  // So little that most segments are to be had only where others go back.
  Backend::limited.set_limit(std::size_t{48} << 20);
  {
    tests::Threads threads;
    for (std::size_t i = 0; i < 4; ++i) threads.add([i] { churn(i); });
  }
  CHECK(hooked > 0);
  Backend::hook = nullptr;
  tests::check_nothing_is_held<Heap>();
}

}  // namespace

TEST_CASE("a backend that allocates and frees") { run(hook<allocate_and_free>); }

TEST_CASE("a backend that purges") { run(hook<purge>); }
