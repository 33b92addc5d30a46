// Systems whose pages are larger than 4 KiB, as some of ARM64 have them: 16 or 64 KiB. The program
// plays one with pages of SYSALLOC_TEST_PAGE_SIZE bytes, and looks at what the heap asks of it.

#include <dlfcn.h>
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <sysalloc/cached.hpp>
#include <vector>

#include "../support/bytes.hpp"
#include "support.hpp"

namespace {

std::atomic<std::size_t> released{0};   // bytes
std::atomic<std::size_t> misplaced{0};  // pieces that are not whole pages

// Asked for before main, too.
std::size_t page_size() {
  static const char* const text = std::getenv("SYSALLOC_TEST_PAGE_SIZE");
  return text == nullptr ? 16384 : std::strtoull(text, nullptr, 10);
}

}  // namespace

// ThreadSanitizer calls it before the program is ready for that.
#if !defined(__SANITIZE_THREAD__)

extern "C" long sysconf(int name) noexcept {
  using Function = long(int);
  if (name == _SC_PAGESIZE) return static_cast<long>(page_size());
  static std::atomic<Function*> next{nullptr};
  Function* function = next.load(std::memory_order_relaxed);
  if (function == nullptr) {
    function = reinterpret_cast<Function*>(dlsym(RTLD_NEXT, "sysconf"));
    next.store(function, std::memory_order_relaxed);
  }
  return function(name);
}

/// Where pages are larger, the system refuses a piece that begins within one, and takes all of a
/// page with whose beginning a piece ends.
extern "C" int madvise(void* address, std::size_t size, int advice) noexcept {
  if (advice == MADV_DONTNEED) {
    if ((reinterpret_cast<std::uintptr_t>(address) | size) % page_size() != 0) ++misplaced;
    released += size;
  }
  return static_cast<int>(syscall(SYS_madvise, address, size, advice));
}

#endif

namespace {

using sysalloc::Layout;
using tests::Heap;

constexpr std::size_t KiB = 1024;
constexpr std::size_t MiB = 1024 * KiB;

struct Block {
  void* ptr;
  std::size_t size;
  std::uint64_t seed;
};

Layout layout(std::size_t size) { return Layout::from_size_align_unchecked(size, 8); }

Block make(std::size_t size, std::uint64_t seed) {
  const Block block{Heap{}.alloc(layout(size)), size, seed};
  REQUIRE(block.ptr != nullptr);
  tests::fill_words(block.ptr, size, seed);
  return block;
}

bool is_intact(const Block& block) { return tests::holds_words(block.ptr, block.size, block.seed); }

void drop(const Block& block) { Heap{}.dealloc(block.ptr, layout(block.size)); }

/// What a heap of 64 KiB units can give back.
bool goes_back() { return page_size() <= 64 * KiB; }

/// Does this program play such a system?
bool plays() {
  Heap{}.dealloc(Heap{}.alloc(layout(MiB / 2)), layout(MiB / 2));
  Heap::purge();
  if (released != 0 || !goes_back()) return true;
  tests::not_checked("pages of more than 4 KiB", "the calls of the C library are not seen here");
  return false;
}

/// Of blocks of each size a few live on, far apart: what lies between goes back, and no more.
void free_between() {
  const std::size_t total = tests::under_valgrind() ? 4 * MiB : 16 * MiB;
  for (const std::size_t size : {std::size_t{48}, 1 * KiB, 5 * KiB}) {
    CAPTURE(size);
    std::vector<Block> all;
    for (std::size_t i = 0; i < total / size; ++i) all.push_back(make(size, i));
    released = 0;
    // One in the middle of four pages, and one in each slab at least, or nearly.
    const std::size_t distance = 4 * std::min(page_size(), 64 * KiB) / size;
    std::vector<Block> kept;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i % distance == 0) {
        kept.push_back(all[i]);
      } else {
        drop(all[i]);
      }
    }
    Heap::purge();
    if (goes_back()) {
      CHECK(released >= (size <= 1 * KiB ? total / 8 * 5 : total / 4));
    } else {
      CHECK(released == 0);
    }
    CHECK(std::ranges::all_of(kept, is_intact));
    // What comes next is zero where that is promised, and the others stay what they are.
    std::vector<void*> zeroed;
    for (std::size_t i = 0; i < total / 4 / size; ++i) {
      zeroed.push_back(Heap{}.alloc_zeroed(layout(size)));
      REQUIRE(zeroed.back() != nullptr);
      if (!tests::is_zero(zeroed.back(), size)) FAIL_CHECK("not zero");
    }
    CHECK(std::ranges::all_of(kept, is_intact));
    for (void* const ptr : zeroed) Heap{}.dealloc(ptr, layout(size));
    for (const Block& block : kept) drop(block);
    Heap::purge();
  }
}

/// Blocks of any size are replaced at random, and now and then all that is free goes.
void replace() {
  tests::Random random(tests::seed());
  std::vector<Block> all;
  const std::size_t steps = tests::steps(100'000);
  bool intact = true;
  for (std::size_t i = 0; i < steps; ++i) {
    const std::size_t size = tests::log_uniform(random, 8, i % 64 == 0 ? 3e6 : 2e5);
    if (all.size() < 400) {
      all.push_back(make(size, i));
      continue;
    }
    Block& block = all[random() % all.size()];
    intact = intact && is_intact(block);
    drop(block);
    block = make(size, i);
    if (i % 5000 == 0) Heap::purge();
  }
  CHECK(intact);
  CHECK(std::ranges::all_of(all, is_intact));
  for (const Block& block : all) drop(block);
}

/// Blocks that leave the end of their memory unused, and that shrink where they are.
void leave_ends() {
  std::vector<Block> all;
  for (std::size_t i = 0; i < 400; ++i) all.push_back(make(64 * KiB + 100 * (i % 80), i));
  for (const Block& block : all) drop(block);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = make(64 * KiB + 100 * (i % 80), i);
  for (std::size_t size = 4 * MiB; size > 2 * MiB + 100'000; size -= 67'000) {
    Block block = make(size, size);
    block.ptr = Heap{}.realloc(block.ptr, layout(size), size - 67'000);
    REQUIRE(block.ptr != nullptr);
    block.size = size - 67'000;
    tests::fill_words(block.ptr, block.size, block.seed);
    all.push_back(block);
  }
  CHECK(std::ranges::all_of(all, is_intact));
  for (const Block& block : all) drop(block);
}

}  // namespace

TEST_CASE("what lies between blocks that live goes back by whole pages") {
  if (plays()) free_between();
  CHECK(misplaced == 0);
  tests::check_nothing_is_held<Heap>();
}

TEST_CASE("what lives stays as it is, and nothing goes back that is not a whole page") {
  replace();
  leave_ends();
  CHECK(misplaced == 0);
  tests::check_nothing_is_held<Heap>();
}
