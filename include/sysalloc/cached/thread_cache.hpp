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
// block that lies somewhere in the processor's second cache. For that an array is continued in
// magazines, up to magazine_max bytes of blocks in all. Where more dies, what it is built anew from
// had better lie in order, but that costs less here than by way of the slabs: so all of it, and
// what dies after it, is sorted (sorted.hpp). Both until the heap would grow otherwise.
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
#include <sysalloc/cached/sorted.hpp>
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

/// Where the arrays of slots stand behind a cache, in slots from the first of all. Below each there
/// is one more.
struct SlotArrays {
  /// What the short array of a class takes.
  static constexpr std::size_t few = 32;

  std::array<std::uint16_t, class_count> short_at{};
  std::array<std::uint16_t, class_count> whole_at{};  // the same where the short one is all
  std::size_t count = 0;                              // of all slots
};

inline constexpr SlotArrays slot_arrays = [] {
  SlotArrays arrays;
  const auto place = [&arrays](std::size_t slots) {
    const std::size_t first = arrays.count + 1;
    arrays.count = first + slots;
    return static_cast<std::uint16_t>(first);
  };
  for (std::size_t c = 1; c < class_count; ++c) {
    // In parentheses: see patience.hpp.
    arrays.short_at[c] = place((std::min)(std::size_t{class_info[c].cache_max}, SlotArrays::few));
  }
  for (std::size_t c = 1; c < class_count; ++c) {
    const std::size_t slots = class_info[c].cache_max;
    arrays.whole_at[c] = slots <= SlotArrays::few ? arrays.short_at[c] : place(slots);
  }
  return arrays;
}();

/// What the fast paths need of a thread.
struct Bins {
  std::array<Bin, class_count> bins{};
  Deferred deferred{};
  Sorted sorted{};

  [[nodiscard]] Bin& at(std::size_t scaled_class) noexcept {
    return *reinterpret_cast<Bin*>(reinterpret_cast<std::byte*>(bins.data()) + scaled_class);
  }

  /// Is that the bin of a class of which blocks are sorted? Not that of class 0.
  [[nodiscard]] bool is_of_small(const Bin& bin) const noexcept {
    return static_cast<std::size_t>(&bin - &bins[1]) < Sorted::max_class;
  }
};

/// Where an array of slots goes on (Bonwick and Adams, "Magazines and Vmem", have the name).
struct Magazine {
  static constexpr std::size_t slot_count = 1020;

  Magazine* below;            // in use before: another one, or null for the class's own array
  std::size_t below_count;    // blocks there
  std::atomic<void*> bottom;  // null, as below the first slot of an own array
  std::array<void*, slot_count> slots;
};

struct alignas(64) ThreadCache : Bins {
  /// The bins never hold more than this many bytes of blocks: 2 MiB with what else a thread keeps.
  static constexpr std::size_t budget =
      2 * MiB - 64 * KiB - sizeof(Sorted::Map) - Deferred::count * Deferred::max_size;
  /// The capacity that a class begins with, in blocks; where each has a slab to itself, one.
  static constexpr std::size_t first_capacity = 8;
  /// The most blocks that a refill brings: two words of a bitmap. More would only push what the
  /// program works on out of the processor's first cache.
  static constexpr std::size_t refill_blocks = 128;
  /// What a bin holds at most, from when it was full until it runs empty.
  static constexpr std::size_t streak_limit = 128;

  /// What the magazines of a thread hold at most, in bytes of blocks; part of the budget.
  static constexpr std::size_t magazine_max = 512 * KiB;
  /// And each of them.
  static constexpr std::size_t magazine_each = 64 * KiB;
  /// So there are never more.
  static constexpr std::size_t most_magazines =
      magazine_max / (Magazine::slot_count * smallest_size);
  /// From so many bytes of a class on they are sorted instead. Less are in the processor's caches
  /// all together, in whatever order.
  static constexpr std::size_t sort_from = 128 * KiB;
  /// How many times in a row a bin that found no room for more magazines, or for what is sorted, is
  /// then emptied without: what goes back from these all at once has left the processor's first
  /// cache.
  static constexpr std::uint8_t magazine_rest = 32;
  /// How many blocks move to a new magazine from the array below it, so that a bin that is about as
  /// full as that for a while does not change arrays with each block.
  static constexpr std::size_t magazine_first = 64;

