// Threads: as many as are added. They start to work together, when they are joined: one that began
// at once could be done before the next exists, and nothing would have happened at the same time.

#ifndef SYSALLOC_TESTS_UNIT_SUPPORT_THREADS_HPP_
#define SYSALLOC_TESTS_UNIT_SUPPORT_THREADS_HPP_

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

namespace tests {

class Threads {
 public:
  Threads() = default;
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() { join(); }

  template <class Work>
  void add(Work work) {
    threads_.emplace_back([this, work = std::move(work)] {
      while (!go_.load(std::memory_order_acquire)) std::this_thread::yield();
      work();
    });
  }

  void join() {
    go_.store(true, std::memory_order_release);
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  std::atomic<bool> go_{false};
  std::vector<std::thread> threads_;
};

}  // namespace tests

#endif  // SYSALLOC_TESTS_UNIT_SUPPORT_THREADS_HPP_
