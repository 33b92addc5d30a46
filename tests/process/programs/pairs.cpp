// Pairs of new and delete under callgrind: one dump for each kind of pair, named `FORM SIZE PAIRS`.
//
// A dump counts a loop of pairs and a few instructions that are the same whichever operator new the
// program has. The operators are called by name: compilers may leave new expressions out.

#include <valgrind/callgrind.h>

#include <array>
#include <cstddef>
#include <cstdio>
#include <new>

namespace {

// A million pairs in all of what matters most, and enough of the others: counts do not vary.
constexpr int many = 100'000;
constexpr int few = 10'000;

template <class Pair>
void count(const char* form, int pairs, Pair pair) {
  for (const std::size_t size : {16, 64, 256, 1024, 4096, 8192}) {
    std::array<char, 64> name{};
    std::snprintf(name.data(), name.size(), "%s %zu %d", form, size, pairs);
    // The first pairs bind symbols and fill the caches of malloc.
    for (int i = 0; i < 100; ++i) pair(size);
    CALLGRIND_ZERO_STATS;
    for (int i = 0; i < pairs; ++i) pair(size);
    CALLGRIND_DUMP_STATS_AT(name.data());
  }
}

}  // namespace

int main() {
  count("new", many, [](std::size_t size) { ::operator delete(::operator new(size)); });
  count("sized", many, [](std::size_t size) { ::operator delete(::operator new(size), size); });
  count("array", few, [](std::size_t size) { ::operator delete[](::operator new[](size)); });
  count("sized_array", few,
        [](std::size_t size) { ::operator delete[](::operator new[](size), size); });
  count("nothrow", few,
        [](std::size_t size) { ::operator delete(::operator new(size, std::nothrow)); });
  count("aligned", few, [](std::size_t size) {
    constexpr auto align = static_cast<std::align_val_t>(64);
    ::operator delete(::operator new(size, align), size, align);
  });
  return 0;
}
