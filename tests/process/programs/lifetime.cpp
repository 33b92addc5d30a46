// Allocates at every moment of a program's life: before main, after it, and in between.
//
// main returns 1, and the last moment to come ends the program with 0: one that is left out fails
// the test as a crash does.

#include "lifetime.hpp"

#include <cstdlib>
#include <thread>

#include "check.hpp"
#include "counts.hpp"

namespace {

void live_through(test::Moment moment) {
  test::live_through(moment, test::counted() ? test::blocks_total : nullptr);
}

[[gnu::constructor]] void construct() { live_through(test::program_constructor); }
[[gnu::destructor]] void destruct() { live_through(test::program_destructor); }

struct Static {
  Static() { live_through(test::program_static_constructor); }
  Static(const Static&) = delete;
  Static& operator=(const Static&) = delete;
  ~Static() { live_through(test::program_static_destructor); }
};
const Static static_object;

struct ThreadLocal {
  explicit ThreadLocal(test::Moment at_end) : at_end_(at_end) {
    live_through(test::thread_local_constructor);
  }
  ThreadLocal(const ThreadLocal&) = delete;
  ThreadLocal& operator=(const ThreadLocal&) = delete;
  ~ThreadLocal() { live_through(at_end_); }
  void use() const {}

 private:
  test::Moment at_end_;
};

// Destroyed when its thread ends: for main's, that is after main returns.
thread_local ThreadLocal in_thread{test::thread_local_destructor_in_thread};
thread_local ThreadLocal in_main{test::thread_local_destructor_in_main};

}  // namespace

int main() {
  std::thread([] { in_thread.use(); }).join();
  live_through(test::in_main);
  CHECK(std::atexit([] { live_through(test::at_exit_handler); }) == 0);
  in_main.use();
  return 1;
}
