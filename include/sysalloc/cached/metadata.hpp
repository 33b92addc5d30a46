// Memory for descriptors of slabs, segments and large blocks.
//
// Bump allocation from chunks of the backend. None in use is ever given back, and descriptors are
// kept for reuse by whoever made them, so that a stale pointer to one always points to one.

#ifndef SYSALLOC_CACHED_METADATA_HPP_
#define SYSALLOC_CACHED_METADATA_HPP_

#include <cstddef>
#include <mutex>
#include <sysalloc/cached/mutex.hpp>
#include <sysalloc/cached/size_classes.hpp>
#include <sysalloc/layout.hpp>

namespace sysalloc::detail::cached {

class Metadata {
 public:
  static constexpr std::size_t align = 64;
  static constexpr std::size_t chunk_size = 64 * KiB;

  /// `size` bytes, at most chunk_size, zero or not, at a multiple of align. nullptr when the
  /// backend has no memory. The lock is not held while the backend is called.
  template <class Backend>
  [[nodiscard]] void* alloc(const Backend& backend, std::size_t size) noexcept {
    size = (size + align - 1) & ~(align - 1);
    {
      const std::lock_guard lock(mutex);
      if (void* const ptr = bump(size)) return ptr;
    }
    const auto layout = Layout::from_size_align_unchecked(chunk_size, align);
    void* const chunk = backend.alloc(layout);
    if (chunk == nullptr) return nullptr;
    void* ptr = nullptr;
    {
      const std::lock_guard lock(mutex);
      // Another thread may have brought one meanwhile.
      ptr = bump(size);
      if (ptr == nullptr) {
        next_ = static_cast<std::byte*>(chunk);
        end_ = next_ + chunk_size;
        bytes_ += chunk_size;
        return bump(size);
      }
    }
    backend.dealloc(chunk, layout);
    return ptr;
  }

  [[nodiscard]] std::size_t bytes() noexcept {
    const std::lock_guard lock(mutex);
    return bytes_;
  }

  Mutex mutex;

 private:
  void* bump(std::size_t size) noexcept {
    if (static_cast<std::size_t>(end_ - next_) < size) return nullptr;
    void* const ptr = next_;
    next_ += size;
    return ptr;
  }

  std::byte* next_ = nullptr;
  std::byte* end_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_METADATA_HPP_
