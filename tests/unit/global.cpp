// The functions of the global allocator and Global, in a program that links the library alone: the
// global allocator is then System. override/suite/functions.cpp has the other allocators.

#include <doctest/doctest.h>

#include <cstdint>
#include <iomanip>
#include <ostream>
#include <sstream>
#include <sysalloc/global.hpp>
#include <sysalloc/system.hpp>
#include <type_traits>
#include <vector>

#include "support/address_space.hpp"
#include "support/bytes.hpp"
#include "support/environment.hpp"

namespace {

using sysalloc::Global;
using sysalloc::Layout;

Layout layout(std::size_t size, std::size_t align) {
  return Layout::from_size_align(size, align).value();
}

static_assert(std::is_empty_v<Global>);
static_assert(std::is_trivially_copyable_v<Global>);
static_assert(std::is_nothrow_default_constructible_v<Global>);
static_assert(Global{} == Global{});
static_assert(noexcept(sysalloc::alloc(Layout::of<int>())));
static_assert(noexcept(sysalloc::alloc_zeroed(Layout::of<int>())));
static_assert(noexcept(sysalloc::dealloc(nullptr, Layout::of<int>())));
static_assert(noexcept(sysalloc::realloc(nullptr, Layout::of<int>(), 1)));
static_assert(noexcept(sysalloc::realloc(nullptr, Layout::of<int>(), Layout::of<int>())));

}  // namespace

TEST_CASE("the functions allocate from System when nothing else is chosen") {
  void* ptr = sysalloc::alloc(layout(100, 64));
  REQUIRE(ptr != nullptr);
  CHECK(tests::is_aligned(ptr, 64));
  // Only a block of System can be asked this.
  CHECK(sysalloc::System{}.usable_size(ptr) >= 100);
  tests::fill(ptr, 100);
  ptr = sysalloc::realloc(ptr, layout(100, 64), 5000);
  REQUIRE(ptr != nullptr);
  CHECK(tests::is_aligned(ptr, 64));
  CHECK(tests::holds(ptr, 100));
  ptr = sysalloc::realloc(ptr, layout(5000, 64), layout(6000, 256));
  REQUIRE(ptr != nullptr);
  CHECK(tests::is_aligned(ptr, 256));
  CHECK(tests::holds(ptr, 100));
  CHECK(sysalloc::realloc(ptr, layout(6000, 256), tests::opaque(std::size_t{SIZE_MAX})) == nullptr);
  CHECK(tests::holds(ptr, 100));
  sysalloc::dealloc(ptr, layout(6000, 256));

  void* const zeroed = sysalloc::alloc_zeroed(layout(1000, 8));
  REQUIRE(zeroed != nullptr);
  CHECK(tests::is_zero(zeroed, 1000));
  sysalloc::dealloc(zeroed, layout(1000, 8));
  const tests::CrowdedAddressSpace crowded;
  CHECK(sysalloc::alloc(layout(tests::opaque(tests::impossible_size), 8)) == nullptr);
}

TEST_CASE("Global prints its name") {
  std::ostringstream out;
  out << Global{} << '|' << std::setw(8) << Global{};
  CHECK(out.str() == "Global|  Global");
#if defined(__cpp_lib_format)
  CHECK(std::format("{}|{:>8}", Global{}, Global{}) == "Global|  Global");
#else
  tests::not_checked("std::formatter<Global>", "this standard library has no <format>");
#endif
#if defined(__cpp_lib_format_ranges)
  static_assert(std::formattable<Global, char>);
  CHECK(std::format("{}", std::vector<Global>(2)) == "[Global, Global]");
#endif
}

TEST_CASE("Global goes to the same allocator as the functions") {
  const auto block = Global{}.allocate(layout(100, 64));
  REQUIRE(block);
  tests::fill(block->data(), 100);
  void* const ptr = sysalloc::realloc(block->data(), layout(100, 64), 200);
  REQUIRE(ptr != nullptr);
  const auto grown = Global{}.grow_zeroed(ptr, layout(200, 64), layout(300, 128));
  REQUIRE(grown);
  CHECK(tests::holds(grown->data(), 100));
  CHECK(tests::is_zero(grown->data() + 200, 100));
  const auto shrunk = Global{}.shrink(grown->data(), layout(300, 128), layout(100, 8));
  REQUIRE(shrunk);
  CHECK(tests::holds(shrunk->data(), 100));
  sysalloc::dealloc(shrunk->data(), layout(100, 8));
}
