// The heap of Cached: everything between the thread caches and the backend.
//
//   thread cache   arrays of free blocks of one thread           thread_cache.hpp
//   shard          slabs with free blocks, one lock for each     shard.hpp, slab.hpp
//   span heaps     runs of units for slabs, one lock for each    span_heap.hpp
//   backend        segments and large blocks                     large.hpp
//
// Beside them the page map, which tells for any address what is there (page_map.hpp), and the
// registry of thread caches.
//
// All state is constant-initialised and never destroyed, so the heap serves before main and after
// it. A thread gets its cache at its first slow call and gives it back when it ends (os.hpp), after
// the destructors of thread_local objects; one that allocates later still gets one again where the
// system lets it, and otherwise goes without.
//
// Locks: one for each shard, for each span heap, for the metadata, and for the registry. None is
// taken while another is held, but in the fork handler, which takes all of them in that order; and
// none is held while the backend or the system is called.
//
// Under AddressSanitizer and valgrind the heap steps aside: every block comes from the backend by
// itself, so the tool sees each one as it does without Cached.

#ifndef SYSALLOC_CACHED_HEAP_HPP_
#define SYSALLOC_CACHED_HEAP_HPP_

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <sysalloc/cached/hints.hpp>
#include <sysalloc/cached/large.hpp>
#include <sysalloc/cached/metadata.hpp>
#include <sysalloc/cached/mutex.hpp>
#include <sysalloc/cached/os.hpp>
#include <sysalloc/cached/page_map.hpp>
#include <sysalloc/cached/report.hpp>
#include <sysalloc/cached/shard.hpp>
#include <sysalloc/cached/size_classes.hpp>
#include <sysalloc/cached/slab.hpp>
#include <sysalloc/cached/span_heap.hpp>
#include <sysalloc/cached/thread_cache.hpp>
#include <sysalloc/detail/compiler.hpp>
#include <sysalloc/detail/never_destroyed.hpp>
#include <sysalloc/global_alloc.hpp>
#include <sysalloc/layout.hpp>
#include <utility>

namespace sysalloc::detail::cached {

/// Prints the table of the heap over `Backend`; in stats.hpp.
template <GlobalAlloc Backend>
void print_stats() noexcept;

template <GlobalAlloc Backend>
class Heap {
 public:
  /// The bins of the calling thread.
  [[nodiscard]] static Bins* bins() noexcept { return ThreadBins::get(); }

  static inline constinit PageMap map{};
  static inline constinit Hints hints{};

  using Large = LargeBlocks<Heap>;

  // -------------------------------------------------------------------------------------------
  // The slow paths of allocation and deallocation. The fast ones are in cached.hpp.

  /// Allocates what try_alloc could not: the bin is empty, or the block is large.
  SYSALLOC_NOINLINE static void* alloc_rest(Layout layout) noexcept {
    assert(layout.size() != 0 && "Cached::alloc: size zero");
    if (layout.align() > unit_size) return Large::alloc(layout);
    const std::size_t size = aligned_size(layout);
    if (size > max_class_size) return Large::alloc(layout);
    const SizeClass c = class_of(size);
    ThreadCache* const cache = attach();
    if (cache == nullptr) {
      if (bypass_.load(std::memory_order_relaxed)) return backend().alloc(layout);
      return take_block(0, c);
    }
    // The bin is empty, unless the thread got its cache just now.
    if (cache->pop_magazine(c)) {
      const std::size_t count = cache->count(c) - 1;
      cache->set_count(c, count);
      return cache->slots(c)[count];
    }
    const bool shares_slab = class_info[c].blocks != 1;
    // Otherwise room for a second block is wanted only when one comes back.
    if (shares_slab || cache->capacity[c] == 0) grow(*cache, c);
    const std::size_t capacity = cache->capacity[c];
    cache->set_limit(c, capacity);
    // In parentheses, for <windows.h> has macros with the names of these functions.
    const std::size_t want = (std::min)(capacity / 2, ThreadCache::refill_blocks);
    if (!shares_slab || want == 0) return take_block(cache->shard, c);
    void** const slots = cache->own_slots[c];
    const std::size_t got = take_blocks(cache->shard, c, slots + want, want);
    if (got == 0) return nullptr;
    if (got < want) std::memmove(slots, slots + (want - got), got * sizeof(void*));
    cache->set_count(c, got - 1);
    return slots[got - 1];
  }

  /// Frees what try_dealloc could not: the bin is full, or `ptr` is null, a large block, a block
  /// of another class than `size` says (0 when that is unknown), or none of this heap.
  SYSALLOC_NOINLINE static void dealloc_rest(void* ptr, std::size_t size,
                                             std::size_t align) noexcept {
    if (ptr == nullptr) return;
    const std::uint8_t kind = map.kind(ptr);
    switch (kind) {
      case kind_foreign:
        dealloc_foreign(ptr, size, align);
        return;
      case kind_free:
        report_double_free(ptr, 0);
      case kind_gone:
        if (Large::was_freed(ptr)) report_double_free(ptr, 0);
        dealloc_foreign(ptr, size, align);
        return;
      case kind_interior:
      case kind_large:
        if (Large::is_behind(ptr)) {
          dealloc_foreign(ptr, size, align);
        } else if (kind == kind_large) {
          Large::dealloc(ptr, size);
        } else {
          report_interior(ptr, 0);
        }
        return;
      default:
        if (size != 0 && !is_size_of(kind, size, align)) {
          if (wrong_size_is_fatal) report_wrong_size(ptr, class_info[kind].size, size);
          wrong_sizes_.fetch_add(1, std::memory_order_relaxed);
        }
        hints.set(ptr, kind);
        if (size == 0 && scaled(kind) <= Deferred::max_class) {
          defer(ptr, kind);
        } else {
          dealloc_block(ptr, kind);
        }
    }
  }

