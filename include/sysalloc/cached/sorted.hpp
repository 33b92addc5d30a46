// Sorted: blocks of dying containers, which a thread keeps in the order of their addresses.
//
// What is built from blocks that lie scattered is slower to build and to use (docs/cached.md has
// how much), but to put them in order costs as much where that is done to many at once. So here it
// is neither a comparison nor a move, and done to each as it dies, while the processor waits for
// the next one. There is a byte for each place where a block may begin, in 16 MiB of address space
// around the first block that died; a deallocation writes one byte, and an allocation reads them
// from the lowest address on.
//
//   0   the unit is not in use here
//   1   the block is in use, or in a bin or slab; or none begins here
//   2   the block is free, and here; or what was freed is none, which is found when all was taken
//
// The byte is asked only where the bin of the class is full, so it costs nothing before; and a unit
// is used from when a block of it was put in by the slow path until no block of its class is left.
//
// Which class the blocks of a unit have tells the page map, not what it was when its use began: all
// blocks may leave it meanwhile, and it may become the slab of another class. But not while one is
// here.

// For the child of a fork: a unit's bit is set before its bytes are, and cleared after them, so
// that of one without a bit all bytes are zero; and a block's byte is cleared before a bin has it.

#ifndef SYSALLOC_CACHED_SORTED_HPP_
#define SYSALLOC_CACHED_SORTED_HPP_

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <sysalloc/cached/size_classes.hpp>
#include <sysalloc/detail/compiler.hpp>

namespace sysalloc::detail::cached {

class Sorted {
 public:
  using Byte = std::atomic<std::uint8_t>;

  /// The most units that are used at a time.
  static constexpr std::size_t most_used = 16;
  /// Units of address space that it may be used for.
  static constexpr std::size_t unit_count = 256;
  static constexpr std::size_t bytes_per_unit = unit_size / smallest_size;
  /// There is so much memory for the bytes, of which next to nothing is touched.
  static constexpr std::size_t byte_count = unit_count * bytes_per_unit;

  /// The bytes, or null.
  [[nodiscard]] void* map() const noexcept { return map_; }
  /// Gives it the bytes, all zero, before a unit is used; or takes them, when none is.
  void set_map(void* map) noexcept {
    base_.store(no_base, std::memory_order_relaxed);
    map_ = static_cast<Byte*>(map);
    touched_.fill(false);
    touched_count_ = 0;
  }

  /// Puts a block in, if its unit is in use and it is not here already.
  [[nodiscard]] SYSALLOC_INLINE bool put(void* ptr) noexcept {
    // The bits below those that count go to the top, where they are too much.
    const std::uintptr_t index = index_of(ptr);
    if (index >= byte_count) [[unlikely]]
      return false;
    Byte& byte = map_[index];
    if (byte.load(std::memory_order_relaxed) != elsewhere) [[unlikely]]
      return false;
    byte.store(here, std::memory_order_release);
    return true;
  }

  // The rest is for the slow paths.

  /// Blocks of larger classes are not meant to be sorted. All of these have slabs of one unit.
  static constexpr SizeClass max_class = class_of_slow(small_size);
  static constexpr ScaledClass max_scaled_class = scaled(max_class);

  /// How many units are in use.
  [[nodiscard]] std::size_t used() const noexcept { return used_; }

  [[nodiscard]] bool uses(std::size_t unit) const noexcept {
    return (word_of_units(unit).load(std::memory_order_relaxed) & bit(unit)) != 0;
  }

  /// Calls `visit` with the number of each unit in use, lowest first. Any thread may ask.
  template <class Visit>
  void for_each_unit(Visit visit) const noexcept {
    for (std::size_t i = 0; i < units_.size(); ++i) {
      // Acquire, for who does not own it: the bytes are there.
      for (std::uint64_t units = units_[i].load(std::memory_order_acquire); units != 0;
           units &= units - 1) {
        visit(i * 64 + static_cast<std::size_t>(std::countr_zero(units)));
      }
    }
  }

  /// The address at which a unit begins.
  [[nodiscard]] void* address(std::size_t unit) const noexcept {
    return reinterpret_cast<void*>(base() + unit * unit_size);
  }

  /// Is the block at `ptr` here?
  [[nodiscard]] bool has(const void* ptr) const noexcept {
    const std::uintptr_t index = index_of(ptr);
    return index < byte_count && map_[index].load(std::memory_order_relaxed) == here;
  }

