// Limited: the budget holds at every moment, and refusing costs nobody anything.

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <random>
#include <sysalloc/counting.hpp>
#include <sysalloc/failing.hpp>
#include <sysalloc/limited.hpp>
#include <sysalloc/system.hpp>
#include <thread>
#include <vector>

#include "support/address_space.hpp"
#include "support/bytes.hpp"
#include "support/environment.hpp"
#include "support/mock.hpp"
#include "support/threads.hpp"

namespace {

using sysalloc::Layout;
using sysalloc::Limited;
using sysalloc::System;

constexpr Layout layout(std::size_t size, std::size_t align) {
  return Layout::from_size_align(size, align).value();
}

constinit const Limited<System> at_startup(1000);

static_assert(!std::is_copy_constructible_v<Limited<System>>);

// What stands behind a Limited, told at every moment how much is in use.
struct Watched {
  void* alloc(Layout asked) const noexcept {
    void* const ptr = System{}.alloc(asked);
    if (ptr != nullptr) {
      const std::size_t now = used->fetch_add(asked.size()) + asked.size();
      if (now > limit) exceeded->store(true);
    }
    return ptr;
  }
  void dealloc(void* ptr, Layout old) const noexcept {
    used->fetch_sub(old.size());
    System{}.dealloc(ptr, old);
  }

  std::atomic<std::size_t>* used;
  std::atomic<bool>* exceeded;
  std::size_t limit;
};

// What can be made says so, and nothing else: of an allocator with no default, and of one that
// cannot be copied.
using tests::NoDefault;
static_assert(!std::is_default_constructible_v<sysalloc::Limited<NoDefault>>);
static_assert(!std::is_constructible_v<sysalloc::Limited<sysalloc::Limited<System>>, std::size_t,
                                       const sysalloc::Limited<System>&>);
static_assert(!std::is_constructible_v<sysalloc::Limited<NoDefault>, std::size_t>);
static_assert(std::is_constructible_v<sysalloc::Limited<NoDefault>, std::size_t, NoDefault>);

}  // namespace

TEST_CASE("the limit may be reached and not passed") {
  const Limited<System> a(100);
  CHECK(a.limit() == 100);
  CHECK(a.used() == 0);
  CHECK(a.alloc(layout(101, 1)) == nullptr);
  CHECK(a.alloc_zeroed(layout(101, 1)) == nullptr);
  CHECK(a.used() == 0);
  void* const most = a.alloc(layout(60, 1));
  REQUIRE(most != nullptr);
  CHECK(a.alloc(layout(41, 1)) == nullptr);
  void* const rest = a.alloc_zeroed(layout(40, 1));
  REQUIRE(rest != nullptr);
  CHECK(tests::is_zero(rest, 40));
  CHECK(a.used() == 100);
  CHECK(a.alloc(layout(1, 1)) == nullptr);
  a.dealloc(most, layout(60, 1));
  CHECK(a.used() == 40);
  void* const again = a.alloc(layout(60, 64));
  CHECK(again != nullptr);
  a.dealloc(again, layout(60, 64));
  a.dealloc(rest, layout(40, 1));
  CHECK(a.used() == 0);
}

TEST_CASE("sizes near the largest do not wrap around the sum") {
  const Limited<System> a(1000);
  void* const ptr = a.alloc(layout(1000, 1));
  REQUIRE(ptr != nullptr);
  CHECK(a.alloc(layout(PTRDIFF_MAX, 1)) == nullptr);
  CHECK(a.realloc(ptr, layout(1000, 1), std::size_t{PTRDIFF_MAX}) == nullptr);
  CHECK(a.realloc(ptr, layout(1000, 1), std::size_t{SIZE_MAX}) == nullptr);
  CHECK(a.used() == 1000);
  a.dealloc(ptr, layout(1000, 1));
  const tests::CrowdedAddressSpace crowded;
  const Limited<System> unlimited;
  CHECK(unlimited.limit() == SIZE_MAX);
  CHECK(unlimited.alloc(layout(PTRDIFF_MAX, 1)) == nullptr);  // the system has not as much
  CHECK(unlimited.used() == 0);
}

TEST_CASE("a resize pays the difference, and a refused one leaves the block") {
  const Limited<System> a(200);
  void* ptr = a.alloc(layout(100, 8));
  REQUIRE(ptr != nullptr);
  tests::fill(ptr, 100);
  CHECK(a.realloc(ptr, layout(100, 8), std::size_t{201}) == nullptr);
  CHECK(a.realloc(ptr, layout(100, 8), layout(201, 64)) == nullptr);
  CHECK(tests::holds(ptr, 100));
  CHECK(a.used() == 100);
  // To twice the size within the limit: the old block need not be paid for beside the new one.
  ptr = a.realloc(ptr, layout(100, 8), std::size_t{200});
  REQUIRE(ptr != nullptr);
  CHECK(tests::holds(ptr, 100));
  CHECK(a.used() == 200);
  ptr = a.realloc(ptr, layout(200, 8), layout(150, 64));
  REQUIRE(ptr != nullptr);
  CHECK(tests::holds(ptr, 100));
  CHECK(a.used() == 150);
  a.dealloc(ptr, layout(150, 64));
  CHECK(a.used() == 0);
}

