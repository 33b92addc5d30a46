// Layout, item by item: what it promises at compile time and at the edges.

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <iomanip>
#include <locale>
#include <ostream>
#include <span>
#include <sstream>
#include <string>
#include <sysalloc/layout.hpp>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

#include "support/bytes.hpp"
#include "support/environment.hpp"

namespace {

using sysalloc::Layout;
using sysalloc::LayoutError;

constexpr std::size_t max = PTRDIFF_MAX;
constexpr std::size_t top = max + 1;  // 2^63 where size_t has 64 bits

constexpr Layout layout(std::size_t size, std::size_t align) {
  return Layout::from_size_align(size, align).value();
}

static_assert(std::is_trivially_copyable_v<Layout>);
static_assert(std::is_nothrow_copy_constructible_v<Layout>);
static_assert(sizeof(Layout) == 2 * sizeof(std::size_t));
static_assert(!std::is_default_constructible_v<Layout>);
static_assert(std::is_empty_v<LayoutError>);
static_assert(LayoutError{} == LayoutError{});

// A type of every alignment that matters, and one with padding at its end.
struct alignas(64) Wide {
  char c;
};
struct Padded {
  double d;
  char c;
};
struct Empty {};

static_assert(Layout::of<char>() == layout(1, 1));
static_assert(Layout::of<Wide>() == layout(64, 64));
static_assert(Layout::of<Padded>() == layout(sizeof(Padded), alignof(Padded)));
static_assert(Layout::of<Empty>() == layout(1, 1));
static_assert(Layout::of<int[5]>() == layout(5 * sizeof(int), alignof(int)));
static_assert(Layout::of<Padded>().size() == sizeof(Padded));
static_assert(Layout::of<Padded>().align() == alignof(Padded));

// for_value: a value, a C array, a std::array, spans of either extent and constness.
constexpr Wide wide{};
constexpr int numbers[7]{};
constexpr std::array<short, 9> shorts{};
static_assert(Layout::for_value(wide) == Layout::of<Wide>());
const volatile int changing = 0;
static_assert(Layout::for_value(changing) == Layout::of<int>());
static_assert(Layout::for_value(numbers) == layout(7 * sizeof(int), alignof(int)));
static_assert(Layout::for_value(shorts) == layout(18, alignof(short)));
static_assert(Layout::for_value(std::span<const int>(numbers)) ==
              layout(7 * sizeof(int), alignof(int)));
static_assert(Layout::for_value(std::span<const int, 7>(numbers)) ==
              layout(7 * sizeof(int), alignof(int)));
static_assert(Layout::for_value(std::span<const int>(numbers).first(0)) == layout(0, alignof(int)));
static_assert(Layout::for_value(std::span<const Wide>(&wide, 1)) == Layout::of<Wide>());

// from_size_align: alignments that are none, and the largest size of each.
static_assert(!Layout::from_size_align(1, 0));
static_assert(!Layout::from_size_align(0, 0));
static_assert(!Layout::from_size_align(1, 3));
static_assert(!Layout::from_size_align(12, 12));
static_assert(!Layout::from_size_align(0, top + 1));
static_assert(!Layout::from_size_align(0, SIZE_MAX));
static_assert(Layout::from_size_align(1, 0).error() == LayoutError{});
static_assert(Layout::from_size_align(0, 1));
static_assert(Layout::from_size_align(max, 1));
static_assert(!Layout::from_size_align(max + 1, 1));
static_assert(Layout::from_size_align(max - 1, 2));
static_assert(!Layout::from_size_align(max, 2));
static_assert(Layout::from_size_align(max - 4095, 4096));
static_assert(!Layout::from_size_align(max - 4094, 4096));
static_assert(!Layout::from_size_align(SIZE_MAX, 1));
static_assert(!Layout::from_size_align(SIZE_MAX - 4094, 4096));
static_assert(Layout::from_size_align(top / 2, top / 2));
static_assert(!Layout::from_size_align(top / 2 + 1, top / 2));
static_assert(Layout::from_size_align(0, top));
static_assert(!Layout::from_size_align(1, top));
static_assert(Layout::from_size_align_unchecked(24, 8) == layout(24, 8));
static_assert(Layout::from_size_align_unchecked(max, 1) == layout(max, 1));

// array: the products that fit, and those that would wrap around.
static_assert(Layout::array<int>(0) == layout(0, alignof(int)));
static_assert(Layout::array<int>(3) == layout(3 * sizeof(int), alignof(int)));
static_assert(Layout::array<Wide>(2) == layout(128, 64));
static_assert(Layout::array<char>(max));
static_assert(!Layout::array<char>(max + 1));
static_assert(Layout::array<Wide>(max / 64));
static_assert(!Layout::array<Wide>(max / 64 + 1));
static_assert(!Layout::array<Wide>(SIZE_MAX));
static_assert(!Layout::array<Wide>(SIZE_MAX / 64 + 1));  // wraps around to 0
static_assert(!Layout::array<Wide>(SIZE_MAX / 64 + 2));  // wraps around to 64

// align_to raises, never lowers, and judges its argument even where it would not matter.
static_assert(layout(24, 8).align_to(16) == layout(24, 16));
static_assert(layout(24, 8).align_to(8) == layout(24, 8));
static_assert(layout(24, 8).align_to(1) == layout(24, 8));
static_assert(!layout(24, 8).align_to(0));
static_assert(!layout(24, 8).align_to(3));
static_assert(!layout(24, 8).align_to(12));
static_assert(!layout(24, 8).align_to(top));
static_assert(layout(0, 8).align_to(top) == layout(0, top));
static_assert(!layout(max, 1).align_to(2));

static_assert(layout(9, 1).padding_needed_for(4) == 3);
static_assert(layout(9, 1).padding_needed_for(1) == 0);
static_assert(layout(8, 8).padding_needed_for(8) == 0);
static_assert(layout(0, 1).padding_needed_for(top) == 0);
static_assert(layout(1, 1).padding_needed_for(top) == max);
static_assert(layout(9, 1).padding_needed_for(0) == SIZE_MAX);
static_assert(layout(9, 1).padding_needed_for(6) == SIZE_MAX);

static_assert(layout(9, 8).pad_to_align() == layout(16, 8));
static_assert(layout(16, 8).pad_to_align() == layout(16, 8));
static_assert(layout(0, 8).pad_to_align() == layout(0, 8));
static_assert(layout(max - 8, 8).pad_to_align() == layout(max - 7, 8));

// repeat: the last one is not padded, the stride is.
static_assert(layout(9, 8).repeat(3) == std::pair{layout(41, 8), std::size_t{16}});
static_assert(layout(9, 8).repeat(1) == std::pair{layout(9, 8), std::size_t{16}});
static_assert(layout(9, 8).repeat(0) == std::pair{layout(0, 8), std::size_t{16}});
static_assert(layout(0, 8).repeat(SIZE_MAX) == std::pair{layout(0, 8), std::size_t{0}});
static_assert(!layout(1, 1).repeat(SIZE_MAX));
static_assert(!layout(max, 1).repeat(2));
static_assert(!layout(max, 1).repeat(3));      // 3 * max wraps around to below max
static_assert(!layout(top / 2, 1).repeat(4));  // exactly 2^64 / 2
static_assert(!layout(top / 2, 1).repeat(8));  // wraps around to 0
static_assert(layout(1, 1).repeat(max)->first == layout(max, 1));
static_assert(!layout(2, 2).repeat(top / 2));

// extend: the rules of a C struct.
static_assert(layout(1, 1).extend(layout(8, 8)) == std::pair{layout(16, 8), std::size_t{8}});
static_assert(layout(8, 8).extend(layout(1, 1)) == std::pair{layout(9, 8), std::size_t{8}});
static_assert(layout(0, 4).extend(layout(0, 1)) == std::pair{layout(0, 4), std::size_t{0}});
static_assert(!layout(max, 1).extend(layout(1, 1)));
static_assert(!layout(max, 1).extend(layout(0, 8)));
static_assert(!layout(max, 1).extend(layout(max, 1)));
static_assert(!layout(1, 1).extend(layout(0, top)));
static_assert(layout(max - 1, 1).extend(layout(1, 1))->first == layout(max, 1));

static_assert(layout(1, 1) != layout(1, 2));
static_assert(layout(1, 1) != layout(2, 1));

}  // namespace

