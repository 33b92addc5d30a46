// What the self-checking programs share: CHECK, and blocks of every form of new and delete.

#ifndef SYSALLOC_TESTS_PROCESS_CHECK_HPP_
#define SYSALLOC_TESTS_PROCESS_CHECK_HPP_

#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <new>

// Ends the program at once, without running destructors: it may be called in any of them. Without
// stdio, which may be gone at that time.
#define CHECK(condition) \
  ((condition) ? void() : test::failed(__FILE__ ": not so: " #condition "\n"))

namespace test {

[[noreturn]] inline void failed(const char* message) {
  [[maybe_unused]] const auto written = write(STDERR_FILENO, message, std::strlen(message));
  _exit(1);
}

inline constexpr auto over_aligned = static_cast<std::align_val_t>(128);

/// A block of each form of new.
struct Blocks {
  static constexpr std::size_t size = 200;
  std::array<void*, 8> ptrs{};
};

inline Blocks allocate_all() {
  Blocks blocks;
  blocks.ptrs = {::operator new(Blocks::size),
                 ::operator new(Blocks::size, std::nothrow),
                 ::operator new(Blocks::size, over_aligned),
                 ::operator new(Blocks::size, over_aligned, std::nothrow),
                 ::operator new[](Blocks::size),
                 ::operator new[](Blocks::size, std::nothrow),
                 ::operator new[](Blocks::size, over_aligned),
                 ::operator new[](Blocks::size, over_aligned, std::nothrow)};
  for (void* const ptr : blocks.ptrs) {
    CHECK(ptr != nullptr);
    std::memset(ptr, 0x5a, Blocks::size);
  }
  return blocks;
}

/// Frees them; `turn` chooses among the forms of delete, so that three turns call all twelve.
inline void free_all(const Blocks& blocks, int turn) {
  for (void* const ptr : blocks.ptrs) {
    const auto* const bytes = static_cast<const unsigned char*>(ptr);
    for (std::size_t i = 0; i < Blocks::size; ++i) CHECK(bytes[i] == 0x5a);
  }
  const auto& p = blocks.ptrs;
  switch (turn % 3) {
    case 0:
      for (const std::size_t i : {0, 1}) ::operator delete(p[i]);
      for (const std::size_t i : {2, 3}) ::operator delete(p[i], over_aligned);
      for (const std::size_t i : {4, 5}) ::operator delete[](p[i]);
      for (const std::size_t i : {6, 7}) ::operator delete[](p[i], over_aligned);
      break;
    case 1:
      for (const std::size_t i : {0, 1}) ::operator delete(p[i], Blocks::size);
      for (const std::size_t i : {2, 3}) ::operator delete(p[i], Blocks::size, over_aligned);
      for (const std::size_t i : {4, 5}) ::operator delete[](p[i], Blocks::size);
      for (const std::size_t i : {6, 7}) ::operator delete[](p[i], Blocks::size, over_aligned);
      break;
    default:
      for (const std::size_t i : {0, 1}) ::operator delete(p[i], std::nothrow);
      for (const std::size_t i : {2, 3}) ::operator delete(p[i], over_aligned, std::nothrow);
      for (const std::size_t i : {4, 5}) ::operator delete[](p[i], std::nothrow);
      for (const std::size_t i : {6, 7}) ::operator delete[](p[i], over_aligned, std::nothrow);
      break;
  }
}

/// Allocates and frees through all twenty forms.
inline void exercise() {
  for (int turn = 0; turn < 3; ++turn) free_all(allocate_all(), turn);
}

}  // namespace test

#endif  // SYSALLOC_TESTS_PROCESS_CHECK_HPP_