TEST_CASE("what the allocator below refuses is not charged") {
  const sysalloc::Failing<System> failing;
  const Limited<sysalloc::ByRef<sysalloc::Failing<System>>> a(1000, failing.by_ref());
  void* const ptr = a.alloc(layout(100, 8));
  REQUIRE(ptr != nullptr);
  failing.fail_share(1);
  CHECK(a.alloc(layout(100, 8)) == nullptr);
  CHECK(a.alloc_zeroed(layout(100, 8)) == nullptr);
  CHECK(a.realloc(ptr, layout(100, 8), std::size_t{200}) == nullptr);
  CHECK(a.realloc(ptr, layout(100, 8), std::size_t{50}) == nullptr);
  CHECK(a.realloc(ptr, layout(100, 8), layout(200, 64)) == nullptr);
  CHECK(a.used() == 100);
  CHECK(failing.failures() == 5);
  a.dealloc(ptr, layout(100, 8));
}

TEST_CASE("what is refused is not asked of the allocator below") {
  const sysalloc::Failing<System> below;
  const Limited<sysalloc::ByRef<sysalloc::Failing<System>>> a(10, below.by_ref());
  CHECK(a.alloc(layout(11, 1)) == nullptr);
  CHECK(a.alloc_zeroed(layout(11, 1)) == nullptr);
  CHECK(below.attempts() == 0);

  // Also where the sum of what is in use and what is asked for would wrap around.
  const Limited<sysalloc::ByRef<sysalloc::Failing<System>>> b(100, below.by_ref());
  void* const one = b.alloc(layout(50, 1));
  void* const two = b.alloc(layout(50, 1));
  REQUIRE(one != nullptr);
  REQUIRE(two != nullptr);
  CHECK(b.realloc(one, layout(50, 1), std::size_t{SIZE_MAX}) == nullptr);
  CHECK(b.used() == 100);
  CHECK(below.attempts() == 2);
  b.dealloc(one, layout(50, 1));
  b.dealloc(two, layout(50, 1));
}

TEST_CASE("the limit may change at any time") {
  const Limited<System> a;
  void* const ptr = a.alloc(layout(100, 8));
  REQUIRE(ptr != nullptr);
  a.set_limit(50);
  CHECK(a.limit() == 50);
  CHECK(a.alloc(layout(1, 1)) == nullptr);
  // Shrinking is no new use, also above the limit.
  void* const smaller = a.realloc(ptr, layout(100, 8), std::size_t{60});
  REQUIRE(smaller != nullptr);
  CHECK(a.used() == 60);
  CHECK(a.alloc(layout(1, 1)) == nullptr);
  void* const smallest = a.realloc(smaller, layout(60, 8), std::size_t{40});
  REQUIRE(smallest != nullptr);
  void* const fits = a.alloc(layout(10, 1));
  CHECK(fits != nullptr);
  a.dealloc(fits, layout(10, 1));
  a.dealloc(smallest, layout(40, 8));
}

TEST_CASE("a limit given at startup holds") {
  CHECK(at_startup.limit() == 1000);
  CHECK(at_startup.alloc(layout(1001, 1)) == nullptr);
  void* const ptr = at_startup.alloc(layout(1000, 1));
  REQUIRE(ptr != nullptr);
  CHECK(at_startup.usable_size(ptr) == System{}.usable_size(ptr));
  at_startup.dealloc(ptr, layout(1000, 1));
}

TEST_CASE("threads never have more than the limit between them, not for a moment") {
  // Four blocks of one thread can exceed it, so that some are refused however threads are
  // scheduled.
  constexpr std::size_t limit = 1000;
  std::atomic<std::size_t> below{0};
  std::atomic<bool> exceeded{false};
  std::atomic<std::size_t> served{0};
  std::atomic<std::size_t> refused{0};
  const Limited<Watched> a(limit, Watched{&below, &exceeded, limit});
  {
    tests::Threads workers;
    for (unsigned seed = 1; seed <= 4; ++seed) {
      workers.add([&, seed] {
        std::mt19937 random(seed);
        std::vector<std::pair<void*, Layout>> held;
        for (int i = 0; i < 4000; ++i) {
          const Layout asked = layout(1 + random() % 700, 8);
          if (void* const ptr = a.alloc(asked)) {
            held.emplace_back(ptr, asked);
            ++served;
          } else {
            ++refused;
          }
          if (a.used() > limit) exceeded = true;
          if (held.size() > 3 || (!held.empty() && random() % 2 == 0)) {
            a.dealloc(held.back().first, held.back().second);
            held.pop_back();
          }
        }
        for (const auto& [ptr, old] : held) a.dealloc(ptr, old);
      });
    }
  }
  CHECK_FALSE(exceeded);
  CHECK(a.used() == 0);
  CHECK(below == 0);
  // Both happened, or the test tells nothing.
  CHECK(served > 0);
  CHECK(refused > 0);
}

TEST_CASE("a budget for one block has one holder at a time") {
  // Two threads must be within the same few instructions at once for a race to show, so it goes on
  // until the budget has changed hands often, which on a busy machine takes many rounds. Under
  // valgrind there is nothing to find: it runs one thread at a time.
  constexpr int enough_handovers = 300'000;
  const int most_rounds = tests::under_valgrind() ? 10'000 : 2'000'000;
  const Limited<tests::Nothing> a(100);
  std::atomic<int> holders{0};
  std::atomic<int> last_holder{0};
  std::atomic<int> handovers{0};
  std::atomic<std::size_t> faults{0};
  {
    tests::Threads workers;
    for (int self = 1; self <= 4; ++self) {
      workers.add([&, self] {
        for (int i = 0; i < most_rounds && handovers < enough_handovers; ++i) {
          void* const ptr = a.alloc(layout(100, 8));
          if (ptr == nullptr) continue;
          if (holders.fetch_add(1) != 0) ++faults;
          if (last_holder.exchange(self) != self) ++handovers;
          holders.fetch_sub(1);
          a.dealloc(ptr, layout(100, 8));
        }
      });
    }
  }
  CHECK(faults == 0);
  CHECK(handovers > 0);
  CHECK(a.used() == 0);
}
