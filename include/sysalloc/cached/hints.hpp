// Hints: the size class of a block in one load, for most blocks.
//
// What operator delete asks first. A table of one word for each unit of 4 GiB, which addresses that
// are a multiple of 4 GiB apart share. A hint is the number of a unit plus a scaled class, so one
// load tells the class and whom it is true of, and a deallocation that knows the size checks both
// in one comparison. A hint says nothing false; where it says nothing, or speaks of another unit,
// the page map is asked (page_map.hpp).
//
//   address   | number of the unit                | within the unit |
//   index     | its lower 16 bits                 |
//   hint      | number + scaled class, 32 bits    |
//
// The numbers of units that share a word differ by multiples of 2^16, which no class comes to, so a
// sum is that of one unit and one class only.
//
// True, because the hint of a slab is set before any of its blocks is handed out and cleared after
// all of them came back; and renewed, where that of another unit crowded it out, only by who holds
// a block of the slab.

#ifndef SYSALLOC_CACHED_HINTS_HPP_
#define SYSALLOC_CACHED_HINTS_HPP_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <sysalloc/cached/size_classes.hpp>

namespace sysalloc::detail::cached {

class Hints {
 public:
  /// Does a hint tell the size class of the block at `ptr`, and is it at most `most`? Writes it to
  /// `c`: 0, which is no class, for a null pointer.
  [[nodiscard]] bool find(const void* ptr, ScaledClass most, ScaledClass& c) const noexcept {
    const std::uint64_t unit = unit_of(ptr);
    const std::uint32_t hint = hints_[index(unit)].load(std::memory_order_relaxed);
    const std::uint64_t told = hint - unit;
    c = static_cast<ScaledClass>(told);
    return told <= most;
  }

  /// Does a hint tell that the block at `ptr` is of class `c`? For class 0, anything.
  [[nodiscard]] bool tells(const void* ptr, ScaledClass c) const noexcept {
    const std::uint64_t unit = unit_of(ptr);
    return hints_[index(unit)].load(std::memory_order_relaxed) == hint_of(unit, c);
  }

  /// Sets the hint of the unit that `ptr` points into.
  void set(const void* ptr, SizeClass c) noexcept {
    const std::uint64_t unit = unit_of(ptr);
    hints_[index(unit)].store(static_cast<std::uint32_t>(hint_of(unit, scaled(c))),
                              std::memory_order_relaxed);
  }

  /// Clears the hint of that unit, if there is one.
  void clear(const void* ptr) noexcept {
    ScaledClass c;
    if (find(ptr, class_mask, c)) hints_[index(unit_of(ptr))].store(0, std::memory_order_relaxed);
  }

 private:
  static constexpr std::size_t count = std::size_t{1} << (32 - unit_shift);
  static constexpr ScaledClass class_mask = 0xffff;
  static_assert(count == class_mask + 1);

  // In 64 bits: of an address beyond those that a heap uses it is more than any hint.
  static std::uint64_t unit_of(const void* ptr) noexcept {
    return reinterpret_cast<std::uintptr_t>(ptr) >> unit_shift;
  }
  static std::size_t index(std::uint64_t unit) noexcept { return unit % count; }
  static std::uint64_t hint_of(std::uint64_t unit, ScaledClass c) noexcept { return unit + c; }

  std::array<std::atomic<std::uint32_t>, count> hints_{};
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_HINTS_HPP_
