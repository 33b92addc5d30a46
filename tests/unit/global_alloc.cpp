// The concept GlobalAlloc, and the functions that use an optional member or do without it.

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <sysalloc/global_alloc.hpp>
#include <sysalloc/sysalloc.hpp>

#include "support/bytes.hpp"
#include "support/environment.hpp"
#include "support/mock.hpp"

namespace {

using sysalloc::GlobalAlloc;
using sysalloc::Layout;
using tests::Full;
using tests::Log;
using tests::Minimal;

constexpr Layout layout(std::size_t size, std::size_t align) {
  return Layout::from_size_align(size, align).value();
}

struct NoDealloc {
  void* alloc(Layout) const noexcept;
};
struct NoAlloc {
  void dealloc(void*, Layout) const noexcept;
};
struct MayThrow {
  void* alloc(Layout) const;
  void dealloc(void*, Layout) const noexcept;
};
struct DeallocMayThrow {
  void* alloc(Layout) const noexcept;
  void dealloc(void*, Layout) const;
};
struct NotConst {
  void* alloc(Layout) noexcept;
  void dealloc(void*, Layout) noexcept;
};
struct ReturnsNumber {
  int alloc(Layout) const noexcept;
  void dealloc(void*, Layout) const noexcept;
};
struct ReturnsBytes {
  std::byte* alloc(Layout) const noexcept;
  void dealloc(void*, Layout) const noexcept;
};

static_assert(GlobalAlloc<sysalloc::System>);
static_assert(GlobalAlloc<sysalloc::Global>);
static_assert(GlobalAlloc<sysalloc::Counting<sysalloc::System>>);
static_assert(GlobalAlloc<sysalloc::Limited<sysalloc::System>>);
static_assert(GlobalAlloc<sysalloc::Failing<sysalloc::System>>);
static_assert(GlobalAlloc<sysalloc::ByRef<sysalloc::System>>);
static_assert(GlobalAlloc<sysalloc::ByRef<Minimal>>);
static_assert(GlobalAlloc<Minimal>);
static_assert(GlobalAlloc<Full>);
static_assert(GlobalAlloc<ReturnsBytes>);
static_assert(!GlobalAlloc<NoDealloc>);
static_assert(!GlobalAlloc<NoAlloc>);
static_assert(!GlobalAlloc<MayThrow>);
static_assert(!GlobalAlloc<DeallocMayThrow>);
static_assert(!GlobalAlloc<NotConst>);
static_assert(!GlobalAlloc<ReturnsNumber>);
static_assert(!GlobalAlloc<int>);

static_assert(!sysalloc::HasAllocZeroed<Minimal> && sysalloc::HasAllocZeroed<Full>);
static_assert(!sysalloc::HasRealloc<Minimal> && sysalloc::HasRealloc<Full>);
static_assert(!sysalloc::HasReallocLayout<Minimal> && sysalloc::HasReallocLayout<Full>);
static_assert(!sysalloc::HasUsableSize<Minimal> && sysalloc::HasUsableSize<Full>);
static_assert(!sysalloc::HasDeallocUnsized<Minimal> && sysalloc::HasDeallocUnsized<Full>);

// A wrapper claims the optional members that the allocator below can back, and no others. Counting
// and Limited need sizes, so they never free without one.
static_assert(sysalloc::HasUsableSize<sysalloc::Counting<Full>>);
static_assert(!sysalloc::HasUsableSize<sysalloc::Counting<Minimal>>);
static_assert(sysalloc::HasUsableSize<sysalloc::Limited<Full>>);
static_assert(!sysalloc::HasUsableSize<sysalloc::Limited<Minimal>>);
static_assert(sysalloc::HasUsableSize<sysalloc::Failing<Full>>);
static_assert(!sysalloc::HasUsableSize<sysalloc::Failing<Minimal>>);
static_assert(sysalloc::HasUsableSize<sysalloc::ByRef<Full>>);
static_assert(!sysalloc::HasUsableSize<sysalloc::ByRef<Minimal>>);
static_assert(sysalloc::HasDeallocUnsized<sysalloc::Failing<Full>>);
static_assert(!sysalloc::HasDeallocUnsized<sysalloc::Failing<Minimal>>);
static_assert(sysalloc::HasDeallocUnsized<sysalloc::ByRef<Full>>);
static_assert(!sysalloc::HasDeallocUnsized<sysalloc::ByRef<Minimal>>);
static_assert(!sysalloc::HasDeallocUnsized<sysalloc::Counting<Full>>);
static_assert(!sysalloc::HasDeallocUnsized<sysalloc::Limited<Full>>);

// An optional member that may throw, or is not const, is none.
struct NearlyFull {
  void* alloc(Layout) const noexcept;
  void dealloc(void*, Layout) const noexcept;
  void* alloc_zeroed(Layout) const;
  void* realloc(void*, Layout, std::size_t) noexcept;
  std::size_t usable_size(const void*) const;
  void dealloc_unsized(void*, std::size_t) const;
};
static_assert(GlobalAlloc<NearlyFull>);
static_assert(!sysalloc::HasAllocZeroed<NearlyFull> && !sysalloc::HasRealloc<NearlyFull>);
static_assert(!sysalloc::HasUsableSize<NearlyFull> && !sysalloc::HasDeallocUnsized<NearlyFull>);

// What an allocator says of its deallocation holds for it and for wrappers of it. An heir has its
// members, and an alloc and dealloc of its own may stand beside them.
struct Heir : sysalloc::System {};
struct CachedHeir : sysalloc::Cached<> {};
using sysalloc::DeallocIgnoresAlign;
using sysalloc::DeallocIgnoresNull;
constexpr bool on_system = !tests::blocks_have_headers;
static_assert(DeallocIgnoresAlign<sysalloc::System> == on_system);
static_assert(DeallocIgnoresAlign<sysalloc::Cached<>> == on_system);
static_assert(DeallocIgnoresAlign<sysalloc::Counting<sysalloc::System>> == on_system);
static_assert(DeallocIgnoresAlign<sysalloc::Limited<sysalloc::System>> == on_system);
static_assert(DeallocIgnoresAlign<sysalloc::Failing<sysalloc::System>> == on_system);
static_assert(DeallocIgnoresAlign<sysalloc::ByRef<sysalloc::System>> == on_system);
static_assert(!DeallocIgnoresAlign<Full> && !DeallocIgnoresAlign<Heir>);
static_assert(!DeallocIgnoresAlign<CachedHeir> && !DeallocIgnoresAlign<sysalloc::Global>);
static_assert(!DeallocIgnoresAlign<sysalloc::Cached<Full>>);
static_assert(!DeallocIgnoresAlign<sysalloc::Counting<Heir>>);
static_assert(!DeallocIgnoresAlign<sysalloc::Limited<Full>>);
static_assert(!DeallocIgnoresAlign<sysalloc::Failing<Full>>);
static_assert(!DeallocIgnoresAlign<sysalloc::ByRef<Full>>);
static_assert(DeallocIgnoresNull<sysalloc::System> && DeallocIgnoresNull<sysalloc::Cached<>>);
static_assert(!DeallocIgnoresNull<Full> && !DeallocIgnoresNull<Heir>);
static_assert(!DeallocIgnoresNull<CachedHeir>);
static_assert(!DeallocIgnoresNull<sysalloc::Counting<sysalloc::System>>);

// The functions do not throw either.
constexpr sysalloc::System heap;
constexpr Layout any = Layout::of<int>();
static_assert(noexcept(sysalloc::alloc_zeroed(heap, any)));
static_assert(noexcept(sysalloc::realloc(heap, nullptr, any, std::size_t{1})));
static_assert(noexcept(sysalloc::realloc(heap, nullptr, any, any)));

}  // namespace

