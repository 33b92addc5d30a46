// Random replacement in a small working set (1,000 blocks, which stay in the
// caches) and in a large one (100,000, which do not: there the row shows how
// close together an allocator packs its blocks and its own data).
#include "churn.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>

#include "../random.hpp"

namespace {

using bench::Delete;

constexpr std::size_t small = 1'000;
constexpr std::size_t large = 100'000;

template <std::size_t live, Delete how>
void churn(benchmark::State& state) {
  bench::Random random(42);
  bench::WorkingSet set(live, random);
  for (auto _ : state) set.replace_one<how>(random);
}

BENCHMARK(churn<small, Delete::sized>)->Name("churn_small");
BENCHMARK(churn<small, Delete::unsized>)->Name("churn_small_unsized");
BENCHMARK(churn<large, Delete::sized>)->Name("churn_large");
BENCHMARK(churn<large, Delete::unsized>)->Name("churn_large_unsized");

}  // namespace
