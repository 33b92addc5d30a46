// AllocError: what a failed allocation through the Allocator interface returns.

#ifndef SYSALLOC_ALLOC_ERROR_HPP_
#define SYSALLOC_ALLOC_ERROR_HPP_

#include <iosfwd>

namespace sysalloc {

/// An allocation that could not be served: memory is exhausted, or the allocator cannot serve this
/// layout. Carries no data, like Rust's core::alloc::AllocError; the caller knows what it asked
/// for.
struct AllocError {
  /// A sentence for people; static storage.
  [[nodiscard]] static constexpr const char* what() noexcept { return "memory allocation failed"; }
  friend constexpr bool operator==(AllocError, AllocError) noexcept = default;
};

/// Prints AllocError::what().
template <class Char, class Traits>
std::basic_ostream<Char, Traits>& operator<<(std::basic_ostream<Char, Traits>& out,
                                             AllocError error) {
  return out << error.what();
}

}  // namespace sysalloc

#endif  // SYSALLOC_ALLOC_ERROR_HPP_
