// The Allocator interface: results and errors, blocks of size zero, grow and shrink, by_ref.

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <sysalloc/allocator.hpp>
#include <sysalloc/sysalloc.hpp>
#include <type_traits>
#include <utility>

#include "support/bytes.hpp"
#include "support/mock.hpp"

namespace {

using sysalloc::Allocator;
using sysalloc::AllocError;
using sysalloc::Layout;
using sysalloc::System;
using tests::Full;
using tests::Log;
using tests::Minimal;

constexpr Layout layout(std::size_t size, std::size_t align) {
  return Layout::from_size_align(size, align).value();
}

// Without AllocatorInterface a GlobalAlloc is no Allocator.
struct Bare {
  void* alloc(Layout) const noexcept;
  void dealloc(void*, Layout) const noexcept;
};

static_assert(Allocator<System>);
static_assert(Allocator<sysalloc::Global>);
static_assert(Allocator<sysalloc::Counting<System>>);
static_assert(Allocator<sysalloc::Limited<System>>);
static_assert(Allocator<sysalloc::Failing<System>>);
static_assert(Allocator<sysalloc::ByRef<System>>);
static_assert(Allocator<sysalloc::ByRef<Minimal>>);
static_assert(Allocator<Minimal>);
static_assert(!Allocator<Bare>);
static_assert(!Allocator<int>);

static_assert(
    std::is_same_v<sysalloc::AllocResult, std::expected<std::span<std::byte>, AllocError>>);
static_assert(std::is_empty_v<AllocError>);
static_assert(AllocError{} == AllocError{});

static_assert(std::is_empty_v<sysalloc::ByRef<System>>);
static_assert(std::is_trivially_copyable_v<sysalloc::ByRef<System>>);
static_assert(std::is_trivially_copyable_v<sysalloc::ByRef<Minimal>>);
static_assert(sizeof(sysalloc::ByRef<Minimal>) == sizeof(void*));
static_assert(System{}.by_ref() == System{}.by_ref());
static_assert(std::is_nothrow_default_constructible_v<sysalloc::ByRef<System>>);
static_assert(!std::is_default_constructible_v<sysalloc::ByRef<Minimal>>);
static_assert(std::is_default_constructible_v<sysalloc::MemoryResource<sysalloc::ByRef<System>>>);
static_assert(sysalloc::StdAllocator<int, sysalloc::ByRef<System>>::is_always_equal::value);
static_assert(sysalloc::StdAllocator<int, sysalloc::ByRef<System>>{} ==
              sysalloc::StdAllocator<int, sysalloc::ByRef<System>>{System{}.by_ref()});

template <Allocator A>
void check_empty_blocks(const A& a) {
  for (const std::size_t align : {1, 16, 4096, 1 << 30}) {
    const Layout none = layout(0, align);
    for (const auto& result : {a.allocate(none), a.allocate_zeroed(none)}) {
      REQUIRE(result);
      CHECK(result->empty());
      CHECK(result->data() == none.dangling());
      a.deallocate(result->data(), none);
    }
    const auto grown = a.grow(none.dangling(), none, layout(0, 2));
    REQUIRE(grown);
    CHECK(grown->data() == layout(0, 2).dangling());
    const auto shrunk = a.shrink(none.dangling(), none, layout(0, 2));
    REQUIRE(shrunk);
    CHECK(shrunk->data() == layout(0, 2).dangling());
  }
}

}  // namespace

TEST_CASE("AllocError says what it is") {
  std::ostringstream out;
  out << AllocError{};
  CHECK(out.str() == AllocError::what());
  CHECK(out.str().size() > 10);
}

TEST_CASE("a block is exactly as large as asked for") {
  const Minimal a;
  const auto block = a.allocate(layout(33, 64));
  REQUIRE(block);
  CHECK(block->size() == 33);
  CHECK(tests::is_aligned(block->data(), 64));
  a.deallocate(block->data(), layout(33, 64));
  const auto zeroed = a.allocate_zeroed(layout(33, 64));
  REQUIRE(zeroed);
  CHECK(zeroed->size() == 33);
  CHECK(tests::is_zero(zeroed->data(), 33));
  a.deallocate(zeroed->data(), layout(33, 64));
  CHECK(a.log == Log{"alloc 33/64", "dealloc 33/64", "alloc 33/64", "dealloc 33/64"});
}

