// What operator new and delete tell an allocator that no delete expression says: an alignment where
// none is named, the same at both ends, and no null pointer.

#include <doctest/doctest.h>

#include <bit>
#include <cstddef>
#include <sysalloc/detail/operators.hpp>
#include <sysalloc/sysalloc.hpp>

namespace {

using sysalloc::Layout;
using sysalloc::System;
using sysalloc::detail::Operators;

constexpr std::size_t default_align = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

// What the newest block was asked for with, and what it, or a null pointer, came back with.
struct Told {
  std::size_t size;
  std::size_t align;
  std::size_t freed_align;
  int nulls;
};
constinit Told told{};

// As System on Windows, it keeps something before the block, at a distance that the alignment
// tells.
struct HasHeader {
  void* alloc(Layout layout) const noexcept {
    told.size = layout.size();
    told.align = layout.align();
    const auto whole = Layout::from_size_align(layout.size() + offset(layout.align()), 64);
    void* const start = System{}.alloc(*whole);
    return start == nullptr ? nullptr : static_cast<std::byte*>(start) + offset(layout.align());
  }
  void dealloc(void* ptr, Layout layout) const noexcept { dealloc_unsized(ptr, layout.align()); }
  void dealloc_unsized(void* ptr, std::size_t align) const noexcept {
    if (ptr == nullptr) {
      ++told.nulls;
      return;
    }
    told.freed_align = align;
    // Not by what it was told: the test fails all the same, and would crash instead.
    System{}.dealloc_unsized(static_cast<std::byte*>(ptr) - offset(told.align), 64);
  }

  static std::size_t offset(std::size_t align) noexcept { return align < 8 ? 8 : align; }
};

// One that needs neither, and says so.
struct SaysSo : HasHeader {
  using PropertiesOf = SaysSo;
  static constexpr bool dealloc_ignores_align = true;
  static constexpr bool dealloc_ignores_null = true;
};

// One that only derives from it.
struct Derived : SaysSo {
  void* alloc(Layout layout) const noexcept { return SaysSo::alloc(layout); }
  void dealloc(void* ptr, Layout layout) const noexcept { SaysSo::dealloc(ptr, layout); }
  void dealloc_unsized(void* ptr, std::size_t align) const noexcept {
    SaysSo::dealloc_unsized(ptr, align);
  }
};

// The constants without the type that they are about.
struct Unnamed : HasHeader {
  [[maybe_unused]] static constexpr bool dealloc_ignores_align = true;
  [[maybe_unused]] static constexpr bool dealloc_ignores_null = true;
};

template <class A>
void check_default_align() {
  for (const std::size_t size : {0, 1, 2, 3, 4, 7, 8, 12, 15, 16, 17, 100, 5000}) {
    CAPTURE(size);
    for (int way = 0; way < 3; ++way) {
      CAPTURE(way);
      void* const ptr =
          way == 2 ? Operators<A>::allocate_nothrow(size) : Operators<A>::allocate(size);
      REQUIRE(ptr != nullptr);
      CHECK(told.align == default_align);
      if (way == 0) Operators<A>::deallocate(ptr);
      if (way != 0) Operators<A>::deallocate_sized(ptr, size);
      CHECK(told.freed_align == default_align);
    }
  }
}

template <class A>
int nulls_told() {
  const int before = told.nulls;
  Operators<A>::deallocate(nullptr);
  Operators<A>::deallocate_sized(nullptr, 8);
  Operators<A>::deallocate_aligned(nullptr, 64);
  Operators<A>::deallocate_sized_aligned(nullptr, 8, 64);
  return told.nulls - before;
}

}  // namespace

TEST_CASE("a block comes back with the alignment that it was asked for with") {
  SUBCASE("of any type") { check_default_align<HasHeader>(); }
  SUBCASE("of one that inherits from another that ignores it") { check_default_align<Derived>(); }
  SUBCASE("of one that says so without saying of whom") { check_default_align<Unnamed>(); }
  SUBCASE("behind a wrapper") { check_default_align<sysalloc::Failing<HasHeader>>(); }
}

TEST_CASE("a named alignment is told as it is named") {
  for (const std::size_t align : {1, 2, 8, 16, 64}) {
    void* ptr = Operators<HasHeader>::allocate_aligned(100, align);
    CHECK(told.align == align);
    Operators<HasHeader>::deallocate_aligned(ptr, align);
    CHECK(told.freed_align == align);
    ptr = Operators<HasHeader>::allocate_aligned(100, align);
    Operators<HasHeader>::deallocate_sized_aligned(ptr, 100, align);
    CHECK(told.freed_align == align);
  }
}

TEST_CASE("an allocator that ignores it at deallocation is asked for no more than the size") {
  for (const std::size_t size : {1, 2, 3, 4, 7, 8, 12, 15, 16, 17, 100, 5000}) {
    CAPTURE(size);
    const std::size_t align = size < default_align ? std::bit_floor(size) : default_align;
    Operators<SaysSo>::deallocate(Operators<SaysSo>::allocate(size));
    CHECK(told.align == align);
    Operators<SaysSo>::deallocate_sized(Operators<SaysSo>::allocate(size), size);
    CHECK(told.align == align);
    CHECK(told.freed_align == align);
    using Wrapped = sysalloc::Failing<SaysSo>;
    Operators<Wrapped>::deallocate(Operators<Wrapped>::allocate(size));
    CHECK(told.align == align);
  }
}

TEST_CASE("a null pointer is told to an allocator that says it ignores null, and to no other") {
  CHECK(nulls_told<SaysSo>() == 4);
  CHECK(nulls_told<HasHeader>() == 0);
  CHECK(nulls_told<Derived>() == 0);
  CHECK(nulls_told<Unnamed>() == 0);
}
