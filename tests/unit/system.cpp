// System: what kind of type it is, and that its blocks are what was asked for.

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <sstream>
#include <sysalloc/system.hpp>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/address_space.hpp"
#include "support/bytes.hpp"
#include "support/environment.hpp"

namespace {

using sysalloc::Layout;
using sysalloc::System;
using tests::opaque;

// A unit type that carries no state: nothing to move, mutate, share between threads or leave broken
// by an exception (Send, Sync, Unpin, Freeze, UnwindSafe and RefUnwindSafe in Rust).
static_assert(std::is_empty_v<System>);
static_assert(std::is_trivially_copyable_v<System>);
static_assert(std::is_trivially_destructible_v<System>);
static_assert(std::is_trivially_default_constructible_v<System>);
static_assert(std::is_nothrow_default_constructible_v<System>);
static_assert(std::is_nothrow_copy_constructible_v<System>);
static_assert(std::is_nothrow_copy_assignable_v<System>);
static_assert(std::is_nothrow_move_constructible_v<System>);
static_assert(std::is_nothrow_swappable_v<System>);

constexpr System one{};
constexpr System another = one;
static_assert(one == another);
static_assert(!(one != another));
static_assert(System{} == System{});

static_assert(sysalloc::GlobalAlloc<System>);
static_assert(sysalloc::Allocator<System>);
static_assert(sysalloc::HasAllocZeroed<System>);
static_assert(sysalloc::HasRealloc<System>);
static_assert(sysalloc::HasReallocLayout<System>);
static_assert(sysalloc::HasUsableSize<System>);
static_assert(sysalloc::HasDeallocUnsized<System>);
static_assert(System::min_align == (sizeof(void*) == 8 ? 16 : 8));

// Every member is noexcept and callable on a const object.
constexpr Layout any = Layout::of<int>();
static_assert(noexcept(one.alloc(any)));
static_assert(noexcept(one.alloc_zeroed(any)));
static_assert(noexcept(one.dealloc(nullptr, any)));
static_assert(noexcept(one.dealloc_unsized(nullptr, std::size_t{1})));
static_assert(noexcept(one.realloc(nullptr, any, std::size_t{1})));
static_assert(noexcept(one.realloc(nullptr, any, any)));
static_assert(noexcept(one.usable_size(nullptr)));
static_assert(noexcept(one.allocate(any)));
static_assert(noexcept(one.allocate_zeroed(any)));
static_assert(noexcept(one.deallocate(nullptr, any)));
static_assert(noexcept(one.grow(nullptr, any, any)));
static_assert(noexcept(one.grow_zeroed(nullptr, any, any)));
static_assert(noexcept(one.shrink(nullptr, any, any)));
static_assert(noexcept(one.by_ref()));
static_assert(noexcept(one == another));

Layout layout(std::size_t size, std::size_t align) {
  return Layout::from_size_align(size, align).value();
}

// Sizes on both sides of every alignment's own value. One for the large ones, which cost a checker
// much time.
std::vector<std::size_t> sizes_around(std::size_t align) {
  if (align > (std::size_t{1} << 20)) return {100};
  std::vector<std::size_t> sizes{1, 3, 16, 24, 100};
  if (align > 1 && align <= 4096) sizes.insert(sizes.end(), {align - 1, align, align + 1});
  return sizes;
}

}  // namespace

TEST_CASE("System prints its name") {
  std::ostringstream out;
  out << System{};
  CHECK(out.str() == "System");
#if defined(__cpp_lib_format)
  CHECK(std::format("{}", System{}) == "System");
  CHECK(std::format("{:>8}", System{}) == "  System");
#else
  tests::not_checked("std::formatter<System>", "this standard library has no <format>");
#endif
#if defined(__cpp_lib_format_ranges)
  static_assert(std::formattable<System, char>);
  CHECK(std::format("{}", std::vector<System>(2)) == "[System, System]");
#endif
}

TEST_CASE("a block of every alignment is aligned and holds its bytes") {
  for (std::size_t align = 1; align <= std::size_t{2} << 30; align *= 2) {
    if (align > tests::largest_align()) {
      tests::not_checked("larger alignments", "no room, or valgrind ends the program for them");
      break;
    }
    for (const std::size_t size : sizes_around(align)) {
      CAPTURE(align);
      CAPTURE(size);
      void* const ptr = System{}.alloc(layout(size, align));
      REQUIRE(ptr != nullptr);
      CHECK(tests::is_aligned(ptr, align));
      tests::fill(ptr, size);
      CHECK(tests::holds(ptr, size));
      CHECK(System{}.usable_size(ptr, align) >= size);
      System{}.dealloc(ptr, layout(size, align));

      void* const zeroed = System{}.alloc_zeroed(layout(size, align));
      REQUIRE(zeroed != nullptr);
      CHECK(tests::is_aligned(zeroed, align));
      CHECK(tests::is_zero(zeroed, size));
      System{}.dealloc_unsized(zeroed, align);
    }
  }
}

