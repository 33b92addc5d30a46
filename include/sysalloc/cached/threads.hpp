// Threads and their caches: who has one, and what becomes of it.
//
// A thread gets a cache at its first slow call for blocks that have a size class and gives it back
// when it ends (os.hpp), after the destructors of thread_local objects; what it does later still
// goes without one. A cache that was given back waits for the next thread, unless more wait already
// than threads have one. Those of threads that the child of a fork does not have are its orphans:
// they are drained when a slab is needed next.
//
// Pages behind a cache that few threads need go back to the system before the next thread has it.

#ifndef SYSALLOC_CACHED_THREADS_HPP_
#define SYSALLOC_CACHED_THREADS_HPP_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <sysalloc/cached/deferred.hpp>
#include <sysalloc/cached/fill_flush.hpp>
#include <sysalloc/cached/mutex.hpp>
#include <sysalloc/cached/os.hpp>
#include <sysalloc/cached/size_classes.hpp>
#include <sysalloc/cached/slab.hpp>
#include <sysalloc/cached/slabs.hpp>
#include <sysalloc/cached/stats.hpp>
#include <sysalloc/cached/thread_cache.hpp>
#include <sysalloc/detail/compiler.hpp>
#include <utility>

namespace sysalloc::detail::cached {

template <class Heap>
class Threads {
  using FillFlush = cached::FillFlush<Heap>;
  using Slabs = cached::Slabs<Heap>;
  struct AtThreadEnd;
  using ThreadBins = os::PerThread<Bins, AtThreadEnd>;

 public:
  /// While there is one, the calling thread goes without a cache. For calls of the backend that
  /// come while one is made, filled or emptied: the backend may free and purge in turn, and
  /// allocate.
  using WithoutCache = ThreadBins::Away;

  /// The bins of the calling thread.
  [[nodiscard]] static Bins* bins() noexcept { return ThreadBins::get(); }

  /// The cache of the calling thread, made if need be. nullptr when it has to go without: memory
  /// checkers, no memory for one, a thread at its very end, or while another one starts the heap.
  static ThreadCache* attach() noexcept {
    if (ThreadCache* const cache = own()) [[likely]]
      return cache;
    return attach_slow();
  }

  /// The cache of the calling thread, if it has one.
  static ThreadCache* own() noexcept { return bins() == &no_bins ? nullptr : cache_of(bins()); }

  // What the calling thread gives up of what it caches so that others have it; see Slabs.

  /// What died in containers, and the largest blocks. False when that is nothing.
  SYSALLOC_NOINLINE static bool give_up_extensions() noexcept {
    ThreadCache* const cache = own();
    if (cache == nullptr) return false;
    return FillFlush::empty_if(*cache, [cache](SizeClass c) {
      return c < first_kept_class ? cache->is_extended(c) : cache->count(c) != 0;
    });
  }

  /// Blocks above a KiB, of which a few are much.
  static void give_up_medium() noexcept {
    if (ThreadCache* const cache = own()) {
      FillFlush::empty_if(*cache, [](SizeClass c) { return class_info[c].size > small_size; });
    }
  }

  /// Every block. Nothing more where the thread is at it, and so without a cache: what goes back to
  /// the slabs then may show that others have much free, too, and threads may have small stacks.
  static void give_up_all() noexcept {
    ThreadCache* const cache = own();
    if (cache == nullptr) return;
    const WithoutCache without;
    FillFlush::empty_all(*cache);
  }

  /// Once, before any thread gets a cache.
  static void start() noexcept { ThreadBins::start(); }
  /// When the library that this is part of is unloaded, or the program ends: threads that end later
  /// are not heard of.
  static void stop() noexcept { ThreadBins::stop(); }
  /// And that the calling thread goes without a cache from now on.
  static void leave() noexcept { ThreadBins::leave(); }

  // The caches of threads that are no more.

  /// Gives the caches of threads that ended back to the backend, but `keep` of them.
  static void free_unused(std::size_t keep) noexcept {
    const WithoutCache without;
    for (;;) {
      ThreadCache* cache = nullptr;
      {
        const std::lock_guard lock(registry_mutex_);
        if (unused_count_ > keep) cache = take_unused();
      }
      if (cache == nullptr) return;
      // Its pages to the system before that: the C library keeps what was freed last in each of its
      // arenas, up to several MiB.
      void* const memory = cache->memory;
      release_pages(memory, ThreadCache::layout().size());
      Heap::backend().dealloc(memory, ThreadCache::layout());
      thread_caches_.fetch_sub(1, std::memory_order_relaxed);
    }
  }

  /// Empties a cache, and gives those of its pages back to the system that few threads need.
  static void drain(ThreadCache& cache) noexcept {
    FillFlush::drain(cache);
    cache.release_rest(release_pages);
  }

  /// Drains an orphan. False when there is none.
  static bool drain_orphan() noexcept {
    if (orphans_.load(std::memory_order_relaxed) == nullptr) return false;
    ThreadCache* cache = nullptr;
    {
      const std::lock_guard lock(registry_mutex_);
      cache = orphans_.load(std::memory_order_relaxed);
      if (cache == nullptr) return false;
      orphans_.store(cache->next, std::memory_order_relaxed);
    }
    // Block and class may be of two (deferred.hpp).
    for (Deferred::Entry& entry : cache->deferred.entries) {
      void* const block = entry.ptr.load(std::memory_order_relaxed);
      if (block == nullptr) continue;
      const SizeClass c = Heap::map.kind(block);
      if (c < class_count) {
        entry.set(block, scaled(c));
      } else {
        entry.set(nullptr, 0);
      }
    }
    drain(*cache);
    // The fork may have been taken while one was made.
    cache->forget_slots();
    const std::lock_guard lock(registry_mutex_);
    keep_unused(cache);
    return true;
  }

