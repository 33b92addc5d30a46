// Rhythms: what a fall takes for the time. That they keep memory resident is tested in memory.cpp.

#include <doctest/doctest.h>

#include <cstddef>
#include <sysalloc/cached/rhythm.hpp>

namespace c = sysalloc::detail::cached;
using c::Rhythm;

TEST_CASE("where nobody waited for the time it is not known, whatever it was before") {
  constexpr std::size_t batch = 40 * c::MiB;
  Rhythm rhythm;
  const auto falls = [&rhythm](std::size_t used) {
    return rhythm.fell(used, c::MiB, rhythm.time());
  };
  CHECK(rhythm.time() == 0);
  CHECK_FALSE(falls(batch));
  // The fall begins: the next call looks at the clock.
  CHECK_FALSE(falls(batch - 8 * c::MiB));
  CHECK(rhythm.time() == 0);
  Rhythm::tick();
  CHECK(rhythm.time() != 0);
  CHECK_FALSE(falls(batch / 2));
  // It ends, and for as long as the next batch takes nobody asks.
  rhythm.rose(batch, rhythm.time());
  CHECK(rhythm.time() == 0);
  // Within one call, with no look at the clock between.
  CHECK_FALSE(falls(batch - 8 * c::MiB));
  CHECK(rhythm.time() == 0);
  CHECK_FALSE(falls(batch - 16 * c::MiB));
  Rhythm::tick();
  CHECK(rhythm.time() != 0);
}
