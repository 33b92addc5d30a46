// System from many threads at once: blocks are handed from one to another, resized and freed there.

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <random>
#include <sysalloc/system.hpp>
#include <thread>
#include <vector>

#include "support/bytes.hpp"
#include "support/threads.hpp"

namespace {

using sysalloc::Layout;
using sysalloc::System;

// A block with the description of itself, so that whoever takes it knows how to free it.
struct Block {
  std::size_t size;
  std::size_t align;
  unsigned seed;

  [[nodiscard]] Layout layout() const { return Layout::from_size_align_unchecked(size, align); }
  [[nodiscard]] bool intact() const {
    return tests::is_aligned(this, align) && tests::holds(this + 1, size - sizeof(Block), seed);
  }
};

Block* make(std::mt19937& random) {
  const std::size_t size = sizeof(Block) + random() % 2000;
  const std::size_t align = alignof(Block) << (random() % 6);
  const auto layout = Layout::from_size_align_unchecked(size, align);
  void* const ptr = random() % 2 == 0 ? System{}.alloc(layout) : System{}.alloc_zeroed(layout);
  if (ptr == nullptr) return nullptr;
  auto* const block = new (ptr) Block{size, align, static_cast<unsigned>(random() % 1000)};
  tests::fill(block + 1, size - sizeof(Block), block->seed);
  return block;
}

Block* resize(Block* block, std::mt19937& random) {
  const Layout old = block->layout();
  const std::size_t size = sizeof(Block) + random() % 4000;
  const std::size_t align = alignof(Block) << (random() % 6);
  void* const ptr = System{}.realloc(block, old, Layout::from_size_align_unchecked(size, align));
  if (ptr == nullptr) return nullptr;
  auto* const resized = static_cast<Block*>(ptr);
  const std::size_t kept = size < old.size() ? size : old.size();
  if (!tests::holds(resized + 1, kept - sizeof(Block), resized->seed)) return nullptr;
  resized->size = size;
  resized->align = align;
  tests::fill(resized + 1, size - sizeof(Block), resized->seed);
  return resized;
}

}  // namespace

TEST_CASE("four threads allocate, resize, exchange and free without harm") {
  std::array<std::atomic<Block*>, 64> slots{};
  std::atomic<std::size_t> faults{0};
  std::atomic<std::size_t> freed{0};
  const auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < 3000; ++i) {
      Block* block = make(random);
      if (block != nullptr && random() % 3 == 0) block = resize(block, random);
      if (block == nullptr) {
        ++faults;
        continue;
      }
      // Acquires what the thread that made the block wrote into it, and releases this one's.
      Block* const taken =
          slots[random() % slots.size()].exchange(block, std::memory_order_acq_rel);
      if (taken == nullptr) continue;
      if (!taken->intact()) ++faults;
      System{}.dealloc(taken, taken->layout());
      ++freed;
    }
  };
  tests::Threads threads;
  for (unsigned seed = 1; seed <= 4; ++seed) threads.add([&work, seed] { work(seed); });
  threads.join();
  std::size_t left = 0;
  for (auto& slot : slots) {
    Block* const block = slot.load();
    if (block == nullptr) continue;
    ++left;
    if (!block->intact()) ++faults;
    System{}.dealloc(block, block->layout());
  }
  CHECK(faults == 0);
  CHECK(freed + left == 4 * 3000);
}
