// Mutex: a lock that is constant-initialised, never destroyed, and needs no C++ library.
//
// A fork takes all locks of a heap, in a handler of pthread_atfork. Handlers of others may run
// after that one, or in the child before the one that releases the locks, and allocate: for the
// thread that forks, locks that it holds for the fork are open.

#ifndef SYSALLOC_CACHED_MUTEX_HPP_
#define SYSALLOC_CACHED_MUTEX_HPP_

#include <atomic>
#include <sysalloc/cached/os.hpp>

namespace sysalloc::detail::cached {

/// For std::lock_guard. Not recursive.
class Mutex {
 public:
  void lock() noexcept {
    if (is_forking()) return;
    // What it guards takes well under a microsecond: less than to sleep and to be woken.
    for (int tries = 0; tries < spins; ++tries) {
      if (lock_.try_lock()) return;
      os::pause();
    }
    lock_.lock();
  }
  void unlock() noexcept {
    if (!is_forking()) lock_.unlock();
  }

  /// For the handlers of a fork.
  void lock_for_fork() noexcept {
    lock();
    forking_thread_.store(os::this_thread(), std::memory_order_relaxed);
  }
  void unlock_after_fork() noexcept {
    forking_thread_.store(nullptr, std::memory_order_relaxed);
    unlock();
  }

 private:
  static constexpr int spins = 100;

  // Only the thread that it names sees itself there.
  [[nodiscard]] bool is_forking() const noexcept {
    return forking_thread_.load(std::memory_order_relaxed) == os::this_thread();
  }

  os::Lock lock_;
  std::atomic<const void*> forking_thread_{nullptr};
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_MUTEX_HPP_
