// System as the global allocator: what a program has that links the override and chooses nothing.
// Without the override it prints the same, for the C++ library's operators call malloc, too.

#include <iostream>
#include <memory>
#include <sysalloc/system.hpp>

int main() {
  const auto a = std::make_unique<int>(4);  // Allocates from System.
  std::cout << *a << " is in a block of " << sysalloc::System{} << " that holds "
            << sysalloc::System{}.usable_size(a.get()) << " bytes\n";
}
