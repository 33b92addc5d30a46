// Large blocks: each by itself from the backend.
//
// A block begins at a unit, so that the page map can tell it, ends at a page, and has the rest of
// its last unit to itself, of which no page is touched. The backend is not asked for that alignment
// but for room to move the block there: glibc cuts a block of a great alignment out of a larger one
// and uses the rest for others, so that where one was freed the next of the same size does not fit.
//
//   start          base                              base + size      start + asked
//   | not used ... | the program's bytes ............| not used ......|
//
// What lies before the base, and behind the last whole unit, shares its units with others.
//
// When it is freed it goes back to the backend. But where such blocks come and go in a rhythm
// (rhythm.hpp) it waits for the next one that it has room for, and until the rhythm is over. Not in
// the C library, which can be told to keep more: it keeps as much in each of its arenas, and has no
// way to give back what lies at the end of one, unless something large is freed there.

#ifndef SYSALLOC_CACHED_LARGE_HPP_
#define SYSALLOC_CACHED_LARGE_HPP_

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <sysalloc/cached/mutex.hpp>
#include <sysalloc/cached/os.hpp>
#include <sysalloc/cached/page_map.hpp>
#include <sysalloc/cached/report.hpp>
#include <sysalloc/cached/rhythm.hpp>
#include <sysalloc/cached/size_classes.hpp>
#include <sysalloc/cached/slab.hpp>
#include <sysalloc/detail/compiler.hpp>
#include <sysalloc/global_alloc.hpp>
#include <sysalloc/layout.hpp>
#include <type_traits>

namespace sysalloc::detail::cached {

/// A large block from here on is huge: it is given back to the system page by page, whatever the
/// backend does with it. As much as glibc's largest mmap threshold (mallopt(3), M_MMAP_THRESHOLD).
inline constexpr std::size_t huge_size = 32 * MiB;

/// What the C library may keep of large blocks that were freed, as much as glibc ever does by
/// itself (M_TRIM_THRESHOLD, twice the other).
inline constexpr std::size_t idle_size = 2 * huge_size;

template <class Heap>
class LargeBlocks {
 public:
  /// A block of `layout`, with every byte zero if `zeroed`, which the backend may do for nothing;
  /// nullptr without memory. It can grow by `room` bytes where it is.
  SYSALLOC_NOINLINE static void* alloc(Layout layout, bool zeroed = false,
                                       std::size_t room = 0) noexcept {
    static_cast<void>(Heap::start());
    if (Heap::steps_aside) return from_backend(layout, zeroed);
    const std::size_t size = page_up(layout.size());
    const auto whole = whole_of(layout, room);
    if (!whole) return nullptr;
    void* const ptr = alloc_whole(*whole, size, zeroed);
    // What is more than it needs is worth nobody's cache.
    if (ptr != nullptr || room != 0) return ptr;
    return Heap::ask_again([&] { return alloc_whole(*whole, size, zeroed); });
  }

  /// Frees the block that `ptr` is said to be, in a unit of one; `size` is 0 when it is unknown.
  static void dealloc(void* ptr, std::size_t size) noexcept {
    Slab& slab = *Heap::map.slab(ptr);
    if (reinterpret_cast<std::uintptr_t>(ptr) != slab.base) report_interior(ptr, slab.size);
    if (size != 0 && page_up(size) != slab.size) {
      if (wrong_size_is_fatal) report_wrong_size(ptr, slab.size, size);
      Heap::note_wrong_size();
    }
    // Before the others may get the memory.
    withdraw(slab);
    bytes_.fetch_sub(slab.size, std::memory_order_relaxed);
    const std::size_t asked = slab.asked;
    const std::size_t left = sank(asked);
    if (!Heap::gives_back_large) return give(slab);
    // glibc gives back by itself what it mapped for a block alone, as it does with all of this
    // size, but not a block that it cut out of free memory, of segments that went back to it above
    // all.
    if (asked >= huge_size) return give_pages(slab);
    const std::uint32_t now = Rhythm::clock();
    bool less = false;
    bool keeps = false;
    {
      const std::lock_guard lock(mutex);
      less = rhythm_.fell(ordinary_.load(std::memory_order_relaxed), asked, now);
      const std::size_t kept = rhythm_.kept(now);
      keeps = kept != 0;
      // Twice as much: where one is taken for a smaller one, another waits that nobody takes.
      if (!less && has_mark(slab) && waiting_bytes_ + asked <= 2 * kept) {
        waiting_.push_front(&slab);
        waiting_bytes_ += asked;
        return;
      }
    }
    if (less || keeps) {
      give_pages(slab);
      if (less) keep_less(now);
    } else {
      give(slab);
      give_back(left);
    }
  }