TEST_CASE("blocks of size zero are served without asking anyone") {
  const Minimal minimal;
  const Full full;
  const sysalloc::Counting<System> counting;
  sysalloc::Failing<System> failing;
  failing.fail_share(1);
  check_empty_blocks(minimal);
  check_empty_blocks(full);
  check_empty_blocks(counting);
  check_empty_blocks(failing);
  check_empty_blocks(System{});
  check_empty_blocks(sysalloc::Global{});
  check_empty_blocks(minimal.by_ref());
  CHECK(minimal.log.empty());
  CHECK(full.log.empty());
  CHECK(counting.stats() == sysalloc::CountingStats{});
  CHECK(failing.attempts() == 0);
}

TEST_CASE("grow from size zero allocates, and shrink to size zero frees") {
  const Minimal a;
  const auto grown = a.grow(layout(0, 8).dangling(), layout(0, 8), layout(40, 16));
  REQUIRE(grown);
  CHECK(grown->size() == 40);
  const auto zeroed = a.grow_zeroed(layout(0, 8).dangling(), layout(0, 8), layout(50, 16));
  REQUIRE(zeroed);
  CHECK(tests::is_zero(zeroed->data(), 50));
  const auto none = a.shrink(grown->data(), layout(40, 16), layout(0, 32));
  REQUIRE(none);
  CHECK(none->empty());
  CHECK(none->data() == layout(0, 32).dangling());
  REQUIRE(a.shrink(zeroed->data(), layout(50, 16), layout(0, 1)));
  CHECK(a.log == Log{"alloc 40/16", "alloc 50/16", "dealloc 40/16", "dealloc 50/16"});
}

TEST_CASE("grow keeps contents and may change the alignment either way") {
  const Minimal a;
  const auto block = a.allocate(layout(100, 32));
  REQUIRE(block);
  tests::fill(block->data(), 100);
  const auto higher = a.grow(block->data(), layout(100, 32), layout(150, 256));
  REQUIRE(higher);
  CHECK(higher->size() == 150);
  CHECK(tests::is_aligned(higher->data(), 256));
  CHECK(tests::holds(higher->data(), 100));
  const auto lower = a.grow(higher->data(), layout(150, 256), layout(160, 1));
  REQUIRE(lower);
  CHECK(tests::holds(lower->data(), 100));
  const auto same = a.grow(lower->data(), layout(160, 1), layout(160, 64));
  REQUIRE(same);
  CHECK(same->size() == 160);
  CHECK(tests::is_aligned(same->data(), 64));
  CHECK(tests::holds(same->data(), 100));
  a.deallocate(same->data(), layout(160, 64));
}

TEST_CASE("grow_zeroed clears only the new tail") {
  // Minimal fills its blocks with 0xcc, so no byte is zero by chance.
  const Minimal a;
  const auto block = a.allocate(layout(100, 32));
  REQUIRE(block);
  tests::fill(block->data(), 100);
  const auto grown = a.grow_zeroed(block->data(), layout(100, 32), layout(300, 64));
  REQUIRE(grown);
  CHECK(grown->size() == 300);
  CHECK(tests::holds(grown->data(), 100));
  CHECK(tests::is_zero(grown->data() + 100, 200));
  a.deallocate(grown->data(), layout(300, 64));
}

TEST_CASE("shrink keeps what is left and may change the alignment either way") {
  const Minimal a;
  const auto block = a.allocate(layout(100, 32));
  REQUIRE(block);
  tests::fill(block->data(), 100);
  const auto higher = a.shrink(block->data(), layout(100, 32), layout(60, 512));
  REQUIRE(higher);
  CHECK(higher->size() == 60);
  CHECK(tests::is_aligned(higher->data(), 512));
  CHECK(tests::holds(higher->data(), 60));
  const auto lower = a.shrink(higher->data(), layout(60, 512), layout(30, 2));
  REQUIRE(lower);
  CHECK(lower->size() == 30);
  CHECK(tests::holds(lower->data(), 30));
  a.deallocate(lower->data(), layout(30, 2));
}

