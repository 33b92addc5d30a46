// A working set of blocks of mixed sizes that lives on while its members are
// replaced one by one, in random order: the life of a long-running program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../random.hpp"
#include "blocks.hpp"
#include "sizes.hpp"

namespace bench {

class WorkingSet {
 public:
  WorkingSet(std::size_t live, std::uint64_t seed) : random_(seed), blocks_(live) {
    for (Block& block : blocks_) fill(block);
  }

  ~WorkingSet() {
    for (const Block& block : blocks_) ::operator delete(block.address, block.size);
  }

  WorkingSet(const WorkingSet&) = delete;
  WorkingSet& operator=(const WorkingSet&) = delete;

  template <Delete how>
  void replace_one() {
    Block& block = blocks_[random_.below(blocks_.size())];
    // A program seldom frees what it has not looked at once more.
    touch(block.address, block.size);
    give<how>(block.address, block.size);
    fill(block);
  }

 private:
  struct Block {
    void* address = nullptr;
    std::size_t size = 0;
  };

  void fill(Block& block) {
    block.size = mixed_sizes[random_.below(MixedSizes::count)];
    block.address = take(block.size);
  }

  Random random_;
  std::vector<Block> blocks_;
};

}  // namespace bench