  /// The bytes that the block at `ptr`, allocated at a multiple of `align`, holds; 0 when it is not
  /// of this heap.
  static std::size_t usable_size(const void* ptr, std::size_t align) noexcept {
    const std::uint8_t kind = map.kind(ptr);
    if (kind == kind_large) return Large::usable_size(ptr);
    if constexpr (HasUsableSize<Backend>) {
      if (bypass_.load(std::memory_order_relaxed)) {
        return sysalloc::usable_size(backend(), ptr, align);
      }
    }
    return kind < class_count ? class_info[kind].size : 0;
  }

  // -------------------------------------------------------------------------------------------
  // Giving memory back, and looking.

  /// Empties the calling thread's cache and gives everything that holds no block to the system and
  /// the backend.
  static void purge() noexcept {
    if (bins() != &no_bins) drain(*cache_of(bins()));
    while (drain_orphan()) {
    }
    for (Shard& shard : shards_) purge_slabs(shard, Purge::all);
    for (SpanHeap& spans : span_heaps_) spans.purge(backend(), map, 0);
    free_unused_caches();
    os::release_freed();
  }

  static const Backend& backend() noexcept { return global_instance_.value; }

  static std::size_t wrong_sizes() noexcept { return wrong_sizes_.load(std::memory_order_relaxed); }
  static std::size_t metadata_bytes() noexcept {
    return metadata_.bytes() + map.bytes() +
           thread_caches_.load(std::memory_order_relaxed) * ThreadCache::bytes();
  }
  static SpanHeap::Counts span_counts() noexcept {
    SpanHeap::Counts sum;
    for (SpanHeap& spans : span_heaps_) {
      const SpanHeap::Counts counts = spans.counts();
      sum.mapped += counts.mapped;
      sum.used += counts.used;
      sum.dirty += counts.dirty;
    }
    return sum;
  }

  struct ClassCounts {
    std::size_t blocks = 0;  // in slabs
    std::size_t free = 0;    // of these, in the slabs
    std::size_t cached = 0;  // of these, in thread caches
    std::size_t slabs = 0;
  };
  static void class_counts(std::array<ClassCounts, class_count>& counts) noexcept {
    for (Shard& shard : shards_) {
      const std::lock_guard lock(shard.mutex);
      for (std::size_t c = 1; c < class_count; ++c) {
        counts[c].slabs += shard.slabs[c];
        counts[c].blocks += std::size_t{shard.slabs[c]} * class_info[c].blocks;
        counts[c].free += shard.free[c];
      }
    }
    const std::lock_guard lock(registry_mutex_);
    for (const ThreadCache* list : {caches_, orphans_.load(std::memory_order_relaxed)}) {
      for (const ThreadCache* cache = list; cache != nullptr; cache = cache->next) {
        for (std::size_t c = 1; c < class_count; ++c) {
          counts[c].cached += cache->count(static_cast<SizeClass>(c)) +
                              cache->stored[c].load(std::memory_order_relaxed);
        }
        for (const Deferred::Entry& entry : cache->deferred.entries) {
          const auto c = entry.size_class.load(std::memory_order_relaxed);
          if (c != 0) ++counts[unscaled(static_cast<ScaledClass>(c))].cached;
        }
      }
    }
  }

 private:
  friend Large;

  /// When the backend has no memory for `request`: gives it all segments that hold nothing, and
  /// asks again; then also those in which only what is cached or kept is in the way. Returns what
  /// `request` does.
  template <class Request>
  SYSALLOC_COLD SYSALLOC_NOINLINE static auto ask_again(Request request) noexcept {
    const bool gave = give_segments();
    auto got = gave ? request() : decltype(request()){};
    if (!got) {
      // Not drain(): an allocation is at work here that counts with the capacity of its bin.
      if (bins() != &no_bins) {
        ThreadCache& cache = *cache_of(bins());
        put_deferred(cache, [](const Deferred::Entry&) { return true; });
        for (std::size_t i = 1; i < class_count; ++i) empty(cache, static_cast<SizeClass>(i));
      }
      for (Shard& shard : shards_) purge_slabs(shard, Purge::all);
      if (give_segments()) got = request();
    }
    return got;
  }

  static bool give_segments() noexcept {
    bool gave = false;
    for (SpanHeap& spans : span_heaps_) gave = spans.purge(backend(), map, 0) || gave;
    return gave;
  }

  static std::size_t units_of(std::size_t bytes) noexcept {
    return (bytes + unit_size - 1) / unit_size;
  }

  static bool is_size_of(SizeClass c, std::size_t size, std::size_t align) noexcept {
    return class_of(aligned_size(size, align)) == c;
  }

  static void dealloc_foreign(void* ptr, std::size_t size, std::size_t align) noexcept {
    if constexpr (HasDeallocUnsized<Backend>) {
      backend().dealloc_unsized(ptr, align);
    } else if (size != 0) {
      backend().dealloc(ptr, Layout::from_size_align_unchecked(size, align));
    } else {
      report_foreign(ptr);
    }
  }

  /// Puts a block in the queue of those that were freed without their size, and the one that it
  /// takes the place of into its bin.
  static void defer(void* ptr, SizeClass c) noexcept {
    ThreadCache* const cache = attach();
    if (cache == nullptr) {
      put_blocks(&ptr, 1, c);
      return;
    }
    Deferred::Entry& oldest = cache->deferred.oldest();
    cache->deferred.advance();
    const Deferred::Taken before = oldest.take();
    oldest.set(ptr, scaled(c));
    if (before.block != nullptr) dealloc_block(before.block, before.size_class);
  }

