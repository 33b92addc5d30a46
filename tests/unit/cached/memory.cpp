// How much memory Cached<> keeps, as the system counts it: resident pages of this process.
//
// SYSALLOC_TEST_MIB=N sets the size of the heaps; 256 unless told.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sysalloc/cached.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "../support/bytes.hpp"
#include "support.hpp"

#if !defined(_WIN32)
#include <sys/mman.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <time.h>
#endif

namespace {

// The clock that the heap looks at stands still, but for what a case lets pass.
std::atomic<int> seconds_passed{0};

}  // namespace

// ThreadSanitizer calls it before the program is ready for that; there nothing is measured.
#if defined(__linux__) && !defined(__SANITIZE_THREAD__)
extern "C" int clock_gettime(clockid_t clock, timespec* now) noexcept {
  if (clock != CLOCK_MONOTONIC_COARSE) {
    return static_cast<int>(syscall(SYS_clock_gettime, clock, now));
  }
  *now = {.tv_sec = 1 + seconds_passed, .tv_nsec = 0};
  return 0;
}
#endif

namespace {

using sysalloc::Layout;
using Heap = sysalloc::Cached<>;
constexpr Heap heap;
constexpr std::size_t MiB = std::size_t{1} << 20;

Layout layout(std::size_t size) { return Layout::from_size_align_unchecked(size, 8); }

// Without the C library's streams, which allocate.
std::size_t resident() {
#if defined(_WIN32)
  return 0;
#else
  std::FILE* const file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  std::size_t total = 0;
  std::size_t pages = 0;
  const int read = std::fscanf(file, "%zu %zu", &total, &pages);
  std::fclose(file);
  return read == 2 ? pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) : 0;
#endif
}

// Does the system bring pages into residence that nobody touched when it is told to, and no others?
bool can_populate() {
#if defined(MADV_POPULATE_WRITE)
  constexpr std::size_t size = 64 << 10;
  const auto advised = [](int advice) {
    void* const map =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return std::size_t{0};
    auto* const bytes = static_cast<std::byte*>(map);
    *bytes = std::byte{1};
    madvise(map, size, advice);
    const std::size_t there = tests::pages_there(bytes, size);
    munmap(map, size);
    return there;
  };
  if (advised(MADV_POPULATE_WRITE) == 16 && advised(MADV_NORMAL) == 1) return true;
#endif
  tests::not_checked("pages that come together", "the system brings them otherwise");
  return false;
}

bool can_measure() {
  if (tests::plain_malloc() && !tests::emulated() && resident() != 0) return true;
  tests::not_checked("resident memory",
                     "a checker or emulator keeps some of its own, or there is no /proc");
  return false;
}

std::size_t heap_bytes() {
  const char* const text = std::getenv("SYSALLOC_TEST_MIB");
  return (text == nullptr ? 256 : std::strtoull(text, nullptr, 10)) * MiB;
}

struct Block {
  std::byte* ptr = nullptr;
  std::size_t size = 0;
};

// Blocks whose array is resident from the start, so that it is no part of what is measured.
class Blocks {
 public:
  explicit Blocks(std::size_t most) : blocks_(std::make_unique<Block[]>(most)), most_(most) {}

  void fill(std::size_t bytes, tests::Random& random) {
    while (live_ < bytes && count_ < most_) {
      if (!add_any(random)) return;
    }
  }

  // One of 16 bytes to 64 KiB, evenly by their logarithm. False without memory.
  bool add_any(tests::Random& random) { return add(tests::log_uniform(random, 16, 65536)); }

  // One of `size` bytes, every page written to. False without memory.
  bool add(std::size_t size) {
    auto* const ptr = static_cast<std::byte*>(heap.alloc(layout(size)));
    if (ptr == nullptr) return false;
    for (std::size_t i = 0; i < size; i += 64) ptr[i] = std::byte{1};
    blocks_[count_++] = {ptr, size};
    live_ += size;
    return true;
  }

  // Frees at random until `count` are left.
  void shrink_to(std::size_t count, tests::Random& random) {
    while (count_ > count) {
      std::swap(blocks_[random() % count_], blocks_[count_ - 1]);
      const Block& block = blocks_[--count_];
      live_ -= block.size;
      heap.dealloc(block.ptr, layout(block.size));
    }
  }

  [[nodiscard]] std::size_t count() const { return count_; }
  [[nodiscard]] std::size_t live() const { return live_; }

 private:
  std::unique_ptr<Block[]> blocks_;
  std::size_t most_;
  std::size_t count_ = 0;
  std::size_t live_ = 0;
};

// For faults_of_building.
bool add_any(Blocks& blocks, tests::Random& random) { return blocks.add_any(random); }

// What the process has more than `begin`, in MiB for the messages.
std::size_t grown(std::size_t begin) { return std::max(resident(), begin) - begin; }

