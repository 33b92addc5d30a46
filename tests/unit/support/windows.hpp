// <windows.h> without the macros that are named as functions of the standard library.

#ifndef SYSALLOC_TESTS_UNIT_SUPPORT_WINDOWS_HPP_
#define SYSALLOC_TESTS_UNIT_SUPPORT_WINDOWS_HPP_

#if !defined(NOMINMAX)
#define NOMINMAX
#endif
#include <windows.h>

#endif  // SYSALLOC_TESTS_UNIT_SUPPORT_WINDOWS_HPP_