  /// Puts those blocks in that queue that `which` says into their slabs.
  template <class Which>
  static void put_deferred(ThreadCache& cache, Which which) noexcept {
    for (Deferred::Entry& entry : cache.deferred.entries) {
      if (!which(entry)) continue;
      Deferred::Taken taken = entry.take();
      if (taken.block != nullptr) put_blocks(&taken.block, 1, taken.size_class);
    }
  }

  static void dealloc_block(void* ptr, SizeClass c) noexcept {
    ThreadCache* const cache = attach();
    if (cache == nullptr) {
      put_blocks(&ptr, 1, c);
      return;
    }
    if (cache->count(c) == cache->limit(c) && !extend(*cache, c)) {
      if (cache->capacity[c] == 0) {
        if (c >= first_kept_class) cache->last_freed = c;
        put_blocks(&ptr, 1, c);
        return;
      }
      // Of one that has its slab to itself nothing would be left to find that by, afterwards.
      if (class_info[c].blocks == 1 && holds(*cache, c, ptr)) {
        report_double_free(ptr, class_info[c].size);
      }
      put_oldest(*cache, c);
    }
    const std::size_t count = cache->count(c);
    cache->slots(c)[count] = ptr;
    cache->set_count(c, count + 1);
  }

  /// Is the block at `ptr` in the bin of class `c`?
  static bool holds(const ThreadCache& cache, SizeClass c, const void* ptr) noexcept {
    const void* const* const slots = cache.slots(c);
    return std::find(slots, slots + cache.count(c), ptr) != slots + cache.count(c);
  }

  // -------------------------------------------------------------------------------------------
  // Threads.

  /// The cache of the calling thread, made if need be. nullptr when it has to go without: memory
  /// checkers, no memory for one, or a thread at its very end.
  static ThreadCache* attach() noexcept {
    if (bins() != &no_bins) [[likely]] {
      return cache_of(bins());
    }
    return attach_slow();
  }

  SYSALLOC_COLD SYSALLOC_NOINLINE static ThreadCache* attach_slow() noexcept {
    // Named here so that it is instantiated.
    static_cast<void>(&started_at_load_);
    if (!ready_.load(std::memory_order_acquire)) start();
    if (bypass_.load(std::memory_order_relaxed) || !ThreadBins::may_set()) return nullptr;
    ThreadCache* cache = nullptr;
    {
      const std::lock_guard lock(registry_mutex_);
      if (unused_caches_ != nullptr) {
        cache = unused_caches_;
        unused_caches_ = cache->next;
      }
    }
    if (cache == nullptr) {
      void* const memory = sysalloc::alloc_zeroed(backend(), ThreadCache::layout());
      if (memory == nullptr) return nullptr;
      const auto end = reinterpret_cast<std::uintptr_t>(memory) + alignof(ThreadCache);
      cache = reinterpret_cast<ThreadCache*>(end & ~(alignof(ThreadCache) - 1));
      cache->init();
      cache->memory = memory;
      thread_caches_.fetch_add(1, std::memory_order_relaxed);
    }
    // Where the system cannot call back at its end, the cache would be lost with the thread.
    if (!ThreadBins::set(cache)) {
      const std::lock_guard lock(registry_mutex_);
      keep_unused(cache);
      return nullptr;
    }
    {
      const std::lock_guard lock(registry_mutex_);
      std::size_t best = 0;
      for (std::size_t i = 1; i < shard_count; ++i) {
        if (shards_[best].threads == 0) break;
        if (shards_[i].threads < shards_[best].threads) best = i;
      }
      ++shards_[best].threads;
      // Each begins where no thread is: so the first that was not used is the one behind the last.
      if (best >= shards_used_.load(std::memory_order_relaxed)) {
        shards_used_.store(best + 1, std::memory_order_relaxed);
      }
      cache->shard = static_cast<std::uint16_t>(best);
      cache->prev = nullptr;
      cache->next = caches_;
      if (caches_ != nullptr) caches_->prev = cache;
      caches_ = cache;
    }
    return cache;
  }

  /// What happens to a thread's bins when it ends.
  struct AtThreadEnd {
    static constexpr Bins* none() noexcept { return &no_bins; }
    static void at_end(Bins* bins) noexcept {
      ThreadCache* const cache = cache_of(bins);
      drain(*cache);
      const std::lock_guard lock(registry_mutex_);
      unregister(*cache);
      keep_unused(cache);
    }
  };
  using ThreadBins = os::PerThread<Bins, AtThreadEnd>;

  /// The cache that a thread's bins are of, unless these are no_bins.
  static ThreadCache* cache_of(Bins* bins) noexcept { return static_cast<ThreadCache*>(bins); }

  /// Keeps a cache for the next thread. The lock of the registry is held.
  static void keep_unused(ThreadCache* cache) noexcept {
    cache->next = unused_caches_;
    unused_caches_ = cache;
  }

  /// Gives the caches of threads that ended back to the backend, and their magazines to the calling
  /// thread. If that has no cache, those with magazines stay.
  static void free_unused_caches() noexcept {
    ThreadCache* unused = nullptr;
    {
      const std::lock_guard lock(registry_mutex_);
      unused = std::exchange(unused_caches_, nullptr);
    }
    while (unused != nullptr) {
      ThreadCache* const cache = std::exchange(unused, unused->next);
      if (cache->spare != nullptr && bins() == &no_bins) {
        const std::lock_guard lock(registry_mutex_);
        keep_unused(cache);
        continue;
      }
      while (Magazine* const magazine = cache->spare) {
        cache->spare = magazine->below;
        magazine->below = cache_of(bins())->spare;
        cache_of(bins())->spare = magazine;
      }
      backend().dealloc(cache->memory, ThreadCache::layout());
      thread_caches_.fetch_sub(1, std::memory_order_relaxed);
    }
  }

