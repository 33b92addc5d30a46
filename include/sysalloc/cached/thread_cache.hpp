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
// short at first, and moves to a longer one when more are to be in it. Each stands behind the one
// that was made before it: a page has the short ones of many classes.
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

/// The room of a class's first array. The next one has all that it can need.
inline constexpr std::size_t few_slots = 32;

/// How many blocks of class `c` a bin can hold with an extended capacity: 256 KiB of small ones,
/// 512 of those above a KiB.
constexpr std::size_t extended_max(SizeClass c) noexcept {
  const ClassInfo& info = class_info[c];
  if (info.size > extended_max_size) return info.cache_max;
  return (info.size <= small_size ? 8 : 4) * std::size_t{info.cache_max};
}

/// The slots of the first arrays of all classes, and of all arrays that there can be, with the one
/// below each.
inline constexpr std::size_t first_slots = class_count * (1 + few_slots);
inline constexpr std::size_t all_slots = [] {
  std::size_t all = first_slots;
  for (SizeClass c = 1; c < class_count; ++c) all += 1 + extended_max(c);
  return all;
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

  // Behind the cache; or no_slots, until the class has a capacity, and after forget_slots().
  std::array<std::atomic<void**>, class_count> array;
  std::array<std::uint16_t, class_count> room;      // of that array, in blocks
  std::array<std::uint16_t, class_count> capacity;  // in blocks; a bin's limit is this or less
  std::array<std::uint8_t, class_count> resting;    // times still to go without extension
  ThreadCache* next;                                // in one of the lists of threads.hpp
  ThreadCache* prev;
  std::size_t granted;       // bytes that all capacities together allow
  std::size_t extra_bytes;   // of these, what extended ones of small classes allow beyond the usual
  void* memory;              // that the backend gave for this
  std::uint32_t used_slots;  // behind it, by arrays that are in use or were
  std::uint16_t shard;
  SizeClass next_victim;  // where the search for a class to shrink goes on
  SizeClass last_freed;   // the class from first_kept_class on that found no room last

  /// What a cache and its slots take, wherever the memory for it begins.
  [[nodiscard]] static constexpr std::size_t bytes() noexcept {
    return sizeof(ThreadCache) + all_slots * sizeof(void*) + alignof(ThreadCache);
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

  /// Takes the arrays of all classes, which are empty and have no capacity.
  void forget_slots() noexcept {
    for (SizeClass c = 1; c < class_count; ++c) {
      array[c].store(no_slots(), std::memory_order_relaxed);
      set_count(c, 0);
      set_limit(c, 0);
    }
    room.fill(0);
    used_slots = 0;
  }

  /// As above, where few threads need so much memory for them, and calls `release` with that.
  template <class Release>
  void release_rest(Release release) noexcept {
    if (used_slots <= first_slots) return;
    const std::size_t rest = used_slots - first_slots;
    forget_slots();
    release(first_slot() + first_slots, rest * sizeof(void*));
  }

  /// The array that the bin's top is in.
  [[nodiscard]] void** slots(SizeClass c) const noexcept {
    return array[c].load(std::memory_order_relaxed);
  }
  /// How many are in it. Zero when the bin is just moving from one array to another, which other
  /// threads may see, and the child of a fork: a top that is in one is out of bounds for the other.
  [[nodiscard]] std::size_t count(SizeClass c) const noexcept {
    // First what is written last. The next array is behind this one, so a top that is in this one
    // is below all of that.
    void* const* const top = bins[c].top.load(std::memory_order_acquire);
    void* const* const first = slots(c);
    if (first == no_slots()) return 0;
    const auto n = static_cast<std::size_t>(top - first);
    return n <= extended_max(c) ? n : 0;
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

  /// Sees to it that the array of the class has room for `blocks`. It stays when less is wanted.
  void make_slots(SizeClass c, std::size_t blocks) noexcept {
    if (blocks <= room[c]) return;
    const std::size_t wanted = blocks <= few_slots ? few_slots : extended_max(c);
    const std::size_t held = count(c);
    void** const next_slots = first_slot() + used_slots + 1;
    next_slots[-1] = nullptr;
    std::memcpy(next_slots, slots(c), held * sizeof(void*));
    used_slots += static_cast<std::uint32_t>(1 + wanted);
    room[c] = static_cast<std::uint16_t>(wanted);
    // After what is in it, for the child of a fork.
    array[c].store(next_slots, std::memory_order_release);
    set_count(c, held);
  }
};

/// The bins of a thread that has no cache. With them, the fast path of a thread's first call needs
/// no test of its own. Never written to.
inline constinit Bins no_bins{};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_THREAD_CACHE_HPP_
