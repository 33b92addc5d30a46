// SYSALLOC_GLOBAL_ALLOCATOR: the line that makes a type the program's global allocator.
//
//   struct Counter { ... };                  // any GlobalAlloc
//   SYSALLOC_GLOBAL_ALLOCATOR(Counter)       // outside every namespace, in one file of the program
//
// The counterpart of `#[global_allocator]` in Rust. How it meets the override object:
//
//   - The 20 operators call 8 hooks (detail/operators.hpp). The override object for System has the
//     operators as ordinary definitions and the hooks as weak ones over System; this macro has the
//     hooks as ordinary definitions and the operators as weak ones. So either alone is complete,
//     and together the object's operators call this file's hooks. Windows does it by other means to
//     the same end (detail/visibility.hpp).
//   - Two uses in one program define the hooks twice, which the linker refuses; so does one use
//     beside an override object that was built for an allocator of its own.

#ifndef SYSALLOC_GLOBAL_ALLOCATOR_HPP_
#define SYSALLOC_GLOBAL_ALLOCATOR_HPP_

#include <cstddef>
#include <new>
#include <sysalloc/detail/operators.hpp>
#include <sysalloc/detail/visibility.hpp>
#include <sysalloc/global.hpp>
#include <type_traits>

namespace sysalloc {

/// The object of type A that SYSALLOC_GLOBAL_ALLOCATOR(A) puts behind the operators, for reading
/// its counters or setting its limits. Constant-initialised and never destroyed, so it may be
/// called at any time. For another type than the global allocator's it is an object nobody uses.
template <GlobalAlloc A>
[[nodiscard]] A& global_allocator() noexcept {
  return detail::global_instance<A>.value;
}

namespace detail {

/// Does A end in the functions that the global allocator is behind? Then it cannot be that one: it
/// would call itself for ever. Seen of Global and what is a template over it, Counting<Global> say.
template <class A>
inline constexpr bool goes_to_global = std::is_base_of_v<Global, A>;
template <template <class> class Wrapper, GlobalAlloc A>
inline constexpr bool goes_to_global<Wrapper<A>> = goes_to_global<A>;

}  // namespace detail

}  // namespace sysalloc

// MARK is put before each definition of the macros below.

/// Refuses a type that cannot be the global allocator, named by sysalloc_global_allocator_type as
/// below. Comes first, for what follows fails too, with more words.
#define SYSALLOC_DETAIL_CHECK_TYPE()                                                             \
  static_assert(sysalloc::GlobalAlloc<sysalloc_global_allocator_type>,                           \
                "sysalloc: the type of the global allocator is no GlobalAlloc; see "             \
                "<sysalloc/global_alloc.hpp> for the two members that it needs");                \
  static_assert(!sysalloc::detail::goes_to_global<sysalloc_global_allocator_type>,               \
                "sysalloc: Global goes to the global allocator and cannot be it: name the type " \
                "that it is to go to, such as sysalloc::System");

/// Defines the functions of global.hpp over the type named by sysalloc_global_allocator_type.
#define SYSALLOC_DETAIL_DEFINE_FUNCTIONS(MARK)                                                  \
  namespace sysalloc {                                                                          \
  MARK void* alloc(Layout layout) noexcept {                                                    \
    return detail::global_instance<sysalloc_global_allocator_type>.value.alloc(layout);         \
  }                                                                                             \
  MARK void* alloc_zeroed(Layout layout) noexcept {                                             \
    return alloc_zeroed(detail::global_instance<sysalloc_global_allocator_type>.value, layout); \
  }                                                                                             \
  MARK void dealloc(void* ptr, Layout layout) noexcept {                                        \
    detail::global_instance<sysalloc_global_allocator_type>.value.dealloc(ptr, layout);         \
  }                                                                                             \
  MARK void* realloc(void* ptr, Layout layout, std::size_t new_size) noexcept {                 \
    return realloc(detail::global_instance<sysalloc_global_allocator_type>.value, ptr, layout,  \
                   new_size);                                                                   \
  }                                                                                             \
  MARK void* realloc(void* ptr, Layout layout, Layout new_layout) noexcept {                    \
    return realloc(detail::global_instance<sysalloc_global_allocator_type>.value, ptr, layout,  \
                   new_layout);                                                                 \
  }                                                                                             \
  }

/// Has the type start what it starts when the program is loaded before all constructors of the
/// program's own objects (101 is the first priority that is not the compiler's).
#define SYSALLOC_DETAIL_START_AT_LOAD()                     \
  namespace sysalloc::detail {                              \
  namespace {                                               \
  [[gnu::constructor(101)]] void start_at_load() noexcept { \
    at_load<sysalloc_global_allocator_type>();              \
  }                                                         \
  }                                                         \
  }

