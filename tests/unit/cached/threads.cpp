// Cached and the life of threads: caches that come and go, blocks that change hands, and calls at
// the very end of a thread.

#include "../support/threads.hpp"

#include <doctest/doctest.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <sysalloc/cached.hpp>
#include <sysalloc/system.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "support.hpp"

namespace {

using sysalloc::Layout;

Layout layout(std::size_t size, std::size_t align = 8) {
  return Layout::from_size_align_unchecked(size, align);
}

using tests::Backend;
using tests::Heap;
constexpr Heap heap;

std::atomic<int> faults{0};

// Blocks of several sizes, allocated, checked and freed.
void exercise() {
  constexpr std::array<std::size_t, 7> sizes{8, 24, 200, 3000, 50'000, 300'000, 1 << 21};
  std::array<void*, sizes.size()> blocks{};
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      blocks[i] = heap.alloc(layout(sizes[i]));
      if (blocks[i] == nullptr) {
        ++faults;
        return;
      }
      tests::fill_words(blocks[i], sizes[i], i);
    }
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      if (!tests::holds_words(blocks[i], sizes[i], i)) ++faults;
      heap.dealloc(blocks[i], layout(sizes[i]));
    }
  }
}

// Waits until as many threads as `many` are here.
void meet(std::atomic<std::size_t>& here, std::size_t many) {
  ++here;
  while (here != many) std::this_thread::yield();
}

// Runs `work` in `many` threads, which all end after the last one has done it.
template <class Work>
void at_once(std::size_t many, Work work) {
  std::atomic<std::size_t> ready{0};
  tests::Threads threads;
  for (std::size_t i = 0; i < many; ++i) {
    threads.add([&] {
      work();
      meet(ready, many);
    });
  }
  threads.join();
}

// Everything of threads that are gone is at hand again.
void check_nothing_is_lost() {
  tests::check_nothing_is_held<Heap>();
  CHECK(Heap::stats().mapped == Backend::bytes());
  CHECK(faults == 0);
}

// Serves in its destructor, which may run before and after the heap's own clean-up of the thread.
//
// What it keeps till then is not in it: g++ for Windows frees thread_local objects before it calls
// their destructors. There is one thread at a time that has them.
template <int>
struct AtThreadEnd {
  AtThreadEnd() {
    exercise();
    kept = heap.alloc(layout(100));
  }
  AtThreadEnd(const AtThreadEnd&) = delete;
  AtThreadEnd& operator=(const AtThreadEnd&) = delete;
  ~AtThreadEnd() {
    exercise();
    heap.dealloc(kept, layout(100));
  }
  [[nodiscard]] bool serves() const { return kept != nullptr; }

 private:
  static inline void* kept = nullptr;
};

thread_local AtThreadEnd<1> first;
thread_local AtThreadEnd<2> second;

std::atomic<int> key_calls{0};
pthread_key_t early_key;
pthread_key_t late_key;

// Comes back as often as POSIX lets it, and so outlives every cache that the thread may have. Not
// in the last round of a sanitizer, where it takes its own account of the thread down.
void at_key(pthread_key_t key, void* value) {
  thread_local int calls = 0;
  exercise();
  ++key_calls;
  if (!tests::under_sanitizer || ++calls < 3) pthread_setspecific(key, value);
}

// Whenever a segment goes back to it, another thread takes one and leaves it as it was.
struct Busy {
  static inline std::atomic<bool> on{false};
  static inline std::atomic<int> rounds{0};
  static constexpr std::size_t size = 900'000;

  void* alloc(Layout asked) const noexcept { return sysalloc::System{}.alloc(asked); }
  void dealloc(void* ptr, Layout freed) const noexcept;
};
constexpr sysalloc::Cached<Busy> busy_heap;

void Busy::dealloc(void* ptr, Layout freed) const noexcept {
  sysalloc::System{}.dealloc(ptr, freed);
  if (freed.size() < size || rounds == 100 || !on.exchange(false)) return;
  ++rounds;
  std::thread([] { busy_heap.dealloc(busy_heap.alloc(layout(size)), layout(size)); }).join();
  on = true;
}

}  // namespace

TEST_CASE("destructors of thread_local objects and of pthread keys allocate and free") {
  // One key made before the heap makes its own, one after: on either side of it in each round.
  REQUIRE(pthread_key_create(&early_key, [](void* value) { at_key(early_key, value); }) == 0);
  std::thread(exercise).join();
  REQUIRE(pthread_key_create(&late_key, [](void* value) { at_key(late_key, value); }) == 0);
  for (int i = 0; i < 20; ++i) {
    std::thread([] {
      pthread_setspecific(early_key, &faults);
      pthread_setspecific(late_key, &faults);
      exercise();
      if (!first.serves() || !second.serves()) ++faults;
    }).join();
  }
  // The C library calls them up to PTHREAD_DESTRUCTOR_ITERATIONS times.
  CHECK(key_calls >= 80);
  pthread_key_delete(early_key);
  pthread_key_delete(late_key);
  check_nothing_is_lost();
}

