// A global allocator of one's own: wraps System and keeps the number of bytes allocated.

#include <atomic>
#include <cstddef>
#include <iostream>
#include <string>
#include <sysalloc/global_allocator.hpp>
#include <sysalloc/system.hpp>

namespace {
std::atomic<std::size_t> allocated{0};
}  // namespace

struct Counter {
  void* alloc(sysalloc::Layout layout) const noexcept {
    void* const ret = sysalloc::System{}.alloc(layout);
    if (ret != nullptr) allocated.fetch_add(layout.size(), std::memory_order_relaxed);
    return ret;
  }
  void dealloc(void* ptr, sysalloc::Layout layout) const noexcept {
    sysalloc::System{}.dealloc(ptr, layout);
    allocated.fetch_sub(layout.size(), std::memory_order_relaxed);
  }
};

SYSALLOC_GLOBAL_ALLOCATOR(Counter);

// Made before main, so its bytes are counted by then.
const std::string greeting(1000, '!');

int main() {
  const std::size_t before_main = allocated;
  std::cout << "allocated bytes before main: " << before_main << '\n';
  delete new std::string(greeting);
  std::cout << "left behind by main: " << allocated - before_main << '\n';
}
