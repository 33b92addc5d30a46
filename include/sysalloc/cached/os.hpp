// What Cached needs of the operating system beside memory: one file for each, with the same
// functions and types in the same order.
//
//   real_page_size           how large a page is
//   milliseconds             a clock
//   KeepErrno                what a deallocation leaves as it was
//   release                  gives pages back
//   release_within           those that lie in a piece of memory as a whole
//   release_failed           did that ever fail?
//   release_to_zero          gives new pages back, and tells whether they are zero from then on
//   populate                 brings pages into residence
//   refuse_huge_pages        how large they are not to be
//   realloc_moves_pages      whether the C library's does not copy
//   is_told_what_to_keep     whether the user has said what the C library keeps
//   release_freed            has the C library give back what it keeps
//   expect_large_blocks      has it keep more
//   is_in_main_arena         whether the C library uses an address for the main thread
//   is_mapped                whether an address may be read
//   must_step_aside          whether somebody else has to see every block
//   Lock                     for a critical section
//   pause                    while another thread has the lock
//   this_thread              tells threads apart
//   is_single_threaded       where the system tells
//   at_fork                  handlers, where there is fork
//   stays_loaded             whether this code ends with the process
//   KeptError                where to write at the end of the program
//   program_name, process_id whose table that is
//   PerThread                a pointer of each thread, and what happens to it when the thread ends

#ifndef SYSALLOC_CACHED_OS_HPP_
#define SYSALLOC_CACHED_OS_HPP_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(_WIN32)
#include <sysalloc/cached/os_windows.hpp>
#else
#include <sysalloc/cached/os_unix.hpp>
#endif

namespace sysalloc::detail::cached::os {

/// As release(), of those pages that lie within `size` bytes from `address` on as a whole.
inline void release_within(std::uintptr_t address, std::size_t size) noexcept {
  const std::size_t page = real_page_size();
  const std::uintptr_t first = (address + page - 1) & ~(page - 1);
  const std::uintptr_t end = (address + size) & ~(page - 1);
  if (first < end) release(first, end - first);
}

/// Does the environment have a variable of that name with the value 1?
inline bool wants(const char* name) noexcept {
  const char* const value = std::getenv(name);
  return value != nullptr && std::strcmp(value, "1") == 0;
}

}  // namespace sysalloc::detail::cached::os

#endif  // SYSALLOC_CACHED_OS_HPP_