  /// Takes a cache out of the list of all. The lock of the registry is held.
  static void unregister(ThreadCache& cache) noexcept {
    --shards_[cache.shard].threads;
    if (cache.prev != nullptr) cache.prev->next = cache.next;
    if (cache.next != nullptr) cache.next->prev = cache.prev;
    if (caches_ == &cache) caches_ = cache.next;
  }

  SYSALLOC_COLD static void start() noexcept {
    const std::lock_guard lock(start_mutex_);
    if (ready_.load(std::memory_order_relaxed)) return;
    // A backend that cannot free without a size could not take back what it handed out in bypass.
    if (HasDeallocUnsized<Backend> && os::memory_checker_present()) {
      bypass_.store(true, std::memory_order_relaxed);
    }
    purge_pages_ = os::real_page_size() == page_size;
    ThreadBins::start();
    os::at_fork(lock_all, unlock_all, unlock_in_child);
    // Registered before nearly everything else, so it runs after nearly everything else. Where that
    // fails there is no table.
    if (os::wants_stats()) static_cast<void>(std::atexit(print_stats<Backend>));
    // In a library that is at its end. Threads that used it may end after it.
    static_cast<void>(std::atexit(ThreadBins::stop));
    ready_.store(true, std::memory_order_release);
  }

  SYSALLOC_COLD static void lock_all() noexcept {
    for (Shard& shard : shards_) shard.mutex.lock_for_fork();
    for (SpanHeap& spans : span_heaps_) spans.mutex.lock_for_fork();
    metadata_.mutex.lock_for_fork();
    registry_mutex_.lock_for_fork();
  }

  SYSALLOC_COLD static void unlock_all() noexcept {
    registry_mutex_.unlock_after_fork();
    metadata_.mutex.unlock_after_fork();
    for (SpanHeap& spans : span_heaps_) spans.mutex.unlock_after_fork();
    for (Shard& shard : shards_) shard.mutex.unlock_after_fork();
  }

  /// The caches of threads that the child does not have wait for its next need of a slab. The slabs
  /// and units of which those threads were giving pages back are free again at once.
  SYSALLOC_COLD static void unlock_in_child() noexcept {
    for (ThreadCache* cache = caches_; cache != nullptr;) {
      ThreadCache* const next = cache->next;
      if (cache != bins()) {
        unregister(*cache);
        cache->next = orphans_.load(std::memory_order_relaxed);
        orphans_.store(cache, std::memory_order_relaxed);
      }
      cache = next;
    }
    recover();
    unlock_all();
  }

  SYSALLOC_COLD static void recover() noexcept {
    for (SpanHeap& spans : span_heaps_) {
      spans.recover(map, [](Slab& slab) {
        if (!slab.in_transit) return;
        slab.in_transit = false;
        slab.next = slab.prev = nullptr;
        shards_[slab.shard()].partial[slab.size_class()].push_back(&slab);
      });
    }
  }

  /// Drains one of these caches. False when there is none.
  static bool drain_orphan() noexcept {
    if (orphans_.load(std::memory_order_relaxed) == nullptr) return false;
    ThreadCache* cache = nullptr;
    {
      const std::lock_guard lock(registry_mutex_);
      cache = orphans_.load(std::memory_order_relaxed);
      if (cache == nullptr) return false;
      orphans_.store(cache->next, std::memory_order_relaxed);
    }
    // One that was just put into use, or out of it, may be in this list and in use.
    cache->spare = nullptr;
    // Block and class may be of two (deferred.hpp).
    for (Deferred::Entry& entry : cache->deferred.entries) {
      void* const block = entry.ptr.load(std::memory_order_relaxed);
      if (block == nullptr) continue;
      const SizeClass c = map.kind(block);
      entry.set(block, c < class_count ? scaled(c) : ScaledClass{0});
    }
    drain(*cache);
    const std::lock_guard lock(registry_mutex_);
    keep_unused(cache);
    return true;
  }

  // -------------------------------------------------------------------------------------------
  // Thread caches and shards.

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
    const Slab* const slab = map.slab(cache.slots(c)[cache.count(c) - 1]);
    if (slab == nullptr || slab->shard() != cache.shard) return nullptr;
    if (Magazine* const spare = cache.spare) {
      cache.spare = spare->below;
      return spare;
    }
    auto* const magazine = static_cast<Magazine*>(metadata_.alloc(backend(), sizeof(Magazine)));
    if (magazine != nullptr) magazine->bottom = nullptr;
    return magazine;
  }

