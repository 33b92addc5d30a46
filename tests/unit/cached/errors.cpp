// What Cached says, and how it ends a program that frees what it must not. Each mistake is made in
// a child; what it wrote and how it ended is looked at here.

#include <doctest/doctest.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <sysalloc/cached.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "support.hpp"

namespace {

using sysalloc::Layout;

Layout layout(std::size_t size, std::size_t align = 8) {
  return Layout::from_size_align_unchecked(size, align);
}

using tests::Heap;
constexpr Heap heap;

// System, but what is as large as a segment has a mapping to itself, which goes with it.
struct Mapping {
  static bool has_own(Layout layout) { return layout.size() >= std::size_t{1} << 20; }

  void* alloc(Layout layout) const noexcept {
    if (!has_own(layout)) return sysalloc::System{}.alloc(layout);
    // With what comes before the first multiple of the alignment, which stays.
    void* const pages = mmap(nullptr, layout.size() + layout.align(), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return nullptr;
    const auto end = reinterpret_cast<std::uintptr_t>(pages) + layout.align();
    return reinterpret_cast<void*>(end / layout.align() * layout.align());
  }
  void dealloc(void* ptr, Layout layout) const noexcept {
    if (has_own(layout)) {
      munmap(ptr, layout.size());
    } else {
      sysalloc::System{}.dealloc(ptr, layout);
    }
  }
};

struct Ending {
  std::string text;
  int signal = 0;
  int status = 0;

