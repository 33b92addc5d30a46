// Patience: how much memory may lie idle before it is given back to the system.
//
// Nobody can tell from a block that is freed whether another one is about to be asked for. But that
// shows afterwards: when at least half as much memory as was given back had to be brought back
// since, giving it was work for nothing, and so was faulting it in again. Then twice as much may
// lie idle from now on, up to a bound (for what is beyond there is rhythm.hpp). After a time that
// was not for nothing it is halved, down to what it was at first.
//
// What is given back a part at a time, and nothing brought back in between, counts as given once:
// a fall. Otherwise the limit would be halved with each part, and where all is freed and built
// again little be learned. A fall that is deep is another matter: of so much little could be kept,
// and what was learned of smaller ones would be a burden on what is left.

#ifndef SYSALLOC_CACHED_PATIENCE_HPP_
#define SYSALLOC_CACHED_PATIENCE_HPP_

#include <algorithm>
#include <cstddef>

namespace sysalloc::detail::cached {

/// In any unit. Not synchronised: what it belongs to has a lock. All zero at first, so that a shard
/// that is never used takes no page of a program.
class Patience {
 public:
  /// `first` may lie idle at first, and never more than `most`.
  struct Bounds {
    std::size_t first;
    std::size_t most;
  };

  /// Notes that so much was given back.
  void gave(std::size_t amount, Bounds bounds) noexcept {
    if (given_ != 0 && !wasted_ && brought_ <= given_ / 8) {
      given_ += amount;
      if (given_ > bounds.most) more_ = 0;  // a deep one
      return;
    }
    // In parentheses, for <windows.h> has macros with the names of these functions.
    if (!wasted_) more_ = (std::max)(limit(bounds) / 2, bounds.first) - bounds.first;
    given_ = amount;
    brought_ = 0;
    wasted_ = false;
  }

  /// Notes that memory came into use which was not resident.
  void brought(std::size_t amount, Bounds bounds) noexcept {
    brought_ += amount;
    if (wasted_ || given_ == 0 || brought_ < given_ / 2) return;
    wasted_ = true;
    more_ = (std::min)(2 * limit(bounds), bounds.most) - bounds.first;
  }

  /// Notes that of so much that was given back nobody will see whether it is brought back.
  void forget(std::size_t amount) noexcept { given_ -= (std::min)(given_, amount); }

  /// What may lie idle now.
  [[nodiscard]] std::size_t limit(Bounds bounds) const noexcept {
    return bounds.first + learned(bounds);
  }
  /// What of that was learned.
  [[nodiscard]] std::size_t learned(Bounds bounds) const noexcept {
    return (std::min)(more_, bounds.most - bounds.first);
  }

 private:
  std::size_t more_ = 0;     // than at first
  std::size_t given_ = 0;    // the last time
  std::size_t brought_ = 0;  // since then
  bool wasted_ = false;      // what was given the last time
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_PATIENCE_HPP_
