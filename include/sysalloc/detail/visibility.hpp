// Marks for definitions that other files see, share or replace.
//
// On ELF a weak definition gives way to an ordinary one, wherever both stand on the link line. PE
// has that only within an object file: a weak definition there is a name for references of the same
// file, no other file can use it, and an archive that has the name (libstdc++.a has the operators)
// comes before it. What PE has instead is COMDAT: definitions that several files have alike, of
// which the program gets one, and beside which an ordinary one is an error. So on PE
//
//   the operators   are COMDAT, in the override object and in the file of the macro: they are the
//                   same there, for all they do is to call the hooks;
//   the hooks       are weak in the override object, which is the one that calls them, and ordinary
//                   where the allocator is settled;
//   the defaults    of global.hpp are ordinary, in a member of libsysalloc.a that is drawn in only
//                   by a program that has no others;
//   System          is COMDAT, in the library and in the override object.
//
// The Microsoft linker has other means than these, which nobody has tried: with its compiler all
// are ordinary definitions, so the override object and the macro do not mix.

#ifndef SYSALLOC_DETAIL_VISIBILITY_HPP_
#define SYSALLOC_DETAIL_VISIBILITY_HPP_

#include <sysalloc/detail/compiler.hpp>

#if defined(_WIN32) && defined(__GNUC__)

#define SYSALLOC_EXPORT
/// A definition that another one in the program replaces.
#define SYSALLOC_WEAK __attribute__((weak))
/// The same in a member of an archive.
#define SYSALLOC_LIBRARY_DEFAULT
/// A definition that several object files may have, all alike.
#define SYSALLOC_SHARED_DEFINITION inline __attribute__((used))
/// The operators of the override object, and those of SYSALLOC_GLOBAL_ALLOCATOR, which give way to
/// them. Out of line: the compiler knows what new and delete do, and warns where it sees what other
/// functions these call.
#define SYSALLOC_OPERATOR SYSALLOC_SHARED_DEFINITION SYSALLOC_NOINLINE
#define SYSALLOC_WEAK_OPERATOR SYSALLOC_OPERATOR

#if defined(__clang__)
// The standard asks that the operators be not inline, for which of several a program gets would not
// be known; here they are alike.
#pragma clang diagnostic ignored "-Winline-new-delete"
#endif

#elif defined(_WIN32)

#define SYSALLOC_EXPORT
#define SYSALLOC_WEAK
#define SYSALLOC_LIBRARY_DEFAULT
#define SYSALLOC_SHARED_DEFINITION
#define SYSALLOC_OPERATOR
#define SYSALLOC_WEAK_OPERATOR

#else

/// Visible outside its shared library also when the rest is compiled with -fvisibility=hidden.
#define SYSALLOC_EXPORT __attribute__((visibility("default")))
#define SYSALLOC_WEAK __attribute__((weak))
#define SYSALLOC_LIBRARY_DEFAULT SYSALLOC_WEAK
#define SYSALLOC_SHARED_DEFINITION inline
#define SYSALLOC_OPERATOR SYSALLOC_EXPORT
#define SYSALLOC_WEAK_OPERATOR SYSALLOC_EXPORT SYSALLOC_WEAK

#endif

#endif  // SYSALLOC_DETAIL_VISIBILITY_HPP_
