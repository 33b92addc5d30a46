// The thread cache: for each size class an array of free blocks that only its thread touches.
//
// An array and not a list through the blocks, so that a free block is not touched; a stack, so that
// the block freed last is handed out first while it is in the processor's cache; and refilled so
// that blocks come out in the order of their addresses.
//
// A thread that fills a bin has freed more than it allocated, and goes on freeing more often than
// not: a container dies. What stays in the bin then is scattered over what died, and would be the
// first to be handed out when the next container is built. So when a bin is full all of it goes,
// and little is kept in it from then on until it runs empty: the next container lies in the order
// of addresses from its first node on.
//
// Most classes are used a little, and by threads that do little all are. So the array of a class is
// short at first, and stands among those of the other classes: a page has those of many.
//
// Where little dies it may all stay: the way back to the slabs and out again costs more than a
// block that lies somewhere in the processor's second cache. For that a bin may have an extended
// capacity until it runs empty, or the heap would grow otherwise.
//
// Of each class above cached_max_size it keeps one block, when it asks for what it freed last: a
// buffer that comes and goes.
//
// Below the first slot of each array stands a null pointer. An allocation reads the slot below
// `top`: null means empty, so there is no second variable to compare with. A deallocation compares
// `top` with `limit`, which the class's share of the thread's budget sets.

// The child of a fork takes over the caches of threads that it does not have, as they were at any
// instant. So a block leaves its stack before it goes anywhere else, and a slot is written before
// the top says so (a release, which costs nothing on x86); what was on its way then is lost.

#ifndef SYSALLOC_CACHED_THREAD_CACHE_HPP_
#define SYSALLOC_CACHED_THREAD_CACHE_HPP_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <sysalloc/cached/deferred.hpp>
#include <sysalloc/cached/size_classes.hpp>
#include <sysalloc/layout.hpp>

namespace sysalloc::detail::cached {

/// What stands below the first slot of a bin that has none.
inline constinit void* no_block = nullptr;

/// The stack of one class: at first nothing to take, no room to put. `top` is atomic for stats(),
/// which reads it from other threads, and for the order of what is written.
struct Bin {
  std::atomic<void**> top{&no_block + 1};
  void** limit = &no_block + 1;
};

static_assert(sizeof(Bin) == class_scale);

/// Larger blocks seldom die many at once.
inline constexpr std::size_t extended_max_size = 8 * KiB;

/// How many blocks of class `c` a bin can hold with an extended capacity: 256 KiB of small ones,
/// 512 of those above a KiB.
constexpr std::size_t extended_max(SizeClass c) noexcept {
  const ClassInfo& info = class_info[c];
  if (info.size > extended_max_size) return info.cache_max;
  return (info.size <= small_size ? 8 : 4) * std::size_t{info.cache_max};
}

/// Where the arrays of slots stand behind a cache, in slots from the first of all. Below each there
/// is one more.
struct SlotArrays {
  /// What the short array of a class takes.
  static constexpr std::size_t few = 32;

  std::array<std::uint32_t, class_count> short_at{};
  std::array<std::uint32_t, class_count> whole_at{};  // the same where the short one is all
  std::size_t short_count = 0;                        // of the slots of all short ones
  std::size_t count = 0;                              // of all slots
};

inline constexpr SlotArrays slot_arrays = [] {
  SlotArrays arrays;
  const auto place = [&arrays](std::size_t slots) {
    const std::size_t first = arrays.count + 1;
    arrays.count = first + slots;
    return static_cast<std::uint32_t>(first);
  };
  for (SizeClass c = 1; c < class_count; ++c) {
    // In parentheses: see patience.hpp.
    arrays.short_at[c] = place((std::min)(extended_max(c), SlotArrays::few));
  }
  arrays.short_count = arrays.count;
  for (SizeClass c = 1; c < class_count; ++c) {
    const std::size_t slots = extended_max(c);
    arrays.whole_at[c] = slots <= SlotArrays::few ? arrays.short_at[c] : place(slots);
  }
  return arrays;
}();

/// What the fast paths need of a thread.
struct Bins {
  std::array<Bin, class_count> bins{};
  Deferred deferred{};

  [[nodiscard]] Bin& at(std::size_t scaled_class) noexcept {
    return *reinterpret_cast<Bin*>(reinterpret_cast<std::byte*>(bins.data()) + scaled_class);
  }
};

struct alignas(64) ThreadCache : Bins {
  /// The bins never hold more than this many bytes of blocks: 2 MiB with what waits, and with
  /// the slots that most threads use.
  static constexpr std::size_t budget = 2 * MiB - 64 * KiB - Deferred::count * Deferred::max_size;
  /// The capacity that a class begins with, in blocks; where each has a slab to itself, one.
  static constexpr std::size_t first_capacity = 8;
  /// The most blocks that a refill brings: two words of a bitmap. More would only push what the
  /// program works on out of the processor's first cache.
  static constexpr std::size_t refill_blocks = 128;
  /// What a bin holds at most, from when it was full until it runs empty.
  static constexpr std::size_t streak_limit = 128;

  /// The bytes of small blocks that extended capacities together allow beyond the usual ones; part
  /// of the budget.
  static constexpr std::size_t extra_max = 512 * KiB;
  /// How many times in a row a bin that was full with an extended capacity is then emptied without
  /// one: what goes back from it all at once has left the processor's first cache.
  static constexpr std::uint8_t extended_rest = 32;

