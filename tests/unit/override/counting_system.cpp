// The program of the README: Counting<System> chosen in source, its statistics read in the program.

#include <doctest/doctest.h>

#include <cstddef>
#include <memory>
#include <string>
#include <sysalloc/counting.hpp>
#include <sysalloc/global_allocator.hpp>
#include <sysalloc/system.hpp>
#include <vector>

#include "../support/environment.hpp"

SYSALLOC_GLOBAL_ALLOCATOR(sysalloc::Counting<sysalloc::System>);

namespace {

sysalloc::CountingStats stats() {
  return sysalloc::global_allocator<sysalloc::Counting<sysalloc::System>>().stats();
}

// Allocates before main, so the object that counts must be there before any constructor runs.
const std::vector<int> before_main(1000);
const std::size_t bytes_before_main = stats().bytes_live;

}  // namespace

TEST_CASE("allocations made before main are counted") {
  CHECK(before_main.size() == 1000);
  CHECK(bytes_before_main >= 1000 * sizeof(int));
}

TEST_CASE("the count returns to where it was when everything is deleted") {
  const std::string word = "a word that is longer than any small buffer";
  const sysalloc::CountingStats before = stats();
  sysalloc::CountingStats during;
  {
    const auto array = std::unique_ptr<int[]>(tests::opaque(new int[1000]));
    const std::vector<std::string> words(100, word);
    during = stats();
  }
  const sysalloc::CountingStats after = stats();
  CHECK(during.blocks_live == before.blocks_live + 102);
  CHECK(during.bytes_live > before.bytes_live + 4000 + 4300);
  CHECK(after.bytes_live == before.bytes_live);
  CHECK(after.blocks_live == before.blocks_live);
  CHECK(after.blocks_total == before.blocks_total + 102);
  CHECK(after.bytes_peak >= during.bytes_live);
}

TEST_CASE("the object is the same wherever it is asked for") {
  auto& one = sysalloc::global_allocator<sysalloc::Counting<sysalloc::System>>();
  const std::size_t before = one.stats().blocks_total;
  delete tests::opaque(new int);
  const std::size_t after = one.stats().blocks_total;
  CHECK(after == before + 1);
}
