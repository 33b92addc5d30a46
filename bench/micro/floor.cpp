// The floor: an operator new that does nothing but hand out one static block,
// an operator delete that does nothing. A row measured with it says what the
// loop, the calls and the touching of the memory cost by themselves; no
// allocator can be faster.
//
// Cost while armed: a load and one always-taken, so predicted, test in new
// (is it armed?), a comparison with a constant and one such test in delete
// (is it the block?). Outside the timed loops, where Google Benchmark itself
// allocates, both forward to the C library.
//
// It is honest only where a single block lives at a time and on one thread.
// So the floor's executable is linked with pair.cpp alone, and
// --benchmark_list_tests tells which rows it has.
#include "floor.hpp"

#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

constexpr std::size_t block_size = 256 * 1024;
constexpr std::size_t block_align = 4 * 1024;

alignas(block_align) constinit std::byte block[block_size];
constinit bool armed = false;

// Out of line, that new and delete stay as short as promised.
[[gnu::noinline]] void* forward(std::size_t size, std::size_t align) noexcept {
  if (align <= alignof(std::max_align_t)) return std::malloc(size != 0 ? size : 1);
  // aligned_alloc wants a multiple of the alignment.
  return std::aligned_alloc(align, (size + align - 1) / align * align);
}

[[gnu::noinline]] void* forward_or_throw(std::size_t size, std::size_t align) {
  if (void* p = forward(size, align)) return p;
  throw std::bad_alloc();
}

inline void* take(std::size_t size, std::size_t align) {
  if (armed) [[likely]]
    return block;
  return forward_or_throw(size, align);
}

inline void* take_nothrow(std::size_t size, std::size_t align) noexcept {
  if (armed) [[likely]]
    return block;
  return forward(size, align);
}

inline void give(void* p) noexcept {
  if (p == block) [[likely]]
    return;
  std::free(p);
}

constexpr std::size_t plain = alignof(std::max_align_t);

constexpr std::size_t value(std::align_val_t align) { return static_cast<std::size_t>(align); }

}  // namespace

namespace bench {

void floor_arm() noexcept { armed = true; }
void floor_disarm() noexcept { armed = false; }

}  // namespace bench

using std::align_val_t;
using std::nothrow_t;
using std::size_t;

void* operator new(size_t n) { return take(n, plain); }
void* operator new[](size_t n) { return take(n, plain); }
void* operator new(size_t n, align_val_t a) { return take(n, value(a)); }
void* operator new[](size_t n, align_val_t a) { return take(n, value(a)); }
void* operator new(size_t n, const nothrow_t&) noexcept { return take_nothrow(n, plain); }
void* operator new[](size_t n, const nothrow_t&) noexcept { return take_nothrow(n, plain); }
void* operator new(size_t n, align_val_t a, const nothrow_t&) noexcept {
  return take_nothrow(n, value(a));
}
void* operator new[](size_t n, align_val_t a, const nothrow_t&) noexcept {
  return take_nothrow(n, value(a));
}

void operator delete(void* p) noexcept { give(p); }
void operator delete[](void* p) noexcept { give(p); }
void operator delete(void* p, size_t) noexcept { give(p); }
void operator delete[](void* p, size_t) noexcept { give(p); }
void operator delete(void* p, align_val_t) noexcept { give(p); }
void operator delete[](void* p, align_val_t) noexcept { give(p); }
void operator delete(void* p, size_t, align_val_t) noexcept { give(p); }
void operator delete[](void* p, size_t, align_val_t) noexcept { give(p); }
void operator delete(void* p, const nothrow_t&) noexcept { give(p); }
void operator delete[](void* p, const nothrow_t&) noexcept { give(p); }
void operator delete(void* p, align_val_t, const nothrow_t&) noexcept { give(p); }
void operator delete[](void* p, align_val_t, const nothrow_t&) noexcept { give(p); }
