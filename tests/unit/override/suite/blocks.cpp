// Blocks: what every form of new gives, every matching form of delete takes back.

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <vector>

#include "../../support/bytes.hpp"
#include "../../support/environment.hpp"
#include "../program/program.hpp"
#include "forms.hpp"

TEST_CASE("every pair of matching forms serves a block and takes it back") {
  std::size_t pairs = 0;
  for (const forms::New& allocation : forms::news) {
    for (const forms::Delete& deallocation : forms::deletes) {
      if (!forms::match(allocation, deallocation)) continue;
      ++pairs;
      for (const std::size_t align : {1, 8, 16, 32, 256, 4096}) {
        if (!allocation.aligned && align != forms::default_align) continue;
        for (const std::size_t size : {0, 1, 2, 7, 8, 15, 16, 17, 24, 100, 4096, 20'000}) {
          CAPTURE(allocation.name);
          CAPTURE(deallocation.name);
          CAPTURE(size);
          CAPTURE(align);
          const std::size_t bytes = program::live_bytes();
          const std::size_t blocks = program::live_blocks();
          void* const ptr = allocation.call(size, align);
          const bool counted = program::live_blocks() == blocks + 1 &&
                               program::live_bytes() >= bytes + (size == 0 ? 1 : size);
          const bool aligned = allocation.aligned ? tests::is_aligned(ptr, align) : true;
          bool kept = ptr != nullptr;
          if (kept) {
            tests::fill(ptr, size);
            kept = tests::holds(ptr, size);
          }
          deallocation.call(ptr, size, align);
          const bool returned = program::live_bytes() == bytes && program::live_blocks() == blocks;
          REQUIRE(kept);
          CHECK(aligned);
          if (program::counts()) CHECK(counted);
          CHECK(returned);
        }
      }
    }
  }
  // Each of the 8 forms of new has 3 of the 12 forms of delete that match.
  CHECK(pairs == 24);
  CHECK(program::mismatches() == 0);
}

TEST_CASE("a null pointer may be deleted by every form") {
  const std::size_t bytes = program::live_bytes();
  const std::size_t blocks = program::live_blocks();
  for (const forms::Delete& deallocation : forms::deletes) {
    for (const std::size_t size : {0, 1, 100}) deallocation.call(nullptr, size, 64);
  }
  const bool unchanged = program::live_bytes() == bytes && program::live_blocks() == blocks;
  CHECK(unchanged);
  CHECK(program::mismatches() == 0);
}

TEST_CASE("blocks of size zero have addresses of their own") {
  for (const forms::New& form : forms::news) {
    CAPTURE(form.name);
    std::array<void*, 20> blocks{};
    bool distinct = true;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      blocks[i] = form.call(0, 64);
      distinct = distinct && blocks[i] != nullptr;
      for (std::size_t j = 0; j < i; ++j) distinct = distinct && blocks[i] != blocks[j];
    }
    for (void* const ptr : blocks) forms::release(form, ptr, 64);
    CHECK(distinct);
  }
}

TEST_CASE("blocks that live at once do not overlap") {
  std::vector<void*> blocks(400);
  const auto size = [](std::size_t i) { return 1 + i * 13 % 500; };
  const auto align = [](std::size_t i) { return std::size_t{1} << (i % 9); };
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    blocks[i] = forms::news[i % forms::news.size()].call(size(i), align(i));
    tests::fill(blocks[i], size(i), static_cast<unsigned>(i));
  }
  std::size_t damaged = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (!tests::holds(blocks[i], size(i), static_cast<unsigned>(i))) ++damaged;
    forms::release(forms::news[i % forms::news.size()], blocks[i], align(i));
  }
  CHECK(damaged == 0);
}
