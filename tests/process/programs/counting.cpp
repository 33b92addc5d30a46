// Makes Counting<System> the program's global allocator, and tells what it counted.

#include <sysalloc/counting.hpp>
#include <sysalloc/global_allocator.hpp>
#include <sysalloc/system.hpp>

#include "counts.hpp"

using Counter = sysalloc::Counting<sysalloc::System>;
SYSALLOC_GLOBAL_ALLOCATOR(Counter);

namespace test {

bool counted() { return true; }

std::size_t blocks_total() { return sysalloc::global_allocator<Counter>().stats().blocks_total; }

std::size_t blocks_live() { return sysalloc::global_allocator<Counter>().stats().blocks_live; }

}  // namespace test
