// Containers and smart pointers of the standard library, built, used and
// destroyed whole: how C++ programs mostly meet the allocator.
#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <unordered_map>
#include <vector>

#include "../random.hpp"

namespace {

constexpr std::size_t count = 10'000;

using Keys = std::array<std::uint32_t, count>;

// Every key once, in random order; constant, so that no row's heap holds
// what another row left behind.
constexpr Keys make_keys() {
  Keys keys{};
  std::iota(keys.begin(), keys.end(), std::uint32_t{0});
  bench::shuffle(keys, 11);
  return keys;
}

constexpr Keys keys = make_keys();

// 400 KiB by doubling: some fifteen blocks, each copied into the next, from
// the small sizes into those that many allocators map by themselves.
void vector_growth(benchmark::State& state) {
  constexpr std::uint64_t elements = 400 * 1024 / sizeof(std::uint64_t);
  for (auto _ : state) {
    std::vector<std::uint64_t> vector;
    for (std::uint64_t i = 0; i < elements; ++i) vector.push_back(i);
    benchmark::DoNotOptimize(vector.data());
  }
}

void map_10k(benchmark::State& state) {
  for (auto _ : state) {
    std::map<std::uint32_t, std::uint32_t> map;
    for (const std::uint32_t key : keys) map.emplace(key, key);
    benchmark::DoNotOptimize(map.size());
  }
}

void unordered_map_10k(benchmark::State& state) {
  for (auto _ : state) {
    std::unordered_map<std::uint32_t, std::uint32_t> map;
    for (const std::uint32_t key : keys) map.emplace(key, key);
    benchmark::DoNotOptimize(map.size());
  }
}

// The sort links the nodes anew: from then on neighbours in the list are
// strangers in memory, and the list dies in that order.
void list_sort_10k(benchmark::State& state) {
  for (auto _ : state) {
    std::list<std::uint32_t> list(keys.begin(), keys.end());
    list.sort();
    benchmark::DoNotOptimize(list.front());
  }
}

// Half the strings fit inside std::string itself, half need a block.
std::string numbered(std::uint32_t key) {
  std::string text = "key " + std::to_string(key);
  if (key % 2 != 0) text += " of a longer kind, so that it needs memory of its own";
  return text;
}

void map_strings_10k(benchmark::State& state) {
  for (auto _ : state) {
    std::map<std::string, std::string> map;
    for (const std::uint32_t key : keys) map.emplace(numbered(key), numbered(key + 1));
    benchmark::DoNotOptimize(map.size());
  }
}

// Strings of 1 to 256 bytes, copied, and every fourth one thrown away while
// the others live on.
void strings_10k(benchmark::State& state) {
  for (auto _ : state) {
    std::vector<std::string> strings;
    for (const std::uint32_t key : keys) {
      strings.emplace_back(1 + key % 256, static_cast<char>('a' + key % 26));
      if (key % 4 == 0) std::string().swap(strings[key % strings.size()]);
    }
    const std::vector<std::string> copy = strings;
    benchmark::DoNotOptimize(copy.data());
  }
}

// Short texts joined with +, each join a temporary, and the joined line
// appended to one that grows to some 300 KiB.
void string_concat(benchmark::State& state) {
  constexpr std::size_t lines = 5'000;
  for (auto _ : state) {
    std::string page;
    for (std::size_t i = 0; i < lines; ++i) {
      const std::string name = "name_" + std::to_string(keys[i]);
      page += "the value of " + name + " follows here: " + std::to_string(keys[i + 1]) + "\n";
    }
    benchmark::DoNotOptimize(page.data());
  }
}

struct Shared {
  std::uint64_t payload[3];
};

void shared_ptr_10k(benchmark::State& state) {
  for (auto _ : state) {
    std::vector<std::shared_ptr<Shared>> owners;
    owners.reserve(count);
    for (const std::uint32_t key : keys) {
      owners.push_back(std::make_shared<Shared>(Shared{{key, key, key}}));
    }
    std::vector<std::shared_ptr<Shared>> copies = owners;
    owners.clear();
    // Dropped in random order: the copies are the last owners.
    for (const std::uint32_t key : keys) copies[key].reset();
    benchmark::DoNotOptimize(copies.data());
  }
}

BENCHMARK(vector_growth);
BENCHMARK(map_10k);
BENCHMARK(unordered_map_10k);
BENCHMARK(list_sort_10k);
BENCHMARK(map_strings_10k);
BENCHMARK(strings_10k);
BENCHMARK(string_concat);
BENCHMARK(shared_ptr_10k);

}  // namespace
