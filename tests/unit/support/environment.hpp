// What the tests must know of where they run: under a sanitizer or valgrind some facts are others.

#ifndef SYSALLOC_TESTS_UNIT_SUPPORT_ENVIRONMENT_HPP_
#define SYSALLOC_TESTS_UNIT_SUPPORT_ENVIRONMENT_HPP_

#include <cstddef>
#include <cstdio>
#include <cstdlib>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TESTS_UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TESTS_UNDER_SANITIZER 1
#endif
#endif

namespace tests {

#if defined(TESTS_UNDER_SANITIZER)
inline constexpr bool under_sanitizer = true;
#else
inline constexpr bool under_sanitizer = false;
#endif

inline bool under_valgrind() {
#if defined(RUNNING_ON_VALGRIND)
  return RUNNING_ON_VALGRIND != 0;
#else
  return false;
#endif
}

/// True where an emulator runs the program. It has memory of its own in the same process, and does
/// not keep limits.
inline bool emulated() { return std::getenv("SYSALLOC_TEST_EMULATED") != nullptr; }

/// True where System keeps a header before a block whose alignment exceeds min_align: it asks for
/// the alignment to find it, and a block that gets a header or loses it moves.
#if defined(_WIN32)
inline constexpr bool blocks_have_headers = true;
#else
inline constexpr bool blocks_have_headers = false;
#endif

/// For the child of a fork: what threads that it does not have held is lost in it, and no leak.
inline void leaks_are_expected() {
#if defined(VALGRIND_CLO_CHANGE)
  VALGRIND_CLO_CHANGE("--leak-check=no");
#endif
}

/// True where the C library's own malloc serves the program, whose blocks hold more than asked for.
inline bool plain_malloc() { return !under_sanitizer && !under_valgrind(); }

/// The largest alignment to try, in bytes. Valgrind ends the program for more instead of refusing
/// it, and of 32 bits of address no more can be counted on.
inline std::size_t largest_align() {
  if (under_valgrind()) return std::size_t{1} << 24;
  return std::size_t{1} << (sizeof(void*) == 8 ? 31 : 28);
}

/// For every check that cannot be made here: what is left out and why.
inline void not_checked(const char* what, const char* why) {
  std::printf("not checked: %s: %s\n", what, why);
}

/// Hides a value from the optimiser, so that it can neither warn of an absurd size nor leave out a
/// pair of new and delete, which the standard lets it do.
template <class T>
T opaque(T value) {
  asm volatile("" : "+r"(value) : : "memory");
  return value;
}

}  // namespace tests

#endif  // SYSALLOC_TESTS_UNIT_SUPPORT_ENVIRONMENT_HPP_
