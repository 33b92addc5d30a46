// Limited<A>: an allocator with a budget.

#ifndef SYSALLOC_LIMITED_HPP_
#define SYSALLOC_LIMITED_HPP_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <sysalloc/allocator.hpp>
#include <sysalloc/detail/compiler.hpp>
#include <sysalloc/global_alloc.hpp>
#include <sysalloc/layout.hpp>
#include <type_traits>

namespace sysalloc {

/// Passes calls to an A as long as the bytes in use stay within a limit, and refuses the others
/// with nullptr. Bytes are those of the layouts: what A needs beyond them does not count.
///
/// Every member may be called from any thread at any time. The limit is never exceeded, not even
/// for a moment, and an allocation that is refused does not make another one fail. An allocation or
/// deallocation costs one atomic operation on top of A's. As the global allocator it is given each
/// block's size by the override, as Counting is.
template <GlobalAlloc A>
class Limited : public AllocatorInterface<Limited<A>> {
 public:
  /// No limit, until set_limit() gives one.
  constexpr Limited() noexcept
    requires std::is_default_constructible_v<A>
  = default;

  /// Refuses to have more than `limit` bytes in use.
  constexpr explicit Limited(std::size_t limit) noexcept
    requires std::is_default_constructible_v<A>
      : limit_(limit) {}

  /// As above, over a copy of `inner`.
  constexpr Limited(std::size_t limit, const A& inner) noexcept
    requires std::is_copy_constructible_v<A>
      : inner_(inner), limit_(limit) {}

  [[nodiscard]] void* alloc(Layout layout) const noexcept {
    if (!reserve(layout.size())) return nullptr;
    return kept(inner_.alloc(layout), layout.size());
  }

  [[nodiscard]] void* alloc_zeroed(Layout layout) const noexcept {
    if (!reserve(layout.size())) return nullptr;
    return kept(sysalloc::alloc_zeroed(inner_, layout), layout.size());
  }

  void dealloc(void* ptr, Layout layout) const noexcept {
    inner_.dealloc(ptr, layout);
    release(layout.size());
  }

  /// As A's (DeallocIgnoresAlign).
  using PropertiesOf = Limited;
  static constexpr bool dealloc_ignores_align = DeallocIgnoresAlign<A>;

  [[nodiscard]] void* realloc(void* ptr, Layout layout, std::size_t new_size) const noexcept {
    return resized(layout.size(), new_size,
                   [&] { return sysalloc::realloc(inner_, ptr, layout, new_size); });
  }

  [[nodiscard]] void* realloc(void* ptr, Layout layout, Layout new_layout) const noexcept {
    return resized(layout.size(), new_layout.size(),
                   [&] { return sysalloc::realloc(inner_, ptr, layout, new_layout); });
  }

  [[nodiscard]] std::size_t usable_size(const void* ptr, std::size_t align = 1) const noexcept
    requires HasUsableSize<A>
  {
    return sysalloc::usable_size(inner_, ptr, align);
  }

  /// The allocator below, for members of its own: `inner().stats()` of a Counting.
  [[nodiscard]] constexpr const A& inner() const noexcept { return inner_; }

  /// Changes the limit, in bytes. One below what is in use refuses everything until enough is
  /// freed; nothing is taken back.
  void set_limit(std::size_t limit) const noexcept {
    limit_.store(limit, std::memory_order_relaxed);
  }

  /// The limit, in bytes; SIZE_MAX when there is none.
  [[nodiscard]] std::size_t limit() const noexcept {
    return limit_.load(std::memory_order_relaxed);
  }

  /// The bytes in use now.
  [[nodiscard]] std::size_t used() const noexcept { return used_.load(std::memory_order_relaxed); }

 private:
  // Relaxed: the sum alone is kept consistent, it publishes nothing else.
  [[nodiscard]] bool reserve(std::size_t bytes) const noexcept {
    std::size_t used = used_.load(std::memory_order_relaxed);
    do {
      const std::size_t limit = limit_.load(std::memory_order_relaxed);
      if (used > limit || bytes > limit - used) return false;
    } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    return true;
  }

  void release(std::size_t bytes) const noexcept {
    used_.fetch_sub(bytes, std::memory_order_relaxed);
  }

  void* kept(void* ptr, std::size_t bytes) const noexcept {
    if (ptr == nullptr) release(bytes);
    return ptr;
  }

  template <class Resize>
  void* resized(std::size_t size, std::size_t new_size, Resize resize) const noexcept {
    if (new_size > size) {
      if (!reserve(new_size - size)) return nullptr;
      return kept(resize(), new_size - size);
    }
    void* const ptr = resize();
    if (ptr != nullptr) release(size - new_size);
    return ptr;
  }

  SYSALLOC_NO_UNIQUE_ADDRESS A inner_{};
  mutable std::atomic<std::size_t> used_{0};
  mutable std::atomic<std::size_t> limit_{SIZE_MAX};
};

}  // namespace sysalloc

#endif  // SYSALLOC_LIMITED_HPP_
