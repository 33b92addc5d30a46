// GlobalAlloc: the interface of an allocator that can stand behind operator new.
//
// Two members are required, the rest is optional. The functions of this file call an optional
// member where the allocator has it and otherwise do the same with the required two, as the
// provided methods of Rust's core::alloc::GlobalAlloc do. What every implementation promises:
//
//   - nothing throws; a failed allocation is a null pointer;
//   - every member may be called from any thread at any time, before main and after it;
//   - a block is resized and freed with the layout it was last allocated or resized with.
//
// An optional member counts only if it is const and noexcept; one that is not goes unused, without
// a word. One that is inherited counts: a type that derives from an allocator has its
// dealloc_unsized, realloc, alloc_zeroed, allocate and so on, which then bypass the type's own
// alloc and dealloc. So what wraps an allocator holds it as a member.
//
// A layout of size zero is the caller's mistake here (asserted in debug builds by those who
// implement it); the Allocator interface in allocator.hpp is the one that serves it.

#ifndef SYSALLOC_GLOBAL_ALLOC_HPP_
#define SYSALLOC_GLOBAL_ALLOC_HPP_

#include <cassert>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <sysalloc/layout.hpp>

namespace sysalloc {

/// An allocator with
///   void* alloc(Layout) const noexcept            nullptr on failure
///   void  dealloc(void*, Layout) const noexcept   the pointer is not null
template <class A>
concept GlobalAlloc = requires(const A& a, void* ptr, Layout layout) {
  { a.alloc(layout) } noexcept -> std::convertible_to<void*>;
  { a.dealloc(ptr, layout) } noexcept;
};

/// Has `void* alloc_zeroed(Layout) const noexcept`: as alloc, every byte of the block zero.
template <class A>
concept HasAllocZeroed = requires(const A& a, Layout layout) {
  { a.alloc_zeroed(layout) } noexcept -> std::convertible_to<void*>;
};

/// Has `void* realloc(void*, Layout, std::size_t new_size) const noexcept`.
template <class A>
concept HasRealloc = requires(const A& a, void* ptr, Layout layout, std::size_t new_size) {
  { a.realloc(ptr, layout, new_size) } noexcept -> std::convertible_to<void*>;
};

/// Has `void* realloc(void*, Layout, Layout new_layout) const noexcept`: the alignment may change.
template <class A>
concept HasReallocLayout = requires(const A& a, void* ptr, Layout layout, Layout new_layout) {
  { a.realloc(ptr, layout, new_layout) } noexcept -> std::convertible_to<void*>;
};

/// Has `std::size_t usable_size(const void*) const noexcept`: the bytes that a block really holds,
/// at least the size it was asked for. One that must know how a block was aligned to tell (System
/// on Windows) has a second parameter for that, `std::size_t align`, with a default.
template <class A>
concept HasUsableSize = requires(const A& a, const void* ptr) {
  { a.usable_size(ptr) } noexcept -> std::same_as<std::size_t>;
};

/// Has `void dealloc_unsized(void*, std::size_t align) const noexcept`: frees a block whose size
/// the caller does not know, as `operator delete(void*)` does not. `align` is the alignment that
/// the block was allocated with; an allocator that says dealloc_ignores_align may be given any
/// other.
template <class A>
concept HasDeallocUnsized = requires(const A& a, void* ptr, std::size_t align) {
  { a.dealloc_unsized(ptr, align) } noexcept;
};

/// Says with `static constexpr bool dealloc_ignores_align = true` that dealloc and dealloc_unsized
/// free a block whatever alignment they are told. operator new then asks for no larger alignment
/// than the standard does: bit_floor(size) below __STDCPP_DEFAULT_NEW_ALIGNMENT__. For every other
/// allocator it is that constant for all sizes, at allocation and deallocation alike, since
/// operator delete(void*) knows no size to tell it from.
///
/// Only with `using PropertiesOf = A`, which names the type itself: what a type inherits was said
/// of another one's alloc and dealloc.
template <class A>
concept DeallocIgnoresAlign =
    std::same_as<typename A::PropertiesOf, A> && requires { requires A::dealloc_ignores_align; };

/// Says likewise with `dealloc_ignores_null` that the two do nothing for a null pointer, so that
/// operator delete need not test for it.
template <class A>
concept DeallocIgnoresNull =
    std::same_as<typename A::PropertiesOf, A> && requires { requires A::dealloc_ignores_null; };

/// Allocates a block of `layout` with every byte zero; nullptr on failure. Uses a.alloc_zeroed
/// where there is one, which may know memory that is zero already; otherwise costs a memset.
template <GlobalAlloc A>
[[nodiscard]] void* alloc_zeroed(const A& a, Layout layout) noexcept {
  if constexpr (HasAllocZeroed<A>) {
    return a.alloc_zeroed(layout);
  } else {
    assert(layout.size() != 0 && "alloc_zeroed: a layout of size zero");
    void* const ptr = a.alloc(layout);
    if (ptr != nullptr) std::memset(ptr, 0, layout.size());
    return ptr;
  }
}

/// The bytes that the block at `ptr`, allocated at a multiple of `align`, really holds. Tells the
/// allocator the alignment if it asks for one.
template <HasUsableSize A>
[[nodiscard]] std::size_t usable_size(const A& a, const void* ptr, std::size_t align) noexcept {
  if constexpr (requires { a.usable_size(ptr, align); }) {
    return a.usable_size(ptr, align);
  } else {
    return a.usable_size(ptr);
  }
}

namespace detail {

/// Moves what the block at `ptr` holds to `moved`, a block of `new_layout`, and frees the old one.
/// Returns `moved`; if that is nullptr, there was no memory for it, and nothing is done.
template <GlobalAlloc A>
[[nodiscard]] void* move_block(const A& a, void* ptr, Layout layout, void* moved,
                               Layout new_layout) noexcept {
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, ptr, layout.size() < new_layout.size() ? layout.size() : new_layout.size());
  a.dealloc(ptr, layout);
  return moved;
}

/// The resize that every allocator can do: a new block, a copy, and the old block freed.
template <GlobalAlloc A>
[[nodiscard]] void* realloc_by_copy(const A& a, void* ptr, Layout layout,
                                    Layout new_layout) noexcept {
  return move_block(a, ptr, layout, a.alloc(new_layout), new_layout);
}

}  // namespace detail

