// System: the default allocator of the operating system, as a value.
//
// Based on malloc on Unix and HeapAlloc on Windows, one file per platform in src/. Where comments
// here name a function of the C library, read HeapAlloc, HeapReAlloc, HeapFree and HeapSize for
// malloc, realloc, free and malloc_usable_size on Windows.
//
// It does not go through operator new, so it stays what it is in a program whose global allocator
// is another one, and that other one can be built on it.
//
// A block of System is freed by System only: do not free() it or hand it a pointer from malloc.
// That the two coincide for most blocks on Unix is how it is made, not what it promises.

#ifndef SYSALLOC_SYSTEM_HPP_
#define SYSALLOC_SYSTEM_HPP_

#include <cstddef>
#include <iosfwd>
#include <sysalloc/allocator.hpp>
#include <sysalloc/detail/text.hpp>
#include <sysalloc/global_alloc.hpp>
#include <sysalloc/layout.hpp>

namespace sysalloc {

/// The operating system's allocator. An empty value: every System equals every other, and a block
/// allocated by one may be freed by another. Both a GlobalAlloc and an Allocator.
///
/// Every member may be called from any thread at any time, before main and after it and in the
/// child of a fork, as far as the C library's own allocator may. None throws. The source of the
/// design is Rust's std::alloc::System.
struct System : AllocatorInterface<System> {
  /// The alignment in bytes that the platform gives every block at least as large without being
  /// asked: 16 on 64-bit targets, 8 on 32-bit ones. Up to it an allocation costs one malloc.
  static constexpr std::size_t min_align = 2 * sizeof(void*);

  /// Allocates layout.size() bytes (not zero) at a multiple of layout.align(), contents
  /// indeterminate. nullptr when the system has no memory. Costs one malloc, or above min_align one
  /// posix_memalign (POSIX.1-2024).
  [[nodiscard]] void* alloc(Layout layout) const noexcept;

  /// As alloc, with every byte zero. Up to min_align one calloc, which need not touch pages that
  /// come zeroed from the kernel; above it the block is cleared here.
  [[nodiscard]] void* alloc_zeroed(Layout layout) const noexcept;

  /// Frees the block at `ptr` that has `layout` now. A null pointer is ignored, as free ignores it.
  /// Costs one free.
  void dealloc(void* ptr, Layout layout) const noexcept;

  /// Frees the block at `ptr` whose size the caller does not know. `align` is the alignment it was
  /// allocated with; it matters on Windows alone. A null pointer is ignored.
  void dealloc_unsized(void* ptr, std::size_t align) const noexcept;

  /// Whose deallocation the constants tell of: not that of an allocator that derives from this one.
  using PropertiesOf = System;
  /// operator delete need not test for null (DeallocIgnoresNull).
  static constexpr bool dealloc_ignores_null = true;
  /// operator new asks for an alignment that malloc gives (DeallocIgnoresAlign). On Windows the
  /// alignment tells where a block begins.
#if defined(_WIN32)
  static constexpr bool dealloc_ignores_align = false;
#else
  static constexpr bool dealloc_ignores_align = true;
#endif

  /// Resizes a block to `new_size` bytes (not zero) of the same alignment; contents are kept up to
  /// the smaller size. nullptr on failure, and the old block is untouched. See below for the cost.
  [[nodiscard]] void* realloc(void* ptr, Layout layout, std::size_t new_size) const noexcept;

  /// As above, to a whole new layout. Costs one realloc as long as neither alignment exceeds
  /// min_align. Otherwise the block stays where it is when its address satisfies the new alignment
  /// and its usable size the new size, and whole pages that a shrunk block no longer needs are
  /// given back; only what is left costs an allocation and a copy. On Windows a block stays also
  /// where the heap has room behind it, and never when the alignment crosses min_align.
  [[nodiscard]] void* realloc(void* ptr, Layout layout, Layout new_layout) const noexcept;

  /// The bytes that the block at `ptr` (not null) really holds: at least what was asked for. All
  /// of them may be used after a realloc or grow to that size, which then stays in place. Under a
  /// sanitizer or valgrind it is exactly what was asked for. Costs one malloc_usable_size.
  ///
  /// `align` is the alignment that the block has by its layout now. Windows cannot tell without it
  /// where a block above min_align begins; elsewhere it changes nothing.
  [[nodiscard]] std::size_t usable_size(const void* ptr, std::size_t align = 1) const noexcept;

  friend constexpr bool operator==(System, System) noexcept { return true; }
};

/// Prints `System`.
template <class Char, class Traits>
std::basic_ostream<Char, Traits>& operator<<(std::basic_ostream<Char, Traits>& out, System) {
  return out << "System";
}

}  // namespace sysalloc

#if defined(__cpp_lib_format)
/// Formats as `System`; takes the width, fill and precision of a string.
template <>
struct std::formatter<sysalloc::System> : sysalloc::detail::TextFormatter {
  template <class Context>
  auto format(sysalloc::System, Context& context) const {
    return write("System", context);
  }
};
#endif

#endif  // SYSALLOC_SYSTEM_HPP_
