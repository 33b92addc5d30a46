// Layout against a model in integers twice as wide, where nothing can overflow: all pairs of edge
// values, then random ones from a fixed seed.

#include <doctest/doctest.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <sysalloc/layout.hpp>
#include <utility>
#include <vector>

namespace {

using sysalloc::Layout;
#if defined(__SIZEOF_INT128__)
__extension__ using Wide = unsigned __int128;
#else
using Wide = std::uint64_t;
#endif
static_assert(sizeof(Wide) >= 2 * sizeof(std::size_t), "the model is wide enough");

constexpr unsigned size_bits = std::numeric_limits<std::size_t>::digits;

constexpr Wide max = PTRDIFF_MAX;

Wide round_up(Wide size, Wide align) { return (size + align - 1) / align * align; }

// What Layout::from_size_align must say, for a size of any width.
std::optional<Layout> model(Wide size, std::size_t align) {
  if (!std::has_single_bit(align) || round_up(size, align) > max) return std::nullopt;
  return Layout::from_size_align_unchecked(static_cast<std::size_t>(size), align);
}

using Pair = std::optional<std::pair<Layout, std::size_t>>;

Pair model_repeat(Layout layout, std::size_t count) {
  const Wide stride = round_up(layout.size(), layout.align());
  const Wide size = count == 0 ? 0 : (Wide{count} - 1) * stride + layout.size();
  const auto whole = model(size, layout.align());
  if (!whole) return std::nullopt;
  return std::pair{*whole, static_cast<std::size_t>(stride)};
}

Pair model_extend(Layout layout, Layout next) {
  const Wide offset = round_up(layout.size(), next.align());
  const auto whole = model(offset + next.size(), std::max(layout.align(), next.align()));
  if (!whole) return std::nullopt;
  return std::pair{*whole, static_cast<std::size_t>(offset)};
}

template <class T, class E>
std::optional<T> optional(const std::expected<T, E>& result) {
  return result ? std::optional<T>(*result) : std::nullopt;
}

// Counts instead of one CHECK a value: there are millions, and the first few differences tell all.
struct Differences {
  std::size_t compared = 0;
  std::size_t count = 0;
  std::string first;

  template <class T>
  void compare(const T& got, const T& want, const char* what, std::size_t a, std::size_t b,
               std::size_t c = 0, std::size_t d = 0) {
    ++compared;
    if (got == want) return;
    if (count++ == 0) {
      first = std::string(what) + " of";
      // In two steps: g++ 12 has a false warning for a literal plus a string.
      for (const std::size_t value : {a, b, c, d}) first.append(" ").append(std::to_string(value));
    }
  }
};

void compare_from_size_align(Differences& differences, std::size_t size, std::size_t align) {
  differences.compare(optional(Layout::from_size_align(size, align)), model(size, align),
                      "from_size_align", size, align);
}

void compare_one(Differences& differences, Layout layout, std::size_t value) {
  const std::size_t size = layout.size();
  const std::size_t align = layout.align();
  const bool power = std::has_single_bit(value);
  differences.compare(optional(layout.align_to(value)),
                      power ? model(size, std::max(align, value)) : std::nullopt, "align_to", size,
                      align, value);
  differences.compare(
      layout.padding_needed_for(value),
      power ? static_cast<std::size_t>(round_up(size, value) - size) : std::size_t{SIZE_MAX},
      "padding_needed_for", size, align, value);
  differences.compare(optional(layout.repeat(value)), model_repeat(layout, value), "repeat", size,
                      align, value);
}

void compare_pad(Differences& differences, Layout layout) {
  differences.compare(std::optional(layout.pad_to_align()),
                      model(round_up(layout.size(), layout.align()), layout.align()),
                      "pad_to_align", layout.size(), layout.align());
}

void compare_extend(Differences& differences, Layout layout, Layout next) {
  differences.compare(optional(layout.extend(next)), model_extend(layout, next), "extend",
                      layout.size(), layout.align(), next.size(), next.align());
}

template <class T>
void compare_array(Differences& differences, std::size_t count) {
  differences.compare(optional(Layout::array<T>(count)), model(Wide{count} * sizeof(T), alignof(T)),
                      "array", count, sizeof(T));
}

// Zero, every power of two with its neighbours, and what lies around the limits.
std::vector<std::size_t> edges() {
  std::set<std::size_t> values{0, 5, 6, 7, 12, 24, 100, 1000};
  for (unsigned shift = 0; shift < size_bits; ++shift) {
    const std::size_t power = std::size_t{1} << shift;
    values.insert({power - 1, power, power + 1});
    values.insert({std::size_t{PTRDIFF_MAX} - power, std::size_t{PTRDIFF_MAX} - power + 1,
                   std::size_t{PTRDIFF_MAX} - power + 2, SIZE_MAX - power, SIZE_MAX / power});
  }
  return {values.begin(), values.end()};
}

}  // namespace