/// Defines the hooks over the same type.
#define SYSALLOC_DETAIL_DEFINE_HOOKS(MARK)                                                         \
  namespace sysalloc::detail {                                                                     \
  using ProgramOperators = Operators<sysalloc_global_allocator_type>;                              \
  MARK SYSALLOC_HOT void* hook_new(std::size_t size) { return ProgramOperators::allocate(size); }  \
  MARK SYSALLOC_HOT void* hook_new_nothrow(std::size_t size) noexcept {                            \
    return ProgramOperators::allocate_nothrow(size);                                               \
  }                                                                                                \
  MARK SYSALLOC_HOT void* hook_new_aligned(std::size_t size, std::size_t align) {                  \
    return ProgramOperators::allocate_aligned(size, align);                                        \
  }                                                                                                \
  MARK SYSALLOC_HOT void* hook_new_aligned_nothrow(std::size_t size, std::size_t align) noexcept { \
    return ProgramOperators::allocate_aligned_nothrow(size, align);                                \
  }                                                                                                \
  MARK SYSALLOC_HOT void hook_delete(void* ptr) noexcept { ProgramOperators::deallocate(ptr); }    \
  MARK SYSALLOC_HOT_LONG void hook_delete_sized(void* ptr, std::size_t size) noexcept {            \
    ProgramOperators::deallocate_sized(ptr, size);                                                 \
  }                                                                                                \
  MARK SYSALLOC_HOT void hook_delete_aligned(void* ptr, std::size_t align) noexcept {              \
    ProgramOperators::deallocate_aligned(ptr, align);                                              \
  }                                                                                                \
  MARK SYSALLOC_HOT void hook_delete_sized_aligned(void* ptr, std::size_t size,                    \
                                                   std::size_t align) noexcept {                   \
    ProgramOperators::deallocate_sized_aligned(ptr, size, align);                                  \
  }                                                                                                \
  }

/// Defines the 20 replaceable forms over the hooks.
#define SYSALLOC_DETAIL_DEFINE_OPERATORS(MARK)                      \
  SYSALLOC_DETAIL_DEFINE_FORMS(MARK, operator new, operator delete) \
  SYSALLOC_DETAIL_DEFINE_FORMS(MARK, operator new[], operator delete[])

#define SYSALLOC_DETAIL_DEFINE_FORMS(MARK, NEW, DELETE)                                         \
  MARK SYSALLOC_HOT void* NEW(std::size_t size) { return sysalloc::detail::hook_new(size); }    \
  MARK SYSALLOC_HOT void* NEW(std::size_t size, const std::nothrow_t&) noexcept {               \
    return sysalloc::detail::hook_new_nothrow(size);                                            \
  }                                                                                             \
  MARK SYSALLOC_HOT void* NEW(std::size_t size, std::align_val_t align) {                       \
    return sysalloc::detail::hook_new_aligned(size, static_cast<std::size_t>(align));           \
  }                                                                                             \
  MARK SYSALLOC_HOT void* NEW(std::size_t size, std::align_val_t align,                         \
                              const std::nothrow_t&) noexcept {                                 \
    return sysalloc::detail::hook_new_aligned_nothrow(size, static_cast<std::size_t>(align));   \
  }                                                                                             \
  MARK SYSALLOC_HOT void DELETE(void* ptr) noexcept { sysalloc::detail::hook_delete(ptr); }     \
  MARK SYSALLOC_HOT void DELETE(void* ptr, const std::nothrow_t&) noexcept {                    \
    sysalloc::detail::hook_delete(ptr);                                                         \
  }                                                                                             \
  MARK SYSALLOC_HOT_LONG void DELETE(void* ptr, std::size_t size) noexcept {                    \
    sysalloc::detail::hook_delete_sized(ptr, size);                                             \
  }                                                                                             \
  MARK SYSALLOC_HOT void DELETE(void* ptr, std::align_val_t align) noexcept {                   \
    sysalloc::detail::hook_delete_aligned(ptr, static_cast<std::size_t>(align));                \
  }                                                                                             \
  MARK SYSALLOC_HOT void DELETE(void* ptr, std::align_val_t align,                              \
                                const std::nothrow_t&) noexcept {                               \
    sysalloc::detail::hook_delete_aligned(ptr, static_cast<std::size_t>(align));                \
  }                                                                                             \
  MARK SYSALLOC_HOT void DELETE(void* ptr, std::size_t size, std::align_val_t align) noexcept { \
    sysalloc::detail::hook_delete_sized_aligned(ptr, size, static_cast<std::size_t>(align));    \
  }

/// Makes the type (given as the argument; commas in it are fine) the program's global allocator:
/// every operator new and delete, and the functions of global.hpp, go to one object of it. The type
/// is a GlobalAlloc whose default constructor is constexpr, so that the object needs no run-time
/// initialisation: it serves allocations made before main and is never destroyed. Write it outside
/// every namespace, in exactly one file of the program; a second one is a link error. A semicolon
/// behind it is allowed and not needed; only clang's -Wextra-semi would have none.
#define SYSALLOC_GLOBAL_ALLOCATOR(...)                \
  using sysalloc_global_allocator_type = __VA_ARGS__; \
  SYSALLOC_DETAIL_CHECK_TYPE()                        \
  SYSALLOC_DETAIL_START_AT_LOAD()                     \
  SYSALLOC_DETAIL_DEFINE_FUNCTIONS()                  \
  SYSALLOC_DETAIL_DEFINE_HOOKS()                      \
  SYSALLOC_DETAIL_DEFINE_OPERATORS(SYSALLOC_WEAK_OPERATOR)

#endif  // SYSALLOC_GLOBAL_ALLOCATOR_HPP_