  /// Gives back what waits, the oldest first, but `most` bytes; its pages to the system, unless the
  /// C library `is_asked` for as much at once and may take it from there. False when that is
  /// nothing.
  static bool shrink_waiting(std::size_t most, bool is_asked = false) noexcept {
    bool gave = false;
    for (;; gave = true) {
      Slab* slab = nullptr;
      {
        const std::lock_guard lock(mutex);
        if (waiting_bytes_ <= most) return gave;
        slab = static_cast<Slab*>(waiting_.prev);
        slab->unlink();
        waiting_bytes_ -= slab->asked;
      }
      if (is_asked && os::is_in_main_arena(slab->base)) {
        give(*slab);
      } else {
        give_pages(*slab);
      }
    }
  }

  /// Makes a block that is of `new_layout` of what is there: to grow it takes the room behind it.
  /// One that would be left with more than half of it unused has the backend's realloc take that
  /// back, and may move for it, if it is huge: to copy it, both would have to be there meanwhile.
  /// nullptr, and nothing is changed, when there is not so much, or it is to be copied, or `ptr` is
  /// no large block.
  static void* resize(void* ptr, Layout new_layout) noexcept {
    if (Heap::map.kind(ptr) != kind_large) return nullptr;
    Slab& slab = *Heap::map.slab(ptr);
    if (reinterpret_cast<std::uintptr_t>(ptr) != slab.base) return nullptr;
    const std::size_t size = page_up(new_layout.size());
    const std::size_t most = units_of(slab) * unit_size;
    if (reinterpret_cast<std::uintptr_t>(ptr) % new_layout.align() != 0) return nullptr;
    if (new_layout.size() <= max_class_size || size > most) return nullptr;
    const bool is_far_less = size < most / 2;
    if (is_far_less && (slab.asked < huge_size || !may_move(slab, new_layout))) return nullptr;
    const std::size_t before = slab.size;
    slab.size = size;
    if (size < before && Heap::purges_pages) {
      os::release_within(slab.base + size, before - size);
    }
    // Modulo 2^n where it shrinks.
    bytes_.fetch_add(size - before, std::memory_order_relaxed);
    // It is of the new layout already, wherever it is.
    void* const moved = is_far_less ? move(ptr, new_layout, 0) : nullptr;
    return moved != nullptr ? moved : ptr;
  }

  /// Makes a block that is of `new_layout`, larger or smaller, where the backend's realloc moves
  /// it: the system moves the pages of a great one, or there is room behind it, so what it holds is
  /// not there twice meanwhile. It can grow by `room` bytes then. nullptr, and nothing is changed,
  /// when there is no memory, or `ptr` is no such block.
  static void* move(void* ptr, Layout new_layout, std::size_t room) noexcept {
    if constexpr (moves) {
      if (Heap::map.kind(ptr) != kind_large) return nullptr;
      Slab& slab = *Heap::map.slab(ptr);
      if (reinterpret_cast<std::uintptr_t>(ptr) != slab.base) return nullptr;
      if (!may_move(slab, new_layout)) return nullptr;
      if (room != 0) {
        if (void* const moved = move_whole(slab, new_layout, room)) return moved;
      }
      if (void* const moved = move_whole(slab, new_layout, 0)) return moved;
      return Heap::ask_again([&] { return move_whole(slab, new_layout, 0); });
    } else {
      return nullptr;
    }
  }

  /// The bytes of the block in whose first unit `ptr` is.
  static std::size_t usable_size(const void* ptr) noexcept { return Heap::map.slab(ptr)->size; }

