// Threads: as many as are added, joined at the end of the scope. libc++ 19 has no std::jthread.

#ifndef SYSALLOC_TESTS_UNIT_SUPPORT_THREADS_HPP_
#define SYSALLOC_TESTS_UNIT_SUPPORT_THREADS_HPP_

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
    threads_.emplace_back(std::move(work));
  }

  void join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  std::vector<std::thread> threads_;
};

}  // namespace tests

#endif  // SYSALLOC_TESTS_UNIT_SUPPORT_THREADS_HPP_
