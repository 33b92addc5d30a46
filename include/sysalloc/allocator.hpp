// Allocator: the interface for code that manages blocks itself, such as containers.
//
// It differs from GlobalAlloc in three ways: a result is a span or an AllocError and never a null
// pointer, blocks of size zero are served (and allocate nothing), and a block can grow and shrink
// to another alignment. The counterpart in Rust is core::alloc::Allocator.
//
// An allocator that is a GlobalAlloc gets all of it by deriving from AllocatorInterface.

#ifndef SYSALLOC_ALLOCATOR_HPP_
#define SYSALLOC_ALLOCATOR_HPP_

#include <cassert>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <expected>
#include <span>
#include <sysalloc/alloc_error.hpp>
#include <sysalloc/detail/compiler.hpp>
#include <sysalloc/detail/handle.hpp>
#include <sysalloc/global_alloc.hpp>
#include <sysalloc/layout.hpp>

namespace sysalloc {

/// The bytes of a block, or why there are none.
using AllocResult = std::expected<std::span<std::byte>, AllocError>;

/// An allocator with allocate, allocate_zeroed, deallocate, grow, grow_zeroed and shrink, as
/// AllocatorInterface below documents them.
template <class A>
concept Allocator = requires(const A& a, void* ptr, Layout layout) {
  { a.allocate(layout) } noexcept -> std::same_as<AllocResult>;
  { a.allocate_zeroed(layout) } noexcept -> std::same_as<AllocResult>;
  { a.deallocate(ptr, layout) } noexcept;
  { a.grow(ptr, layout, layout) } noexcept -> std::same_as<AllocResult>;
  { a.grow_zeroed(ptr, layout, layout) } noexcept -> std::same_as<AllocResult>;
  { a.shrink(ptr, layout, layout) } noexcept -> std::same_as<AllocResult>;
};

template <class A>
class ByRef;

/// Gives a GlobalAlloc the members of an Allocator: `struct Mine : AllocatorInterface<Mine>`.
/// Adds no state. Each member is as thread-safe as the GlobalAlloc below it, throws nothing, and
/// costs what the call below costs and a test for size zero.
template <class Self>
class AllocatorInterface {
 public:
  /// Allocates a block. The span has exactly layout.size() bytes, their contents indeterminate. A
  /// layout of size zero succeeds with an empty span at layout.dangling() and allocates nothing.
  [[nodiscard]] AllocResult allocate(Layout layout) const noexcept {
    if (layout.size() == 0) return empty(layout);
    return result(self().alloc(layout), layout);
  }

  /// As allocate, with every byte zero.
  [[nodiscard]] AllocResult allocate_zeroed(Layout layout) const noexcept {
    if (layout.size() == 0) return empty(layout);
    return result(sysalloc::alloc_zeroed(self(), layout), layout);
  }

  /// Frees the block at `ptr` that has `layout` now. Size zero does nothing.
  void deallocate(void* ptr, Layout layout) const noexcept {
    if (layout.size() != 0) self().dealloc(ptr, layout);
  }

  /// Makes a block at least as large: new_layout.size() >= layout.size(), asserted in debug builds.
  /// The alignment may change, up or down. Contents are kept, new bytes are indeterminate. On
  /// success `ptr` is no longer valid (it may be what is returned); on error the old block stays.
  [[nodiscard]] AllocResult grow(void* ptr, Layout layout, Layout new_layout) const noexcept {
    assert(new_layout.size() >= layout.size() && "grow: the new size is smaller");
    if (layout.size() == 0) return allocate(new_layout);
    return result(sysalloc::realloc(self(), ptr, layout, new_layout), new_layout);
  }

  /// As grow, with every byte beyond the old size zero.
  [[nodiscard]] AllocResult grow_zeroed(void* ptr, Layout layout,
                                        Layout new_layout) const noexcept {
    assert(new_layout.size() >= layout.size() && "grow_zeroed: the new size is smaller");
    if (layout.size() == 0) return allocate_zeroed(new_layout);
    const AllocResult grown = grow(ptr, layout, new_layout);
    if (grown) {
      std::memset(grown->data() + layout.size(), 0, new_layout.size() - layout.size());
    }
    return grown;
  }

  /// Makes a block at most as large: new_layout.size() <= layout.size(), asserted in debug builds.
  /// The alignment may change, up or down. To size zero it frees the block and returns an empty
  /// span at new_layout.dangling(). On error, which a raised alignment can cause, the old block
  /// stays.
  [[nodiscard]] AllocResult shrink(void* ptr, Layout layout, Layout new_layout) const noexcept {
    assert(new_layout.size() <= layout.size() && "shrink: the new size is larger");
    if (new_layout.size() == 0) {
      deallocate(ptr, layout);
      return empty(new_layout);
    }
    return result(sysalloc::realloc(self(), ptr, layout, new_layout), new_layout);
  }

  /// An Allocator that refers to this one, which must outlive it unless its type is empty or is
  /// itself a ByRef.
  [[nodiscard]] constexpr ByRef<Self> by_ref() const noexcept { return ByRef<Self>(self()); }

