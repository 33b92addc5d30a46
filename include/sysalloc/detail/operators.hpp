// What operator new and operator delete do, for any GlobalAlloc.
//
// The 20 replaceable forms ([new.delete.single], [new.delete.array]) come down to 8 functions, the
// hooks: new and new[] ask the same of an allocator here, and so do delete and delete[], and the
// nothrow deletes, which only a failed constructor calls. Operators<A> has the body of each.
//
// Alignment of the forms that name none: the standard asks of new(n) an alignment for every object
// of size n, and of new[](n) for every object no larger than n ([basic.stc.dynamic.allocation]).
// The second is the stronger: the largest power of two that is at most n, and at most
// __STDCPP_DEFAULT_NEW_ALIGNMENT__. Both get that one where deallocation does not depend on the
// alignment, so that no size asks for more than itself and System never leaves malloc for them. For
// every other allocator it is __STDCPP_DEFAULT_NEW_ALIGNMENT__ for all sizes: a delete without a
// size has to name the alignment that the block was allocated with.
//
// The fast path is one comparison (for sizes of zero and above PTRDIFF_MAX at once), the call of
// the allocator and a test for null. tests/process/instruction_count.py counts it against
// libstdc++'s own.

#ifndef SYSALLOC_DETAIL_OPERATORS_HPP_
#define SYSALLOC_DETAIL_OPERATORS_HPP_

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <sysalloc/detail/compiler.hpp>
#include <sysalloc/detail/fatal.hpp>
#include <sysalloc/detail/never_destroyed.hpp>
#include <sysalloc/global_alloc.hpp>
#include <sysalloc/layout.hpp>
#include <utility>

namespace sysalloc::detail {

/// The one object of type A that stands behind the operators, wherever it is asked for.
template <class A>
inline constinit NeverDestroyed<A> global_instance{};

inline constexpr std::size_t default_new_align = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

/// The layout of a form that names no alignment. `size` is not zero and makes a valid Layout.
template <GlobalAlloc A>
Layout default_layout(std::size_t size) noexcept {
  if constexpr (DeallocIgnoresAlign<A>) {
    const std::size_t align = size >= default_new_align ? default_new_align : std::bit_floor(size);
    // Known to people and not to compilers; it removes System's test of the same.
    if (align > size || align > default_new_align) std::unreachable();
    return Layout::from_size_align_unchecked(size, align);
  } else {
    return Layout::from_size_align_unchecked(size, default_new_align);
  }
}

/// The size that operator new allocates for a request of `size`: zero bytes need an address too.
constexpr std::size_t served_size(std::size_t size) noexcept { return size == 0 ? 1 : size; }

/// Blocks of an allocator that can free without knowing the size: straight through.
template <GlobalAlloc A>
struct Blocks {
  static const A& allocator() noexcept { return global_instance<A>.value; }

  static void* alloc(Layout layout) noexcept { return allocator().alloc(layout); }

  static void dealloc(void* ptr, Layout layout) noexcept {
    if (DeallocIgnoresNull<A> || ptr != nullptr) allocator().dealloc(ptr, layout);
  }

  static void dealloc_unsized(void* ptr, std::size_t align) noexcept {
    if (DeallocIgnoresNull<A> || ptr != nullptr) allocator().dealloc_unsized(ptr, align);
  }
};

/// Blocks of an allocator that needs the layout back: it is kept just before the block.
///
///   base                     base + offset == what operator new returns
///   | padding ...  | Layout  | the program's bytes
///
/// The Layout is the one that alloc got, of the whole, so that dealloc gets the same one whatever
/// the delete expression says. offset == max(align, sizeof(Layout)), which keeps the alignment.
template <GlobalAlloc A>
  requires(!HasDeallocUnsized<A>)
struct Blocks<A> {
  static_assert(is_power_of_two(sizeof(Layout)) && sizeof(Layout) % alignof(Layout) == 0);