  /// Begins to use the unit of the block at `ptr`. False where it is in use already or too far from
  /// the others.
  [[nodiscard]] bool use_unit_of(const void* ptr) noexcept {
    const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(ptr) & ~(unit_size - 1);
    if (used_ == 0) base_.store(address - unit_count / 2 * unit_size, std::memory_order_relaxed);
    const std::size_t unit = (address - base()) / unit_size;
    if (unit >= unit_count || uses(unit)) return false;
    set_units(unit, word_of_units(unit).load(std::memory_order_relaxed) | bit(unit));
    ++used_;
    if (!touched_[unit]) {
      touched_[unit] = true;
      ++touched_count_;
    }
    fill(unit, elsewhere);
    return true;
  }

  /// Ends the use of a unit that has no block here.
  void drop_unit(std::size_t unit) noexcept {
    fill(unit, 0);
    set_units(unit, word_of_units(unit).load(std::memory_order_relaxed) & ~bit(unit));
    --used_;
  }

  /// After a fork that copied it in the middle of a change: says that no unit is in use.
  void reset() noexcept { used_ = 0; }

  /// Is no unit in use, and were many? Then the bytes hold much memory for nothing, and had better
  /// be others: so they take little in the end, wherever blocks die.
  [[nodiscard]] bool had_many_units() const noexcept {
    return used_ == 0 && touched_count_ > 2 * most_used;
  }

  /// Does the next take() look at the whole of a unit?
  [[nodiscard]] bool looks_at_all(std::size_t unit) const noexcept { return next_[unit] == 0; }

  /// The least that may be wanted of take(): the places that a word says something of.
  static constexpr std::size_t least_want = sizeof(std::size_t);

  /// Takes blocks of `size` bytes out of one unit, lowest addresses first from where the last call
  /// stopped, and writes them downwards from `end`: all that are left, or `want`, or up to
  /// least_want - 1 less. Returns how many.
  std::size_t take(std::size_t unit, std::size_t size, void** end, std::size_t want) noexcept {
    void** const next = size == smallest_size ? take_words(unit, end, end - want)
                                              : take_bytes(unit, size, end, end - want);
    // What the next call reads, for which the processor would have to wait then.
    for (std::size_t i = 0; i < ahead; i += cache_line) {
      SYSALLOC_PREFETCH(map_ + unit * bytes_per_unit + next_[unit] + i);
    }
    return static_cast<std::size_t>(end - next);
  }

  /// The first address of a unit that is here, or null.
  [[nodiscard]] void* first_of(std::size_t unit) const noexcept {
    for (std::size_t at = 0; at < words_per_unit; ++at) {
      const std::size_t found = word_of(unit, at).load(std::memory_order_relaxed) & all_here;
      if (found != 0) {
        return reinterpret_cast<void*>(base() + unit * unit_size + at * bytes_of_word +
                                       place_of(found) * smallest_size);
      }
    }
    return nullptr;
  }

  /// How many blocks of a unit are here. Any thread may ask.
  [[nodiscard]] std::size_t count(std::size_t unit) const noexcept {
    std::size_t count = 0;
    for (std::size_t at = 0; at < words_per_unit; ++at) {
      const std::size_t word = word_of(unit, at).load(std::memory_order_relaxed);
      count += static_cast<std::size_t>(std::popcount(word & all_here));
    }
    return count;
  }

 private:
  using Word = std::atomic<std::size_t>;
  static_assert(sizeof(Byte) == 1 && sizeof(Word) == sizeof(std::size_t));

  static constexpr std::size_t cache_line = 64;
  /// As many bytes as a refill of 128 blocks of 64 bytes reads.
  static constexpr std::size_t ahead = 512;

  static constexpr std::uint8_t elsewhere = 1;
  static constexpr std::uint8_t here = 2;
  static constexpr std::size_t each_byte = std::numeric_limits<std::size_t>::max() / 255;
  static constexpr std::size_t all_here = each_byte * here;
  static constexpr std::size_t words_per_unit = bytes_per_unit / sizeof(Word);
  static constexpr std::size_t bytes_of_word = sizeof(Word) * smallest_size;

  /// The place of the lowest byte in a word that says so: what is lowest there is lowest in memory,
  /// too, on every processor that is served.
  static std::size_t place_of(std::size_t found) noexcept {
    return static_cast<std::size_t>(std::countr_zero(found)) / 8;
  }