  // Behind the cache; or no_slots, until the class has a capacity, and after release_rest().
  std::array<std::atomic<void**>, class_count> array;
  std::array<std::uint8_t, class_count> resting;    // times still to go without extension
  std::array<std::uint16_t, class_count> capacity;  // in blocks; a bin's limit is this or less
  ThreadCache* next;                                // in one of the lists of threads.hpp
  ThreadCache* prev;
  std::size_t granted;      // bytes that all capacities together allow
  std::size_t extra_bytes;  // of these, what extended ones of small classes allow beyond the usual
  void* memory;             // that the backend gave for this
  std::uint16_t shard;
  bool used_much;         // were pages behind it used that few threads need?
  bool gives_up;          // is all of it on its way to the slabs?
  SizeClass next_victim;  // where the search for a class to shrink goes on
  SizeClass last_freed;   // the class from first_kept_class on that found no room last

  /// What a cache and its slots take, wherever the memory for it begins.
  [[nodiscard]] static constexpr std::size_t bytes() noexcept {
    return sizeof(ThreadCache) + slot_arrays.count * sizeof(void*) + alignof(ThreadCache);
  }
  /// Asked of the backend. Few of the pages are ever used: so nothing is cleared that need not be.
  [[nodiscard]] static constexpr Layout layout() noexcept {
    return Layout::from_size_align_unchecked(bytes(), smallest_size);
  }

  /// For one that is all zero but for the bins, at the begin of bytes() that it may use.
  void init() noexcept {
    for (auto& slots : array) slots.store(no_slots(), std::memory_order_relaxed);
    next_victim = 1;
  }

  /// Calls `release` with what of the memory behind it few threads need, if it was used; when all
  /// is empty, and has no capacity.
  template <class Release>
  void release_rest(Release release) noexcept {
    if (!used_much) return;
    used_much = false;
    for (SizeClass c = 1; c < class_count; ++c) {
      array[c].store(no_slots(), std::memory_order_relaxed);
      set_count(c, 0);
      set_limit(c, 0);
    }
    void** const first = first_slot() + slot_arrays.short_count;
    const std::size_t slots = slot_arrays.count - slot_arrays.short_count;
    release(first, slots * sizeof(void*));
  }

  /// The array that the bin's top is in.
  [[nodiscard]] void** slots(SizeClass c) const noexcept {
    return array[c].load(std::memory_order_relaxed);
  }
  /// How many are in it. Zero when the bin is just moving from one array to another, which other
  /// threads may see, and the child of a fork: a top that is in one is out of bounds for the other.
  [[nodiscard]] std::size_t count(SizeClass c) const noexcept {
    void* const* const first = slots(c);
    const auto n = static_cast<std::size_t>(bins[c].top.load(std::memory_order_relaxed) - first);
    if (first == no_slots()) return 0;
    const bool is_short = first == first_slot() + slot_arrays.short_at[c];
    return n <= (is_short ? SlotArrays::few : extended_max(c)) ? n : 0;
  }
  [[nodiscard]] std::size_t limit(SizeClass c) const noexcept {
    return static_cast<std::size_t>(bins[c].limit - slots(c));
  }
  void set_count(SizeClass c, std::size_t count) noexcept {
    bins[c].top.store(slots(c) + count, std::memory_order_release);
  }
  void set_limit(SizeClass c, std::size_t limit) noexcept { bins[c].limit = slots(c) + limit; }

  [[nodiscard]] bool is_extended(SizeClass c) const noexcept {
    return capacity[c] > class_info[c].cache_max;
  }

  void set_capacity(SizeClass c, std::size_t blocks) noexcept {
    if (blocks != 0) make_slots(c, blocks);
    // Modulo 2^n where it shrinks.
    granted += (blocks - capacity[c]) * class_info[c].size;
    extra_bytes -= extra(c);
    capacity[c] = static_cast<std::uint16_t>(blocks);
    extra_bytes += extra(c);
    if (is_extended(c)) used_much = true;
    set_limit(c, blocks);
  }

 private:
  /// What the capacity of a class is beyond the usual, in bytes of blocks, if these are small.
  [[nodiscard]] std::size_t extra(SizeClass c) const noexcept {
    const ClassInfo& info = class_info[c];
    return is_extended(c) && info.size <= small_size ? (capacity[c] - info.cache_max) * info.size
                                                     : 0;
  }

  static void** no_slots() noexcept { return &no_block + 1; }
  void** first_slot() noexcept { return reinterpret_cast<void**>(this + 1); }
  [[nodiscard]] void* const* first_slot() const noexcept {
    return reinterpret_cast<void* const*>(this + 1);
  }

  /// Sees to it that the array of the class has room for `blocks`. One that is not short stays when
  /// less is wanted, for its pages are in memory.
  void make_slots(SizeClass c, std::size_t blocks) noexcept {
    void** const short_slots = first_slot() + slot_arrays.short_at[c];
    void** const whole_slots = first_slot() + slot_arrays.whole_at[c];
    void** const old = array[c].load(std::memory_order_relaxed);
    void** const slots = blocks <= SlotArrays::few ? short_slots : whole_slots;
    if (old == slots || old == whole_slots) return;
    const std::size_t held = old == no_slots() ? 0 : count(c);
    slots[-1] = nullptr;
    std::memcpy(slots, old, held * sizeof(void*));
    // After what is in it, for the child of a fork.
    array[c].store(slots, std::memory_order_release);
    set_count(c, held);
  }
};

/// The bins of a thread that has no cache. With them, the fast path of a thread's first call needs
/// no test of its own. Never written to.
inline constinit Bins no_bins{};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_THREAD_CACHE_HPP_
