// Alignment: what [basic.stc.dynamic.allocation] asks of the forms that name none, and every one
// that can be named. In the programs with a ledger, blocks have no more than was asked for.

#include <doctest/doctest.h>

#include <bit>
#include <cstddef>
#include <vector>

#include "../../support/bytes.hpp"
#include "../../support/environment.hpp"
#include "../program/program.hpp"
#include "forms.hpp"

namespace {

// new(n): for every object of size n. An object's size is a multiple of its alignment.
std::size_t required_of_new(std::size_t size) {
  const std::size_t divisor = size & (0 - size);
  return divisor < forms::default_align ? divisor : forms::default_align;
}

// new[](n): for every object no larger than n.
std::size_t required_of_array(std::size_t size) {
  const std::size_t largest = std::bit_floor(size);
  return largest < forms::default_align ? largest : forms::default_align;
}

}  // namespace

TEST_CASE("each size up to 4096 is aligned as the standard asks where no alignment is named") {
  for (const forms::New& form : forms::news) {
    if (form.aligned) continue;
    CAPTURE(form.name);
    std::size_t misaligned = 0;
    for (std::size_t size = 1; size <= 4096; ++size) {
      void* const ptr = form.call(size, 0);
      const std::size_t required = form.array ? required_of_array(size) : required_of_new(size);
      if (ptr == nullptr || !tests::is_aligned(ptr, required)) ++misaligned;
      forms::release(form, ptr, 0);
    }
    CHECK(misaligned == 0);
  }
}

TEST_CASE("each named alignment up to 1 GiB is given") {
  constexpr std::size_t most = std::size_t{1} << 30;
  for (const forms::New& form : forms::news) {
    if (!form.aligned) continue;
    CAPTURE(form.name);
    for (std::size_t align = 1; align <= most; align *= 2) {
      // The override may have to double it to keep a size beside the block.
      if (2 * align > tests::largest_align()) {
        tests::not_checked("larger alignments", "no room, or valgrind ends the program for them");
        break;
      }
      // One size for the large ones, which cost a checker much time.
      const std::vector<std::size_t> sizes = align > (std::size_t{1} << 20)
                                                 ? std::vector<std::size_t>{1}
                                                 : std::vector<std::size_t>{0, 1, align + 1};
      for (const std::size_t size : sizes) {
        CAPTURE(align);
        CAPTURE(size);
        void* const ptr = form.call(size, align);
        const bool aligned = ptr != nullptr && tests::is_aligned(ptr, align);
        if (aligned) tests::fill(ptr, size);
        forms::release(form, ptr, align);
        CHECK(aligned);
      }
    }
  }
  CHECK(program::mismatches() == 0);
}