  static void* alloc(Layout layout) noexcept {
    const std::size_t align = layout.align() < sizeof(Layout) ? sizeof(Layout) : layout.align();
    const std::size_t offset = align;
    // Neither term exceeds PTRDIFF_MAX + 1, so the sum cannot wrap around.
    const auto whole = Layout::from_size_align(layout.size() + offset, align);
    if (!whole) return nullptr;
    void* const base = global_instance<A>.value.alloc(*whole);
    if (base == nullptr) return nullptr;
    std::byte* const block = static_cast<std::byte*>(base) + offset;
    std::construct_at(reinterpret_cast<Layout*>(block) - 1, *whole);
    return block;
  }

  static void dealloc(void* ptr, Layout /*layout*/) noexcept { dealloc_unsized(ptr, 1); }

  static void dealloc_unsized(void* ptr, std::size_t /*align*/) noexcept {
    if (ptr == nullptr) return;
    const Layout whole = *(static_cast<const Layout*>(ptr) - 1);
    global_instance<A>.value.dealloc(static_cast<std::byte*>(ptr) - whole.align(), whole);
  }
};

/// What an allocator does when the program is loaded, if anything.
template <class A>
void at_load() noexcept {
  if constexpr (requires { A::at_load(); }) A::at_load();
}

// What the operators ask of the C++ library; override/cxx_library.hpp has these, too.
#if !defined(SYSALLOC_DETAIL_CXX_LIBRARY)

/// What a throwing form does at last: throws std::bad_alloc, or ends a program that cannot throw.
/// Two functions with two names: a program may have files of either kind, and the linker keeps one
/// of each name.
#if defined(__cpp_exceptions)
inline namespace with_exceptions {
[[noreturn]] inline void throw_bad_alloc() { throw std::bad_alloc(); }
}  // namespace with_exceptions
#else
inline namespace without_exceptions {
[[noreturn]] inline void throw_bad_alloc() {
  fatal("operator new is out of memory, and this program is built without exceptions");
}
/// Has somebody try again who can catch what a new_handler throws. False where there is nobody.
constexpr bool catching_new(std::size_t /*size*/, std::size_t /*align*/, void*& /*ptr*/) noexcept {
  return false;
}
}  // namespace without_exceptions
#endif

inline std::new_handler new_handler() noexcept { return std::get_new_handler(); }

#endif

/// Has try_alloc(size) and (size, align), which return a block if there is one at hand and nullptr
/// otherwise, whatever the arguments; and try_dealloc(ptr), (ptr, size) and (ptr, size, align),
/// which say whether they freed the block, whatever the arguments. An allocator that has them
/// (Cached) is asked so first, before anything else is tested; one that only inherited them is not,
/// for they know nothing of what it adds.
template <class A>
concept HasFastPath =
    std::same_as<typename A::FastPathOf, A> && requires(const A& a, void* ptr, std::size_t size) {
      { a.try_alloc(size) } noexcept -> std::same_as<void*>;
      { a.try_alloc(size, size) } noexcept -> std::same_as<void*>;
      { a.try_dealloc(ptr) } noexcept -> std::same_as<bool>;
      { a.try_dealloc(ptr, size) } noexcept -> std::same_as<bool>;
      { a.try_dealloc(ptr, size, size) } noexcept -> std::same_as<bool>;
    };

/// The forms of operator new and delete over the global allocator A. Thread-safe as A is.
template <GlobalAlloc A>
class Operators {
 public:
  /// The throwing forms that name no alignment.
  static void* allocate(std::size_t size) {
    if constexpr (HasFastPath<A>) {
      if (void* const ptr = Blocks<A>::allocator().try_alloc(size)) [[likely]]
        return ptr;
      return allocate_rest(size);
    } else {
      return allocate_checked(size);
    }
  }

  /// The throwing forms with an alignment. One that is no power of two is bad_alloc at once: no
  /// handler could change that.
  static void* allocate_aligned(std::size_t size, std::size_t align) {
    if constexpr (HasFastPath<A>) {
      if (void* const ptr = Blocks<A>::allocator().try_alloc(size, align)) [[likely]]
        return ptr;
      return allocate_aligned_rest(size, align);
    } else {
      return allocate_aligned_checked(size, align);
    }
  }