  // For the whole heap.

  SYSALLOC_COLD static void lock_for_fork() noexcept { registry_mutex_.lock_for_fork(); }
  SYSALLOC_COLD static void unlock_after_fork() noexcept { registry_mutex_.unlock_after_fork(); }

  /// In the child of a fork, with the lock of the registry: makes orphans of the caches of all
  /// other threads.
  SYSALLOC_COLD static void orphan_others() noexcept {
    for (ThreadCache* cache = caches_; cache != nullptr;) {
      ThreadCache* const next = cache->next;
      if (cache != bins()) {
        unregister(*cache);
        cache->next = orphans_.load(std::memory_order_relaxed);
        orphans_.store(cache, std::memory_order_relaxed);
      }
      cache = next;
    }
  }

  /// Adds up what is in caches.
  static void count(CachedStats& all) noexcept {
    const std::lock_guard lock(registry_mutex_);
    for (const ThreadCache* list : {caches_, orphans_.load(std::memory_order_relaxed)}) {
      for (const ThreadCache* cache = list; cache != nullptr; cache = cache->next) {
        for (std::size_t c = 1; c < class_count; ++c) {
          all.classes[c].blocks_cached += cache->count(static_cast<SizeClass>(c));
        }
        for (const Deferred::Entry& entry : cache->deferred.entries) {
          const SizeClass c = entry.class_of_block();
          if (c != 0) ++all.classes[c].blocks_cached;
        }
      }
    }
  }

  /// What the caches themselves take of the backend's memory.
  static std::size_t bytes() noexcept {
    return thread_caches_.load(std::memory_order_relaxed) * ThreadCache::bytes();
  }

 private:
  /// Gives the whole pages of memory that the backend gave back to the system.
  static void release_pages(void* memory, std::size_t size) noexcept {
    if (Heap::purges_pages) os::release_within(reinterpret_cast<std::uintptr_t>(memory), size);
  }

  /// What happens to a thread's bins when it ends.
  struct AtThreadEnd {
    static constexpr Bins* none() noexcept { return &no_bins; }
    static void at_end(Bins* bins) noexcept {
      ThreadCache* const cache = cache_of(bins);
      drain(*cache);
      std::size_t keep = 0;
      {
        const std::lock_guard lock(registry_mutex_);
        unregister(*cache);
        keep_unused(cache);
        // In parentheses: see patience.hpp.
        keep = (std::max)(few_caches, cache_count_);
      }
      free_unused(keep);
    }
  };

  SYSALLOC_COLD SYSALLOC_NOINLINE static ThreadCache* attach_slow() noexcept {
    if (!Heap::start() || Heap::steps_aside || !ThreadBins::may_set()) return nullptr;
    ThreadCache* cache = nullptr;
    {
      const std::lock_guard lock(registry_mutex_);
      if (unused_caches_ != nullptr) cache = take_unused();
    }
    if (cache == nullptr) {
      const WithoutCache without;
      void* const memory = Heap::backend().alloc(ThreadCache::layout());
      if (memory == nullptr) return nullptr;
      const auto end = reinterpret_cast<std::uintptr_t>(memory) + alignof(ThreadCache);
      cache = ::new (reinterpret_cast<void*>(end & ~(alignof(ThreadCache) - 1))) ThreadCache{};
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
      cache->shard = static_cast<std::uint16_t>(Slabs::join_shard());
      cache->prev = nullptr;
      cache->next = caches_;
      if (caches_ != nullptr) caches_->prev = cache;
      caches_ = cache;
      ++cache_count_;
    }
    return cache;
  }

  /// The cache that a thread's bins are of, unless these are no_bins.
  static ThreadCache* cache_of(Bins* bins) noexcept { return static_cast<ThreadCache*>(bins); }

  /// Keeps a cache for the next thread. The lock of the registry is held.
  static void keep_unused(ThreadCache* cache) noexcept {
    cache->next = unused_caches_;
    unused_caches_ = cache;
    ++unused_count_;
  }
  static ThreadCache* take_unused() noexcept {
    --unused_count_;
    return std::exchange(unused_caches_, unused_caches_->next);
  }

  /// Takes a cache out of the list of all. The lock of the registry is held.
  static void unregister(ThreadCache& cache) noexcept {
    Slabs::leave_shard(cache.shard);
    if (cache.prev != nullptr) cache.prev->next = cache.next;
    if (cache.next != nullptr) cache.next->prev = cache.prev;
    if (caches_ == &cache) caches_ = cache.next;
    --cache_count_;
  }

  // So many wait for the next threads at least, and as many as threads have one.
  static constexpr std::size_t few_caches = 32;

  static inline constinit Mutex registry_mutex_{};
  static inline constinit ThreadCache* caches_ = nullptr;
  static inline constinit std::size_t cache_count_ = 0;  // in that list
  static inline constinit ThreadCache* unused_caches_ = nullptr;
  static inline constinit std::size_t unused_count_ = 0;  // in that list
  static inline constinit std::atomic<ThreadCache*> orphans_{nullptr};
  static inline constinit std::atomic<std::size_t> thread_caches_{0};  // of all three
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_THREADS_HPP_
