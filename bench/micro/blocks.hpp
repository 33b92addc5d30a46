// What the workloads on bare blocks share: taking, using and giving back one
// block through the operators called as functions, which, unlike new and
// delete expressions, no compiler may leave out or join.
#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>
#include <new>

namespace bench {

// Sized says which operator delete gives the block back: with the size, as
// most compiled code does today, or with the pointer alone.
enum class Delete { sized, unsized };

// Makes the compiler believe that somebody reads the block at p. Google
// Benchmark's DoNotOptimize would do too, but with g++ it sends the pointer
// through the stack, which costs as much as the fastest operators.
inline void keep(void* p) {
#if defined(__GNUC__)
  asm volatile("" : : "r"(p) : "memory");
#else
  benchmark::DoNotOptimize(p);
#endif
}

// The least a program does with a block: it writes its first and last byte.
inline void touch(void* p, std::size_t size) {
  auto* bytes = static_cast<unsigned char*>(p);
  bytes[0] = 1;
  bytes[size - 1] = 2;
  keep(p);
}

inline void* take(std::size_t size) {
  void* p = ::operator new(size);
  touch(p, size);
  return p;
}

template <Delete how>
void give(void* p, std::size_t size) {
  if constexpr (how == Delete::sized) {
    ::operator delete(p, size);
  } else {
    ::operator delete(p);
  }
}

}  // namespace bench
