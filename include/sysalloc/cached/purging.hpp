// Giving back what lies idle in the slabs of a shard: pages between blocks that are in use, and
// whole slabs that are kept although they are empty.
//
// That is looked for when much was freed, when the heap would grow otherwise, and when the program
// says so. How much is much, shard.hpp decides.

#ifndef SYSALLOC_CACHED_PURGING_HPP_
#define SYSALLOC_CACHED_PURGING_HPP_

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <mutex>
#include <sysalloc/cached/shard.hpp>
#include <sysalloc/cached/size_classes.hpp>
#include <sysalloc/cached/slab.hpp>
#include <sysalloc/cached/slabs.hpp>
#include <sysalloc/cached/span_heap.hpp>
#include <sysalloc/detail/compiler.hpp>

namespace sysalloc::detail::cached {

template <class Heap>
class Purging {
  using Slabs = cached::Slabs<Heap>;

 public:
  /// Why pages of slabs are given back: much is free, the heap would grow otherwise, or all shall
  /// go that can.
  enum class Why : std::uint8_t { much_free, to_grow, all };

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
    Heap::Threads::give_up_medium();
    List empties;
    bool over = false;
    {
      const std::lock_guard lock(shard.mutex);
      for (std::size_t i = 1; i < class_count; ++i) {
        const List& list = shard.partial[i];
        if (list.empty() || list.next != list.prev) continue;
        auto* const slab = static_cast<Slab*>(list.next);
        if (slab->used() == 0) Slabs::retire(shard, *slab, class_info[i], empties);
      }
      over = shard.has_free_to_grow();
    }
    Slabs::give_spans(shard, empties);
    if (over) purge_slabs(shard, Why::to_grow);
    return true;
  }

  /// As purge_slabs, of every shard, with all that can go.
  static void purge_all() noexcept {
    for (Shard& shard : Slabs::shards_in_use()) purge_slabs(shard, Why::all);
  }

  /// Gives back the pages of a shard's slabs that no block in use touches; with Why::all, also
  /// the one empty slab that each class keeps, and with Why::much_free not what was wanted again
  /// before (patience.hpp). A slab is in transit meanwhile: in no list, so nobody takes from it,
  /// while blocks may still come back to it.
  static void purge_slabs(Shard& shard, Why why) noexcept {
    if (!Heap::purges_pages && why != Why::all) return;
    const std::size_t shards = Slabs::shards_used_.load(std::memory_order_relaxed);
    std::array<std::uint32_t, class_count> slabs;
    std::size_t keep = 0;
    // In parentheses: see patience.hpp.
    std::size_t enough = (std::numeric_limits<std::size_t>::max)();
    SizeClass c = 0;
    {
      const std::lock_guard lock(shard.mutex);
      slabs = shard.slabs;
      c = shard.looked_at;
      if (why == Why::much_free) {
        keep = shard.learned(shards) + shard.rhythm.kept(shard.rhythm.time());
      }
      const std::size_t idle = shard.resident_free();
      if (keep != 0) enough = idle - (std::min)(keep, idle);
    }
    std::size_t gave = 0;
    // From where the last look ended: what is enough is not always of the same classes.
    for (std::size_t looks = 1; looks < class_count && gave < enough; ++looks) {
      c = static_cast<SizeClass>(c + 1 == class_count ? 1 : c + 1);
      const ClassInfo& info = class_info[c];
      List done;
      // Each once: whoever allocates meanwhile brings new ones.
      for (std::size_t left = slabs[c]; left != 0 && gave < enough; --left) {
        std::array<std::uint64_t, unit_size / smallest_size / word_bits> free_words;
        Slab* slab = nullptr;
        {
          const std::lock_guard lock(shard.mutex);
          if (shard.partial[c].empty()) break;
          slab = static_cast<Slab*>(shard.partial[c].next);
          slab->unlink();
          slab->state = SlabState::in_transit;
          std::memcpy(free_words.data(), slab->words(),
                      Slab::word_count(info.blocks) * sizeof(std::uint64_t));
        }
        const std::uint64_t released =
            Heap::purges_pages ? release_free_pages(*slab, info, free_words.data()) : 0;
        done.push_back(slab);
        const std::lock_guard lock(shard.mutex);
        const std::size_t before = slab->purged_bytes();
        slab->purged |= released;
        const std::size_t bytes = slab->purged_bytes() - before;
        shard.purged_bytes += bytes;
        gave += bytes;
      }
      List empties;
      {
        const std::lock_guard lock(shard.mutex);
        while (!done.empty()) {
          auto* const slab = static_cast<Slab*>(done.next);
          slab->unlink();
          slab->state = SlabState::in_shard;
          const bool retires = slab->used() == 0 && (why == Why::all || !shard.partial[c].empty());
          if (retires) {
            Slabs::retire(shard, *slab, info, empties);
          } else {
            shard.partial[c].push_back(slab);
          }
        }
      }
      Slabs::give_spans(shard, empties);
    }
    const std::lock_guard lock(shard.mutex);
    shard.looked_at = c;
    // What was kept could have gone.
    const std::size_t idle = shard.resident_free();
    shard.purge_mark = gave < enough ? idle : idle - (std::min)(keep, idle);
    shard.used_mark = shard.used_bytes();
    // What went so that something else had room is no sign that more should lie idle.
    if (why == Why::to_grow) shard.gave_to_grow += gave;
    if (why == Why::much_free) shard.note_purge(gave, shards);
  }

 private:
  /// Gives back the whole pages within each run of free blocks, those that were not already.
  static std::uint64_t release_free_pages(const Slab& slab, const ClassInfo& info,
                                          const std::uint64_t* words) noexcept {
    std::uint64_t pages = 0;
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
      if (from < to) pages |= bits(from, to - from);
    }
    // A page of the system goes as a whole or not at all.
    pages = ~real_pages(~pages);
    pages = real_pages(pages & ~slab.purged);
    release_runs(slab.base, pages, page_size);
    return pages;
  }
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_PURGING_HPP_
