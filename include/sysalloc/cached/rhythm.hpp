// Rhythm: a program that frees much of what it has and soon takes as much again, over and over, as
// one does that works through batches.
//
// Patience (patience.hpp) bounds what may lie idle, for a program that frees a lot may have nothing
// more to do, and then nothing more is called. So a batch that is larger would be given back and
// faulted in again each time, which takes as long as the work itself. What goes down and half of it
// up again within a second, four times in a row, is a rhythm: then as much as that may lie idle,
// however much it is. It ends when it is not taken again for a second, or when a fall is more than
// twice as deep; and of what is not taken again while the rest is, as much as lies idle a second
// later goes for this time. What comes and goes within a batch, and is less than half of it, does
// not count.
//
// The clock is read only where so much was freed, and where nothing is half done, for it may be
// that of a library that allocates. That a rhythm is over shows when blocks of any thread go back
// to their slabs: a program that stops in the middle of one and frees nothing more keeps what it
// had.

#ifndef SYSALLOC_CACHED_RHYTHM_HPP_
#define SYSALLOC_CACHED_RHYTHM_HPP_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <sysalloc/cached/os.hpp>
#include <sysalloc/cached/size_classes.hpp>
#include <utility>

namespace sysalloc::detail::cached {

/// What says "from any thread" needs no lock, the rest that of what it belongs to. `now` is what
/// time() or clock() gave. All zero at first, so that a shard that is never used takes no page of a
/// program.
class Rhythm {
 public:
  /// The time in milliseconds, never 0. May allocate and free. From any thread.
  [[nodiscard]] static std::uint32_t clock() noexcept { return os::milliseconds() | 1; }

  /// Has time() give the time of now, where any waits for that. May allocate and free. From any
  /// thread.
  static void tick() noexcept {
    if (waiting_.load(std::memory_order_relaxed) == 0) return;
    // By one thread at a time, and not again by what the clock allocates.
    if (ticks_.exchange(true, std::memory_order_relaxed)) return;
    const std::uint32_t now = clock();
    if (now_.load(std::memory_order_relaxed) != now) now_.store(now, std::memory_order_relaxed);
    ticks_.store(false, std::memory_order_relaxed);
  }

  /// In the child of a fork, taken while another thread may have been in the middle of that.
  static void tick_in_child() noexcept { ticks_.store(false, std::memory_order_relaxed); }

  /// What it was at the last tick, or 0 where this does not wait for any. From any thread.
  [[nodiscard]] std::uint32_t time() const noexcept {
    const bool waits = turned_at_.load(std::memory_order_relaxed) != 0;
    return waits ? now_.load(std::memory_order_relaxed) : 0;
  }

  /// Notes that of what was in use `freed` bytes were freed, and `used` are left. True when less is
  /// kept from now on, and what lies idle is to go.
  [[nodiscard]] bool fell(std::size_t used, std::size_t freed, std::uint32_t now) noexcept {
    const std::size_t before = kept_.load(std::memory_order_relaxed);
    if (is_late(now)) {
      if (depth_ != 0) {
        stop();
      } else {
        // Nobody takes the rest of it this time.
        rests_ = before;
        keep(0);
      }
      begin(0);
    }
    // In parentheses: see patience.hpp.
    top_ = (std::max)(top_, used + freed);
    const std::size_t depth = top_ - used;
    if (depth >= deep && depth > depth_ + depth_ / 8) fall(depth, now);
    return kept_.load(std::memory_order_relaxed) < before;
  }

  /// Notes that `used` bytes are in use, more than before.
  void rose(std::size_t used, std::uint32_t now) noexcept {
    if (depth_ == 0 || used < top_ - depth_ / 2 || now == 0 || is_late(now)) return;
    if (depth_ >= scale_ / 2 || static_cast<std::int32_t>(now - scaled_at_) > soon) {
      if (depth_ < scale_ / 2) stop();
      scale_ = (std::max)(depth_, scale_ - scale_ / 8);
      scaled_at_ = now;
      if (++falls_ >= falls_of_rhythm) keep(scale_ + scale_ / 8);
    }
    begin(used);
    if (kept_.load(std::memory_order_relaxed) != 0) turn(now);
  }

