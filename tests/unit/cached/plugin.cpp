// A library that uses Cached by itself. Loaded by dlopen.cpp.

#include "plugin.hpp"

#include <sysalloc/cached.hpp>

namespace {

constexpr sysalloc::Cached<> heap;

}  // namespace

extern "C" [[gnu::visibility("default")]] void* plugin_alloc(std::size_t size) {
  return heap.alloc(sysalloc::Layout::from_size_align_unchecked(size, 8));
}

extern "C" [[gnu::visibility("default")]] void plugin_dealloc(void* ptr, std::size_t size) {
  heap.dealloc(ptr, sysalloc::Layout::from_size_align_unchecked(size, 8));
}

extern "C" [[gnu::visibility("default")]] std::size_t plugin_live() {
  return sysalloc::Cached<>::stats().live;
}
