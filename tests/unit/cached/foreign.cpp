// Pointers that Cached never gave out go to its backend, also those that lie close to its own.

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <sysalloc/cached.hpp>

#include "support.hpp"

#if __has_include(<linux/seccomp.h>) && (defined(__x86_64__) || defined(__i386__))
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#define SYSALLOC_TEST_SANDBOX
#endif

namespace {

using sysalloc::Cached;
using sysalloc::Layout;
using sysalloc::System;

Layout layout(std::size_t size, std::size_t align = 8) {
  return Layout::from_size_align_unchecked(size, align);
}

// Counts what comes back that a test announced, instead of freeing it. While it keeps what it was
// given back it notes only where that is.
struct Watching {
  static inline std::atomic<void*> expected{nullptr};
  static inline std::atomic<std::size_t> sized{0};
  static inline std::atomic<std::size_t> unsized{0};
  static inline bool keeps = false;
  static inline void* kept = nullptr;

  void* alloc(Layout layout) const noexcept { return System{}.alloc(layout); }
  void dealloc(void* ptr, Layout layout) const noexcept {
    if (keeps) {
      kept = ptr;
    } else if (ptr == expected) {
      ++sized;
    } else {
      System{}.dealloc(ptr, layout);
    }
  }
  void dealloc_unsized(void* ptr, std::size_t align) const noexcept {
    if (ptr == expected) {
      ++unsized;
    } else {
      System{}.dealloc_unsized(ptr, align);
    }
  }
};

// Frees what is at `ptr`, with its size and without, and finds that both go to the backend.
void check_is_foreign(void* ptr) {
  const Cached<Watching> heap;
  Watching::expected = ptr;
  const std::size_t before = Watching::sized + Watching::unsized;
  heap.dealloc(ptr, layout(40));
  heap.dealloc_unsized(ptr, 8);
  CHECK(Watching::sized + Watching::unsized == before + 2);
  Watching::expected = nullptr;
}

}  // namespace

TEST_CASE("blocks of malloc and of System are freed by System") {
  const Cached<> heap;
  for (const std::size_t size : {1, 24, 100, 5000, 100'000, 3'000'000}) {
    heap.dealloc(std::malloc(size), layout(size));
    heap.dealloc_unsized(std::malloc(size), System::min_align);
    heap.dealloc(System{}.alloc(layout(size, 64)), layout(size, 64));
    heap.dealloc_unsized(System{}.alloc(layout(size, 4096)), 4096);
    heap.dealloc(System{}.alloc(layout(size, 1 << 17)), layout(size, 1 << 17));
  }
  heap.dealloc(nullptr, layout(8));
  heap.dealloc_unsized(nullptr, 16);
  CHECK(Cached<>::stats().wrong_sizes == 0);
}

TEST_CASE("usable_size of what is not of the heap is 0") {
  const tests::Heap heap;
  void* const ptr = std::malloc(100);
  CHECK(heap.usable_size(ptr) == 0);
  CHECK(heap.usable_size(nullptr) == 0);
  std::free(ptr);
}

TEST_CASE("an address of a large block that is gone is foreign again") {
  if (!tests::plain_malloc()) {
    tests::not_checked("addresses of freed large blocks", "the heap steps aside");
    return;
  }
  const Cached<Watching> heap;
  void* const block = heap.alloc(layout(5 << 20));
  REQUIRE(block != nullptr);
  Watching::keeps = true;
  heap.dealloc(block, layout(5 << 20));
  Watching::keeps = false;
  REQUIRE(Watching::kept != block);
  // Whoever gets the memory next writes something of its own before a block there, as malloc does.
  static_cast<std::size_t*>(block)[-1] = 49;
  check_is_foreign(block);
  System{}.dealloc_unsized(Watching::kept, 1);
}

TEST_CASE("an address above all that a heap has is foreign") {
  if constexpr (sizeof(void*) == 8) {
    // As of a backend that has tags in the upper byte.
    auto* const tagged = reinterpret_cast<void*>(std::uint64_t{0x0a00'7f12'3456'7890});
    CHECK(Cached<Watching>{}.usable_size(tagged) == 0);
    check_is_foreign(tagged);
  } else {
    tests::not_checked("addresses above all that a heap has", "there are none");
  }
}

#if defined(SYSALLOC_TEST_SANDBOX)

namespace {

// From now on mincore(2) fails in this process, as a sandbox may have it. False where it does not.
bool forbid_mincore() {
  std::array<sock_filter, 4> filter{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mincore, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog program{filter.size(), filter.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace

TEST_CASE(
    "blocks of malloc where blocks were freed are told apart where a sandbox forbids to ask") {
  if (!tests::plain_malloc() || tests::emulated()) {
    tests::not_checked("a sandbox", "a checker or emulator needs calls of its own");
    return;
  }
  constexpr int not_here = 77;
  const pid_t child = fork();
  if (child == 0) {
    if (!forbid_mincore()) _exit(not_here);
    const Cached<> heap;
    // malloc keeps what is freed, from the second one of a size on, and uses it again.
    for (const std::size_t size : {4 << 20, 2 << 20}) {
      std::array<void*, 40> blocks{};
      for (void*& ptr : blocks) ptr = heap.alloc(layout(size));
      for (void* const ptr : blocks) heap.dealloc(ptr, layout(size));
    }
    static std::array<void*, 200'000> others;
    for (void*& ptr : others) ptr = std::malloc(200);
    for (void* const ptr : others) heap.dealloc_unsized(ptr, System::min_align);
    _exit(0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == not_here) {
    tests::not_checked("a sandbox", "this kernel has none");
    return;
  }
  CHECK(status == 0);
}

#endif
