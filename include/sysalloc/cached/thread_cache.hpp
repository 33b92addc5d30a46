// The thread cache: for each size class an array of free blocks that only its thread touches.
//
// An array and not a list through the blocks, so that a free block is not touched; a stack, so that
// the block freed last is handed out first while it is in the processor's cache; and refilled so
// that blocks come out in the order of their addresses.
//
// A thread that fills a bin has freed more than it allocated, and goes on freeing more often than
// not: a container dies. What stays in the bin then is scattered over what died, and would be the
// first to be handed out when the next container is built. So once a bin was full, little is kept
// in it until it runs empty: the next container lies in the order of addresses from its first node
// on.
//
// Below the first slot of each array stands a null pointer. An allocation reads the slot below
// `top`: null means empty, so there is no second variable to compare with. A deallocation compares
// `top` with `limit`, which the class's share of the thread's budget sets.

// The child of a fork takes over the caches of threads that it does not have, as they were at any
// instant. So a block leaves its stack before it goes anywhere else, and a slot is written before
// the top says so (a release, which costs nothing on x86); what was on its way then is lost.

#ifndef SYSALLOC_CACHED_THREAD_CACHE_HPP_
#define SYSALLOC_CACHED_THREAD_CACHE_HPP_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <sysalloc/cached/size_classes.hpp>
#include <utility>

namespace sysalloc::detail::cached {

/// The stack of one class. `top` is atomic for stats(), which reads it from other threads, and for
/// the order of what is written.
struct Bin {
  std::atomic<void**> top;
  void** limit;
};

static_assert(sizeof(Bin) == class_scale);

/// The bin of a class among a thread's bins.
inline Bin& bin_at(Bin* bins, ScaledClass c) noexcept {
  return *reinterpret_cast<Bin*>(reinterpret_cast<std::byte*>(bins) + c);
}

struct alignas(64) ThreadCache {
  /// A cache never holds more than this many bytes of blocks.
  static constexpr std::size_t budget = 2 * MiB - 64 * KiB;
  /// The capacity that a class begins with, in blocks.
  static constexpr std::size_t first_capacity = 8;
  /// The most blocks that a refill brings: two words of a bitmap. More would only push what the
  /// program works on out of the processor's first cache.
  static constexpr std::size_t refill_blocks = 128;
  /// What a bin holds at most, and what is kept of it, from when it was full until it runs empty.
  static constexpr std::size_t streak_limit = 128;
  static constexpr std::size_t streak_keep = 16;

  std::array<Bin, class_count> bins;
  std::array<void**, class_count> slots;
  std::array<std::uint16_t, class_count> capacity;  // in blocks; a bin's limit is this or less
  ThreadCache* next;                                // in the list of all, or of the unused ones
  ThreadCache* prev;
  std::size_t granted;  // bytes of blocks that all the limits together allow
  std::uint16_t shard;
  SizeClass next_victim;  // where the search for a class to shrink goes on

  [[nodiscard]] static constexpr std::size_t slot_count() noexcept {
    std::size_t count = 0;
    for (const ClassInfo& info : class_info) count += 1 + info.cache_max;
    return count;
  }
  /// What a cache and its slots take, wherever the memory for it begins.
  [[nodiscard]] static constexpr std::size_t bytes() noexcept;

  /// Makes the memory behind the cache, all of it zero, its slots; all bins empty and without
  /// capacity.
  void init() noexcept {
    void** slot = reinterpret_cast<void**>(this + 1);
    for (std::size_t c = 0; c < class_count; ++c) {
      // The null pointer below the first slot is there already.
      slots[c] = ++slot;
      bins[c].top.store(slot, std::memory_order_relaxed);
      bins[c].limit = slot;
      slot += class_info[c].cache_max;
    }
    next_victim = 1;
  }

  [[nodiscard]] std::size_t limit(SizeClass c) const noexcept {
    return static_cast<std::size_t>(bins[c].limit - slots[c]);
  }
  [[nodiscard]] std::size_t count(SizeClass c) const noexcept {
    return static_cast<std::size_t>(bins[c].top.load(std::memory_order_relaxed) - slots[c]);
  }
  void set_count(SizeClass c, std::size_t count) noexcept {
    bins[c].top.store(slots[c] + count, std::memory_order_release);
  }
  void set_limit(SizeClass c, std::size_t limit) noexcept { bins[c].limit = slots[c] + limit; }
  void set_capacity(SizeClass c, std::size_t blocks) noexcept {
    // Modulo 2^64 where it shrinks.
    granted += (blocks - capacity[c]) * class_info[c].size;
    capacity[c] = static_cast<std::uint16_t>(blocks);
    set_limit(c, blocks);
  }
};

constexpr std::size_t ThreadCache::bytes() noexcept {
  return sizeof(ThreadCache) + slot_count() * sizeof(void*) + alignof(ThreadCache);
}

/// The bins of a thread that has no cache: nothing to take, no room to put. With them, the fast
/// path of a thread's first call needs no test of its own. Never written to.
inline constinit std::array<void*, 1> no_slots{nullptr};
inline constinit std::array<Bin, class_count> no_bins =
    []<std::size_t... I>(std::index_sequence<I...>) {
      return std::array<Bin, class_count>{
          {(static_cast<void>(I), Bin{no_slots.data() + 1, no_slots.data() + 1})...}};
    }(std::make_index_sequence<class_count>{});

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_THREAD_CACHE_HPP_
