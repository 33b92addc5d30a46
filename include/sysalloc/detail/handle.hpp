// Handle: how an adapter remembers the allocator it draws from.
//
// An empty allocator is made anew at each use, so the adapter stays empty too. A ByRef is kept by
// value, since a temporary one would not outlive the adapter. Every other is kept by address,
// however small and comparable it is: its state (counters, a budget, the next free byte) must not
// be copied, and no property of a type tells such state from a reference.

#ifndef SYSALLOC_DETAIL_HANDLE_HPP_
#define SYSALLOC_DETAIL_HANDLE_HPP_

#include <sysalloc/detail/compiler.hpp>
#include <type_traits>

namespace sysalloc {

template <class A>
class ByRef;

}  // namespace sysalloc

namespace sysalloc::detail {

/// Is one A as good as another? What may throw is not made anew at each use.
template <class A>
inline constexpr bool stateless = std::is_empty_v<A> && std::is_nothrow_default_constructible_v<A>;

/// An allocator with state of its own: by address.
template <class A>
class Handle {
 public:
  constexpr explicit Handle(const A& allocator) noexcept : allocator_(&allocator) {}
  [[nodiscard]] constexpr const A& get() const noexcept { return *allocator_; }
  friend constexpr bool operator==(Handle a, Handle b) noexcept {
    return a.allocator_ == b.allocator_;
  }

 private:
  const A* allocator_;
};

template <class A>
  requires stateless<A>
class Handle<A> {
 public:
  constexpr Handle() noexcept = default;
  constexpr explicit Handle(const A& /*allocator*/) noexcept {}
  [[nodiscard]] constexpr A get() const noexcept { return A{}; }
  friend constexpr bool operator==(Handle, Handle) noexcept { return true; }
};

template <class A>
  requires(!stateless<ByRef<A>>)
class Handle<ByRef<A>> {
 public:
  constexpr explicit Handle(const ByRef<A>& allocator) noexcept : allocator_(allocator) {}
  [[nodiscard]] constexpr const ByRef<A>& get() const noexcept { return allocator_; }
  friend constexpr bool operator==(const Handle& a, const Handle& b) noexcept {
    return a.allocator_ == b.allocator_;
  }

 private:
  SYSALLOC_NO_UNIQUE_ADDRESS ByRef<A> allocator_;
};

}  // namespace sysalloc::detail

#endif  // SYSALLOC_DETAIL_HANDLE_HPP_
