// Randomness that is the same in every run and on every machine: the standard
// library's distributions and std::shuffle differ from one library to the
// next, so these few lines are our own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace bench {

// SplitMix64 (Steele, Lea, Flood 2014): a counter and a mixing function, so
// that any seed will do, and cheap enough to stand inside a timed loop.
class Random {
 public:
  explicit constexpr Random(std::uint64_t seed) : state_(seed) {}

  constexpr std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }

  // Below bound, which must be less than 2^32. The product of the upper half
  // with the bound replaces a slow division; its bias does not matter here.
  constexpr std::size_t below(std::size_t bound) {
    return static_cast<std::size_t>(((next() >> 32) * bound) >> 32);
  }

 private:
  std::uint64_t state_;
};

template <class Container>
constexpr void shuffle(Container& items, std::uint64_t seed) {
  Random random(seed);
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random.below(i)]);
}

}  // namespace bench