 private:
  constexpr const Self& self() const noexcept { return static_cast<const Self&>(*this); }

  static AllocResult empty(Layout layout) noexcept {
    return std::span<std::byte>(layout.dangling(), 0);
  }

  static AllocResult result(void* ptr, Layout layout) noexcept {
    if (ptr == nullptr) return std::unexpected(AllocError{});
    return std::span<std::byte>(static_cast<std::byte*>(ptr), layout.size());
  }
};

/// A copyable reference to an allocator, itself one with the same members: a GlobalAlloc if A is,
/// and an Allocator in any case, which calls A's own members where A is one. Two are equal when
/// they refer to the same allocator. Empty, and default constructible, when A is empty and has a
/// default constructor that is noexcept. The only kind of allocator with state that what refers to
/// allocators (ByRef, StdAllocator, MemoryResource) keeps a copy of.
template <class A>
class ByRef : public AllocatorInterface<ByRef<A>> {
  using Interface = AllocatorInterface<ByRef<A>>;

 public:
  constexpr ByRef() noexcept
    requires detail::stateless<A>
  = default;

  /// Refers to `allocator`, which must outlive this unless A is empty or a ByRef.
  constexpr explicit ByRef(const A& allocator) noexcept : handle_(allocator) {}

  [[nodiscard]] void* alloc(Layout layout) const noexcept
    requires GlobalAlloc<A>
  {
    return handle_.get().alloc(layout);
  }
  void dealloc(void* ptr, Layout layout) const noexcept
    requires GlobalAlloc<A>
  {
    handle_.get().dealloc(ptr, layout);
  }

  [[nodiscard]] void* alloc_zeroed(Layout layout) const noexcept
    requires GlobalAlloc<A>
  {
    return sysalloc::alloc_zeroed(handle_.get(), layout);
  }
  [[nodiscard]] void* realloc(void* ptr, Layout layout, std::size_t new_size) const noexcept
    requires GlobalAlloc<A>
  {
    return sysalloc::realloc(handle_.get(), ptr, layout, new_size);
  }
  [[nodiscard]] void* realloc(void* ptr, Layout layout, Layout new_layout) const noexcept
    requires GlobalAlloc<A>
  {
    return sysalloc::realloc(handle_.get(), ptr, layout, new_layout);
  }

  // As the interface has them, where A has none.
  [[nodiscard]] AllocResult allocate(Layout layout) const noexcept {
    if constexpr (Allocator<A>) {
      return handle_.get().allocate(layout);
    } else {
      return Interface::allocate(layout);
    }
  }
  [[nodiscard]] AllocResult allocate_zeroed(Layout layout) const noexcept {
    if constexpr (Allocator<A>) {
      return handle_.get().allocate_zeroed(layout);
    } else {
      return Interface::allocate_zeroed(layout);
    }
  }
  void deallocate(void* ptr, Layout layout) const noexcept {
    if constexpr (Allocator<A>) {
      handle_.get().deallocate(ptr, layout);
    } else {
      Interface::deallocate(ptr, layout);
    }
  }
  [[nodiscard]] AllocResult grow(void* ptr, Layout layout, Layout new_layout) const noexcept {
    if constexpr (Allocator<A>) {
      return handle_.get().grow(ptr, layout, new_layout);
    } else {
      return Interface::grow(ptr, layout, new_layout);
    }
  }
  [[nodiscard]] AllocResult grow_zeroed(void* ptr, Layout layout,
                                        Layout new_layout) const noexcept {
    if constexpr (Allocator<A>) {
      return handle_.get().grow_zeroed(ptr, layout, new_layout);
    } else {
      return Interface::grow_zeroed(ptr, layout, new_layout);
    }
  }
  [[nodiscard]] AllocResult shrink(void* ptr, Layout layout, Layout new_layout) const noexcept {
    if constexpr (Allocator<A>) {
      return handle_.get().shrink(ptr, layout, new_layout);
    } else {
      return Interface::shrink(ptr, layout, new_layout);
    }
  }

  [[nodiscard]] std::size_t usable_size(const void* ptr, std::size_t align = 1) const noexcept
    requires HasUsableSize<A>
  {
    return sysalloc::usable_size(handle_.get(), ptr, align);
  }
  void dealloc_unsized(void* ptr, std::size_t align) const noexcept
    requires HasDeallocUnsized<A>
  {
    handle_.get().dealloc_unsized(ptr, align);
  }

  /// As A's (DeallocIgnoresAlign).
  using PropertiesOf = ByRef;
  static constexpr bool dealloc_ignores_align = DeallocIgnoresAlign<A>;

  friend constexpr bool operator==(const ByRef& a, const ByRef& b) noexcept {
    return a.handle_ == b.handle_;
  }

 private:
  SYSALLOC_NO_UNIQUE_ADDRESS detail::Handle<A> handle_;
};

}  // namespace sysalloc

#endif  // SYSALLOC_ALLOCATOR_HPP_
