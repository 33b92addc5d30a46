// The program whose global allocator can free without a size, so that the override adds nothing:
// every layout reaches the ledger as the operators made it. With IGNORES_ALIGN it can do without
// the alignment too, so that no form asks for a larger one than the standard does.

#include <sysalloc/global_allocator.hpp>

#include "ledger.hpp"
#include "program.hpp"

static constinit Ledger ledger;

struct Unsized {
  void* alloc(sysalloc::Layout layout) const noexcept { return ledger.alloc(layout); }
  void dealloc(void* ptr, sysalloc::Layout layout) const noexcept { ledger.dealloc(ptr, layout); }
  void dealloc_unsized(void* ptr, std::size_t align) const noexcept {
#if defined(IGNORES_ALIGN)
    static_cast<void>(align);
    ledger.dealloc_unsized(ptr);
#else
    ledger.dealloc_unsized(ptr, align);
#endif
  }
#if defined(IGNORES_ALIGN)
  using PropertiesOf = Unsized;
  static constexpr bool dealloc_ignores_align = true;
#endif
};

SYSALLOC_GLOBAL_ALLOCATOR(Unsized);

namespace program {

bool exhaust() {
  ledger.exhaust(true);
  return true;
}
void replenish() { ledger.exhaust(false); }
bool exhausts_small() { return true; }

bool counts() { return true; }
std::size_t live_bytes() { return ledger.bytes(); }
std::size_t live_blocks() { return ledger.blocks(); }
std::size_t mismatches() { return ledger.mismatches(); }

}  // namespace program
