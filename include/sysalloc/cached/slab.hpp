// A slab: units that hold blocks of one size class, and which of them are free.
//
// The bitmap stands in the descriptor, away from the blocks: neither freeing a block nor looking
// for free ones touches the block itself. A bit is set while its block is free and not in any
// thread's cache. Blocks are handed out in the order of their addresses.

#ifndef SYSALLOC_CACHED_SLAB_HPP_
#define SYSALLOC_CACHED_SLAB_HPP_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <sysalloc/cached/os.hpp>
#include <sysalloc/cached/size_classes.hpp>

namespace sysalloc::detail::cached {

struct Segment;

/// A member of a circular doubly linked list with a head of the same type.
struct ListNode {
  ListNode* next = nullptr;
  ListNode* prev = nullptr;

  [[nodiscard]] bool linked() const noexcept { return next != nullptr; }

  void unlink() noexcept {
    next->prev = prev;
    prev->next = next;
    next = prev = nullptr;
  }
};

/// The head of such a list; constant-initialised to all zero, which means empty.
struct List : ListNode {
  [[nodiscard]] bool empty() const noexcept { return next == nullptr || next == this; }

  void push_front(ListNode* node) noexcept {
    init();
    node->next = next;
    node->prev = this;
    next->prev = node;
    next = node;
  }

  void push_back(ListNode* node) noexcept {
    init();
    node->next = this;
    node->prev = prev;
    prev->next = node;
    prev = node;
  }

 private:
  void init() noexcept {
    if (next == nullptr) next = prev = this;
  }
};

/// What a bit of Slab::purged stands for. Pages of the system may be several of these.
inline constexpr std::size_t page_size = 4 * KiB;

/// A size or an address, rounded up to whole pages. Of what is at most PTRDIFF_MAX, as every layout
/// is, or an address of memory: so it cannot wrap around.
constexpr std::size_t page_up(std::size_t value) noexcept {
  return (value + page_size - 1) & ~(page_size - 1);
}

inline constexpr std::size_t word_bits = 64;

/// A word with `count` bits set (not 0) from bit `first` on.
constexpr std::uint64_t bits(std::size_t first, std::size_t count) noexcept {
  return ~std::uint64_t{0} >> (word_bits - count) << first;
}

/// Of a bit for each page_size of units: those in `pages`, and all that are in one page of the
/// system with them.
inline std::uint64_t real_pages(std::uint64_t pages) noexcept {
  const std::size_t group = os::real_page_size() / page_size;
  if (group <= 1) return pages;
  for (std::size_t step = 1; step < group; step *= 2) pages |= pages >> step;
  // The first bit of each group stands for it now.
  const std::uint64_t all = bits(0, group);
  return (pages & ~std::uint64_t{0} / all) * all;
}

/// Sets bit `index`, modulo the bits of a word. Was it set?
inline bool set_bit(std::uint64_t& word, std::size_t index) noexcept {
#if defined(__x86_64__) && defined(__GCC_ASM_FLAG_OUTPUTS__)
  // Compilers make six instructions of what is one, in the loop that most of a container's death
  // is.
  bool was_set = false;
  asm("btsq %2, %0" : "+r"(word), "=@ccc"(was_set) : "r"(index));
  return was_set;
#else
  const std::uint64_t bit = std::uint64_t{1} << index % word_bits;
  const bool was_set = (word & bit) != 0;
  word |= bit;
  return was_set;
#endif
}

/// Where a slab is, beside its blocks.
enum class SlabState : std::uint8_t {
  apart,       // made or taken apart by a thread: no shard counts it, and no block of it is out
  in_shard,    // in the list of those with a free block, or full
  in_transit,  // out of that list while the system is called about its pages
};

/// What lies behind the block of a slab with one, up to the end of the last unit.
enum class Tail : std::uint8_t {
  untouched,   // or there is none
  idle,        // resident: counted in Shard::tail_bytes
  given_back,  // it was that
};

/// The descriptor of a slab, of a span with one block, or of a large block. Comes from the metadata
/// of the heap, with room for the bitmap of its class behind it; is reused only where that is as
/// long.
struct alignas(64) Slab : ListNode {
  std::uintptr_t base;         // of the first block
  std::size_t size;            // of the memory, in bytes
  Segment* segment;            // not of a large block
  std::uint32_t until_change;  // blocks that have to come back until it changes its list
  std::uint32_t beyond;        // and that are out beside these: none, or all others of a full slab
  union {
    std::uint64_t purged;  // a bit for each page that is not resident: given back, or new
    std::size_t asked;     // of a large block: how much the backend was asked for, in bytes
  };
  std::uint32_t owner;  // its shard and class; class 0 for a large block
  union {
    Tail tail;
    std::uint16_t offset;  // of a large block: where it begins in what the backend gave
  };
  SlabState state;
  std::uint8_t align_shift;  // of a large block: the alignment asked of the backend

  /// In one number, for whoever puts a block back has to compare both.
  [[nodiscard]] static std::uint32_t owner_of(std::size_t shard, SizeClass c) noexcept {
    return static_cast<std::uint32_t>(shard << 8 | c);
  }
  [[nodiscard]] std::size_t shard() const noexcept { return owner >> 8; }
  [[nodiscard]] SizeClass size_class() const noexcept { return static_cast<SizeClass>(owner); }

  [[nodiscard]] std::uint64_t* words() noexcept {
    return reinterpret_cast<std::uint64_t*>(this + 1);
  }
  [[nodiscard]] static constexpr std::size_t word_count(std::size_t blocks) noexcept {
    return (blocks + word_bits - 1) / word_bits;
  }

