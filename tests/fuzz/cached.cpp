// libFuzzer over sequences of calls of Cached, against a model.
//
// The input is read as calls: a byte that says which, and a few that say of what. Every block holds
// a pattern that is checked when it is resized and freed; the statistics are compared with what the
// model holds. Some calls take the backend's memory away for a while.
//
//   clang++-19 -std=c++23 -O1 -g -fsanitize=fuzzer,undefined -Iinclude tests/fuzz/cached.cpp \
//     src/system_unix.cpp -o /tmp/fuzz_cached && /tmp/fuzz_cached
//
// Without AddressSanitizer, for which the heap would step aside.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sysalloc/cached.hpp>
#include <sysalloc/failing.hpp>
#include <sysalloc/system.hpp>

namespace {

using sysalloc::Layout;

struct Backend {
  static inline constinit const sysalloc::Failing<sysalloc::System> failing{};
  void* alloc(Layout layout) const noexcept { return failing.alloc(layout); }
  void dealloc(void* ptr, Layout layout) const noexcept { failing.dealloc(ptr, layout); }
};

using Heap = sysalloc::Cached<Backend>;
constexpr Heap heap;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::abort();
}

struct Block {
  std::byte* ptr = nullptr;
  Layout layout = Layout::from_size_align_unchecked(1, 1);
  std::uint8_t tag = 0;

  // The ends, where neighbours would write.
  template <class Byte>
  void each(std::size_t size, Byte byte) const {
    const std::size_t edge = std::min<std::size_t>(size, 64);
    for (std::size_t i = 0; i < edge; ++i) byte(ptr[i], i);
    for (std::size_t i = std::max(edge, size - edge); i < size; ++i) byte(ptr[i], i);
  }
  [[nodiscard]] std::byte pattern(std::size_t i) const {
    return static_cast<std::byte>(tag + i * 31);
  }
  void fill() const {
    each(layout.size(), [this](std::byte& byte, std::size_t i) { byte = pattern(i); });
  }
  void check() const {
    each(layout.size(), [this](const std::byte& byte, std::size_t i) {
      require(byte == pattern(i), "the contents are kept");
    });
  }
};

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), end_(data + size) {}
  [[nodiscard]] bool empty() const { return data_ == end_; }
  std::uint8_t byte() { return empty() ? 0 : *data_++; }
  std::size_t number() {
    const std::size_t low = byte();
    return low | std::size_t{byte()} << 8;
  }
  // Small sizes finely, large ones coarsely, up to 4 MiB; never 0.
  Layout layout() {
    const std::size_t shift = byte() % 7;
    const std::size_t align = std::size_t{1} << byte() % 18;
    return Layout::from_size_align_unchecked(1 + (number() << shift), align);
  }

 private:
  const std::uint8_t* data_;
  const std::uint8_t* end_;
};

class Model {
 public:
  Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  ~Model() {
    Backend::failing.fail_none();
    for (Block& block : blocks_) free(block, 0);
    require(Heap::stats().live == 0, "nothing is live in the end");
  }

  void step(Input& input) {
    const std::uint8_t what = input.byte();
    Block& block = blocks_[input.byte() % blocks_.size()];
    switch (what % 8) {
      case 0:
      case 1:
      case 2:
        free(block, what);
        alloc(block, input.layout(), what);
        break;
      case 3:
        free(block, what);
        break;
      case 4:
        if (block.ptr != nullptr) resize(block, input.layout(), (what & 8) != 0);
        break;
      case 5:
        Backend::failing.fail_nth(1 + what / 8);
        may_fail_ = true;
        break;
      case 6:
        if (what / 8 % 4 == 0) Heap::purge();
        if (what / 8 % 4 == 1) compare();
        if (what / 8 % 4 == 2) no_memory();
        if (what / 8 % 4 == 3) foreign();
        break;
      default:
        // A run of blocks of one size fills slabs and caches.
        run(input.layout(), what);
    }
  }

