// System on Unix: malloc, calloc, realloc, free and posix_memalign.
//
// The invariant: every block of System is a block of the C library, at the address that the C
// library returned. So free() takes any of them whatever its layout, usable_size needs no record
// of our own, and sanitizers, valgrind and heap profilers see each block as the program's own.
//
// Another platform is one more file with the same functions in the same order.

#include <sys/mman.h>
#include <unistd.h>

#if defined(__APPLE__)
#include <malloc/malloc.h>
#elif defined(__FreeBSD__)
#include <malloc_np.h>
#else
#include <malloc.h>
#endif

#include <bit>
#include <cassert>
#include <cstring>
#include <sysalloc/system.hpp>

#include "c_library.hpp"

// The override compiles this file into itself (override/override.cpp), so that a call of operator
// new reaches malloc without a jump in between. There the definitions are inline, so that a program
// may link the library as well.
#ifndef SYSALLOC_SYSTEM_INLINE
#define SYSALLOC_SYSTEM_INLINE
#endif

namespace sysalloc {
namespace {

namespace c_library = detail::c_library;

// malloc aligns to min_align, but some mallocs (jemalloc and TCMalloc among them) align a block
// smaller than that only to its size, so an alignment above the size may not be left to them. See
// https://github.com/rust-lang/rust/issues/45955 for how that was found.
constexpr bool malloc_aligns(Layout layout) noexcept {
  return layout.align() <= System::min_align && layout.align() <= layout.size();
}

// posix_memalign and not aligned_alloc, since the latter is specified only for sizes that are a
// multiple of the alignment, and older systems lack it.
void* aligned_malloc(Layout layout) noexcept {
#if defined(__APPLE__)
  // Apple's posix_memalign crashes for alignments that do not fit 32 bits.
  if (layout.align() > (std::size_t{1} << 31)) return nullptr;
#endif
  // An alignment below a pointer's size is an error to posix_memalign.
  const std::size_t align = layout.align() < sizeof(void*) ? sizeof(void*) : layout.align();
  void* ptr = nullptr;
  return c_library::posix_memalign(&ptr, align, layout.size()) == 0 ? ptr : nullptr;
}

bool is_aligned(const void* ptr, std::size_t align) noexcept {
  return (reinterpret_cast<std::uintptr_t>(ptr) & (align - 1)) == 0;
}

// A block that shrank in place still occupies its old size. From this many bytes on, the whole
// pages of the tail go back to the system: below, the call costs more than the memory is worth.
constexpr std::size_t release_threshold = std::size_t{128} << 10;

// Drops the contents of the whole pages between two offsets of a block. The addresses stay
// allocated and read as zero. Only advice: where it fails the memory is just not given back.
void release_pages(void* block, std::size_t from, std::size_t to) noexcept {
#if defined(MADV_DONTNEED) && defined(__linux__)
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto base = reinterpret_cast<std::uintptr_t>(block);
  const std::uintptr_t first = (base + from + page - 1) & ~(page - 1);
  const std::uintptr_t last = (base + to) & ~(page - 1);
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
#else
  static_cast<void>(block);
  static_cast<void>(from);
  static_cast<void>(to);
#endif
}

}  // namespace

SYSALLOC_SYSTEM_INLINE void* System::alloc(Layout layout) const noexcept {
  assert(layout.size() != 0 && "System::alloc: size zero");
  if (malloc_aligns(layout)) [[likely]] {
    return c_library::malloc(layout.size());
  }
  return aligned_malloc(layout);
}

SYSALLOC_SYSTEM_INLINE void* System::alloc_zeroed(Layout layout) const noexcept {
  assert(layout.size() != 0 && "System::alloc_zeroed: size zero");
  if (malloc_aligns(layout)) return c_library::calloc(layout.size(), 1);
  void* const ptr = aligned_malloc(layout);
  if (ptr != nullptr) std::memset(ptr, 0, layout.size());
  return ptr;
}

SYSALLOC_SYSTEM_INLINE void System::dealloc(void* ptr, Layout /*layout*/) const noexcept {
  c_library::free(ptr);
}

SYSALLOC_SYSTEM_INLINE void System::dealloc_unsized(void* ptr,
                                                    std::size_t /*align*/) const noexcept {
  c_library::free(ptr);
}

SYSALLOC_SYSTEM_INLINE void* System::realloc(void* ptr, Layout layout,
                                             std::size_t new_size) const noexcept {
  const auto new_layout = Layout::from_size_align(new_size, layout.align());
  return new_layout ? realloc(ptr, layout, *new_layout) : nullptr;
}

SYSALLOC_SYSTEM_INLINE void* System::realloc(void* ptr, Layout layout,
                                             Layout new_layout) const noexcept {
  assert(new_layout.size() != 0 && "System::realloc: size zero");
  if (malloc_aligns(layout) && malloc_aligns(new_layout)) {
    return c_library::realloc(ptr, new_layout.size());
  }
  // The C library's realloc may move the block to where only min_align holds, so it is no help.
  const std::size_t usable = usable_size(ptr);
  if (new_layout.size() <= usable && is_aligned(ptr, new_layout.align())) {
    if (usable - new_layout.size() >= release_threshold) {
      release_pages(ptr, new_layout.size(), usable);
    }
    return ptr;
  }
  return detail::realloc_by_copy(*this, ptr, layout, new_layout);
}

SYSALLOC_SYSTEM_INLINE std::size_t System::usable_size(const void* ptr,
                                                       std::size_t /*align*/) const noexcept {
#if defined(__APPLE__)
  return malloc_size(ptr);
#else
  // The parameter is not const in the C library, though the block is only looked up.
  return malloc_usable_size(const_cast<void*>(ptr));
#endif
}

}  // namespace sysalloc
