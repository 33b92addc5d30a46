// Mutex: a lock that is constant-initialised, never destroyed, and needs no C++ library.
//
// std::mutex can throw, so whoever uses it needs the function that throws from the very C++ library
// it was compiled with; the override object is to link with any.
//
// A fork takes all locks of a heap, in a handler of pthread_atfork. Handlers of others may run
// after that one, or in the child before the one that releases the locks, and allocate: for the
// thread that forks, locks that it holds for the fork are open.

#ifndef SYSALLOC_CACHED_MUTEX_HPP_
#define SYSALLOC_CACHED_MUTEX_HPP_

#include <pthread.h>

#include <atomic>

namespace sysalloc::detail::cached {

/// For std::lock_guard. Not recursive.
class Mutex {
 public:
  constexpr Mutex() noexcept = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  // Neither can fail for a mutex of the default kind that is used rightly (pthread_mutex_lock(3)).
  void lock() noexcept {
    if (is_forking()) return;
    // What it guards takes well under a microsecond: less than to sleep and to be woken.
    for (int tries = 0; tries < spins; ++tries) {
      if (pthread_mutex_trylock(&mutex_) == 0) return;
      pause();
    }
    pthread_mutex_lock(&mutex_);
  }
  void unlock() noexcept {
    if (!is_forking()) pthread_mutex_unlock(&mutex_);
  }

  /// For the handlers of a fork.
  void lock_for_fork() noexcept {
    lock();
    forking_thread_.store(&this_thread_, std::memory_order_relaxed);
  }
  void unlock_after_fork() noexcept {
    forking_thread_.store(nullptr, std::memory_order_relaxed);
    unlock();
  }

 private:
  static constexpr int spins = 100;

  static void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }

  // Only the thread that it names sees its own address there.
  [[nodiscard]] bool is_forking() const noexcept {
    return forking_thread_.load(std::memory_order_relaxed) == &this_thread_;
  }

  // Its address tells threads apart.
  [[gnu::tls_model("initial-exec")]] static inline constinit thread_local char this_thread_ = 0;

  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  std::atomic<const char*> forking_thread_{nullptr};
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_MUTEX_HPP_
