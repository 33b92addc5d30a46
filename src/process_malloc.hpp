// Whose malloc is behind the one of this library: glibc's, which has other names for that; or that
// of the program itself, where it exports one, which comes before what is preloaded.
//
// Firefox has one, and some forms of operator new and delete with it, but not all. What it
// allocates with its own gets here by the others, and has to go back to it. So this library then
// serves nobody: it hands on what it is asked (program_has_malloc).
#pragma once

#include <dlfcn.h>
#include <link.h>

#include <cerrno>
#include <cstddef>

// No header declares them. NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {
void* __libc_malloc(std::size_t size) noexcept;
void* __libc_calloc(std::size_t count, std::size_t size) noexcept;
void* __libc_realloc(void* ptr, std::size_t size) noexcept;
void* __libc_memalign(std::size_t align, std::size_t size) noexcept;
void __libc_free(void* ptr) noexcept;
}

namespace sysalloc::detail {

inline int glibc_posix_memalign(void** ptr, std::size_t align, std::size_t size) noexcept {
  *ptr = __libc_memalign(align, size);
  return *ptr == nullptr ? ENOMEM : 0;
}

struct MallocFunctions {
  void* (*malloc)(std::size_t size) noexcept;
  void* (*calloc)(std::size_t count, std::size_t size) noexcept;
  void* (*realloc)(void* ptr, std::size_t size) noexcept;
  int (*posix_memalign)(void** ptr, std::size_t align, std::size_t size) noexcept;
  void (*free)(void* ptr) noexcept;
};

inline constexpr MallocFunctions glibc_malloc{__libc_malloc, __libc_calloc, __libc_realloc,
                                              glibc_posix_memalign, __libc_free};
// NOLINTEND(bugprone-reserved-identifier)

/// The function of the program that comes before the one here; nullptr when none does.
inline void* before_this_library(const char* name, const void* here) noexcept {
  void* const first = dlsym(RTLD_DEFAULT, name);
  if (first == nullptr || first == here) return nullptr;
  // A program that is loaded where it was linked for may have a jump to the function here stand for
  // its address. It does not define it then.
  Dl_info info;
  void* entry = nullptr;
  if (dladdr1(first, &info, &entry, RTLD_DL_SYMENT) == 0 || entry == nullptr) return nullptr;
  return static_cast<const ElfW(Sym)*>(entry)->st_shndx == SHN_UNDEF ? nullptr : first;
}

/// Whoever that is, it stays. Thread-safe, and may be called before any constructor has run.
const MallocFunctions& process_malloc() noexcept;

}  // namespace sysalloc::detail
