// The span heap: runs of 64 KiB units, cut from segments that the backend gives.
//
// A segment is 64 units, which of them are free is one word, and so is which of the free ones are
// dirty: still resident, since they were used. A span is taken from the segment whose longest free
// run is the shortest that suffices, at the lowest address there.
//
// There are a few of them, which the shards divide among themselves, since each has one lock; a
// span goes back to the one it is from. A program with few threads uses one.
//
// Giving memory back needs no thread. Whenever the dirty units outgrow what may lie idle, memory
// goes back until what was wanted again before is left, and half of the rest: first segments that
// are free as a whole, to the backend, then the pages of others' dirty units, to the system. So a
// program that frees everything and then does nothing keeps little resident, whatever it does not
// call. A free segment without a dirty unit takes addresses alone, and stays until all shall go
// that can. While the heap is small, what may lie idle is for patience to say (patience.hpp), and
// then the larger of that and 1/64 of the most units that ever were in use; and what comes and goes
// in a rhythm may in any case (rhythm.hpp).
//
// The lock is never held while the backend or the system is called: units in transit are in neither
// word, so nobody can take them.

#ifndef SYSALLOC_CACHED_SPAN_HEAP_HPP_
#define SYSALLOC_CACHED_SPAN_HEAP_HPP_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <sysalloc/cached/mutex.hpp>
#include <sysalloc/cached/os.hpp>
#include <sysalloc/cached/page_map.hpp>
#include <sysalloc/cached/patience.hpp>
#include <sysalloc/cached/size_classes.hpp>
#include <sysalloc/cached/slab.hpp>
#include <sysalloc/cached/stats.hpp>
#include <sysalloc/detail/compiler.hpp>
#include <sysalloc/layout.hpp>
#include <sysalloc/system.hpp>
#include <type_traits>

namespace sysalloc::detail::cached {

inline constexpr std::size_t segment_units = 64;
inline constexpr std::size_t segment_size = segment_units * unit_size;
inline constexpr std::size_t max_span_units = max_class_size / unit_size;
/// A heap that never used more is small.
inline constexpr std::size_t few_units = 64 * MiB / unit_size;
/// So many segments are kept from huge pages: a GiB. By that each becomes a mapping of its own, of
/// which Linux has no more than 65,530 (vm.max_map_count in proc(5)); and of a larger heap it is
/// little that huge pages waste.
inline constexpr std::size_t few_segments = 1024 * MiB / segment_size;
/// What is given back in a heap's whole life for spans that do not fit between others.
inline constexpr std::size_t most_instead = 3 * MiB / unit_size;

struct Segment : ListNode {
  std::uintptr_t base = 0;
  std::uint64_t free = ~std::uint64_t{0};  // units that hold nothing
  std::uint64_t dirty = 0;                 // the free ones that may be resident
  bool zero = false;                       // do the others hold zeros?
  // In the list of segments with dirty units, while there are any.
  struct Dirty : ListNode {
    Segment* segment = nullptr;
  } in_dirty;

  [[nodiscard]] bool whole() const noexcept { return free == ~std::uint64_t{0}; }
};

/// Gives the pages of those pieces back to the system that have a bit in `mask`, with one call for
/// each run of them. The first begins at `base`, and each has `size` bytes.
inline void release_runs(std::uintptr_t base, std::uint64_t mask, std::size_t size) noexcept {
  while (mask != 0) {
    const auto first = static_cast<std::size_t>(std::countr_zero(mask));
    const auto count = static_cast<std::size_t>(std::countr_one(mask >> first));
    os::release(base + first * size, count * size);
    mask &= ~bits(first, count);
  }
}

/// A run of units: where it is, the segment it belongs to, and a bit for each that is resident.
struct Span {
  std::uintptr_t base = 0;
  Segment* segment = nullptr;
  std::uint64_t dirty = 0;

  [[nodiscard]] explicit operator bool() const noexcept { return base != 0; }
  /// Is it known to hold nothing but zeros?
  [[nodiscard]] bool is_zero() const noexcept {
    return dirty == 0 && segment->zero && !os::release_failed.load(std::memory_order_relaxed);
  }
};

template <class Heap>
class SpanHeap {
 public:
  /// What may always lie idle, resident and free, in units: while the heap is small, and up to
  /// `most` when it turns out that it is wanted again and again; and when it was large. A quarter
  /// of what is in use may then, too: in large heaps that is the gaps between blocks that come and
  /// go.
  struct Idle {
    std::size_t small = 4 * MiB / unit_size;
    std::size_t most = 8 * MiB / unit_size;
    std::size_t large = 4 * MiB / unit_size;
  };
  constexpr SpanHeap() noexcept = default;
  explicit constexpr SpanHeap(Idle idle) noexcept : idle_(idle) {}

