// Cached on Windows: the end of a thread, fibers, and the last error.

#include "../support/windows.hpp"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <sysalloc/cached.hpp>
#include <thread>

#include "support.hpp"

namespace {

using sysalloc::Layout;

Layout layout(std::size_t size) { return Layout::from_size_align_unchecked(size, 8); }

using tests::Heap;
constexpr Heap heap;

// Leaves some blocks of several sizes in the cache of the thread.
void fill_cache() {
  for (const std::size_t size : {16, 100, 3000}) {
    std::array<void*, 50> blocks{};
    for (void*& block : blocks) block = heap.alloc(layout(size));
    for (void* const block : blocks) heap.dealloc(block, layout(size));
  }
}

DWORD WINAPI fill_and_signal(void* event) {
  fill_cache();
  SetEvent(event);
  return 0;
}

void* main_fiber = nullptr;
void WINAPI fill_and_return(void* /*unused*/) {
  fill_cache();
  SwitchToFiber(main_fiber);
}

// Comes after the heap's own callback in the table of the loader, which has them in the order of
// the names of their sections; so what it does is the last of the thread.
std::atomic<bool> watching{false};
std::atomic<int> served_late{0};
void NTAPI allocate_late(void* /*module*/, DWORD reason, void* /*reserved*/) {
  if (reason != DLL_THREAD_DETACH || !watching) return;
  void* const first = heap.alloc(layout(100));
  void* const second = heap.alloc(layout(100));
  tests::fill_words(first, 100, 1);
  tests::fill_words(second, 100, 2);
  if (tests::holds_words(first, 100, 1)) ++served_late;
  heap.dealloc(first, layout(100));
  heap.dealloc(second, layout(100));
}
[[gnu::section(".CRT$XLYZ"), gnu::used]] const PIMAGE_TLS_CALLBACK late_callback = allocate_late;

}  // namespace

TEST_CASE("a thread that Windows itself made gives its cache back, too") {
  Heap::purge();
  const std::size_t before = Heap::stats().cached;
  const HANDLE filled = CreateEventA(nullptr, TRUE, FALSE, nullptr);
  const HANDLE thread = CreateThread(nullptr, 0, fill_and_signal, filled, 0, nullptr);
  REQUIRE(thread != nullptr);
  WaitForSingleObject(filled, INFINITE);
  WaitForSingleObject(thread, INFINITE);
  CloseHandle(thread);
  CloseHandle(filled);
  CHECK(Heap::stats().cached == before);
  Heap::purge();
  CHECK(Heap::stats().live == 0);
}

TEST_CASE("a thread that gave its cache back is served, and leaves nothing behind") {
  watching = true;
  for (int i = 0; i < 20; ++i) std::thread(fill_cache).join();
  watching = false;
  CHECK(served_late == 20);
  Heap::purge();
  CHECK(Heap::stats().cached == 0);
  CHECK(Heap::stats().live == 0);
}

TEST_CASE("a fiber that is deleted leaves the cache of its thread alone") {
  std::thread([] {
    main_fiber = ConvertThreadToFiber(nullptr);
    void* const fiber = CreateFiber(0, fill_and_return, nullptr);
    SwitchToFiber(fiber);
    const std::size_t cached = Heap::stats().cached;
    DeleteFiber(fiber);
    const std::size_t left = Heap::stats().cached;
    fill_cache();
    CHECK(cached > 0);
    CHECK(left == cached);
    ConvertFiberToThread();
  }).join();
  Heap::purge();
  CHECK(Heap::stats().cached == 0);
  CHECK(Heap::stats().live == 0);
}

TEST_CASE("no call changes the last error") {
  std::size_t changed = 0;
  const auto keeps = [&changed](auto call) {
    SetLastError(4711);
    call();
    if (GetLastError() != 4711) ++changed;
  };
  // From the first call of a thread to its last; above all classes, too.
  std::thread([&] {
    for (const std::size_t size : {16, 100, 3000, 50'000, 500'000, 3'000'000}) {
      void* ptr = nullptr;
      keeps([&] { ptr = heap.alloc(layout(size)); });
      keeps([&] { heap.dealloc(ptr, layout(size)); });
    }
    keeps([] { Heap::purge(); });
  }).join();
  CHECK(changed == 0);
}
