// The page map: from any address to what Cached knows of it.
//
// Two levels, an entry for each unit of 64 KiB. The root covers 48 bits of address and is part of
// the program's zero-initialised data; a leaf covers 4 GiB and comes from the backend when the
// first segment or large block in its range does. On a 32-bit target that is one leaf. An entry is
// a class in one byte (its own array, so that the map of a GiB of heap is 16 KiB and stays in the
// cache) and the slab's descriptor.
//
// Entries of a slab are written before any of its blocks is handed out, and cleared after all of
// them came back. So a reader that holds a valid block sees a valid entry, whatever the order of
// its loads: what gave it the block ordered them. Who comes to a descriptor through the unit of
// another slab holds no block there, and needs acquire. Leaves are never freed.

#ifndef SYSALLOC_CACHED_PAGE_MAP_HPP_
#define SYSALLOC_CACHED_PAGE_MAP_HPP_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <sysalloc/cached/size_classes.hpp>
#include <sysalloc/detail/compiler.hpp>
#include <sysalloc/global_alloc.hpp>
#include <utility>

namespace sysalloc::detail::cached {

struct Slab;

/// What the page map says of a unit: 0, a size class, or one of these.
enum Kind : std::uint8_t {
  kind_foreign = 0,     ///< not memory of this heap
  kind_gone = 252,      ///< nor this, but it was: of a segment, or where a large block began
  kind_large = 253,     ///< the first unit of a large block
  kind_interior = 254,  ///< a later unit of a span or a large block
  kind_free = 255,      ///< memory of this heap that holds no block
};
static_assert(class_count <= kind_gone, "a class is a byte, with some values left");

class PageMap {
 public:
  static constexpr std::size_t leaf_units_shift = 16;
  static constexpr std::size_t leaf_units = std::size_t{1} << leaf_units_shift;
  static constexpr std::size_t leaf_shift = unit_shift + leaf_units_shift;
  static constexpr std::size_t address_bits = sizeof(void*) == 8 ? 48 : 32;
  static constexpr std::size_t root_size = std::size_t{1} << (address_bits - leaf_shift);

  struct Leaf {
    std::array<std::atomic<std::uint8_t>, leaf_units> kinds;
    std::array<std::atomic<Slab*>, leaf_units> slabs;
  };

  /// What `ptr` points into. Any pointer may be asked for: null, and one above all that a heap has,
  /// as a backend's may be (tags in the upper byte, ARM64).
  [[nodiscard]] SYSALLOC_ADDRESS_ONLY std::uint8_t kind(const void* ptr) const noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(ptr);
    if (is_beyond(address)) [[unlikely]]
      return kind_foreign;
    const Leaf* const leaf = root_[root_index(address)].load(std::memory_order_relaxed);
    if (leaf == nullptr) [[unlikely]]
      return kind_foreign;
    return leaf->kinds[leaf_index(address)].load(std::memory_order_relaxed);
  }

