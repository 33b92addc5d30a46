// Cached against a model: several threads allocate, resize, exchange and free blocks of all sizes
// and alignments, and every byte of every block is checked.
//
// SYSALLOC_TEST_SEED=N repeats a run as far as the order of the threads allows.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <sysalloc/cached.hpp>
#include <vector>

#include "../support/bytes.hpp"
#include "../support/threads.hpp"
#include "support.hpp"

namespace {

using sysalloc::Layout;
using tests::Random;

// The heap never touches this: it stands beside the block.
struct Block {
  void* ptr;
  Layout layout;
  std::uint64_t seed;
};

constexpr std::size_t thread_count = 4;

std::size_t random_size(Random& random) {
  const std::uint64_t kind = random() % 1000;
  if (kind < 900) return 1 + random() % 1024;
  if (kind < 990) return tests::log_uniform(random, 1024, 64 * 1024);
  if (kind < 999) return tests::log_uniform(random, 64 * 1024, 1.2 * 1024 * 1024);
  return tests::log_uniform(random, 1 << 20, 4 << 20);
}

std::size_t random_align(Random& random) {
  const std::uint64_t kind = random() % 100000;
  if (kind < 70000) return std::size_t{1} << random() % 5;
  if (kind < 99900) return std::size_t{1} << random() % 13;
  if (kind < 99999) return std::size_t{1} << random() % 22;
  const std::size_t largest = tests::largest_align();
  // A checker's own records of so much address space cost seconds.
  return tests::under_sanitizer || tests::under_valgrind() ? std::size_t{1} << 22
                                                           : largest >> random() % 8;
}

Layout random_layout(Random& random) {
  return Layout::from_size_align_unchecked(random_size(random), random_align(random));
}

template <class Heap>
class Worker {
 public:
  using Slots = std::array<std::atomic<Block*>, 64>;

  Worker(Slots& slots, std::uint64_t seed) : random_(seed), slots_(slots) {}

  [[nodiscard]] const char* fault() const { return fault_; }

  // Returns early at the first fault.
  void run(std::size_t steps) {
    std::size_t target = 100;
    for (std::size_t i = 0; i < steps && fault_ == nullptr; ++i) {
      if (random_() % 4096 == 0) target = tests::log_uniform(random_, 1, 3000);
      if (random_() % 65536 == 0) heap_.purge();
      const std::uint64_t what = random_() % 16;
      if (what < 2 && !blocks_.empty()) {
        exchange();
      } else if (what < 4 && !blocks_.empty()) {
        resize();
      } else if (blocks_.size() < target) {
        make();
      } else {
        destroy(take());
        if (blocks_.size() > target && !blocks_.empty()) destroy(take());
      }
    }
    while (!blocks_.empty()) destroy(take());
  }

  void destroy(const Block& block) {
    check(block);
    if (random_() % 4 != 0) {
      heap_.dealloc(block.ptr, block.layout);
    } else {
      heap_.dealloc_unsized(block.ptr, block.layout.align());
    }
  }

 private:
  void make() {
    const Layout layout = random_layout(random_);
    const bool zeroed = random_() % 8 == 0;
    void* const ptr = zeroed ? heap_.alloc_zeroed(layout) : heap_.alloc(layout);
    if (ptr == nullptr) {
      fail("no memory");
      return;
    }
    if (zeroed && !tests::is_zero(ptr, layout.size())) fail("alloc_zeroed is not zero");
    add({.ptr = ptr, .layout = layout, .seed = 0});
  }

  void resize() {
    Block block = take();
    check(block);
    Layout layout = random_layout(random_);
    void* ptr = nullptr;
    if (random_() % 2 == 0) {
      layout = Layout::from_size_align_unchecked(layout.size(), block.layout.align());
      ptr = heap_.realloc(block.ptr, block.layout, layout.size());
    } else {
      ptr = heap_.realloc(block.ptr, block.layout, layout);
    }
    if (ptr == nullptr) {
      fail("no memory");
      return;
    }
    const std::size_t kept = std::min(layout.size(), block.layout.size()) / 8 * 8;
    if (!tests::holds_words(ptr, kept, block.seed)) fail("realloc lost the contents");
    add({.ptr = ptr, .layout = layout, .seed = 0});
  }

  // Leaves a block to whoever comes by, and takes what was left there.
  void exchange() {
    auto* const gift = new Block(take());
    Block* const got = slots_[random_() % slots_.size()].exchange(gift, std::memory_order_acq_rel);
    if (got == nullptr) return;
    check(*got);
    blocks_.push_back(*got);
    delete got;
  }

  void add(Block block) {
    if (!tests::is_aligned(block.ptr, block.layout.align())) fail("not aligned");
    // In bypass the backend says what it holds, and a block of its own may hold no more.
    if (heap_.usable_size(block.ptr) < block.layout.size()) fail("usable_size is too small");
    block.seed = random_();
    tests::fill_words(block.ptr, block.layout.size(), block.seed);
    blocks_.push_back(block);
  }

  Block take() {
    const std::size_t index = random_() % blocks_.size();
    const Block block = blocks_[index];
    blocks_[index] = blocks_.back();
    blocks_.pop_back();
    return block;
  }

  void check(const Block& block) {
    if (!tests::holds_words(block.ptr, block.layout.size(), block.seed)) fail("contents changed");
  }

  void fail(const char* fault) {
    if (fault_ == nullptr) fault_ = fault;
  }

  Random random_;
  Slots& slots_;
  Heap heap_;
  std::vector<Block> blocks_;
  const char* fault_ = nullptr;
};

template <class Heap>
void run() {
  const std::uint64_t seed = tests::seed();
  INFO("SYSALLOC_TEST_SEED=" << seed);
  typename Worker<Heap>::Slots slots{};
  std::array<const char*, thread_count> faults{};
  {
    tests::Threads threads;
    for (std::size_t i = 0; i < thread_count; ++i) {
      threads.add([&slots, &faults, seed, i] {
        Worker<Heap> worker(slots, seed * 100 + i);
        worker.run(tests::steps(500'000));
        faults[i] = worker.fault();
      });
    }
  }
  Worker<Heap> last(slots, seed);
  for (auto& slot : slots) {
    if (const Block* const block = slot.load()) {
      last.destroy(*block);
      delete block;
    }
  }
  CHECK(last.fault() == nullptr);
  for (const char* const fault : faults) {
    CHECK_MESSAGE(fault == nullptr, (fault == nullptr ? "" : fault));
  }
}

}  // namespace

TEST_CASE("over System") { run<sysalloc::Cached<>>(); }

TEST_CASE("over a backend that cannot free without a size, and nothing is left behind") {
  using tests::Backend;
  using Heap = sysalloc::Cached<tests::Backend>;
  run<Heap>();
  CHECK(Heap::stats().live == 0);
  Heap::purge();
  const sysalloc::CachedStats stats = Heap::stats();
  CHECK(stats.live == 0);
  CHECK(stats.cached == 0);
  CHECK(stats.free == 0);
  CHECK(stats.dirty == 0);
  CHECK(stats.mapped == stats.metadata);
  CHECK(Backend::bytes() == stats.mapped);
  for (const auto& c : stats.classes) CHECK(c.slabs == 0);
  CHECK(stats.wrong_sizes == 0);
}
