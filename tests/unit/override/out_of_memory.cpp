// A whole program walked through its out-of-memory paths: Failing as the global allocator refuses
// one allocation after another, and whatever fails, nothing leaks.

#include <doctest/doctest.h>

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <sysalloc/counting.hpp>
#include <sysalloc/failing.hpp>
#include <sysalloc/global_allocator.hpp>
#include <sysalloc/system.hpp>
#include <vector>

namespace {

constinit const sysalloc::Counting<sysalloc::System> counting;

}  // namespace

// The type arguments have a comma, which the macro must take.
template <class Inner, int>
struct Counted {
  void* alloc(sysalloc::Layout layout) const noexcept { return counting.alloc(layout); }
  void dealloc(void* ptr, sysalloc::Layout layout) const noexcept { counting.dealloc(ptr, layout); }
};

SYSALLOC_GLOBAL_ALLOCATOR(sysalloc::Failing<Counted<sysalloc::System, 0>>);

namespace {

auto& failing() {
  return sysalloc::global_allocator<sysalloc::Failing<Counted<sysalloc::System, 0>>>();
}

struct alignas(128) Wide {
  std::string name = "a name that is longer than any small buffer";
};

// The number of things made: 40 when nothing fails.
std::size_t program() {
  std::map<std::string, std::vector<std::unique_ptr<Wide>>> map;
  std::function<std::size_t()> count = [&map, padding = std::string(100, 'x')] {
    std::size_t things = padding.size() - 100;
    for (const auto& [key, values] : map) things += values.size();
    return things;
  };
  for (int i = 0; i < 8; ++i) {
    auto& values = map["a key that is longer than any small buffer " + std::to_string(i)];
    for (int j = 0; j < 5; ++j) values.push_back(std::make_unique<Wide>());
  }
  return count();
}

}  // namespace

TEST_CASE("every allocation of a program may fail without a leak") {
  std::size_t walked = 0;
  std::size_t leaks = 0;
  std::size_t silent = 0;
  std::size_t things = 0;
  for (;;) {
    const std::size_t blocks = counting.stats().blocks_live;
    const std::size_t failures = failing().failures();
    failing().fail_nth(walked + 1);
    bool out_of_memory = false;
    try {
      things = program();
    } catch (const std::bad_alloc&) {
      out_of_memory = true;
    }
    failing().fail_none();
    if (counting.stats().blocks_live != blocks) ++leaks;
    if (failing().failures() == failures) break;
    if (!out_of_memory) ++silent;
    ++walked;
  }
  CHECK(things == 40);
  CHECK(walked > 100);
  CHECK(leaks == 0);
  CHECK(silent == 0);
}

TEST_CASE("a share of the allocations may fail without a leak") {
  const std::size_t blocks = counting.stats().blocks_live;
  const std::size_t failures = failing().failures();
  std::size_t completed = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    failing().fail_share(0.01, seed);
    try {
      completed += program() == 40 ? 1 : 0;
    } catch (const std::bad_alloc&) {
      continue;
    }
  }
  failing().fail_none();
  const std::size_t refused = failing().failures() - failures;
  const bool leaked = counting.stats().blocks_live != blocks;
  CHECK_FALSE(leaked);
  CHECK(refused > 0);
  CHECK(completed > 0);
  CHECK(completed < 200);
}