  /// The slab of a block that kind() knows.
  [[nodiscard]] SYSALLOC_ADDRESS_ONLY Slab* slab(const void* ptr) const noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(ptr);
    const Leaf* const leaf = root_[root_index(address)].load(std::memory_order_relaxed);
    return leaf->slabs[leaf_index(address)].load(std::memory_order_acquire);
  }

  /// Sets the entries of `units` units from `address` on: `first` for the first, `rest` for the
  /// others. Nothing where a leaf is missing (prepare).
  void set(std::uintptr_t address, std::size_t units, std::uint8_t first, std::uint8_t rest,
           Slab* slab) noexcept {
    for (std::size_t i = 0; i < units; ++i, address += unit_size) {
      Leaf* const leaf = root_[root_index(address)].load(std::memory_order_relaxed);
      if (leaf == nullptr) continue;
      // Release, for who comes to a descriptor through the unit of another.
      leaf->slabs[leaf_index(address)].store(slab, std::memory_order_release);
      leaf->kinds[leaf_index(address)].store(i == 0 ? first : rest, std::memory_order_relaxed);
    }
  }

  /// Sets those of a slab to kind_free: from the last unit on, and what is said of it before where
  /// the slab is. So whoever is in the child of a fork meanwhile finds the slab at its first unit
  /// as long as any other is not done.
  void clear(std::uintptr_t address, std::size_t units) noexcept {
    for (std::size_t i = units; i != 0; --i) {
      const std::uintptr_t unit = address + (i - 1) * unit_size;
      Leaf* const leaf = root_[root_index(unit)].load(std::memory_order_relaxed);
      leaf->kinds[leaf_index(unit)].store(kind_free, std::memory_order_release);
      leaf->slabs[leaf_index(unit)].store(nullptr, std::memory_order_release);
    }
  }

  /// A leaf at hand, for who may not fail any more once it is known where one is wanted; nullptr
  /// without memory. To be given to prepare(), or to keep_spare().
  template <class Backend>
  [[nodiscard]] Leaf* take_spare(const Backend& backend) noexcept {
    Leaf* const leaf = spare_.exchange(nullptr, std::memory_order_acquire);
    return leaf != nullptr ? leaf : fresh(backend);
  }

  /// Keeps one that was not wanted for the next who asks.
  template <class Backend>
  void keep_spare(Leaf* spare, const Backend& backend) noexcept {
    if (spare != nullptr) give(spare_.exchange(spare, std::memory_order_acq_rel), backend);
  }

  /// Makes sure that there are leaves for `size` bytes from `address` on. False when the backend
  /// has no memory for one, or there is none for so high an address. With a `spare` only such an
  /// address makes it fail: without memory the first unit has that, if it has no leaf, and those
  /// behind it may have none. Takes no lock: two threads may bring a leaf, and one is given back.
  template <class Backend>
  [[nodiscard]] bool prepare(const Backend& backend, std::uintptr_t address, std::size_t size,
                             Leaf* spare = nullptr) noexcept {
    const std::uintptr_t last = address + size - 1;
    if (is_beyond(last)) return false;
    const bool may_fail = spare == nullptr;
    for (std::size_t i = root_index(address); i <= root_index(last); ++i) {
      if (root_[i].load(std::memory_order_acquire) != nullptr) continue;
      Leaf* leaf = std::exchange(spare, nullptr);
      if (leaf == nullptr) leaf = fresh(backend);
      if (leaf == nullptr && may_fail) return false;
      Leaf* expected = nullptr;
      // Release, so that whoever finds the leaf finds it zero.
      if (!root_[i].compare_exchange_strong(expected, leaf, std::memory_order_acq_rel)) {
        give(leaf, backend);
      }
    }
    keep_spare(spare, backend);
    return true;
  }

  /// What the leaves take of the backend's memory.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return leaves_.load(std::memory_order_relaxed) * sizeof(Leaf);
  }

 private:
  static bool is_beyond(std::uintptr_t address) noexcept {
    return std::uint64_t{address} >> address_bits != 0;
  }
  static std::size_t root_index(std::uintptr_t address) noexcept {
    return std::uint64_t{address} >> leaf_shift;
  }
  static std::size_t leaf_index(std::uintptr_t address) noexcept {
    return (address >> unit_shift) & (leaf_units - 1);
  }

  // Of the least alignment: an allocator clears a block of that without touching fresh pages.
  static Layout leaf_layout() noexcept {
    return Layout::from_size_align_unchecked(sizeof(Leaf), alignof(Leaf));
  }
  /// One that is all zero.
  template <class Backend>
  Leaf* fresh(const Backend& backend) noexcept {
    void* const leaf = sysalloc::alloc_zeroed(backend, leaf_layout());
    if (leaf != nullptr) leaves_.fetch_add(1, std::memory_order_relaxed);
    return static_cast<Leaf*>(leaf);
  }
  template <class Backend>
  void give(Leaf* leaf, const Backend& backend) noexcept {
    if (leaf == nullptr) return;
    leaves_.fetch_sub(1, std::memory_order_relaxed);
    backend.dealloc(leaf, leaf_layout());
  }

  std::array<std::atomic<Leaf*>, root_size> root_{};
  std::atomic<Leaf*> spare_{nullptr};
  std::atomic<std::size_t> leaves_{0};
};

}  // namespace sysalloc::detail::cached

#endif  // SYSALLOC_CACHED_PAGE_MAP_HPP_
