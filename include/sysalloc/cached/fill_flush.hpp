// Filling and flushing: how blocks get into the bins of a thread cache, and out again.
//
// What the fast paths cannot do with the bins of their thread. What these are, and what is meant to
// stay in them, is told in thread_cache.hpp; here is when.

#ifndef SYSALLOC_CACHED_FILL_FLUSH_HPP_
#define SYSALLOC_CACHED_FILL_FLUSH_HPP_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <sysalloc/cached/deferred.hpp>
#include <sysalloc/cached/report.hpp>
#include <sysalloc/cached/size_classes.hpp>
#include <sysalloc/cached/slab.hpp>
#include <sysalloc/cached/slabs.hpp>
#include <sysalloc/cached/sorted.hpp>
#include <sysalloc/cached/thread_cache.hpp>
#include <sysalloc/detail/compiler.hpp>

namespace sysalloc::detail::cached {

template <class Heap>
class FillFlush {
  using Slabs = cached::Slabs<Heap>;

 public:
  /// A block of class `c`, of which the bin has none, and more for the bin; nullptr without memory.
  /// Writes to `is_zero` where the block is known to hold zeros.
  static void* take(ThreadCache& cache, SizeClass c, bool* is_zero) noexcept {
    end_extension(cache, c);
    if (cache.sorted.used() != 0) {
      if (void* const ptr = take_sorted(cache, c)) return ptr;
    }
    const bool shares_slab = class_info[c].blocks != 1;
    // Otherwise room for a second block is wanted only when one comes back.
    if (shares_slab || cache.capacity[c] == 0) grow(cache, c);
    const std::size_t capacity = cache.capacity[c];
    cache.set_limit(c, capacity);
    // In parentheses: see patience.hpp.
    const std::size_t want = (std::min)(capacity / 2, ThreadCache::refill_blocks);
    if (!shares_slab || want == 0) return Slabs::take_block(cache.shard, c, is_zero);
    void** const slots = cache.slots(c);
    const std::size_t got = Slabs::take_blocks(cache.shard, c, slots + want, want);
    if (got == 0) return nullptr;
    if (got < want) std::memmove(slots, slots + (want - got), got * sizeof(void*));
    cache.set_count(c, got - 1);
    return slots[got - 1];
  }

  /// Puts a block of class `c` into its bin, which may be full.
  static void put(ThreadCache& cache, void* ptr, SizeClass c) noexcept {
    if (cache.count(c) == cache.limit(c) && !extend(cache, c)) {
      if (put_sorted(cache, ptr, c)) return;
      if (cache.capacity[c] == 0) {
        if (c >= first_kept_class) cache.last_freed = c;
        Slabs::put_blocks(&ptr, 1, c);
        return;
      }
      // Of one that has its slab to itself nothing would be left to find that by, afterwards.
      if (class_info[c].blocks == 1 && holds(cache, c, ptr)) {
        report_double_free(ptr, class_info[c].size);
      }
      const bool sorts = may_sort(cache, ptr, c);
      const bool rests = sorts || (c <= Sorted::max_class && cache.is_extended(c));
      put_all(cache, c, sorts);
      if (sorts && sort(cache, ptr, c)) {
        cache.sorting[c] = true;
        cache.set_limit(c, 0);
        return;
      }
      // Only where it is for another unit in its place, those of others still are.
      cache.sorting[c] = sorts && cache.sorted.is_place_taken(ptr);
      if (rests && !cache.sorting[c]) cache.resting[c] = ThreadCache::extended_rest;
      // What is not sorted goes back to the slabs together with what comes after it.
      cache.set_limit(c, (std::min)(std::size_t{cache.capacity[c]}, ThreadCache::streak_limit));
      Slabs::check_in_use(ptr, c);
    }
    const std::size_t count = cache.count(c);
    cache.slots(c)[count] = ptr;
    cache.set_count(c, count + 1);
  }

  /// Puts a block in the queue of those that were freed without their size, and the one that it
  /// takes the place of into its bin.
  static void defer(ThreadCache& cache, void* ptr, SizeClass c) noexcept {
    Deferred::Entry& oldest = cache.deferred.oldest();
    cache.deferred.advance();
    const Deferred::Taken before = oldest.take();
    oldest.set(ptr, scaled(c));
    if (before.block != nullptr) put(cache, before.block, before.size_class);
  }

