// Everything of sysalloc. Each header can also be included alone.

#ifndef SYSALLOC_SYSALLOC_HPP_
#define SYSALLOC_SYSALLOC_HPP_

#if defined(_MSVC_LANG) ? _MSVC_LANG <= 202002L : __cplusplus <= 202002L
#error "sysalloc needs C++23: compile this file with -std=c++23 (g++ 12, clang 19 or newer)"
#else

#include <sysalloc/alloc_error.hpp>
#include <sysalloc/allocator.hpp>
#include <sysalloc/cached.hpp>
#include <sysalloc/counting.hpp>
#include <sysalloc/failing.hpp>
#include <sysalloc/global.hpp>
#include <sysalloc/global_alloc.hpp>
#include <sysalloc/global_allocator.hpp>
#include <sysalloc/layout.hpp>
#include <sysalloc/limited.hpp>
#include <sysalloc/memory_resource.hpp>
#include <sysalloc/std_allocator.hpp>
#include <sysalloc/system.hpp>

#endif

#endif  // SYSALLOC_SYSALLOC_HPP_
