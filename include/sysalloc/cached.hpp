// Cached<Backend>: a heap that is faster than the allocator it is built on.
//
// Blocks up to 64 KiB come from an array of the calling thread, and up to 1 MiB those of which it
// freed one just before; cached/heap.hpp tells what is below that. A deallocation reads no metadata
// of the block: one word says of every 64 KiB of address space which size class lies there
// (cached/hints.hpp), and the words of a GiB are 64 KiB. The size that C++ passes to operator
// delete is checked against it, for the price of a comparison.

#ifndef SYSALLOC_CACHED_HPP_
#define SYSALLOC_CACHED_HPP_

#include <atomic>
#include <cstddef>
#include <cstring>
#include <sysalloc/allocator.hpp>
#include <sysalloc/cached/heap.hpp>
#include <sysalloc/cached/stats.hpp>
#include <sysalloc/global_alloc.hpp>
#include <sysalloc/layout.hpp>
#include <sysalloc/system.hpp>

namespace sysalloc {

/// A GlobalAlloc and Allocator over memory that `Backend` gives in large aligned blocks. An empty
/// value; there is one heap for each Backend type in the program, and every Cached of that type is
/// that heap.
///
/// Every member may be called from any thread at any time: before main, after it, in destructors of
/// thread_local objects, in the child of a fork. None throws. When the backend has no memory an
/// allocation returns nullptr, and succeeds again when there is some. The backend may purge the
/// heap that calls it, and free and allocate there, as long as it can end without that block.
template <GlobalAlloc Backend = System>
struct Cached : AllocatorInterface<Cached<Backend>> {
  /// Allocates layout.size() bytes (not zero) at a multiple of layout.align(); any alignment that
  /// the backend serves. When the thread's cache has a block of the class it costs 14 instructions
  /// (operator new with its return, up to 4 KiB; tests/process/instruction_count.py counts whole
  /// pairs with the calls), and a lock for each batch of blocks otherwise; above 1 MiB a call of
  /// the backend.
  [[nodiscard]] void* alloc(Layout layout) const noexcept {
    if (void* const ptr = take(detail::cached::scaled_class_of(layout))) [[likely]]
      return ptr;
    return Heap::alloc_rest(layout);
  }

  /// As alloc, with every byte zero. Above 1 MiB the backend's alloc_zeroed, which need not touch
  /// what comes zeroed from the kernel; otherwise the block is cleared here, but for one of a slab
  /// that was just made of memory which nobody has used since the kernel gave it.
  [[nodiscard]] void* alloc_zeroed(Layout layout) const noexcept {
    if (layout.size() > detail::cached::max_class_size) return Heap::Large::alloc(layout, true);
    bool is_zero = false;
    void* ptr = take(detail::cached::scaled_class_of(layout));
    if (ptr == nullptr) ptr = Heap::alloc_rest(layout, &is_zero);
    if (ptr != nullptr && !is_zero) std::memset(ptr, 0, layout.size());
    return ptr;
  }

  /// Frees the block at `ptr` that has `layout` now; a null pointer is ignored. A layout of another
  /// size class than the block's is a mistake of the program that the build option `hardening`
  /// decides about. Costs 20 instructions when the thread's cache has room, and a lock for each
  /// batch of blocks otherwise.
  void dealloc(void* ptr, Layout layout) const noexcept {
    if (!put_if_of(ptr, detail::cached::scaled_class_of(layout))) [[unlikely]]
      Heap::dealloc_rest(ptr, layout.size(), layout.align());
  }

  /// Frees the block at `ptr` whose size the caller does not know; a null pointer is ignored. Costs
  /// 26 instructions when the thread's cache has room.
  void dealloc_unsized(void* ptr, std::size_t align) const noexcept {
    if (!try_dealloc(ptr)) [[unlikely]]
      Heap::dealloc_rest(ptr, 0, align);
  }

  /// Whose deallocation the constants tell of: not that of an allocator that derives from this one.
  using PropertiesOf = Cached;
  /// operator delete need not test for null (DeallocIgnoresNull).
  static constexpr bool dealloc_ignores_null = true;
  /// As the backend's (DeallocIgnoresAlign), which frees what it gave while this steps aside.
  static constexpr bool dealloc_ignores_align = DeallocIgnoresAlign<Backend>;

  /// Whose fast path the members below are: not that of an allocator that derives from this one.
  using FastPathOf = Cached;

  // What operator new and delete try first (detail/operators.hpp). Class 0, to which a size of zero
  // and a large one belong, has no blocks and no room, and the page map has it for what is not of
  // this heap: so odd sizes, null and foreign pointers need no test of their own here.

  /// A block of at least `size` bytes, or nullptr when the thread has none at hand; any size.
  [[nodiscard]] void* try_alloc(std::size_t size) const noexcept {
    return take(detail::cached::scaled_class_of(size));
  }

  /// As above, at a multiple of `align`; any alignment too.
  [[nodiscard]] void* try_alloc(std::size_t size, std::size_t align) const noexcept {
    if ((align & (align - 1)) != 0) [[unlikely]]
      return nullptr;
    return take(detail::cached::scaled_class_of(size, align));
  }