  /// Is `ptr`, in a unit where a large block began or that was of a segment, one that was freed?
  /// Its memory went back to the system then, or, of a large block, nobody has written since to
  /// what stands before it.
  static bool was_freed(const void* ptr) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(ptr);
    if (!os::is_mapped(address)) return true;
    return address % unit_size == 0 && os::is_mapped(address - page_size) &&
           mark_before(ptr) == mark_of(ptr);
  }

  /// Gives back what was kept for a rhythm that is over.
  static void look_at_rhythm() noexcept {
    const std::uint32_t now = rhythm_.time();
    if (!rhythm_.is_over(now)) return;
    const bool less = [now] {
      const std::lock_guard lock(mutex);
      return rhythm_.fell(ordinary_.load(std::memory_order_relaxed), 0, now);
    }();
    if (less) keep_less(now);
  }

  /// Of all that live.
  static std::size_t bytes() noexcept { return bytes_.load(std::memory_order_relaxed); }
  /// Of those that wait.
  static std::size_t waiting() noexcept {
    const std::lock_guard lock(mutex);
    return waiting_bytes_;
  }
  /// What both take of the backend's memory.
  static std::size_t mapped() noexcept { return mapped_.load(std::memory_order_relaxed); }

  static inline constinit Mutex mutex{};

 private:
  /// Can the backend's realloc make a block larger or smaller, and is that no copy?
  static constexpr bool moves =
      os::realloc_moves_pages && HasRealloc<std::remove_cvref_t<decltype(Heap::backend())>>;
  static bool may_move(const Slab& slab, Layout new_layout) noexcept {
    return moves && slab.align_shift == 0 && new_layout.align() <= unit_size;
  }

  /// A block of `size` bytes in what the backend gives for `whole`, and what describes it; nullptr
  /// without memory for either.
  static void* alloc_whole(Layout whole, std::size_t size, bool zeroed) noexcept {
    if (Slab* const slab = take_waiting(whole)) {
      void* const ptr = reinterpret_cast<void*>(slab->base);
      if (zeroed) std::memset(ptr, 0, size);
      slab->size = size;
      announce(*slab);
      bytes_.fetch_add(size, std::memory_order_relaxed);
      rose(slab->asked);
      return ptr;
    }
    void* const memory = from_backend(whole, zeroed);
    if (memory == nullptr) return nullptr;
    const auto start = reinterpret_cast<std::uintptr_t>(memory);
    const std::uintptr_t base = base_in(start);
    Slab* const slab = Heap::Slabs::take_descriptor(0, 0);
    if (slab == nullptr ||
        !Heap::map.prepare(Heap::backend(), base, whole.size() - (base - start))) {
      Heap::backend().dealloc(memory, whole);
      if (slab != nullptr) Heap::Slabs::give_descriptor(slab);
      return nullptr;
    }
    slab->align_shift = static_cast<std::uint8_t>(std::countr_zero(whole.align()));
    describe(*slab, start, whole.size(), size);
    announce(*slab);
    bytes_.fetch_add(size, std::memory_order_relaxed);
    note(whole.size());
    return reinterpret_cast<void*>(base);
  }

  /// move() of a block of which all that was tested, with no other room than `room`.
  static void* move_whole(Slab& slab, Layout new_layout, std::size_t room) noexcept {
    const auto whole = whole_of(new_layout, room);
    if (!whole) return nullptr;
    // What describes it wherever it goes has to be there before: there is no way back.
    PageMap::Leaf* const spare = Heap::map.take_spare(Heap::backend());
    if (spare == nullptr) return nullptr;
    const std::size_t size = page_up(new_layout.size());
    const Layout before = whole_of(slab);
    const std::size_t size_before = slab.size;
    withdraw(slab);
    void* const memory = Heap::backend().realloc(memory_of(slab), before, whole->size());
    if (memory == nullptr) {
      Heap::map.keep_spare(spare, Heap::backend());
      announce(slab);
      return nullptr;
    }
    const auto start = reinterpret_cast<std::uintptr_t>(memory);
    const std::uintptr_t base = base_in(start);
    const std::uintptr_t is_at = start + slab.offset;
    // Where it begins in its first unit may be elsewhere now. In parentheses: see patience.hpp. And
    // it may have been larger than the program said.
    if (base != is_at) {
      std::memmove(reinterpret_cast<void*>(base), reinterpret_cast<void*>(is_at),
                   (std::min)(size_before, size));
    }
    const std::size_t rest = whole->size() - (base - start);
    if (!Heap::map.prepare(Heap::backend(), base, rest, spare)) report_out_of_reach(memory);
    describe(slab, start, whole->size(), size);
    announce(slab);
    bytes_.fetch_add(size - size_before, std::memory_order_relaxed);
    forget(before.size());
    note(whole->size());
    return reinterpret_cast<void*>(base);
  }

