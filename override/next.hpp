// The function that one of this library's replaces: the next of its name in the order in which the
// loader looks.
#pragma once

#include <dlfcn.h>

#include <atomic>

extern "C" {
// Weak, so that programs for which an older C library would need -ldl link all the same.
// NOLINTNEXTLINE(readability-redundant-declaration)
__attribute__((weak)) void* dlsym(void* handle, const char* name) noexcept;
}

namespace sysalloc::detail {

/// nullptr when there is none, as in static programs. Thread-safe; `found` keeps the answer.
inline void* next_of(const char* name, std::atomic<void*>& found) noexcept {
  void* next = found.load(std::memory_order_relaxed);
  if (next != nullptr || &dlsym == nullptr) return next;
  next = dlsym(RTLD_NEXT, name);
  found.store(next, std::memory_order_relaxed);
  return next;
}

}  // namespace sysalloc::detail
