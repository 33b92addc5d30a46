// What no program can have: sizes and alignments that have to be refused wherever the tests run.

#ifndef SYSALLOC_TESTS_UNIT_SUPPORT_ADDRESS_SPACE_HPP_
#define SYSALLOC_TESTS_UNIT_SUPPORT_ADDRESS_SPACE_HPP_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace tests {

/// The least size that no machine has, in bytes. With 32 bits of address, it takes a
/// CrowdedAddressSpace for that.
inline constexpr std::size_t impossible_size = std::size_t{PTRDIFF_MAX} / 2;
/// And the least alignment.
inline constexpr std::size_t impossible_align = impossible_size + 1;

/// While there is one, a program with 32 bits of address has no room for a block of half a GiB or
/// more. With 64 bits there is nothing to do.
class CrowdedAddressSpace {
 public:
  CrowdedAddressSpace() {
    if constexpr (sizeof(void*) == 4) {
      for (void*& block : blocks_) block = std::malloc(std::size_t{1} << 29);
    }
  }
  CrowdedAddressSpace(const CrowdedAddressSpace&) = delete;
  CrowdedAddressSpace& operator=(const CrowdedAddressSpace&) = delete;
  ~CrowdedAddressSpace() {
    for (void* const block : blocks_) std::free(block);
  }

 private:
  std::array<void*, 8> blocks_{};
};

}  // namespace tests

#endif  // SYSALLOC_TESTS_UNIT_SUPPORT_ADDRESS_SPACE_HPP_
