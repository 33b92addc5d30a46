// The program whose global allocator is Failing<System>.

#include <doctest/doctest.h>

#include <sysalloc/failing.hpp>
#include <sysalloc/global_allocator.hpp>
#include <sysalloc/system.hpp>

#include "../suite/forms.hpp"
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

TEST_CASE("without a handler each form asks once") {
  for (const forms::New& form : forms::news) {
    if (!forms::can_fail(form)) continue;
    CAPTURE(form.name);
    sysalloc::global_allocator<Global>().fail_nth(1);
    const forms::Outcome outcome = forms::outcome(form, 100, 64);
    program::replenish();
    CHECK(outcome == forms::failure(form));
  }
}
