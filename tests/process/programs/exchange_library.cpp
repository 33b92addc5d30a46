// One source, built twice: as a shared library that exchange.cpp links, with LINKED defined, and as
// a plugin that it opens. Neither links the override: the program's serves them.

#include <array>
#include <utility>

#include "exchange.hpp"

namespace {

class LibraryThing : public test::Thing {
 public:
  [[nodiscard]] std::string name() const override { return name_; }

 private:
  std::string name_ = test::long_string(7);
};

thread_local std::string of_thread = test::long_string(0);

// A static object of a plugin is destroyed by dlclose.
std::vector<std::string> kept(50, test::long_string(1));

}  // namespace

#if defined(LINKED)
extern "C" [[gnu::visibility("default")]] test::Library linked_library() {
#else
extern "C" [[gnu::visibility("default")]] test::Library plugin_library() {
#endif
  return {
      .allocate_all = test::allocate_all,
      .free_all = test::free_all,
      .make_strings =
          [](std::size_t count) {
            std::vector<std::string> strings;
            for (std::size_t i = 0; i < count; ++i) strings.push_back(test::long_string(i));
            return strings;
          },
      .take_strings = [](std::vector<std::string> strings) { kept = std::move(strings); },
      .append =
          [](std::vector<std::string>& strings, std::size_t count) {
            for (std::size_t i = 0; i < count; ++i) strings.push_back(test::long_string(i));
          },
      .make_thing = []() -> std::unique_ptr<test::Thing> {
        return std::make_unique<LibraryThing>();
      },
      .throw_trouble = [] { throw test::Trouble{test::long_string(3), {1, 2, 3}}; },
      .run_out =
          [] {
            volatile std::size_t too_much = static_cast<std::size_t>(PTRDIFF_MAX) - 4096;
            ::operator delete(::operator new(too_much));
          },
      .catch_from = [](void (*thrower)()) -> std::string {
        try {
          thrower();
        } catch (const test::Trouble& trouble) {
          return trouble.what;
        }
        return "nothing";
      },
      .use_thread_local = [] { of_thread += test::long_string(2); },
  };
}
