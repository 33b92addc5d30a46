// What the operators ask of the C++ library, in a shared library that is preloaded: into programs
// of every kind, most of which have no C++ library, as those that a shell script starts; to load it
// would cost each of these more than all else that it does. So what is here is linked with the C
// library alone and compiled without exceptions. It looks for the rest when an allocation failed:
//
//   std::bad_alloc   is thrown by the function that does it for the C++ library's own templates;
//   new_handler      is asked for where it is kept; without a C++ library there is none;
//   nothrow new      has to catch what a handler throws. Its namesake in the C++ library does that:
//                    it calls the throwing form, which is the one here, and catches.
//
// A program in C may have the C++ library with a plugin of its own, where others do not see it
// (RTLD_LOCAL), or where it is a part of the plugin. So one looks through all that is loaded, in
// the loader's order, and keeps nothing, for plugins go.
//
// Part of override.cpp, in shared libraries on Linux.
#pragma once

#include <link.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <sysalloc/detail/compiler.hpp>
#include <sysalloc/detail/fatal.hpp>
#include <type_traits>

#include "exports.hpp"

/// detail/operators.hpp has these itself otherwise.
#define SYSALLOC_DETAIL_CXX_LIBRARY

// By their names in the ABI, which libstdc++ and libc++ have in common. Weak: the loader binds them
// where they are there when the program starts. And the linker has a program export them that is
// linked with -static-libstdc++ and this library; nobody would find them there otherwise.
extern "C" {
[[noreturn]] __attribute__((weak)) void sysalloc_throw_bad_alloc() asm("_ZSt17__throw_bad_allocv");
__attribute__((weak)) std::new_handler sysalloc_get_new_handler() noexcept
    asm("_ZSt15get_new_handlerv");
}

namespace sysalloc::detail {

/// The function of that name in the first object that exports it and, unless that is null, the
/// other one too; nullptr when none does. Allocates nothing, and takes no lock but the one that is
/// taken to throw.
template <class Function>
Function* find_in_process(const char* name, const char* beside = nullptr) noexcept {
  struct Search {
    const char* name;
    const char* beside;
    void* found;
  } search{name, beside, nullptr};
  const auto look = [](dl_phdr_info* object, std::size_t, void* data) noexcept -> int {
    auto& [name, beside, found] = *static_cast<Search*>(data);
    const Exports exports(*object);
    if (beside == nullptr || exports.find(beside) != nullptr) found = exports.find(name);
    return found != nullptr ? 1 : 0;
  };
  dl_iterate_phdr(look, &search);
  return reinterpret_cast<Function*>(search.found);
}

inline namespace with_cxx_library_found {

inline constexpr const char* handler_name = "_ZSt15get_new_handlerv";
inline constexpr bool size_is_long = std::is_same_v<std::size_t, unsigned long>;

[[noreturn]] SYSALLOC_COLD inline void throw_bad_alloc() {
  if (&sysalloc_throw_bad_alloc != nullptr) sysalloc_throw_bad_alloc();
  if (auto* const found = find_in_process<void()>("_ZSt17__throw_bad_allocv")) found();
  // A plugin may have little more of a C++ library in it than the operators. Theirs fails, too.
  using New = void*(std::size_t);
  auto* const found = find_in_process<New>(size_is_long ? "_Znwm" : "_Znwj", handler_name);
  if (found != nullptr) found(std::size_t{PTRDIFF_MAX} + 1);
  fatal("operator new is out of memory, and there is no C++ library to throw std::bad_alloc");
}

SYSALLOC_COLD inline std::new_handler new_handler() noexcept {
  if (&sysalloc_get_new_handler != nullptr) return sysalloc_get_new_handler();
  auto* const found = find_in_process<std::new_handler()>(handler_name);
  return found != nullptr ? found() : nullptr;
}

/// Has nothrow new of the C++ library try again, 0 for the alignment where the form names none.
/// False where there is none, as in a program that is linked with -static-libstdc++: the one here
/// is in its place.
SYSALLOC_COLD inline bool catching_new(std::size_t size, std::size_t align, void*& ptr) noexcept {
  const auto call = [&]<class... Align>(const char* name, Align... aligned) {
    using New = void*(std::size_t, Align..., const std::nothrow_t&);
    // Not that of another library with operators, which may be looking for this one.
    auto* const found = find_in_process<New>(name, handler_name);
    if (found != nullptr) ptr = found(size, aligned..., std::nothrow_t{});
    return found != nullptr;
  };
  if (align == 0) return call(size_is_long ? "_ZnwmRKSt9nothrow_t" : "_ZnwjRKSt9nothrow_t");
  return call(
      size_is_long ? "_ZnwmSt11align_val_tRKSt9nothrow_t" : "_ZnwjSt11align_val_tRKSt9nothrow_t",
      std::align_val_t{align});
}

}  // namespace with_cxx_library_found

}  // namespace sysalloc::detail