  /// The nothrow forms: nullptr where the throwing form would throw, whatever it would throw, so
  /// also what a new_handler throws.
  static void* allocate_nothrow(std::size_t size) noexcept {
#if defined(__cpp_exceptions)
    try {
      return allocate(size);
    } catch (...) {
      return nullptr;
    }
#else
    if constexpr (HasFastPath<A>) {
      if (void* const ptr = Blocks<A>::allocator().try_alloc(size)) [[likely]]
        return ptr;
    }
    return allocate_no_exceptions(size, no_align);
#endif
  }

  /// As above, with an alignment.
  static void* allocate_aligned_nothrow(std::size_t size, std::size_t align) noexcept {
#if defined(__cpp_exceptions)
    try {
      return allocate_aligned(size, align);
    } catch (...) {
      return nullptr;
    }
#else
    if constexpr (HasFastPath<A>) {
      if (void* const ptr = Blocks<A>::allocator().try_alloc(size, align)) [[likely]]
        return ptr;
    }
    return is_power_of_two(align) ? allocate_no_exceptions(size, align) : nullptr;
#endif
  }

  static void deallocate(void* ptr) noexcept {
    if constexpr (HasFastPath<A>) {
      if (!Blocks<A>::allocator().try_dealloc(ptr)) [[unlikely]]
        deallocate_rest(ptr);
    } else {
      Blocks<A>::dealloc_unsized(ptr, default_new_align);
    }
  }

  static void deallocate_aligned(void* ptr, std::size_t align) noexcept {
    Blocks<A>::dealloc_unsized(ptr, align);
  }

  static void deallocate_sized(void* ptr, std::size_t size) noexcept {
    if constexpr (HasFastPath<A>) {
      if (!Blocks<A>::allocator().try_dealloc(ptr, size)) [[unlikely]] {
        deallocate_sized_rest(ptr, size);
      }
    } else {
      Blocks<A>::dealloc(ptr, default_layout<A>(served_size(size)));
    }
  }

  static void deallocate_sized_aligned(void* ptr, std::size_t size, std::size_t align) noexcept {
    if constexpr (HasFastPath<A>) {
      if (!Blocks<A>::allocator().try_dealloc(ptr, size, align)) [[unlikely]] {
        deallocate_sized_aligned_rest(ptr, size, align);
      }
    } else {
      Blocks<A>::dealloc(ptr, Layout::from_size_align_unchecked(served_size(size), align));
    }
  }

 private:
  static void* allocate_checked(std::size_t size) {
    // One comparison sends zero (which wraps around) and everything too large to the slow path.
    if (size - 1 < max_size(default_new_align)) [[likely]] {
      void* const ptr = Blocks<A>::alloc(default_layout<A>(size));
      if (ptr != nullptr) [[likely]]
        return ptr;
      return allocate_again(size, no_align);
    }
    return allocate_odd_size(size, no_align);
  }

  static void* allocate_aligned_checked(std::size_t size, std::size_t align) {
    if (!is_power_of_two(align)) throw_bad_alloc();
    if (size - 1 < max_size(align)) [[likely]] {
      void* const ptr = Blocks<A>::alloc(Layout::from_size_align_unchecked(size, align));
      if (ptr != nullptr) [[likely]]
        return ptr;
      return allocate_again(size, align);
    }
    return allocate_odd_size(size, align);
  }