TEST_CASE("extend builds the layout that the compiler gives a struct") {
  struct Record {
    char a;
    double b;
    short c;
    Wide d;
    int e;
  };
  const auto b = *Layout::of<char>().extend(Layout::of<double>());
  const auto c = *b.first.extend(Layout::of<short>());
  const auto d = *c.first.extend(Layout::of<Wide>());
  const auto e = *d.first.extend(Layout::of<int>());
  CHECK(b.second == offsetof(Record, b));
  CHECK(c.second == offsetof(Record, c));
  CHECK(d.second == offsetof(Record, d));
  CHECK(e.second == offsetof(Record, e));
  CHECK(e.first.pad_to_align() == Layout::of<Record>());
}

TEST_CASE("dangling is aligned and not null, for every alignment") {
  for (unsigned shift = 0; shift < 64; ++shift) {
    const std::size_t align = std::size_t{1} << shift;
    const auto* const ptr = layout(0, align).dangling();
    CHECK(ptr != nullptr);
    CHECK(tests::is_aligned(ptr, align));
  }
}

TEST_CASE("equal layouts have equal hashes, and different ones mostly not") {
  CHECK(std::hash<Layout>{}(layout(24, 8)) == std::hash<Layout>{}(layout(24, 8)));
  std::unordered_set<Layout> layouts;
  std::unordered_set<std::size_t> hashes;
  for (std::size_t size = 0; size < 1024; ++size) {
    for (std::size_t align = 1; align <= 4096; align *= 2) {
      layouts.insert(layout(size, align));
      hashes.insert(std::hash<Layout>{}(layout(size, align)));
    }
  }
  CHECK(layouts.size() == 1024 * 13);
  CHECK(layouts.contains(layout(1000, 64)));
  CHECK_FALSE(layouts.contains(layout(1024, 64)));
  CHECK(hashes.size() > 1024 * 13 / 2);
}

