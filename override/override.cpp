// The override: all 20 replaceable forms of operator new and delete, over the global allocator.
//
// One translation unit, so that no link can take some of the forms and leave others to the C++
// library: blocks would then be allocated by one and freed by the other.
//
// The build compiles it in two ways:
//
//   as it is                  for System, and for static linking: the hooks are weak, and a program
//                             that says SYSALLOC_GLOBAL_ALLOCATOR has hooks that replace them.
//   SYSALLOC_OVERRIDE_FIXED   the allocator is settled: in the shared library, where a program's
//                             hooks could not reach, and for every allocator but System. A program
//                             that chooses another one in its source is refused by the linker.
//
// SYSALLOC_OVERRIDE_HEADER and SYSALLOC_OVERRIDE_TYPE name an allocator other than System. With
// SYSALLOC_OVERRIDE_USABLE_SIZE it is Cached, and malloc_usable_size is replaced, too; with
// SYSALLOC_OVERRIDE_MALLOC besides, malloc and all of its kin. SYSALLOC_OVERRIDE_SHARED says that
// it is for a shared library, and SYSALLOC_OVERRIDE_FIND_CXX_LIBRARY that this is not linked with
// the C++ library.

#if defined(SYSALLOC_OVERRIDE_FIND_CXX_LIBRARY)
#include "cxx_library.hpp"
#endif

#include <sysalloc/global_allocator.hpp>

// One translation unit on purpose, as said above.
// NOLINTBEGIN(bugprone-suspicious-include)
#define SYSALLOC_SYSTEM_INLINE SYSALLOC_SHARED_DEFINITION
#if defined(_WIN32)
#include "../src/system_windows.cpp"
#if defined(SYSALLOC_OVERRIDE_HEADER)
#include "../src/cached_windows.cpp"
#endif
#else
#include "../src/system_unix.cpp"
#endif
// NOLINTEND(bugprone-suspicious-include)

#if defined(SYSALLOC_OVERRIDE_HEADER)
#include SYSALLOC_OVERRIDE_HEADER
using sysalloc_global_allocator_type = SYSALLOC_OVERRIDE_TYPE;
#else
using sysalloc_global_allocator_type = sysalloc::System;
#endif
SYSALLOC_DETAIL_CHECK_TYPE()

#if defined(SYSALLOC_OVERRIDE_FIXED)
SYSALLOC_DETAIL_START_AT_LOAD()
SYSALLOC_DETAIL_DEFINE_FUNCTIONS()
SYSALLOC_DETAIL_DEFINE_HOOKS()
#else
// On Windows the library's own functions go to System, too, and a weak definition is for one file.
#if !defined(_WIN32)
SYSALLOC_DETAIL_DEFINE_FUNCTIONS(SYSALLOC_WEAK)
#endif
SYSALLOC_DETAIL_DEFINE_HOOKS(SYSALLOC_WEAK)
#endif

SYSALLOC_DETAIL_DEFINE_OPERATORS(SYSALLOC_OPERATOR)

#if defined(SYSALLOC_OVERRIDE_USABLE_SIZE) && defined(__GLIBC__)
#include "usable_size.cpp"  // NOLINT(bugprone-suspicious-include): as above
#endif

#if defined(SYSALLOC_OVERRIDE_SHARED) && defined(SYSALLOC_OVERRIDE_HEADER) && defined(__GLIBC__)
#include "dlopen.cpp"  // NOLINT(bugprone-suspicious-include): as above
#endif

#if defined(SYSALLOC_OVERRIDE_MALLOC)
#include "malloc.cpp"  // NOLINT(bugprone-suspicious-include): as above
#endif