  /// Frees `ptr` if it is a block of a size class up to Deferred::max_size and the thread has room.
  [[nodiscard]] bool try_dealloc(void* ptr) const noexcept {
    namespace c = detail::cached;
    c::ScaledClass size_class;
    if (!Heap::hints.find(ptr, c::Deferred::max_class, size_class)) [[unlikely]]
      return false;
    // Puts the block that waited longest into its bin, and this one in its place.
    c::Bins& bins = *Heap::Threads::bins();
    c::Deferred::Entry& oldest = bins.deferred.oldest();
    c::Bin& bin = bins.at(oldest.size_class.load(std::memory_order_relaxed));
    void** const top = bin.top.load(std::memory_order_relaxed);
    if (top == bin.limit) [[unlikely]]
      return false;
    bins.deferred.advance();
    *top = oldest.ptr.load(std::memory_order_relaxed);
    oldest.set(ptr, size_class);
    bin.top.store(top + 1, std::memory_order_release);
    return true;
  }

  /// As above, if `size` is of the same class, too.
  [[nodiscard]] bool try_dealloc(void* ptr, std::size_t size) const noexcept {
    return put_if_of(ptr, detail::cached::scaled_class_of(size));
  }

  /// As above, for a block that was allocated at a multiple of `align`.
  [[nodiscard]] bool try_dealloc(void* ptr, std::size_t size, std::size_t align) const noexcept {
    // An alignment that cannot be gives a class that is not the block's, or is its.
    return put_if_of(ptr, detail::cached::scaled_class_of(size, align));
  }

  /// Resizes a block to `new_size` bytes (not zero). Stays in place when the size class does.
  [[nodiscard]] void* realloc(void* ptr, Layout layout, std::size_t new_size) const noexcept {
    const auto new_layout = Layout::from_size_align(new_size, layout.align());
    return new_layout ? realloc(ptr, layout, *new_layout) : nullptr;
  }

  /// As above, to a whole new layout. Stays in place, if its address satisfies the new alignment,
  /// when the block would be freed alike under both layouts; and above 1 MiB when the new size is
  /// above that as well, fits the room that the block has and takes up at least half of it. One
  /// that has to move to grow gets a quarter more room than it needs, so that a block that grows
  /// bit by bit is moved seldom; and above 1 MiB the backend's realloc moves it, where there is one
  /// and the system moves pages (mremap(2)), so that a great one is never there twice; nor is one
  /// of 32 MiB and more that shrinks, of which the backend's realloc takes back what it leaves.
  [[nodiscard]] void* realloc(void* ptr, Layout layout, Layout new_layout) const noexcept {
    const detail::cached::SizeClass c = detail::cached::class_of(new_layout);
    if (c != 0 && c == Heap::map.kind(ptr)) return ptr;
    if (layout.size() > detail::cached::max_class_size) {
      if (void* const resized = Heap::Large::resize(ptr, new_layout)) return resized;
      if (new_layout.size() > layout.size()) {
        const std::size_t room = new_layout.size() / 4;
        if (void* const moved = Heap::Large::move(ptr, new_layout, room)) return moved;
        void* const roomy = Heap::Large::alloc(new_layout, false, room);
        if (void* const moved = detail::move_block(*this, ptr, layout, roomy, new_layout)) {
          return moved;
        }
      }
    }
    return detail::realloc_by_copy(*this, ptr, layout, new_layout);
  }

  /// The bytes that the block at `ptr` (not null) really holds; 0 when it is not of this heap, as
  /// those are not which the backend gave one by one when it had no memory for a segment.
  /// While every call is passed on to the backend, for a memory checker is at work, it is what the
  /// backend says, which alone asks for `align`, and 0 from a backend that has no usable_size.
  [[nodiscard]] std::size_t usable_size(const void* ptr, std::size_t align = 1) const noexcept {
    return Heap::usable_size(ptr, align);
  }

  /// Gives everything that holds no block back: the calling thread's cache, the pages of slabs that
  /// are free, and whole segments to the backend; and lets the C library do likewise. Costs system
  /// calls in proportion to that.
  static void purge() noexcept { Heap::purge(); }

  /// What the heap holds now; see cached/stats.hpp. Costs a walk over the shards and the threads'
  /// caches; other threads may go on meanwhile.
  [[nodiscard]] static CachedStats stats() noexcept { return Heap::stats(); }

  /// What a global allocator does first of all when the program is loaded: it registers handlers of
  /// fork. Those of the program, which come later, then run while no lock of the heap is held.
  static void at_load() noexcept { Heap::start_at_load(); }

  friend constexpr bool operator==(Cached, Cached) noexcept { return true; }

 private:
  using Heap = detail::cached::Heap<Backend>;

  static void* take(detail::cached::ScaledClass size_class) noexcept {
    detail::cached::Bin& bin = Heap::Threads::bins()->at(size_class);
    void** const top = bin.top.load(std::memory_order_relaxed);
    void* const ptr = top[-1];
    if (ptr != nullptr) [[likely]]
      bin.top.store(top - 1, std::memory_order_relaxed);
    return ptr;
  }

  static bool put_if_of(void* ptr, detail::cached::ScaledClass size_class) noexcept {
    if (!Heap::hints.tells(ptr, size_class)) [[unlikely]]
      return false;
    detail::cached::Bin& bin = Heap::Threads::bins()->at(size_class);
    void** const top = bin.top.load(std::memory_order_relaxed);
    if (top == bin.limit) [[unlikely]]
      return false;
    *top = ptr;
    bin.top.store(top + 1, std::memory_order_release);
    return true;
  }
};

}  // namespace sysalloc

#endif  // SYSALLOC_CACHED_HPP_
