// A program that caps its own memory: what goes beyond is std::bad_alloc, and it carries on.

#include <iostream>
#include <new>
#include <sysalloc/global_allocator.hpp>
#include <sysalloc/limited.hpp>
#include <sysalloc/system.hpp>
#include <vector>

using Capped = sysalloc::Limited<sysalloc::System>;

SYSALLOC_GLOBAL_ALLOCATOR(Capped);

int main() {
  constexpr std::size_t megabyte = std::size_t{1} << 20;
  auto& memory = sysalloc::global_allocator<Capped>();
  memory.set_limit(memory.used() + 10 * megabyte);

  std::vector<std::vector<char>> cache;
  cache.reserve(100);
  try {
    for (;;) cache.emplace_back(megabyte);
  } catch (const std::bad_alloc&) {
    std::cout << "full with " << cache.size() << " entries of a megabyte\n";
  }
  cache.clear();
  cache.emplace_back(9 * megabyte);
  std::cout << "room again for " << cache[0].size() / megabyte << " megabytes at once\n";
}
