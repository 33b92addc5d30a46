// A shared library that is loaded before the program that links it and ends after it.

#include <string>

#include "check.hpp"
#include "lifetime.hpp"

namespace test {
namespace {

unsigned seen = 0;
std::size_t (*count)() = nullptr;
// Allocated at one moment, freed at the next: blocks outlive what they were allocated in.
void* kept = nullptr;
// Too long for a string to hold without allocating.
std::string* kept_string = nullptr;

}  // namespace

void live_through(Moment moment, std::size_t (*total)()) {
  if (total != nullptr) count = total;
  const std::size_t before = count == nullptr ? 0 : count();
  exercise();
  ::operator delete(kept);
  kept = ::operator new(100 + moment);
  if (kept_string != nullptr) CHECK(*kept_string == std::string(1000, 'x'));
  delete kept_string;
  kept_string = new std::string(1000, 'x');
  // 24 blocks of every form, a plain one, the string and what it holds.
  if (count != nullptr) CHECK(count() >= before + 27);

  seen |= 1U << moment;
  if (seen == (1U << moments) - 1) {
    ::operator delete(kept);
    delete kept_string;
    _exit(0);
  }
}

namespace {

[[gnu::constructor]] void construct() { live_through(library_constructor, nullptr); }

struct Static {
  Static() { live_through(library_static_constructor, nullptr); }
  Static(const Static&) = delete;
  Static& operator=(const Static&) = delete;
  ~Static() { live_through(library_static_destructor, nullptr); }
};
const Static static_object;

[[gnu::destructor]] void destruct() { live_through(library_destructor, nullptr); }

}  // namespace
}  // namespace test
