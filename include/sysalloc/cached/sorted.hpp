// Sorted: blocks of dying containers, which a thread keeps in the order of their addresses.
//
// What is built from blocks that lie scattered is slower to build and to use (docs/cached.md has
// how much), but to put them in order costs as much where that is done to many at once. So here it
// is neither a comparison nor a move, and done to each as it dies, while the processor waits for
// the next one. For each unit that is in use here there is a byte for each place where a block may
// begin; a deallocation writes one byte, and an allocation reads them from the lowest address on.
//
//   1   the block is in use, or in a bin or slab; or none begins here
//   2   the block is free, and here; or what was freed is none, which is found when all was taken
//
// A deallocation finds the unit in a table with one place for each of its numbers modulo 256, so of
// two units that share a place only one is in use here. They may lie anywhere: in a large heap
// those of a class are far from each other.
//
// The table is asked only where the bin of the class is full, so it costs nothing before; and a
// unit is used from when a block of it was put in by the slow path until no block of its class is
// left.
//
// Which class the blocks of a unit have tells the page map, not what it was when its use began: all
// blocks may leave it meanwhile, and it may become the slab of another class. But not while one is
// here.

// For the child of a fork: the bytes of a unit that is not in use say of no block that it is here,
// and a block's byte is cleared before a bin has it. What else may be half done, reset() undoes.

#ifndef SYSALLOC_CACHED_SORTED_HPP_
#define SYSALLOC_CACHED_SORTED_HPP_

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <sysalloc/cached/size_classes.hpp>
#include <sysalloc/detail/compiler.hpp>

namespace sysalloc::detail::cached {

class Sorted {
 public:
  using Byte = std::atomic<std::uint8_t>;

  /// The most units that are used at a time.
  static constexpr std::size_t most_used = 16;
  static constexpr std::size_t bytes_per_unit = unit_size / smallest_size;

  /// Where a unit that is in use begins, and its bytes. All zero where there is none: there is no
  /// block at the very lowest addresses.
  struct Place {
    std::uintptr_t base;
    Byte* bytes;
  };
  using Places = std::array<Place, 256>;

  /// What it takes to sort.
  struct Map {
    Places places;
    std::array<std::array<Byte, bytes_per_unit>, most_used> bytes;
  };

  [[nodiscard]] bool has_map() const noexcept { return places_ != &no_places; }
  /// Gives it memory for one, before a unit is used. Next to nothing of it is touched.
  void set_map(void* memory) noexcept {
    // Always the same, and written once: other threads may be counting with it.
    if (map_ == nullptr) map_ = static_cast<Map*>(memory);
    std::memset(&map_->places, 0, sizeof(map_->places));
    // Not before, for the child of a fork.
    std::atomic_signal_fence(std::memory_order_release);
    places_ = &map_->places;
  }

  /// Puts a block in, if its unit is in use and it is not here already.
  [[nodiscard]] SYSALLOC_INLINE bool put(void* ptr) noexcept {
    const Place& place = place_of_unit(ptr);
    // The bits below those that count go to the top, where they are too much.
    const std::uintptr_t index = index_in(place, ptr);
    if (index >= bytes_per_unit) [[unlikely]]
      return false;
    Byte& byte = place.bytes[index];
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

  [[nodiscard]] bool uses(std::size_t unit) const noexcept { return base(unit) != 0; }

  /// Calls `visit` with the number of each unit in use and where it begins, lowest first, as long
  /// as it returns true. Any thread may ask.
  template <class Visit>
  void for_each_unit(Visit visit) const noexcept {
    std::uintptr_t behind = 0;
    for (;;) {
      std::size_t next = most_used;
      // In parentheses: see patience.hpp.
      std::uintptr_t lowest = (std::numeric_limits<std::uintptr_t>::max)();
      for (std::size_t unit = 0; unit < most_used; ++unit) {
        // Acquire, for who does not own it: the bytes are there.
        const std::uintptr_t base = bases_[unit].load(std::memory_order_acquire);
        if (base <= behind || base >= lowest) continue;
        next = unit;
        lowest = base;
      }
      if (next == most_used || !visit(next, lowest)) return;
      behind = lowest;
    }
  }

  /// Is the block at `ptr` here?
  [[nodiscard]] bool has(const void* ptr) const noexcept {
    const Place& place = place_of_unit(ptr);
    const std::uintptr_t index = index_in(place, ptr);
    return index < bytes_per_unit && place.bytes[index].load(std::memory_order_relaxed) == here;
  }

  /// Is a unit in use that has the place of the block's at `ptr`, or is that one?
  [[nodiscard]] bool is_place_taken(const void* ptr) const noexcept {
    return place_of_unit(ptr).base != 0;
  }

  /// Begins to use the unit of the block at `ptr`, whose place is not taken; fewer than most_used
  /// are in use.
  void use_unit_of(const void* ptr) noexcept {
    std::size_t unit = 0;
    while (uses(unit)) ++unit;
    next_[unit] = 0;
    for (std::size_t at = 0; at < words_per_unit; ++at) {
      word_of(unit, at).store(each_byte * elsewhere, std::memory_order_relaxed);
    }
    const std::uintptr_t base = reinterpret_cast<std::uintptr_t>(ptr) & ~(unit_size - 1);
    bases_[unit].store(base, std::memory_order_release);
    ++used_;
    map_->places[place_number(base)] = {.base = base, .bytes = map_->bytes[unit].data()};
  }

  /// Ends the use of a unit that has no block here.
  void drop_unit(std::size_t unit) noexcept {
    map_->places[place_number(base(unit))] = {};
    bases_[unit].store(0, std::memory_order_release);
    --used_;
  }

  /// Takes the memory, when no unit is in use; or, after a fork that copied it in the middle of a
  /// change, when all were dropped that can be seen.
  void reset() noexcept {
    places_ = &no_places;
    used_ = 0;
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
      SYSALLOC_PREFETCH(map_->bytes[unit].data() + next_[unit] + i);
    }
    return static_cast<std::size_t>(end - next);
  }

