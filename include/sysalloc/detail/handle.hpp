// Handle: how an adapter remembers the allocator it draws from.
//
// An empty allocator is made anew at each use, so the adapter stays empty too. One that is itself a
// small reference (ByRef) is kept by value, since a temporary one would not outlive the adapter.
// Every other is kept by address: its state (counters, a budget) must not be copied.

#ifndef SYSALLOC_DETAIL_HANDLE_HPP_
#define SYSALLOC_DETAIL_HANDLE_HPP_

#include <concepts>
#include <memory>
#include <type_traits>

namespace sysalloc::detail {

template <class A>
inline constexpr bool stateless = std::is_empty_v<A> && std::is_nothrow_default_constructible_v<A>;

template <class A>
concept SmallReference =
    !stateless<A> && std::is_trivially_copyable_v<A> && std::copy_constructible<A> &&
    sizeof(A) <= sizeof(void*) && std::equality_comparable<A>;

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

template <SmallReference A>
class Handle<A> {
 public:
  constexpr explicit Handle(const A& allocator) noexcept : allocator_(allocator) {}
  constexpr Handle(const Handle&) noexcept = default;
  constexpr Handle& operator=(const Handle&) noexcept
    requires std::is_copy_assignable_v<A>
  = default;
  // A reference or a constant in it: containers assign their allocator all the same.
  constexpr Handle& operator=(const Handle& other) noexcept {
    if (this != &other) std::construct_at(std::addressof(allocator_), other.allocator_);
    return *this;
  }
  [[nodiscard]] constexpr const A& get() const noexcept { return allocator_; }
  friend constexpr bool operator==(Handle a, Handle b) noexcept {
    return a.allocator_ == b.allocator_;
  }

 private:
  A allocator_;
};

}  // namespace sysalloc::detail

#endif  // SYSALLOC_DETAIL_HANDLE_HPP_
