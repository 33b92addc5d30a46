// System used directly, in a program whose global allocator is another one: the two do not meet.

#include <iostream>
#include <string>
#include <sysalloc/counting.hpp>
#include <sysalloc/global_allocator.hpp>
#include <sysalloc/system.hpp>

using Counter = sysalloc::Counting<sysalloc::System>;

SYSALLOC_GLOBAL_ALLOCATOR(Counter);

int main() {
  const auto blocks = [] { return sysalloc::global_allocator<Counter>().stats().blocks_live; };
  const auto layout = *sysalloc::Layout::array<int>(1000);

  std::size_t before = blocks();
  const auto block = sysalloc::System{}.allocate_zeroed(layout);
  if (!block) return 1;
  std::cout << "System gave " << block->size() << " bytes, the global allocator "
            << blocks() - before << " blocks\n";
  sysalloc::System{}.deallocate(block->data(), layout);

  before = blocks();
  const std::string stars(40, '*');
  const std::size_t taken = blocks() - before;
  std::cout << stars << " took " << taken << " block of the global allocator\n";
}
