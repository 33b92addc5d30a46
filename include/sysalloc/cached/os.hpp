// What Cached needs of the operating system beside memory: giving pages back, and who watches.

#ifndef SYSALLOC_CACHED_OS_HPP_
#define SYSALLOC_CACHED_OS_HPP_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#if !defined(_WIN32)
#include <sys/mman.h>
#include <unistd.h>
#endif

// Defined by the run-time libraries of AddressSanitizer and its kin in every program that has them,
// by this name. NOLINTNEXTLINE(bugprone-reserved-identifier)
extern "C" __attribute__((weak)) void __asan_init();

namespace sysalloc::detail::cached::os {

/// The size of a page of memory, in bytes.
inline std::size_t real_page_size() noexcept {
#if defined(_WIN32)
  return 4096;
#else
  return static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
#endif
}

/// Gives the memory of whole pages back to the system; they read as zero when touched again. Only
/// advice (madvise(2)): where it fails, the memory stays resident.
inline void release(std::uintptr_t address, std::size_t size) noexcept {
#if defined(__linux__)
  madvise(reinterpret_cast<void*>(address), size, MADV_DONTNEED);
#else
  static_cast<void>(address);
  static_cast<void>(size);
#endif
}

/// Is a tool at work that must see every block by itself? AddressSanitizer brings its own symbols;
/// the tools of valgrind that watch the heap preload a library with their name into the program.
/// callgrind and its like are not among them: they count what the program really does.
inline bool memory_checker_present() noexcept {
  if (&__asan_init != nullptr) return true;
  const char* const preload = std::getenv("LD_PRELOAD");
  if (preload == nullptr) return false;
  for (const char* const tool : {"memcheck", "helgrind", "drd", "dhat", "massif"}) {
    const char* found = preload;
    while ((found = std::strstr(found, "vgpreload_")) != nullptr) {
      found += sizeof("vgpreload_") - 1;
      if (std::strncmp(found, tool, std::strlen(tool)) == 0) return true;
    }
  }
  return false;
}

/// Does the environment ask for a table of statistics at exit?
inline bool wants_stats() noexcept {
  const char* const value = std::getenv("SYSALLOC_STATS");
  return value != nullptr && std::strcmp(value, "1") == 0;
}

}  // namespace sysalloc::detail::cached::os

#endif  // SYSALLOC_CACHED_OS_HPP_
