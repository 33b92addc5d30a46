// The heap of Cached: everything between the fast paths and the backend.
//
//   threads        who has a cache                               threads.hpp
//   thread cache   arrays of free blocks of one thread           thread_cache.hpp, fill_flush.hpp,
//                                                                deferred.hpp
//   shards         slabs with free blocks, one lock for each     slabs.hpp, shard.hpp, slab.hpp
//   span heaps     runs of units for slabs, one lock for each    span_heap.hpp
//   backend        segments, and large blocks                    large.hpp
//
// Beside them the page map, which tells for any address what is there (page_map.hpp), and what
// gives idle memory back (purging.hpp). Each is a part of the heap, so all have it as their
// parameter. What is below them they call by name; through `Heap` what all have in common, and the
// little that they need of what is above, above all what a new slab asks to make room.
//
// All state is constant-initialised and never destroyed, so the heap serves before main and after
// it.
//
// Locks: one for the registry of threads, for each shard, for each span heap, for the metadata, and
// for large blocks. None is taken while another is held, but in the fork handler, which takes all
// of them in that order; and none is held while the backend or the system is called.
//
// Under AddressSanitizer and valgrind the heap steps aside, if the backend can free without a size:
// every block comes from the backend by itself, so the tool sees each one as without Cached.

#ifndef SYSALLOC_CACHED_HEAP_HPP_
#define SYSALLOC_CACHED_HEAP_HPP_

#include <atomic>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <sysalloc/cached/deferred.hpp>
#include <sysalloc/cached/fill_flush.hpp>
#include <sysalloc/cached/hints.hpp>
#include <sysalloc/cached/large.hpp>
#include <sysalloc/cached/os.hpp>
#include <sysalloc/cached/page_map.hpp>
#include <sysalloc/cached/purging.hpp>
#include <sysalloc/cached/report.hpp>
#include <sysalloc/cached/rhythm.hpp>
#include <sysalloc/cached/shard.hpp>
#include <sysalloc/cached/size_classes.hpp>
#include <sysalloc/cached/slabs.hpp>
#include <sysalloc/cached/stats.hpp>
#include <sysalloc/cached/thread_cache.hpp>
#include <sysalloc/cached/threads.hpp>
#include <sysalloc/detail/compiler.hpp>
#include <sysalloc/detail/never_destroyed.hpp>
#include <sysalloc/global_alloc.hpp>
#include <sysalloc/layout.hpp>

namespace sysalloc::detail::cached {

template <GlobalAlloc Backend>
class Heap {
 public:
  using BackendType = Backend;
  using Slabs = cached::Slabs<Heap>;
  using Purging = cached::Purging<Heap>;
  using FillFlush = cached::FillFlush<Heap>;
  using Threads = cached::Threads<Heap>;
  using Large = LargeBlocks<Heap>;

  static inline constinit PageMap map{};
  static inline constinit Hints hints{};

  // -------------------------------------------------------------------------------------------
  // The slow paths of allocation and deallocation. The fast ones are in cached.hpp.

  /// Allocates what try_alloc could not: the bin is empty, or the block is large. Writes to
  /// `is_zero` where the block is known to hold zeros.
  SYSALLOC_NOINLINE static void* alloc_rest(Layout layout, bool* is_zero = nullptr) noexcept {
    assert(layout.size() != 0 && "Cached::alloc: size zero");
    Rhythm::tick();
    const SizeClass c = class_of(layout);
    if (c == 0) return Large::alloc(layout);
    ThreadCache* const cache = Threads::attach();
    if (cache == nullptr && steps_aside) return backend().alloc(layout);
    void* const ptr =
        cache != nullptr ? FillFlush::take(*cache, c, is_zero) : Slabs::take_block(0, c);
    return ptr != nullptr ? ptr : alloc_foreign(layout);
  }

  /// Frees what try_dealloc could not: the bin is full, or `ptr` is null, a large block, a block
  /// of another class than `size` says (0 when that is unknown), or none of this heap.
  SYSALLOC_NOINLINE static void dealloc_rest(void* ptr, std::size_t size,
                                             std::size_t align) noexcept {
    if (ptr == nullptr) return;
    // Of a call that fails here, for a new cache above all, the program hears nothing.
    [[maybe_unused]] const os::KeepErrno keep;
    Rhythm::tick();
    const std::uint8_t kind = map.kind(ptr);
    if (is_foreign(ptr, kind)) {
      dealloc_foreign(ptr, size, align);
    } else if (kind == kind_free || kind == kind_gone) {
      report_double_free(ptr, 0);
    } else if (kind == kind_large) {
      Large::dealloc(ptr, size);
    } else if (kind == kind_interior) {
      report_interior(ptr, 0);
    } else {
      if (size != 0 && unscaled(scaled_class_of(size, align)) != kind) {
        if (wrong_size_is_fatal) report_wrong_size(ptr, class_info[kind].size, size);
        note_wrong_size();
      }
      hints.set(ptr, kind);
      ThreadCache* const cache = Threads::attach();
      if (cache == nullptr) {
        Slabs::put_blocks(&ptr, 1, kind);
      } else if (size == 0 && scaled(kind) <= Deferred::max_class) {
        FillFlush::defer(*cache, ptr, kind);
      } else {
        FillFlush::put(*cache, ptr, kind);
      }
    }
  }

