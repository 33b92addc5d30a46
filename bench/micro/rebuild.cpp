// Working through batches: all that one needs is taken, written to and given
// back before the next one begins. How much lies idle in between, and whether
// it has to be brought back each time, is most of what these cost.
#include <benchmark/benchmark.h>

#include <cstddef>
#include <vector>

#include "../random.hpp"
#include "blocks.hpp"

namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;
constexpr std::size_t page_size = 4096;

struct Block {
  void* address;
  std::size_t size;
};

// A batch is as good as new data: each page is written to.
void* take_and_write(std::size_t size) {
  auto* bytes = static_cast<unsigned char*>(bench::take(size));
  for (std::size_t i = 0; i < size; i += page_size) bytes[i] = 1;
  return bytes;
}

// Batches of `total` bytes in blocks of `smallest` to `largest` bytes, given
// back in random order. An iteration is a batch, and the first few are not
// measured: they show how a program begins, not how it goes on.
void rebuild(benchmark::State& state, std::size_t total, std::size_t smallest,
             std::size_t largest) {
  constexpr int before = 6;
  bench::Random random(2026);
  std::vector<Block> blocks;
  blocks.reserve(total / smallest);
  const auto batch = [&] {
    for (std::size_t taken = 0; taken < total;) {
      const std::size_t size = smallest + random.below(largest - smallest);
      blocks.push_back({take_and_write(size), size});
      taken += size;
    }
    bench::shuffle(blocks, 7);
    for (const Block& block : blocks) bench::give<bench::Delete::sized>(block.address, block.size);
    blocks.clear();
  };
  for (int i = 0; i < before; ++i) batch();
  for (auto _ : state) batch();
}

BENCHMARK_CAPTURE(rebuild, small, 96 * MiB, 64, 2048)->Name("rebuild_small");
BENCHMARK_CAPTURE(rebuild, medium, 96 * MiB, 4096, MiB)->Name("rebuild_medium");
BENCHMARK_CAPTURE(rebuild, large, 24 * MiB, 3 * MiB / 2, 4 * MiB)->Name("rebuild_large");

}  // namespace
