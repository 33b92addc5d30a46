// StdAllocator<T, A>: any allocator of this library for the containers of the standard library.

#ifndef SYSALLOC_STD_ALLOCATOR_HPP_
#define SYSALLOC_STD_ALLOCATOR_HPP_

#include <cstddef>
#include <memory>
#include <new>
#include <sysalloc/detail/compiler.hpp>
#include <sysalloc/detail/handle.hpp>
#include <sysalloc/detail/operators.hpp>
#include <sysalloc/global.hpp>
#include <sysalloc/global_alloc.hpp>
#include <sysalloc/layout.hpp>
#include <type_traits>

namespace sysalloc {

/// Meets the Cpp17Allocator requirements ([allocator.requirements]) over an A: `std::vector<int,
/// StdAllocator<int, System>>`. Stateless, default constructible and always equal when A is an
/// empty type whose default constructor is noexcept. Otherwise it refers to an A that must outlive
/// the container, and two are equal when they refer to the same one; a ByRef is kept by value.
/// Follows containers when they are copied, moved and swapped. As thread-safe as A.
template <class T, GlobalAlloc A = Global>
class StdAllocator {
 public:
  using value_type = T;
  using is_always_equal = std::bool_constant<detail::stateless<A>>;
  // The allocator that made a block travels with it, so that no operation has to copy elements only
  // because the allocators differ.
  using propagate_on_container_copy_assignment = std::true_type;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;

  template <class U>
  struct rebind {
    using other = StdAllocator<U, A>;
  };

  constexpr StdAllocator() noexcept
    requires detail::stateless<A>
  = default;

  /// Refers to `allocator`. Not explicit, so that a container can be given an A itself.
  constexpr StdAllocator(const A& allocator) noexcept  // NOLINT(google-explicit-constructor)
      : handle_(allocator) {}

  template <class U>
  constexpr StdAllocator(
      const StdAllocator<U, A>& other) noexcept  // NOLINT(google-explicit-constructor)
      : handle_(other.handle_) {}

  /// Memory for `count` objects of T. Throws std::bad_array_new_length when the size would exceed
  /// PTRDIFF_MAX and std::bad_alloc when A has no memory.
  [[nodiscard]] T* allocate(std::size_t count) {
    const auto layout = Layout::array<T>(count);
    if (!layout) {
#if defined(__cpp_exceptions)
      throw std::bad_array_new_length();
#else
      detail::throw_bad_alloc();
#endif
    }
    if (layout->size() == 0) return reinterpret_cast<T*>(layout->dangling());
    void* const ptr = handle_.get().alloc(*layout);
    if (ptr == nullptr) detail::throw_bad_alloc();
    return static_cast<T*>(ptr);
  }

#if defined(__cpp_lib_allocate_at_least)
  /// As allocate; tells how many objects there is room for. As many as were asked for: a larger
  /// count could not be told to A when the block is freed.
  [[nodiscard]] std::allocation_result<T*, std::size_t> allocate_at_least(std::size_t count) {
    return {allocate(count), count};
  }
#endif

  /// Frees what allocate(count) returned.
  void deallocate(T* ptr, std::size_t count) noexcept {
    if (count == 0) return;
    handle_.get().dealloc(ptr, Layout::from_size_align_unchecked(count * sizeof(T), alignof(T)));
  }

  // A member, which the declaration below lets see the handle of any StdAllocator<U, A>.
  template <class U>
  [[nodiscard]] constexpr bool operator==(const StdAllocator<U, A>& other) const noexcept {
    return handle_ == other.handle_;
  }

 private:
  template <class U, GlobalAlloc B>
  friend class StdAllocator;

  SYSALLOC_NO_UNIQUE_ADDRESS detail::Handle<A> handle_;
};

}  // namespace sysalloc

#endif  // SYSALLOC_STD_ALLOCATOR_HPP_
