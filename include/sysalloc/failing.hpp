// Failing<A>: an allocator that fails on purpose, to test what a program does without memory.

#ifndef SYSALLOC_FAILING_HPP_
#define SYSALLOC_FAILING_HPP_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <sysalloc/allocator.hpp>
#include <sysalloc/detail/compiler.hpp>
#include <sysalloc/global_alloc.hpp>
#include <sysalloc/layout.hpp>
#include <type_traits>

namespace sysalloc {

/// Passes calls to an A, except those allocations that it is told to refuse with nullptr. A resize
/// counts as an allocation, a deallocation never fails.
///
/// Made, it refuses nothing. To walk through every out-of-memory path of a piece of code: run it
/// with fail_nth(1), fail_nth(2) and so on, until a run ends with failures() unchanged.
///
/// Every member may be called from any thread at any time. An allocation costs one atomic addition
/// and two loads on top of A's. Frees without a size when A does.
template <GlobalAlloc A>
class Failing : public AllocatorInterface<Failing<A>> {
 public:
  constexpr Failing() noexcept
    requires std::is_default_constructible_v<A>
  = default;

  /// Over a copy of `inner`.
  constexpr explicit Failing(const A& inner) noexcept
    requires std::is_copy_constructible_v<A>
      : inner_(inner) {}

  /// The allocator below, for members of its own: `inner().stats()` of a Counting.
  [[nodiscard]] constexpr const A& inner() const noexcept { return inner_; }

  /// Refuses the `n`-th allocation from now, 1 being the next one, and no other. 0 refuses none.
  void fail_nth(std::size_t n) const noexcept {
    share_.store(0, std::memory_order_relaxed);
    fail_at_.store(n == 0 ? 0 : attempts() + n, std::memory_order_relaxed);
  }

  /// Refuses a share of the allocations, from 0 (none) to 1 (all), spread pseudo-randomly. Which
  /// ones depends only on `seed` and on how many came before, so a run can be repeated. A share
  /// below 0 and one that is no number are 0, one above 1 is 1.
  void fail_share(double share, std::uint64_t seed = 1) const noexcept {
    fail_at_.store(0, std::memory_order_relaxed);
    seed_.store(seed, std::memory_order_relaxed);
    // So that no number is 0: to convert it would be undefined.
    const double clamped = share > 0 ? share : 0;
    share_.store(clamped >= 1 ? share_unit : static_cast<std::uint64_t>(clamped * share_unit),
                 std::memory_order_relaxed);
  }

  /// Refuses nothing from now on.
  void fail_none() const noexcept { fail_nth(0); }

  /// The allocations asked for so far, the refused ones included.
  [[nodiscard]] std::size_t attempts() const noexcept {
    return attempts_.load(std::memory_order_relaxed);
  }

  /// The allocations refused on purpose so far; those that A could not serve do not count.
  [[nodiscard]] std::size_t failures() const noexcept {
    return failures_.load(std::memory_order_relaxed);
  }

  [[nodiscard]] void* alloc(Layout layout) const noexcept {
    return refuses() ? nullptr : inner_.alloc(layout);
  }

  [[nodiscard]] void* alloc_zeroed(Layout layout) const noexcept {
    return refuses() ? nullptr : sysalloc::alloc_zeroed(inner_, layout);
  }

  void dealloc(void* ptr, Layout layout) const noexcept { inner_.dealloc(ptr, layout); }

  /// As A's (DeallocIgnoresAlign).
  using PropertiesOf = Failing;
  static constexpr bool dealloc_ignores_align = DeallocIgnoresAlign<A>;

  [[nodiscard]] void* realloc(void* ptr, Layout layout, std::size_t new_size) const noexcept {
    return refuses() ? nullptr : sysalloc::realloc(inner_, ptr, layout, new_size);
  }

  [[nodiscard]] void* realloc(void* ptr, Layout layout, Layout new_layout) const noexcept {
    return refuses() ? nullptr : sysalloc::realloc(inner_, ptr, layout, new_layout);
  }

  [[nodiscard]] std::size_t usable_size(const void* ptr, std::size_t align = 1) const noexcept
    requires HasUsableSize<A>
  {
    return sysalloc::usable_size(inner_, ptr, align);
  }

  void dealloc_unsized(void* ptr, std::size_t align) const noexcept
    requires HasDeallocUnsized<A>
  {
    inner_.dealloc_unsized(ptr, align);
  }

 private:
  // A share is kept in 2^-32: fine enough, and exact in a double.
  static constexpr std::uint64_t share_unit = std::uint64_t{1} << 32;

  // The output step of SplitMix64 (Steele, Lea and Flood, 2014): spreads a counter over 64 bits.
  static constexpr std::uint64_t mix(std::uint64_t x) noexcept {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }

  [[nodiscard]] bool refuses() const noexcept {
    const std::size_t attempt = attempts_.fetch_add(1, std::memory_order_relaxed) + 1;
    const std::uint64_t share = share_.load(std::memory_order_relaxed);
    const bool refused =
        share != 0 ? (mix(attempt ^ mix(seed_.load(std::memory_order_relaxed))) >> 32) < share
                   : attempt == fail_at_.load(std::memory_order_relaxed);
    if (refused) failures_.fetch_add(1, std::memory_order_relaxed);
    return refused;
  }

  SYSALLOC_NO_UNIQUE_ADDRESS A inner_{};
  mutable std::atomic<std::size_t> attempts_{0};
  mutable std::atomic<std::size_t> failures_{0};
  mutable std::atomic<std::size_t> fail_at_{0};
  mutable std::atomic<std::uint64_t> share_{0};
  mutable std::atomic<std::uint64_t> seed_{0};
};

}  // namespace sysalloc

#endif  // SYSALLOC_FAILING_HPP_
