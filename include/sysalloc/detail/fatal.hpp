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

/// While it lives what is called is no cancellation point, as write(2) and close(2) are: a thread
/// that is cancelled in a function that does not throw ends the program.
class NoCancellation {
#if defined(PTHREAD_CANCEL_DISABLE)
 public:
  NoCancellation() noexcept { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  NoCancellation(const NoCancellation&) = delete;
  NoCancellation& operator=(const NoCancellation&) = delete;
  ~NoCancellation() { pthread_setcancelstate(before_, nullptr); }

 private:
  int before_ = 0;
#endif
};

/// Writes text to a descriptor, the standard error's as a rule. Allocates nothing and takes no lock
/// but that of the descriptor on Windows, so that it may be called from inside an allocator. What
/// cannot be written is lost.
inline void write_error(const char* text, int descriptor = 2) noexcept {
#if defined(_WIN32)
  static_cast<void>(_write(descriptor, text, static_cast<unsigned>(std::strlen(text))));
#else
  [[maybe_unused]] const NoCancellation guard;
  [[maybe_unused]] const auto written = write(descriptor, text, std::strlen(text));
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