  [[nodiscard]] bool aborted() const { return signal == SIGABRT; }
  [[nodiscard]] bool says(const std::string& what) const {
    return text.find(what) != std::string::npos;
  }
};

// Runs `mistake` in a child, which has the heap as it is now.
template <class Mistake>
Ending end_of(Mistake mistake) {
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  const pid_t child = fork();
  if (child == 0) {
    // doctest's handler would report a failed test.
    std::signal(SIGABRT, SIG_DFL);
    dup2(ends[1], STDERR_FILENO);
    alarm(60);
    mistake();
    _exit(0);
  }
  close(ends[1]);
  Ending ending;
  std::array<char, 512> buffer{};
  for (;;) {
    const ssize_t got = read(ends[0], buffer.data(), buffer.size());
    if (got <= 0) break;
    ending.text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  close(ends[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  if (WIFSIGNALED(status)) ending.signal = WTERMSIG(status);
  if (WIFEXITED(status)) ending.status = WEXITSTATUS(status);
  return ending;
}

std::string address(const void* ptr) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%#zx", reinterpret_cast<std::uintptr_t>(ptr));
  return text.data();
}

std::byte* alloc(std::size_t size) { return static_cast<std::byte*>(heap.alloc(layout(size))); }

// Makes every block leave the cache of the thread.
void flush() { Heap::purge(); }

// Frees a block twice, the second time with its size or without, and finds that said at once.
void check_freed_twice(std::byte* ptr, std::size_t size, bool sized) {
  const Ending ending = end_of([&] {
    heap.dealloc(ptr, layout(size));
    if (sized) {
      heap.dealloc(ptr, layout(size));
    } else {
      heap.dealloc_unsized(ptr, 8);
    }
  });
  CAPTURE(ending.text);
  CHECK(ending.aborted());
  CHECK(ending.says("sysalloc: block freed twice at " + address(ptr)));
}

std::size_t blocks_cached(std::size_t size) {
  for (const sysalloc::CachedStats::Class& of : Heap::stats().classes) {
    if (of.size >= size) return of.blocks_cached;
  }
  return 0;
}

// Frees `blocks` of `size` bytes, that at `chosen` a second time `apart` blocks later, and no more
// when a batch of them has left the cache after that. Finds that said.
void check_twice_in_batch(const std::vector<std::byte*>& blocks, std::size_t size,
                          std::size_t chosen, std::size_t apart) {
  CAPTURE(chosen);
  CAPTURE(apart);
  const Ending ending = end_of([&] {
    std::size_t before = 0;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      heap.dealloc(blocks[i], layout(size));
      if (i == chosen + apart) heap.dealloc(blocks[chosen], layout(size));
      if (i < chosen + apart) continue;
      const std::size_t cached = blocks_cached(size);
      if (cached < before) break;
      before = cached;
    }
  });
  CAPTURE(ending.text);
  CHECK(ending.aborted());
  CHECK(ending.says("sysalloc: block freed twice at " + address(blocks[chosen])));
}

}  // namespace

TEST_CASE("what is to be said is said in a thread that is being cancelled, too") {
  // As large as that nothing else is looked at before the message.
  constexpr std::size_t size = std::size_t{2} << 20;
  std::byte* const ptr = alloc(size);
  REQUIRE(ptr != nullptr);
  const Ending twice = end_of([ptr] {
    pthread_cancel(pthread_self());
    heap.dealloc(ptr, layout(size));
    heap.dealloc(ptr, layout(size));
  });
  CAPTURE(twice.text);
  CHECK(twice.aborted());
  CHECK(twice.says("sysalloc: block freed twice at " + address(ptr)));
  const Ending table = end_of([] {
    pthread_cancel(pthread_self());
    sysalloc::print(Heap::stats());
    // A checker may do much before the process ends.
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
    _exit(42);
  });
  CAPTURE(table.text);
  CHECK(table.status == 42);
  CHECK(table.says("sysalloc: the heap of Cached"));
  heap.dealloc(ptr, layout(size));
}

TEST_CASE("a block freed twice") {
  // 100 is one of many in a slab, 40,000 has a span to itself.
  for (const std::size_t size :
       {std::size_t{16}, std::size_t{100}, std::size_t{5000}, std::size_t{40'000}}) {
    CAPTURE(size);
    std::byte* const ptr = alloc(size);
    std::byte* const other = alloc(size);
    const Ending ending = end_of([&] {
      heap.dealloc(ptr, layout(size));
      heap.dealloc(ptr, layout(size));
      flush();
    });
    CAPTURE(ending.text);
    CHECK(ending.aborted());
    CHECK(ending.says("sysalloc: block freed twice at " + address(ptr)));
    CHECK(ending.says("size class of " + std::to_string(heap.usable_size(ptr)) + " bytes"));
    CHECK(ending.says("AddressSanitizer or valgrind"));
    heap.dealloc(ptr, layout(size));
    heap.dealloc(other, layout(size));
  }
}

TEST_CASE("a large block freed twice, of which the thread keeps one") {
  constexpr std::size_t size = 100'000;
  // One that comes and goes stays.
  for (int i = 0; i < 2; ++i) heap.dealloc(alloc(size), layout(size));
  std::byte* const ptr = alloc(size);
  for (const bool sized : {true, false}) {
    CAPTURE(sized);
    check_freed_twice(ptr, size, sized);
  }
  heap.dealloc(ptr, layout(size));
}

TEST_CASE("a large block of the backend freed twice") {
  // glibc maps one of that size for itself and unmaps it; after it gave one back, it does not.
  for (const bool mapped : {true, false}) {
    constexpr std::size_t size = 5 << 20;
    if (!mapped) heap.dealloc(alloc(4 * size), layout(4 * size));
    for (const bool sized : {true, false}) {
      CAPTURE(mapped);
      CAPTURE(sized);
      std::byte* const ptr = alloc(size);
      std::byte* const other = alloc(size);
      check_freed_twice(ptr, size, sized);
      heap.dealloc(ptr, layout(size));
      heap.dealloc(other, layout(size));
    }
  }
}

TEST_CASE("a large block freed twice that waits for the next") {
  constexpr std::size_t size = 5 << 20;
  std::array<std::byte*, 4> blocks{};
  flush();
  // They come and go in a rhythm, unless the machine has more to do.
  for (int round = 0; round < 1000 && Heap::stats().dirty < size; ++round) {
    for (std::byte*& block : blocks) block = alloc(size);
    for (std::byte* const block : blocks) heap.dealloc(block, layout(size));
  }
  CHECK(Heap::stats().dirty >= size);
  check_freed_twice(alloc(size), size, true);
  check_freed_twice(alloc(size), size, false);
}

TEST_CASE("a block freed again after it left the cache") {
  std::byte* const ptr = alloc(100);
  std::byte* const other = alloc(100);
  for (const bool sized : {true, false}) {
    const Ending ending = end_of([&] {
      heap.dealloc(ptr, layout(100));
      flush();
      if (sized) {
        heap.dealloc(ptr, layout(100));
      } else {
        heap.dealloc_unsized(ptr, 8);
      }
      flush();
    });
    CAPTURE(ending.text);
    CHECK(ending.aborted());
    CHECK(ending.says("sysalloc: block freed twice at " + address(ptr)));
  }
  heap.dealloc(ptr, layout(100));
  heap.dealloc(other, layout(100));
}

TEST_CASE("a block freed again after its whole slab or span is free") {
  // Another block keeps the segment, so that its memory stays the heap's.
  std::byte* const keeper = alloc(64);
  for (const std::size_t size : {std::size_t{100}, std::size_t{40'000}, std::size_t{500'000}}) {
    CAPTURE(size);
    std::byte* ptr = nullptr;
    std::byte* const shown = alloc(size);
    heap.dealloc(shown, layout(size));
    const Ending ending = end_of([&] {
      ptr = alloc(size);
      heap.dealloc(ptr, layout(size));
      flush();
      heap.dealloc(ptr, layout(size));
      flush();
    });
    CAPTURE(ending.text);
    CHECK(ending.aborted());
    CHECK(ending.says("sysalloc: block freed twice at 0x"));
  }
  heap.dealloc(keeper, layout(64));
}

TEST_CASE("a block freed again after its segment went back to the system") {
  const sysalloc::Cached<Mapping> other;
  for (const std::size_t size : {std::size_t{100}, std::size_t{40'000}, std::size_t{500'000}}) {
    CAPTURE(size);
    const Ending ending = end_of([&] {
      void* const ptr = other.alloc(layout(size));
      other.dealloc(ptr, layout(size));
      other.purge();
      other.dealloc(ptr, layout(size));
    });
    CAPTURE(ending.text);
    CHECK(ending.aborted());
    CHECK(ending.says("sysalloc: block freed twice at 0x"));
  }
}

TEST_CASE("a block freed twice by two threads") {
  std::byte* const ptr = alloc(100);
  std::byte* const other = alloc(100);
  const Ending ending = end_of([&] {
    heap.dealloc(ptr, layout(100));
    // At its end, the thread's cache is emptied.
    std::thread([&] { heap.dealloc(ptr, layout(100)); }).join();
    flush();
  });
  CAPTURE(ending.text);
  CHECK(ending.aborted());
  CHECK(ending.says("sysalloc: block freed twice at " + address(ptr)));
  heap.dealloc(ptr, layout(100));
  heap.dealloc(other, layout(100));
}

TEST_CASE("a block freed twice is found when a full cache is flushed by the program itself") {
  std::byte* const ptr = alloc(100);
  const Ending ending = end_of([&] {
    std::vector<std::byte*> blocks;
    // More than the 2 MiB that a thread may cache.
    for (int i = 0; i < 50'000; ++i) blocks.push_back(alloc(100));
    heap.dealloc(ptr, layout(100));
    heap.dealloc(ptr, layout(100));
    for (std::byte* const block : blocks) heap.dealloc(block, layout(100));
  });
  CAPTURE(ending.text);
  CHECK(ending.aborted());
  CHECK(ending.says("sysalloc: block freed twice at " + address(ptr)));
  heap.dealloc(ptr, layout(100));
}

TEST_CASE("a block freed twice, which leaves the cache with a batch of others") {
  std::vector<std::byte*> blocks;
  for (int i = 0; i < 50'000; ++i) blocks.push_back(alloc(100));
  for (std::size_t apart = 0; apart < 128; apart += 3) {
    check_twice_in_batch(blocks, 100, blocks.size() / 2, apart);
  }
  for (std::byte* const block : blocks) heap.dealloc(block, layout(100));
}

TEST_CASE("the same, of blocks with a slab to themselves") {
  constexpr std::size_t size = 48 << 10;
  std::vector<std::byte*> blocks;
  for (int i = 0; i < 20; ++i) blocks.push_back(alloc(size));
  for (std::size_t chosen = 8; chosen < 12; ++chosen) {
    for (std::size_t apart = 0; apart < 4; ++apart) {
      check_twice_in_batch(blocks, size, chosen, apart);
    }
  }
  for (std::byte* const block : blocks) heap.dealloc(block, layout(size));
}

TEST_CASE("a block freed twice, once without its size, one of which leaves as the heap grows") {
  std::vector<std::byte*> blocks;
  for (int i = 0; i < 100; ++i) blocks.push_back(alloc(2000));
  for (const bool sized_first : {true, false}) {
    CAPTURE(sized_first);
    const Ending ending = end_of([&] {
      if (sized_first) heap.dealloc(blocks[50], layout(2000));
      heap.dealloc_unsized(blocks[50], 8);
      if (!sized_first) heap.dealloc(blocks[50], layout(2000));
      for (int i = 0; i < 40; ++i) alloc(900'000);
      for (int i = 0; i < 4000; ++i) alloc(512);
    });
    CAPTURE(ending.text);
    CHECK(ending.aborted());
    CHECK(ending.says("sysalloc: block freed twice at " + address(blocks[50])));
  }
  for (std::byte* const block : blocks) heap.dealloc(block, layout(2000));
}

TEST_CASE("a pointer into a block") {
  // In a slab; in the first unit of a span; in a later one; in both of a large block.
  const std::vector<std::pair<std::size_t, std::size_t>> sizes = {
      {100, 16},         {100, 1},        {30'000, 4096},    {100'000, 16},
      {300'000, 70'000}, {3 << 20, 4096}, {3 << 20, 1 << 20}};
  for (const auto& [size, offset] : sizes) {
    CAPTURE(size);
    CAPTURE(offset);
    std::byte* const ptr = alloc(size);
    for (const bool sized : {true, false}) {
      const Ending ending = end_of([&] {
        if (sized) {
          heap.dealloc(ptr + offset, layout(size));
        } else {
          heap.dealloc_unsized(ptr + offset, 8);
        }
        flush();
      });
      CAPTURE(ending.text);
      CHECK(ending.aborted());
      CHECK(ending.says("sysalloc: interior pointer freed at " + address(ptr + offset)));
      CHECK(ending.says("Delete the address that operator new returned"));
    }
    heap.dealloc(ptr, layout(size));
  }
}

TEST_CASE(
    "a block freed twice, and a pointer into one, where so many die that the bin is emptied") {
  constexpr std::size_t size = 80;
  std::vector<std::byte*> blocks(512 * 1024 / size);
  for (std::byte*& block : blocks) block = alloc(size);
  // One of the last to die, when the bin has been full for long.
  std::byte* const last = blocks.back();
  const auto die = [&] {
    for (std::byte* const block : blocks) {
      if (block != last) heap.dealloc(block, layout(size));
    }
  };
  for (const std::size_t offset : {0U, 16U, 1U}) {
    for (const bool sized : {true, false}) {
      CAPTURE(offset);
      CAPTURE(sized);
      const Ending ending = end_of([&] {
        die();
        if (offset == 0) heap.dealloc(last, layout(size));
        if (sized) {
          heap.dealloc(last + offset, layout(size));
        } else {
          heap.dealloc_unsized(last + offset, 8);
        }
        flush();
      });
      CAPTURE(ending.text);
      CHECK(ending.aborted());
      const char* const what = offset == 0 ? "block freed twice" : "interior pointer freed";
      CHECK(ending.says("sysalloc: " + std::string(what) + " at " + address(last + offset)));
    }
  }
  die();
  heap.dealloc(last, layout(size));
}

TEST_CASE("a foreign pointer without a size, of which the backend needs one") {
  void* const ptr = std::malloc(100);
  const Ending ending = end_of([&] { heap.dealloc_unsized(ptr, 8); });
  CAPTURE(ending.text);
  CHECK(ending.aborted());
  CHECK(ending.says("sysalloc: foreign pointer freed at " + address(ptr)));
  CHECK(ending.says("Free it with the function that belongs to what allocated it"));
  std::free(ptr);
}

TEST_CASE("a wrong size ends the program or is repaired, as the build says") {
  const std::vector<std::pair<std::size_t, std::size_t>> sizes = {
      {100, 10}, {100, 2000}, {100, 2 << 20}, {70'000, 8}, {2 << 20, 8}, {2 << 20, 3 << 20}};
  for (const auto& [size, said] : sizes) {
    CAPTURE(size);
    CAPTURE(said);
    std::byte* const ptr = alloc(size);
    const std::size_t usable = heap.usable_size(ptr);
    const Ending ending = end_of([&] {
      heap.dealloc(ptr, layout(said));
      _exit(static_cast<int>(Heap::stats().wrong_sizes));
    });
    CAPTURE(ending.text);
#if defined(SYSALLOC_HARDENING_ABORT)
    CHECK(ending.aborted());
    CHECK(ending.says("sysalloc: block freed with a wrong size at " + address(ptr)));
    CHECK(ending.says("it has " + std::to_string(usable) + " bytes (its size class)"));
    CHECK(ending.says("deleted as one of " + std::to_string(said)));
    CHECK(ending.says("hardening=repair"));
#else
    static_cast<void>(usable);
    CHECK(ending.signal == 0);
    CHECK(ending.status == 1);
    CHECK(ending.text.empty());
#endif
    heap.dealloc(ptr, layout(size));
  }
}

TEST_CASE("the program may catch the signal and allocate before it ends") {
  std::byte* const ptr = alloc(100);
  std::byte* const other = alloc(100);
  const Ending ending = end_of([&] {
    std::signal(SIGABRT, [](int) {
      // Of another class, but from the same shard.
      std::vector<std::byte*> blocks;
      for (int i = 0; i < 3000; ++i) blocks.push_back(alloc(3000));
      for (std::byte* const block : blocks) heap.dealloc(block, layout(3000));
      _exit(42);
    });
    heap.dealloc(ptr, layout(100));
    heap.dealloc(ptr, layout(100));
    flush();
  });
  CAPTURE(ending.text);
  CHECK(ending.says("block freed twice"));
  CHECK(ending.status == 42);
  heap.dealloc(ptr, layout(100));
  heap.dealloc(other, layout(100));
}