TEST_CASE("a thread that only frees gives back what it freed") {
  std::vector<void*> blocks;
  for (int i = 0; i < 5000; ++i) blocks.push_back(heap.alloc(layout(64)));
  std::thread([&blocks] {
    for (void* const ptr : blocks) heap.dealloc(ptr, layout(64));
  }).join();
  check_nothing_is_lost();
}

TEST_CASE("ten thousand threads come and go, and what they leave does not grow") {
  const std::size_t count = tests::under_valgrind() ? 200 : 10'000;
  constexpr std::size_t together = 10;
  // As many as ever are there at once: each brings a cache, and memory for its shard. How many of
  // those that come later overlap is up to the machine.
  std::atomic<std::size_t> arrived{0};
  tests::Threads first;
  for (std::size_t n = 0; n < together; ++n) {
    first.add([&arrived] {
      heap.dealloc(heap.alloc(layout(512)), layout(512));
      ++arrived;
      while (arrived != together) std::this_thread::yield();
    });
  }
  first.join();
  std::size_t mapped_early = 0;
  std::array<std::atomic<void*>, 256> slots{};
  for (std::size_t i = 0; i < count; i += together) {
    tests::Threads threads;
    for (std::size_t n = 0; n < together; ++n) {
      threads.add([&slots, begin = (i + n) * 31] {
        for (std::size_t k = 0; k < 100; ++k) {
          void* const ptr = heap.alloc(layout(512));
          if (ptr == nullptr) ++faults;
          // Freed by a thread that comes later, of which most have another shard.
          void* const old = slots[(begin + k * 7) % slots.size()].exchange(ptr);
          if (old != nullptr) heap.dealloc(old, layout(512));
        }
      });
    }
    threads.join();
    if (i == count / 10) mapped_early = Heap::stats().mapped;
  }
  const sysalloc::CachedStats stats = Heap::stats();
  CHECK(stats.mapped <= mapped_early + (8 << 20));
  CHECK(stats.live <= slots.size() * 512);
  for (auto& slot : slots) {
    if (void* const ptr = slot.load()) heap.dealloc(ptr, layout(512));
  }
  check_nothing_is_lost();
}

TEST_CASE("one thread allocates and another frees, and the heap stays bounded") {
  std::array<std::atomic<void*>, 128> ring{};
  const std::size_t count = tests::steps(2'000'000);
  std::size_t mapped_early = 0;
  std::size_t mapped_most = 0;
  tests::Threads threads;
  threads.add([&] {
    for (std::size_t i = 0; i < count; ++i) {
      void* const ptr = heap.alloc(layout(100 + i % 1000));
      if (ptr == nullptr) ++faults;
      auto& slot = ring[i % ring.size()];
      while (slot.load(std::memory_order_relaxed) != nullptr) std::this_thread::yield();
      slot.store(ptr, std::memory_order_release);
    }
  });
  threads.add([&] {
    for (std::size_t i = 0; i < count; ++i) {
      auto& slot = ring[i % ring.size()];
      void* ptr = nullptr;
      while ((ptr = slot.load(std::memory_order_acquire)) == nullptr) std::this_thread::yield();
      slot.store(nullptr, std::memory_order_relaxed);
      heap.dealloc(ptr, layout(100 + i % 1000));
      if (i == count / 4) mapped_early = Heap::stats().mapped;
      if (i % (count / 16 + 1) == 0) mapped_most = std::max(mapped_most, Heap::stats().mapped);
    }
  });
  threads.join();
  // Both caches, what is on its way, and no more than that.
  CHECK(mapped_most <= mapped_early + (8 << 20));
  CHECK(mapped_most <= 32 << 20);
  check_nothing_is_lost();
}

TEST_CASE("a thread that sleeps keeps at most 2 MiB") {
  std::atomic<bool> filled{false};
  std::atomic<bool> stop{false};
  std::thread sleeper([&] {
    // It has much in use: a heap that is next to empty is no reason to keep anything.
    std::vector<void*> used(4096);
    for (void*& ptr : used) ptr = heap.alloc(layout(1000));
    // Fills every class of its cache in turn, and at last the small ones: for the memory of large
    // blocks it gives up what it has.
    for (int round = 0; round < 4; ++round) {
      const std::size_t largest = round < 3 ? 1 << 20 : 1 << 10;
      for (std::size_t size = 16; size <= largest; size += size / 8 + 1) {
        std::vector<void*> blocks;
        const std::size_t count = std::max<std::size_t>(20, (256 << 10) / size);
        for (std::size_t i = 0; i < count; ++i) blocks.push_back(heap.alloc(layout(size)));
        for (void* const ptr : blocks) heap.dealloc(ptr, layout(size));
      }
    }
    filled = true;
    while (!stop) std::this_thread::yield();
    for (void* const ptr : used) heap.dealloc(ptr, layout(1000));
  });
  while (!filled) std::this_thread::yield();
  const std::size_t cached = Heap::stats().cached;
  CHECK(cached > 256 << 10);
  CHECK(cached <= 2 << 20);
  stop = true;
  sleeper.join();
  check_nothing_is_lost();
}

