// The slabs of all shards: where the blocks of thread caches come from, and go back to.
//
// Blocks are taken and put in batches, each under the lock of one shard. When a shard has no free
// block of a class it gets a slab, made of a span; one whose blocks all came back is taken apart,
// but for the last of its class. Both happen without the lock, since the backend may be called: a
// new slab is in no list yet, and one that is taken apart is in none any more.
//
// To make a slab of memory that is not resident is the last resort. So what lies idle in the layers
// above goes first.

#ifndef SYSALLOC_CACHED_SLABS_HPP_
#define SYSALLOC_CACHED_SLABS_HPP_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <sysalloc/cached/metadata.hpp>
#include <sysalloc/cached/os.hpp>
#include <sysalloc/cached/page_map.hpp>
#include <sysalloc/cached/report.hpp>
#include <sysalloc/cached/shard.hpp>
#include <sysalloc/cached/size_classes.hpp>
#include <sysalloc/cached/slab.hpp>
#include <sysalloc/cached/span_heap.hpp>
#include <sysalloc/cached/stats.hpp>
#include <sysalloc/detail/compiler.hpp>
#include <utility>

namespace sysalloc::detail::cached {

template <class Heap>
class Purging;

template <class Heap>
class Slabs {
  using SpanHeap = cached::SpanHeap<Heap>;

 public:
  // -------------------------------------------------------------------------------------------
  // Taking blocks.

  /// Takes up to `want` blocks of class `c` into the slots below `end`; 0 without memory. Writes to
  /// `is_zero` where they are known to hold zeros.
  static std::size_t take_blocks(std::size_t shard_index, SizeClass c, void** end, std::size_t want,
                                 bool* is_zero = nullptr) noexcept {
    Shard& shard = shards_[shard_index];
    Slab* spare = nullptr;
    bool will_fill = false;
    do {
      const std::lock_guard lock(shard.mutex);
      if (const std::size_t got = shard.take(c, end, want)) {
        if (spare != nullptr) shard.keep_spare(spare);
        return got;
      }
      if (spare == nullptr) spare = shard.take_spare(c);
      will_fill = shard.will_fill(c);
    } while (Heap::Threads::drain_orphan());
    Slab* slab = new_slab(describe(spare, shard_index, c), is_zero);
    if (slab == nullptr && Heap::shall_ask_again()) {
      slab = Heap::ask_again([&] { return new_slab(take_descriptor(shard_index, c), is_zero); });
    }
    if (slab == nullptr) {
      // What threads gave up for that may be of this class.
      const std::lock_guard lock(shard.mutex);
      return shard.take(c, end, want);
    }
    const ClassInfo& info = class_info[c];
    if (slab->tail == Tail::idle) trim_tail(shard, *slab, info);
    const std::size_t purged = slab->purged_bytes();
    if (will_fill) slab->populate();
    const std::lock_guard lock(shard.mutex);
    // As what is brought by taking from it.
    shard.patience.brought(purged - slab->purged_bytes(), shard.bounds());
    slab->state = SlabState::in_shard;
    ++shard.slabs[c];
    shard.slab_bytes += slab->size;
    // Taken from before it is linked: the slab serves this thread whatever others take meanwhile.
    const std::size_t got = slab->take(info, end, want);
    if (slab->free(info) != 0) shard.partial[c].push_front(slab);
    shard.note_free(c, slab->free(info));
    shard.purged_bytes += slab->purged_bytes();
    shard.rhythm.rose(shard.used_bytes(), shard.rhythm.time());
    return got;
  }

  /// One block for a thread that has no room for more; nullptr without memory.
  static void* take_block(std::size_t shard_index, SizeClass c, bool* is_zero = nullptr) noexcept {
    void* block = nullptr;
    take_blocks(shard_index, c, &block + 1, 1, is_zero);
    return block;
  }

  // -------------------------------------------------------------------------------------------
  // Putting them back.