  /// Empties the bins of those classes that `which` says. False when it says none.
  template <class Which>
  static bool empty_if(ThreadCache& cache, Which which) noexcept {
    bool any = false;
    for (SizeClass c = 1; c < class_count; ++c) {
      if (!which(c)) continue;
      empty(cache, c);
      any = true;
    }
    return any;
  }

  /// Empties all bins, which keep their capacities: an allocation may be at work that counts with
  /// one.
  static void empty_all(ThreadCache& cache) noexcept {
    empty_if(cache, [](SizeClass) { return true; });
  }

  /// As above, and takes all capacities.
  static void drain(ThreadCache& cache) noexcept {
    empty_all(cache);
    // Units without a block, which another thread made slabs of a class that was emptied before.
    cache.sorted.for_each_unit([&cache](std::size_t unit, std::uintptr_t /*base*/) {
      drop_unit(cache, unit);
      return true;
    });
    for (SizeClass c = 1; c < class_count; ++c) cache.set_capacity(c, 0);
    // The first three are zero by now, but for a cache that a fork copied in the middle of a
    // change.
    cache.gives_up = false;
    cache.granted = cache.extra_bytes = 0;
    cache.sorting.fill(false);
    cache.resting.fill(0);
  }

  /// The classes of which blocks are sorted.
  static std::array<bool, class_count> sorted_classes(const ThreadCache& cache) noexcept {
    std::array<bool, class_count> found{};
    for_each_unit(cache, [&found](std::size_t, std::uint8_t kind) {
      if (kind < class_count) found[kind] = true;
      return true;
    });
    return found;
  }

  /// Calls `visit` for each unit of sorted blocks, lowest first, with what the map says of it, as
  /// long as it returns true. Any thread may ask.
  template <class Visit>
  static void for_each_unit(const ThreadCache& cache, Visit visit) noexcept {
    cache.sorted.for_each_unit([&visit](std::size_t unit, std::uintptr_t base) {
      return visit(unit, Heap::map.kind(reinterpret_cast<const void*>(base)));
    });
  }

 private:
  /// Is the block at `ptr` in the bin of class `c`?
  static bool holds(const ThreadCache& cache, SizeClass c, const void* ptr) noexcept {
    const void* const* const slots = cache.slots(c);
    return std::find(slots, slots + cache.count(c), ptr) != slots + cache.count(c);
  }

  /// Makes room in a bin whose limit is reached, if more of its blocks may stay.
  static bool extend(ThreadCache& cache, SizeClass c) noexcept {
    const std::size_t limit = cache.limit(c);
    // Where it is less, more died already than may stay.
    if (limit < cache.capacity[c]) return false;
    if (limit >= class_info[c].cache_max) {
      extend_capacity(cache, c);
    } else if (c < first_kept_class) {
      grow(cache, c);
    }
    return cache.limit(c) != limit;
  }

  /// Extends the capacity of class `c`, whose bin is full, if its blocks are of the thread's shard:
  /// else it frees what others allocate, and would never ask for them again.
  static void extend_capacity(ThreadCache& cache, SizeClass c) noexcept {
    const std::size_t blocks = extended_max(c) - cache.capacity[c];
    if (blocks == 0) return;
    if (cache.resting[c] != 0) {
      --cache.resting[c];
      return;
    }
    if (!is_of_shard(cache, cache.slots(c)[cache.count(c) - 1])) return;
    const std::size_t bytes = blocks * class_info[c].size;
    if (c > Sorted::max_class) {
      // So much that other classes do not give way to it.
      if (cache.granted + bytes > ThreadCache::budget) return;
    } else if (cache.extra_bytes + bytes > ThreadCache::extra_max || !make_room(cache, bytes, c)) {
      return;
    }
    cache.set_capacity(c, extended_max(c));
  }

  /// Takes what the capacity of class `c` has beyond the usual.
  static void end_extension(ThreadCache& cache, SizeClass c) noexcept {
    if (cache.is_extended(c)) cache.set_capacity(c, class_info[c].cache_max);
  }

  /// May blocks of class `c` be sorted, of which the one at `ptr` finds no room? Once as many died
  /// as may stay otherwise. Those of another shard not, as above.
  static bool may_sort(ThreadCache& cache, const void* ptr, SizeClass c) noexcept {
    if (c > Sorted::max_class || cache.resting[c] != 0 || !is_of_shard(cache, ptr)) return false;
    return cache.sorting[c] ||
           (cache.capacity[c] == extended_max(c) && cache.extra_bytes <= ThreadCache::sort_up_to);
  }