 private:
  void alloc(Block& block, Layout layout, unsigned what) {
    const bool zeroed = what >= 192;
    void* const ptr = zeroed ? heap.alloc_zeroed(layout) : heap.alloc(layout);
    if (!served(ptr)) return;
    take(block, ptr, layout);
    if (zeroed) {
      block.each(layout.size(), [](const std::byte& byte, std::size_t) {
        require(byte == std::byte{0}, "alloc_zeroed is zero");
      });
    }
    block.fill();
  }

  void resize(Block& block, Layout layout, bool same_align) {
    block.check();
    if (same_align) {
      layout = Layout::from_size_align_unchecked(layout.size(), block.layout.align());
    }
    void* const ptr = same_align ? heap.realloc(block.ptr, block.layout, layout.size())
                                 : heap.realloc(block.ptr, block.layout, layout);
    if (!served(ptr)) {
      block.check();
      return;
    }
    // Of what was kept, the first bytes were written.
    Block kept = block;
    kept.ptr = static_cast<std::byte*>(ptr);
    const std::size_t size = std::min({kept.layout.size(), layout.size(), std::size_t{64}});
    for (std::size_t i = 0; i < size; ++i) {
      require(kept.ptr[i] == kept.pattern(i), "realloc keeps the contents");
    }
    bytes_ -= block.layout.size();
    take(block, ptr, layout);
    block.fill();
  }

  void take(Block& block, void* ptr, Layout layout) {
    require(reinterpret_cast<std::uintptr_t>(ptr) % layout.align() == 0, "the block is aligned");
    require(heap.usable_size(ptr) >= layout.size(), "usable_size is enough");
    block = {.ptr = static_cast<std::byte*>(ptr), .layout = layout, .tag = next_tag_++};
    bytes_ += layout.size();
  }

  void free(Block& block, unsigned what) {
    if (block.ptr == nullptr) return;
    block.check();
    if ((what & 128) != 0) {
      heap.dealloc_unsized(block.ptr, block.layout.align());
    } else {
      heap.dealloc(block.ptr, block.layout);
    }
    bytes_ -= block.layout.size();
    block.ptr = nullptr;
  }

  void run(Layout layout, unsigned what) {
    std::array<Block, 200> run;
    if (layout.size() > 8192) return;
    for (Block& block : run) alloc(block, layout, 0);
    // In one order or the other.
    if (what >= 128) std::reverse(run.begin(), run.end());
    for (Block& block : run) free(block, what);
  }

  void no_memory() {
    Backend::failing.fail_share(1);
    const auto large = Layout::from_size_align_unchecked(2 << 20, 8);
    require(heap.alloc(large) == nullptr, "no memory is nullptr");
    Backend::failing.fail_none();
  }

  // The backend below has it, with its layout.
  static void foreign() {
    const auto layout = Layout::from_size_align_unchecked(100, 8);
    void* const ptr = sysalloc::System{}.alloc(layout);
    if (ptr != nullptr) heap.dealloc(ptr, layout);
  }

  // A null pointer is all right only when the backend was told to fail.
  bool served(const void* ptr) {
    require(ptr != nullptr || may_fail_, "there is memory");
    return ptr != nullptr;
  }

  void compare() const {
    const sysalloc::CachedStats stats = Heap::stats();
    require(stats.live >= bytes_, "all that the model holds is live");
    // Classes pad by an eighth or 16 bytes, alignments and large blocks to a page or themselves.
    std::size_t most = 0;
    for (const Block& block : blocks_) {
      if (block.ptr != nullptr) most += heap.usable_size(block.ptr);
    }
    require(stats.live == most, "nothing else is live");
    require(stats.mapped >= stats.live + stats.cached + stats.free, "all of it is mapped");
    require(stats.wrong_sizes == 0, "no size was wrong");
  }

  std::array<Block, 64> blocks_;
  std::size_t bytes_ = 0;
  std::uint8_t next_tag_ = 1;
  bool may_fail_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  Model model;
  while (!input.empty()) model.step(input);
  return 0;
}
