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
  static void* take(ThreadCache& cache, SizeClass c) noexcept {
    if (cache.pop_magazine(c)) {
      const std::size_t count = cache.count(c) - 1;
      cache.set_count(c, count);
      return cache.slots(c)[count];
    }
    const bool shares_slab = class_info[c].blocks != 1;
    // Otherwise room for a second block is wanted only when one comes back.
    if (shares_slab || cache.capacity[c] == 0) grow(cache, c);
    const std::size_t capacity = cache.capacity[c];
    cache.set_limit(c, capacity);
    // In parentheses: see patience.hpp.
    const std::size_t want = (std::min)(capacity / 2, ThreadCache::refill_blocks);
    if (!shares_slab || want == 0) return Slabs::take_block(cache.shard, c);
    void** const slots = cache.own_slots[c];
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
      if (class_info[c].blocks == 1 && holds(cache, c, ptr)) {
        report_double_free(ptr, class_info[c].size);
      }
      put_all(cache, c);
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
    for (std::size_t i = 1; i < class_count; ++i) {
      const auto c = static_cast<SizeClass>(i);
      if (!which(c)) continue;
      empty(cache, c);
      any = true;
    }
    return any;
  }

  /// Empties all bins, which keep their capacities: an allocation may be at work that counts with
  /// one.
  static void empty_all(ThreadCache& cache) noexcept {
    put_deferred(cache, [](const Deferred::Entry&) { return true; });
    empty_if(cache, [](SizeClass) { return true; });
  }

  /// As above, and takes all capacities.
  static void drain(ThreadCache& cache) noexcept {
    empty_all(cache);
    for (std::size_t i = 1; i < class_count; ++i) cache.set_capacity(static_cast<SizeClass>(i), 0);
    // All of this is zero by now, but for a cache that was copied by a fork in the middle of a
    // change.
    cache.granted = cache.magazine_bytes = 0;
    cache.resting.fill(0);
    for (auto& blocks : cache.stored) blocks.store(0, std::memory_order_relaxed);
  }

 private:
  /// Puts those blocks that were freed without their size and that `which` says into their slabs.
  template <class Which>
  static void put_deferred(ThreadCache& cache, Which which) noexcept {
    for (Deferred::Entry& entry : cache.deferred.entries) {
      if (!which(entry)) continue;
      Deferred::Taken taken = entry.take();
      if (taken.block != nullptr) Slabs::put_blocks(&taken.block, 1, taken.size_class);
    }
  }

  /// Is the block at `ptr` in the bin of class `c`?
  static bool holds(const ThreadCache& cache, SizeClass c, const void* ptr) noexcept {
    const void* const* const slots = cache.slots(c);
    return std::find(slots, slots + cache.count(c), ptr) != slots + cache.count(c);
  }

  /// Makes room in a bin whose limit is reached, if more of its blocks may stay.
  static bool extend(ThreadCache& cache, SizeClass c) noexcept {
    const std::size_t limit = cache.limit(c);
    // Where it is less, more died already than may stay.
    if (limit < cache.room(c)) return false;
    if (cache.magazine[c].load(std::memory_order_relaxed) == nullptr) {
      if (c < first_kept_class) grow(cache, c);
      if (limit != cache.capacity[c]) return true;
      if (limit == 0) return false;
      if (cache.resting[c] != 0) {
        --cache.resting[c];
        return false;
      }
    }
    Magazine* const magazine = take_magazine(cache, c);
    if (magazine == nullptr) return false;
    cache.push_magazine(c, magazine);
    return true;
  }

  /// A magazine to continue the full array of class `c` in; nullptr where its blocks may not stay,
  /// or the backend has no memory. Blocks of another shard than the thread's may not: it frees what
  /// others allocate, and would never ask for them again.
  static Magazine* take_magazine(ThreadCache& cache, SizeClass c) noexcept {
    if (!cache.may_add_magazine(c)) return nullptr;
    const Slab* const slab = Heap::map.slab(cache.slots(c)[cache.count(c) - 1]);
    if (slab == nullptr || slab->shard() != cache.shard) return nullptr;
    if (Magazine* const spare = cache.spare) {
      cache.spare = spare->below;
      return spare;
    }
    if (Magazine* const spare = Heap::Threads::spare_magazine()) return spare;
    auto* const magazine = static_cast<Magazine*>(Slabs::alloc_metadata(sizeof(Magazine)));
    if (magazine != nullptr) magazine->bottom = nullptr;
    return magazine;
  }

  /// Puts the blocks of a full bin back into their slabs. None stays: of one that was freed twice
  /// both leave then, and that is found.
  static void put_all(ThreadCache& cache, SizeClass c) noexcept {
    if (cache.magazine[c].load(std::memory_order_relaxed) != nullptr) {
      cache.resting[c] = ThreadCache::magazine_rest;
    }
    empty(cache, c);
    cache.set_limit(c, (std::min)(cache.room(c), ThreadCache::streak_limit));
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
    // A full budget moves from the classes that were not used for longest: each is looked at in
    // turn, and one that is in use grows back.
    for (std::size_t tries = 0; cache.granted + bytes > ThreadCache::budget; ++tries) {
      if (tries == class_count) return;
      const SizeClass victim = cache.next_victim;
      cache.next_victim = static_cast<SizeClass>(victim + 1 == class_count ? 1 : victim + 1);
      if (victim == c || cache.capacity[victim] == 0) continue;
      flush(cache, victim);
    }
    cache.set_capacity(c, wanted);
  }

  /// May the thread keep a block of class `c`, which is one of the largest? When it asks for what
  /// it freed last, as a vector that grows does not. Where the budget is full, instead of all
  /// others of the largest.
  static bool may_keep(ThreadCache& cache, SizeClass c) noexcept {
    const std::size_t size = class_info[c].size;
    if (cache.last_freed != c) return false;
    if (cache.granted + size <= ThreadCache::budget) return true;
    if (size > kept_max_size) return false;
    for (std::size_t other = first_kept_class; other < class_count; ++other) {
      flush(cache, static_cast<SizeClass>(other));
    }
    return true;
  }

  /// Empties the bin of a class.
  SYSALLOC_NOINLINE static void empty(ThreadCache& cache, SizeClass c) noexcept {
    // A block that was freed twice may wait there while the other one goes.
    put_deferred(cache, [c](const Deferred::Entry& entry) {
      return entry.size_class.load(std::memory_order_relaxed) == scaled(c);
    });
    do {
      const std::size_t count = cache.count(c);
      cache.set_count(c, 0);
      Slabs::put_blocks(cache.slots(c), count, c);
    } while (cache.pop_magazine(c));
  }

  /// Empties the bin of a class and takes its capacity.
  static void flush(ThreadCache& cache, SizeClass c) noexcept {
    empty(cache, c);
    cache.set_capacity(c, 0);
  }
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_FILL_FLUSH_HPP_