  /// Puts `count` blocks of class `c` back into their slabs. Overwrites the array.
  static void put_blocks(void** blocks, std::size_t count, SizeClass c) noexcept {
    while (count != 0) {
      const std::size_t batch = (std::min)(count, most_at_once);
      std::size_t left = put_some(blocks, batch, c);
      while (left != 0) {
        const std::size_t part = (std::min)(left, shard_batch);
        left -= part;
        put_by_shard(blocks + left, part, c);
      }
      blocks += batch;
      count -= batch;
    }
  }

  /// Ends the program if the block at `ptr`, of class `c`, is free in its slab: it is being freed
  /// now, and was before.
  static void check_in_use(void* ptr, SizeClass c) noexcept {
    Slab* const slab = slab_of(ptr, c);
    const std::uint64_t index = slab->index_of(class_info[c], ptr);
    // Where no block begins there, that is found when it leaves the cache.
    if (index >= class_info[c].blocks) return;
    const bool is_free = [slab, index] {
      const std::lock_guard lock(shards_[slab->shard()].mutex);
      return slab->is_free(index);
    }();
    if (is_free) report_double_free(ptr, class_info[c].size);
  }

  // -------------------------------------------------------------------------------------------
  // Descriptors, kept by shard and length; those of large blocks are of class 0.

  /// nullptr without memory. All that is set is what it is of, and that it is in no list.
  static Slab* take_descriptor(std::size_t shard_index, SizeClass c) noexcept {
    Shard& shard = shards_[shard_index];
    Slab* spare = nullptr;
    {
      const std::lock_guard lock(shard.mutex);
      spare = shard.take_spare(c);
    }
    return describe(spare, shard_index, c);
  }

  static void give_descriptor(Slab* slab) noexcept {
    Shard& shard = shards_[slab->shard()];
    const std::lock_guard lock(shard.mutex);
    shard.keep_spare(slab);
  }

  /// `size` bytes, at most Metadata::chunk_size, for what else describes the heap; never given
  /// back.
  static void* alloc_metadata(std::size_t size) noexcept {
    const typename Heap::Threads::WithoutCache without;
    return metadata_.alloc(Heap::backend(), size);
  }

  // -------------------------------------------------------------------------------------------
  // Threads and their shards. The lock of the registry is held.

  /// The shard for one more thread: one of those with the fewest.
  static std::size_t join_shard() noexcept {
    std::size_t best = 0;
    for (std::size_t i = 1; i < shards_for_threads; ++i) {
      if (shards_[best].threads == 0) break;
      if (shards_[i].threads < shards_[best].threads) best = i;
    }
    ++shards_[best].threads;
    // Each begins where no thread is: so the first that was not used is the one behind the last.
    if (best >= shards_used_.load(std::memory_order_relaxed)) {
      shards_used_.store(best + 1, std::memory_order_relaxed);
    }
    return best;
  }

  static void leave_shard(std::size_t shard) noexcept { --shards_[shard].threads; }

  // -------------------------------------------------------------------------------------------
  // For the whole heap.

  /// Gives all free units back to the system, and segments that hold nothing to the backend. False
  /// when there is no such segment.
  static bool purge_spans() noexcept {
    bool gave = false;
    for (SpanHeap& spans : span_heaps_) gave = spans.purge(0) || gave;
    return gave;
  }

  /// Takes the locks of the shards in use, of the span heaps, and of the metadata. That of the
  /// registry is held, so that no other thread brings one more into use before they are unlocked;
  /// this one may, in a handler that runs later.
  SYSALLOC_COLD static void lock_for_fork() noexcept {
    locked_shards_ = shards_in_use();
    for (Shard& shard : locked_shards_) shard.mutex.lock_for_fork();
    for (SpanHeap& spans : span_heaps_) spans.mutex.lock_for_fork();
    metadata_.mutex.lock_for_fork();
  }
  SYSALLOC_COLD static void unlock_after_fork() noexcept {
    metadata_.mutex.unlock_after_fork();
    for (SpanHeap& spans : span_heaps_) spans.mutex.unlock_after_fork();
    for (Shard& shard : locked_shards_) shard.mutex.unlock_after_fork();
  }

