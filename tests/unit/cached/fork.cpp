// The child of a fork taken while other threads allocate: no lock is left locked in it, and it can
// allocate and free much, its parent's blocks too.

#include <doctest/doctest.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <sysalloc/cached.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "../support/threads.hpp"
#include "support.hpp"

namespace {

using sysalloc::Layout;

Layout layout(std::size_t size) { return Layout::from_size_align_unchecked(size, 8); }

using tests::Heap;
constexpr Heap heap;

using Blocks = std::vector<std::pair<void*, std::size_t>>;

// The vector may not allocate in the child: it is malloc's, of which the sanitizers' are not safe
// there.
[[maybe_unused]] bool fill(Blocks& blocks, tests::Random& random) {
  for (auto& [ptr, size] : blocks) {
    size = tests::log_uniform(random, 16, 60'000);
    ptr = heap.alloc(layout(size));
    if (ptr == nullptr) return false;
    tests::fill_words(ptr, size, size);
  }
  return true;
}

[[maybe_unused]] bool free_all(const Blocks& blocks) {
  bool intact = true;
  for (const auto& [ptr, size] : blocks) {
    intact = intact && tests::holds_words(ptr, size, size);
    heap.dealloc(ptr, layout(size));
  }
  return intact;
}

// Takes `children`, each of which purges the heap: that ends it if it finds a block twice or with
// the class of another. How many of them end so, or have something left that is not `well`.
template <class Well>
[[maybe_unused]] int children_that_end_badly(std::size_t children, Well well) {
  int faults = 0;
  for (; children != 0; --children) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(120);
      tests::leaks_are_expected();
      Heap::purge();
      _exit(well(Heap::stats()) ? 0 : 1);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) ++faults;
  }
  return faults;
}

// As above, of those that lose more than `most` bytes: what was on its way at that instant is lost,
// and counts as live.
[[maybe_unused]] int children_that_lose_more(std::size_t count, std::size_t most) {
  return children_that_end_badly(tests::emulated() ? 100 : tests::steps(count),
                                 [most](const sysalloc::CachedStats& stats) {
                                   return stats.cached == 0 && stats.live <= most;
                                 });
}

void check_ends_well(pid_t child) {
  int status = -1;
  CHECK(child > 0);
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

// A handler that is registered before the heap's own: before the fork it runs after that, and after
// the fork before it.
std::atomic<bool> handler_allocates{false};
std::atomic<int> handled{0};
void allocate_in_handler() {
  if (!handler_allocates) return;
  for (const std::size_t size : {32, 3000, 40'000, 300'000, 2'000'000}) {
    std::array<void*, 200> blocks{};
    for (void*& block : blocks) block = heap.alloc(layout(size));
    for (void* const block : blocks) heap.dealloc(block, layout(size));
  }
  ++handled;
}
[[gnu::constructor(101)]] void register_first() {
  pthread_atfork(allocate_in_handler, allocate_in_handler, allocate_in_handler);
}

// The thread that gives memory back waits in the system while this is set, in the call after so
// many.
std::atomic<bool> held_in_madvise{false};
std::atomic<int> calls_before{0};
std::atomic<int> in_madvise{0};

}  // namespace

// In the place of the C library's.
extern "C" int madvise(void* address, std::size_t size, int advice) noexcept {
  if (held_in_madvise) {
    if (++in_madvise > calls_before) {
      while (held_in_madvise) std::this_thread::yield();
    }
  }
  return static_cast<int>(syscall(SYS_madvise, address, size, advice));
}

TEST_CASE("large blocks that wait for the next do so in a child, too") {
#if defined(TESTS_UNDER_SANITIZER)
  tests::not_checked("fork", "g++ 12's sanitizers do not take all of their own locks at a fork");
#else
  if (tests::emulated()) {
    tests::not_checked("fork", "qemu hangs in a child taken while a thread maps and unmaps memory");
    return;
  }
  const auto churn = [](int rounds) {
    const Layout each = layout(std::size_t{3} << 20);
    std::array<void*, 8> blocks{};
    for (int round = 0; round < rounds; ++round) {
      for (void*& block : blocks) block = heap.alloc(each);
      for (void* const block : blocks) heap.dealloc(block, each);
    }
  };
  std::atomic<bool> stops{false};
  std::thread other([&] {
    while (!stops) churn(1);
  });
  churn(10);
  const pid_t child = fork();
  if (child == 0) {
    alarm(120);
    tests::leaks_are_expected();
    churn(10);
    Heap::purge();
    _exit(Heap::stats().dirty == 0 ? 0 : 1);
  }
  stops = true;
  other.join();
  check_ends_well(child);
#endif
}

