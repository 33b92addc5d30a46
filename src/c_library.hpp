// malloc and its kin as System calls them: those of the C library, or whatever else a program has
// in their place; but never those of the library that replaces them (override/malloc.cpp).

#ifndef SYSALLOC_SRC_C_LIBRARY_HPP_
#define SYSALLOC_SRC_C_LIBRARY_HPP_

// Not <cstdlib>, which need not declare posix_memalign.
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers)

#include <cstddef>

#if defined(SYSALLOC_OVERRIDE_MALLOC)
#include "process_malloc.hpp"
#endif

namespace sysalloc::detail::c_library {

#if defined(SYSALLOC_OVERRIDE_MALLOC)

inline void* malloc(std::size_t size) noexcept { return process_malloc().malloc(size); }
inline void* calloc(std::size_t count, std::size_t size) noexcept {
  return process_malloc().calloc(count, size);
}
inline void* realloc(void* ptr, std::size_t size) noexcept {
  return process_malloc().realloc(ptr, size);
}
inline int posix_memalign(void** ptr, std::size_t align, std::size_t size) noexcept {
  return process_malloc().posix_memalign(ptr, align, size);
}
inline void free(void* ptr) noexcept { process_malloc().free(ptr); }

#else

using ::calloc;
using ::free;
using ::malloc;
using ::posix_memalign;
using ::realloc;

#endif

}  // namespace sysalloc::detail::c_library

#endif  // SYSALLOC_SRC_C_LIBRARY_HPP_
