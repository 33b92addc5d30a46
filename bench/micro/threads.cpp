// The same work on 1, 2, 4 and 8 threads, each with blocks of its own: an
// allocator that takes a lock, or shares a cache line, shows it here. The
// column to read is the wall clock time, since what a thread waits is part of
// the answer. Google Benchmark writes that column anyway: UseRealTime would
// only choose the number of iterations by it, and make the names longer.
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "../random.hpp"
#include "blocks.hpp"
#include "churn.hpp"

namespace {

using bench::Delete;

std::uint64_t thread_seed(const benchmark::State& state) {
  return static_cast<std::uint64_t>(state.thread_index()) + 1;
}

void threads_pair(benchmark::State& state) {
  constexpr std::size_t size = 64;
  for (auto _ : state) bench::give<Delete::sized>(bench::take(size), size);
}

void threads_churn(benchmark::State& state) {
  bench::Random random(thread_seed(state));
  bench::WorkingSet set(1'000, random);
  for (auto _ : state) set.replace_one<Delete::sized>(random);
}

// A small program's worth of containers: words gathered in a map of vectors.
void threads_containers(benchmark::State& state) {
  bench::Random random(thread_seed(state));
  for (auto _ : state) {
    std::map<std::string, std::vector<std::size_t>> places;
    for (std::size_t i = 0; i < 1'000; ++i) {
      places["a word that is number " + std::to_string(random.below(250))].push_back(i);
    }
    benchmark::DoNotOptimize(places.size());
  }
}

BENCHMARK(threads_pair)->ThreadRange(1, 16);
BENCHMARK(threads_churn)->ThreadRange(1, 16);
BENCHMARK(threads_containers)->ThreadRange(1, 16);

}  // namespace
