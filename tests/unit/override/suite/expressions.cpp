// Expressions: new and delete as programs write them, alone and within the standard library.

#include <doctest/doctest.h>

#include <any>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <memory_resource>
#include <string>
#include <thread>
#include <vector>

#include "../../support/bytes.hpp"
#include "../../support/environment.hpp"
#include "../../support/threads.hpp"
#include "../program/program.hpp"

namespace {

using tests::opaque;

// Runs `use`, which tells whether it went well: it must have allocated, and given all back.
template <class Use>
void check_returns(const std::string& what, Use use) {
  CAPTURE(what);
  const std::size_t bytes = program::live_bytes();
  const std::size_t blocks = program::live_blocks();
  const bool good = use(blocks);
  const bool returned = program::live_bytes() == bytes && program::live_blocks() == blocks;
  CHECK(good);
  CHECK(returned);
}

// True when the program holds `count` blocks more than before, as far as it is known.
bool holds_more(std::size_t before, std::size_t count) {
  return !program::counts() || program::live_blocks() == before + count;
}

struct alignas(256) Wide {
  char data[300];
};

// With a destructor, so that an array of it keeps its length in the block.
struct Tracked {
  Tracked() { ++live; }
  Tracked(const Tracked&) = delete;
  Tracked& operator=(const Tracked&) = delete;
  ~Tracked() { --live; }
  static int live;
  char data[24] = {};
};
int Tracked::live = 0;

struct alignas(64) TrackedWide : Tracked {};

struct Base {
  virtual ~Base() = default;
};
struct Derived : Base {
  char data[500] = {};
};
struct alignas(128) DerivedWide : Base {
  char data[500] = {};
};

template <class T>
bool one(std::size_t before) {
  T* const ptr = opaque(new T());
  const bool good = tests::is_aligned(ptr, alignof(T)) && holds_more(before, 1);
  delete ptr;
  return good;
}

template <class T>
bool several(std::size_t before) {
  T* const ptr = opaque(new T[opaque(std::size_t{7})]());
  const bool good = tests::is_aligned(ptr, alignof(T)) && holds_more(before, 1);
  delete[] ptr;
  return good;
}

template <class T>
bool through_base(std::size_t before) {
  Base* const ptr = opaque(static_cast<Base*>(new T()));
  const bool good = holds_more(before, 1);
  delete ptr;
  return good;
}

}  // namespace

TEST_CASE("single objects, arrays and objects deleted through a base come back") {
  check_returns("char", one<char>);
  check_returns("max_align_t", one<std::max_align_t>);
  check_returns("Wide", one<Wide>);
  check_returns("Tracked", one<Tracked>);
  check_returns("TrackedWide", one<TrackedWide>);
  check_returns("char[]", several<char>);
  check_returns("Wide[]", several<Wide>);
  check_returns("Tracked[]", several<Tracked>);
  check_returns("TrackedWide[]", several<TrackedWide>);
  check_returns("Derived", through_base<Derived>);
  check_returns("DerivedWide", through_base<DerivedWide>);
  CHECK(Tracked::live == 0);
  CHECK(program::mismatches() == 0);
}

TEST_CASE("nothrow expressions come back") {
  check_returns("new (nothrow)", [](std::size_t before) {
    auto* const narrow = opaque(new (std::nothrow) Tracked);
    auto* const wide = opaque(new (std::nothrow) Wide[3]);
    const bool good = narrow != nullptr && wide != nullptr && holds_more(before, 2);
    delete narrow;
    delete[] wide;
    return good;
  });
}

TEST_CASE("containers, strings and functions of the standard library come back") {
  check_returns("library", [](std::size_t before) {
    std::map<std::string, std::vector<int>> map;
    for (int i = 0; i < 50; ++i) {
      map["a key that is longer than any small buffer " + std::to_string(i)].resize(100);
    }
    const std::function<std::size_t()> function = [map] { return map.size(); };
    const std::any any = map;
    const auto shared = std::make_shared<Wide>();
    const auto array = std::make_unique<Wide[]>(3);
    std::pmr::vector<Wide> pmr(3, std::pmr::new_delete_resource());
    std::vector<Wide> wide(5);
    return function() == 50 && tests::is_aligned(shared.get(), 256) &&
           tests::is_aligned(wide.data(), 256) && tests::is_aligned(pmr.data(), 256) &&
           (!program::counts() || program::live_blocks() > before + 300);
  });
  CHECK(program::mismatches() == 0);
}

TEST_CASE("threads allocate on one side and free on the other") {
  check_returns("threads", [](std::size_t) {
    constexpr std::size_t threads = 4;
    std::vector<std::vector<std::unique_ptr<std::string>>> handed(threads);
    {
      tests::Threads workers;
      for (std::size_t t = 0; t < threads; ++t) {
        workers.add([&mine = handed[t]] {
          for (std::size_t i = 0; i < 200; ++i) {
            mine.push_back(std::make_unique<std::string>(i, 'x'));
            if (i % 3 == 0) mine[i / 2].reset();
          }
        });
      }
    }
    tests::Threads workers;
    for (std::size_t t = 0; t < threads; ++t) {
      workers.add([&others = handed[(t + 1) % threads]] { others.clear(); });
    }
    return true;
  });
  CHECK(program::mismatches() == 0);
}

#if defined(__cpp_exceptions)
TEST_CASE("a constructor that throws gives its memory back, through each form of new") {
  struct Throws {
    Throws() { throw 1; }
    ~Throws() {}
    char data[100];
  };
  struct alignas(64) ThrowsWide : Throws {};
  const auto caught = [](auto construct) {
    try {
      construct();
    } catch (int) {
      return true;
    }
    return false;
  };
  check_returns("throwing constructors", [&caught](std::size_t) {
    return caught([] { delete new Throws; }) && caught([] { delete[] new Throws[3]; }) &&
           caught([] { delete new (std::nothrow) Throws; }) &&
           caught([] { delete[] new (std::nothrow) Throws[3]; }) &&
           caught([] { delete new ThrowsWide; }) && caught([] { delete[] new ThrowsWide[3]; }) &&
           caught([] { delete new (std::nothrow) ThrowsWide; }) &&
           caught([] { delete[] new (std::nothrow) ThrowsWide[3]; });
  });
  CHECK(program::mismatches() == 0);
}

TEST_CASE("an array whose size overflows is bad_alloc") {
  // Or the bad_array_new_length derived from it: the compiler decides, before operator new or in
  // what it asks of it.
  CHECK_THROWS_AS(delete[] opaque(new Wide[opaque(SIZE_MAX / sizeof(Wide) + 1)]), std::bad_alloc);
  CHECK_THROWS_AS(delete[] opaque(new Tracked[opaque(SIZE_MAX / sizeof(Tracked))]), std::bad_alloc);
}
#endif
