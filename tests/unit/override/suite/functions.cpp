// sysalloc::alloc and its like, Global, StdAllocator and MemoryResource: they go to the allocator
// that the program has chosen, whichever it is.

#include <doctest/doctest.h>

#include <cstddef>
#include <sysalloc/global.hpp>
#include <sysalloc/memory_resource.hpp>
#include <sysalloc/std_allocator.hpp>
#include <sysalloc/system.hpp>
#include <vector>

#include "../../support/bytes.hpp"
#include "../../support/environment.hpp"
#include "../program/program.hpp"

namespace {

using sysalloc::Layout;

Layout layout(std::size_t size, std::size_t align) {
  return Layout::from_size_align_unchecked(size, align);
}

// The bytes and blocks that the program holds more than when this was made.
class Since {
 public:
  [[nodiscard]] bool holds(std::size_t bytes, std::size_t blocks) const {
    return !program::counts() ||
           (program::live_bytes() == bytes_ + bytes && program::live_blocks() == blocks_ + blocks);
  }

 private:
  std::size_t bytes_ = program::live_bytes();
  std::size_t blocks_ = program::live_blocks();
};

}  // namespace

TEST_CASE("the functions reach the global allocator with just the layout") {
  const Since start;
  void* ptr = sysalloc::alloc(layout(100, 64));
  const bool allocated = start.holds(100, 1) && tests::is_aligned(ptr, 64);
  tests::fill(ptr, 100);
  ptr = sysalloc::realloc(ptr, layout(100, 64), 200);
  const bool grown = start.holds(200, 1) && tests::is_aligned(ptr, 64) && tests::holds(ptr, 100);
  ptr = sysalloc::realloc(ptr, layout(200, 64), layout(50, 256));
  const bool shrunk = start.holds(50, 1) && tests::is_aligned(ptr, 256) && tests::holds(ptr, 50);
  void* const zeroed = sysalloc::alloc_zeroed(layout(1000, 8));
  const bool cleared = start.holds(1050, 2) && tests::is_zero(zeroed, 1000);
  sysalloc::dealloc(ptr, layout(50, 256));
  sysalloc::dealloc(zeroed, layout(1000, 8));
  const bool returned = start.holds(0, 0);
  CHECK(allocated);
  CHECK(grown);
  CHECK(shrunk);
  CHECK(cleared);
  CHECK(returned);
  CHECK(program::mismatches() == 0);
}

TEST_CASE("Global reaches it as an Allocator") {
  const Since start;
  const auto block = sysalloc::Global{}.allocate_zeroed(layout(100, 32));
  const bool allocated = block && start.holds(100, 1) && tests::is_zero(block->data(), 100);
  tests::fill(block->data(), 100);
  const auto grown =
      sysalloc::Global{}.grow_zeroed(block->data(), layout(100, 32), layout(300, 64));
  const bool kept = grown && start.holds(300, 1) && tests::holds(grown->data(), 100) &&
                    tests::is_zero(grown->data() + 100, 200);
  const auto none = sysalloc::Global{}.shrink(grown->data(), layout(300, 64), layout(0, 1));
  const bool returned = none && start.holds(0, 0);
  CHECK(allocated);
  CHECK(kept);
  CHECK(returned);
  CHECK(program::mismatches() == 0);
}

TEST_CASE("a failure of the global allocator is null and AllocError") {
  if (!program::exhaust()) return;
  const bool refused = sysalloc::alloc(layout(program::big, 8)) == nullptr &&
                       sysalloc::alloc_zeroed(layout(program::big, 8)) == nullptr &&
                       !sysalloc::Global{}.allocate(layout(program::big, 8));
  program::replenish();
  CHECK(refused);
}

TEST_CASE("the adapters draw from it by default") {
  const Since start;
  bool vector_counted = false;
  bool resource_counted = false;
  {
    const std::vector<int, sysalloc::StdAllocator<int>> vector(100);
    vector_counted = start.holds(400, 1);
    sysalloc::MemoryResource<> resource;
    const std::pmr::vector<int> pmr(100, &resource);
    resource_counted = start.holds(800, 2);
  }
  const bool returned = start.holds(0, 0);
  CHECK(vector_counted);
  CHECK(resource_counted);
  CHECK(returned);
}

TEST_CASE("System goes past it") {
  const Since start;
  void* ptr = sysalloc::System{}.alloc(layout(100, 64));
  tests::fill(ptr, 100);
  ptr = sysalloc::System{}.realloc(ptr, layout(100, 64), std::size_t{10'000});
  const bool unseen = ptr != nullptr && start.holds(0, 0) && tests::holds(ptr, 100);
  sysalloc::System{}.dealloc(ptr, layout(10'000, 64));
  CHECK(unseen);
}
