// The child of a program with many threads allocates, whatever the other threads did at the fork.
//
// A lock that another thread held stays locked in the child for ever, so a failure is a child that
// never ends: the alarm ends it.

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "../../unit/support/environment.hpp"
#include "check.hpp"
#include "counts.hpp"

namespace {

constexpr int forks = 100;
constexpr int threads = 4;
constexpr unsigned child_seconds = 60;

std::atomic<bool> stop{false};

void keep_allocating() {
  while (!stop.load(std::memory_order_relaxed)) {
    test::exercise();
    std::vector<std::string> strings(20, std::string(300, 'x'));
    strings.resize(40, std::string(50, 'y'));
  }
}

// In the child: from the one thread that is left.
void child() {
  alarm(child_seconds);
  tests::leaks_are_expected();
  const std::size_t before = test::blocks_total();
  for (int i = 0; i < 20; ++i) test::exercise();
  std::vector<std::string> strings(100, std::string(5000, 'z'));
  CHECK(strings.back().size() == 5000);
  if (test::counted()) CHECK(test::blocks_total() >= before + 480 + 100);
  _exit(0);
}

}  // namespace

int main() {
  std::array<std::thread, threads> workers;
  for (std::thread& worker : workers) worker = std::thread(keep_allocating);
  for (int i = 0; i < forks; ++i) {
    // Allocated here, freed in the child and here.
    const test::Blocks inherited = test::allocate_all();
    const pid_t pid = fork();
    CHECK(pid >= 0);
    test::free_all(inherited, i);
    if (pid == 0) child();
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  stop = true;
  for (std::thread& worker : workers) worker.join();
  return 0;
}