  /// So many bytes may lie idle. From any thread.
  [[nodiscard]] std::size_t kept(std::uint32_t now) const noexcept {
    return is_late(now) ? 0 : kept_.load(std::memory_order_relaxed);
  }

  /// Is that less than it was, as the next fell() will say? From any thread.
  [[nodiscard]] bool is_over(std::uint32_t now) const noexcept {
    return kept_.load(std::memory_order_relaxed) != 0 && is_late(now);
  }

  /// Is anything kept, by any of all? From any thread.
  [[nodiscard]] static bool is_any() noexcept {
    return running_.load(std::memory_order_relaxed) != 0;
  }

 private:
  /// What is less is for patience.
  static constexpr std::size_t deep = 4 * MiB;
  static constexpr std::int32_t soon = 1000;  // milliseconds
  static constexpr std::uint32_t falls_of_rhythm = 4;
  /// For turned_at_: the next time is one to wait from.
  static constexpr std::uint32_t asked = 1;

  /// Did it turn so long ago that what did not turn again since is none of a rhythm?
  [[nodiscard]] bool is_late(std::uint32_t now) const noexcept {
    const std::uint32_t at = turned_at_.load(std::memory_order_relaxed);
    // Signed: a time of another thread's may be a little later.
    return at > asked && now != 0 && static_cast<std::int32_t>(now - at) > soon;
  }

  /// It is `depth` bytes below its top. Where the time is not known, that is for the next call.
  void fall(std::size_t depth, std::uint32_t now) noexcept {
    turn(now != 0 ? now : asked);
    if (now == 0) return;
    depth_ = depth;
    if (rests_ != 0) keep(std::exchange(rests_, 0));
    const std::size_t kept = kept_.load(std::memory_order_relaxed);
    if (kept != 0 && depth / 2 > kept) stop();
  }

  /// Looks for the next fall, from `top` or what is above it then.
  void begin(std::size_t top) noexcept {
    top_ = top;
    depth_ = 0;
    turn(0);
  }

  void turn(std::uint32_t now) noexcept {
    // That of the last tick is of when any waited last, which may be long ago.
    if (set(turned_at_, now, waiting_))
      now_.store(now > asked ? now : 0, std::memory_order_relaxed);
  }

  void stop() noexcept {
    falls_ = 0;
    rests_ = 0;
    scale_ = 0;
    keep(0);
  }

  void keep(std::size_t size) noexcept { set(kept_, size, running_); }

  /// `count` is how many of its kind are not zero. True when this is the first.
  template <class T>
  static bool set(std::atomic<T>& to, T value, std::atomic<std::size_t>& count) noexcept {
    const bool was = to.exchange(value, std::memory_order_relaxed) != 0;
    if (!was && value != 0) return count.fetch_add(1, std::memory_order_relaxed) == 0;
    if (was && value == 0) count.fetch_sub(1, std::memory_order_relaxed);
    return false;
  }

  std::size_t top_ = 0;                      // the most in use since the last rise
  std::size_t depth_ = 0;                    // of the fall since then, or nearly so; 0 without one
  std::size_t scale_ = 0;                    // of the deepest falls of late
  std::size_t rests_ = 0;                    // what is to be kept from the next fall on
  std::uint32_t scaled_at_ = 0;              // when the last of these was made up for
  std::uint32_t falls_ = 0;                  // of them, in a row that were made up for soon
  std::atomic<std::uint32_t> turned_at_{0};  // 0 when that does not matter
  std::atomic<std::size_t> kept_{0};
  static inline constinit std::atomic<std::size_t> running_{0};  // how many keep something
  static inline constinit std::atomic<std::size_t> waiting_{0};  // how many need the time
  static inline constinit std::atomic<std::uint32_t> now_{0};
  static inline constinit std::atomic<bool> ticks_{false};  // is a thread at it?
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_RHYTHM_HPP_
