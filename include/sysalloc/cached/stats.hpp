// CachedStats: what a Cached heap holds, as a value and as a table.

#ifndef SYSALLOC_CACHED_STATS_HPP_
#define SYSALLOC_CACHED_STATS_HPP_

#include <array>
#include <cstddef>
#include <sysalloc/cached/report.hpp>
#include <sysalloc/cached/size_classes.hpp>
#include <sysalloc/detail/compiler.hpp>
#include <sysalloc/detail/fatal.hpp>

namespace sysalloc {

/// A moment of a Cached heap. All in bytes unless said. While other threads allocate, the parts may
/// be of slightly different moments.
struct CachedStats {
  /// One size class. Index 0 of the array is unused.
  struct Class {
    std::size_t size = 0;           ///< of a block
    std::size_t blocks_live = 0;    ///< blocks that the program holds
    std::size_t blocks_cached = 0;  ///< blocks in thread caches
    std::size_t blocks_free = 0;    ///< free blocks in slabs
    std::size_t slabs = 0;          ///< slabs of the class
  };

  std::size_t live = 0;    ///< held by the program, each block with the size of its class
  std::size_t cached = 0;  ///< in thread caches
  std::size_t free = 0;    ///< free in slabs that hold other blocks
  std::size_t dirty = 0;   ///< free spans that are still resident, and large blocks that wait
  std::size_t large = 0;   ///< of the live bytes, those in blocks above 1 MiB
  /// Taken from the backend. Beyond what the other members say it is free spans whose pages were
  /// given back, and the ends of blocks and slabs.
  std::size_t mapped = 0;
  std::size_t metadata = 0;     ///< of the mapped bytes, those that describe the rest
  std::size_t wrong_sizes = 0;  ///< blocks, not bytes, freed with a wrong size and repaired
  std::array<Class, detail::cached::class_count> classes{};
};

/// Writes the table that a program prints at its end with SYSALLOC_STATS=1, to the standard error
/// or another descriptor. Allocates nothing; may be called from any thread.
SYSALLOC_COLD inline void print(const CachedStats& stats, int descriptor = 2) noexcept {
  using detail::cached::Text;
  const auto write = [descriptor](const char* text) { detail::write_error(text, descriptor); };
  const auto line = [write](const char* name, std::size_t value, const char* unit) {
    Text text;
    text << "  " << name;
    text.to(12) << value << unit << "\n";
    write(text.c_str());
  };
  write("sysalloc: the heap of Cached\n");
  line("live", stats.live, " bytes");
  line("large", stats.large, " bytes, of the live ones");
  line("cached", stats.cached, " bytes, in thread caches");
  line("free", stats.free, " bytes, in slabs");
  line("dirty", stats.dirty, " bytes, in free spans");
  line("mapped", stats.mapped, " bytes, from the backend");
  line("metadata", stats.metadata, " bytes, of the mapped ones");
  if (stats.wrong_sizes != 0)
    line("repaired", stats.wrong_sizes, " blocks freed with a wrong size");
  write("  size      live blocks   cached    free      slabs\n");
  for (const CachedStats::Class& c : stats.classes) {
    if (c.slabs == 0) continue;
    Text text;
    text << "  " << c.size;
    text.to(12) << c.blocks_live;
    text.to(26) << c.blocks_cached;
    text.to(36) << c.blocks_free;
    text.to(46) << c.slabs << "\n";
    write(text.c_str());
  }
}

}  // namespace sysalloc

#endif  // SYSALLOC_CACHED_STATS_HPP_