  /// The first address of a unit that is here, or null.
  [[nodiscard]] void* first_of(std::size_t unit) const noexcept {
    for (std::size_t at = 0; at < words_per_unit; ++at) {
      const std::size_t found = word_of(unit, at).load(std::memory_order_relaxed) & all_here;
      if (found != 0) {
        return reinterpret_cast<void*>(base(unit) + at * bytes_of_word +
                                       lowest_of(found) * smallest_size);
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
  static constexpr std::size_t each_byte = (std::numeric_limits<std::size_t>::max)() / 255;
  static constexpr std::size_t all_here = each_byte * here;
  static constexpr std::size_t words_per_unit = bytes_per_unit / sizeof(Word);
  static constexpr std::size_t bytes_of_word = sizeof(Word) * smallest_size;

  /// The number of the lowest byte in a word that says so: what is lowest there is lowest in
  /// memory, too, on every processor that is served.
  static std::size_t lowest_of(std::size_t found) noexcept {
    return static_cast<std::size_t>(std::countr_zero(found)) / 8;
  }

  /// take() of blocks of the smallest size, of which each place is one: a word at a time, since
  /// what is free is mostly free together.
  void** take_words(std::size_t unit, void** end, void* const* last) noexcept {
    const std::uintptr_t first = base(unit);
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
          *--end = reinterpret_cast<void*>(address + lowest_of(was) * smallest_size);
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
    Byte* byte = map_->bytes[unit].data() + at;
    std::uintptr_t address = base(unit) + at * smallest_size;
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

  [[nodiscard]] std::uintptr_t base(std::size_t unit) const noexcept {
    return bases_[unit].load(std::memory_order_relaxed);
  }

  static std::size_t place_number(std::uintptr_t address) noexcept {
    return address / unit_size % Places{}.size();
  }
  [[nodiscard]] const Place& place_of_unit(const void* ptr) const noexcept {
    return (*places_)[place_number(reinterpret_cast<std::uintptr_t>(ptr))];
  }

  /// bytes_per_unit or more where the place is not that of the block's unit, or no block may begin.
  static std::uintptr_t index_in(const Place& place, const void* ptr) noexcept {
    constexpr int shift = std::countr_zero(smallest_size);
    return std::rotr(reinterpret_cast<std::uintptr_t>(ptr) - place.base, shift);
  }

  [[nodiscard]] Word& word_of(std::size_t unit, std::size_t at) const noexcept {
    return reinterpret_cast<Word*>(map_->bytes[unit].data())[at];
  }

  /// Of a thread that has no map.
  static constexpr Places no_places{};

  const Places* places_ = &no_places;
  Map* map_ = nullptr;
  std::array<std::atomic<std::uintptr_t>, most_used> bases_{};  // 0 where there is none
  std::array<std::uint16_t, most_used> next_{};  // where to go on in each: a number of places
  std::size_t used_ = 0;
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_SORTED_HPP_
