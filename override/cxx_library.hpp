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
// (RTLD_LOCAL), or where it is a part of the plugin. So one looks through all that is loaded: for a
// C++ library by its name, since most plugins have that one, and then for any object that has the
// functions. Nothing is kept, for plugins go.
//
// The loader's lock, under which that is done, may be held for good in the child of a fork. So what
// there is to find is looked for before each fork of a program with threads, and kept for the
// child.
//
// Part of override.cpp, in shared libraries on Linux.
#pragma once

#include <link.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <sysalloc/cached/os.hpp>
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

namespace {

constexpr bool size_is_long = std::is_same_v<std::size_t, unsigned long>;

/// What is wanted of a C++ library: a function, and the one that has to be in the same object, if
/// any. Not nothrow new of another library with operators, which may be looking for this one.
struct Wanted {
  const char* name;
  const char* beside;
  std::atomic<void*> before_fork = nullptr;
};
constexpr const char* handler_name = "_ZSt15get_new_handlerv";
constinit Wanted wanted_throw{"_ZSt17__throw_bad_allocv", nullptr};
constinit Wanted wanted_handler{handler_name, nullptr};
constinit Wanted wanted_new{size_is_long ? "_Znwm" : "_Znwj", handler_name};
constinit Wanted wanted_nothrow{size_is_long ? "_ZnwmRKSt9nothrow_t" : "_ZnwjRKSt9nothrow_t",
                                handler_name};
constinit Wanted wanted_aligned_nothrow{
    size_is_long ? "_ZnwmSt11align_val_tRKSt9nothrow_t" : "_ZnwjSt11align_val_tRKSt9nothrow_t",
    handler_name};
constinit bool is_child_of_threads = false;

/// nullptr when there is none. Allocates nothing; takes a lock of the loader's.
void* search(const Wanted& wanted) noexcept {
  struct Search {
    const Wanted& wanted;
    const char* file;  // part of the object's name, or null
    void* found;
  } search{wanted, nullptr, nullptr};
  const auto look = [](dl_phdr_info* object, std::size_t, void* data) noexcept -> int {
    auto& [wanted, file, found] = *static_cast<Search*>(data);
    if (file != nullptr && std::strstr(object->dlpi_name, file) == nullptr) return 0;
    const Exports exports(*object);
    if (wanted.beside == nullptr || exports.find(wanted.beside) != nullptr) {
      found = exports.find(wanted.name);
    }
    return found != nullptr ? 1 : 0;
  };
  for (const char* const file : {"/libstdc++", "/libc++", static_cast<const char*>(nullptr)}) {
    search.file = file;
    if (dl_iterate_phdr(look, &search) != 0) break;
  }
  return search.found;
}

template <class Function>
Function* find_in_process(const Wanted& wanted) noexcept {
  void* found = is_child_of_threads ? wanted.before_fork.load() : nullptr;
  if (found == nullptr) found = search(wanted);
  return reinterpret_cast<Function*>(found);
}

/// After the heap registered its handlers of forks (101, SYSALLOC_DETAIL_START_AT_LOAD): those that
/// are registered later run before, and here no lock may be held that somebody wants who holds the
/// loader's.
[[gnu::constructor(102)]] void search_before_forks() noexcept {
  const auto prepare = []() noexcept {
    if (cached::os::is_single_threaded()) return;
    wanted_handler.before_fork = search(wanted_handler);
    if (wanted_handler.before_fork == nullptr) return;
    for (Wanted* const wanted :
         {&wanted_throw, &wanted_new, &wanted_nothrow, &wanted_aligned_nothrow}) {
      wanted->before_fork = search(*wanted);
    }
  };
  const auto child = []() noexcept {
    if (wanted_handler.before_fork != nullptr) is_child_of_threads = true;
  };
  cached::os::at_fork(prepare, [] {}, child);
}

}  // namespace

inline namespace with_cxx_library_found {

[[noreturn]] SYSALLOC_COLD inline void throw_bad_alloc() {
  if (&sysalloc_throw_bad_alloc != nullptr) sysalloc_throw_bad_alloc();
  if (auto* const found = find_in_process<void()>(wanted_throw)) found();
  // A plugin may have little more of a C++ library in it than the operators. Theirs fails, too.
  using New = void*(std::size_t);
  auto* const found = find_in_process<New>(wanted_new);
  if (found != nullptr) found(std::size_t{PTRDIFF_MAX} + 1);
  fatal("operator new is out of memory, and there is no C++ library to throw std::bad_alloc");
}

SYSALLOC_COLD inline std::new_handler new_handler() noexcept {
  if (&sysalloc_get_new_handler != nullptr) return sysalloc_get_new_handler();
  auto* const found = find_in_process<std::new_handler()>(wanted_handler);
  return found != nullptr ? found() : nullptr;
}

/// Has nothrow new of the C++ library try again, 0 for the alignment where the form names none.
/// False where there is none, as in a program that is linked with -static-libstdc++: the one here
/// is in its place.
SYSALLOC_COLD inline bool catching_new(std::size_t size, std::size_t align, void*& ptr) noexcept {
  const auto call = [&]<class... Align>(const Wanted& wanted, Align... aligned) {
    using New = void*(std::size_t, Align..., const std::nothrow_t&);
    auto* const found = find_in_process<New>(wanted);
    if (found != nullptr) ptr = found(size, aligned..., std::nothrow_t{});
    return found != nullptr;
  };
  return align == 0 ? call(wanted_nothrow) : call(wanted_aligned_nothrow, std::align_val_t{align});
}

}  // namespace with_cxx_library_found

}  // namespace sysalloc::detail