TEST_CASE("an error leaves the old block valid and its contents kept") {
  const sysalloc::Failing<System> a;
  const auto block = a.allocate(layout(100, 32));
  REQUIRE(block);
  tests::fill(block->data(), 100);
  a.fail_share(1);
  CHECK(a.allocate(layout(1, 1)).error() == AllocError{});
  CHECK(a.allocate_zeroed(layout(1, 1)).error() == AllocError{});
  CHECK(a.grow(block->data(), layout(100, 32), layout(200, 32)).error() == AllocError{});
  CHECK(a.grow(block->data(), layout(100, 32), layout(200, 64)).error() == AllocError{});
  CHECK(a.grow_zeroed(block->data(), layout(100, 32), layout(200, 32)).error() == AllocError{});
  CHECK(a.shrink(block->data(), layout(100, 32), layout(50, 32)).error() == AllocError{});
  CHECK(tests::holds(block->data(), 100));
  // Freeing never fails, also as a shrink to nothing.
  const auto none = a.shrink(block->data(), layout(100, 32), layout(0, 1));
  CHECK(none);
  CHECK(a.failures() == 6);
}

TEST_CASE("an error of a Limited leaves the old block valid") {
  const sysalloc::Limited<System> a(150);
  const auto block = a.allocate(layout(100, 32));
  REQUIRE(block);
  tests::fill(block->data(), 100);
  CHECK_FALSE(a.grow(block->data(), layout(100, 32), layout(151, 32)));
  CHECK_FALSE(a.grow_zeroed(block->data(), layout(100, 32), layout(151, 64)));
  CHECK(tests::holds(block->data(), 100));
  CHECK(a.used() == 100);
  const auto grown = a.grow_zeroed(block->data(), layout(100, 32), layout(150, 32));
  REQUIRE(grown);
  CHECK(tests::holds(grown->data(), 100));
  CHECK(tests::is_zero(grown->data() + 100, 50));
  a.deallocate(grown->data(), layout(150, 32));
  CHECK(a.used() == 0);
}

TEST_CASE("by_ref refers to the allocator and has all its members") {
  const Full a;
  const auto ref = a.by_ref();
  const auto copy = ref;
  const auto again = copy.by_ref();
  CHECK(copy == ref);
  CHECK(ref != Full{}.by_ref());
  const auto block = again.allocate_zeroed(layout(10, 8));
  REQUIRE(block);
  CHECK(ref.usable_size(block->data()) >= 10);
  const auto grown = copy.grow(block->data(), layout(10, 8), layout(20, 32));
  REQUIRE(grown);
  void* const more = ref.realloc(grown->data(), layout(20, 32), std::size_t{30});
  REQUIRE(more != nullptr);
  ref.dealloc_unsized(more, 32);
  void* const other = ref.alloc(layout(5, 1));
  again.deallocate(other, layout(5, 1));
  CHECK(a.log == Log{"alloc_zeroed 10/8", "usable_size", "realloc 10/8 to 20/32",
                     "realloc 20/32 to 30", "dealloc_unsized 32", "alloc 5/1", "dealloc 5/1"});
}

TEST_CASE("by_ref of an empty type may outlive the object it was taken from") {
  // The temporaries are gone at the end of each line; the sanitizers see a reference that is not.
  const auto system = System{}.by_ref();
  const auto twice = System{}.by_ref().by_ref();
  const auto global = sysalloc::Global{}.by_ref();
  for (const auto& block : {system.allocate(layout(10, 8)), twice.allocate(layout(10, 8))}) {
    REQUIRE(block);
    System{}.deallocate(block->data(), layout(10, 8));
  }
  const auto block = global.allocate(layout(10, 8));
  REQUIRE(block);
  global.deallocate(block->data(), layout(10, 8));
}

TEST_CASE("by_ref of a by_ref refers to the allocator itself") {
  const Minimal a;
  const Minimal other;
  auto first = a.by_ref();
  const auto second = first.by_ref();
  // Were it a reference to the reference, it would follow.
  first = other.by_ref();
  const auto block = second.allocate(layout(10, 8));
  REQUIRE(block);
  second.deallocate(block->data(), layout(10, 8));
  CHECK(a.log == Log{"alloc 10/8", "dealloc 10/8"});
  CHECK(other.log.empty());
}

