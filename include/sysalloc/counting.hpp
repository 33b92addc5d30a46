// Counting<A>: an allocator that knows how much of it is in use.

#ifndef SYSALLOC_COUNTING_HPP_
#define SYSALLOC_COUNTING_HPP_

#include <atomic>
#include <cstddef>
#include <sysalloc/allocator.hpp>
#include <sysalloc/detail/compiler.hpp>
#include <sysalloc/global_alloc.hpp>
#include <sysalloc/layout.hpp>
#include <type_traits>

namespace sysalloc {

/// What a Counting allocator has counted. Bytes are those of the layouts, not what the allocator
/// below rounds them up to.
struct CountingStats {
  std::size_t bytes_live = 0;    ///< allocated and not yet freed
  std::size_t blocks_live = 0;   ///< allocated and not yet freed
  std::size_t bytes_peak = 0;    ///< the most that bytes_live has been
  std::size_t bytes_total = 0;   ///< ever allocated; a block that grows adds what it grew by
  std::size_t blocks_total = 0;  ///< ever allocated; resizing a block does not count
  friend bool operator==(const CountingStats&, const CountingStats&) = default;
};

/// Passes every call to an A and counts the ones that succeed.
///
/// Every member, stats() included, may be called from any thread at any time; an allocation costs
/// three atomic additions and a comparison on top of A's, a deallocation two. Needs each block's
/// size back, so it has no dealloc_unsized: as the global allocator it is given the size by the
/// override, which then keeps it beside the block.
template <GlobalAlloc A>
class Counting : public AllocatorInterface<Counting<A>> {
 public:
  constexpr Counting() noexcept
    requires std::is_default_constructible_v<A>
  = default;

  /// Counts over a copy of `inner`.
  constexpr explicit Counting(const A& inner) noexcept
    requires std::is_copy_constructible_v<A>
      : inner_(inner) {}

  [[nodiscard]] void* alloc(Layout layout) const noexcept {
    return counted(inner_.alloc(layout), layout);
  }

  [[nodiscard]] void* alloc_zeroed(Layout layout) const noexcept {
    return counted(sysalloc::alloc_zeroed(inner_, layout), layout);
  }

  void dealloc(void* ptr, Layout layout) const noexcept {
    inner_.dealloc(ptr, layout);
    bytes_live_.fetch_sub(layout.size(), std::memory_order_relaxed);
    blocks_live_.fetch_sub(1, std::memory_order_relaxed);
  }

  /// As A's (DeallocIgnoresAlign).
  using PropertiesOf = Counting;
  static constexpr bool dealloc_ignores_align = DeallocIgnoresAlign<A>;

  [[nodiscard]] void* realloc(void* ptr, Layout layout, std::size_t new_size) const noexcept {
    return resized(sysalloc::realloc(inner_, ptr, layout, new_size), layout.size(), new_size);
  }

  [[nodiscard]] void* realloc(void* ptr, Layout layout, Layout new_layout) const noexcept {
    return resized(sysalloc::realloc(inner_, ptr, layout, new_layout), layout.size(),
                   new_layout.size());
  }

  [[nodiscard]] std::size_t usable_size(const void* ptr, std::size_t align = 1) const noexcept
    requires HasUsableSize<A>
  {
    return sysalloc::usable_size(inner_, ptr, align);
  }

  /// The allocator below, for members of its own: `inner().set_limit(bytes)` of a Limited.
  [[nodiscard]] constexpr const A& inner() const noexcept { return inner_; }

  /// The counts now. Each is exact; while other threads allocate they may be of different moments.
  [[nodiscard]] CountingStats stats() const noexcept {
    // Relaxed everywhere: the counts order nothing, they are only read for their values.
    return {.bytes_live = bytes_live_.load(std::memory_order_relaxed),
            .blocks_live = blocks_live_.load(std::memory_order_relaxed),
            .bytes_peak = bytes_peak_.load(std::memory_order_relaxed),
            .bytes_total = bytes_total_.load(std::memory_order_relaxed),
            .blocks_total = blocks_total_.load(std::memory_order_relaxed)};
  }

 private:
  void* counted(void* ptr, Layout layout) const noexcept {
    if (ptr == nullptr) return nullptr;
    blocks_live_.fetch_add(1, std::memory_order_relaxed);
    blocks_total_.fetch_add(1, std::memory_order_relaxed);
    add_bytes(layout.size());
    return ptr;
  }

  void* resized(void* ptr, std::size_t size, std::size_t new_size) const noexcept {
    if (ptr == nullptr) return nullptr;
    if (new_size > size) {
      add_bytes(new_size - size);
    } else {
      bytes_live_.fetch_sub(size - new_size, std::memory_order_relaxed);
    }
    return ptr;
  }

  void add_bytes(std::size_t bytes) const noexcept {
    bytes_total_.fetch_add(bytes, std::memory_order_relaxed);
    const std::size_t live = bytes_live_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    std::size_t peak = bytes_peak_.load(std::memory_order_relaxed);
    while (live > peak &&
           !bytes_peak_.compare_exchange_weak(peak, live, std::memory_order_relaxed)) {
    }
  }

  SYSALLOC_NO_UNIQUE_ADDRESS A inner_{};
  mutable std::atomic<std::size_t> bytes_live_{0};
  mutable std::atomic<std::size_t> blocks_live_{0};
  mutable std::atomic<std::size_t> bytes_peak_{0};
  mutable std::atomic<std::size_t> bytes_total_{0};
  mutable std::atomic<std::size_t> blocks_total_{0};
};

}  // namespace sysalloc

#endif  // SYSALLOC_COUNTING_HPP_
