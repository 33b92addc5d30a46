// The smallest workload: one block is taken, touched and given back, over and
// over. It measures the fast path of the operators and nothing else. Only one
// block lives at a time, so each row has a floor (see floor.hpp).
#include <benchmark/benchmark.h>

#include <cstddef>
#include <new>

#include "blocks.hpp"
#include "floor.hpp"
#include "sizes.hpp"

namespace {

using bench::Delete;

template <Delete how>
void pair(benchmark::State& state) {
  const auto size = static_cast<std::size_t>(state.range(0));
  const bench::FloorScope floor;
  for (auto _ : state) bench::give<how>(bench::take(size), size);
}

// Aligned to the size: a cache line that must not be shared, a page.
void pair_aligned(benchmark::State& state) {
  const auto size = static_cast<std::size_t>(state.range(0));
  const auto align = static_cast<std::align_val_t>(size);
  const bench::FloorScope floor;
  for (auto _ : state) {
    void* p = ::operator new(size, align);
    bench::touch(p, size);
    ::operator delete(p, size, align);
  }
}

// Sizes that change from pair to pair, so that no branch on the size and no
// single free list stays warm by itself.
template <Delete how>
void pair_mixed(benchmark::State& state) {
  std::size_t turn = 0;
  const bench::FloorScope floor;
  for (auto _ : state) {
    const std::size_t size = bench::mixed_sizes[turn++];
    bench::give<how>(bench::take(size), size);
  }
}

BENCHMARK(pair<Delete::sized>)
    ->Name("pair")
    ->Arg(16)
    ->Arg(64)
    ->Arg(1024)
    ->Arg(4096)
    ->Arg(65536)
    ->Arg(262144);
BENCHMARK(pair<Delete::unsized>)->Name("pair_unsized")->Arg(64)->Arg(4096);
BENCHMARK(pair_aligned)->Arg(64)->Arg(4096);
BENCHMARK(pair_mixed<Delete::sized>)->Name("pair_mixed");
BENCHMARK(pair_mixed<Delete::unsized>)->Name("pair_mixed_unsized");

}  // namespace
