// Cached in a library that is loaded while the program runs: threads that began before and after
// use it, and end after it.
//
// SYSALLOC_TEST_PLUGIN names the library.

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <thread>

#include "../support/threads.hpp"
#include "plugin.hpp"
#include "support.hpp"

#if defined(_WIN32)
#include "../support/windows.hpp"
#else
#include <dlfcn.h>
#endif

namespace {

// A library that stays loaded whatever is closed: on Unix because it is linked so.
#if defined(_WIN32)
HMODULE open(const char* path) {
  HMODULE pinned = nullptr;
  if (LoadLibraryA(path) == nullptr ||
      !GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_PIN, path, &pinned)) {
    return nullptr;
  }
  return pinned;
}
void* find(HMODULE library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(library, name));
}
bool close(HMODULE library) { return FreeLibrary(library) != 0; }
#else
void* open(const char* path) { return dlopen(path, RTLD_NOW | RTLD_LOCAL); }
void* find(void* library, const char* name) { return dlsym(library, name); }
bool close(void* library) { return dlclose(library) == 0; }
#endif

struct Plugin {
  Plugin() : handle(open(std::getenv("SYSALLOC_TEST_PLUGIN"))) {
    REQUIRE(handle != nullptr);
    alloc = reinterpret_cast<decltype(alloc)>(find(handle, "plugin_alloc"));
    dealloc = reinterpret_cast<decltype(dealloc)>(find(handle, "plugin_dealloc"));
    live = reinterpret_cast<decltype(live)>(find(handle, "plugin_live"));
    REQUIRE((alloc != nullptr));
    REQUIRE((dealloc != nullptr));
    REQUIRE((live != nullptr));
  }

  // Returns whether every block was served and kept its contents.
  [[nodiscard]] bool exercise() const {
    constexpr std::array<std::size_t, 6> sizes{16, 100, 2000, 50'000, 500'000, 3 << 20};
    bool good = true;
    for (int round = 0; round < 50; ++round) {
      std::array<void*, sizes.size()> blocks{};
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        blocks[i] = alloc(sizes[i]);
        if (blocks[i] == nullptr) return false;
        tests::fill_words(blocks[i], sizes[i], i);
      }
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        good = good && tests::holds_words(blocks[i], sizes[i], i);
        dealloc(blocks[i], sizes[i]);
      }
    }
    return good;
  }

  decltype(open("")) handle;
  decltype(&plugin_alloc) alloc = nullptr;
  decltype(&plugin_dealloc) dealloc = nullptr;
  decltype(&plugin_live) live = nullptr;
};

}  // namespace

TEST_CASE("threads from before and after it was loaded") {
  std::atomic<const Plugin*> loaded{nullptr};
  std::atomic<int> faults{0};
  const auto work = [&] {
    while (loaded.load(std::memory_order_acquire) == nullptr) std::this_thread::yield();
    if (!loaded.load()->exercise()) ++faults;
  };
  std::thread early(work);
  const Plugin plugin;
  loaded.store(&plugin, std::memory_order_release);
  std::thread late(work);
  CHECK(plugin.exercise());
  // It stays loaded, so that threads that used it may end after this.
  CHECK(close(plugin.handle));
  early.join();
  late.join();
  CHECK(faults == 0);
  CHECK(plugin.live() == 0);
}
