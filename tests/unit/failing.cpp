// Failing: refuses exactly the allocations it is told to, and serves to walk through every
// out-of-memory path of a program.

#include <doctest/doctest.h>

#include <cstddef>
#include <functional>
#include <limits>
#include <map>
#include <new>
#include <ostream>
#include <string>
#include <sysalloc/counting.hpp>
#include <sysalloc/failing.hpp>
#include <sysalloc/limited.hpp>
#include <sysalloc/std_allocator.hpp>
#include <sysalloc/system.hpp>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/bytes.hpp"
#include "support/mock.hpp"

namespace {

using sysalloc::Counting;
using sysalloc::Failing;
using sysalloc::Layout;
using sysalloc::System;

constexpr Layout layout(std::size_t size, std::size_t align) {
  return Layout::from_size_align(size, align).value();
}

constinit const Failing<System> at_startup;

// Which of the next `count` allocations are served, one character each.
template <class A>
std::string served(const A& a, std::size_t count) {
  std::string result;
  for (std::size_t i = 0; i < count; ++i) {
    void* const ptr = a.alloc(layout(8, 8));
    result += ptr != nullptr ? '+' : '-';
    if (ptr != nullptr) a.dealloc(ptr, layout(8, 8));
  }
  return result;
}

// What can be made says so, and nothing else: of an allocator with no default, and of one that
// cannot be copied.
using tests::NoDefault;
static_assert(!std::is_default_constructible_v<sysalloc::Failing<NoDefault>>);
static_assert(!std::is_constructible_v<sysalloc::Failing<sysalloc::Limited<System>>,
                                       const sysalloc::Limited<System>&>);
static_assert(std::is_constructible_v<sysalloc::Failing<NoDefault>, NoDefault>);

}  // namespace

TEST_CASE("it refuses nothing unless told to") {
  CHECK(served(at_startup, 20) == std::string(20, '+'));
  CHECK(at_startup.attempts() == 20);
  CHECK(at_startup.failures() == 0);
}

TEST_CASE("fail_nth refuses the n-th from now and no other") {
  const Failing<System> a;
  a.fail_nth(1);
  CHECK(served(a, 4) == "-+++");
  a.fail_nth(3);
  CHECK(served(a, 5) == "++-++");
  a.fail_nth(2);
  a.fail_nth(4);  // takes the place of the other
  CHECK(served(a, 5) == "+++-+");
  a.fail_nth(0);
  CHECK(served(a, 5) == "+++++");
  a.fail_nth(2);
  a.fail_none();
  CHECK(served(a, 5) == "+++++");
  CHECK(a.attempts() == 24);
  CHECK(a.failures() == 3);
}

TEST_CASE("every way to allocate counts as one, and a refusal leaves the block") {
  const Failing<System> a;
  void* ptr = a.alloc(layout(100, 32));
  REQUIRE(ptr != nullptr);
  tests::fill(ptr, 100);
  a.fail_nth(2);
  ptr = a.realloc(ptr, layout(100, 32), std::size_t{120});
  REQUIRE(ptr != nullptr);
  CHECK(a.realloc(ptr, layout(120, 32), std::size_t{500}) == nullptr);
  CHECK(tests::holds(ptr, 100));
  a.fail_nth(1);
  CHECK(a.realloc(ptr, layout(120, 32), layout(500, 64)) == nullptr);
  CHECK(tests::holds(ptr, 100));
  a.fail_nth(1);
  CHECK(a.alloc_zeroed(layout(8, 8)) == nullptr);
  void* const zeroed = a.alloc_zeroed(layout(800, 8));
  REQUIRE(zeroed != nullptr);
  CHECK(tests::is_zero(zeroed, 800));
  CHECK(a.usable_size(zeroed) == System{}.usable_size(zeroed));
  CHECK(a.attempts() == 6);
  CHECK(a.failures() == 3);
  a.dealloc(zeroed, layout(800, 8));
  a.dealloc_unsized(ptr, 32);
  CHECK(a.attempts() == 6);
}

