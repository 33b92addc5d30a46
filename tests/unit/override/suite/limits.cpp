// Limits: sizes that no block can have and alignments that are none fail as each form fails, and
// nothing wraps around on the way.

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "../../support/address_space.hpp"
#include "../../support/environment.hpp"
#include "../program/program.hpp"
#include "forms.hpp"

namespace {

using forms::Outcome;
using tests::opaque;

constexpr std::size_t max = PTRDIFF_MAX;

// Around every place where adding a header or rounding up could wrap around.
std::vector<std::size_t> impossible_sizes(std::size_t align) {
  std::vector<std::size_t> sizes{max / 2, max - 1, max, max + 1, max + 2, SIZE_MAX / 2 + 1000};
  for (std::size_t below = 0; below <= 2 * align + 64; below += below < 70 ? 1 : align / 2) {
    sizes.push_back(SIZE_MAX - below);
    sizes.push_back(max - below);
  }
  return sizes;
}

}  // namespace

TEST_CASE("a size that cannot be is bad_alloc or null, and changes nothing") {
  const tests::CrowdedAddressSpace crowded;
  for (const forms::New& form : forms::news) {
    if (!forms::can_fail(form)) continue;
    CAPTURE(form.name);
    for (const std::size_t align : {1, 8, 16, 32, 4096}) {
      if (!form.aligned && align != forms::default_align) continue;
      CAPTURE(align);
      const std::size_t bytes = program::live_bytes();
      for (const std::size_t size : impossible_sizes(align)) {
        const Outcome outcome = forms::outcome(form, opaque(size), align);
        if (outcome != forms::failure(form)) {
          CAPTURE(size);
          CHECK(outcome == forms::failure(form));
        }
      }
      const bool unchanged = program::live_bytes() == bytes;
      CHECK(unchanged);
    }
  }
}

TEST_CASE("an alignment that is no power of two is bad_alloc or null") {
  for (const forms::New& form : forms::news) {
    if (!form.aligned || !forms::can_fail(form)) continue;
    CAPTURE(form.name);
    for (const std::size_t align : {std::size_t{0}, std::size_t{3}, std::size_t{24},
                                    std::size_t{4097}, max, max + 2, std::size_t{SIZE_MAX}}) {
      CAPTURE(align);
      for (const std::size_t size :
           {std::size_t{0}, std::size_t{1}, std::size_t{100}, max, SIZE_MAX}) {
        CHECK(forms::outcome(form, opaque(size), opaque(align)) == forms::failure(form));
      }
    }
  }
}

TEST_CASE("an alignment that no address has room for is bad_alloc or null") {
  const tests::CrowdedAddressSpace crowded;
  for (const forms::New& form : forms::news) {
    if (!form.aligned || !forms::can_fail(form)) continue;
    CAPTURE(form.name);
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{1}, max, max + 1, std::size_t{SIZE_MAX}}) {
      CAPTURE(size);
      CHECK(forms::outcome(form, opaque(size), opaque(max + 1)) == forms::failure(form));
      if (tests::under_valgrind()) continue;
      CHECK(forms::outcome(form, opaque(size), opaque(tests::impossible_align)) ==
            forms::failure(form));
    }
  }
  if (tests::under_valgrind()) {
    tests::not_checked("an alignment that no machine has", "valgrind ends the program for it");
  }
}

TEST_CASE("a size that cannot be asks the new_handler too, until there is none") {
  const tests::CrowdedAddressSpace crowded;
  static int calls;
  for (const forms::New& form : forms::news) {
    if (!forms::can_fail(form)) continue;
    CAPTURE(form.name);
    for (const std::size_t size : {max, max + 1, std::size_t{SIZE_MAX}}) {
      calls = 0;
      std::set_new_handler([] {
        if (++calls == 3) std::set_new_handler(nullptr);
      });
      const Outcome outcome = forms::outcome(form, opaque(size), 64);
      std::set_new_handler(nullptr);
      CAPTURE(size);
      CHECK(outcome == forms::failure(form));
      CHECK(calls == 3);
    }
  }
}