  /// Is `ptr`, of which the map says `kind`, what another allocator gave out?
  static bool is_foreign(const void* ptr, std::uint8_t kind) noexcept {
    if (kind == kind_gone) return !Large::was_freed(ptr);
    return kind == kind_foreign;
  }

  /// The bytes that the block at `ptr` holds; 0 when it is not of this heap.
  static std::size_t own_usable_size(const void* ptr) noexcept {
    const std::uint8_t kind = map.kind(ptr);
    if (kind == kind_large) return Large::usable_size(ptr);
    return kind < class_count ? class_info[kind].size : 0;
  }

  /// As above; or what the backend says of a block that was allocated at a multiple of `align`,
  /// where every call is passed on to it.
  static std::size_t usable_size(const void* ptr, std::size_t align) noexcept {
    if (const std::size_t own = own_usable_size(ptr)) return own;
    if constexpr (HasUsableSize<Backend>) {
      if (steps_aside) return sysalloc::usable_size(backend(), ptr, align);
    }
    return 0;
  }

  // -------------------------------------------------------------------------------------------
  // Giving memory back, and looking.

  /// Empties the calling thread's cache and gives everything that holds no block to the system and
  /// the backend.
  static void purge() noexcept {
    if (ThreadCache* const cache = Threads::own()) Threads::drain(*cache);
    while (Threads::drain_orphan()) {
    }
    Purging::purge_all();
    Slabs::purge_spans();
    Large::shrink_waiting(0);
    Threads::free_unused(0);
    os::release_freed();
  }

  static CachedStats stats() noexcept {
    CachedStats all;
    Slabs::count(all);
    Threads::count(all);
    all.large = all.live = Large::bytes();
    all.dirty += Large::waiting();
    all.metadata = Slabs::metadata_bytes() + map.bytes() + Threads::bytes();
    all.mapped += Large::mapped() + all.metadata;
    all.wrong_sizes = wrong_sizes_.load(std::memory_order_relaxed);
    for (std::size_t c = 1; c < class_count; ++c) {
      CachedStats::Class& of = all.classes[c];
      const std::size_t idle = of.blocks_free + of.blocks_cached;
      of.size = class_info[c].size;
      of.blocks_live = of.blocks_live > idle ? of.blocks_live - idle : 0;
      all.live += of.blocks_live * of.size;
      all.cached += of.blocks_cached * of.size;
      all.free += of.blocks_free * of.size;
    }
    return all;
  }

  // -------------------------------------------------------------------------------------------
  // For its parts.

  static const Backend& backend() noexcept { return global_instance_.value; }

  /// Starts the heap, if nobody did. False while another thread is at it: no lock makes this one
  /// wait, which a fork could leave locked in the child. So the child of a fork that another thread
  /// takes meanwhile is served without caches for all its life.
  static bool start() noexcept {
    // Named here so that it is instantiated.
    static_cast<void>(&started_at_load_);
    if (ready_.load(std::memory_order_acquire)) return true;
    if (started_.exchange(true, std::memory_order_relaxed)) return false;
    set_up();
    ready_.store(true, std::memory_order_release);
    return true;
  }

  /// Starts the heap unless that had better wait until it is used. True, for an initialiser.
  static bool start_at_load() noexcept { return under_thread_sanitizer || start(); }

  /// Finds out whether every call is to be passed on to the backend: not to one that cannot free
  /// without a size, and so could not take back what it gave out if that ever changes.
  SYSALLOC_COLD static void look_for_checkers() noexcept {
    steps_aside = HasDeallocUnsized<Backend> && os::must_step_aside();
  }

  // What a start finds out. Other threads are served meanwhile.

  /// Is every call passed on to the backend, for a memory checker is at work? Known once started.
  static inline constinit std::atomic<bool> steps_aside{false};
  /// Are pages given back? Not where the system's are larger than a unit.
  static inline constinit std::atomic<bool> purges_pages{false};
  /// Does what large blocks leave go to the system, though the C library would keep it? Not where
  /// the user has told that what to keep.
  static inline constinit std::atomic<bool> gives_back_large{false};
  /// May the heap have huge pages while it is small? They are the default of many systems. But then
  /// a few blocks in a new segment take 2 MiB, and of what is given back between blocks the system
  /// makes huge pages again some time later.
  static inline constinit std::atomic<bool> takes_huge_pages{false};

  /// Notes that the heap grew, and what the page map needs for that is there: memory that the C
  /// library takes from the system for itself alone, all zero, as long as it has heard of no larger
  /// block. Then it shall hear of one: twice what the heap serves by itself, so that it keeps what
  /// is a little larger, too, and is asked for this block also where malloc is the heap's own.
  static void note_segment() noexcept {
    refusals_.store(0, std::memory_order_relaxed);
    if (!has_segment_.exchange(true)) os::expect_large_blocks(2 * max_class_size);
  }