// Page faults of building a heap of `bytes` in blocks that `add` adds one of, the first time and
// the last of `rounds`; all of it is freed in between, and `between` is called then.
template <class Add, class Between = void (*)()>
std::pair<long, long> faults_of_building(
    std::size_t bytes, int rounds, Add add, Between between = [] {}) {
  tests::Random random(tests::seed());
  Blocks blocks(bytes / 1000);
  long first = 0;
  long last = 0;
  for (int round = 0; round < rounds; ++round) {
    const long before = tests::page_faults();
    while (blocks.live() < bytes) REQUIRE(add(blocks, random));
    last = tests::page_faults() - before;
    if (round == 0) first = last;
    blocks.shrink_to(0, random);
    between();
  }
  MESSAGE("page faults of the first time: ", first, ", of the last: ", last);
  CHECK(first >= static_cast<long>(bytes / 4096 / 2));
  return {first, last};
}

}  // namespace

TEST_CASE("a small heap that is freed and built again and again stays resident") {
  if (!can_measure()) return;
  constexpr std::size_t bytes = 20 * MiB;
  const auto [first, last] = faults_of_building(bytes, 8, add_any);
  CHECK(last <= first / 4);
  const std::size_t kept = resident();
  Heap::purge();
  CHECK(kept - resident() >= bytes / 2);
}