TEST_CASE("a share is the same for the same seed, and another for another") {
  const Failing<System> a;
  const Failing<System> b;
  const Failing<System> c;
  a.fail_share(0.5, 7);
  b.fail_share(0.5, 7);
  c.fail_share(0.5, 8);
  const std::string pattern = served(a, 500);
  CHECK(served(b, 500) == pattern);
  CHECK(served(c, 500) != pattern);
}

TEST_CASE("a share is about as large as asked for") {
  for (const double share : {0.01, 0.1, 0.5, 0.9}) {
    const Failing<System> a;
    a.fail_share(share);
    static_cast<void>(served(a, 4000));
    CAPTURE(share);
    // The same seed every time, so this cannot fail now and then.
    CHECK(static_cast<double>(a.failures()) > 4000 * share * 0.8);
    CHECK(static_cast<double>(a.failures()) < 4000 * share * 1.25);
  }
}

TEST_CASE("shares at and beyond the ends are none and all, and what is no number is none") {
  const Failing<System> a;
  a.fail_share(1);
  CHECK(served(a, 50) == std::string(50, '-'));
  a.fail_share(2);
  CHECK(served(a, 50) == std::string(50, '-'));
  a.fail_share(std::numeric_limits<double>::infinity());
  CHECK(served(a, 50) == std::string(50, '-'));
  a.fail_share(0);
  CHECK(served(a, 50) == std::string(50, '+'));
  a.fail_share(-1);
  CHECK(served(a, 50) == std::string(50, '+'));
  // Not a constant, of which the compiler could make what it likes.
  const volatile double no_number = std::numeric_limits<double>::quiet_NaN();
  a.fail_share(no_number);
  CHECK(served(a, 50) == std::string(50, '+'));
  a.fail_share(1);
  a.fail_nth(2);  // takes the place of the share
  CHECK(served(a, 5) == "+-+++");
}

TEST_CASE("a failure of the allocator below is not one of its own") {
  tests::Minimal minimal;
  minimal.refuse = true;
  const Failing<sysalloc::ByRef<tests::Minimal>> a(minimal.by_ref());
  CHECK(a.alloc(layout(8, 8)) == nullptr);
  CHECK(a.attempts() == 1);
  CHECK(a.failures() == 0);
  a.fail_nth(1);
  CHECK(a.alloc(layout(8, 8)) == nullptr);
  CHECK(a.failures() == 1);
  CHECK(minimal.log == tests::Log{"alloc 8/8"});
}

#if defined(__cpp_exceptions)
TEST_CASE("every out-of-memory path of a program with containers can be walked") {
  using A = Failing<sysalloc::ByRef<Counting<System>>>;
  using String = std::basic_string<char, std::char_traits<char>, sysalloc::StdAllocator<char, A>>;
  using Vector = std::vector<String, sysalloc::StdAllocator<String, A>>;
  using Pair = std::pair<const int, Vector>;
  using Map = std::map<int, Vector, std::less<>, sysalloc::StdAllocator<Pair, A>>;

  const Counting<System> counting;
  const A failing(counting.by_ref());
  // Returns the number of words that the map holds in the end.
  const auto program = [&failing] {
    Map map(std::less<>{}, failing);
    std::size_t words = 0;
    for (int key = 0; key < 4; ++key) {
      Vector& vector = map.try_emplace(key, failing).first->second;
      for (int i = 0; i < 5; ++i) {
        vector.emplace_back("a word that is longer than any small buffer", failing);
        ++words;
      }
    }
    return words;
  };

  CHECK(program() == 20);
  const std::size_t allocations = failing.attempts();
  CHECK(allocations > 30);
  std::size_t walked = 0;
  for (;;) {
    const std::size_t before = failing.failures();
    failing.fail_nth(walked + 1);
    bool out_of_memory = false;
    std::size_t words = 0;
    try {
      words = program();
    } catch (const std::bad_alloc&) {
      out_of_memory = true;
    }
    // Whatever the path, nothing is left behind.
    CHECK(counting.stats().blocks_live == 0);
    CHECK(counting.stats().bytes_live == 0);
    if (failing.failures() == before) {
      CHECK(words == 20);
      break;
    }
    CHECK(out_of_memory);
    ++walked;
  }
  CHECK(walked == allocations);
}
#endif
