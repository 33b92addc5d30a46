// Mutex: a lock that is constant-initialised, never destroyed, and needs no C++ library.
//
// std::mutex can throw, so whoever uses it needs the function that throws from the very C++ library
// it was compiled with; the override object is to link with any.

#ifndef SYSALLOC_CACHED_MUTEX_HPP_
#define SYSALLOC_CACHED_MUTEX_HPP_

#include <pthread.h>

namespace sysalloc::detail::cached {

/// For std::lock_guard. Not recursive.
class Mutex {
 public:
  constexpr Mutex() noexcept = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  // Neither can fail for a mutex of the default kind that is used rightly (pthread_mutex_lock(3)).
  void lock() noexcept {
    // What it guards takes well under a microsecond: less than to sleep and to be woken.
    for (int tries = 0; tries < spins; ++tries) {
      if (pthread_mutex_trylock(&mutex_) == 0) return;
      pause();
    }
    pthread_mutex_lock(&mutex_);
  }
  void unlock() noexcept { pthread_mutex_unlock(&mutex_); }

 private:
  static constexpr int spins = 100;

  static void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }

  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_MUTEX_HPP_
