// The moments of a program's life at which lifetime.cpp and its library allocate.

#ifndef SYSALLOC_TESTS_PROCESS_LIFETIME_HPP_
#define SYSALLOC_TESTS_PROCESS_LIFETIME_HPP_

#include <cstddef>

namespace test {

enum Moment : unsigned {
  library_constructor,
  library_static_constructor,
  program_constructor,
  program_static_constructor,
  in_main,
  thread_local_constructor,
  thread_local_destructor_in_thread,
  thread_local_destructor_in_main,
  at_exit_handler,
  program_static_destructor,
  library_static_destructor,
  library_destructor,
  program_destructor,
  moments,
};

/// Allocates and frees through every form, keeps a block for a later moment to free, and frees the
/// one that an earlier moment kept. `total` reads the count of blocks handed out; the first one
/// given is kept for the library, which starts before the program can give it one. Ends the program
/// with 0 once every moment came to pass.
[[gnu::visibility("default")]] void live_through(Moment moment, std::size_t (*total)());

}  // namespace test

#endif  // SYSALLOC_TESTS_PROCESS_LIFETIME_HPP_