TEST_CASE("a layout prints its size and alignment, to streams of both character types") {
  std::ostringstream narrow;
  narrow << layout(24, 8);
  CHECK(narrow.str() == "Layout { size: 24, align: 8 }");
  std::wostringstream broad;
  broad << layout(0, 4096);
  CHECK((broad.str() == L"Layout { size: 0, align: 4096 }"));
  std::ostringstream error;
  error << Layout::from_size_align(1, 3).error();
  CHECK(error.str() == LayoutError::what());
  CHECK(std::string(LayoutError::what()).size() > 10);
}

TEST_CASE("a layout prints in decimal and is padded as a whole, whatever its stream is told") {
  std::ostringstream out;
  out << std::hex << std::showbase << std::showpos << std::setfill('.') << std::left;
  out << std::setw(32) << layout(24, 16) << '|' << std::right << std::setw(32) << layout(24, 16);
  CHECK(out.str() == "Layout { size: 24, align: 16 }..|..Layout { size: 24, align: 16 }");
  // One that writes a thousand as 1,000.
  struct Grouping : std::numpunct<char> {
    std::string do_grouping() const override { return "\3"; }
  };
  std::ostringstream grouping;
  grouping.imbue(std::locale(std::locale::classic(), new Grouping));
  grouping << layout(1000, 4096);
  CHECK(grouping.str() == "Layout { size: 1000, align: 4096 }");
  std::wostringstream broad;
  broad << std::hex << std::setw(31) << layout(24, 16);
  CHECK((broad.str() == L" Layout { size: 24, align: 16 }"));
}

TEST_CASE("the largest numbers print") {
  std::ostringstream out;
  out << layout(max, 1) << layout(0, top);
  CHECK(out.str() == "Layout { size: " + std::to_string(max) + ", align: 1 }" +
                         "Layout { size: 0, align: " + std::to_string(top) + " }");
}

TEST_CASE("a layout formats as it prints") {
#if defined(__cpp_lib_format)
  CHECK(std::format("{}", layout(24, 8)) == "Layout { size: 24, align: 8 }");
  CHECK(std::format("<{}>", layout(max, 1)) ==
        "<Layout { size: " + std::to_string(max) + ", align: 1 }>");
  CHECK(std::format("{:>30}|{:.<30}|{:.6}", layout(24, 8), layout(24, 8), layout(24, 8)) ==
        " Layout { size: 24, align: 8 }|Layout { size: 24, align: 8 }.|Layout");
  Layout value = layout(1, 1);
  CHECK_THROWS_AS(static_cast<void>(std::vformat("{:x}", std::make_format_args(value))),
                  std::format_error);
#else
  tests::not_checked("std::formatter<Layout>", "this standard library has no <format>");
#endif
#if defined(__cpp_lib_format_ranges)
  static_assert(std::formattable<Layout, char>);
  CHECK(std::format("{}", std::vector{layout(24, 8), layout(1, 1)}) ==
        "[Layout { size: 24, align: 8 }, Layout { size: 1, align: 1 }]");
#else
  tests::not_checked("ranges of Layout in std::format", "this standard library has none");
#endif
}
