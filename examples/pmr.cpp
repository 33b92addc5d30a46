// A std::pmr container whose memory is counted, in a program that replaces no operator.

#include <iostream>
#include <memory_resource>
#include <string>
#include <sysalloc/counting.hpp>
#include <sysalloc/memory_resource.hpp>
#include <sysalloc/system.hpp>
#include <vector>

int main() {
  const sysalloc::Counting<sysalloc::System> counting;
  sysalloc::MemoryResource resource(counting);
  {
    std::pmr::vector<std::pmr::string> lines(&resource);
    lines.reserve(10);
    for (int i = 0; i < 10; ++i) lines.emplace_back("a line that is longer than any small buffer");
    std::cout << "blocks for 10 lines: " << counting.stats().blocks_live << '\n';
  }
  std::cout << "afterwards: " << counting.stats().blocks_live << '\n';
  std::cout << "peak bytes: " << counting.stats().bytes_peak << '\n';
}
