// Rhythm: a program that frees much of what it has and soon takes as much again, over and over, as
// one does that works through batches.
//
// Patience (patience.hpp) bounds what may lie idle, for a program that frees a lot may have nothing
// more to do, and then nothing more is called. So a batch that is larger would be given back and
// faulted in again each time, which takes as long as the work itself. What goes down and up four
// times in a row, within a second of each fall, is a rhythm: then as much as that may lie idle,
// however much it is. It ends when it is not taken again for a second, or when a fall is more than
// twice as deep.
//
// The clock is read only where so much was freed. That it is over, shows when anything is freed to
// the same shard, or a slab to its span heap: a program that stops in the middle of a rhythm and
// frees nothing more keeps what it had.

#ifndef SYSALLOC_CACHED_RHYTHM_HPP_
#define SYSALLOC_CACHED_RHYTHM_HPP_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <sysalloc/cached/os.hpp>
#include <sysalloc/cached/size_classes.hpp>

namespace sysalloc::detail::cached {

/// All but kept() needs the lock of what it belongs to. All zero at first, so that a shard that is
/// never used takes no page of a program.
class Rhythm {
 public:
  /// Notes that of what was in use `freed` bytes were freed, and `used` are left. True when that
  /// ends a rhythm, and what lies idle for it is to go.
  [[nodiscard]] bool fell(std::size_t used, std::size_t freed) noexcept {
    bool ends = false;
    if (is_late()) {
      ends = stop();
      begin(0);
    }
    // In parentheses: see patience.hpp.
    top_ = (std::max)(top_, used + freed);
    const std::size_t depth = top_ - used;
    if (depth < deep || depth <= depth_ + depth_ / 8) return ends;
    depth_ = depth;
    // Odd, for zero says that there is no fall.
    fell_at_.store(os::milliseconds() | 1, std::memory_order_relaxed);
    const std::size_t kept = kept_.load(std::memory_order_relaxed);
    return kept != 0 && depth / 2 > kept ? stop() : ends;
  }

  /// Notes that `used` bytes are in use, more than before.
  void rose(std::size_t used) noexcept {
    if (depth_ == 0 || used < top_ - depth_ / 2) return;
    if (is_late()) {
      stop();
    } else if (++falls_ >= falls_of_rhythm) {
      kept_.store(depth_ + depth_ / 8, std::memory_order_relaxed);
    }
    begin(used);
  }

  /// So many bytes may lie idle. From any thread.
  [[nodiscard]] std::size_t kept() const noexcept {
    return is_over() ? 0 : kept_.load(std::memory_order_relaxed);
  }

  /// Will the next fell() end a rhythm, however little was freed? From any thread.
  [[nodiscard]] bool is_over() const noexcept {
    return kept_.load(std::memory_order_relaxed) != 0 && is_late();
  }

 private:
  /// What is less is for patience.
  static constexpr std::size_t deep = 4 * MiB;
  static constexpr std::int32_t soon = 1000;  // milliseconds
  static constexpr std::uint32_t falls_of_rhythm = 4;

  /// Is a fall so long ago that it was none of a rhythm?
  [[nodiscard]] bool is_late() const noexcept {
    const std::uint32_t at = fell_at_.load(std::memory_order_relaxed);
    return at != 0 && static_cast<std::int32_t>(os::milliseconds() - at) > soon;
  }

  /// Looks for the next fall, from `top` or what is above it then.
  void begin(std::size_t top) noexcept {
    top_ = top;
    depth_ = 0;
    fell_at_.store(0, std::memory_order_relaxed);
  }

  /// Was anything kept?
  bool stop() noexcept {
    const bool kept = kept_.load(std::memory_order_relaxed) != 0;
    falls_ = 0;
    kept_.store(0, std::memory_order_relaxed);
    return kept;
  }

  std::size_t top_ = 0;                    // the most in use since the last rise
  std::size_t depth_ = 0;                  // of the fall since then, or nearly so; 0 without one
  std::uint32_t falls_ = 0;                // in a row that were made up for soon
  std::atomic<std::uint32_t> fell_at_{0};  // when it came to that; 0 without one
  std::atomic<std::size_t> kept_{0};
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_RHYTHM_HPP_
