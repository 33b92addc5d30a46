// A working set of blocks of mixed sizes that lives on while its members are
// replaced one by one, in random order: the life of a long-running program.
#pragma once

#include <cstddef>
#include <vector>

#include "../random.hpp"
#include "blocks.hpp"
#include "sizes.hpp"

namespace bench {

class WorkingSet {
 public:
  WorkingSet(std::size_t live, Random random) : blocks_(live) {
    for (Block& block : blocks_) fill(block, random);
  }

  ~WorkingSet() {
    for (const Block& block : blocks_) ::operator delete(block.address, block.size);
  }

  WorkingSet(const WorkingSet&) = delete;
  WorkingSet& operator=(const WorkingSet&) = delete;

  // The loop that calls this keeps random, so that its state stays in a
  // register. A state in memory is read right after it was written, as the
  // allocators' own lists are. Processors guess which load reads what which
  // store wrote, and in some processes seem to mix the two up from beginning
  // to end: they take up to three times as long then.
  template <Delete how>
  void replace_one(Random& random) {
    Block& block = blocks_[random.below(blocks_.size())];
    // A program seldom frees what it has not looked at once more.
    touch(block.address, block.size);
    give<how>(block.address, block.size);
    fill(block, random);
  }

 private:
  struct Block {
    void* address = nullptr;
    std::size_t size = 0;
  };

  void fill(Block& block, Random& random) {
    block.size = mixed_sizes[random.below(MixedSizes::count)];
    block.address = take(block.size);
  }

  std::vector<Block> blocks_;
};

}  // namespace bench