  /// What the backend is asked for a block of `layout` that can grow by `room` bytes.
  static auto whole_of(Layout layout, std::size_t room) noexcept {
    const std::size_t align = layout.align() > unit_size ? layout.align() : 1;
    const std::size_t slack = align == 1 ? unit_size - 1 : 0;
    const std::size_t units = (layout.size() + room + unit_size - 1) / unit_size;
    return Layout::from_size_align(units * unit_size + slack, align);
  }
  /// And was asked.
  static Layout whole_of(const Slab& slab) noexcept {
    return Layout::from_size_align_unchecked(slab.asked, std::size_t{1} << slab.align_shift);
  }
  static void* memory_of(const Slab& slab) noexcept {
    return reinterpret_cast<void*>(slab.base - slab.offset);
  }
  /// Where the block begins in memory of the backend.
  static std::uintptr_t base_in(std::uintptr_t start) noexcept {
    return (start + unit_size - 1) & ~(unit_size - 1);
  }

  static void describe(Slab& slab, std::uintptr_t start, std::size_t asked,
                       std::size_t size) noexcept {
    slab.offset = static_cast<std::uint16_t>(base_in(start) - start);
    slab.asked = asked;
    slab.base = base_in(start);
    slab.size = size;
  }

  /// Has the map know of a block, and no more.
  static void announce(Slab& slab) noexcept {
    Heap::map.set(slab.base, units_of(slab), kind_large, kind_interior, &slab);
  }
  static void withdraw(Slab& slab) noexcept {
    void* const ptr = reinterpret_cast<void*>(slab.base);
    if (has_mark(slab)) mark_before(ptr) = mark_of(ptr);
    Heap::map.set(slab.base, units_of(slab), kind_gone, kind_foreign, nullptr);
  }

  /// The backend gave `size` bytes.
  static void note(std::size_t size) noexcept {
    mapped_.fetch_add(size, std::memory_order_relaxed);
    rose(size);
  }
  /// It has them back.
  static void forget(std::size_t size) noexcept {
    mapped_.fetch_sub(size, std::memory_order_relaxed);
    static_cast<void>(sank(size));
  }

  /// So many more bytes are in use, of the backend's.
  static void rose(std::size_t size) noexcept {
    if (size >= huge_size) return;
    const std::size_t most = ordinary_.fetch_add(size, std::memory_order_relaxed) + size;
    if (most > peak_.load(std::memory_order_relaxed)) peak_.store(most, std::memory_order_relaxed);
    if (!Heap::gives_back_large) return;
    const std::uint32_t now = Rhythm::clock();
    const std::lock_guard lock(mutex);
    rhythm_.rose(ordinary_.load(std::memory_order_relaxed), now);
  }
  /// So many fewer. Returns what is left of those that are not huge.
  static std::size_t sank(std::size_t size) noexcept {
    if (size >= huge_size) return ordinary_.load(std::memory_order_relaxed);
    return ordinary_.fetch_sub(size, std::memory_order_relaxed) - size;
  }

