// Size classes: the sizes that blocks of Cached really have, and how a size finds its class.
//
//   up to 128 bytes    every multiple of 16
//   above              8 classes for each doubling, so at most 1/8 of a block is padding
//
// Class 0 is no class, so that a byte of zero in the page map can mean "not ours". The classes up
// to max_slab_size share a slab with others of their class; each one above has a span to itself.
//
// An alignment costs no class of its own: every size that is a multiple of `align`, and at most 8
// times it, is a class or rounds up to one that is a multiple of `align` too, and slabs begin at
// multiples of the unit. tests/unit/cached/size_classes.cpp checks all of that for every size.

#ifndef SYSALLOC_CACHED_SIZE_CLASSES_HPP_
#define SYSALLOC_CACHED_SIZE_CLASSES_HPP_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <sysalloc/layout.hpp>

namespace sysalloc::detail::cached {

using SizeClass = std::uint8_t;

inline constexpr std::size_t KiB = 1024;
inline constexpr std::size_t MiB = 1024 * KiB;

/// The granularity of slabs and spans, and what the page map has one entry for.
inline constexpr std::size_t unit_size = 64 * KiB;
inline constexpr std::size_t unit_shift = std::countr_zero(unit_size);

inline constexpr std::size_t smallest_size = 16;
inline constexpr std::size_t linear_limit = 128;
inline constexpr std::size_t steps_shift = 3;
inline constexpr std::size_t steps_per_doubling = std::size_t{1} << steps_shift;
/// Blocks up to here share a slab; a whole one is at most 4 units. In slabs of their own they would
/// leave a quarter of the unit and more to nobody, and that is given back and faulted in again when
/// others have the unit.
inline constexpr std::size_t max_slab_size = 48 * KiB;
/// Blocks up to here have a size class; above they are large and come from the backend directly.
inline constexpr std::size_t max_class_size = 1 * MiB;

inline constexpr std::size_t linear_classes = linear_limit / smallest_size;
inline constexpr std::size_t class_count =
    1 + linear_classes + steps_per_doubling * std::countr_zero(max_class_size / linear_limit);

/// The class of the smallest block that holds `size` bytes; 1 <= size <= max_class_size.
constexpr SizeClass class_of_slow(std::size_t size) noexcept {
  if (size <= linear_limit) {
    return static_cast<SizeClass>((size + smallest_size - 1) / smallest_size);
  }
  const auto width = static_cast<std::size_t>(std::bit_width(size - 1));
  constexpr auto base_width = static_cast<std::size_t>(std::bit_width(linear_limit));
  const std::size_t step = (size - 1) >> (width - 1 - steps_shift);
  return static_cast<SizeClass>(1 + linear_classes + (width - base_width) * steps_per_doubling +
                                (step - steps_per_doubling));
}

/// What is known of a class before the program runs.
struct ClassInfo {
  std::uint32_t size;       ///< of a block, in bytes
  std::uint32_t units;      ///< of a slab
  std::uint32_t blocks;     ///< in a slab
  std::uint32_t cache_max;  ///< blocks of it that one thread may cache, as a rule
  std::uint64_t inverse;    ///< of the size's odd part, modulo 2^64
  int shift;                ///< the size is its odd part times 2^shift

