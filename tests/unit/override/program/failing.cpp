// The program whose global allocator is Failing<System>.

#include <sysalloc/failing.hpp>
#include <sysalloc/global_allocator.hpp>
#include <sysalloc/system.hpp>

#include "program.hpp"

using Global = sysalloc::Failing<sysalloc::System>;

SYSALLOC_GLOBAL_ALLOCATOR(Global);

namespace program {

bool exhaust() {
  sysalloc::global_allocator<Global>().fail_share(1);
  return true;
}
void replenish() { sysalloc::global_allocator<Global>().fail_none(); }
bool exhausts_small() { return true; }

bool counts() { return false; }
std::size_t live_bytes() { return 0; }
std::size_t live_blocks() { return 0; }
std::size_t mismatches() { return 0; }

}  // namespace program