  /// Takes `units` units that are resident already. A null span when there are none together in the
  /// few segments that are looked at: large heaps have many with a dirty unit or two.
  [[nodiscard]] Span take_dirty(std::size_t units) noexcept {
    const std::lock_guard lock(mutex);
    ListNode* node = dirty_.next;
    for (std::size_t looks = 0; looks < 32 && node != nullptr && node != &dirty_; ++looks) {
      Segment* const segment = static_cast<Segment::Dirty*>(node)->segment;
      node = node->next;
      const std::uint64_t starts = runs(segment->dirty, units);
      if (starts != 0) return take_at(segment, starts, units);
    }
    return {};
  }

  /// Takes `units` units (at most max_span_units). A null span when the backend has no memory.
  [[nodiscard]] Span take(std::size_t units) noexcept {
    do {
      const std::lock_guard lock(mutex);
      if (const Span span = take_free(units)) return span;
    } while (add_segment());
    return {};
  }

  /// Takes the units of slabs that are of this heap back, under one lock, and gives memory to the
  /// system if that is now too much: beside what may lie idle of itself, `more` bytes may.
  void give(const List& slabs, std::size_t more) noexcept {
    std::size_t keep = 0;
    {
      const std::lock_guard lock(mutex);
      for (const ListNode* node = slabs.next; node != nullptr && node != &slabs;
           node = node->next) {
        const Slab& slab = *static_cast<const Slab*>(node);
        const std::size_t units = slab.size / unit_size;
        const std::size_t first = (slab.base - slab.segment->base) / unit_size;
        const std::uint64_t dirty = slab.dirty_units();
        slab.segment->free |= bits(first, units);
        slab.segment->dirty |= dirty << first;
        used_units_ -= units;
        dirty_units_ += static_cast<std::size_t>(std::popcount(dirty));
        relink(slab.segment);
      }
      const std::size_t limit = dirty_limit();
      if (dirty_units_ <= limit + more / unit_size) return;
      keep = (limit + patience_.learned(bounds())) / 2 + more / unit_size;
      patience_.gave(dirty_units_ - keep, bounds());
    }
    purge(keep);
  }

  /// Gives dirty memory back until at most `keep` units of it are left; with 0 also segments of
  /// which nothing is in use or resident. Of what others make dirty meanwhile some may stay: there
  /// is an end to it however many these are. Did any segment go back to the backend?
  bool purge(std::size_t keep) noexcept {
    bool gave_segment = false;
    std::size_t most = 0;
    for (std::size_t looks = 0;; ++looks) {
      Segment* segment = nullptr;
      std::uint64_t taken = 0;
      bool whole = false;
      {
        const std::lock_guard lock(mutex);
        if (looks == 0) most = segments_;
        if (looks == most || (dirty_units_ <= keep && keep != 0)) return gave_segment;
        segment = purgeable(keep == 0);
        if (segment == nullptr) return gave_segment;
        whole = segment->whole();
        taken = whole ? segment->free : segment->dirty;
        hold(segment, taken);
      }
      if (Heap::purges_pages) release_runs(segment->base, taken, unit_size);
      if (!whole) {
        let_go(segment, taken);
        continue;
      }
      const std::uintptr_t base = segment->base;
      Heap::map.set(base, segment_units, kind_gone, kind_gone, nullptr);
      {
        const std::lock_guard lock(mutex);
        segment->unlink();
        spare_.push_front(segment);
        --segments_;
      }
      const typename Heap::Threads::WithoutCache without;
      Heap::backend().dealloc(reinterpret_cast<void*>(base), segment_layout());
      gave_segment = true;
    }
  }

