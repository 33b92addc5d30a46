// Ledger: an account of every block, behind a global allocator that must not allocate itself.
//
// It checks what an allocator cannot see by itself: that each layout is valid and not of size zero,
// and that each block comes back just once, with the layout it was asked for. And it gives no more
// than was asked for: a block is aligned to its layout's alignment and not to twice that, so that
// an alignment nobody asked for is not there by the grace of malloc.

#ifndef SYSALLOC_TESTS_UNIT_OVERRIDE_PROGRAM_LEDGER_HPP_
#define SYSALLOC_TESTS_UNIT_OVERRIDE_PROGRAM_LEDGER_HPP_

#include <array>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <sysalloc/system.hpp>
#include <thread>

// Constant-initialised everywhere, as std::mutex is not with g++ for Windows.
class SpinLock {
 public:
  void lock() {
    while (locked_.test_and_set(std::memory_order_acquire)) std::this_thread::yield();
  }
  void unlock() { locked_.clear(std::memory_order_release); }

 private:
  std::atomic_flag locked_;
};

class Ledger {
 public:
  void* alloc(sysalloc::Layout layout) {
    const std::scoped_lock lock(mutex_);
    if (!sysalloc::Layout::from_size_align(layout.size(), layout.align()) || layout.size() == 0) {
      ++mismatches_;
      return nullptr;
    }
    if (exhausted_) return nullptr;
    const auto actual = actual_layout(layout);
    Entry* const entry = vacant();
    if (!actual || entry == nullptr) return nullptr;
    void* const start = sysalloc::System{}.alloc(*actual);
    if (start == nullptr) return nullptr;
    void* const block = static_cast<std::byte*>(start) + offset(layout);
    *entry = {block, start, layout.size(), layout.align()};
    ++blocks_;
    bytes_ += layout.size();
    return block;
  }

  void dealloc(void* ptr, sysalloc::Layout layout) {
    const std::scoped_lock lock(mutex_);
    Entry* const entry = find(ptr);
    if (entry == nullptr || entry->size != layout.size() || entry->align != layout.align()) {
      ++mismatches_;
    }
    remove(entry);
  }

  void dealloc_unsized(void* ptr, std::size_t align) {
    const std::scoped_lock lock(mutex_);
    Entry* const entry = find(ptr);
    if (entry == nullptr || entry->align != align) ++mismatches_;
    remove(entry);
  }

  void dealloc_unsized(void* ptr) {
    const std::scoped_lock lock(mutex_);
    Entry* const entry = find(ptr);
    if (entry == nullptr) ++mismatches_;
    remove(entry);
  }

  void exhaust(bool on) {
    const std::scoped_lock lock(mutex_);
    exhausted_ = on;
  }

  std::size_t bytes() { return read(bytes_); }
  std::size_t blocks() { return read(blocks_); }
  std::size_t mismatches() { return read(mismatches_); }

 private:
  // `start` is where System's block begins, kept so that leak checkers see it is not lost.
  struct Entry {
    void* block = nullptr;
    void* start = nullptr;
    std::size_t size = 0;
    std::size_t align = 0;
  };

  // From 1 MiB on, twice the alignment would be more memory than the strictness is worth.
  static std::size_t offset(sysalloc::Layout layout) {
    return layout.align() < (std::size_t{1} << 20) ? layout.align() : 0;
  }

  static std::expected<sysalloc::Layout, sysalloc::LayoutError> actual_layout(
      sysalloc::Layout layout) {
    if (offset(layout) == 0) return layout;
    // At least twice 16, so that the offset from malloc's own alignment is exact too.
    const std::size_t align = 2 * layout.align() > 32 ? 2 * layout.align() : 32;
    return sysalloc::Layout::from_size_align(layout.size() + offset(layout), align);
  }

  Entry* vacant() {
    if (Entry* const entry = find(nullptr)) return entry;
    return end_ < entries_.size() ? &entries_[end_++] : nullptr;
  }

  Entry* find(const void* block) {
    for (std::size_t i = 0; i < end_; ++i) {
      if (entries_[i].block == block) return &entries_[i];
    }
    return nullptr;
  }

  // An unknown address is not freed: the test fails anyway, and would otherwise crash instead.
  void remove(Entry* entry) {
    if (entry == nullptr) return;
    sysalloc::System{}.dealloc_unsized(entry->start, entry->align);
    bytes_ -= entry->size;
    --blocks_;
    *entry = {};
  }

  std::size_t read(const std::size_t& value) {
    const std::scoped_lock lock(mutex_);
    return value;
  }

  SpinLock mutex_;
  std::array<Entry, 4096> entries_{};
  std::size_t end_ = 0;  // one past the last entry that was ever used
  bool exhausted_ = false;
  std::size_t bytes_ = 0;
  std::size_t blocks_ = 0;
  std::size_t mismatches_ = 0;
};

#endif  // SYSALLOC_TESTS_UNIT_OVERRIDE_PROGRAM_LEDGER_HPP_
