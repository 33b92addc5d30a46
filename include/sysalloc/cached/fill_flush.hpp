// Filling and flushing: how blocks get into the bins of a thread cache, and out again.
//
// What the fast paths cannot do with the bins of their thread. What these are, and what is meant to
// stay in them, is told in thread_cache.hpp; here is when.

#ifndef SYSALLOC_CACHED_FILL_FLUSH_HPP_
#define SYSALLOC_CACHED_FILL_FLUSH_HPP_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <sysalloc/cached/deferred.hpp>
#include <sysalloc/cached/report.hpp>
#include <sysalloc/cached/size_classes.hpp>
#include <sysalloc/cached/slab.hpp>
#include <sysalloc/cached/slabs.hpp>
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
      if (cache.capacity[c] == 0) {
        if (c >= first_kept_class) cache.last_freed = c;
        Slabs::put_blocks(&ptr, 1, c);
        return;
      }
      // Of one that has its slab to itself nothing would be left to find that by, afterwards.
      void** const slots = cache.slots(c);
      void** const end = slots + cache.count(c);
      if (class_info[c].blocks == 1 && std::find(slots, end, ptr) != end) {
        report_double_free(ptr, class_info[c].size);
      }
      const bool rests = class_info[c].size <= small_size && cache.is_extended(c);
      put_all(cache, c);
      if (rests) cache.resting[c] = ThreadCache::extended_rest;
      // It goes back to the slabs together with what comes after it.
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
    const SizeClass class_before = oldest.class_of_block();
    void* const before = oldest.take();
    oldest.set(ptr, scaled(c));
    if (before != nullptr) put(cache, before, class_before);
  }

  /// Empties the bins of those classes that `which` says. False when it says none.
  template <class Which>
  static bool empty_if(ThreadCache& cache, Which which) noexcept {
    bool any = false;
    for (SizeClass c = 1; c < class_count; ++c) {
      if (!which(c)) continue;
      put_all(cache, c);
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
    for (SizeClass c = 1; c < class_count; ++c) cache.set_capacity(c, 0);
    // The first two are zero by now, but for a cache that a fork copied in the middle of a change.
    cache.granted = cache.extra_bytes = 0;
    cache.resting.fill(0);
  }

 private:
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

  /// Doubles the capacity of class `c`, whose bin is full, if its blocks are of the thread's shard:
  /// else it frees what others allocate, and would never ask for them again.
  static void extend_capacity(ThreadCache& cache, SizeClass c) noexcept {
    const std::size_t wanted = (std::min)(2 * std::size_t{cache.capacity[c]}, extended_max(c));
    if (wanted == cache.capacity[c]) return;
    if (cache.resting[c] != 0) {
      --cache.resting[c];
      return;
    }
    if (!is_of_shard(cache, cache.slots(c)[cache.count(c) - 1])) return;
    const std::size_t bytes = (wanted - cache.capacity[c]) * class_info[c].size;
    if (class_info[c].size > small_size) {
      // So much that other classes do not give way to it.
      if (cache.granted + bytes > ThreadCache::budget) return;
    } else if (cache.extra_bytes + bytes > ThreadCache::extra_max || !make_room(cache, bytes, c)) {
      return;
    }
    cache.set_capacity(c, wanted);
  }

  /// Takes what the capacity of class `c` has beyond the usual.
  static void end_extension(ThreadCache& cache, SizeClass c) noexcept {
    if (cache.is_extended(c)) cache.set_capacity(c, class_info[c].cache_max);
  }

  /// Is the block at `ptr` of the thread's shard?
  static bool is_of_shard(const ThreadCache& cache, const void* ptr) noexcept {
    const Slab* const slab = Heap::map.slab(ptr);
    return slab != nullptr && slab->shard() == cache.shard;
  }

  /// Puts the blocks of a bin back into their slabs. None stays: of one that was freed twice both
  /// leave then, and that is found.
  static void put_all(ThreadCache& cache, SizeClass c) noexcept {
    // A block that was freed twice may wait here while the other one goes.
    for (Deferred::Entry& entry : cache.deferred.entries) {
      if (entry.class_of_block() != c) continue;
      void* block = entry.take();
      if (block != nullptr) Slabs::put_blocks(&block, 1, c);
    }
    const std::size_t count = cache.count(c);
    cache.set_count(c, 0);
    Slabs::put_blocks(cache.slots(c), count, c);
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

  /// Empties the bin of a class and takes its capacity.
  static void flush(ThreadCache& cache, SizeClass c) noexcept {
    put_all(cache, c);
    cache.set_capacity(c, 0);
  }
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_FILL_FLUSH_HPP_
