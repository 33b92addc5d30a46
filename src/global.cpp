// The global allocator of a program that links the library and not the override: System.
//
// Weak, so that SYSALLOC_GLOBAL_ALLOCATOR or an override object, wherever they stand on the link
// line, take their place.

#include <sysalloc/global.hpp>
#include <sysalloc/system.hpp>

namespace sysalloc {

SYSALLOC_WEAK void* alloc(Layout layout) noexcept { return System{}.alloc(layout); }

SYSALLOC_WEAK void* alloc_zeroed(Layout layout) noexcept { return System{}.alloc_zeroed(layout); }

SYSALLOC_WEAK void dealloc(void* ptr, Layout layout) noexcept { System{}.dealloc(ptr, layout); }

SYSALLOC_WEAK void* realloc(void* ptr, Layout layout, std::size_t new_size) noexcept {
  return System{}.realloc(ptr, layout, new_size);
}

SYSALLOC_WEAK void* realloc(void* ptr, Layout layout, Layout new_layout) noexcept {
  return System{}.realloc(ptr, layout, new_layout);
}

}  // namespace sysalloc
