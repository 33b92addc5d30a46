// Size classes: every size finds the class it should, for every alignment that classes serve.

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <sysalloc/cached/size_classes.hpp>

namespace c = sysalloc::detail::cached;

TEST_CASE("the classes ascend by an eighth of a doubling") {
  CHECK(c::class_info[1].size == 16);
  CHECK(c::class_info[c::class_count - 1].size == c::max_class_size);
  for (std::size_t i = 2; i < c::class_count; ++i) {
    const std::size_t size = c::class_info[i].size;
    const std::size_t below = c::class_info[i - 1].size;
    CAPTURE(size);
    CHECK(size > below);
    CHECK(size % 16 == 0);
    CHECK((size - below == 16 || (size - below) * 8 <= below));
  }
}

TEST_CASE("every size finds the smallest class that holds it, and wastes at most an eighth") {
  std::size_t faults = 0;
  for (std::size_t size = 1; size <= c::max_class_size; ++size) {
    const std::size_t index = c::class_of(size);
    const bool right = index >= 1 && index < c::class_count && c::class_info[index].size >= size &&
                       c::class_info[index - 1].size < size;
    const std::size_t waste = right ? c::class_info[index].size - size : 0;
    if (!right || (waste > 15 && waste * 8 > size)) {
      ++faults;
      MESSAGE("size ", size, " has class ", index);
    }
    if (c::class_of_slow(size) != index) ++faults;
    if (faults > 10) break;
  }
  CHECK(faults == 0);
}

TEST_CASE("what is no size of a class has class 0") {
  CHECK(c::class_of(0) == 0);
  CHECK(c::class_of(c::max_class_size + 1) == 0);
  CHECK(c::class_of(PTRDIFF_MAX) == 0);
  CHECK(c::class_of(SIZE_MAX) == 0);
}

TEST_CASE("with the size rounded up to it, every alignment up to the unit comes for nothing") {
  std::size_t faults = 0;
  for (std::size_t align = 1; align <= c::unit_size; align *= 2) {
    for (std::size_t size = 1; size <= c::max_class_size; ++size) {
      const auto layout = sysalloc::Layout::from_size_align_unchecked(size, align);
      const std::size_t rounded = layout.pad_to_align().size();
      const c::SizeClass found = c::class_of(layout);
      if (found != c::class_of(rounded)) ++faults;
      if (c::unscaled(c::scaled_class_of(size, align)) != found) ++faults;
      // Blocks begin at multiples of the class's size within a slab, which begins at a unit.
      if (c::class_info[found].size % align != 0) ++faults;
    }
    CAPTURE(align);
    CHECK(faults == 0);
  }
}

TEST_CASE("what is no layout of a class has class 0") {
  for (std::size_t align = 1; align <= c::unit_size; align *= 2) {
    CHECK(c::scaled_class_of(0, align) == 0);
    CHECK(c::scaled_class_of(c::max_class_size + 1, align) == 0);
    CHECK(c::scaled_class_of(SIZE_MAX, align) == 0);
  }
  CHECK(c::scaled_class_of(1, 2 * c::unit_size) == 0);
}

TEST_CASE("a slab's blocks lie within it, and a byte of the page map has room for the classes") {
  for (std::size_t i = 1; i < c::class_count; ++i) {
    const c::ClassInfo& info = c::class_info[i];
    CAPTURE(info.size);
    CHECK(info.blocks >= 1);
    CHECK(std::size_t{info.blocks} * info.size <= info.units * c::unit_size);
    // No unit without a block, and no room for another one.
    CHECK((std::size_t{info.blocks} + 1) * info.size > info.units * c::unit_size);
    CHECK((info.size > c::max_slab_size || info.units <= 4));
    CHECK((info.cache_max >= 4) == (info.size <= c::cached_max_size));
    const std::size_t cached = info.cache_max * std::size_t{info.size};
    CHECK((cached <= c::cache_max_bytes || info.cache_max <= 4));
    CHECK((info.size > c::small_size || cached <= c::cache_max_bytes / 4));
    CHECK((info.size <= c::cached_max_size || info.cache_max == 1));
  }
}

TEST_CASE("an offset within a slab has the number of the block there, any other has none") {
  std::size_t faults = 0;
  for (std::size_t i = 1; i < c::class_count; ++i) {
    const c::ClassInfo& info = c::class_info[i];
    const std::size_t bytes = info.units * c::unit_size;
    for (std::size_t offset = 0; offset < bytes; ++offset) {
      const bool begins = offset % info.size == 0 && offset / info.size < info.blocks;
      const std::uint64_t index = info.index_of(offset);
      if (begins ? index != offset / info.size : index < info.blocks) ++faults;
    }
    // Before the slab, and far from it.
    for (const std::uint64_t far : {std::uint64_t{0} - info.size, std::uint64_t{1} << 32,
                                    std::uint64_t{1} << 47, std::uint64_t{0} - (1 << 16)}) {
      if (info.index_of(far) < info.blocks) ++faults;
    }
    CAPTURE(info.size);
    CHECK(faults == 0);
  }
}
