// How often Cached calls what costs: locks, and the C library's look through all that it has.
//
// The program has its own of two functions of the C library, which count.

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdlib>
#include <sysalloc/cached.hpp>
#include <thread>
#include <vector>

#include "support.hpp"

#if defined(__GLIBC__)
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#endif

namespace {

std::atomic<std::size_t> locked{0};
std::atomic<std::size_t> trimmed{0};

}  // namespace

#if defined(__GLIBC__)

extern "C" int malloc_trim(std::size_t /*pad*/) noexcept {
  ++trimmed;
  return 0;
}

// Not where a sanitizer has it, too.
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) && !defined(__clang__)
extern "C" int pthread_mutex_trylock(pthread_mutex_t* mutex) noexcept {
  using Function = int(pthread_mutex_t*);
  static std::atomic<Function*> next{nullptr};
  Function* function = next.load(std::memory_order_relaxed);
  if (function == nullptr) {
    function = reinterpret_cast<Function*>(dlsym(RTLD_NEXT, "pthread_mutex_trylock"));
    next.store(function, std::memory_order_relaxed);
  }
  locked.fetch_add(1, std::memory_order_relaxed);
  return function(mutex);
}
#endif

#endif

namespace {

using sysalloc::Layout;

Layout layout(std::size_t size) { return Layout::from_size_align_unchecked(size, 8); }

bool can_count() {
  if (tests::plain_malloc()) {
    const std::size_t before = locked;
    tests::Heap::purge();
    if (locked != before) return true;
  }
  tests::not_checked("how often locks are taken", "the functions of the C library are not counted");
  return false;
}

// How many locks it takes to free nine of ten blocks of a heap in random order.
template <class Heap>
std::size_t locks_to_free() {
  constexpr std::size_t size = 256;
  std::vector<void*> blocks((std::size_t{256} << 20) / size);
  for (void*& block : blocks) block = Heap{}.alloc(layout(size));
  CHECK(std::ranges::count(blocks, nullptr) == 0);
  tests::Random random(tests::seed());
  std::shuffle(blocks.begin(), blocks.end(), random);
  const std::size_t most = blocks.size() / 10 * 9;
  const std::size_t before = locked;
  for (std::size_t i = 0; i < most; ++i) Heap{}.dealloc(blocks[i], layout(size));
  const std::size_t locks = locked - before;
  for (std::size_t i = most; i < blocks.size(); ++i) Heap{}.dealloc(blocks[i], layout(size));
  tests::check_nothing_is_held<Heap>();
  return locks;
}

}  // namespace

TEST_CASE(
    "who frees at random looks through its slabs no more often once there were many threads") {
  if (!can_count()) return;
  const std::size_t alone = locks_to_free<tests::Heap>();
  struct Other : tests::Backend {};
  using Heap = sysalloc::Cached<Other>;
  constexpr std::ptrdiff_t many = 64;
  std::barrier together(many);
  std::vector<std::thread> threads;
  for (std::ptrdiff_t i = 0; i < many; ++i) {
    threads.emplace_back([&together] {
      void* const block = Heap{}.alloc(layout(100));
      together.arrive_and_wait();
      Heap{}.dealloc(block, layout(100));
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::size_t after = locks_to_free<Heap>();
  MESSAGE("locks: ", alone, ", after many threads: ", after);
  CHECK(alone > 0);
  CHECK(after <= 2 * alone);
}

TEST_CASE("a huge buffer that comes and goes does not have the C library look through its heap") {
#if defined(__GLIBC__)
  constexpr tests::Heap heap;
  if (tests::under_valgrind()) {
    tests::not_checked("what is trimmed", "valgrind has a malloc of its own");
    return;
  }
  constexpr std::size_t huge = std::size_t{72} << 20;
  const std::size_t before = trimmed;
  for (int i = 0; i < 10; ++i) {
    void* const buffer = heap.alloc(layout(huge));
    REQUIRE(buffer != nullptr);
    heap.dealloc(buffer, layout(huge));
  }
  CHECK(trimmed == before);
  // Of smaller ones it keeps some, until much of it is free.
  constexpr std::size_t size = std::size_t{2} << 20;
  std::vector<void*> blocks(64);
  for (void*& block : blocks) block = heap.alloc(layout(size));
  CHECK(std::ranges::count(blocks, nullptr) == 0);
  for (void* const block : blocks) heap.dealloc(block, layout(size));
  CHECK(trimmed > before);
#else
  tests::not_checked("what is trimmed", "the C library has no malloc_trim");
#endif
}