TEST_CASE("so does a larger one, of blocks of any size") {
  if (!can_measure()) return;
  const auto [first, last] = faults_of_building(40 * MiB, 12, [](Blocks& blocks, auto& random) {
    return blocks.add(16 + random() % 100'000);
  });
  CHECK(last <= first / 4);
}

TEST_CASE("so does what is freed and built again beside much that lives") {
  if (!can_measure()) return;
  Blocks live(200'000);
  while (live.live() < 160 * MiB) REQUIRE(live.add(1000));
  // What R frees at a time, and then builds again.
  const auto [first, last] =
      faults_of_building(72 * MiB, 12, [](Blocks& blocks, auto&) { return blocks.add(120'000); });
  CHECK(last <= first / 16);
  tests::Random random(tests::seed());
  live.shrink_to(0, random);
}

TEST_CASE("so do blocks that share slabs, and are freed in any order") {
  if (!can_measure()) return;
  const auto [first, last] = faults_of_building(48 * MiB, 12, [](Blocks& blocks, auto& random) {
    return blocks.add(16 + random() % 20'000);
  });
  CHECK(last <= first / 4);
}

namespace {

constexpr std::size_t batch_bytes = 200 * MiB;

// What the process has more than `begin` when seconds have passed in which nothing happened, and a
// little happens then.
std::size_t left_later(std::size_t begin) {
  seconds_passed += 2;
  Blocks few(10'000);
  tests::Random random(tests::seed());
  while (few.live() < 2 * MiB) REQUIRE(few.add(1000));
  few.shrink_to(0, random);
  return grown(begin);
}

}  // namespace

TEST_CASE("a batch of any size that soon comes again stays resident, for as long as it does") {
  if (!can_measure()) return;
  const std::size_t begin = resident();
  std::array<std::size_t, 7> kept{};
  std::size_t round = 0;
  const auto [first, last] =
      faults_of_building(batch_bytes, kept.size(), add_any, [&] { kept[round++] = grown(begin); });
  MESSAGE("MiB kept: ", kept[0] / MiB, ", ", kept[3] / MiB, ", ", kept[4] / MiB);
  // That it is a rhythm shows when it came again for the fourth time.
  CHECK(kept[0] <= batch_bytes / 10);
  CHECK(kept[3] <= batch_bytes / 2);
  CHECK(kept[4] >= batch_bytes / 2);
  CHECK(last <= first / 16);

  const std::size_t left = left_later(begin);
  MESSAGE("MiB left: ", left / MiB);
  CHECK(left <= batch_bytes / 5);
}

TEST_CASE("so does one in which less comes and goes") {
  if (!can_measure()) return;
  std::size_t next = 0;
  const auto [first, last] =
      faults_of_building(batch_bytes, 8, [&next](Blocks& blocks, auto& random) {
        if (blocks.live() == 0) next = batch_bytes / 2;
        if (blocks.live() >= next) {
          next += batch_bytes / 10;
          Blocks few(10'000);
          while (few.live() < 6 * MiB) REQUIRE(few.add_any(random));
          few.shrink_to(0, random);
        }
        return blocks.add_any(random);
      });
  CHECK(last <= first / 16);
}

TEST_CASE("and one between blocks that live, whose pages go later") {
  if (!can_measure()) return;
  constexpr std::size_t size = 1024;
  constexpr std::size_t part = 64;  // of which one lives
  std::vector<void*> blocks(batch_bytes / size);
  const std::size_t begin = resident();
  for (int round = 0; round < 7; ++round) {
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      if (round != 0 && i % part == 0) continue;
      blocks[i] = heap.alloc(layout(size));
      REQUIRE(blocks[i] != nullptr);
      std::memset(blocks[i], 1, size);
    }
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      if (i % part != 0) heap.dealloc(blocks[i], layout(size));
    }
  }
  const std::size_t kept = grown(begin);
  const std::size_t left = left_later(begin);
  for (std::size_t i = 0; i < blocks.size(); i += part) heap.dealloc(blocks[i], layout(size));
  MESSAGE("MiB kept: ", kept / MiB, ", later: ", left / MiB);
  CHECK(kept >= batch_bytes / 2);
  CHECK(left <= batch_bytes / 4);
}

TEST_CASE("what of it is not taken again goes, and the rest stays when it is freed") {
  if (!can_measure()) return;
  const std::size_t begin = resident();
  faults_of_building(batch_bytes, 6, add_any);
  tests::Random random(tests::seed());
  Blocks half(batch_bytes / 1000);
  while (half.live() < batch_bytes * 6 / 10) REQUIRE(half.add_any(random));
  const std::size_t left = left_later(begin);
  half.shrink_to(0, random);
  const std::size_t kept = grown(begin);
  MESSAGE("MiB left: ", left / MiB, ", kept: ", kept / MiB);
  CHECK(left <= batch_bytes * 8 / 10);
  CHECK(kept >= batch_bytes / 2);
}

TEST_CASE("what threads kept that wait now goes when another one frees a little later") {
  if (!can_measure()) return;
  constexpr std::size_t many = 8;
  constexpr std::size_t each = batch_bytes / 4;
  const std::size_t begin = resident();
  std::barrier ready(many + 1);
  std::barrier measured(many + 1);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < many; ++i) {
    threads.emplace_back([&] {
      faults_of_building(each, 7, add_any);
      ready.arrive_and_wait();
      measured.arrive_and_wait();
    });
  }
  ready.arrive_and_wait();
  const std::size_t kept = grown(begin);
  const std::size_t left = left_later(begin);
  measured.arrive_and_wait();
  for (std::thread& thread : threads) thread.join();
  MESSAGE("MiB kept: ", kept / MiB, ", later: ", left / MiB);
  CHECK(kept >= many * each * 3 / 4);
  // What was learned without a rhythm stays, which is up to 144 MiB.
  CHECK(left <= many * each / 2);
}

TEST_CASE("large blocks that soon come again stay, too") {
  if (!can_measure()) return;
  for (const std::size_t bytes : {24 * MiB, batch_bytes}) {
    const std::size_t begin = resident();
    const auto [first, last] = faults_of_building(bytes, 8, [](Blocks& blocks, auto& random) {
      return blocks.add(3 * MiB / 2 + random() % (5 * MiB / 2));
    });
    // With 32 bits of address glibc maps each for itself that finds none of its size here.
    CHECK(last <= first / (sizeof(void*) == 8 ? 16 : 4));
    const std::size_t kept = grown(begin);
    const std::size_t left = left_later(begin);
    MESSAGE("MiB kept: ", kept / MiB, ", later: ", left / MiB);
    CHECK(kept >= bytes / 2);
    CHECK(left <= bytes / 4);
  }
}

TEST_CASE("those of threads go when that is over, and the threads, too") {
  if (!can_measure()) return;
  constexpr std::size_t many = 8;
  const std::size_t begin = resident();
  for (const std::size_t size : {2 * MiB, 20 * MiB}) {
    const std::size_t count = batch_bytes / many / size + 1;
    std::barrier turn(many);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < many; ++i) {
      threads.emplace_back([&] {
        std::vector<void*> blocks(count);
        for (int round = 0; round < 10; ++round) {
          for (void*& block : blocks) {
            block = heap.alloc(layout(size));
            if (block != nullptr) std::memset(block, 1, size);
          }
          turn.arrive_and_wait();
          for (void* const block : blocks) heap.dealloc(block, layout(size));
          turn.arrive_and_wait();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    const std::size_t kept = grown(begin);
    const std::size_t left = left_later(begin);
    MESSAGE("MiB kept: ", kept / MiB, ", later: ", left / MiB);
    CHECK(kept >= batch_bytes / 2);
    CHECK(left <= batch_bytes / 10);
    Heap::purge();
    CHECK(grown(begin) <= 8 * MiB);
  }
}

TEST_CASE("one that comes again later does not") {
  if (!can_measure()) return;
  const std::size_t begin = resident();
  const auto [first, last] =
      faults_of_building(batch_bytes, 7, add_any, [] { seconds_passed += 2; });
  CHECK(last >= first / 4);
  CHECK(grown(begin) <= batch_bytes / 2);
}

TEST_CASE("of what is more than twice as much, no more stays than otherwise") {
  if (!can_measure()) return;
  const std::size_t begin = resident();
  const auto [first, last] = faults_of_building(batch_bytes / 2, 7, add_any);
  CHECK(last <= first / 16);
  faults_of_building(2 * batch_bytes, 1, add_any);
  const std::size_t left = grown(begin);
  MESSAGE("MiB left: ", left / MiB);
  CHECK(left <= 2 * batch_bytes / 10);
}

namespace {

// Page faults for each of `times` blocks of up to `most` bytes that are put in the place of others,
// of which there are `count`; after as many that are not counted.
double faults_of_replacing(std::size_t count, std::size_t most, std::size_t times) {
  tests::Random random(tests::seed());
  std::vector<Block> blocks(count);
  long before = 0;
  for (std::size_t i = 0; i < 2 * times; ++i) {
    if (i == times) before = tests::page_faults();
    Block& block = blocks[random() % count];
    if (block.ptr != nullptr) heap.dealloc(block.ptr, layout(block.size));
    block.size = 16 + random() % most;
    block.ptr = static_cast<std::byte*>(heap.alloc(layout(block.size)));
    for (std::size_t j = 0; j < block.size; j += 4096) block.ptr[j] = std::byte{1};
  }
  const long in_all = tests::page_faults() - before;
  for (const Block& block : blocks) {
    if (block.ptr != nullptr) heap.dealloc(block.ptr, layout(block.size));
  }
  return static_cast<double>(in_all) / static_cast<double>(times);
}

}  // namespace

TEST_CASE("blocks of any size that come and go at random are not faulted in time and again") {
  if (!can_measure()) return;
  const double each = faults_of_replacing(500, 1'000'000, 20'000);
  MESSAGE("page faults for each: ", each);
  CHECK(each < 2);
}

TEST_CASE("nor are those of a larger heap") {
  if (!can_measure()) return;
  const double each = faults_of_replacing(1'200, 1'000'000, 30'000);
  MESSAGE("page faults for each: ", each);
  CHECK(each < 2);
}

TEST_CASE("nor is what lies behind those that do not fill their units") {
  if (!can_measure()) return;
  const double each = faults_of_replacing(2000, 100'000, 100'000);
  MESSAGE("page faults for each: ", each);
  CHECK(each < 0.4);
}

TEST_CASE("nor is a buffer that grows bit by bit to some MiB, again and again") {
#if !defined(__linux__)
  tests::not_checked("how a large buffer grows", "the C library here copies it");
#else
  if (!can_measure()) return;
  for (const std::size_t most : {2'000'000U, 12'000'000U}) {
    constexpr int times = 20;
    long before = 0;
    for (int i = 0; i < 2 * times; ++i) {
      if (i == times) before = tests::page_faults();
      std::size_t size = 4096;
      void* ptr = heap.alloc(layout(size));
      while (size < most) {
        const std::size_t next = size + size / 8;
        ptr = heap.realloc(ptr, layout(size), next);
        REQUIRE(ptr != nullptr);
        tests::fill_words(static_cast<std::byte*>(ptr) + size / 8 * 8, next - size, next);
        size = next / 8 * 8;
      }
      heap.dealloc(ptr, layout(size));
    }
    const double each = static_cast<double>(tests::page_faults() - before) / times;
    MESSAGE("page faults for each of ", most, " bytes: ", each);
    // On 32-bit targets glibc maps each block from half a MiB on by itself (mallopt(3),
    // M_MMAP_THRESHOLD): there each page is new once, but not at each step.
    const double pages = static_cast<double>(most) / 4096;
    CHECK(each < (sizeof(void*) == 8 ? pages / 2 : pages * 3 / 2));
  }
#endif
}

TEST_CASE("a slab comes into residence at once where there are many of its class, and not before") {
  if (!can_measure() || !can_populate()) return;
  constexpr std::size_t size = 128;
  constexpr std::size_t slab_size = 64 << 10;
  std::vector<std::byte*> blocks;
  std::vector<std::size_t> there;  // of each slab, when its first block is given out
  while (there.size() < 20) {
    auto* const ptr = static_cast<std::byte*>(heap.alloc(layout(size)));
    REQUIRE(ptr != nullptr);
    if (reinterpret_cast<std::uintptr_t>(ptr) % slab_size == 0)
      there.push_back(tests::pages_there(ptr, slab_size));
    *ptr = std::byte{1};
    blocks.push_back(ptr);
  }
  CHECK(std::count(there.begin(), there.begin() + 4, 0) == 4);
  CHECK(std::count(there.begin() + 10, there.end(), 16) == 10);
  for (std::byte* const ptr : blocks) heap.dealloc(ptr, layout(size));
}

TEST_CASE("a mixed heap of which nine tenths are freed at random, then all, then purged") {
  if (!can_measure()) return;
  tests::Random random(tests::seed());
  // Twice: the second time from what the first one left.
  for (int round = 0; round < 2; ++round) {
    Blocks blocks(heap_bytes() / 2000);
    const std::size_t begin = resident();
    blocks.fill(heap_bytes(), random);
    const std::size_t peak = grown(begin);
    CAPTURE(round);
    CHECK(blocks.live() >= heap_bytes());
    CHECK(peak >= heap_bytes() * 9 / 10);
    // What the classes, the map and the descriptors cost.
    CHECK(peak <= heap_bytes() * 6 / 5);

    blocks.shrink_to(blocks.count() / 10, random);
    const std::size_t after_most = grown(begin);
    MESSAGE("live ", blocks.live() / 1024, " KiB, resident ", after_most / 1024, " KiB");
    CHECK(after_most <= blocks.live() * 8 / 5);

    blocks.shrink_to(0, random);
    const std::size_t after_all = grown(begin);
    MESSAGE("all freed: resident ", after_all / MiB, " MiB of ", peak / MiB, " MiB");
    CHECK(after_all <= peak / 10);

    Heap::purge();
    MESSAGE("purged: resident ", grown(begin) / 1024, " KiB");
    CHECK(grown(begin) <= 8 * MiB);
  }
}

TEST_CASE("small blocks that are all freed at random go without a purge") {
  if (!can_measure()) return;
  Heap::purge();
  tests::Random random(tests::seed());
  const std::size_t total = heap_bytes();
  Blocks blocks(total / 128);
  const std::size_t begin = resident();
  while (blocks.live() < total && blocks.add(16 + random() % 241)) {
  }
  REQUIRE(blocks.live() >= total);
  const std::size_t full = grown(begin);
  blocks.shrink_to(0, random);
  const std::size_t now = grown(begin);
  MESSAGE("MiB of small blocks: ", full / MiB, ", all freed: ", now / MiB);
  CHECK(now <= full / 10);
}

TEST_CASE("pages that are free go, after a time when those that were free held a block each") {
  if (!can_measure()) return;
  Heap::purge();
  tests::Random random(tests::seed());
  constexpr std::size_t small = 64;
  constexpr std::size_t page = 4096;
  const std::size_t total = heap_bytes();
  std::vector<void*> nodes(total / small);
  Blocks pages(total / 2 / page);
  const std::size_t begin = resident();
  for (void*& node : nodes) node = heap.alloc(layout(small));
  // Half of them at random leave no page free; then the others.
  for (void*& node : nodes) {
    if (random() % 2 != 0) continue;
    heap.dealloc(node, layout(small));
    node = nullptr;
  }
  for (void* const node : nodes) {
    if (node != nullptr) heap.dealloc(node, layout(small));
  }
  while (pages.count() < total / 2 / page && pages.add(page)) {
  }
  pages.shrink_to(pages.count() / 20, random);
  const std::size_t now = grown(begin);
  MESSAGE("MiB of pages: ", total / 2 / MiB, ", left: ", pages.live() / MiB,
          ", resident: ", now / MiB);
  CHECK(now <= pages.live() * 16 / 10 + 8 * MiB);
  pages.shrink_to(0, random);
}

TEST_CASE("a heap that several threads filled and another one frees") {
  if (!can_measure()) return;
  const std::size_t begin = resident();
  constexpr std::size_t thread_count = 4;
  std::array<std::unique_ptr<Blocks>, thread_count> all;
  for (std::size_t i = 0; i < thread_count; ++i) {
    all[i] = std::make_unique<Blocks>(heap_bytes() / thread_count / 2000);
    std::thread([&blocks = *all[i], i] {
      tests::Random random(tests::seed() + i);
      blocks.fill(heap_bytes() / thread_count, random);
    }).join();
  }
  const std::size_t peak = grown(begin);
  tests::Random random(tests::seed());
  for (auto& blocks : all) blocks->shrink_to(0, random);
  CHECK(grown(begin) <= peak / 10);
  Heap::purge();
  CHECK(grown(begin) <= 8 * MiB);
}

TEST_CASE("the heap makes use of what lies idle before it grows") {
  if (!can_measure()) return;
  // What lies idle is looked for where the heap grows beyond what it was.
  Blocks blocks(6 * MiB / 1024);
  Blocks others(7 * MiB / 64);
  const std::size_t begin = resident();
  // A slab's worth of blocks of each of many classes, gone again.
  tests::Random random(tests::seed());
  std::size_t size = 1100;
  for (; blocks.live() < 6 * MiB && size < 32'000; size += size / 8) {
    for (std::size_t bytes = 0; bytes < 256 << 10; bytes += size) blocks.add(size);
  }
  const std::size_t peak = grown(begin);
  const std::size_t bytes = blocks.live();
  CHECK(peak >= bytes);
  blocks.shrink_to(0, random);
  // As much of one that is none of these.
  while (others.live() < bytes - 64) others.add(64);
  MESSAGE("idle, then used: ", grown(begin) / 1024, " KiB of ", peak / 1024, " KiB");
  CHECK(grown(begin) <= peak + peak / 4);
  others.shrink_to(0, random);
}

TEST_CASE("where sizes are mixed and blocks come and go, little is given back to be used again") {
  if (!can_measure()) return;
  Blocks blocks(1 << 16);
  tests::Random random(tests::seed());
  const long before = tests::page_faults();
  std::size_t peak = 0;
  for (int round = 0; round < 200; ++round) {
    for (const std::size_t wanted = blocks.live() + 1 * MiB; blocks.live() < wanted;) {
      REQUIRE(blocks.add(tests::log_uniform(random, 16, 1e6)));
    }
    peak = std::max(peak, blocks.live());
    blocks.shrink_to(blocks.count() * 3 / 5, random);
  }
  const long pages = static_cast<long>(peak / 4096);
  MESSAGE("page faults: ", tests::page_faults() - before, ", pages at the peak: ", pages);
  CHECK(tests::page_faults() - before <= 8 * pages);
  blocks.shrink_to(0, random);
}

TEST_CASE("large blocks that are freed are given back") {
  if (!can_measure()) return;
  const std::size_t begin = resident();
  for (int i = 0; i < 20; ++i) {
    for (const std::size_t size : {2 * MiB, 3 * MiB + 5, 40 * MiB}) {
      auto* const ptr = static_cast<std::byte*>(heap.alloc(layout(size)));
      REQUIRE(ptr != nullptr);
      for (std::size_t k = 0; k < size; k += 4096) ptr[k] = std::byte{1};
      heap.dealloc(ptr, layout(size));
    }
  }
  CHECK(grown(begin) <= 16 * MiB);
  Heap::purge();
  CHECK(grown(begin) <= 8 * MiB);
}

TEST_CASE("a large block that is zero already is not written to") {
  if (!can_measure()) return;
  const std::size_t begin = resident();
  // More than was ever freed: that would have to be cleared.
  const std::size_t size = 2 * heap_bytes();
  auto* const ptr = static_cast<std::byte*>(heap.alloc_zeroed(layout(size)));
  REQUIRE(ptr != nullptr);
  CHECK(grown(begin) <= 1 * MiB);
  CHECK(tests::is_zero(ptr, size));
  heap.dealloc(ptr, layout(size));
}

TEST_CASE("nor is one below a MiB of memory that nobody used, or that went back to the system") {
  if (!can_measure()) return;
  constexpr std::size_t size = 800'000;
  for (int round = 0; round < 2; ++round) {
    const std::size_t begin = resident();
    std::vector<std::byte*> blocks(200);
    for (std::byte*& block : blocks) {
      block = static_cast<std::byte*>(heap.alloc_zeroed(layout(size)));
      REQUIRE(block != nullptr);
      block[size / 2] = std::byte{1};
    }
    MESSAGE("MiB of ", blocks.size() * size / MiB, ": ", grown(begin) / MiB);
    CHECK(grown(begin) <= blocks.size() * size / 10);
    std::size_t other = 0;
    for (std::byte* const block : blocks) {
      other += static_cast<std::size_t>(std::count(block, block + size, std::byte{0})) != size - 1;
      std::memset(block, 0xff, size);
      heap.dealloc(block, layout(size));
    }
    CHECK(other == 0);
    Heap::purge();
  }
}

namespace {

// How many of the blocks that alloc_zeroed gives are not zero, of some that come and go.
std::size_t not_zero(tests::Random& random, std::size_t steps) {
  std::vector<Block> blocks(100);
  std::size_t found = 0;
  std::size_t failed = 0;
  for (std::size_t step = 0; step < steps; ++step) {
    Block& block = blocks[random() % blocks.size()];
    if (block.ptr != nullptr) heap.dealloc(block.ptr, layout(block.size));
    const bool zeroed = random() % 2 == 0;
    block.size = tests::log_uniform(random, 4096, 1 << 20);
    block.ptr = static_cast<std::byte*>(zeroed ? heap.alloc_zeroed(layout(block.size))
                                               : heap.alloc(layout(block.size)));
    if (block.ptr == nullptr) {
      ++failed;
      continue;
    }
    if (zeroed && !tests::is_zero(block.ptr, block.size)) ++found;
    // Some of what is free in between has been written to, and some not.
    if (random() % 3 != 0) std::memset(block.ptr, 0xff, block.size);
    if (random() % 500 != 0) continue;
    for (std::size_t i = 0; i < blocks.size(); i += 1 + random() % 3) {
      heap.dealloc(std::exchange(blocks[i].ptr, nullptr), layout(blocks[i].size));
    }
    if (random() % 2 == 0) Heap::purge();
  }
  for (const Block& block : blocks) heap.dealloc(block.ptr, layout(block.size));
  CHECK(failed == 0);
  return found;
}

}  // namespace

TEST_CASE("all that alloc_zeroed gives is zero, whatever was there and however it was freed") {
  tests::Random random(tests::seed());
  CHECK(not_zero(random, 2000 + tests::steps(40'000)) == 0);
#if defined(_WIN32)
  const bool locks = false;
#else
  const bool locks = !tests::emulated() && mlockall(MCL_CURRENT | MCL_FUTURE) == 0;
#endif
  if (!locks) {
    tests::not_checked("zeros where memory is locked", "this process may not lock its memory");
    return;
  }
  // From here on the system takes nothing back.
  CHECK(not_zero(random, 2000 + tests::steps(10'000)) == 0);
}

TEST_CASE("a heap that was large once keeps what is freed and built again, too") {
  if (!can_measure()) return;
  constexpr std::size_t size = 64 << 10;
  const auto frame = [](std::size_t bytes) {
    std::vector<void*> blocks(bytes / size);
    for (void*& block : blocks) {
      block = heap.alloc(layout(size));
      REQUIRE(block != nullptr);
      *static_cast<std::byte*>(block) = std::byte{1};
    }
    for (void* const block : blocks) heap.dealloc(block, layout(size));
  };
  Heap::purge();
  frame(160 * MiB);
  for (int round = 0; round < 10; ++round) frame(24 * MiB);
  const long before = tests::page_faults();
  for (int round = 0; round < 10; ++round) frame(24 * MiB);
  const long more = tests::page_faults() - before;
  MESSAGE("page faults of ten more times: ", more);
  // One for each block of a frame would be 384 each time.
  CHECK(more <= 400);
}

TEST_CASE("what lies behind blocks of 64 KiB and a header does not stay resident") {
  if (!can_measure()) return;
  // As a program turns what it has read bit by bit into buffers.
  const std::size_t total = heap_bytes() / 2;
  constexpr std::size_t small = 1000;
  constexpr std::size_t buffer = (64 << 10) + 16;
  constexpr std::size_t of_buffer = buffer / small;
  Heap::purge();
  std::vector<void*> from(total / small);
  std::vector<void*> to(from.size() / of_buffer);
  const std::size_t begin = resident();
  for (void*& block : from) {
    block = heap.alloc(layout(small));
    REQUIRE(block != nullptr);
    std::memset(block, 1, small);
  }
  for (std::size_t i = 0; i < to.size(); ++i) {
    for (std::size_t k = 0; k < of_buffer; ++k)
      heap.dealloc(from[i * of_buffer + k], layout(small));
    to[i] = heap.alloc(layout(buffer));
    REQUIRE(to[i] != nullptr);
    std::memset(to[i], 1, buffer);
  }
  for (std::size_t i = to.size() * of_buffer; i < from.size(); ++i) {
    heap.dealloc(from[i], layout(small));
  }
  Heap::purge();
  const std::size_t now = grown(begin);
  MESSAGE("MiB of buffers: ", to.size() * buffer / MiB, ", resident: ", now / MiB);
  CHECK(now <= to.size() * buffer * 5 / 4);
  for (void* const block : to) heap.dealloc(block, layout(buffer));
  Heap::purge();
  CHECK(grown(begin) <= 8 * MiB);
}

TEST_CASE("many threads that freed nearly all keep little, while they wait and when they ended") {
  if (!can_measure()) return;
  constexpr std::size_t many = 24;
  constexpr std::size_t each = 16 * MiB;
  constexpr std::size_t size = 1024;
  Heap::purge();
  const std::size_t begin = resident();
  std::atomic<std::size_t> ready{0};
  std::atomic<bool> measured{false};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < many; ++i) {
    threads.emplace_back([&ready, &measured] {
      std::vector<void*> blocks(each / size);
      for (int round = 0; round < 4; ++round) {
        for (std::size_t k = 0; k < blocks.size(); ++k) {
          if (round != 0 && k % 64 == 0) continue;
          blocks[k] = heap.alloc(layout(size));
          std::memset(blocks[k], 1, size);
        }
        for (std::size_t k = 0; k < blocks.size(); ++k) {
          if (k % 64 != 0) heap.dealloc(blocks[k], layout(size));
        }
      }
      ++ready;
      while (!measured) std::this_thread::yield();
      for (std::size_t k = 0; k < blocks.size(); k += 64) heap.dealloc(blocks[k], layout(size));
    });
  }
  while (ready != many) std::this_thread::yield();
  const std::size_t waiting = grown(begin);
  measured = true;
  for (std::thread& thread : threads) thread.join();
  const std::size_t ended = grown(begin);
  MESSAGE("MiB of ", many * each / MiB, " while they wait: ", waiting / MiB,
          ", when they ended: ", ended / MiB);
  CHECK(waiting <= many * each / 4);
  CHECK(ended <= many * each / 6);
}

TEST_CASE("small blocks that many threads freed at random hold few pages while they wait") {
  if (!can_measure()) return;
  constexpr std::size_t many = 16;
  constexpr std::size_t each = 16 * MiB;
  Heap::purge();
  std::vector<Blocks> blocks;
  for (std::size_t i = 0; i < many; ++i) blocks.emplace_back(each / 100);
  const std::size_t begin = resident();
  std::atomic<std::size_t> ready{0};
  std::atomic<bool> measured{false};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < many; ++i) {
    threads.emplace_back([&, i] {
      tests::Random random(tests::seed() + i);
      while (blocks[i].live() < each && blocks[i].add(16 + random() % 241)) {
      }
      blocks[i].shrink_to(0, random);
      ++ready;
      while (!measured) std::this_thread::yield();
    });
  }
  while (ready != many) std::this_thread::yield();
  const std::size_t waiting = grown(begin);
  measured = true;
  for (std::thread& thread : threads) thread.join();
  MESSAGE("MiB of ", many * each / MiB, " while they wait: ", waiting / MiB);
  CHECK(waiting <= many * each * 3 / 8);
}

TEST_CASE("each generation of threads that free small containers holds as little as the first") {
  if (!can_measure()) return;
  constexpr std::ptrdiff_t many = 64;
  constexpr std::size_t size = 64;
  Heap::purge();
  const std::size_t begin = resident();
  std::size_t first = 0;
  for (int generation = 0; generation < 4; ++generation) {
    std::barrier freed(many + 1);
    std::barrier measured(many + 1);
    std::vector<std::thread> threads;
    for (std::ptrdiff_t i = 0; i < many; ++i) {
      threads.emplace_back([&] {
        std::array<void*, (256 << 10) / size> blocks{};
        for (void*& block : blocks) {
          block = heap.alloc(layout(size));
          std::memset(block, 1, size);
        }
        for (void* const block : blocks) heap.dealloc(block, layout(size));
        freed.arrive_and_wait();
        measured.arrive_and_wait();
      });
    }
    freed.arrive_and_wait();
    const std::size_t now = grown(begin);
    if (generation == 0) first = now;
    measured.arrive_and_wait();
    for (std::thread& thread : threads) thread.join();
    MESSAGE("MiB of generation ", generation, " while it waits: ", now / MiB);
    CHECK(now <= first + first / 2);
  }
}

TEST_CASE("of blocks that do not fill their slabs no more lies idle than of others") {
  if (!can_measure()) return;
  // The last 20 KiB of each are never used.
  constexpr std::size_t size = 26 << 10;
  const std::size_t total = heap_bytes();
  Heap::purge();
  std::vector<void*> blocks(total / size);
  const std::size_t begin = resident();
  for (void*& block : blocks) {
    block = heap.alloc(layout(size));
    REQUIRE(block != nullptr);
    std::memset(block, 1, size);
  }
  tests::Random random(tests::seed());
  std::shuffle(blocks.begin(), blocks.end(), random);
  std::size_t most = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    heap.dealloc(blocks[i], layout(size));
    const std::size_t live = (blocks.size() - i - 1) * size;
    if (i % 64 == 0 && grown(begin) > live) most = std::max(most, grown(begin) - live);
  }
  MESSAGE("MiB idle at most, of ", total / MiB, ": ", most / MiB);
  CHECK(most <= total / 12);
}

TEST_CASE("threads that lived together leave little when they end, and nothing after a purge") {
  if (!can_measure()) return;
  constexpr std::ptrdiff_t many = 200;
  Heap::purge();
  const std::size_t begin = resident();
  // So many that each arena of the C library serves several.
  for (int generation = 0; generation < 3; ++generation) {
    std::barrier freed(many);
    std::vector<std::thread> threads;
    for (std::ptrdiff_t i = 0; i < many; ++i) {
      threads.emplace_back([&freed] {
        std::array<void*, 4096> blocks{};
        for (std::size_t size = 16; size <= 128; size += 16) {
          for (void*& block : blocks) block = heap.alloc(layout(size));
          for (void* const block : blocks) heap.dealloc(block, layout(size));
        }
        freed.arrive_and_wait();
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  const std::size_t after = grown(begin);
  Heap::purge();
  const std::size_t purged = grown(begin);
  MESSAGE("MiB at their end: ", after / MiB, ", and purged: ", purged / MiB);
  CHECK(after < 26 * MiB);
  CHECK(purged < 5 * MiB);
}

TEST_CASE("threads that have a few blocks of many sizes each take a few pages for that") {
  if (!can_measure()) return;
  constexpr std::size_t many = 200;
  constexpr std::size_t step = 16;
  constexpr std::size_t largest = 24 * step;
  std::barrier all(many + 1);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < many; ++i) {
    threads.emplace_back([&all] {
      std::array<std::array<void*, 4>, largest / step> blocks{};
      all.arrive_and_wait();
      all.arrive_and_wait();
      for (std::size_t k = 0; k < blocks.size(); ++k) {
        for (void*& block : blocks[k]) {
          block = heap.alloc(layout((k + 1) * step));
          std::memset(block, 1, (k + 1) * step);
        }
      }
      all.arrive_and_wait();
      all.arrive_and_wait();
      for (std::size_t k = 0; k < blocks.size(); ++k) {
        for (void* const block : blocks[k]) heap.dealloc(block, layout((k + 1) * step));
      }
    });
  }
  all.arrive_and_wait();
  const std::size_t begin = resident();
  all.arrive_and_wait();
  all.arrive_and_wait();
  const std::size_t each = grown(begin) / many;
  all.arrive_and_wait();
  for (std::thread& thread : threads) thread.join();
  constexpr std::size_t blocks_each = 4 * step * (1 + largest / step) * (largest / step) / 2;
  MESSAGE("bytes for each thread: ", each, ", of which blocks: ", blocks_each);
  CHECK(each < blocks_each + 36 * 1024);
}

TEST_CASE("ten thousand threads leave nothing behind") {
  if (!can_measure()) return;
  const auto come_and_go = [](int count) {
    for (int i = 0; i < count; ++i) {
      std::thread([i] {
        for (std::size_t size = 16; size < 100'000; size *= 2) {
          auto* const ptr =
              static_cast<std::byte*>(heap.alloc(layout(size + static_cast<std::size_t>(i) % 16)));
          *ptr = std::byte{1};
          heap.dealloc(ptr, layout(size + static_cast<std::size_t>(i) % 16));
        }
      }).join();
    }
  };
  come_and_go(100);
  const std::size_t begin = resident();
  come_and_go(10'000);
  CHECK(grown(begin) <= 4 * MiB);
}
