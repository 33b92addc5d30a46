// MemoryResource<A>: any allocator of this library behind std::pmr.

#ifndef SYSALLOC_MEMORY_RESOURCE_HPP_
#define SYSALLOC_MEMORY_RESOURCE_HPP_

#include <bit>
#include <cstddef>
#include <memory_resource>
#include <sysalloc/detail/compiler.hpp>
#include <sysalloc/detail/handle.hpp>
#include <sysalloc/detail/operators.hpp>
#include <sysalloc/global.hpp>
#include <sysalloc/global_alloc.hpp>
#include <sysalloc/layout.hpp>

namespace sysalloc {

/// A std::pmr::memory_resource ([mem.res.class]) over an A. Default constructible when A is an
/// empty type whose default constructor is noexcept; otherwise it refers to an A that must outlive
/// it, and a ByRef is kept by value. Equal to another MemoryResource<A> over the same A, and to
/// nothing else; without run-time type information, which tells that, to itself alone. As
/// thread-safe as A; costs a virtual call on top of it.
template <GlobalAlloc A = Global>
class MemoryResource : public std::pmr::memory_resource {
 public:
  MemoryResource() noexcept
    requires detail::stateless<A>
  = default;

  /// Refers to `allocator`.
  explicit MemoryResource(const A& allocator) noexcept : handle_(allocator) {}

 private:
  // Throws std::bad_alloc when A has no memory and when no Layout has this size and alignment.
  void* do_allocate(std::size_t bytes, std::size_t align) override {
    const auto layout = Layout::from_size_align(detail::served_size(bytes), align);
    void* const ptr = layout ? handle_.get().alloc(*layout) : nullptr;
    if (ptr == nullptr) detail::throw_bad_alloc();
    return ptr;
  }

  void do_deallocate(void* ptr, std::size_t bytes, std::size_t align) override {
    handle_.get().dealloc(ptr,
                          Layout::from_size_align_unchecked(detail::served_size(bytes), align));
  }

  [[nodiscard]] bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    if (this == &other) return true;
#if defined(__cpp_rtti)
    const auto* const same = dynamic_cast<const MemoryResource*>(&other);
    return same != nullptr && handle_ == same->handle_;
#else
    return false;
#endif
  }

  SYSALLOC_NO_UNIQUE_ADDRESS detail::Handle<A> handle_;
};

}  // namespace sysalloc

#endif  // SYSALLOC_MEMORY_RESOURCE_HPP_