  // Behind the cache; or no_slots, as long as the class has no capacity.
  std::array<std::atomic<void**>, class_count> own_slots;
  std::array<std::atomic<Magazine*>, class_count> magazine;    // in use instead, or null
  std::array<std::atomic<std::uint32_t>, class_count> stored;  // blocks in the arrays below that
  std::array<std::uint8_t, class_count> resting;               // times still to go without
  std::array<bool, class_count> sorting;                       // what finds no room in the bin?
  std::array<std::uint16_t, class_count> capacity;  // in blocks; a bin's limit is this or less
  ThreadCache* next;                                // in one of the lists of threads.hpp
  ThreadCache* prev;
  std::size_t granted;         // bytes of blocks that all the limits together allow
  std::size_t magazine_bytes;  // of these, what the magazines may hold
  Magazine* magazines;         // what the backend gave for all of them, or null
  std::size_t magazine_count;  // of these, the first that were ever used
  Magazine* spare;             // of these, those that are not in use, linked by `below`
  void* memory;                // that the backend gave for this
  std::uint16_t shard;
  bool gives_up;          // is all of it on its way to the slabs?
  SizeClass next_victim;  // where the search for a class to shrink goes on
  SizeClass last_freed;   // the class from first_kept_class on that found no room last

  /// What a cache, its slots and its map of what is sorted take, wherever the memory for it begins.
  [[nodiscard]] static constexpr std::size_t bytes() noexcept {
    return sizeof(ThreadCache) + slot_arrays.count * sizeof(void*) + sizeof(Sorted::Map) +
           alignof(ThreadCache);
  }
  /// Asked of the backend. Few of the pages are ever used: so nothing is cleared that need not be.
  [[nodiscard]] static constexpr Layout layout() noexcept {
    return Layout::from_size_align_unchecked(bytes(), smallest_size);
  }

  /// And all magazines. They come and go together: of many small blocks that are given back the C
  /// library keeps a page or two each.
  [[nodiscard]] static constexpr Layout magazines_layout() noexcept {
    return Layout::from_size_align_unchecked(most_magazines * sizeof(Magazine), alignof(Magazine));
  }

  /// Where its map is, behind the slots.
  [[nodiscard]] void* map() noexcept {
    static_assert(alignof(Sorted::Map) <= alignof(void*));
    return reinterpret_cast<void**>(this + 1) + slot_arrays.count;
  }

  /// For one that is all zero but for the bins, at the begin of bytes() that it may use.
  void init() noexcept {
    for (auto& slots : own_slots) slots.store(no_slots(), std::memory_order_relaxed);
    next_victim = 1;
  }

  /// The array that the bin's top is in.
  [[nodiscard]] void** slots(SizeClass c) const noexcept {
    Magazine* const m = magazine[c].load(std::memory_order_relaxed);
    return m == nullptr ? own_slots[c].load(std::memory_order_relaxed) : m->slots.data();
  }
  /// How many blocks fit into it.
  [[nodiscard]] std::size_t room(SizeClass c) const noexcept {
    return magazine[c].load(std::memory_order_relaxed) == nullptr ? capacity[c] : magazine_room(c);
  }
  /// How many are in it. Zero when the bin is just moving from one array to another, which other
  /// threads may see, and the child of a fork: arrays are never next to each other, so a top that
  /// is in one is out of bounds for every other.
  [[nodiscard]] std::size_t count(SizeClass c) const noexcept {
    const Magazine* const m = magazine[c].load(std::memory_order_relaxed);
    void* const* const first =
        m == nullptr ? own_slots[c].load(std::memory_order_relaxed) : m->slots.data();
    const std::size_t most = m == nullptr ? class_info[c].cache_max : Magazine::slot_count;
    const auto n = static_cast<std::size_t>(bins[c].top.load(std::memory_order_relaxed) - first);
    return n <= most ? n : 0;
  }
  [[nodiscard]] std::size_t limit(SizeClass c) const noexcept {
    return static_cast<std::size_t>(bins[c].limit - slots(c));
  }
  void set_count(SizeClass c, std::size_t count) noexcept {
    bins[c].top.store(slots(c) + count, std::memory_order_release);
  }
  void set_limit(SizeClass c, std::size_t limit) noexcept { bins[c].limit = slots(c) + limit; }