  /// Is a segment, of which the backend has none, to be asked for again? Each time, but where
  /// blocks can do without one (alloc_foreign): to empty everything for each of these would take
  /// long.
  [[nodiscard]] static bool shall_ask_again() noexcept {
    return !HasDeallocUnsized<Backend> ||
           refusals_.fetch_add(1, std::memory_order_relaxed) % 256 == 0;
  }

  static void note_wrong_size() noexcept { wrong_sizes_.fetch_add(1, std::memory_order_relaxed); }

  /// When the backend has no memory for `request`: gives it all segments that hold nothing and all
  /// large blocks that wait, and asks again; then also those in which only what is cached or kept
  /// is in the way, and the caches of threads that ended. What is free then may do where nothing
  /// went back. Returns what `request` does.
  template <class Request>
  SYSALLOC_COLD SYSALLOC_NOINLINE static auto ask_again(Request request) noexcept {
    const bool gave = Large::shrink_waiting(0);
    auto got = Slabs::purge_spans() || gave ? request() : decltype(request()){};
    if (got) return got;
    Threads::give_up_all();
    Purging::purge_all();
    Slabs::purge_spans();
    Threads::free_unused(0);
    return request();
  }

 private:
  /// Where the backend has no segment it may have a block. Only where that is freed as what is
  /// foreign, whoever does so.
  SYSALLOC_COLD SYSALLOC_NOINLINE static void* alloc_foreign(Layout layout) noexcept {
    if constexpr (HasDeallocUnsized<Backend>) {
      void* const ptr = backend().alloc(layout);
      return ptr != nullptr ? ptr : ask_again([&] { return backend().alloc(layout); });
    } else {
      return nullptr;
    }
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

  /// What a start does, once.
  SYSALLOC_COLD static void set_up() noexcept {
    // First, for other threads are served meanwhile, and take locks.
    os::at_fork(lock_all, unlock_all, unlock_in_child);
    look_for_checkers();
    takes_huge_pages = os::wants("SYSALLOC_HUGE_PAGES");
    purges_pages = os::real_page_size() <= unit_size;
    gives_back_large = !os::is_told_what_to_keep();
    Threads::start();
    // Registered before nearly everything else, so it runs after nearly everything else. Where that
    // fails there is no table.
    if (os::wants("SYSALLOC_STATS")) {
      error_.keep();
      static_cast<void>(std::atexit(print_at_end));
    }
    // Asked now: the child of a fork has an end, too, and may find a lock of the loader held by a
    // thread that it does not have.
    static_cast<void>(std::atexit(os::stays_loaded() ? Threads::stop : unload));
  }

  /// A program that starts others has the tables of all of them, so each says whose it is.
  SYSALLOC_COLD static void print_at_end() noexcept {
    if (const int descriptor = error_.descriptor(); descriptor >= 0) {
      Text whose;
      whose << "sysalloc: at the end of " << os::program_name() << " (" << os::process_id()
            << ")\n";
      write_error(whose.c_str(), descriptor);
      print(stats(), descriptor);
    }
    error_.close();
  }

  /// In a library that is at its end. Threads that used it may end after it; and what is free here
  /// nobody else could give back to the backend.
  SYSALLOC_COLD static void unload() noexcept {
    Threads::stop();
    Threads::leave();
    purge();
  }

  SYSALLOC_COLD static void lock_all() noexcept {
    forks_alone_ = os::is_single_threaded();
    if (forks_alone_) return;
    Threads::lock_for_fork();
    Slabs::lock_for_fork();
    Large::mutex.lock_for_fork();
  }

  SYSALLOC_COLD static void unlock_all() noexcept {
    if (forks_alone_) return;
    Large::mutex.unlock_after_fork();
    Slabs::unlock_after_fork();
    Threads::unlock_after_fork();
  }

  /// The caches of threads that the child does not have wait for its next need of a slab. The slabs
  /// and units of which those threads were giving pages back are free again at once.
  SYSALLOC_COLD static void unlock_in_child() noexcept {
    error_.close();
    if (forks_alone_) return;
    Threads::orphan_others();
    Slabs::recover();
    Rhythm::tick_in_child();
    unlock_all();
  }

  static inline constinit NeverDestroyed<Backend> global_instance_{};
  static inline constinit os::KeptError error_{};
  // Started when the program or library is loaded, unless something allocated earlier: no fork can
  // come between then.
  static inline const bool started_at_load_ = start_at_load();
  static inline constinit std::atomic<bool> started_{false};  // by a thread, which may be at it
  static inline constinit std::atomic<bool> ready_{false};
  // Does a thread fork that is the only one? It needs no lock, and might wait for itself: POSIX
  // allows fork in the handler of a signal, which may have come while it held one. Parent and child
  // go on with what it did when the handler returns.
  static inline constinit std::atomic<bool> forks_alone_{false};
  static inline constinit std::atomic<bool> has_segment_{false};
  static inline constinit std::atomic<std::uint32_t> refusals_{0};  // of segments, in a row
  static inline constinit std::atomic<std::size_t> wrong_sizes_{0};
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_HEAP_HPP_
