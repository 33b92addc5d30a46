// A thousand blocks of one size taken, then all given back: in the order they
// were taken, in reverse (a stack) and in random order (a heap that has been
// in use). The order decides how well an allocator's free lists fall out.
#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>

#include "../random.hpp"
#include "blocks.hpp"

namespace {

constexpr std::size_t batch_size = 1000;

// All three orders come from a table, to cost the same.
using Order = std::array<std::uint16_t, batch_size>;

constexpr Order first_to_last() {
  Order order{};
  std::iota(order.begin(), order.end(), std::uint16_t{0});
  return order;
}

constexpr Order last_to_first() {
  Order order{};
  std::iota(order.rbegin(), order.rend(), std::uint16_t{0});
  return order;
}

constexpr Order any_order() {
  Order order = first_to_last();
  bench::shuffle(order, 7);
  return order;
}

template <Order (*make_order)()>
void batch(benchmark::State& state) {
  static constexpr Order order = make_order();
  const auto size = static_cast<std::size_t>(state.range(0));
  std::array<void*, batch_size> blocks{};
  for (auto _ : state) {
    for (void*& block : blocks) block = bench::take(size);
    for (const std::uint16_t i : order) bench::give<bench::Delete::sized>(blocks[i], size);
  }
}

BENCHMARK(batch<first_to_last>)->Name("batch")->Arg(16)->Arg(64)->Arg(4096);
BENCHMARK(batch<last_to_first>)->Name("batch_reverse")->Arg(64);
BENCHMARK(batch<any_order>)->Name("batch_random")->Arg(16)->Arg(64)->Arg(4096);

}  // namespace
