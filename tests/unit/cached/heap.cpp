// The heap that most of these programs test.

#include "support.hpp"

namespace tests {

namespace {

constexpr sysalloc::Cached<Backend> cached;

}  // namespace

void* Heap::alloc(Layout layout) const noexcept { return cached.alloc(layout); }

void* Heap::alloc_zeroed(Layout layout) const noexcept { return cached.alloc_zeroed(layout); }

void Heap::dealloc(void* ptr, Layout layout) const noexcept { cached.dealloc(ptr, layout); }

void Heap::dealloc_unsized(void* ptr, std::size_t align) const noexcept {
  cached.dealloc_unsized(ptr, align);
}

void* Heap::realloc(void* ptr, Layout layout, std::size_t new_size) const noexcept {
  return cached.realloc(ptr, layout, new_size);
}

void* Heap::realloc(void* ptr, Layout layout, Layout new_layout) const noexcept {
  return cached.realloc(ptr, layout, new_layout);
}

std::size_t Heap::usable_size(const void* ptr, std::size_t align) const noexcept {
  return cached.usable_size(ptr, align);
}

void Heap::purge() noexcept { cached.purge(); }

sysalloc::CachedStats Heap::stats() noexcept { return cached.stats(); }

}  // namespace tests
