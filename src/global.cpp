// The global allocator of a program that links the library and not the override: System.
//
// SYSALLOC_GLOBAL_ALLOCATOR or an override object, wherever they stand on the link line, take their
// place. On Windows before the library, as a linker's users are wont to put it.

#include <sysalloc/global.hpp>
#include <sysalloc/system.hpp>

namespace sysalloc {

SYSALLOC_LIBRARY_DEFAULT void* alloc(Layout layout) noexcept { return System{}.alloc(layout); }

SYSALLOC_LIBRARY_DEFAULT void* alloc_zeroed(Layout layout) noexcept {
  return System{}.alloc_zeroed(layout);
}

SYSALLOC_LIBRARY_DEFAULT void dealloc(void* ptr, Layout layout) noexcept {
  System{}.dealloc(ptr, layout);
}

SYSALLOC_LIBRARY_DEFAULT void* realloc(void* ptr, Layout layout, std::size_t new_size) noexcept {
  return System{}.realloc(ptr, layout, new_size);
}

SYSALLOC_LIBRARY_DEFAULT void* realloc(void* ptr, Layout layout, Layout new_layout) noexcept {
  return System{}.realloc(ptr, layout, new_layout);
}

}  // namespace sysalloc