  /// Is the block at `ptr` of the thread's shard?
  static bool is_of_shard(const ThreadCache& cache, const void* ptr) noexcept {
    const Slab* const slab = Heap::map.slab(ptr);
    return slab != nullptr && slab->shard() == cache.shard;
  }

  /// Puts a block of class `c` where the thread keeps them sorted, if its unit is in use there.
  static bool put_sorted(ThreadCache& cache, void* ptr, SizeClass c) noexcept {
    if (c <= Sorted::max_class && cache.sorted.put(ptr)) return true;
    if (cache.sorted.has(ptr)) report_double_free(ptr, class_info[c].size);
    return false;
  }

  /// As above, or begins to use that unit, if it may.
  static bool sort(ThreadCache& cache, void* ptr, SizeClass c) noexcept {
    return put_sorted(cache, ptr, c) || sort_first_of_unit(cache, ptr, c);
  }

  SYSALLOC_NOINLINE static bool sort_first_of_unit(ThreadCache& cache, void* ptr,
                                                   SizeClass c) noexcept {
    Sorted& sorted = cache.sorted;
    if (sorted.used() == Sorted::most_used || sorted.is_place_taken(ptr)) return false;
    if (!is_of_shard(cache, ptr)) return false;
    if (!make_room(cache, unit_size, c)) return false;
    if (!sorted.has_map()) sorted.set_map(cache.map());
    sorted.use_unit_of(ptr);
    cache.used_much = true;
    cache.granted += unit_size;
    return sorted.put(ptr);
  }

  /// Takes blocks out of a unit that has those of class `c`. Ends its use when there are none.
  static std::size_t take_of_unit(ThreadCache& cache, SizeClass c, std::size_t unit, void** end,
                                  std::size_t want) noexcept {
    Sorted& sorted = cache.sorted;
    // When blocks go to the slabs the thread may be told to give up all, this unit too.
    while (sorted.uses(unit)) {
      const bool looks_at_all = sorted.looks_at_all(unit);
      void* const first = looks_at_all ? sorted.first_of(unit) : nullptr;
      if (looks_at_all && first == nullptr) {
        drop_unit(cache, unit);
        return 0;
      }
      // Of a larger class it looks at each place; the slabs will find what is none.
      const std::size_t size = c <= Sorted::max_class ? class_info[c].size : smallest_size;
      if (const std::size_t count = sorted.take(unit, size, end, want)) return count;
      // It looked at the rest, or at all.
      if (first != nullptr) report_interior(first, class_info[c].size);
    }
    return 0;
  }

  static void drop_unit(ThreadCache& cache, std::size_t unit) noexcept {
    cache.sorted.drop_unit(unit);
    cache.granted -= unit_size;
  }

  /// A block of class `c` out of those that are sorted, and more for the bin, which is empty and
  /// gets a limit like one that was full: the container that was built from these will die, too.
  SYSALLOC_NOINLINE static void* take_sorted(ThreadCache& cache, SizeClass c) noexcept {
    const std::size_t want = (std::min)(std::size_t{cache.capacity[c]}, ThreadCache::refill_blocks);
    void** const slots = cache.slots(c);
    std::size_t got = 0;
    for_units_of(cache, c, [&](std::size_t unit) {
      if (want - got < Sorted::least_want) return false;
      got += take_of_unit(cache, c, unit, slots + (want - got), want - got);
      return true;
    });
    if (got == 0) {
      cache.sorting[c] = false;
      return nullptr;
    }
    if (got < want) std::memmove(slots, slots + (want - got), got * sizeof(void*));
    cache.set_count(c, got - 1);
    cache.set_limit(c, (std::min)(std::size_t{cache.capacity[c]}, ThreadCache::streak_limit));
    return slots[got - 1];
  }

  /// Calls `visit` for each unit of sorted blocks that has those of class `c`, lowest first, as
  /// long as it returns true; and ends the use of those on the way that are slabs of such a class
  /// no more, which may have been put to as long as nobody looked.
  template <class Visit>
  static void for_units_of(ThreadCache& cache, SizeClass c, Visit visit) noexcept {
    for_each_unit(cache, [&](std::size_t unit, std::uint8_t kind) {
      // What was done to one before may have had the thread give up all.
      if (!cache.sorted.uses(unit)) return true;
      if (kind >= class_count || kind == 0) {
        // Nothing can be free here that is not free there but what was freed twice.
        if (void* const first = cache.sorted.first_of(unit)) report_double_free(first, 0);
        drop_unit(cache, unit);
      } else if (kind > Sorted::max_class) {
        empty_unit(cache, kind, unit);
      } else if (kind == c) {
        return visit(unit);
      }
      return true;
    });
  }