TEST_CASE("alloc_zeroed without the member allocates and clears") {
  const Minimal a;
  void* const ptr = sysalloc::alloc_zeroed(a, layout(100, 32));
  REQUIRE(ptr != nullptr);
  CHECK(tests::is_zero(ptr, 100));
  a.dealloc(ptr, layout(100, 32));
  CHECK(a.log == Log{"alloc 100/32", "dealloc 100/32"});
}

TEST_CASE("alloc_zeroed without the member passes a failure on") {
  Minimal a;
  a.refuse = true;
  CHECK(sysalloc::alloc_zeroed(a, layout(100, 32)) == nullptr);
}

TEST_CASE("realloc without the member allocates, copies and frees, in this order") {
  const Minimal a;
  void* const ptr = a.alloc(layout(100, 32));
  tests::fill(ptr, 100);
  void* const grown = sysalloc::realloc(a, ptr, layout(100, 32), 200);
  REQUIRE(grown != nullptr);
  CHECK(grown != ptr);
  CHECK(tests::holds(grown, 100));
  void* const shrunk = sysalloc::realloc(a, grown, layout(200, 32), 50);
  REQUIRE(shrunk != nullptr);
  CHECK(tests::holds(shrunk, 50));
  void* const aligned = sysalloc::realloc(a, shrunk, layout(50, 32), layout(60, 128));
  REQUIRE(aligned != nullptr);
  CHECK(tests::is_aligned(aligned, 128));
  CHECK(tests::holds(aligned, 50));
  a.dealloc(aligned, layout(60, 128));
  CHECK(a.log == Log{"alloc 100/32", "alloc 200/32", "dealloc 100/32", "alloc 50/32",
                     "dealloc 200/32", "alloc 60/128", "dealloc 50/32", "dealloc 60/128"});
}

