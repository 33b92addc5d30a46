// NeverDestroyed: an object that exists before any constructor runs and after every destructor.

#ifndef SYSALLOC_DETAIL_NEVER_DESTROYED_HPP_
#define SYSALLOC_DETAIL_NEVER_DESTROYED_HPP_

namespace sysalloc::detail {

/// Holds a T that is made by constant initialisation and never destroyed: declare it constinit. The
/// union is what keeps the compiler from calling T's destructor at exit.
template <class T>
union NeverDestroyed {
  constexpr NeverDestroyed() noexcept : value{} {}
  NeverDestroyed(const NeverDestroyed&) = delete;
  NeverDestroyed& operator=(const NeverDestroyed&) = delete;
  constexpr ~NeverDestroyed() {}

  T value;
};

}  // namespace sysalloc::detail

#endif  // SYSALLOC_DETAIL_NEVER_DESTROYED_HPP_
