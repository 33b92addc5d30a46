// A shard: slabs with free blocks, by class, behind one lock.
//
// Every thread takes blocks from one shard, so threads on different shards never wait for each
// other, except when one frees what another allocated: a block goes back to the slab it is from,
// and a slab stays with the shard that made it. There are more shards than most machines have
// cores, and a thread gets the one with the fewest threads.

#ifndef SYSALLOC_CACHED_SHARD_HPP_
#define SYSALLOC_CACHED_SHARD_HPP_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <sysalloc/cached/mutex.hpp>
#include <sysalloc/cached/patience.hpp>
#include <sysalloc/cached/rhythm.hpp>
#include <sysalloc/cached/size_classes.hpp>
#include <sysalloc/cached/slab.hpp>
#include <utility>

namespace sysalloc::detail::cached {

/// Is this compiled with ThreadSanitizer? It ends a program that holds 64 locks, and a fork takes
/// those of each heap that was started: so fewer shards are used then, and no heap starts without
/// need.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool under_thread_sanitizer = true;
#elif defined(__has_feature)
inline constexpr bool under_thread_sanitizer = __has_feature(thread_sanitizer);
#else
inline constexpr bool under_thread_sanitizer = false;
#endif

inline constexpr std::size_t shard_count = 48;
/// Threads are divided among so many of them. Nothing else may depend on it: a program may have
/// been compiled with ThreadSanitizer, and the override object that it is linked with without.
inline constexpr std::size_t shards_for_threads = under_thread_sanitizer ? 4 : shard_count;

/// A shard with fewer bytes of slabs is small: a working set that is freed and built again is much
/// of it, and to give it back and fault it in each time costs more than it saves.
inline constexpr std::size_t few_slabs = 32 * MiB;

struct alignas(64) Shard {
  Mutex mutex;
  std::array<List, class_count> partial{};                         // slabs with a free block
  std::array<ListNode*, 1 + Slab::length(class_info[1])> spare{};  // descriptors, by their length
  std::array<std::uint32_t, class_count> slabs{};                  // of each class
  std::array<std::size_t, class_count> free{};                     // blocks free in them
  std::size_t slab_bytes = 0;                                      // of all these
  std::size_t free_bytes = 0;                                      // of free blocks in slabs
  std::size_t purged_bytes = 0;  // of these, in pages that are not resident
  std::size_t tail_bytes = 0;    // of what lies behind blocks with a slab to themselves, resident
  std::size_t purge_mark = 0;    // resident_free() when pages were last given back, or less
  std::size_t used_mark = 0;     // used_bytes() then, or the most since
  std::size_t next_mark = 0;     // of what the slabs occupy
  std::size_t gave_to_grow = 0;  // of pages given back so that the heap need not grow
  std::size_t in_vain = 0;       // resident_free() when last there was hardly a whole page in it
  SizeClass looked_at = 0;       // the class that was looked at last for free pages
  std::uint16_t looks = 0;       // from here at the rhythms of others
  Patience patience;
  Patience tail_patience;
  Rhythm rhythm;

  std::size_t threads = 0;  // that take from here; guarded by the lock of the registry

  /// Takes up to `want` blocks into the slots below `end`. The lock is held.
  std::size_t take(SizeClass c, void** end, std::size_t want) noexcept {
    const ClassInfo& info = class_info[c];
    std::size_t got = 0;
    while (got < want && !partial[c].empty()) {
      auto* const slab = static_cast<Slab*>(partial[c].next);
      const std::size_t purged = slab->purged_bytes();
      got += slab->take(info, end - got, want - got);
      const std::size_t brought = purged - slab->purged_bytes();
      purged_bytes -= brought;
      patience.brought(brought, bounds());
      if (slab->free(info) == 0) slab->unlink();
    }
    forget_free(c, got, 0);
    rhythm.rose(used_bytes(), rhythm.time());
    return got;
  }

  /// A descriptor for a slab of class `c` that describes none; nullptr where there is none. The
  /// lock is held.
  [[nodiscard]] Slab* take_spare(SizeClass c) noexcept {
    ListNode*& first = spare[Slab::length(class_info[c])];
    auto* const slab = static_cast<Slab*>(first);
    if (slab != nullptr) first = slab->next;
    return slab;
  }

  /// Keeps one for the next of its length. The lock is held.
  void keep_spare(Slab* slab) noexcept {
    ListNode*& first = spare[Slab::length(class_info[slab->size_class()])];
    slab->next = std::exchange(first, slab);
  }

  /// Will the program use all of one more slab of class `c`, as far as can be told? Of small blocks
  /// that it has much of already. A slab that it leaves in the middle after all is little beside
  /// these. The lock is held.
  [[nodiscard]] bool will_fill(SizeClass c) const noexcept {
    return slabs[c] >= 8 && class_info[c].size <= small_size;
  }

  /// Do its slabs occupy so much more memory than when this was last true? Never true twice of one
  /// level, so that what is done then is paid for by growth. The lock is held.
  [[nodiscard]] bool passes_mark() noexcept {
    const std::size_t level = slab_bytes - purged_bytes;
    if (level < next_mark) return false;
    next_mark = level + (std::max)(64 * KiB, level / 64);
    return true;
  }

  /// Notes that a slab of one block was made of resident memory, with `tail` bytes behind the block
  /// that nobody uses. True when that comes to much in all, and those of this one should go, which
  /// are not counted then: 64 KiB and a header take two units. The lock is held.
  [[nodiscard]] bool add_tail(std::size_t tail) noexcept {
    if (tail_bytes + tail <= tail_patience.limit(tail_bounds())) {
      tail_bytes += tail;
      return false;
    }
    tail_patience.gave(tail, tail_bounds());
    return true;
  }

