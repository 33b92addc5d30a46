// The program's global allocator, as functions and as a value.
//
// What it is, is settled at link time: System, unless one file of the program says
// SYSALLOC_GLOBAL_ALLOCATOR (global_allocator.hpp) or the override object that is linked was built
// for another one. operator new and delete go to the same allocator once the override is linked,
// but their blocks are not interchangeable with these: an operator may keep the size beside the
// block, which these never need.
//
// The counterparts in Rust are the functions and the type Global of the alloc::alloc module.

#ifndef SYSALLOC_GLOBAL_HPP_
#define SYSALLOC_GLOBAL_HPP_

#include <cstddef>
#include <iosfwd>
#include <sysalloc/allocator.hpp>
#include <sysalloc/detail/text.hpp>
#include <sysalloc/detail/visibility.hpp>
#include <sysalloc/layout.hpp>

namespace sysalloc {

/// Allocates a block from the global allocator; nullptr on failure. The size is not zero. As
/// thread-safe and as costly as the global allocator's own alloc, and a call.
[[nodiscard]] SYSALLOC_EXPORT void* alloc(Layout layout) noexcept;

/// As alloc, with every byte zero.
[[nodiscard]] SYSALLOC_EXPORT void* alloc_zeroed(Layout layout) noexcept;

/// Frees a block of the global allocator, not null, with the layout that it has now.
SYSALLOC_EXPORT void dealloc(void* ptr, Layout layout) noexcept;

/// Resizes a block of the global allocator to `new_size` bytes (not zero) of the same alignment.
/// nullptr on failure, and the old block is untouched.
[[nodiscard]] SYSALLOC_EXPORT void* realloc(void* ptr, Layout layout,
                                            std::size_t new_size) noexcept;

/// As above, to a whole new layout: the alignment may change too.
[[nodiscard]] SYSALLOC_EXPORT void* realloc(void* ptr, Layout layout, Layout new_layout) noexcept;

/// An empty Allocator (and GlobalAlloc) that goes to the global allocator. Every Global equals
/// every other.
struct Global : AllocatorInterface<Global> {
  [[nodiscard]] void* alloc(Layout layout) const noexcept { return sysalloc::alloc(layout); }
  [[nodiscard]] void* alloc_zeroed(Layout layout) const noexcept {
    return sysalloc::alloc_zeroed(layout);
  }
  void dealloc(void* ptr, Layout layout) const noexcept { sysalloc::dealloc(ptr, layout); }
  [[nodiscard]] void* realloc(void* ptr, Layout layout, std::size_t new_size) const noexcept {
    return sysalloc::realloc(ptr, layout, new_size);
  }
  [[nodiscard]] void* realloc(void* ptr, Layout layout, Layout new_layout) const noexcept {
    return sysalloc::realloc(ptr, layout, new_layout);
  }
  friend constexpr bool operator==(Global, Global) noexcept { return true; }
};

/// Prints `Global`.
template <class Char, class Traits>
std::basic_ostream<Char, Traits>& operator<<(std::basic_ostream<Char, Traits>& out, Global) {
  return out << "Global";
}

}  // namespace sysalloc

#if defined(__cpp_lib_format)
/// Formats as `Global`; takes the width, fill and precision of a string.
template <>
struct std::formatter<sysalloc::Global> : sysalloc::detail::TextFormatter {
  template <class Context>
  auto format(sysalloc::Global, Context& context) const {
    return write("Global", context);
  }
};
#endif

#endif  // SYSALLOC_GLOBAL_HPP_