  /// The smallest block that waits and has what `whole` asks for, and not more than three times as
  /// much, for as long as it lives; nullptr when none does.
  /// Then as much of what waits goes back: the heap does not grow by what is of no use.
  static Slab* take_waiting(Layout whole) noexcept {
    std::size_t most = 0;
    {
      const std::lock_guard lock(mutex);
      if (waiting_bytes_ == 0) return nullptr;
      Slab* best = nullptr;
      for (ListNode* node = waiting_.next; node != &waiting_; node = node->next) {
        auto* const slab = static_cast<Slab*>(node);
        if (slab->asked < whole.size() || slab->asked / 3 > whole.size()) continue;
        if (best == nullptr || slab->asked < best->asked) best = slab;
        if (slab->asked == whole.size()) break;
      }
      if (best != nullptr && whole.align() == 1) {
        best->unlink();
        waiting_bytes_ -= best->asked;
        return best;
      }
      // In parentheses: see patience.hpp.
      most = waiting_bytes_ - (std::min)(waiting_bytes_, whole.size());
    }
    shrink_waiting(most, true);
    return nullptr;
  }

  /// Gives a block to the backend that nobody has any more.
  static void give(Slab& slab) noexcept {
    const Layout whole = whole_of(slab);
    void* const memory = memory_of(slab);
    mapped_.fetch_sub(whole.size(), std::memory_order_relaxed);
    Heap::Slabs::give_descriptor(&slab);
    Heap::backend().dealloc(memory, whole);
  }

  /// And its pages to the system before that, whatever the C library would do with it.
  static void give_pages(Slab& slab) noexcept {
    if (Heap::purges_pages) os::release_within(slab.base, units_of(slab) * unit_size);
    give(slab);
  }

  /// Gives back what a rhythm kept, or some of it.
  static void keep_less(std::uint32_t now) noexcept {
    shrink_waiting(rhythm_.kept(now));
    peak_.store(ordinary_.load(std::memory_order_relaxed), std::memory_order_relaxed);
    os::release_freed();
  }

  /// `left` bytes are in such blocks, which are not huge. When that is half of what was, has the C
  /// library give back what it keeps: it does so by itself only at the end of its heap, and what
  /// lives there, of the program or of this heap, holds up all before it. It looks through all that
  /// is free for that, the program's own malloc too: not for a buffer that it would give back
  /// anyway.
  static void give_back(std::size_t left) noexcept {
    std::size_t peak = peak_.load(std::memory_order_relaxed);
    if (left > peak / 2 || peak - left < idle_size) return;
    // By one of the threads that come here.
    if (peak_.compare_exchange_strong(peak, left, std::memory_order_relaxed)) os::release_freed();
  }

  static void* from_backend(Layout whole, bool zeroed) noexcept {
    return zeroed ? sysalloc::alloc_zeroed(Heap::backend(), whole) : Heap::backend().alloc(whole);
  }

  /// The whole units of what the backend gave: all that the block may have.
  static std::size_t units_of(const Slab& slab) noexcept {
    return (slab.asked - slab.offset) / unit_size;
  }

  /// Is there room for the mark by which a second free is found? Not where the backend's block
  /// begins: it would take that free for its own.
  static bool has_mark(const Slab& slab) noexcept { return slab.offset >= sizeof(std::uintptr_t); }
  static std::uintptr_t& mark_before(void* ptr) noexcept {
    return static_cast<std::uintptr_t*>(ptr)[-1];
  }
  /// Of memory that was freed: nothing for AddressSanitizer.
  SYSALLOC_NO_ADDRESS_SANITIZER static std::uintptr_t mark_before(const void* ptr) noexcept {
    return static_cast<const std::uintptr_t*>(ptr)[-1];
  }
  /// Of this address alone.
  static std::uintptr_t mark_of(const void* ptr) noexcept {
    return ~reinterpret_cast<std::uintptr_t>(ptr) ^ (std::uintptr_t{0xdeadf} << 8);
  }

  static inline constinit Rhythm rhythm_{};
  static inline constinit List waiting_{};  // from the newest on
  static inline constinit std::size_t waiting_bytes_ = 0;
  static inline constinit std::atomic<std::size_t> bytes_{0};
  static inline constinit std::atomic<std::size_t> mapped_{0};
  static inline constinit std::atomic<std::size_t> ordinary_{0};  // of that, what is not huge
  static inline constinit std::atomic<std::size_t> peak_{0};      // of this, since memory went back
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_LARGE_HPP_
