// What the tests of Cached share: backends, a random mix of layouts, and a seed from outside.

#ifndef SYSALLOC_TESTS_UNIT_CACHED_SUPPORT_HPP_
#define SYSALLOC_TESTS_UNIT_CACHED_SUPPORT_HPP_

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <sysalloc/cached.hpp>
#include <sysalloc/counting.hpp>
#include <sysalloc/failing.hpp>
#include <sysalloc/limited.hpp>
#include <sysalloc/system.hpp>

#if !defined(_WIN32)
#include <sys/mman.h>
#include <sys/resource.h>
#endif

#include "../support/environment.hpp"

namespace tests {

using sysalloc::Layout;

/// System with a budget, none at first, an account of what it gave, and failures on demand.
///
/// Cached has one heap for each backend type, and each takes seconds to compile. So most programs
/// have the one of heap.cpp, and a case that needs a fresh one has a process of its own
/// (meson.build). Where a case needs two, a type derived from this has the other.
///
/// It cannot free without a size, so Cached does not step aside for a memory checker: under one the
/// heap itself is checked.
struct Backend {
  using Limited = sysalloc::Limited<sysalloc::System>;
  using Counting = sysalloc::Counting<sysalloc::ByRef<Limited>>;
  using Failing = sysalloc::Failing<sysalloc::ByRef<Counting>>;
  static inline constinit const Limited limited{};
  static inline constinit const Counting counting{limited.by_ref()};
  static inline constinit const Failing failing{counting.by_ref()};
  /// Called first in each call, if it is set.
  static inline void (*hook)() = nullptr;

  void* alloc(Layout layout) const noexcept {
    if (hook != nullptr) hook();
    void* const ptr = failing.alloc(layout);
    // What the heap keeps for itself: never zero by luck.
    if (ptr != nullptr && layout.size() <= std::size_t{1} << 19) {
      std::memset(ptr, 0xcc, layout.size());
    }
    return ptr;
  }
  void* alloc_zeroed(Layout layout) const noexcept { return failing.alloc_zeroed(layout); }
  void dealloc(void* ptr, Layout layout) const noexcept {
    if (hook != nullptr) hook();
    failing.dealloc(ptr, layout);
  }

  static std::size_t bytes() { return counting.stats().bytes_live; }
  static std::size_t blocks() { return counting.stats().blocks_live; }
};

/// Cached<Backend>, compiled once for all programs (heap.cpp). The model has Cached itself.
struct Heap : sysalloc::AllocatorInterface<Heap> {
  void* alloc(Layout layout) const noexcept;
  void* alloc_zeroed(Layout layout) const noexcept;
  void dealloc(void* ptr, Layout layout) const noexcept;
  void dealloc_unsized(void* ptr, std::size_t align) const noexcept;
  void* realloc(void* ptr, Layout layout, std::size_t new_size) const noexcept;
  void* realloc(void* ptr, Layout layout, Layout new_layout) const noexcept;
  std::size_t usable_size(const void* ptr, std::size_t align = 1) const noexcept;
  static void purge() noexcept;
  static sysalloc::CachedStats stats() noexcept;
};

/// How often this process touched a page that was not there; 0 where nobody counts that.
inline long page_faults() {
#if defined(_WIN32)
  return 0;
#else
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
#endif
}

/// How many of the pages are there that the `size` bytes from `begin` on take, at most 2 MiB; 0
/// where nobody tells.
inline std::size_t pages_there([[maybe_unused]] std::byte* begin,
                               [[maybe_unused]] std::size_t size) {
  std::array<unsigned char, 512> there{};
#if !defined(_WIN32)
  mincore(begin, size, there.data());
#endif
  return static_cast<std::size_t>(std::ranges::count_if(there, [](int page) { return page & 1; }));
}

/// What SYSALLOC_TEST_SEED says, or the same every time.
inline std::uint64_t seed() {
  const char* const text = std::getenv("SYSALLOC_TEST_SEED");
  return text == nullptr ? 20260101 : std::strtoull(text, nullptr, 10);
}

/// Steps of a long test: fewer where each costs more.
inline std::size_t steps(std::size_t in_release) {
  if (under_valgrind()) return in_release / 200;
#if defined(__OPTIMIZE__)
  return under_sanitizer ? in_release / 20 : in_release;
#else
  return in_release / 20;
#endif
}

using Random = std::mt19937_64;

/// A size of which the logarithm is evenly spread over [low, high].
inline std::size_t log_uniform(Random& random, double low, double high) {
  std::uniform_real_distribution<double> exponent(std::log2(low), std::log2(high));
  return static_cast<std::size_t>(std::exp2(exponent(random)));
}

/// The pattern of the byte at `index` of a block, by words so that it costs little.
inline void fill_words(void* ptr, std::size_t size, std::uint64_t seed) {
  auto* bytes = static_cast<unsigned char*>(ptr);
  std::uint64_t word = seed;
  for (; size >= sizeof(word); size -= sizeof(word), bytes += sizeof(word)) {
    word += 0x9e3779b97f4a7c15;
    std::memcpy(bytes, &word, sizeof(word));
  }
  word += 0x9e3779b97f4a7c15;
  std::memcpy(bytes, &word, size);
}

inline bool holds_words(const void* ptr, std::size_t size, std::uint64_t seed) {
  const auto* bytes = static_cast<const unsigned char*>(ptr);
  std::uint64_t word = seed;
  for (; size >= sizeof(word); size -= sizeof(word), bytes += sizeof(word)) {
    word += 0x9e3779b97f4a7c15;
    if (std::memcmp(bytes, &word, sizeof(word)) != 0) return false;
  }
  word += 0x9e3779b97f4a7c15;
  return std::memcmp(bytes, &word, size) == 0;
}

/// Purges the heap `H`: everything is at hand again, and goes back.
template <class H>
void check_nothing_is_held() {
  H::purge();
  const sysalloc::CachedStats stats = H::stats();
  CHECK(stats.live == 0);
  CHECK(stats.cached == 0);
  CHECK(stats.mapped == stats.metadata);
}

}  // namespace tests

#endif  // SYSALLOC_TESTS_UNIT_CACHED_SUPPORT_HPP_