TEST_CASE("what a thread was giving back to the system is not lost to a child") {
  // All but the first of every 64 blocks go: each slab has pages to give back, and none is empty.
  constexpr std::size_t size = 1024;
  std::vector<void*> blocks(64 * 200);
  for (void*& block : blocks) block = heap.alloc(layout(size));
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (i % 64 != 0) heap.dealloc(blocks[i], layout(size));
  }
  // Not the first call, so that there are slabs that it is done with.
  calls_before = 20;
  in_madvise = 0;
  held_in_madvise = true;
  std::atomic<bool> purged{false};
  std::thread other([&] {
    Heap::purge();
    purged = true;
  });
  while (in_madvise <= 20 && !purged) std::this_thread::yield();
  if (purged) {
    tests::not_checked("a fork while pages are given back", "none are here");
  }
  const std::size_t mapped = Heap::stats().mapped;
  const pid_t child = fork();
  if (child == 0) {
    alarm(120);
    tests::leaks_are_expected();
    held_in_madvise = false;
    // They find room where the others were.
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      if (i % 64 != 0) blocks[i] = heap.alloc(layout(size));
    }
    bool good = Heap::stats().mapped <= mapped;
    for (void* const block : blocks) heap.dealloc(block, layout(size));
    Heap::purge();
    good = good && Heap::stats().live == 0 && Heap::stats().mapped == Heap::stats().metadata;
    _exit(good ? 0 : 1);
  }
  held_in_madvise = false;
  other.join();
  check_ends_well(child);
  for (std::size_t i = 0; i < blocks.size(); i += 64) heap.dealloc(blocks[i], layout(size));
  CHECK(Heap::stats().live == 0);
}

TEST_CASE("slabs that a thread was taking apart are not lost to a child") {
  // Each has a slab of a unit to itself, and ten segments are full of them.
  constexpr std::size_t size = 60 << 10;
  std::vector<void*> blocks(640);
  for (void*& block : blocks) block = heap.alloc(layout(size));
  const auto mapped = [] { return Heap::stats().mapped - Heap::stats().metadata; };
  const std::size_t before = mapped();
  calls_before = 0;
  in_madvise = 0;
  held_in_madvise = true;
  std::atomic<bool> freed{false};
  std::thread other([&] {
    for (void* const block : blocks) heap.dealloc(block, layout(size));
    freed = true;
  });
  while (in_madvise == 0 && !freed) std::this_thread::yield();
  const pid_t child = fork();
  if (child == 0) {
    alarm(120);
    tests::leaks_are_expected();
    held_in_madvise = false;
    for (std::size_t left = blocks.size() - Heap::stats().live / size; left != 0; --left) {
      if (heap.alloc(layout(size)) == nullptr) _exit(2);
    }
    _exit(mapped() <= before ? 0 : 1);
  }
  CHECK(in_madvise != 0);
  held_in_madvise = false;
  other.join();
  check_ends_well(child);
  tests::check_nothing_is_held<Heap>();
}

namespace {

void fork_with_handler() {
  alarm(120);
  handled = 0;
  handler_allocates = true;
  const pid_t child = fork();
  handler_allocates = false;
  if (child == 0) {
    tests::leaks_are_expected();
    _exit(handled == 2 ? 0 : 1);
  }
  alarm(0);
  CHECK(handled == 2);
  check_ends_well(child);
}

}  // namespace

TEST_CASE("handlers of a fork allocate") {
  // The heap registers its own at its first use, which here is not in the middle of a fork.
  heap.dealloc(heap.alloc(layout(8)), layout(8));
  fork_with_handler();
  // In a thread that has no cache before, which brings one more shard into use while the locks of
  // the others are held: ThreadSanitizer sees whether that of the new one is unlocked with these.
  std::thread(fork_with_handler).join();
}

TEST_CASE("what threads that a child does not have had cached is not lost to it") {
  // More than a bin holds without an extended capacity.
  constexpr std::size_t count = 5000;
  std::atomic<bool> filled{false};
  std::atomic<bool> stop{false};
  std::thread other([&] {
    std::vector<void*> blocks(count);
    for (void*& block : blocks) block = heap.alloc(layout(48));
    for (void* const block : blocks) heap.dealloc(block, layout(48));
    filled = true;
    while (!stop) std::this_thread::yield();
  });
  while (!filled) std::this_thread::yield();
  const std::size_t cached = Heap::stats().cached;
  CHECK(cached >= count * 48);
  const pid_t child = fork();
  if (child == 0) {
    alarm(120);
    tests::leaks_are_expected();
    const auto inherited = Heap::stats();
    Heap::purge();
    const auto purged = Heap::stats();
    const bool good = inherited.cached == cached && inherited.live == 0 && purged.cached == 0 &&
                      purged.live == 0 && purged.mapped == purged.metadata;
    _exit(good ? 0 : 1);
  }
  check_ends_well(child);
  stop = true;
  other.join();
}

