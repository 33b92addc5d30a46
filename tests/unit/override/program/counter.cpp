// The program whose global allocator is the Counter of Rust's page on System, with its two members
// and nothing more. Where that one has System, this has a ledger that checks each layout.

#include <atomic>
#include <cstddef>
#include <sysalloc/global_allocator.hpp>

#include "ledger.hpp"
#include "program.hpp"

static constinit Ledger ledger;
static std::atomic<std::size_t> allocated{0};

struct Counter {
  void* alloc(sysalloc::Layout layout) const noexcept {
    void* const ret = ledger.alloc(layout);
    if (ret != nullptr) allocated.fetch_add(layout.size(), std::memory_order_relaxed);
    return ret;
  }
  void dealloc(void* ptr, sysalloc::Layout layout) const noexcept {
    ledger.dealloc(ptr, layout);
    allocated.fetch_sub(layout.size(), std::memory_order_relaxed);
  }
};

SYSALLOC_GLOBAL_ALLOCATOR(Counter);

namespace program {

bool exhaust() {
  ledger.exhaust(true);
  return true;
}
void replenish() { ledger.exhaust(false); }
bool exhausts_small() { return true; }

bool counts() { return true; }
std::size_t live_bytes() { return allocated; }
std::size_t live_blocks() { return ledger.blocks(); }
std::size_t mismatches() { return ledger.mismatches(); }

}  // namespace program