TEST_CASE("every function of Layout agrees with the model on all pairs of edge values") {
  Differences differences;
  const std::vector<std::size_t> values = edges();
  std::vector<Layout> layouts;
  for (const std::size_t size : values) {
    for (const std::size_t align : values) {
      compare_from_size_align(differences, size, align);
      if (const auto layout = model(size, align)) layouts.push_back(*layout);
    }
    compare_array<char>(differences, size);
    compare_array<int>(differences, size);
    compare_array<char[3]>(differences, size);
    compare_array<std::max_align_t>(differences, size);
  }
  // Every third and seventh, which are coprime to the order of the values: all pairs are millions.
  for (std::size_t i = 0; i < layouts.size(); i += 7) {
    compare_pad(differences, layouts[i]);
    for (std::size_t j = 0; j < values.size(); j += 3) {
      compare_one(differences, layouts[i], values[j]);
    }
    for (std::size_t j = i % 11; j < layouts.size(); j += 131) {
      compare_extend(differences, layouts[i], layouts[j]);
    }
  }
  INFO("first difference: ", differences.first);
  CHECK(differences.count == 0);
  CHECK(differences.compared > 100'000);
}

TEST_CASE("every function of Layout agrees with the model on small values, all of them") {
  Differences differences;
  for (std::size_t size = 0; size <= 40; ++size) {
    for (std::size_t align = 0; align <= 40; ++align) {
      compare_from_size_align(differences, size, align);
      const auto layout = model(size, align);
      if (!layout) continue;
      compare_pad(differences, *layout);
      for (std::size_t value = 0; value <= 40; ++value) compare_one(differences, *layout, value);
      for (std::size_t next = 0; next <= 40; ++next) {
        for (const std::size_t next_align : {1, 2, 4, 8, 16, 32}) {
          compare_extend(differences, *layout, *model(next, next_align));
        }
      }
    }
  }
  INFO("first difference: ", differences.first);
  CHECK(differences.count == 0);
}

TEST_CASE("every function of Layout agrees with the model on random values") {
  Differences differences;
  std::mt19937_64 random(2026);
  // Of random width, so that small values are as likely as large ones.
  const auto value = [&random] {
    return static_cast<std::size_t>(random()) >> random() % size_bits;
  };
  const auto align = [&random] { return std::size_t{1} << random() % size_bits; };
  for (int i = 0; i < 30'000; ++i) {
    compare_from_size_align(differences, value(), value());
    compare_from_size_align(differences, value(), align());
    compare_array<char[24]>(differences, value());
    const auto layout = model(value() >> 1, align());
    const auto next = model(value() >> 1, align());
    if (!layout || !next) continue;
    compare_pad(differences, *layout);
    compare_one(differences, *layout, value());
    compare_one(differences, *layout, align());
    compare_extend(differences, *layout, *next);
  }
  INFO("first difference: ", differences.first);
  CHECK(differences.count == 0);
}