TEST_CASE("blocks that live at once do not overlap") {
  std::vector<std::pair<void*, Layout>> blocks;
  for (unsigned i = 0; i < 500; ++i) {
    const Layout asked = layout(1 + i * 7 % 300, std::size_t{1} << (i % 9));
    blocks.emplace_back(System{}.alloc(asked), asked);
    tests::fill(blocks.back().first, asked.size(), i);
  }
  for (unsigned i = 0; i < 500; ++i) {
    CHECK(tests::holds(blocks[i].first, blocks[i].second.size(), i));
    System{}.dealloc(blocks[i].first, blocks[i].second);
  }
}

TEST_CASE("alloc_zeroed gives zeroes also where the heap is dirty") {
  for (const std::size_t align : {1, 8, 16, 32, 64, 4096}) {
    for (const std::size_t size : {1, 8, 15, 16, 100, 1000, 5000, 40'000, 300'000}) {
      const Layout asked = layout(size, align);
      // Several, so that every kind of free list of the C library has dirty blocks of this size.
      std::vector<void*> dirty;
      for (int i = 0; i < 12; ++i) {
        dirty.push_back(System{}.alloc(asked));
        REQUIRE(dirty.back() != nullptr);
        tests::fill(dirty.back(), size);
      }
      for (void* const ptr : dirty) System{}.dealloc(ptr, asked);
      for (void*& ptr : dirty) {
        ptr = System{}.alloc_zeroed(asked);
        REQUIRE(ptr != nullptr);
        CAPTURE(asked);
        CHECK(tests::is_zero(ptr, size));
      }
      for (void* const ptr : dirty) System{}.dealloc(ptr, asked);
    }
  }
}

TEST_CASE("what no machine has is refused with null") {
  const tests::CrowdedAddressSpace crowded;
  for (const std::size_t align :
       {std::size_t{1}, std::size_t{16}, std::size_t{64}, std::size_t{4096}}) {
    for (const std::size_t below : {std::size_t{0}, std::size_t{1}, std::size_t{PTRDIFF_MAX} / 2,
                                    std::size_t{PTRDIFF_MAX} / 64 * 47}) {
      const Layout huge = layout(opaque(std::size_t{PTRDIFF_MAX} - (align - 1) - below), align);
      CAPTURE(huge);
      CHECK(System{}.alloc(huge) == nullptr);
      CHECK(System{}.alloc_zeroed(huge) == nullptr);
      CHECK(System{}.allocate(huge).error() == sysalloc::AllocError{});
      CHECK(System{}.allocate_zeroed(huge).error() == sysalloc::AllocError{});
    }
  }
  if (!tests::under_valgrind()) {
    CHECK(System{}.alloc(layout(1, tests::impossible_align)) == nullptr);
    CHECK(System{}.alloc_zeroed(layout(1, tests::impossible_align)) == nullptr);
  } else {
    tests::not_checked("an alignment that no machine has", "valgrind ends the program for it");
  }
}

TEST_CASE("a null pointer is freed without effect") {
  CHECK(System::dealloc_ignores_null);
  System{}.dealloc(nullptr, layout(8, 8));
  System{}.dealloc(nullptr, layout(8, 64));
  System{}.dealloc_unsized(nullptr, 8);
  System{}.dealloc_unsized(nullptr, 64);
}

TEST_CASE("usable_size is at least what was asked for, and exact where a checker watches") {
  for (std::size_t size = 1; size < 3000; size += 37) {
    for (const std::size_t align : {1, 16, 64, 1024}) {
      void* const ptr = System{}.alloc(layout(size, align));
      REQUIRE(ptr != nullptr);
      if (tests::plain_malloc()) {
        CHECK(System{}.usable_size(ptr, align) >= size);
      } else {
        CHECK(System{}.usable_size(ptr, align) == size);
      }
      if (align <= System::min_align || !tests::blocks_have_headers) {
        CHECK(System{}.usable_size(ptr) == System{}.usable_size(ptr, align));
      }
      System{}.dealloc(ptr, layout(size, align));
    }
  }
}
