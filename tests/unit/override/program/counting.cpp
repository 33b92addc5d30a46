// The program whose global allocator is Counting<System>, read while it works.

#include <sysalloc/counting.hpp>
#include <sysalloc/global_allocator.hpp>
#include <sysalloc/limited.hpp>
#include <sysalloc/system.hpp>

#include "program.hpp"

// Two wrappers in one: counted outside, and limited inside so that it can run out.
static constinit sysalloc::Limited<sysalloc::System> limited;

struct LimitedHere {
  void* alloc(sysalloc::Layout layout) const noexcept { return limited.alloc(layout); }
  void dealloc(void* ptr, sysalloc::Layout layout) const noexcept { limited.dealloc(ptr, layout); }
};

SYSALLOC_GLOBAL_ALLOCATOR(sysalloc::Counting<LimitedHere>);

namespace program {

static sysalloc::CountingStats stats() {
  return sysalloc::global_allocator<sysalloc::Counting<LimitedHere>>().stats();
}

bool exhaust() {
  limited.set_limit(limited.used() + big / 2);
  return true;
}
void replenish() { limited.set_limit(SIZE_MAX); }
bool exhausts_small() { return false; }

bool counts() { return true; }
std::size_t live_bytes() { return stats().bytes_live; }
std::size_t live_blocks() { return stats().blocks_live; }
std::size_t mismatches() { return limited.used() == stats().bytes_live ? 0 : 1; }

}  // namespace program