TEST_CASE("a child taken while another thread's bins lose their arrays and get others") {
#if defined(__SANITIZE_ADDRESS__)
  tests::not_checked("fork", "g++ 12's AddressSanitizer does not take its own locks at a fork");
#else
  if (tests::emulated()) {
    tests::not_checked("fork", "qemu hangs in a child taken while a thread maps and unmaps memory");
    return;
  }
  namespace c = sysalloc::detail::cached;
  // One class whose usual capacity is a short array, and one that is more.
  constexpr std::size_t count = 64;
  static_assert(c::class_info[c::class_of_slow(1024)].cache_max == c::few_slots);
  // So that no memory goes back to ThreadSanitizer, of which a lock may be held at the fork then.
  void* const stays = heap.alloc(layout(100'000));
  const std::size_t most = 4 * count * 1024 + heap.usable_size(stays);
  std::atomic<bool> ready{false};
  std::atomic<bool> stop{false};
  std::thread other([&] {
    std::array<void*, count> blocks{};
    while (!stop) {
      for (const std::size_t size : {32, 1024}) {
        for (void*& block : blocks) block = heap.alloc(layout(size));
        for (void* const block : blocks) heap.dealloc(block, layout(size));
      }
      ready = true;
      // Takes the arrays of the second, with an extended capacity.
      Heap::purge();
    }
  });
  while (!ready) std::this_thread::yield();
  const int faults = children_that_lose_more(1500, most);
  stop = true;
  other.join();
  heap.dealloc(stays, layout(100'000));
  CHECK(faults == 0);
#endif
}

TEST_CASE("a child taken while another thread frees without sizes") {
#if defined(__SANITIZE_ADDRESS__)
  tests::not_checked("fork", "g++ 12's AddressSanitizer does not take its own locks at a fork");
#else
  std::atomic<bool> ready{false};
  std::atomic<bool> stop{false};
  std::thread other([&] {
    tests::Random random(tests::seed());
    while (!stop) {
      heap.dealloc_unsized(heap.alloc(layout(16 + random() % 2000)), 8);
      ready = true;
    }
  });
  while (!ready) std::this_thread::yield();
  // At most one refill is on its way.
  const int faults = children_that_lose_more(3000, std::size_t{256} << 10);
  stop = true;
  other.join();
  CHECK(faults == 0);
#endif
}

TEST_CASE("children of a program with many busy threads") {
#if defined(__SANITIZE_ADDRESS__)
  tests::not_checked("fork", "g++ 12's AddressSanitizer does not take its own locks at a fork");
#else
  std::atomic<bool> stop{false};
  std::atomic<int> faults{0};
  tests::Threads threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.add([&, seed] {
      tests::Random random(tests::seed() + seed);
      Blocks blocks(100);
      while (!stop) {
        if (!fill(blocks, random) || !free_all(blocks)) ++faults;
        if (random() % 16 == 0) Heap::purge();
      }
    });
  }
  threads.add([&] {
    tests::Random random(tests::seed() + 99);
    Blocks inherited(100);
    Blocks fresh(300);
    for (int i = 0; i < (tests::under_valgrind() ? 5 : 30); ++i) {
      if (!fill(inherited, random)) ++faults;
      const pid_t child = fork();
      if (child == 0) {
        // What hangs is a lock that nobody is there to release.
        alarm(120);
        tests::leaks_are_expected();
        bool good = free_all(inherited);
        for (int round = 0; round < 3; ++round)
          good = good && fill(fresh, random) && free_all(fresh);
        Heap::purge();
        good = good && fill(inherited, random) && free_all(inherited);
        _exit(good && Heap::stats().mapped != 0 ? 0 : 1);
      }
      int status = -1;
      if (child < 0 || waitpid(child, &status, 0) != child || status != 0) ++faults;
      if (!free_all(inherited)) ++faults;
    }
    stop = true;
  });
  threads.join();
  CHECK(faults == 0);
  Heap::purge();
  CHECK(Heap::stats().live == 0);
  CHECK(Heap::stats().mapped == Heap::stats().metadata);
#endif
}

TEST_CASE("what another thread was taking apart or making is whole in the child") {
#if defined(__SANITIZE_ADDRESS__)
  tests::not_checked("fork", "g++ 12's AddressSanitizer does not take its own locks at a fork");
#else
  std::atomic<bool> ready{false};
  std::atomic<bool> stop{false};
  // Spans of 5 to 15 units, which come and go.
  std::thread other([&] {
    tests::Random random(tests::seed());
    while (!stop) {
      const Layout each = layout((std::size_t{300} << 10) + random() % 9 * 80'000);
      void* const first = heap.alloc(each);
      void* const second = heap.alloc(each);
      heap.dealloc(first, each);
      heap.dealloc(second, each);
      ready = true;
    }
  });
  // So that it is interrupted anywhere.
  tests::Threads busy;
  for (int i = 0; i < 2 && !tests::under_valgrind(); ++i) {
    busy.add([&] {
      while (!stop) {
      }
    });
  }
  while (!ready) std::this_thread::yield();
  const std::size_t children = tests::under_valgrind() ? 5 : tests::emulated() ? 100 : 1000;
  // A block that was on its way to the program counts as live, and holds its segment.
  const int faults = children_that_end_badly(children, [](const sysalloc::CachedStats& stats) {
    return stats.live != 0 || stats.mapped == stats.metadata;
  });
  stop = true;
  other.join();
  busy.join();
  CHECK(faults == 0);
#endif
}