  /// In the child of a fork, before that: makes the slabs and units that other threads had in hand
  /// free again.
  SYSALLOC_COLD static void recover() noexcept {
    for (SpanHeap& spans : span_heaps_) {
      spans.recover([](Slab& slab) {
        if (slab.state == SlabState::in_transit) {
          slab.state = SlabState::in_shard;
          shards_[slab.shard()].partial[slab.size_class()].push_back(&slab);
        }
        if (slab.state != SlabState::apart) return false;
        forget(slab);
        shards_[slab.shard()].keep_spare(&slab);
        return true;
      });
    }
  }

  /// Adds up what is in slabs and spans. All blocks of slabs are taken for live ones.
  static void count(CachedStats& all) noexcept {
    for (SpanHeap& spans : span_heaps_) spans.count(all);
    for (Shard& shard : shards_in_use()) {
      const std::lock_guard lock(shard.mutex);
      for (std::size_t c = 1; c < class_count; ++c) {
        CachedStats::Class& of = all.classes[c];
        of.slabs += shard.slabs[c];
        of.blocks_live += std::size_t{shard.slabs[c]} * class_info[c].blocks;
        of.blocks_free += shard.free[c];
      }
    }
  }

  static std::size_t metadata_bytes() noexcept { return metadata_.bytes(); }

 private:
  friend Purging<Heap>;

  /// The first few. Who has no cache uses the first of all. Nobody may lock another one, for a fork
  /// does not.
  static std::span<Shard> shards_in_use() noexcept {
    // In parentheses: see patience.hpp.
    const std::size_t used = shards_used_.load(std::memory_order_relaxed);
    return std::span(shards_).first((std::max)(used, std::size_t{1}));
  }

  /// Gives back what lies behind the block of a slab with one, if there is much of that.
  static void trim_tail(Shard& shard, Slab& slab, const ClassInfo& info) noexcept {
    const std::size_t tail = slab.size - info.size;
    {
      const std::lock_guard lock(shard.mutex);
      if (!shard.add_tail(tail)) return;
    }
    slab.tail = Tail::given_back;
    os::release_within(slab.base + info.size, tail);
  }

  /// The first few shards have one together: a program with few threads needs no more.
  static SpanHeap& spans_of(std::size_t shard_index) noexcept {
    return span_heaps_[shard_index / shards_together];
  }

  /// Gives slabs that were taken apart to a span heap, of which more may lie idle where that comes
  /// and goes in a rhythm.
  static void give(SpanHeap& spans, const List& slabs) noexcept {
    const auto first = static_cast<std::size_t>(&spans - span_heaps_.data()) * shards_together;
    std::size_t kept = 0;
    for (const Shard& shard : std::span(shards_).subspan(first, shards_together)) {
      kept += shard.rhythm.kept(shard.rhythm.time());
    }
    spans.give(slabs, kept);
  }

  /// What take_descriptor() gives, made of `spare` if there is one.
  static Slab* describe(Slab* spare, std::size_t shard_index, SizeClass c) noexcept {
    Slab* slab = spare;
    if (slab == nullptr) {
      slab = static_cast<Slab*>(alloc_metadata((1 + Slab::length(class_info[c])) * sizeof(Slab)));
    }
    if (slab == nullptr) return nullptr;
    slab->next = slab->prev = nullptr;
    slab->owner = Slab::owner_of(shard_index, c);
    return slab;
  }

