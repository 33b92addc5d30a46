// Marks for symbols that cross the boundary of a shared library or give way to another definition.

#ifndef SYSALLOC_DETAIL_VISIBILITY_HPP_
#define SYSALLOC_DETAIL_VISIBILITY_HPP_

#if defined(_WIN32)
#define SYSALLOC_EXPORT
#else
/// Visible outside its shared library also when the rest is compiled with -fvisibility=hidden.
#define SYSALLOC_EXPORT __attribute__((visibility("default")))
#endif

/// A definition that another one in the program replaces.
#define SYSALLOC_WEAK __attribute__((weak))

#endif  // SYSALLOC_DETAIL_VISIBILITY_HPP_
