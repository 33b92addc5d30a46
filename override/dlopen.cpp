// dlopen(3) and dlmopen(3) without RTLD_DEEPBIND: what is loaded with it finds the functions of the
// C and the C++ library before those of this one, and so frees with them what others took from
// here: every string that getline(3) or libstdc++ gave it. PHP loads its extensions that way, and
// Apache its modules; with an allocator preloaded that knows nothing of it they crash.
//
// Part of override.cpp, in shared libraries, where the allocator is not System, which is the C
// library's.

#include <dlfcn.h>

#include <atomic>
#include <sysalloc/detail/visibility.hpp>

#include "next.hpp"

namespace {

/// The C library's function of that name, or one that fails.
template <class... Args>
auto next_open(const char* name, std::atomic<void*>& found) -> void* (*)(Args...) {
  void* const next = sysalloc::detail::next_of(name, found);
  if (next == nullptr) return [](Args...) -> void* { return nullptr; };
  return reinterpret_cast<void* (*)(Args...)>(next);
}
constinit std::atomic<void*> next_dlopen{nullptr};

}  // namespace

// glibc takes the caller, for whose sake it looks in some directories and not in others, from the
// address that it returns to. So the call has to be a jump; which clang makes only of a function
// that is not noexcept, as the declaration by its own name is.
#if defined(__clang__)
#define SYSALLOC_JUMP [[clang::musttail]]
#define SYSALLOC_JUMPS
#else
#define SYSALLOC_JUMP
#define SYSALLOC_JUMPS __attribute__((optimize("O2")))
#endif

/// As the C library's, which also says what is wrong where it fails. Not in the other order, which
/// the module may have asked for with good reason: where two libraries have a function of one name,
/// it now gets that of the program, as without the flag.
extern "C" SYSALLOC_EXPORT SYSALLOC_JUMPS void* sysalloc_dlopen(const char* file,
                                                                int mode) asm("dlopen");
extern "C" void* sysalloc_dlopen(const char* file, int mode) {
  SYSALLOC_JUMP return next_open<const char*, int>("dlopen", next_dlopen)(file,
                                                                          mode & ~RTLD_DEEPBIND);
}

#if defined(LM_ID_BASE)
namespace {
constinit std::atomic<void*> next_dlmopen{nullptr};
}

/// Likewise among what the program has; in a namespace of its own nothing was preloaded.
extern "C" SYSALLOC_EXPORT SYSALLOC_JUMPS void* sysalloc_dlmopen(Lmid_t space, const char* file,
                                                                 int mode) asm("dlmopen");
extern "C" void* sysalloc_dlmopen(Lmid_t space, const char* file, int mode) {
  const int looked_for = space == LM_ID_BASE ? mode & ~RTLD_DEEPBIND : mode;
  SYSALLOC_JUMP return next_open<Lmid_t, const char*, int>("dlmopen", next_dlmopen)(space, file,
                                                                                    looked_for);
}
#endif