  /// How many times its own size the bitmap of a class takes behind a descriptor, rounded up.
  [[nodiscard]] static constexpr std::size_t length(const ClassInfo& info) noexcept {
    constexpr std::size_t words = sizeof(Slab) / sizeof(std::uint64_t);
    return (word_count(info.blocks) + words - 1) / words;
  }

  /// Marks every block free.
  void fill(const ClassInfo& info) noexcept {
    const std::size_t words_needed = word_count(info.blocks);
    for (std::size_t i = 0; i < words_needed; ++i) words()[i] = ~std::uint64_t{0};
    const std::size_t rest = info.blocks % word_bits;
    if (rest != 0) words()[words_needed - 1] = bits(0, rest);
    set_used(info, 0);
    purged = 0;
  }

  /// The blocks that are in use or in a thread's cache.
  [[nodiscard]] std::uint32_t used() const noexcept { return until_change + beyond; }
  /// The set bits of the bitmap.
  [[nodiscard]] std::uint32_t free(const ClassInfo& info) const noexcept {
    return info.blocks - used();
  }

  /// A full slab waits for the first block to come back, any other for the last.
  void set_used(const ClassInfo& info, std::uint32_t used) noexcept {
    until_change = used == info.blocks ? 1 : used;
    beyond = used - until_change;
  }

  /// Notes that of a slab that was just filled only the units with a bit in `dirty` are resident.
  /// A slab with one block counts as resident as a whole, for it may be more pages than there are
  /// bits for.
  void mark_purged(const ClassInfo& info, std::uint64_t dirty) noexcept {
    if (info.blocks == 1) return;
    constexpr std::size_t pages = unit_size / page_size;
    purged = bits(0, size / page_size);
    for (; dirty != 0; dirty &= dirty - 1) {
      purged &= ~bits(static_cast<std::size_t>(std::countr_zero(dirty)) * pages, pages);
    }
  }

  /// Brings all of it into residence that is not. Nobody else knows of the slab yet.
  void populate() noexcept {
    if (purged != 0 && os::populate(base, size)) purged = 0;
  }

  /// A bit for each unit of which anything is resident.
  [[nodiscard]] std::uint64_t dirty_units() const noexcept {
    constexpr std::size_t pages = unit_size / page_size;
    std::uint64_t dirty = bits(0, size / unit_size);
    for (std::size_t unit = 0; unit < word_bits / pages; ++unit) {
      if ((~purged & bits(unit * pages, pages)) == 0) dirty &= ~bits(unit, 1);
    }
    return dirty;
  }

  /// Takes up to `want` free blocks, at least one of which there is, lowest addresses first, and
  /// writes them downwards from `end`. Returns how many it took.
  std::size_t take(const ClassInfo& info, void** end, std::size_t want) noexcept {
    if (want > free(info)) want = free(info);
    const std::size_t size_of_block = info.size;
    std::size_t left = want;
    void** const begin = end;
    for (std::size_t word = 0; left != 0; ++word) {
      std::uint64_t free_bits = words()[word];
      const std::uintptr_t start = base + word * word_bits * size_of_block;
      // By runs: what died together is free together, and so is all of a fresh slab.
      while (free_bits != 0 && left != 0) {
        const auto first = static_cast<std::size_t>(std::countr_zero(free_bits));
        std::size_t run = static_cast<std::size_t>(std::countr_one(free_bits >> first));
        if (run > left) run = left;
        std::uintptr_t address = start + first * size_of_block;
        void** const run_end = end - run;
        do {
          *--end = reinterpret_cast<void*>(address);
          address += size_of_block;
        } while (end != run_end);
        left -= run;
        free_bits &= ~bits(first, run);
      }
      words()[word] = free_bits;
    }
    set_used(info, used() + static_cast<std::uint32_t>(want));
    if (purged != 0) [[unlikely]] {
      // What is used now may be resident again.
      const std::uintptr_t from = reinterpret_cast<std::uintptr_t>(begin[-1]) - base;
      const std::uintptr_t last = reinterpret_cast<std::uintptr_t>(*end) - base + size_of_block - 1;
      purged &= ~real_pages(bits(from / page_size, last / page_size - from / page_size + 1));
    }
    return want;
  }

  /// The bytes of its pages that were given back and not used since, but for those behind the last
  /// block, which nobody will miss.
  [[nodiscard]] std::size_t purged_bytes() const noexcept {
    // Asked at each refill, mostly of slabs of which nothing was given back.
    if (purged == 0) return 0;
    const ClassInfo& info = class_info[size_class()];
    const std::size_t pages = (info.blocks * info.size + page_size - 1) / page_size;
    return static_cast<std::size_t>(std::popcount(purged & bits(0, pages))) * page_size;
  }

  /// The number of the block that begins at `ptr`; info.blocks or more when none does.
  [[nodiscard]] std::uint64_t index_of(const ClassInfo& info, const void* ptr) const noexcept {
    return info.index_of(reinterpret_cast<std::uintptr_t>(ptr) - base);
  }

  [[nodiscard]] bool is_free(std::uint64_t index) noexcept {
    return (words()[index / word_bits] >> index % word_bits & 1) != 0;
  }

  /// Marks a block free. False, and nothing is changed, when it was.
  [[nodiscard]] bool mark_free(std::uint64_t index) noexcept {
    std::uint64_t& word = words()[index / word_bits];
    std::uint64_t with = word;
    if (set_bit(with, index)) [[unlikely]]
      return false;
    word = with;
    return true;
  }

  /// Notes that a block came back. True when it was the first of a full slab, or the last.
  [[nodiscard]] bool note_back() noexcept {
    if (--until_change != 0) [[likely]]
      return false;
    until_change = beyond;
    beyond = 0;
    return true;
  }
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_SLAB_HPP_
