// System on Windows: HeapAlloc, HeapReAlloc, HeapFree and HeapSize, of the heap of the process.
//
// The invariant: the alignment of its layout tells where a block of System begins.
//
//   up to min_align   at the address that the heap returned;
//   above             inside a larger block of the heap, at a multiple of the alignment, with a
//                     Header just before it that holds the address that the heap returned:
//
//     start                                    start + offset == what alloc returns
//     | up to align bytes ...        | Header  | layout.size() bytes
//
// So whoever gets a pointer of System needs its alignment to find the start: dealloc and realloc
// have it from the layout, dealloc_unsized and usable_size from their second parameter. A block
// that changes from one kind to the other moves.
//
// The same functions in the same order as in system_unix.cpp.

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <sysalloc/detail/visibility.hpp>
#include <sysalloc/system.hpp>

#include "windows.hpp"

// Alike in the library and in the override (detail/visibility.hpp), which compiles this file into
// itself.
#ifndef SYSALLOC_SYSTEM_INLINE
#define SYSALLOC_SYSTEM_INLINE SYSALLOC_SHARED_DEFINITION
#endif

namespace sysalloc {
namespace {

static_assert(System::min_align == MEMORY_ALLOCATION_ALIGNMENT, "what HeapAlloc aligns to");

// What stands before a block whose alignment exceeds min_align.
struct Header {
  void* start;  // of the heap's block
};
static_assert(sizeof(Header) <= System::min_align && alignof(Header) <= System::min_align,
              "the least offset has room for it, aligned");

// Whatever the size: HeapAlloc aligns a block of one byte, too.
constexpr bool heap_aligns(std::size_t align) noexcept { return align <= System::min_align; }

// The heap that the C library of the program uses, too. Never null.
HANDLE heap() noexcept { return GetProcessHeap(); }

Header* header_of(void* ptr) noexcept { return static_cast<Header*>(ptr) - 1; }

// Where the heap's block of the block at `ptr` begins.
void* start_of(void* ptr, std::size_t align) noexcept {
  return heap_aligns(align) ? ptr : header_of(ptr)->start;
}

void* heap_alloc(Layout layout, DWORD flags) noexcept {
  if (heap_aligns(layout.align())) return HeapAlloc(heap(), flags, layout.size());
  // At most PTRDIFF_MAX + 1 by what a Layout is, so the sum does not wrap around.
  void* const start = HeapAlloc(heap(), flags, layout.size() + layout.align());
  if (start == nullptr) return nullptr;
  // From min_align to layout.align() bytes, for the heap's block is a multiple of min_align.
  const std::size_t offset =
      layout.align() - (reinterpret_cast<std::uintptr_t>(start) & (layout.align() - 1));
  void* const ptr = static_cast<std::byte*>(start) + offset;
  std::construct_at(header_of(ptr), Header{start});
  return ptr;
}

bool is_aligned(const void* ptr, std::size_t align) noexcept {
  return (reinterpret_cast<std::uintptr_t>(ptr) & (align - 1)) == 0;
}

// A block that shrank in place still occupies its old size. From this many bytes on, the tail goes
// back to the heap: below, the call costs more than the memory is worth.
constexpr std::size_t release_threshold = std::size_t{128} << 10;

// Changes the size of an over-aligned block where it is. False where the heap cannot.
bool resize_in_place(void* ptr, std::size_t size) noexcept {
  void* const start = header_of(ptr)->start;
  const auto offset =
      static_cast<std::size_t>(static_cast<std::byte*>(ptr) - static_cast<std::byte*>(start));
  if (size > std::size_t{PTRDIFF_MAX} - offset) return false;
  return HeapReAlloc(heap(), HEAP_REALLOC_IN_PLACE_ONLY, start, offset + size) != nullptr;
}

}  // namespace

SYSALLOC_SYSTEM_INLINE void* System::alloc(Layout layout) const noexcept {
  assert(layout.size() != 0 && "System::alloc: size zero");
  return heap_alloc(layout, 0);
}

SYSALLOC_SYSTEM_INLINE void* System::alloc_zeroed(Layout layout) const noexcept {
  assert(layout.size() != 0 && "System::alloc_zeroed: size zero");
  return heap_alloc(layout, HEAP_ZERO_MEMORY);
}

SYSALLOC_SYSTEM_INLINE void System::dealloc(void* ptr, Layout layout) const noexcept {
  dealloc_unsized(ptr, layout.align());
}

SYSALLOC_SYSTEM_INLINE void System::dealloc_unsized(void* ptr, std::size_t align) const noexcept {
  // HeapFree does not promise to ignore null, and null has no header.
  if (ptr != nullptr) HeapFree(heap(), 0, start_of(ptr, align));
}

SYSALLOC_SYSTEM_INLINE void* System::realloc(void* ptr, Layout layout,
                                             std::size_t new_size) const noexcept {
  const auto new_layout = Layout::from_size_align(new_size, layout.align());
  return new_layout ? realloc(ptr, layout, *new_layout) : nullptr;
}

SYSALLOC_SYSTEM_INLINE void* System::realloc(void* ptr, Layout layout,
                                             Layout new_layout) const noexcept {
  assert(new_layout.size() != 0 && "System::realloc: size zero");
  const bool direct = heap_aligns(layout.align());
  if (direct && heap_aligns(new_layout.align())) {
    return HeapReAlloc(heap(), 0, ptr, new_layout.size());
  }
  // HeapReAlloc may move an over-aligned block to where only min_align holds, so it has to stay in
  // place. One whose header comes or goes cannot.
  if (!direct && !heap_aligns(new_layout.align()) && is_aligned(ptr, new_layout.align())) {
    const std::size_t usable = usable_size(ptr, layout.align());
    if (new_layout.size() <= usable) {
      // Where that fails the memory is just not given back.
      if (usable - new_layout.size() >= release_threshold) resize_in_place(ptr, new_layout.size());
      return ptr;
    }
    if (resize_in_place(ptr, new_layout.size())) return ptr;
  }
  return detail::realloc_by_copy(*this, ptr, layout, new_layout);
}

SYSALLOC_SYSTEM_INLINE std::size_t System::usable_size(const void* ptr,
                                                       std::size_t align) const noexcept {
  // The block is only looked up.
  auto* const block = static_cast<std::byte*>(const_cast<void*>(ptr));
  auto* const start = static_cast<std::byte*>(start_of(block, align));
  return HeapSize(heap(), 0, start) - static_cast<std::size_t>(block - start);
}

}  // namespace sysalloc
