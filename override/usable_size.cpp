// malloc_usable_size(3) for programs that ask it about what came from operator new: with glibc's
// operators that is malloc's, and works (RocksDB does it). glibc itself would take for its own
// header whatever stands before a block of Cached.
//
// Part of override.cpp, where the allocator is Cached.

#include <malloc.h>

#include <atomic>
#include <cstddef>
#include <sysalloc/cached.hpp>
#include <sysalloc/detail/visibility.hpp>

#include "next.hpp"

extern "C" {
// The C library's own: by this name in static programs, and behind this one in others. The other is
// AddressSanitizer's.
// NOLINTBEGIN(bugprone-reserved-identifier)
__attribute__((weak)) std::size_t __malloc_usable_size(void* ptr);
__attribute__((weak)) std::size_t __interceptor_malloc_usable_size(void* ptr);
// NOLINTEND(bugprone-reserved-identifier)
}

namespace {

/// The one that stands behind this one; nullptr when there is none.
auto next_usable_size() noexcept -> std::size_t (*)(void*) {
  if (&__malloc_usable_size != nullptr) return __malloc_usable_size;
  if (&__interceptor_malloc_usable_size != nullptr) return __interceptor_malloc_usable_size;
  static constinit std::atomic<void*> found{nullptr};
  return reinterpret_cast<std::size_t (*)(void*)>(
      sysalloc::detail::next_of("malloc_usable_size", found));
}

}  // namespace

/// The bytes that the block at `ptr` really holds, whoever gave it out; 0 for a null pointer.
/// Thread-safe; costs two loads for blocks of Cached.
extern "C" SYSALLOC_EXPORT std::size_t malloc_usable_size(void* ptr) noexcept {
  if (ptr == nullptr) return 0;
  using Heap = sysalloc::detail::cached::Heap<sysalloc::System>;
  // Not of the backend's: for that System itself asks here.
  if (const std::size_t own = Heap::own_usable_size(ptr)) return own;
  const auto next = next_usable_size();
  return next == nullptr ? 0 : next(ptr);
}
