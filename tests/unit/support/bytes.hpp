// Patterns of bytes in blocks: to see that contents are kept, or that they are zero.

#ifndef SYSALLOC_TESTS_UNIT_SUPPORT_BYTES_HPP_
#define SYSALLOC_TESTS_UNIT_SUPPORT_BYTES_HPP_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tests {

inline bool is_aligned(const void* ptr, std::size_t align) {
  return (reinterpret_cast<std::uintptr_t>(ptr) & (align - 1)) == 0;
}

/// The byte at `index` of the pattern `seed`. Never zero, and 251 is prime, so that a block that is
/// shifted by any power of two shows.
inline unsigned char pattern(std::size_t index, unsigned seed) {
  return static_cast<unsigned char>(1 + (index * 7 + seed) % 251);
}

inline void fill(void* ptr, std::size_t size, unsigned seed = 0) {
  auto* const bytes = static_cast<unsigned char*>(ptr);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = pattern(i, seed);
}

inline bool holds(const void* ptr, std::size_t size, unsigned seed = 0) {
  const auto* const bytes = static_cast<const unsigned char*>(ptr);
  for (std::size_t i = 0; i < size; ++i) {
    if (bytes[i] != pattern(i, seed)) return false;
  }
  return true;
}

inline bool is_zero(const void* ptr, std::size_t size) {
  const auto* const bytes = static_cast<const unsigned char*>(ptr);
  return size == 0 || (bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size - 1) == 0);
}

}  // namespace tests

#endif  // SYSALLOC_TESTS_UNIT_SUPPORT_BYTES_HPP_