  /// Makes it, which describes nothing yet, that of a slab with all its blocks free, in no list.
  /// nullptr without memory, or for a null pointer.
  static Slab* new_slab(Slab* slab, bool* is_zero) noexcept {
    if (slab == nullptr) return nullptr;
    const std::size_t shard_index = slab->shard();
    const SizeClass c = slab->size_class();
    const ClassInfo& info = class_info[c];
    SpanHeap& spans = spans_of(shard_index);
    Span span = spans.take_dirty(info.units);
    if (!span && Heap::Threads::give_up_extensions()) span = spans.take_dirty(info.units);
    if (!span && Heap::Purging::reclaim(shards_[shard_index])) span = spans.take_dirty(info.units);
    if (!span) {
      spans.purge_instead(info.units);
      span = spans.take(info.units);
    }
    if (!span) {
      give_descriptor(slab);
      return nullptr;
    }
    if (is_zero != nullptr) *is_zero = span.is_zero();
    slab->base = span.base;
    slab->segment = span.segment;
    slab->size = info.units * unit_size;
    slab->state = SlabState::apart;
    const bool has_tail = info.blocks == 1 && info.size != slab->size;
    const bool is_idle = has_tail && span.dirty != 0 && Heap::purges_pages;
    slab->tail = is_idle ? Tail::idle : Tail::untouched;
    slab->fill(info);
    if (Heap::purges_pages) slab->mark_purged(info, span.dirty);
    Heap::map.set(span.base, info.units, c,
                  info.size > max_slab_size ? std::uint8_t{kind_interior} : c, slab);
    for_each_unit(*slab, [c](const void* unit) { Heap::hints.set(unit, c); });
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

  /// Has hints and map know nothing of a slab that is taken apart. First the hints: what the map
  /// calls free, the child of a fork takes back.
  static void forget(const Slab& slab) noexcept {
    for_each_unit(slab, [](const void* unit) { Heap::hints.clear(unit); });
    Heap::map.clear(slab.base, class_info[slab.size_class()].units);
  }

  /// What is put under one lock at most, lest others wait for long.
  static constexpr std::size_t most_at_once = 1024;
  static constexpr std::size_t shard_batch = 128;

  /// As put_blocks, of up to shard_batch blocks that are of several shards: those of one after
  /// those of another, so that each block is looked at twice and not once for every shard.
  SYSALLOC_NOINLINE static void put_by_shard(void* const* blocks, std::size_t count,
                                             SizeClass c) noexcept {
    std::array<std::uint8_t, shard_batch> shard_of;
    std::array<std::size_t, shard_count + 1> end{};
    for (std::size_t i = 0; i < count; ++i) {
      shard_of[i] = static_cast<std::uint8_t>(slab_of(blocks[i], c)->shard());
      ++end[shard_of[i] + std::size_t{1}];
    }
    for (std::size_t i = 0; i < shard_count; ++i) end[i + 1] += end[i];
    // From where those of a shard begin to where they end.
    std::array<void*, shard_batch> sorted;
    for (std::size_t i = 0; i < count; ++i) sorted[end[shard_of[i]]++] = blocks[i];
    for (std::size_t i = 0, begin = 0; i < shard_count; begin = end[i++]) {
      if (end[i] != begin) static_cast<void>(put_some(sorted.data() + begin, end[i] - begin, c));
    }
  }

  /// Puts those into their slabs that are of the same shard as the first, and moves the others to
  /// the front. Returns how many these are.
  static std::size_t put_some(void** blocks, std::size_t count, SizeClass c) noexcept {
    const std::size_t index = slab_of(blocks[0], c)->shard();
    Shard& shard = shards_[index];
    List empties;
    bool over = false;
    bool hardly_used = false;
    bool ends = false;
    std::size_t looks = 0;
    {
      const std::lock_guard lock(shard.mutex);
      const std::size_t used = shard.used_bytes();
      count = put_into(shard, c, blocks, count, empties);
      ends = shard.note_freed(used - shard.used_bytes());
      over = shard.has_much_free(shards_used_.load(std::memory_order_relaxed));
      looks = ++shard.looks;
      hardly_used = shard.is_hardly_used();
    }
    give_spans(shard, empties);
    if (ends) give(spans_of(index), {});
    if (Rhythm::is_any()) look_at_rhythms(looks);
    if (over && hardly_used) Heap::Threads::give_up_all();
    if (over) Heap::Purging::purge_slabs(shard, Heap::Purging::Why::much_free);
    return count;
  }

  /// Gives back what was kept for rhythms that are over, those of threads that wait too: of one
  /// shard, each time another one.
  SYSALLOC_NOINLINE static void look_at_rhythms(std::size_t looks) noexcept {
    Heap::Large::look_at_rhythm();
    const std::span<Shard> shards = shards_in_use();
    const std::size_t index = looks % shards.size();
    Shard& shard = shards[index];
    if (!shard.rhythm.is_over(shard.rhythm.time())) return;
    const bool over = [&shard, &shards] {
      const std::lock_guard lock(shard.mutex);
      return shard.note_freed(0) && shard.has_much_free(shards.size());
    }();
    give(spans_of(index), {});
    if (over) Heap::Purging::purge_slabs(shard, Heap::Purging::Why::much_free);
  }

  /// The slab of a block that came into a cache as one of class `c`. Where it is not any more, the
  /// program ends, without the lock of `held`.
  static Slab* slab_of(void* ptr, SizeClass c, Shard* held = nullptr) noexcept {
    Slab* const slab = Heap::map.slab(ptr);
    // The block was of a slab of this class when it came into the cache. If it is not any more, the
    // slab went when all its blocks were free, this one too.
    if (slab == nullptr || slab->size_class() != c) [[unlikely]] {
      if (held != nullptr) held->mutex.unlock();
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
    void* const* const end = blocks + count;
    std::size_t left = 0;
    void* const* noted = blocks;
    for (void* const* at = blocks;;) {
      Slab* changed = nullptr;
      at = put_run(owner, info, at, end, changed);
      if (changed == nullptr) {
        if (at == end) break;
        void* const ptr = *at++;
        const Slab* const slab = slab_of(ptr, c, &shard);
        if (slab->owner == owner) {
          shard.mutex.unlock();
          if (slab->index_of(info, ptr) >= info.blocks) report_interior(ptr, info.size);
          report_double_free(ptr, info.size);
        }
        blocks[left++] = ptr;
        ++noted;  // not counted in this round
        continue;
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
  /// of a slab of `owner` or was free already (points to it), or `end`. Calls nothing, so that all
  /// it needs is in registers: a block costs 29 instructions on x86-64.
  SYSALLOC_NOINLINE static void* const* put_run(std::uint32_t owner,
                                                const ClassInfo& class_info_of_blocks,
                                                void* const* at, void* const* end,
                                                Slab*& changed) noexcept {
    const ClassInfo info = class_info_of_blocks;
    while (at != end) {
      void* const ptr = *at;
      Slab* const slab = Heap::map.slab(ptr);
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

  static void change_list(Shard& shard, Slab& slab, const ClassInfo& info, List& empties) noexcept {
    if (slab.state == SlabState::in_transit) return;
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
    slab.state = SlabState::apart;
    --shard.slabs[c];
    shard.slab_bytes -= slab.size;
    shard.forget_tail(slab.tail, slab.size - info.size);
    shard.forget_free(c, info.blocks, slab.purged_bytes());
    shard.patience.forget(slab.purged_bytes());  // the span heap knows whole units only
    // What was free in it for nothing is so no more.
    shard.in_vain -= (std::min)(shard.in_vain, std::size_t{info.blocks} * info.size);
    empties.push_back(&slab);
  }

  /// Gives the memory of slabs that were taken apart to the span heap.
  static void give_spans(Shard& shard, List& empties) noexcept {
    if (empties.empty()) return;
    for (ListNode* node = empties.next; node != &empties; node = node->next) {
      forget(*static_cast<Slab*>(node));
    }
    give(spans_of(static_cast<Slab*>(empties.next)->shard()), empties);
    const std::lock_guard lock(shard.mutex);
    while (!empties.empty()) {
      auto* const slab = static_cast<Slab*>(empties.next);
      slab->unlink();
      shard.keep_spare(slab);
    }
  }

  static constexpr std::size_t span_heap_count = 8;
  static constexpr std::size_t shards_together = shard_count / span_heap_count;
  static_assert(shard_count % span_heap_count == 0);
  // The first is that of the program's first threads, often its only ones. What may lie idle in it
  // is more than 64 MiB, after which the interpreter of R collects what it has no use for.
  static inline constinit std::array<SpanHeap, span_heap_count> span_heaps_{SpanHeap(
      {.small = 16 * MiB / unit_size, .most = 80 * MiB / unit_size, .large = 4 * MiB / unit_size})};
  static inline constinit Metadata metadata_{};
  static inline constinit std::array<Shard, shard_count> shards_{};
  static inline constinit std::atomic<std::size_t> shards_used_{0};  // so far
  static inline constinit std::span<Shard> locked_shards_{};         // for a fork
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_SLABS_HPP_
