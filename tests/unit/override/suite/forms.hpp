// The 8 replaceable forms of operator new and the 12 of operator delete, by their function names.
//
// As functions behind pointers, not as expressions: the compiler may leave out a pair of those.

#ifndef SYSALLOC_TESTS_UNIT_OVERRIDE_SUITE_FORMS_HPP_
#define SYSALLOC_TESTS_UNIT_OVERRIDE_SUITE_FORMS_HPP_

#include <array>
#include <cstddef>
#include <new>
#include <string>

namespace forms {

inline constexpr std::size_t default_align = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

/// `call` ignores the alignment when the form names none.
struct New {
  std::string name;
  void* (*call)(std::size_t size, std::size_t align);
  bool array;
  bool aligned;
  bool nothrow;
};

/// `call` ignores what the form does not name.
struct Delete {
  std::string name;
  void (*call)(void* ptr, std::size_t size, std::size_t align);
  bool array;
  bool aligned;
};

inline const std::array<New, 8> news{{
    {"new(size)", [](std::size_t size, std::size_t) { return ::operator new(size); }, false, false,
     false},
    {"new[](size)", [](std::size_t size, std::size_t) { return ::operator new[](size); }, true,
     false, false},
    {"new(size, nothrow)",
     [](std::size_t size, std::size_t) { return ::operator new(size, std::nothrow); }, false, false,
     true},
    {"new[](size, nothrow)",
     [](std::size_t size, std::size_t) { return ::operator new[](size, std::nothrow); }, true,
     false, true},
    {"new(size, align)",
     [](std::size_t size, std::size_t align) {
       return ::operator new(size, std::align_val_t{align});
     },
     false, true, false},
    {"new[](size, align)",
     [](std::size_t size, std::size_t align) {
       return ::operator new[](size, std::align_val_t{align});
     },
     true, true, false},
    {"new(size, align, nothrow)",
     [](std::size_t size, std::size_t align) {
       return ::operator new(size, std::align_val_t{align}, std::nothrow);
     },
     false, true, true},
    {"new[](size, align, nothrow)",
     [](std::size_t size, std::size_t align) {
       return ::operator new[](size, std::align_val_t{align}, std::nothrow);
     },
     true, true, true},
}};

inline const std::array<Delete, 12> deletes{{
    {"delete(ptr)", [](void* ptr, std::size_t, std::size_t) { ::operator delete(ptr); }, false,
     false},
    {"delete[](ptr)", [](void* ptr, std::size_t, std::size_t) { ::operator delete[](ptr); }, true,
     false},
    {"delete(ptr, size)",
     [](void* ptr, std::size_t size, std::size_t) { ::operator delete(ptr, size); }, false, false},
    {"delete[](ptr, size)",
     [](void* ptr, std::size_t size, std::size_t) { ::operator delete[](ptr, size); }, true, false},
    {"delete(ptr, nothrow)",
     [](void* ptr, std::size_t, std::size_t) { ::operator delete(ptr, std::nothrow); }, false,
     false},
    {"delete[](ptr, nothrow)",
     [](void* ptr, std::size_t, std::size_t) { ::operator delete[](ptr, std::nothrow); }, true,
     false},
    {"delete(ptr, align)",
     [](void* ptr, std::size_t, std::size_t align) {
       ::operator delete(ptr, std::align_val_t{align});
     },
     false, true},
    {"delete[](ptr, align)",
     [](void* ptr, std::size_t, std::size_t align) {
       ::operator delete[](ptr, std::align_val_t{align});
     },
     true, true},
    {"delete(ptr, size, align)",
     [](void* ptr, std::size_t size, std::size_t align) {
       ::operator delete(ptr, size, std::align_val_t{align});
     },
     false, true},
    {"delete[](ptr, size, align)",
     [](void* ptr, std::size_t size, std::size_t align) {
       ::operator delete[](ptr, size, std::align_val_t{align});
     },
     true, true},
    {"delete(ptr, align, nothrow)",
     [](void* ptr, std::size_t, std::size_t align) {
       ::operator delete(ptr, std::align_val_t{align}, std::nothrow);
     },
     false, true},
    {"delete[](ptr, align, nothrow)",
     [](void* ptr, std::size_t, std::size_t align) {
       ::operator delete[](ptr, std::align_val_t{align}, std::nothrow);
     },
     true, true},
}};

/// Whether a block of `allocation` may be freed by `deallocation`.
inline bool match(const New& allocation, const Delete& deallocation) {
  return allocation.array == deallocation.array && allocation.aligned == deallocation.aligned;
}

/// The plain counterpart of a form, to free what it allocated.
inline void release(const New& allocation, void* ptr, std::size_t align) {
  for (const Delete& deallocation : deletes) {
    if (match(allocation, deallocation)) return deallocation.call(ptr, 0, align);
  }
}

enum class Outcome { block, null, bad_alloc, other };

/// What became of an allocation; a block is freed again.
inline Outcome outcome(const New& form, std::size_t size, std::size_t align) {
#if defined(__cpp_exceptions)
  try {
#endif
    void* const ptr = form.call(size, align);
    if (ptr == nullptr) return Outcome::null;
    release(form, ptr, align);
    return Outcome::block;
#if defined(__cpp_exceptions)
  } catch (const std::bad_alloc&) {
    return Outcome::bad_alloc;
  } catch (...) {
    return Outcome::other;
  }
#endif
}

/// How the form says that there is no memory.
inline Outcome failure(const New& form) {
  return form.nothrow ? Outcome::null : Outcome::bad_alloc;
}

/// A form that throws ends a program without exceptions, so there is nothing to test in it.
inline bool can_fail(const New& form) {
#if defined(__cpp_exceptions)
  static_cast<void>(form);
  return true;
#else
  return form.nothrow;
#endif
}

}  // namespace forms

#endif  // SYSALLOC_TESTS_UNIT_OVERRIDE_SUITE_FORMS_HPP_
