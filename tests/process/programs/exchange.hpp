// What exchange.cpp and the libraries it links or opens hand each other.

#ifndef SYSALLOC_TESTS_PROCESS_EXCHANGE_HPP_
#define SYSALLOC_TESTS_PROCESS_EXCHANGE_HPP_

#include <memory>
#include <string>
#include <vector>

#include "check.hpp"

namespace test {

/// Made and destroyed on either side; its destructor is the maker's.
struct Thing {
  virtual ~Thing() = default;
  [[nodiscard]] virtual std::string name() const = 0;
};

/// Thrown on one side and caught on the other.
struct Trouble {
  std::string what;
  std::vector<int> details;
};

/// What a library offers.
struct Library {
  Blocks (*allocate_all)();
  void (*free_all)(const Blocks&, int turn);
  std::vector<std::string> (*make_strings)(std::size_t count);
  void (*take_strings)(std::vector<std::string>);
  /// Grows a vector of the caller's, which frees its old block.
  void (*append)(std::vector<std::string>&, std::size_t count);
  std::unique_ptr<Thing> (*make_thing)();
  void (*throw_trouble)();
  /// Asks for more than there is: std::bad_alloc, from this side's operator new.
  void (*run_out)();
  /// Calls back and returns what the exception that came out of it said.
  std::string (*catch_from)(void (*thrower)());
  /// Frees and makes anew a thread_local string of the library's.
  void (*use_thread_local)();
};

/// A string too long to be held without an allocation.
inline std::string long_string(std::size_t number) {
  return "a string that is too long to be held in place, number " + std::to_string(number);
}

}  // namespace test

/// What a library's function exchange_library() is.
using ExchangeLibrary = test::Library();

#endif  // SYSALLOC_TESTS_PROCESS_EXCHANGE_HPP_