  /// Takes the blocks of a full bin out of it, and puts them back into their slabs, or first, if
  /// `sorts`, as many as may be where the thread keeps them sorted. None stays: of one that was
  /// freed twice both leave then, and that is found.
  static void put_all(ThreadCache& cache, SizeClass c, bool sorts) noexcept {
    const auto put_some = [&cache, c, sorts](void** blocks, std::size_t count) {
      if (sorts) {
        // Where no block begins it goes to the slab, which finds that.
        void** const rest = std::remove_if(blocks, blocks + count, [&cache, c](void* ptr) {
          const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(ptr) % unit_size;
          return class_info[c].index_of(offset) < class_info[c].blocks && sort(cache, ptr, c);
        });
        count = static_cast<std::size_t>(rest - blocks);
      }
      Slabs::put_blocks(blocks, count, c);
    };
    // A block that was freed twice may wait here while the other one goes.
    for (Deferred::Entry& entry : cache.deferred.entries) {
      if (entry.size_class.load(std::memory_order_relaxed) != scaled(c)) continue;
      Deferred::Taken taken = entry.take();
      if (taken.block != nullptr) put_some(&taken.block, 1);
    }
    const std::size_t count = cache.count(c);
    cache.set_count(c, 0);
    put_some(cache.slots(c), count);
    end_extension(cache, c);
  }

  /// Raises the capacity of class `c` if its maximum and the thread's budget allow.
  static void grow(ThreadCache& cache, SizeClass c) noexcept {
    const ClassInfo& info = class_info[c];
    const std::size_t capacity = cache.capacity[c];
    if (capacity == info.cache_max) return;
    if (c >= first_kept_class && !may_keep(cache, c)) return;
    std::size_t wanted = 2 * capacity;
    if (capacity == 0) wanted = info.blocks == 1 ? 1 : ThreadCache::first_capacity;
    if (wanted > info.cache_max) wanted = info.cache_max;
    const std::size_t bytes = (wanted - capacity) * info.size;
    if (make_room(cache, bytes, c)) cache.set_capacity(c, wanted);
  }

  /// Sees to it that the thread's budget has so many bytes left for class `c`. A full one moves
  /// from the classes that were not used for longest: each is looked at in turn, and one that is in
  /// use grows back.
  static bool make_room(ThreadCache& cache, std::size_t bytes, SizeClass c) noexcept {
    for (std::size_t tries = 0; cache.granted + bytes > ThreadCache::budget; ++tries) {
      if (tries == class_count) return false;
      const SizeClass victim = cache.next_victim;
      cache.next_victim = static_cast<SizeClass>(victim + 1 == class_count ? 1 : victim + 1);
      if (victim != c && cache.capacity[victim] != 0) flush(cache, victim);
    }
    return true;
  }

  /// May the thread keep a block of class `c`, which is one of the largest? When it asks for what
  /// it freed last, as a vector that grows does not. Where the budget is full, instead of all
  /// others of the largest.
  static bool may_keep(ThreadCache& cache, SizeClass c) noexcept {
    const std::size_t size = class_info[c].size;
    if (cache.last_freed != c) return false;
    if (cache.granted + size <= ThreadCache::budget) return true;
    if (size > kept_max_size) return false;
    for (SizeClass other = first_kept_class; other < class_count; ++other) flush(cache, other);
    return true;
  }

  /// Empties the bin of a class, and what is sorted of it.
  SYSALLOC_NOINLINE static void empty(ThreadCache& cache, SizeClass c) noexcept {
    put_all(cache, c, false);
    for_units_of(cache, c, [&cache, c](std::size_t unit) {
      empty_unit(cache, c, unit);
      return true;
    });
  }

  /// Puts the sorted blocks of a unit, which are of class `c`, back into their slabs.
  static void empty_unit(ThreadCache& cache, SizeClass c, std::size_t unit) noexcept {
    std::array<void*, ThreadCache::refill_blocks> blocks;
    std::size_t count = 0;
    do {
      count = take_of_unit(cache, c, unit, blocks.data() + blocks.size(), blocks.size());
      Slabs::put_blocks(blocks.data() + (blocks.size() - count), count, c);
    } while (count != 0);
  }

  /// Empties the bin of a class and takes its capacity.
  static void flush(ThreadCache& cache, SizeClass c) noexcept {
    empty(cache, c);
    cache.set_capacity(c, 0);
  }
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_FILL_FLUSH_HPP_
