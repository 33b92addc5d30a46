// MemoryResource: any allocator behind std::pmr.

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory_resource>
#include <new>
#include <string>
#include <sysalloc/counting.hpp>
#include <sysalloc/limited.hpp>
#include <sysalloc/memory_resource.hpp>
#include <sysalloc/system.hpp>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "support/address_space.hpp"
#include "support/bytes.hpp"
#include "support/environment.hpp"
#include "support/mock.hpp"

namespace {

using sysalloc::Counting;
using sysalloc::MemoryResource;
using sysalloc::System;
using tests::opaque;

using Counted = Counting<System>;

static_assert(std::is_base_of_v<std::pmr::memory_resource, MemoryResource<>>);
static_assert(std::is_same_v<MemoryResource<>, MemoryResource<sysalloc::Global>>);
static_assert(std::is_nothrow_default_constructible_v<MemoryResource<System>>);
static_assert(!std::is_default_constructible_v<MemoryResource<Counted>>);

}  // namespace

TEST_CASE("it asks for just the layout, and for one byte where there are none") {
  const tests::Minimal minimal;
  MemoryResource<tests::Minimal> resource(minimal);
  void* const ptr = resource.allocate(24, 64);
  CHECK(tests::is_aligned(ptr, 64));
  resource.deallocate(ptr, 24, 64);
  void* const one = resource.allocate(0, 8);
  void* const other = resource.allocate(0, 8);
  CHECK(one != nullptr);
  CHECK(one != other);
  resource.deallocate(one, 0, 8);
  resource.deallocate(other, 0, 8);
  CHECK(minimal.log == tests::Log{"alloc 24/64", "dealloc 24/64", "alloc 1/8", "alloc 1/8",
                                  "dealloc 1/8", "dealloc 1/8"});
}

TEST_CASE("every kind of pmr container draws from it and gives all back") {
  const Counted counting;
  MemoryResource<Counted> resource(counting);
  {
    std::pmr::vector<std::pmr::string> words(&resource);
    std::pmr::map<int, std::pmr::string> names(&resource);
    std::pmr::unordered_map<int, int> numbers(&resource);
    for (int i = 0; i < 200; ++i) {
      words.emplace_back("a word that is longer than any small buffer");
      names.emplace(i, "a name that is longer than any small buffer");
      numbers.emplace(i, i);
    }
    CHECK(words.back().get_allocator().resource() == &resource);
    CHECK(names.at(199).size() == 43);
    CHECK(numbers.at(199) == 199);
    CHECK(counting.stats().blocks_live > 1000 - 200);
  }
  CHECK(counting.stats().blocks_live == 0);
  CHECK(counting.stats().bytes_live == 0);
}

TEST_CASE("it serves as the upstream of the pools of the standard library") {
  const Counted counting;
  MemoryResource<Counted> resource(counting);
  {
    std::pmr::monotonic_buffer_resource monotonic(1000, &resource);
    std::pmr::vector<int> numbers(&monotonic);
    for (int i = 0; i < 10'000; ++i) numbers.push_back(i);
    CHECK(numbers[9999] == 9999);
    std::pmr::unsynchronized_pool_resource pool(&resource);
    std::pmr::map<int, int> map(&pool);
    for (int i = 0; i < 1000; ++i) map.emplace(i, i);
    CHECK(map.at(999) == 999);
    CHECK(counting.stats().blocks_live > 2);
  }
  CHECK(counting.stats().blocks_live == 0);
  CHECK(counting.stats().bytes_live == 0);
}

TEST_CASE("over-aligned elements are aligned") {
  struct alignas(1024) Wide {
    int value = 0;
  };
  MemoryResource<System> resource;
  std::pmr::vector<Wide> vector(3, &resource);
  CHECK(tests::is_aligned(vector.data(), 1024));
}

TEST_CASE("small state is referred to, and not copied") {
  const tests::Tally one;
  MemoryResource<tests::Tally> resource(one);
  void* const ptr = resource.allocate(100, 8);
  CHECK(one.live == 100);
  resource.deallocate(ptr, 100, 8);
  CHECK(one.live == 0);
}

TEST_CASE("equal when they draw from the same allocator, and to nothing else") {
  MemoryResource<System> a;
  MemoryResource<System> b;
  MemoryResource<sysalloc::Global> global;
  CHECK(a == a);
  CHECK(a != *std::pmr::new_delete_resource());
  const Counted one;
  const Counted two;
  MemoryResource<Counted> c(one);
  MemoryResource<Counted> d(one);
  MemoryResource<Counted> e(two);
  CHECK(c == c);
  CHECK(c != e);
  CHECK(c != a);
  CHECK(a != c);
  CHECK(a != global);
#if defined(__cpp_rtti)
  CHECK(a == b);
  CHECK(c == d);
  // Equal resources free each other's blocks.
  d.deallocate(c.allocate(10), 10);
  CHECK(one.stats().blocks_live == 0);
#else
  tests::not_checked("equality of two resources over one allocator", "it needs RTTI");
#endif
}

#if defined(__cpp_exceptions)
TEST_CASE("what cannot be served is bad_alloc, and wraps around nowhere") {
  const tests::CrowdedAddressSpace crowded;
  MemoryResource<System> resource;
  for (const std::size_t size :
       {tests::impossible_size, std::size_t{PTRDIFF_MAX}, std::size_t{PTRDIFF_MAX} + 1,
        SIZE_MAX - 63, std::size_t{SIZE_MAX}}) {
    for (const std::size_t align : {1, 16, 64}) {
      CHECK_THROWS_AS(static_cast<void>(resource.allocate(opaque(size), align)), std::bad_alloc);
    }
  }
  const sysalloc::Limited<System> limited(100);
  MemoryResource<sysalloc::Limited<System>> small(limited);
  void* const ptr = small.allocate(100);
  CHECK_THROWS_AS(static_cast<void>(small.allocate(1)), std::bad_alloc);
  small.deallocate(ptr, 100);
  CHECK(limited.used() == 0);
}

TEST_CASE("an alignment that is none is bad_alloc") {
  MemoryResource<System> resource;
  CHECK_THROWS_AS(static_cast<void>(resource.allocate(8, opaque(std::size_t{3}))), std::bad_alloc);
  CHECK_THROWS_AS(static_cast<void>(resource.allocate(8, opaque(std::size_t{0}))), std::bad_alloc);
}
#endif