  // Out of line, so that the fast path has no frame.
  SYSALLOC_NOINLINE static void* allocate_rest(std::size_t size) { return allocate_checked(size); }
  SYSALLOC_NOINLINE static void* allocate_aligned_rest(std::size_t size, std::size_t align) {
    return allocate_aligned_checked(size, align);
  }
  SYSALLOC_NOINLINE static void deallocate_rest(void* ptr) noexcept {
    Blocks<A>::dealloc_unsized(ptr, default_new_align);
  }
  SYSALLOC_NOINLINE static void deallocate_sized_rest(void* ptr, std::size_t size) noexcept {
    Blocks<A>::dealloc(ptr, default_layout<A>(served_size(size)));
  }
  SYSALLOC_NOINLINE static void deallocate_sized_aligned_rest(void* ptr, std::size_t size,
                                                              std::size_t align) noexcept {
    Blocks<A>::dealloc(ptr, Layout::from_size_align_unchecked(served_size(size), align));
  }

  // What the slow paths get for a form that names no alignment.
  static constexpr std::size_t no_align = 0;

  // The largest size of a valid Layout. Zero for the one alignment that leaves no room.
  static constexpr std::size_t max_size(std::size_t align) noexcept {
    return std::size_t{PTRDIFF_MAX} + 1 - (align == no_align ? default_new_align : align);
  }

  static Layout layout_of(std::size_t size, std::size_t align) noexcept {
    return align == no_align ? default_layout<A>(size)
                             : Layout::from_size_align_unchecked(size, align);
  }

  // The loop that [new.delete.single] requires after a failed attempt: ask the new_handler for
  // memory and try again, until it throws or there is none. nullptr then.
  template <class Attempt>
  static void* handler_loop(Attempt attempt) {
    for (;;) {
      const std::new_handler handler = new_handler();
      if (handler == nullptr) return nullptr;
      handler();
      if (void* const ptr = attempt()) return ptr;
    }
  }

  // The layout is made anew here, so that the fast path need not keep it.
  SYSALLOC_COLD SYSALLOC_NOINLINE static void* allocate_again(std::size_t size, std::size_t align) {
    const Layout layout = layout_of(size, align);
    void* const ptr = handler_loop([layout] { return Blocks<A>::alloc(layout); });
    if (ptr == nullptr) throw_bad_alloc();
    return ptr;
  }

  SYSALLOC_COLD SYSALLOC_NOINLINE static void* allocate_odd_size(std::size_t size,
                                                                 std::size_t align) {
    if (served_size(size) > max_size(align)) {
      handler_loop([]() -> void* { return nullptr; });
      throw_bad_alloc();
    }
    void* const ptr = Blocks<A>::alloc(layout_of(served_size(size), align));
    return ptr != nullptr ? ptr : allocate_again(served_size(size), align);
  }

#if !defined(__cpp_exceptions)
  // What no fast path has served.
  SYSALLOC_NOINLINE static void* allocate_no_exceptions(std::size_t size,
                                                        std::size_t align) noexcept {
    const auto attempt = [size, align]() -> void* {
      if (served_size(size) > max_size(align)) return nullptr;
      return Blocks<A>::alloc(layout_of(served_size(size), align));
    };
    void* ptr = attempt();
    if (ptr != nullptr || new_handler() == nullptr) return ptr;
    return catching_new(size, align, ptr) ? ptr : handler_loop(attempt);
  }
#endif
};

// The hooks: what the operators call. Hidden, since they join object files of one program or
// library and nothing else.
#if !defined(_WIN32)
#pragma GCC visibility push(hidden)
#endif
void* hook_new(std::size_t size);
void* hook_new_nothrow(std::size_t size) noexcept;
void* hook_new_aligned(std::size_t size, std::size_t align);
void* hook_new_aligned_nothrow(std::size_t size, std::size_t align) noexcept;
void hook_delete(void* ptr) noexcept;
void hook_delete_sized(void* ptr, std::size_t size) noexcept;
void hook_delete_aligned(void* ptr, std::size_t align) noexcept;
void hook_delete_sized_aligned(void* ptr, std::size_t size, std::size_t align) noexcept;
#if !defined(_WIN32)
#pragma GCC visibility pop
#endif

}  // namespace sysalloc::detail

#endif  // SYSALLOC_DETAIL_OPERATORS_HPP_
