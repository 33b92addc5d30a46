// malloc and its kin as System calls them: those of the C library, also in a library that replaces
// them (override/malloc.cpp). For that one glibc has them by other names, too.

#ifndef SYSALLOC_SRC_C_LIBRARY_HPP_
#define SYSALLOC_SRC_C_LIBRARY_HPP_

// Not <cstdlib>, which need not declare posix_memalign.
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers)

#include <cerrno>
#include <cstddef>

#if defined(SYSALLOC_OVERRIDE_MALLOC)
// No header declares them. NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {
void* __libc_malloc(std::size_t size) noexcept;
void* __libc_calloc(std::size_t count, std::size_t size) noexcept;
void* __libc_realloc(void* ptr, std::size_t size) noexcept;
void* __libc_memalign(std::size_t align, std::size_t size) noexcept;
void __libc_free(void* ptr) noexcept;
}
#endif

namespace sysalloc::detail::c_library {

#if defined(SYSALLOC_OVERRIDE_MALLOC)

inline void* malloc(std::size_t size) noexcept { return __libc_malloc(size); }
inline void* calloc(std::size_t count, std::size_t size) noexcept {
  return __libc_calloc(count, size);
}
inline void* realloc(void* ptr, std::size_t size) noexcept { return __libc_realloc(ptr, size); }
inline int posix_memalign(void** ptr, std::size_t align, std::size_t size) noexcept {
  *ptr = __libc_memalign(align, size);
  return *ptr == nullptr ? ENOMEM : 0;
}
inline void free(void* ptr) noexcept { __libc_free(ptr); }
// NOLINTEND(bugprone-reserved-identifier)

#else

using ::calloc;
using ::free;
using ::malloc;
using ::posix_memalign;
using ::realloc;

#endif

}  // namespace sysalloc::detail::c_library

#endif  // SYSALLOC_SRC_C_LIBRARY_HPP_
