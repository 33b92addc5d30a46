// What the suite asks of the program that it runs in. Each file beside this one is such a program:
// it chooses a global allocator and says how to run it out of memory.

#ifndef SYSALLOC_TESTS_UNIT_OVERRIDE_PROGRAM_PROGRAM_HPP_
#define SYSALLOC_TESTS_UNIT_OVERRIDE_PROGRAM_PROGRAM_HPP_

#include <cstddef>

namespace program {

/// Sizes from this on fail while the program is exhausted; none smaller need do so.
inline constexpr std::size_t big = std::size_t{64} << 20;

/// Lets every allocation of `big` bytes and more fail until replenish(). False, and prints why,
/// where that cannot be had. Nothing may be printed or checked in between.
bool exhaust();
void replenish();

/// True when exhaust() lets the smaller ones fail too.
bool exhausts_small();

/// True when live_bytes() and live_blocks() count; otherwise both are always 0.
bool counts();
std::size_t live_bytes();
std::size_t live_blocks();

/// Times that a block came back with another layout than it was allocated with, that an address
/// came back that is no block, or that a layout was asked for that cannot be. Always 0 where nobody
/// keeps account.
std::size_t mismatches();

}  // namespace program

#endif  // SYSALLOC_TESTS_UNIT_OVERRIDE_PROGRAM_PROGRAM_HPP_
