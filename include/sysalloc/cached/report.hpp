// What Cached says when it finds that a program used it wrongly.
//
// Each message names the address, the size class, what was wrong and what to do. Nothing here
// allocates. It ends the program: its heap can no longer be trusted.

#ifndef SYSALLOC_CACHED_REPORT_HPP_
#define SYSALLOC_CACHED_REPORT_HPP_

#include <cstddef>
#include <sysalloc/detail/compiler.hpp>
#include <sysalloc/detail/fatal.hpp>
#include <sysalloc/detail/text.hpp>

namespace sysalloc::detail::cached {

/// What `hardening` decides: a block freed with a wrong size ends the program, or is freed with its
/// true size and counted.
#if defined(SYSALLOC_HARDENING_ABORT)
inline constexpr bool wrong_size_is_fatal = true;
#else
inline constexpr bool wrong_size_is_fatal = false;
#endif

/// A line or a few sentences.
using Text = detail::Text<400>;

/// `size` is that of the block's class, or 0 when it is unknown.
[[noreturn]] SYSALLOC_COLD SYSALLOC_NOINLINE inline void report(const char* what, const void* ptr,
                                                                std::size_t size,
                                                                const char* advice) noexcept {
  Text text;
  text << what << " at " << ptr;
  if (size != 0) text << " (size class of " << size << " bytes)";
  fatal((text << ": " << advice).c_str());
}

[[noreturn]] SYSALLOC_COLD SYSALLOC_NOINLINE inline void report_double_free(
    const void* ptr, std::size_t size) noexcept {
  report("block freed twice", ptr, size,
         "it was free already when it was freed again. Run the program under AddressSanitizer or "
         "valgrind to see both places");
}

[[noreturn]] SYSALLOC_COLD SYSALLOC_NOINLINE inline void report_interior(
    const void* ptr, std::size_t size) noexcept {
  report("interior pointer freed", ptr, size,
         "no block begins there. Delete the address that operator new returned; a base class "
         "without a virtual destructor and delete[] for new are frequent causes");
}

[[noreturn]] SYSALLOC_COLD SYSALLOC_NOINLINE inline void report_foreign(const void* ptr) noexcept {
  report("foreign pointer freed", ptr, 0,
         "it is not of this heap, and the allocator below it cannot free without a size. Free it "
         "with the function that belongs to what allocated it");
}

[[noreturn]] SYSALLOC_COLD SYSALLOC_NOINLINE inline void report_out_of_reach(
    const void* ptr) noexcept {
  report("memory out of reach", ptr, 0,
         "the allocator below this heap moved a block to an address that the heap cannot describe. "
         "Take realloc from that allocator, and the heap copies the block itself");
}

[[noreturn]] SYSALLOC_COLD SYSALLOC_NOINLINE inline void report_wrong_size(
    const void* ptr, std::size_t size, std::size_t freed) noexcept {
  Text text;
  text << "block freed with a wrong size at " << ptr << ": it has " << size
       << " bytes (its size class) and was deleted as one of " << freed
       << ". A base class without a virtual destructor and a cast pointer are frequent causes; "
          "the build option hardening=repair tolerates it";
  fatal(text.c_str());
}

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_REPORT_HPP_
