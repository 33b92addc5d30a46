// The program that chooses nothing and links the override object: its global allocator is System.

#if !defined(_WIN32)
#include <sys/resource.h>
#endif

#include "../../support/environment.hpp"
#include "program.hpp"

namespace program {

#if defined(_WIN32)

bool exhaust() {
  tests::not_checked("System running out of memory",
                     "a limit of a process (a job object) cannot be lifted again");
  return false;
}

void replenish() {}

#else

// Memory runs out for real: blocks of `big` bytes come from mappings, and those are limited.
static rlimit saved;

bool exhaust() {
  if (!tests::plain_malloc()) {
    tests::not_checked("System running out of memory",
                       "a checker's own memory would run out with it");
    return false;
  }
  if (tests::emulated()) {
    tests::not_checked("System running out of memory", "an emulator does not keep the limit");
    return false;
  }
  getrlimit(RLIMIT_AS, &saved);
  const rlimit none{.rlim_cur = 1 << 20, .rlim_max = saved.rlim_max};
  return setrlimit(RLIMIT_AS, &none) == 0;
}

void replenish() { setrlimit(RLIMIT_AS, &saved); }

#endif

bool exhausts_small() { return false; }

bool counts() { return false; }
std::size_t live_bytes() { return 0; }
std::size_t live_blocks() { return 0; }
std::size_t mismatches() { return 0; }

}  // namespace program