  /// Before `units` units that are not resident come into use: gives back as many that are, but lie
  /// scattered. So a heap of small gaps does not grow by what does not fit into them. That is for
  /// small heaps, and in all no more than an eighth of what was ever in use: most gaps are filled a
  /// little later, and what was given back is faulted in again.
  SYSALLOC_NOINLINE void purge_instead(std::size_t units) noexcept {
    while (units != 0) {
      Segment* segment = nullptr;
      std::uint64_t taken = 0;
      {
        const std::lock_guard lock(mutex);
        // In parentheses: see patience.hpp. What was ever in use never falls.
        const std::size_t most = (std::min)(peak_units_ / 8, most_instead);
        const std::size_t here = (std::min)(most - purged_instead_, units);
        if (dirty_.empty() || here == 0) return;
        segment = static_cast<Segment::Dirty*>(dirty_.next)->segment;
        taken = segment->dirty;
        while (static_cast<std::size_t>(std::popcount(taken)) > here) taken &= taken - 1;
        hold(segment, taken);
        const auto count = static_cast<std::size_t>(std::popcount(taken));
        purged_instead_ += count;
        units -= count;
      }
      if (Heap::purges_pages) release_runs(segment->base, taken, unit_size);
      let_go(segment, taken);
    }
  }

  /// For the child of a fork, which has no other threads: takes back the free units that one of
  /// those had in hand. Calls `f` with each slab here, which says whether its units are free, too.
  /// The lock is held.
  template <class F>
  void recover(F f) noexcept {
    List all;
    for (List& list : lists_) {
      while (!list.empty()) {
        auto* const segment = static_cast<Segment*>(list.next);
        unlink(segment);
        all.push_back(segment);
      }
    }
    used_units_ = dirty_units_ = 0;
    while (!all.empty()) {
      auto* const segment = static_cast<Segment*>(all.next);
      segment->unlink();
      if (Heap::map.kind(reinterpret_cast<const void*>(segment->base)) == kind_gone) {
        // On its way back to the backend.
        --segments_;
        continue;
      }
      for (std::size_t i = 0; i < segment_units; ++i) {
        if ((segment->free & bits(i, 1)) != 0) continue;
        const std::uintptr_t base = segment->base + i * unit_size;
        const auto* const address = reinterpret_cast<const void*>(base);
        std::size_t units = 0;
        if (Heap::map.kind(address) == kind_free) {
          units = 1;
        } else if (Slab* const slab = Heap::map.slab(address);
                   slab != nullptr && slab->base == base && f(*slab)) {
          units = slab->size / unit_size;
        }
        if (units == 0) continue;
        segment->free |= bits(i, units);
        segment->dirty |= bits(i, units);
      }
      link(segment);
      used_units_ += segment_units - static_cast<std::size_t>(std::popcount(segment->free));
      dirty_units_ += static_cast<std::size_t>(std::popcount(segment->dirty));
    }
  }

  /// Adds up what is mapped, and of that what is free and resident.
  void count(CachedStats& all) noexcept {
    const std::lock_guard lock(mutex);
    all.mapped += segments_ * segment_size;
    all.dirty += dirty_units_ * unit_size;
  }

  Mutex mutex;

 private:
  static Layout segment_layout() noexcept {
    return Layout::from_size_align_unchecked(segment_size, unit_size);
  }

  // The bits at which a run of `units` free units begins.
  static std::uint64_t runs(std::uint64_t free, std::size_t units) noexcept {
    std::size_t have = 1;
    while (have < units) {
      const std::size_t step = have < units - have ? have : units - have;
      free &= free >> step;
      have += step;
    }
    return free;
  }

  // The longest run of free units, none counted beyond max_span_units.
  static std::size_t longest_run(std::uint64_t free) noexcept {
    std::size_t length = 0;
    while (free != 0 && length < max_span_units) {
      free &= free >> 1;
      ++length;
    }
    return length;
  }

  void link(Segment* segment) noexcept {
    List& list = lists_[longest_run(segment->free)];
    const bool is_dirty = segment->dirty != 0;
    if (segment->whole()) {
      list.push_back(segment);
      if (is_dirty) dirty_.push_front(&segment->in_dirty);
    } else {
      list.push_front(segment);
      if (is_dirty) dirty_.push_back(&segment->in_dirty);
    }
  }

  static void unlink(Segment* segment) noexcept {
    segment->unlink();
    if (segment->in_dirty.linked()) segment->in_dirty.unlink();
  }

  void relink(Segment* segment) noexcept {
    unlink(segment);
    link(segment);
  }

  // Puts free units in transit: neither free nor dirty until the system has their pages.
  void hold(Segment* segment, std::uint64_t units) noexcept {
    dirty_units_ -= static_cast<std::size_t>(std::popcount(segment->dirty & units));
    segment->free &= ~units;
    segment->dirty &= ~units;
    relink(segment);
  }

  // Makes them free again then.
  void let_go(Segment* segment, std::uint64_t units) noexcept {
    const std::lock_guard lock(mutex);
    segment->free |= units;
    relink(segment);
  }

