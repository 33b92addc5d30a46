// How much of a thread's stack Cached takes: threads may have 16 KiB, and coroutines less.

#include <doctest/doctest.h>
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <sysalloc/cached.hpp>
#include <thread>
#include <vector>

#include "support.hpp"

namespace {

using sysalloc::Layout;
using tests::Heap;
constexpr Heap heap;

struct Block {
  void* ptr;
  Layout layout;
};

// A stack that tells how much of it was used.
class Stack {
 public:
  Stack()
      : bytes_(static_cast<unsigned char*>(
            mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    REQUIRE(bytes_ != MAP_FAILED);
    std::fill_n(bytes_, size, unused);
  }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  ~Stack() { munmap(bytes_, size); }

  // Runs `work` in a thread that has this stack, and returns how many bytes of it lie below what
  // the thread had taken before.
  template <class Work>
  std::size_t use(Work work) {
    struct Call {
      Work& work;
      std::uintptr_t begin;
    } call{work, 0};
    pthread_attr_t attributes;
    REQUIRE(pthread_attr_init(&attributes) == 0);
    REQUIRE(pthread_attr_setstack(&attributes, bytes_, size) == 0);
    const auto run = [](void* argument) -> void* {
      auto& to = *static_cast<Call*>(argument);
      // No variable's: AddressSanitizer has these elsewhere.
      to.begin = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
      to.work();
      return nullptr;
    };
    pthread_t thread{};
    REQUIRE(pthread_create(&thread, &attributes, run, &call) == 0);
    REQUIRE(pthread_join(thread, nullptr) == 0);
    pthread_attr_destroy(&attributes);
    const auto* const lowest =
        std::find_if(bytes_, bytes_ + size, [](unsigned char byte) { return byte != unused; });
    return call.begin - reinterpret_cast<std::uintptr_t>(lowest);
  }

 private:
  static constexpr std::size_t size = 1 << 20;
  static constexpr unsigned char unused = 0x5a;
  unsigned char* bytes_;
};

}  // namespace

TEST_CASE("freeing what many threads allocated takes little of the stack") {
  if (tests::under_valgrind()) {
    tests::not_checked("stacks", "valgrind lets nobody read what a thread left of one");
    return;
  }
  constexpr std::size_t thread_count = 40;
  std::vector<std::vector<Block>> blocks_of(thread_count);
  // They live meanwhile, or their blocks would be of fewer shards.
  std::barrier allocated(thread_count + 1);
  std::barrier freed(thread_count + 1);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < thread_count; ++i) {
    threads.emplace_back([&, i] {
      tests::Random random(tests::seed() + i);
      for (int k = 0; k < 3300; ++k) {
        const auto layout = Layout::from_size_align_unchecked(1 + random() % 1024, 8);
        blocks_of[i].push_back({heap.alloc(layout), layout});
      }
      allocated.arrive_and_wait();
      freed.arrive_and_wait();
    });
  }
  allocated.arrive_and_wait();
  std::vector<Block> blocks;
  for (const auto& of : blocks_of) blocks.insert(blocks.end(), of.begin(), of.end());
  std::ranges::shuffle(blocks, tests::Random(tests::seed()));
  Stack stack;
  const std::size_t used = stack.use([&blocks] {
    for (const Block& block : blocks) heap.dealloc(block.ptr, block.layout);
  });
  freed.arrive_and_wait();
  for (std::thread& thread : threads) thread.join();
  CHECK(used < (tests::under_sanitizer ? 16 : 8) * std::size_t{1024});
}