TEST_CASE("realloc without the member leaves the old block when it fails") {
  Minimal a;
  void* const ptr = a.alloc(layout(100, 32));
  tests::fill(ptr, 100);
  a.refuse = true;
  CHECK(sysalloc::realloc(a, ptr, layout(100, 32), 200) == nullptr);
  CHECK(sysalloc::realloc(a, ptr, layout(100, 32), layout(200, 64)) == nullptr);
  // No Layout has these sizes, so nobody is asked.
  CHECK(sysalloc::realloc(a, ptr, layout(100, 32), std::size_t{PTRDIFF_MAX}) == nullptr);
  CHECK(sysalloc::realloc(a, ptr, layout(100, 32), SIZE_MAX) == nullptr);
  CHECK(tests::holds(ptr, 100));
  CHECK(a.log == Log{"alloc 100/32", "alloc 200/32", "alloc 200/64"});
  a.dealloc(ptr, layout(100, 32));
}

TEST_CASE("members that an allocator has are used") {
  const Full a;
  void* ptr = sysalloc::alloc_zeroed(a, layout(10, 8));
  ptr = sysalloc::realloc(a, ptr, layout(10, 8), 20);
  ptr = sysalloc::realloc(a, ptr, layout(20, 8), layout(30, 8));
  ptr = sysalloc::realloc(a, ptr, layout(30, 8), layout(30, 64));
  a.dealloc(ptr, layout(30, 64));
  CHECK(a.log == Log{"alloc_zeroed 10/8", "realloc 10/8 to 20", "realloc 20/8 to 30/8",
                     "realloc 30/8 to 30/64", "dealloc 30/64"});
}

TEST_CASE("realloc to a layout of the same alignment uses a member that takes a size") {
  struct SizeOnly {
    void* alloc(Layout wanted) const noexcept { return inner.alloc(wanted); }
    void dealloc(void* ptr, Layout old) const noexcept { inner.dealloc(ptr, old); }
    void* realloc(void* ptr, Layout old, std::size_t new_size) const noexcept {
      return inner.realloc(ptr, old, new_size);
    }
    Full inner;
  };
  const SizeOnly a;
  static_assert(sysalloc::HasRealloc<SizeOnly> && !sysalloc::HasReallocLayout<SizeOnly>);
  void* ptr = a.alloc(layout(10, 8));
  ptr = sysalloc::realloc(a, ptr, layout(10, 8), layout(20, 8));
  ptr = sysalloc::realloc(a, ptr, layout(20, 8), layout(20, 32));
  a.dealloc(ptr, layout(20, 32));
  CHECK(a.inner.log ==
        Log{"alloc 10/8", "realloc 10/8 to 20", "alloc 20/32", "dealloc 20/8", "dealloc 20/32"});
}

TEST_CASE(
    "usable_size tells the alignment to an allocator that asks for it, through wrappers too") {
  struct Asks {
    void* alloc(Layout wanted) const noexcept { return sysalloc::System{}.alloc(wanted); }
    void dealloc(void* ptr, Layout old) const noexcept { sysalloc::System{}.dealloc(ptr, old); }
    std::size_t usable_size(const void* /*ptr*/, std::size_t align = 1) const noexcept {
      return 1000 + align;
    }
  };
  const Asks a;
  static_assert(sysalloc::HasUsableSize<Asks>);
  CHECK(a.usable_size(nullptr) == 1001);
  CHECK(sysalloc::usable_size(a, nullptr, 64) == 1064);
  const sysalloc::Counting<sysalloc::Limited<sysalloc::Failing<Asks>>> wrapped;
  CHECK(wrapped.usable_size(nullptr) == 1001);
  CHECK(wrapped.usable_size(nullptr, 64) == 1064);
  CHECK(wrapped.by_ref().usable_size(nullptr, 64) == 1064);

  const Full one;
  void* const ptr = one.alloc(layout(100, 8));
  CHECK(sysalloc::usable_size(one, ptr, 8) >= 100);
  CHECK(one.log == Log{"alloc 100/8", "usable_size"});
  one.dealloc(ptr, layout(100, 8));
}