  /// take() of blocks of the smallest size, of which each place is one: a word at a time, since
  /// what is free is mostly free together.
  void** take_words(std::size_t unit, void** end, void* const* last) noexcept {
    const std::uintptr_t first = base() + unit * unit_size;
    std::size_t at = next_[unit] / sizeof(Word);
    for (; at < words_per_unit; ++at) {
      Word& word = word_of(unit, at);
      std::size_t was = word.load(std::memory_order_relaxed);
      if ((was & all_here) == 0) continue;
      if (end - last < static_cast<std::ptrdiff_t>(sizeof(Word))) break;
      std::uintptr_t address = first + at * bytes_of_word;
      word.store(each_byte * elsewhere, std::memory_order_release);
      if (was == all_here) {
        for (std::size_t i = 0; i < sizeof(Word); ++i, address += smallest_size) {
          *--end = reinterpret_cast<void*>(address);
        }
      } else {
        for (was &= all_here; was != 0; was &= was - 1) {
          *--end = reinterpret_cast<void*>(address + place_of(was) * smallest_size);
        }
      }
    }
    next_[unit] = static_cast<std::uint16_t>(at % words_per_unit * sizeof(Word));
    return end;
  }

  /// take() of larger blocks. What is here and none is passed by.
  void** take_bytes(std::size_t unit, std::size_t size, void** end, void* const* last) noexcept {
    const std::size_t step = size / smallest_size;
    const std::size_t behind = bytes_per_unit - step;  // where the last block may begin
    std::size_t at = next_[unit];
    Byte* byte = map_ + unit * bytes_per_unit + at;
    std::uintptr_t address = base() + unit * unit_size + at * smallest_size;
    while (end != last && at <= behind) {
      // As many as find room for certain: so the loop for each counts but one thing.
      const auto room = static_cast<std::size_t>(end - last);
      const std::size_t left = (behind - at) / step + 1;
      const std::size_t count = left < room ? left : room;
      at += count * step;
      for (Byte* const stop = byte + count * step; byte != stop; byte += step, address += size) {
        if (byte->load(std::memory_order_relaxed) != here) continue;
        byte->store(elsewhere, std::memory_order_release);
        *--end = reinterpret_cast<void*>(address);
      }
    }
    next_[unit] = static_cast<std::uint16_t>(at <= behind ? at : 0);
    return end;
  }

  [[nodiscard]] std::uintptr_t base() const noexcept {
    return base_.load(std::memory_order_relaxed);
  }

  [[nodiscard]] std::uintptr_t index_of(const void* ptr) const noexcept {
    constexpr int shift = std::countr_zero(smallest_size);
    return std::rotr(reinterpret_cast<std::uintptr_t>(ptr) - base(), shift);
  }

  [[nodiscard]] Word& word_of(std::size_t unit, std::size_t at) const noexcept {
    return reinterpret_cast<Word*>(map_)[unit * words_per_unit + at];
  }

  static constexpr std::uint64_t bit(std::size_t unit) noexcept {
    return std::uint64_t{1} << unit % 64;
  }
  [[nodiscard]] const std::atomic<std::uint64_t>& word_of_units(std::size_t unit) const noexcept {
    return units_[unit / 64];
  }
  void set_units(std::size_t unit, std::uint64_t word) noexcept {
    units_[unit / 64].store(word, std::memory_order_release);
  }

  void fill(std::size_t unit, std::uint8_t value) noexcept {
    next_[unit] = 0;
    for (std::size_t at = 0; at < words_per_unit; ++at) {
      word_of(unit, at).store(each_byte * value, std::memory_order_release);
    }
  }

  // Far from every address, and one at which no block begins: so none is found, and null neither.
  // Of 32 bits, where nothing is far, where programs have nothing.
  static constexpr std::uintptr_t no_base =
      sizeof(void*) == 8 ? std::numeric_limits<std::uintptr_t>::max() / 2 + 2 : 1;

  std::atomic<std::uintptr_t> base_{no_base};
  Byte* map_ = nullptr;
  std::array<std::atomic<std::uint64_t>, unit_count / 64> units_{};  // a bit for each in use
  std::size_t used_ = 0;
  std::size_t touched_count_ = 0;
  std::array<bool, unit_count> touched_{};        // are its bytes in memory?
  std::array<std::uint16_t, unit_count> next_{};  // where to go on in each: a number of places
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_SORTED_HPP_