/// Resizes the block at `ptr`, allocated with `layout`, to `new_size` bytes (not zero) of the same
/// alignment. Keeps the contents up to the smaller of the two sizes. Returns where the block is
/// now, which may be `ptr`; on failure (also when `new_size` makes no valid Layout) nullptr, and
/// the old block is untouched. Without a.realloc it costs an allocation and a copy.
template <GlobalAlloc A>
[[nodiscard]] void* realloc(const A& a, void* ptr, Layout layout, std::size_t new_size) noexcept {
  if constexpr (HasRealloc<A>) {
    return a.realloc(ptr, layout, new_size);
  } else {
    assert(new_size != 0 && "realloc: a new size of zero");
    const auto new_layout = Layout::from_size_align(new_size, layout.align());
    if (!new_layout) return nullptr;
    return detail::realloc_by_copy(a, ptr, layout, *new_layout);
  }
}

/// As above, to a whole new layout: the alignment may change too.
template <GlobalAlloc A>
[[nodiscard]] void* realloc(const A& a, void* ptr, Layout layout, Layout new_layout) noexcept {
  if constexpr (HasReallocLayout<A>) {
    return a.realloc(ptr, layout, new_layout);
  } else {
    if (layout.align() == new_layout.align()) {
      return sysalloc::realloc(a, ptr, layout, new_layout.size());
    }
    return detail::realloc_by_copy(a, ptr, layout, new_layout);
  }
}

}  // namespace sysalloc

#endif  // SYSALLOC_GLOBAL_ALLOC_HPP_
