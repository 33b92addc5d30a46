// fatal: the last words of a program that cannot go on.

#ifndef SYSALLOC_DETAIL_FATAL_HPP_
#define SYSALLOC_DETAIL_FATAL_HPP_

#include <cstdlib>
#include <cstring>
#include <sysalloc/detail/compiler.hpp>

#if defined(_WIN32)
#include <io.h>
#else
#include <pthread.h>
#include <unistd.h>
#endif

namespace sysalloc::detail {

/// Writes text to a descriptor, the standard error's as a rule. Allocates nothing and takes no lock
/// but that of the descriptor on Windows, so that it may be called from inside an allocator. What
/// cannot be written is lost. No cancellation point, as write(2) is: a thread that is cancelled in
/// a function that does not throw ends the program, and nobody hears of what was to be said.
inline void write_error(const char* text, int descriptor = 2) noexcept {
#if defined(_WIN32)
  static_cast<void>(_write(descriptor, text, static_cast<unsigned>(std::strlen(text))));
#else
#if defined(PTHREAD_CANCEL_DISABLE)
  int before = 0;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
#endif
  [[maybe_unused]] const auto written = write(descriptor, text, std::strlen(text));
#if defined(PTHREAD_CANCEL_DISABLE)
  pthread_setcancelstate(before, nullptr);
#endif
#endif
}

/// Writes `sysalloc: MESSAGE` and a line end to the standard error and aborts.
[[noreturn]] SYSALLOC_COLD inline void fatal(const char* message) noexcept {
  write_error("sysalloc: ");
  write_error(message);
  write_error("\n");
  std::abort();
}

}  // namespace sysalloc::detail

#endif  // SYSALLOC_DETAIL_FATAL_HPP_