  Span take_free(std::size_t units) noexcept {
    for (std::size_t length = units; length <= max_span_units; ++length) {
      if (lists_[length].empty()) continue;
      auto* const segment = static_cast<Segment*>(lists_[length].next);
      // Dirty memory first: it is resident already.
      std::uint64_t starts = runs(segment->dirty, units);
      if (starts == 0) starts = runs(segment->free, units);
      return take_at(segment, starts, units);
    }
    return {};
  }

  // Takes the lowest of the runs of free units that begin at the bits of `starts`.
  Span take_at(Segment* segment, std::uint64_t starts, std::size_t units) noexcept {
    const auto first = static_cast<std::size_t>(std::countr_zero(starts));
    const std::uint64_t mask = bits(first, units);
    const Span span{.base = segment->base + first * unit_size,
                    .segment = segment,
                    .dirty = (segment->dirty & mask) >> first};
    const auto dirty = static_cast<std::size_t>(std::popcount(span.dirty));
    dirty_units_ -= dirty;
    patience_.brought(units - dirty, bounds());
    segment->free &= ~mask;
    segment->dirty &= ~mask;
    relink(segment);
    used_units_ += units;
    if (used_units_ > peak_units_) peak_units_ = used_units_;
    return span;
  }

  [[nodiscard]] SYSALLOC_NOINLINE bool add_segment() noexcept {
    const typename Heap::Threads::WithoutCache without;
    void* const memory = Heap::backend().alloc(segment_layout());
    if (memory == nullptr) return false;
    const auto base = reinterpret_cast<std::uintptr_t>(memory);
    Segment* segment = nullptr;
    bool is_of_few = false;
    {
      const std::lock_guard lock(mutex);
      is_of_few = segments_ < few_segments;
      if (!spare_.empty()) {
        segment = static_cast<Segment*>(spare_.next);
        segment->unlink();
      }
    }
    if (segment == nullptr) {
      segment = static_cast<Segment*>(Heap::Slabs::alloc_metadata(sizeof(Segment)));
    }
    if (segment == nullptr || !Heap::map.prepare(Heap::backend(), base, segment_size)) {
      Heap::backend().dealloc(memory, segment_layout());
      const std::lock_guard lock(mutex);
      if (segment != nullptr) spare_.push_front(segment);
      return false;
    }
    if (is_of_few && !Heap::takes_huge_pages) os::refuse_huge_pages(base, segment_size);
    Heap::map.set(base, segment_units, kind_free, kind_free, nullptr);
    *segment = Segment{};
    segment->in_dirty.segment = segment;
    segment->base = base;
    // Of other backends nobody knows where they have it from.
    if constexpr (std::is_same_v<typename Heap::BackendType, System>) {
      if (Heap::purges_pages) segment->zero = os::release_to_zero(base, segment_size);
    }
    {
      const std::lock_guard lock(mutex);
      link(segment);
      ++segments_;
    }
    Heap::note_segment();
    return true;
  }

  // A segment with dirty units, rather one that is free as a whole; `clean_too` finds those that
  // are free as a whole also when nothing of them is resident.
  Segment* purgeable(bool clean_too) noexcept {
    if (!dirty_.empty()) return static_cast<Segment::Dirty*>(dirty_.next)->segment;
    const List& widest = lists_[max_span_units];
    if (!clean_too || widest.empty()) return nullptr;
    auto* const segment = static_cast<Segment*>(widest.prev);
    return segment->whole() ? segment : nullptr;
  }

  [[nodiscard]] Patience::Bounds bounds() const noexcept {
    return {.first = peak_units_ <= few_units ? idle_.small : idle_.large,
            .most = (std::max)(idle_.most, used_units_ / 4)};
  }

  [[nodiscard]] std::size_t dirty_limit() const noexcept {
    const std::size_t limit = patience_.limit(bounds());
    // In parentheses: see patience.hpp.
    return peak_units_ <= few_units ? limit : (std::max)(limit, peak_units_ / 64);
  }

  std::array<List, max_span_units + 1> lists_{};  // by longest free run, whole ones last
  List dirty_{};                                  // those with dirty units, whole ones first
  List spare_{};                                  // descriptors of segments that were given back
  Idle idle_;
  Patience patience_;
  std::size_t segments_ = 0;
  std::size_t used_units_ = 0;
  std::size_t dirty_units_ = 0;
  std::size_t peak_units_ = 0;
  std::size_t purged_instead_ = 0;
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_SPAN_HEAP_HPP_
