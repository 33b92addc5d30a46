// The new_handler: what each form does while memory is out ([new.handler], [new.delete.single]).

#include <doctest/doctest.h>

#include <cstddef>
#include <new>

#include "../../support/bytes.hpp"
#include "../../support/environment.hpp"
#include "../program/program.hpp"
#include "forms.hpp"

namespace {

using forms::Outcome;

int calls = 0;

// What a handler may throw that is no std::bad_alloc.
struct NotBadAlloc {};

// The outcome of an allocation while memory is out and `handler` is installed.
Outcome outcome_when_exhausted(const forms::New& form, std::new_handler handler,
                               std::size_t size = program::big) {
  calls = 0;
  std::set_new_handler(handler);
  const Outcome outcome =
      program::exhaust() ? forms::outcome(form, tests::opaque(size), 64) : forms::failure(form);
  program::replenish();
  std::set_new_handler(nullptr);
  return outcome;
}

// Prints the reason where not, once.
bool can_exhaust() {
  static const bool can = [] {
    const bool exhausted = program::exhaust();
    if (exhausted) program::replenish();
    return exhausted;
  }();
  return can;
}

}  // namespace

TEST_CASE("without a handler each form fails in its own way") {
  if (!can_exhaust()) return;
  for (const forms::New& form : forms::news) {
    if (!forms::can_fail(form)) continue;
    CAPTURE(form.name);
    CHECK(outcome_when_exhausted(form, nullptr) == forms::failure(form));
  }
}

TEST_CASE("the handler is called again until it has found memory") {
  if (!can_exhaust()) return;
  for (const forms::New& form : forms::news) {
    CAPTURE(form.name);
    CHECK(outcome_when_exhausted(form, [] {
            if (++calls == 3) program::replenish();
          }) == Outcome::block);
    CHECK(calls == 3);
  }
}

TEST_CASE("what is served after the handler is the block that was asked for") {
  if (!can_exhaust()) return;
  for (const forms::New& allocation : forms::news) {
    for (const forms::Delete& deallocation : forms::deletes) {
      if (!forms::match(allocation, deallocation)) continue;
      for (const std::size_t size :
           {std::size_t{0}, std::size_t{1}, std::size_t{8}, std::size_t{24}, program::big}) {
        if (size < program::big && !program::exhausts_small()) continue;
        for (const std::size_t align : {1, 8, 16, 32, 4096}) {
          if (!allocation.aligned && align != forms::default_align) continue;
          calls = 0;
          std::set_new_handler([] {
            ++calls;
            program::replenish();
          });
          const std::size_t bytes = program::live_bytes();
          const bool exhausted = program::exhaust();
          void* const ptr = allocation.call(tests::opaque(size), align);
          program::replenish();
          std::set_new_handler(nullptr);
          const bool aligned = !allocation.aligned || tests::is_aligned(ptr, align);
          // As much as shows; all of the big one would take long.
          if (ptr != nullptr) tests::fill(ptr, size < 100 ? size : 100);
          const std::size_t mismatches = program::mismatches();
          deallocation.call(ptr, size, align);
          const bool returned = program::live_bytes() == bytes;
          CAPTURE(allocation.name);
          CAPTURE(deallocation.name);
          CAPTURE(size);
          CAPTURE(align);
          CHECK(exhausted);
          CHECK(calls == 1);
          CHECK(ptr != nullptr);
          CHECK(aligned);
          CHECK(returned);
          CHECK(program::mismatches() == mismatches);
        }
      }
    }
  }
}

TEST_CASE("a handler that removes itself ends in failure") {
  if (!can_exhaust()) return;
  for (const forms::New& form : forms::news) {
    if (!forms::can_fail(form)) continue;
    CAPTURE(form.name);
    CHECK(outcome_when_exhausted(form, [] {
            ++calls;
            std::set_new_handler(nullptr);
          }) == forms::failure(form));
    CHECK(calls == 1);
  }
}

TEST_CASE("a handler may hand over to another one") {
  if (!can_exhaust()) return;
  for (const forms::New& form : forms::news) {
    CAPTURE(form.name);
    CHECK(outcome_when_exhausted(form, [] {
            ++calls;
            std::set_new_handler([] {
              calls += 10;
              program::replenish();
            });
          }) == Outcome::block);
    CHECK(calls == 11);
  }
}

TEST_CASE("no handler is called when there is memory") {
  for (const forms::New& form : forms::news) {
    calls = 0;
    std::set_new_handler([] { ++calls; });
    const Outcome outcome = forms::outcome(form, 100, 64);
    std::set_new_handler(nullptr);
    CAPTURE(form.name);
    CHECK(outcome == Outcome::block);
    CHECK(calls == 0);
  }
}

#if defined(__cpp_exceptions)
TEST_CASE("what a handler throws leaves a throwing form, and is null from a nothrow one") {
  if (!can_exhaust()) return;
  for (const forms::New& form : forms::news) {
    CAPTURE(form.name);
    CHECK(outcome_when_exhausted(form, [] { throw NotBadAlloc{}; }) ==
          (form.nothrow ? Outcome::null : Outcome::other));
    CHECK(outcome_when_exhausted(form, [] { throw std::bad_alloc(); }) == forms::failure(form));
    // Only in the second round.
    CHECK(outcome_when_exhausted(form, [] {
            if (++calls == 2) throw NotBadAlloc{};
          }) == (form.nothrow ? Outcome::null : Outcome::other));
    CHECK(calls == 2);
  }
}

TEST_CASE("also for a size that cannot be") {
  for (const forms::New& form : forms::news) {
    CAPTURE(form.name);
    std::set_new_handler([] { throw NotBadAlloc{}; });
    const Outcome outcome = forms::outcome(form, tests::opaque(std::size_t{SIZE_MAX}), 64);
    std::set_new_handler(nullptr);
    CHECK(outcome == (form.nothrow ? Outcome::null : Outcome::other));
  }
}
#else
TEST_CASE("what a handler throws") {
  tests::not_checked("handlers that throw", "this program is built without exceptions");
}
#endif