TEST_CASE("what many threads allocated is freed by one, in any order") {
  constexpr std::size_t many = 20;
  constexpr std::size_t each = 2000;
  constexpr std::size_t size = 48;
  std::vector<void*> blocks(many * each);
  std::atomic<std::size_t> ready{0};
  tests::Threads threads;
  for (std::size_t i = 0; i < many; ++i) {
    threads.add([&blocks, &ready, i] {
      for (std::size_t k = 0; k < each; ++k) {
        // Neighbours in the array are of different threads.
        void*& block = blocks[k * many + i];
        block = heap.alloc(layout(size));
        if (block == nullptr) ++faults;
        if (block != nullptr) tests::fill_words(block, size, k * many + i);
      }
      // All at once, so that each has a shard to itself.
      meet(ready, many);
    });
  }
  threads.join();
  REQUIRE(faults == 0);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (!tests::holds_words(blocks[i], size, i)) ++faults;
    heap.dealloc(blocks[i], layout(size));
  }
  CHECK(Heap::stats().live == 0);
  check_nothing_is_lost();
}

TEST_CASE("purge gives back the caches of threads that ended") {
  Heap::purge();
  const std::size_t before = Heap::stats().metadata;
  constexpr std::size_t many = 30;
  at_once(many, exercise);
  const std::size_t caches = many * sysalloc::detail::cached::ThreadCache::bytes();
  const std::size_t after = Heap::stats().metadata;
  CHECK(after >= before + caches);
  Heap::purge();
  // What describes slabs stays.
  CHECK(Heap::stats().metadata <= after - caches);
  exercise();
  check_nothing_is_lost();
}

TEST_CASE("of the caches of threads that were many at once most go back by themselves") {
  Heap::purge();
  const std::size_t before = Heap::stats().metadata;
  constexpr std::size_t many = 150;
  at_once(many, [] { heap.dealloc(heap.alloc(layout(100)), layout(100)); });
  constexpr std::size_t cache = sysalloc::detail::cached::ThreadCache::bytes();
  CHECK(Heap::stats().metadata <= before + many / 3 * cache);
  // And as many as are wanted again and again are not made anew each time.
  CHECK(Heap::stats().metadata >= before + 20 * cache);
  exercise();
  check_nothing_is_lost();
}

TEST_CASE("purge and stats from several threads at once, while others allocate") {
  // What describes the heap is there from the first block on.
  heap.dealloc(heap.alloc(layout(16)), layout(16));
  std::atomic<int> working{3};
  tests::Threads threads;
  for (unsigned seed = 0; seed < 3; ++seed) {
    threads.add([seed, &working] {
      tests::Random random(tests::seed() + seed);
      std::vector<std::pair<void*, std::size_t>> blocks;
      for (std::size_t i = 0; i < tests::steps(300'000); ++i) {
        if (blocks.size() < random() % 1000) {
          const std::size_t size = tests::log_uniform(random, 16, 40'000);
          void* const ptr = heap.alloc(layout(size));
          tests::fill_words(ptr, std::min<std::size_t>(size, 64), size);
          blocks.emplace_back(ptr, size);
        } else if (!blocks.empty()) {
          std::swap(blocks[random() % blocks.size()], blocks.back());
          const auto [ptr, size] = blocks.back();
          if (!tests::holds_words(ptr, std::min<std::size_t>(size, 64) / 8 * 8, size)) ++faults;
          heap.dealloc(ptr, layout(size));
          blocks.pop_back();
        }
      }
      for (const auto& [ptr, size] : blocks) heap.dealloc(ptr, layout(size));
      --working;
    });
  }
  for (int i = 0; i < 2; ++i) {
    threads.add([&working] {
      do {
        Heap::purge();
        if (Heap::stats().metadata == 0) ++faults;
      } while (working != 0);
    });
  }
  threads.join();
  check_nothing_is_lost();
}

TEST_CASE("a purge ends while another thread makes work for it all the time") {
  busy_heap.dealloc(busy_heap.alloc(layout(Busy::size)), layout(Busy::size));
  Busy::on = true;
  busy_heap.purge();
  Busy::on = false;
  CHECK(Busy::rounds.load() > 0);
  CHECK(Busy::rounds.load() < 10);
  busy_heap.purge();
  CHECK(busy_heap.stats().mapped == busy_heap.stats().metadata);
}