  /// Notes that such a slab is no more. What was given back of it is brought back soon, by what its
  /// memory is used for next. The lock is held.
  void forget_tail(Tail state, std::size_t tail) noexcept {
    if (state == Tail::idle) tail_bytes -= tail;
    if (state == Tail::given_back) tail_patience.brought(tail, tail_bounds());
  }

  /// Of what lies behind such blocks.
  [[nodiscard]] Patience::Bounds tail_bounds() const noexcept {
    const std::size_t first = (std::max)(4 * MiB, slab_bytes / 32);
    return {.first = first, .most = (std::max)(first, slab_bytes / 5)};
  }

  /// The bytes of slabs that are in no free block.
  [[nodiscard]] std::size_t used_bytes() const noexcept { return slab_bytes - free_bytes; }

  /// The free bytes in slabs that still occupy memory.
  [[nodiscard]] std::size_t resident_free() const noexcept {
    // A page that was given back can hold the rest of a slab that is no block, too.
    return free_bytes > purged_bytes ? free_bytes - purged_bytes : 0;
  }

  /// Is hardly more in use than what a thread caches? That lies scattered where much was, and holds
  /// a page for each block.
  [[nodiscard]] bool is_hardly_used() const noexcept { return used_bytes() <= 2 * MiB; }

  /// Notes that so much came back of what was in use. True when that shows that a rhythm is over,
  /// and what was kept is to go. The lock is held.
  [[nodiscard]] bool note_freed(std::size_t freed) noexcept {
    if (!rhythm.fell(used_bytes(), freed, rhythm.time())) return false;
    // It was none of what was looked through in vain, or kept after a look.
    in_vain = purge_mark = 0;
    return true;
  }

  /// Is so much more free in its slabs than after the last time that their pages should be looked
  /// at again? What that costs stays in proportion to what was freed. `shards` are in use in all:
  /// the more, the less may lie idle in each, but what comes and goes in a rhythm may. Never true
  /// twice of the same. The lock is held.
  [[nodiscard]] bool has_much_free(std::size_t shards) noexcept {
    const std::size_t idle = resident_free();
    const std::size_t more = allowance(shards) + rhythm.kept(rhythm.time());
    const std::size_t used = used_bytes();
    if (used_mark < used) used_mark = used;
    // The last that is freed may be what held most pages, and is less than that. So also when
    // half is left of what was in use then.
    const bool halved = idle > more && used < used_mark / 2;
    if (!halved && idle <= purge_mark + more) return false;
    purge_mark = idle;
    if (halved || idle > in_vain + more) {
      used_mark = used;
      return true;
    }
    // As much as when it was in vain, of blocks that come and go between others. Not for ever: they
    // may lie otherwise some day.
    in_vain -= (std::min)(in_vain, more / 16);
    return false;
  }

  /// How much more that is: about what may lie idle.
  [[nodiscard]] std::size_t allowance(std::size_t shards) const noexcept {
    const std::size_t first = bounds().first;
    if (shards <= 2) return first + learned(shards);
    // Not less than a part of its own slabs, or it would look through these time and again.
    return (std::max)({first / (shards / 2) + learned(shards), 1 * MiB, slab_bytes / 64});
  }

  /// How much of that because it was wanted again before: all shards together as much as one alone,
  /// but for the first, whose thread mostly waits where there are many.
  [[nodiscard]] std::size_t learned(std::size_t shards) const noexcept {
    return patience.learned(bounds()) / ((std::max)(shards, std::size_t{2}) - 1);
  }

  /// Notes that `gave` bytes of pages were given back because much was free.
  void note_purge(std::size_t gave, std::size_t shards) noexcept {
    const bool vain = gave < allowance(shards) / 16;
    in_vain = vain ? resident_free() : 0;
    if (!vain) patience.gave(gave, bounds());
  }

  /// Is so much free that pages should be given back before the heap grows? What was freed is then
  /// not what is built again, so it need not be much. But in all no more than a part of what the
  /// slabs are: some of it is used again a little later.
  [[nodiscard]] bool has_free_to_grow() const noexcept {
    const std::size_t small = (std::min)(slab_bytes / 4, few_slabs / 4);
    return gave_to_grow < (std::max)(small, slab_bytes / 8) &&
           resident_free() > purge_mark + (std::max)(256 * KiB, slab_bytes / 32);
  }

  /// Of pages in slabs.
  [[nodiscard]] Patience::Bounds bounds() const noexcept {
    const std::size_t first =
        slab_bytes < few_slabs ? 8 * MiB : (std::max)(4 * MiB, slab_bytes / 64);
    return {.first = first, .most = (std::max)(64 * MiB, slab_bytes / 8)};
  }

  /// Notes that blocks came back to slabs.
  void note_free(SizeClass c, std::size_t blocks) noexcept {
    free[c] += blocks;
    free_bytes += blocks * class_info[c].size;
  }

  /// Notes that free blocks left the slabs, and with them so much that is not resident. The mark
  /// follows down, so that the next rise is seen.
  void forget_free(SizeClass c, std::size_t blocks, std::size_t purged) noexcept {
    free[c] -= blocks;
    free_bytes -= blocks * class_info[c].size;
    purged_bytes -= purged;
    if (purge_mark > resident_free()) purge_mark = resident_free();
  }
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_SHARD_HPP_