  /// The number of the block that begins `offset` bytes behind the first one; `blocks` or more for
  /// every offset at which none begins, also one below zero. To multiply with the inverse divides
  /// multiples exactly and sends everything else far away, as the rotation does with multiples of
  /// the odd part alone (Granlund and Montgomery, "Division by Invariant Integers using
  /// Multiplication", section 9).
  [[nodiscard]] constexpr std::uint64_t index_of(std::uint64_t offset) const noexcept {
    return std::rotr(offset * inverse, shift);
  }
};

/// The inverse of an odd number modulo 2^64.
constexpr std::uint64_t inverse_of_odd(std::uint64_t odd) noexcept {
  // Newton's method: right in 3 bits at first, and in twice as many after each round.
  std::uint64_t inverse = odd;
  while (odd * inverse != 1) inverse *= 2 - odd * inverse;
  return inverse;
}

/// As a rule, no thread cache keeps more bytes of one class than this, unless that is a few blocks.
/// With less, batches of blocks of a few KiB go by way of the slabs in so small parts that locks
/// are most of what they cost.
inline constexpr std::size_t cache_max_bytes = 128 * KiB;
/// Blocks up to here are small: many are little memory. Of these it keeps a quarter as much. More
/// it keeps where many died at once (thread_cache.hpp).
inline constexpr std::size_t small_size = 1 * KiB;
/// And of each class above this one block, if any: a few more would take the place of all others.
inline constexpr std::size_t cached_max_size = 64 * KiB;
inline constexpr SizeClass first_kept_class = class_of_slow(cached_max_size) + 1;
/// One above this only where nothing has to give way to it: to find a span costs little against
/// what is done with so large a block.
inline constexpr std::size_t kept_max_size = 256 * KiB;

/// Of the class of blocks of `size` bytes.
constexpr ClassInfo class_info_of(std::size_t size) noexcept {
  std::size_t units = 1;
  if (size > max_slab_size) {
    units = (size + unit_size - 1) / unit_size;
  } else if (size > unit_size / 2) {
    // As few as leave no more than an eighth behind the last block.
    while (units * unit_size % size > units * unit_size / 8) ++units;
  } else {
    // A word of the bitmap is 64 blocks: room for one where that is at most 4 units.
    while (units < 4 && units * unit_size / size < 64) units *= 2;
  }
  std::size_t cache = (size <= small_size ? cache_max_bytes / 4 : cache_max_bytes) / size;
  if (cache < 4) cache = size <= cached_max_size ? 4 : 1;
  const std::size_t blocks = size > max_slab_size ? 1 : units * unit_size / size;
  const int shift = std::countr_zero(size);
  return {.size = static_cast<std::uint32_t>(size),
          .units = static_cast<std::uint32_t>(units),
          .blocks = static_cast<std::uint32_t>(blocks),
          .cache_max = static_cast<std::uint32_t>(cache),
          .inverse = inverse_of_odd(size >> shift),
          .shift = shift};
}

inline constexpr std::array<ClassInfo, class_count> class_info = [] {
  std::array<ClassInfo, class_count> all{};
  std::size_t size = 0;
  for (std::size_t c = 1; c < class_count; ++c) {
    size += size < linear_limit ? smallest_size : std::bit_floor(size) / steps_per_doubling;
    all[c] = class_info_of(size);
  }
  return all;
}();

/// A class times class_scale: what the fast paths add to the address of a thread's bins, and what
/// the tables that they read hold, so that nothing is left to compute.
using ScaledClass = std::uint16_t;
inline constexpr std::size_t class_scale = 2 * sizeof(void*);

constexpr ScaledClass scaled(SizeClass c) noexcept {
  return static_cast<ScaledClass>(c * class_scale);
}
constexpr SizeClass unscaled(ScaledClass c) noexcept {
  return static_cast<SizeClass>(c / class_scale);
}

template <std::size_t Limit, std::size_t Step>
constexpr std::array<ScaledClass, Limit / Step + 1> classes_up_to() noexcept {
  std::array<ScaledClass, Limit / Step + 1> table{};
  for (std::size_t i = 1; i < table.size(); ++i) table[i] = scaled(class_of_slow(i * Step));
  return table;
}

/// Sizes up to here find their class in a table with an entry for each. Few are larger: where sizes
/// are mixed, the processor cannot foretell on which side of a limit the next one is.
inline constexpr std::size_t table_limit = 4 * KiB;
inline constexpr auto class_table = classes_up_to<table_limit, 1>();

/// Those above, up to what threads cache, in one with an entry for each 128 bytes. The computation
/// behind these costs as much as the rest of an allocation.
inline constexpr std::size_t wide_step = 128;
inline constexpr std::size_t wide_limit = cached_max_size;
inline constexpr auto wide_table = classes_up_to<wide_limit, wide_step>();
static_assert(table_limit / steps_per_doubling >= wide_step);

/// The class of any size: 0 for a size of 0 and for one above max_class_size.
inline ScaledClass scaled_class_of(std::size_t size) noexcept {
  if (size <= table_limit) [[likely]]
    return class_table[size];
  if (size <= wide_limit) return wide_table[(size + wide_step - 1) / wide_step];
  return size <= max_class_size ? scaled(class_of_slow(size)) : ScaledClass{0};
}
inline SizeClass class_of(std::size_t size) noexcept { return unscaled(scaled_class_of(size)); }

/// The class of blocks of `size` bytes at multiples of `align`: that of the size rounded up to one.
/// 0 when none serves both, and for a size of 0.
inline ScaledClass scaled_class_of(std::size_t size, std::size_t align) noexcept {
  // Not the size itself, which may wrap around.
  const std::size_t last = (size - 1) | (align - 1);
  // At least the alignment less one, which so needs no test of its own where this is small.
  if (last < table_limit) [[likely]]
    return class_table[last + 1];
  if (last < wide_limit) return wide_table[last / wide_step + 1];
  return align <= unit_size && last < max_class_size ? scaled(class_of_slow(last + 1))
                                                     : ScaledClass{0};
}

/// As above, of a layout.
inline ScaledClass scaled_class_of(Layout layout) noexcept {
  return scaled_class_of(layout.size(), layout.align());
}
inline SizeClass class_of(Layout layout) noexcept { return unscaled(scaled_class_of(layout)); }

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_SIZE_CLASSES_HPP_