  /// How many blocks of a class a magazine takes; none that are not small.
  [[nodiscard]] static constexpr std::size_t magazine_room(SizeClass c) noexcept {
    const std::size_t blocks = magazine_each / class_info[c].size;
    if (class_info[c].size > small_size) return 0;
    return blocks < Magazine::slot_count ? blocks : Magazine::slot_count;
  }

  /// And how many bytes these are.
  [[nodiscard]] static constexpr std::size_t magazine_bytes_of(SizeClass c) noexcept {
    return magazine_room(c) * class_info[c].size;
  }

  /// The bytes of blocks of class `c` in all its arrays.
  [[nodiscard]] std::size_t bytes_held(SizeClass c) const noexcept {
    return (count(c) + stored[c].load(std::memory_order_relaxed)) * class_info[c].size;
  }

  /// May the array of class `c` be continued in one more?
  [[nodiscard]] bool may_add_magazine(SizeClass c) const noexcept {
    const std::size_t bytes = magazine_bytes_of(c);
    return bytes != 0 && bytes_held(c) < sort_from && magazine_bytes + bytes <= magazine_max;
  }

  /// Continues the array that the bin's top is in, which is full, in a magazine.
  void push_magazine(SizeClass c, Magazine* m) noexcept {
    const std::size_t all = count(c);
    const std::size_t moved = all / 8 < magazine_first ? all / 8 : magazine_first;
    void** const newest = slots(c) + (all - moved);
    std::memcpy(m->slots.data(), newest, moved * sizeof(void*));
    m->below = magazine[c].load(std::memory_order_relaxed);
    m->below_count = all - moved;
    set_count(c, all - moved);
    account_magazine(c, m->below_count, magazine_room(c));
    magazine[c].store(m, std::memory_order_release);
    set_count(c, moved);
    set_limit(c, magazine_room(c));
  }

  /// Goes on with the array below the magazine of class `c`, which is empty. False when there is
  /// none.
  bool pop_magazine(SizeClass c) noexcept {
    Magazine* const m = magazine[c].load(std::memory_order_relaxed);
    if (m == nullptr) return false;
    // Modulo 2^64, as what they are added to.
    account_magazine(c, 0 - m->below_count, 0 - magazine_room(c));
    magazine[c].store(m->below, std::memory_order_release);
    set_count(c, m->below_count);
    set_limit(c, room(c));
    // Not before it is out of use, for the child of a fork.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    m->below = spare;
    spare = m;
    return true;
  }

  void set_capacity(SizeClass c, std::size_t blocks) noexcept {
    if (blocks != 0) make_slots(c, blocks);
    // Modulo 2^64 where it shrinks.
    granted += (blocks - capacity[c]) * class_info[c].size;
    capacity[c] = static_cast<std::uint16_t>(blocks);
    set_limit(c, blocks);
  }

 private:
  static void** no_slots() noexcept { return &no_block + 1; }

  /// Sees to it that the class's own array has room for `blocks`. One that is not short stays when
  /// less is wanted, for its pages are in memory.
  void make_slots(SizeClass c, std::size_t blocks) noexcept {
    auto** const first = reinterpret_cast<void**>(this + 1);
    void** const short_slots = first + slot_arrays.short_at[c];
    void** const whole_slots = first + slot_arrays.whole_at[c];
    void** const old = own_slots[c].load(std::memory_order_relaxed);
    void** const slots = blocks <= SlotArrays::few ? short_slots : whole_slots;
    if (old == slots || old == whole_slots) return;
    const std::size_t held = old == no_slots() ? 0 : count(c);
    slots[-1] = nullptr;
    std::memcpy(slots, old, held * sizeof(void*));
    // After what is in it, for the child of a fork.
    own_slots[c].store(slots, std::memory_order_release);
    set_count(c, held);
  }

  void account_magazine(SizeClass c, std::size_t below, std::size_t may_hold) noexcept {
    stored[c].store(stored[c].load(std::memory_order_relaxed) + static_cast<std::uint32_t>(below),
                    std::memory_order_relaxed);
    granted += may_hold * class_info[c].size;
    magazine_bytes += may_hold * class_info[c].size;
  }
};

/// The bins of a thread that has no cache. With them, the fast path of a thread's first call needs
/// no test of its own. Never written to.
inline constinit Bins no_bins{};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_THREAD_CACHE_HPP_
