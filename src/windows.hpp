// <windows.h> without most of what it would bring, macros named min and max above all.

#ifndef SYSALLOC_SRC_WINDOWS_HPP_
#define SYSALLOC_SRC_WINDOWS_HPP_

#if !defined(NOMINMAX)
#define NOMINMAX
#endif
#if !defined(WIN32_LEAN_AND_MEAN)
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#endif  // SYSALLOC_SRC_WINDOWS_HPP_
