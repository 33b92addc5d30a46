// Block sizes as programs ask for them: mostly tens of bytes, ever fewer the
// larger, here up to 4 KiB. Each doubling from 8 bytes upwards holds two thirds
// as many as the one below it. A table and not a formula, so that a timed loop
// pays one load from the first-level cache for a size.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "../random.hpp"

namespace bench {

class MixedSizes {
 public:
  static constexpr std::size_t count = 1024;
  static constexpr std::size_t smallest = 8;
  static constexpr std::size_t largest = 4096;

  constexpr MixedSizes() {
    Random random(2026);
    for (auto& size : sizes_) {
      std::size_t low = smallest;
      while (low < largest / 2 && random.below(3) != 0) low *= 2;
      size = static_cast<std::uint16_t>(low + 1 + random.below(low));
    }
  }

  // Any index will do.
  constexpr std::size_t operator[](std::size_t i) const { return sizes_[i % count]; }

 private:
  std::array<std::uint16_t, count> sizes_{};
};

inline constexpr MixedSizes mixed_sizes;

}  // namespace bench