  /// Puts the blocks of a bin back into their slabs, but the newest: these are the ones that the
  /// processor's cache still holds.
  static void put_oldest(ThreadCache& cache, SizeClass c) noexcept {
    if (cache.magazine[c].load(std::memory_order_relaxed) != nullptr) {
      cache.resting[c] = ThreadCache::magazine_rest;
    }
    // A block that was freed twice may wait there while the other one goes.
    put_deferred(cache, [c](const Deferred::Entry& entry) {
      return entry.size_class.load(std::memory_order_relaxed) == scaled(c);
    });
    void** const slots = cache.slots(c);
    const std::size_t count = cache.count(c);
    // Of a magazine no more than the class's own array takes.
    const std::size_t keep =
        (std::min)((std::min)(count, std::size_t{cache.capacity[c]}) / 4, ThreadCache::streak_keep);
    std::array<void*, ThreadCache::streak_keep> newest;
    std::memcpy(newest.data(), slots + (count - keep), keep * sizeof(void*));
    cache.set_count(c, 0);
    put_blocks(slots, count - keep, c);
    empty(cache, c);
    std::memcpy(cache.slots(c), newest.data(), keep * sizeof(void*));
    cache.set_count(c, keep);
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

  static void drain(ThreadCache& cache) noexcept {
    put_deferred(cache, [](const Deferred::Entry&) { return true; });
    for (std::size_t i = 1; i < class_count; ++i) {
      flush(cache, static_cast<SizeClass>(i));
    }
    // They are, but for a cache that was copied by a fork in the middle of a change.
    cache.granted = cache.magazine_bytes = 0;
    cache.resting.fill(0);
    for (auto& blocks : cache.stored) blocks.store(0, std::memory_order_relaxed);
  }

  /// Empties the bin of a class.
  SYSALLOC_NOINLINE static void empty(ThreadCache& cache, SizeClass c) noexcept {
    do {
      const std::size_t count = cache.count(c);
      if (count == 0) continue;
      void** const slots = cache.slots(c);
      cache.set_count(c, 0);
      put_blocks(slots, count, c);
    } while (cache.pop_magazine(c));
  }

  /// Empties the bin of a class and takes its capacity.
  static void flush(ThreadCache& cache, SizeClass c) noexcept {
    empty(cache, c);
    cache.set_capacity(c, 0);
  }

  /// Takes up to `want` blocks of class `c` into the slots below `end`; 0 without memory.
  static std::size_t take_blocks(std::size_t shard_index, SizeClass c, void** end,
                                 std::size_t want) noexcept {
    Shard& shard = shards_[shard_index];
    do {
      const std::lock_guard lock(shard.mutex);
      if (const std::size_t got = shard.take(c, end, want)) return got;
    } while (drain_orphan());
    Slab* const slab = new_slab(shard_index, c);
    if (slab == nullptr) return 0;
    const ClassInfo& info = class_info[c];
    if (slab->offset != 0) trim_tail(shard, *slab, info);
    const std::lock_guard lock(shard.mutex);
    ++shard.slabs[c];
    shard.slab_bytes += slab->size;
    // Taken from before it is linked: the slab serves this thread whatever others take meanwhile.
    const std::size_t got = slab->take(info, end, want);
    if (slab->free(info) != 0) shard.partial[c].push_front(slab);
    shard.free[c] += slab->free(info);
    shard.free_bytes += std::size_t{slab->free(info)} * info.size;
    shard.purged_bytes += slab->purged_bytes();
    return got;
  }

  /// Gives back what lies behind the block of a slab with one, if there is much of that.
  static void trim_tail(Shard& shard, Slab& slab, const ClassInfo& info) noexcept {
    const std::size_t tail = slab.size - info.size;
    {
      const std::lock_guard lock(shard.mutex);
      if (!shard.add_tail(tail)) return;
      shard.tail_bytes -= tail;
    }
    slab.offset = 0;
    os::release(slab.base + info.size, tail);
  }

  /// One block for a thread that has no room for more; nullptr without memory.
  static void* take_block(std::size_t shard_index, SizeClass c) noexcept {
    void* block = nullptr;
    take_blocks(shard_index, c, &block + 1, 1);
    return block;
  }

  static Slab* new_slab(std::size_t shard_index, SizeClass c) noexcept {
    const ClassInfo& info = class_info[c];
    Slab* const slab = take_descriptor(shard_index, c);
    if (slab == nullptr) return nullptr;
    // The first few shards have one together: a program with few threads needs no more.
    SpanHeap& spans = span_heaps_[shard_index * span_heaps_.size() / shard_count];
    Span span = spans.take_dirty(info.units);
    if (!span && empty_magazines()) span = spans.take_dirty(info.units);
    if (!span && reclaim(shards_[shard_index])) span = spans.take_dirty(info.units);
    const bool resident{span};
    if (!resident) {
      spans.purge_instead(info.units);
      span = spans.take(backend(), map, metadata_, info.units);
    }
    if (!span) {
      span = ask_again([&] { return spans.take(backend(), map, metadata_, info.units); });
    }
    if (!span) {
      give_descriptor(shard_index, slab);
      return nullptr;
    }
    slab->base = span.base;
    slab->segment = span.segment;
    slab->size = info.units * unit_size;
    slab->in_transit = false;
    const bool has_tail = info.blocks == 1 && info.size != slab->size;
    slab->offset = has_tail && resident && purge_pages_ ? 1 : 0;
    slab->fill(info);
    if (!resident && purge_pages_) slab->mark_purged(info);
    map.set(span.base, info.units, c, info.size > max_slab_size ? std::uint8_t{kind_interior} : c,
            slab);
    for_each_unit(*slab, [c](const void* unit) { hints.set(unit, c); });
    return slab;
  }

  /// Calls `f` with the address of each unit of a slab in which a block may begin.
  template <class F>
  static void for_each_unit(const Slab& slab, F f) noexcept {
    const std::size_t units = class_info[slab.size_class()].blocks == 1 ? 1 : slab.size / unit_size;
    for (std::size_t i = 0; i < units; ++i) {
      f(reinterpret_cast<const void*>(slab.base + i * unit_size));
    }
  }

  static Slab* take_descriptor(std::size_t shard_index, SizeClass c) noexcept {
    Shard& shard = shards_[shard_index];
    {
      const std::lock_guard lock(shard.mutex);
      if (ListNode* const node = shard.spare[c]) {
        shard.spare[c] = node->next;
        node->next = nullptr;
        return static_cast<Slab*>(node);
      }
    }
    const std::size_t words = Slab::word_count(class_info[c].blocks);
    void* const memory = metadata_.alloc(backend(), sizeof(Slab) + words * sizeof(std::uint64_t));
    if (memory == nullptr) return nullptr;
    auto* const slab = static_cast<Slab*>(memory);
    slab->next = slab->prev = nullptr;
    slab->owner = Slab::owner_of(shard_index, c);
    return slab;
  }

  static void give_descriptor(std::size_t shard_index, Slab* slab) noexcept {
    Shard& shard = shards_[shard_index];
    const std::lock_guard lock(shard.mutex);
    keep_descriptor(shard, slab, slab->size_class());
  }

  static void keep_descriptor(Shard& shard, Slab* slab, SizeClass c) noexcept {
    slab->next = shard.spare[c];
    shard.spare[c] = slab;
  }

  /// Puts `count` blocks of class `c` back into their slabs. Overwrites the array.
  static void put_blocks(void** blocks, std::size_t count, SizeClass c) noexcept {
    if (count == 0) return;
    count = put_some(blocks, count, c);
    while (count != 0) {
      const std::size_t batch = (std::min)(count, ThreadCache::refill_blocks);
      count -= batch;
      put_by_shard(blocks + count, batch, c);
    }
  }

  /// As above, of up to refill_blocks blocks that are of several shards: those of one after those
  /// of another, so that each block is looked at twice and not once for every shard.
  SYSALLOC_NOINLINE static void put_by_shard(void* const* blocks, std::size_t count,
                                             SizeClass c) noexcept {
    std::array<std::uint8_t, ThreadCache::refill_blocks> shard_of;
    std::array<std::size_t, shard_count + 1> end{};
    for (std::size_t i = 0; i < count; ++i) {
      shard_of[i] = static_cast<std::uint8_t>(slab_of(blocks[i], c, [] {})->shard());
      ++end[shard_of[i] + std::size_t{1}];
    }
    for (std::size_t i = 0; i < shard_count; ++i) end[i + 1] += end[i];
    // From where those of a shard begin to where they end.
    std::array<void*, ThreadCache::refill_blocks> sorted;
    for (std::size_t i = 0; i < count; ++i) sorted[end[shard_of[i]]++] = blocks[i];
    for (std::size_t i = 0, begin = 0; i < shard_count; begin = end[i++]) {
      if (end[i] != begin) static_cast<void>(put_some(sorted.data() + begin, end[i] - begin, c));
    }
  }

  /// Puts those into their slabs that are of the same shard as the first, and moves the others to
  /// the front. Returns how many these are.
  static std::size_t put_some(void** blocks, std::size_t count, SizeClass c) noexcept {
    Shard& shard = shards_[slab_of(blocks[0], c, [] {})->shard()];
    List empties;
    bool over = false;
    {
      const std::lock_guard lock(shard.mutex);
      count = put_into(shard, c, blocks, count, empties);
      over = shard.has_much_free(shards_used_.load(std::memory_order_relaxed));
    }
    release(shard, empties);
    if (over) purge_slabs(shard, Purge::much_free);
    return count;
  }

  /// The slab of a block that came into a cache as one of class `c`. Calls `before_report` before
  /// it ends the program.
  template <class BeforeReport>
  static Slab* slab_of(void* ptr, SizeClass c, BeforeReport before_report) noexcept {
    Slab* const slab = map.slab(ptr);
    // The block was of a slab of this class when it came into the cache. If it is not any more, the
    // slab went when all its blocks were free, this one too.
    if (slab == nullptr || slab->size_class() != c) [[unlikely]] {
      before_report();
      report_double_free(ptr, class_info[c].size);
    }
    return slab;
  }

  /// Marks those of `blocks` free that belong to the slabs of `shard`, whose lock is held, and
  /// moves the others to the front. Returns how many these are.
  ///
  /// Most of the time of dying containers is spent here, and their blocks come in any order. So
  /// nothing depends on whether two blocks are neighbours: a branch on that would be mispredicted
  /// for every other block. Lists are looked at only when a slab gets its first free block or its
  /// last.
  static std::size_t put_into(Shard& shard, SizeClass c, void** blocks, std::size_t count,
                              List& empties) noexcept {
    const ClassInfo& info = class_info[c];
    const auto owner = Slab::owner_of(static_cast<std::size_t>(&shard - shards_.data()), c);
    const PageMap::Neighbourhood slabs = map.around(blocks[0]);
    void* const* const end = blocks + count;
    std::size_t left = 0;
    void* const* noted = blocks;
    for (void* const* at = blocks;;) {
      Slab* changed = nullptr;
      at = put_run(slabs, owner, info, at, end, changed);
      if (changed == nullptr) {
        if (at == end) break;
        void* const ptr = *at++;
        Slab* const slab = far_slab_of(shard, ptr, info, c);
        if (slab->owner != owner) {
          blocks[left++] = ptr;
          ++noted;  // not counted in this round
          continue;
        }
        if (!slab->mark_free(slab->index_of(info, ptr))) {
          shard.mutex.unlock();
          report_double_free(ptr, info.size);
        }
        if (!slab->note_back()) continue;
        changed = slab;
      }
      shard.note_free(c, static_cast<std::size_t>(at - noted));
      noted = at;
      change_list(shard, *changed, info, empties);
    }
    shard.note_free(c, static_cast<std::size_t>(end - noted));
    return left;
  }

  /// Marks blocks free from `at` on, up to one that is the first of a full slab or the last of any
  /// (`changed` is the slab then, and what is returned points behind the block), or one that is not
  /// of a slab of `owner` nearby or was free already (points to it), or `end`. Calls nothing, so
  /// that all it needs is in registers: a block costs 26 instructions on x86-64.
  SYSALLOC_NOINLINE static void* const* put_run(PageMap::Neighbourhood slabs, std::uint32_t owner,
                                                const ClassInfo& class_info_of_blocks,
                                                void* const* at, void* const* end,
                                                Slab*& changed) noexcept {
    const ClassInfo info = class_info_of_blocks;
    while (at != end) {
      void* const ptr = *at;
      Slab* const slab = slabs.slab(ptr);
      if (slab == nullptr || slab->owner != owner) [[unlikely]]
        return at;
      const std::uint64_t index = slab->index_of(info, ptr);
      if (index >= info.blocks || !slab->mark_free(index)) [[unlikely]]
        return at;
      ++at;
      if (slab->note_back()) [[unlikely]] {
        changed = slab;
        return at;
      }
    }
    return at;
  }

  /// The slab of a block of class `c` that is of another shard, or far from others, or none. Ends
  /// the program then; not with the lock of `shard`, for a program may catch the signal that ends
  /// it, and allocate.
  SYSALLOC_NOINLINE static Slab* far_slab_of(Shard& shard, void* ptr, const ClassInfo& info,
                                             SizeClass c) noexcept {
    const auto before_report = [&shard] { shard.mutex.unlock(); };
    Slab* const slab = slab_of(ptr, c, before_report);
    if (slab->index_of(info, ptr) >= info.blocks) {
      before_report();
      report_interior(ptr, info.size);
    }
    return slab;
  }

  static void change_list(Shard& shard, Slab& slab, const ClassInfo& info, List& empties) noexcept {
    if (slab.in_transit) return;
    List& list = shard.partial[slab.size_class()];
    if (slab.used() == 0 && (info.blocks == 1 || has_other(list, slab))) {
      retire(shard, slab, info, empties);
    } else if (!slab.linked()) {
      list.push_back(&slab);
    }
  }

  /// Is there a slab in the list beside this one? One empty slab of a class is kept, so that a
  /// block that comes and goes does not bring and send a slab each time.
  static bool has_other(const List& list, const Slab& slab) noexcept {
    return !list.empty() && (list.next != &slab || list.prev != &slab);
  }

  /// Takes an empty slab apart. The shard's lock is held.
  SYSALLOC_NOINLINE static void retire(Shard& shard, Slab& slab, const ClassInfo& info,
                                       List& empties) noexcept {
    const SizeClass c = slab.size_class();
    if (slab.linked()) slab.unlink();
    --shard.slabs[c];
    shard.slab_bytes -= slab.size;
    if (slab.offset != 0) shard.tail_bytes -= slab.size - info.size;
    shard.free[c] -= info.blocks;
    shard.forget_free(std::size_t{info.blocks} * info.size, slab.purged_bytes());
    empties.push_back(&slab);
  }

  /// Gives the memory of slabs that were taken apart to the span heap.
  static void release(Shard& shard, List& empties) noexcept {
    if (empties.empty()) return;
    for (ListNode* node = empties.next; node != &empties; node = node->next) {
      const auto* const slab = static_cast<Slab*>(node);
      const std::size_t units = class_info[slab->size_class()].units;
      // First the hints: what the map calls free, the child of a fork takes back (recover()).
      for_each_unit(*slab, [](const void* unit) { hints.clear(unit); });
      map.set(slab->base, units, kind_free, kind_free, nullptr);
      slab->segment->owner->give(backend(), map, {.base = slab->base, .segment = slab->segment},
                                 units, slab->dirty_units());
    }
    const std::lock_guard lock(shard.mutex);
    while (!empties.empty()) {
      auto* const slab = static_cast<Slab*>(empties.next);
      slab->unlink();
      keep_descriptor(shard, slab, slab->size_class());
    }
  }

  // -------------------------------------------------------------------------------------------
  // Pages of slabs that hold other blocks still, and memory that lies idle.

  /// Before a slab is made of memory that is not resident yet: gives up what the thread has in
  /// magazines, and the largest blocks. False when that is nothing.
  SYSALLOC_NOINLINE static bool empty_magazines() noexcept {
    if (bins() == &no_bins) return false;
    ThreadCache& cache = *cache_of(bins());
    bool gave = false;
    for (std::size_t i = 1; i < class_count; ++i) {
      const auto c = static_cast<SizeClass>(i);
      const bool goes = i < first_kept_class
                            ? cache.magazine[c].load(std::memory_order_relaxed) != nullptr
                            : cache.count(c) != 0;
      if (!goes) continue;
      empty(cache, c);
      gave = true;
    }
    return gave;
  }

  /// Before a slab for `shard` is made of memory that is not resident yet: gives up what that could
  /// be made of instead. Blocks above a KiB in the thread's cache, of which a few are much; slabs
  /// that are the last of their class and hold no block; and if much is free in the others, the
  /// pages of that. False when the shard has not grown since: classes that take turns would empty
  /// each other.
  SYSALLOC_NOINLINE static bool reclaim(Shard& shard) noexcept {
    const bool grown = [&shard] {
      const std::lock_guard lock(shard.mutex);
      return shard.passes_mark();
    }();
    if (!grown) return false;
    if (bins() != &no_bins) {
      ThreadCache& cache = *cache_of(bins());
      for (std::size_t i = class_of(small_size) + std::size_t{1}; i < class_count; ++i) {
        empty(cache, static_cast<SizeClass>(i));
      }
    }
    List empties;
    bool over = false;
    {
      const std::lock_guard lock(shard.mutex);
      for (std::size_t i = 1; i < class_count; ++i) {
        const List& list = shard.partial[i];
        if (list.empty() || list.next != list.prev) continue;
        auto* const slab = static_cast<Slab*>(list.next);
        if (slab->used() == 0) retire(shard, *slab, class_info[i], empties);
      }
      over = shard.has_free_to_grow();
    }
    release(shard, empties);
    if (over) purge_slabs(shard, Purge::to_grow);
    return true;
  }

  /// Why pages of slabs are given back: much is free, the heap would grow otherwise, or all shall
  /// go that can.
  enum class Purge : std::uint8_t { much_free, to_grow, all };

  /// Gives back the pages of a shard's slabs that no block in use touches; with Purge::all, also
  /// the one empty slab that each class keeps. A slab is in transit meanwhile: in no list, so
  /// nobody takes from it, while blocks may still come back to it.
  static void purge_slabs(Shard& shard, Purge why) noexcept {
    if (!purge_pages_ && why != Purge::all) return;
    const auto slabs = [&shard] {
      const std::lock_guard lock(shard.mutex);
      return shard.slabs;
    }();
    std::size_t gave = 0;
    for (std::size_t i = 1; i < class_count; ++i) {
      const auto c = static_cast<SizeClass>(i);
      const ClassInfo& info = class_info[c];
      List done;
      // Each once: whoever allocates meanwhile brings new ones.
      for (std::size_t left = slabs[c]; left != 0; --left) {
        std::array<std::uint64_t, unit_size / smallest_size / word_bits> free_words;
        Slab* slab = nullptr;
        {
          const std::lock_guard lock(shard.mutex);
          if (shard.partial[c].empty()) break;
          slab = static_cast<Slab*>(shard.partial[c].next);
          slab->unlink();
          slab->in_transit = true;
          std::memcpy(free_words.data(), slab->words(),
                      Slab::word_count(info.blocks) * sizeof(std::uint64_t));
        }
        const std::uint64_t released =
            purge_pages_ ? release_free_pages(*slab, info, free_words.data()) : 0;
        done.push_back(slab);
        const std::lock_guard lock(shard.mutex);
        slab->purged |= released;
        const std::size_t bytes = static_cast<std::size_t>(std::popcount(released)) * page_size;
        shard.purged_bytes += bytes;
        gave += bytes;
      }
      List empties;
      {
        const std::lock_guard lock(shard.mutex);
        while (!done.empty()) {
          auto* const slab = static_cast<Slab*>(done.next);
          slab->unlink();
          slab->in_transit = false;
          const bool retires =
              slab->used() == 0 && (why == Purge::all || !shard.partial[c].empty());
          if (retires) {
            retire(shard, *slab, info, empties);
          } else {
            shard.partial[c].push_back(slab);
          }
        }
      }
      release(shard, empties);
    }
    const std::lock_guard lock(shard.mutex);
    shard.purge_mark = shard.resident_free();
    // What went so that something else had room is no sign that more should lie idle.
    if (why == Purge::to_grow) shard.gave_to_grow += gave;
    if (why == Purge::much_free) {
      shard.note_purge(gave, shards_used_.load(std::memory_order_relaxed));
    }
  }

  /// Gives back the whole pages within each run of free blocks, those that were not already.
  static std::uint64_t release_free_pages(const Slab& slab, const ClassInfo& info,
                                          const std::uint64_t* words) noexcept {
    std::uint64_t released = 0;
    // The first block from `i` on that is free, or is not; info.blocks where there is none.
    const auto next = [words, &info](std::size_t i, bool free) {
      while (i < info.blocks) {
        const std::uint64_t word = words[i / word_bits];
        const std::uint64_t rest = (free ? word : ~word) >> i % word_bits;
        if (rest != 0) return i + static_cast<std::size_t>(std::countr_zero(rest));
        i += word_bits - i % word_bits;
      }
      return std::size_t{info.blocks};
    };
    for (std::size_t index = 0; (index = next(index, true)) < info.blocks;) {
      const std::size_t first = index;
      index = next(index, false);
      const std::size_t from = (first * info.size + page_size - 1) / page_size;
      // The end of the slab belongs to its last block.
      const std::size_t to = (index == info.blocks ? slab.size : index * info.size) / page_size;
      for (std::size_t page = from; page < to;) {
        if ((slab.purged >> page & 1) != 0) {
          ++page;
          continue;
        }
        const std::size_t run = page;
        while (page < to && (slab.purged >> page & 1) == 0) {
          released |= std::uint64_t{1} << page;
          ++page;
        }
        os::release(slab.base + run * page_size, (page - run) * page_size);
      }
    }
    return released;
  }

  static inline constinit NeverDestroyed<Backend> global_instance_{};
  // The first is that of the program's first threads, often its only ones.
  static constexpr SpanHeap::Idle first_idle{.small = 16 * MiB, .most = 32 * MiB, .large = 8 * MiB};
  static constexpr SpanHeap::Idle other_idle{.small = 4 * MiB, .most = 8 * MiB, .large = 4 * MiB};
  static inline constinit std::array<SpanHeap, 8> span_heaps_{
      SpanHeap(first_idle), SpanHeap(other_idle), SpanHeap(other_idle), SpanHeap(other_idle),
      SpanHeap(other_idle), SpanHeap(other_idle), SpanHeap(other_idle), SpanHeap(other_idle)};
  static inline constinit Metadata metadata_{};
  static inline constinit std::array<Shard, shard_count> shards_{};
  static inline constinit std::atomic<std::size_t> shards_used_{0};  // so far
  static inline constinit Mutex registry_mutex_{};
  static inline constinit ThreadCache* caches_ = nullptr;
  static inline constinit ThreadCache* unused_caches_ = nullptr;
  static inline constinit std::atomic<ThreadCache*> orphans_{nullptr};
  static inline constinit std::atomic<std::size_t> thread_caches_{0};  // of both lists
  static inline constinit Mutex start_mutex_{};
  // Started when the program or library is loaded, unless something allocated earlier: no fork can
  // come between then.
  static inline const bool started_at_load_ = !under_thread_sanitizer && (start(), true);
  static inline constinit std::atomic<bool> ready_{false};
  static inline constinit std::atomic<bool> bypass_{false};
  static inline constinit bool purge_pages_ = false;
  static inline constinit std::atomic<std::size_t> wrong_sizes_{0};
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_HEAP_HPP_