TEST_CASE("by_ref of small state refers to it") {
  // Trivially copyable, comparable and as large as a pointer, as a reference would be.
  struct Bump : sysalloc::AllocatorInterface<Bump> {
    explicit Bump(std::byte* begin) : next(begin) {}
    void* alloc(Layout wanted) const noexcept {
      const auto address = reinterpret_cast<std::uintptr_t>(next);
      next += (0 - address) & (wanted.align() - 1);
      return std::exchange(next, next + wanted.size());
    }
    void dealloc(void* /*ptr*/, Layout /*old*/) const noexcept {}
    bool operator==(const Bump& other) const noexcept { return next == other.next; }

    mutable std::byte* next;
  };
  alignas(16) std::array<std::byte, 100> memory{};
  const Bump a(memory.data());
  const Bump equal(memory.data());
  const auto ref = a.by_ref();
  const auto twice = ref.by_ref();
  static_assert(sizeof(ref) == sizeof(void*) && sizeof(twice) == sizeof(void*));
  void* const first = ref.alloc(layout(8, 8));
  void* const second = a.alloc(layout(8, 8));
  void* const third = twice.alloc(layout(8, 8));
  CHECK(first == memory.data());
  CHECK(second == memory.data() + 8);
  CHECK(third == memory.data() + 16);
  CHECK(ref == a.by_ref());
  CHECK(ref != equal.by_ref());
}

namespace {

// Has the members of an Allocator and no others. Says through which one it was called.
struct OnlyAllocator {
  mutable std::string called;

  sysalloc::AllocResult said(const char* what) const noexcept {
    called = what;
    return std::unexpected(AllocError{});
  }
  sysalloc::AllocResult allocate(Layout /*wanted*/) const noexcept { return said("allocate"); }
  sysalloc::AllocResult allocate_zeroed(Layout /*wanted*/) const noexcept { return said("zeroed"); }
  void deallocate(void* /*ptr*/, Layout /*old*/) const noexcept { called = "deallocate"; }
  sysalloc::AllocResult grow(void* /*ptr*/, Layout /*old*/, Layout /*wanted*/) const noexcept {
    return said("grow");
  }
  sysalloc::AllocResult grow_zeroed(void* /*ptr*/, Layout /*old*/,
                                    Layout /*wanted*/) const noexcept {
    return said("grow_zeroed");
  }
  sysalloc::AllocResult shrink(void* /*ptr*/, Layout /*old*/, Layout /*wanted*/) const noexcept {
    return said("shrink");
  }
};
static_assert(Allocator<sysalloc::ByRef<OnlyAllocator>>);
static_assert(!sysalloc::GlobalAlloc<sysalloc::ByRef<OnlyAllocator>>);
static_assert(sysalloc::GlobalAlloc<sysalloc::ByRef<Minimal>>);

}  // namespace

TEST_CASE("by_ref of an Allocator calls the members that it has itself") {
  const OnlyAllocator a;
  const sysalloc::ByRef ref(a);
  const sysalloc::ByRef twice(ref);
  const Layout some = layout(8, 8);
  int there = 0;
  for (const auto& r : {ref, sysalloc::ByRef(a)}) {
    static_cast<void>(r.allocate(some));
    CHECK(a.called == "allocate");
    static_cast<void>(r.allocate_zeroed(some));
    CHECK(a.called == "zeroed");
    r.deallocate(&there, some);
    CHECK(a.called == "deallocate");
    static_cast<void>(r.grow(&there, some, some));
    CHECK(a.called == "grow");
    static_cast<void>(r.grow_zeroed(&there, some, some));
    CHECK(a.called == "grow_zeroed");
    static_cast<void>(r.shrink(&there, some, some));
    CHECK(a.called == "shrink");
  }
  static_cast<void>(twice.allocate(some));
  CHECK(a.called == "allocate");

  // One of them beside those of the interface.
  struct Mine : sysalloc::AllocatorInterface<Mine> {
    mutable int allocated = 0;
    void* alloc(Layout wanted) const noexcept { return System{}.alloc(wanted); }
    void dealloc(void* ptr, Layout old) const noexcept { System{}.dealloc(ptr, old); }
    sysalloc::AllocResult allocate(Layout wanted) const noexcept {
      ++allocated;
      return AllocatorInterface::allocate(wanted);
    }
  };
  const Mine mine;
  const auto result = mine.by_ref().allocate(some);
  REQUIRE(result.has_value());
  CHECK(mine.allocated == 1);
  mine.by_ref().deallocate(result->data(), some);
}
