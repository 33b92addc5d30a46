// How many blocks the program's global allocator has handed out and has live.
//
// Linked with counting.cpp, the global allocator is Counting<System> and the numbers are its own,
// so a test can see that a piece of code was served by it. Linked with uncounted.cpp they are none.

#ifndef SYSALLOC_TESTS_PROCESS_COUNTS_HPP_
#define SYSALLOC_TESTS_PROCESS_COUNTS_HPP_

#include <cstddef>

namespace test {

/// Whether there are counts at all.
bool counted();

std::size_t blocks_total();
std::size_t blocks_live();

}  // namespace test

#endif  // SYSALLOC_TESTS_PROCESS_COUNTS_HPP_
