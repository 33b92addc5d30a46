// Deferred: where blocks wait that were freed without their size.
//
// Such a block tells its class by its address, and the class tells which bin it goes to. Until that
// is known the processor cannot tell either whether the next allocation reads what is written
// there, and lets it wait: where sizes are mixed and blocks die young, that wait was more than all
// the rest of both. So a block waits here until a few more were freed, and its bin is known by
// then. A deallocation with the size knows its bin at once and puts the block there.

#ifndef SYSALLOC_CACHED_DEFERRED_HPP_
#define SYSALLOC_CACHED_DEFERRED_HPP_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <sysalloc/cached/size_classes.hpp>

namespace sysalloc::detail::cached {

/// A queue that is always full: who takes the oldest entry puts a new one in its place. All zero at
/// first, which is entries of class 0 without a block.
struct Deferred {
  static constexpr std::size_t count = 4;
  /// Blocks above this do not wait, so that what waits is little.
  static constexpr std::size_t max_size = 32 * KiB;
  static constexpr ScaledClass max_class = scaled(class_of_slow(max_size));

  struct Entry {
    std::atomic<void*> ptr;
    std::atomic<std::uintptr_t> size_class;  // scaled; as wide as the pointer: no instruction more

    /// The class first, and both before a bin counts the block that was here: so the child of a
    /// fork finds no block twice, but may find one beside the class of the next.
    void set(void* block, ScaledClass c) noexcept {
      size_class.store(c, std::memory_order_release);
      ptr.store(block, std::memory_order_release);
    }
    [[nodiscard]] SizeClass class_of_block() const noexcept {
      return unscaled(static_cast<ScaledClass>(size_class.load(std::memory_order_relaxed)));
    }
    /// Leaves the entry without a block. Returns the one that it had, or null.
    void* take() noexcept {
      void* const block = ptr.load(std::memory_order_relaxed);
      set(nullptr, 0);
      return block;
    }
  };

  std::size_t turn;  // of which entry: its offset, in bytes
  std::array<Entry, count> entries;

  [[nodiscard]] Entry& oldest() noexcept {
    return *reinterpret_cast<Entry*>(reinterpret_cast<std::byte*>(entries.data()) + turn);
  }
  void advance() noexcept { turn = (turn + sizeof(Entry)) % sizeof(entries); }
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_DEFERRED_HPP_
