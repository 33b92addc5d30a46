// The sanitizers end a program that asks for an impossible size, unless told to return null as
// malloc does. Linked into every test, so that no runner has to set a variable.

#define TESTS_OPTIONS(NAME)                                                            \
  extern "C" __attribute__((visibility("default"), used)) const char* NAME() noexcept; \
  extern "C" const char* NAME() noexcept { return "allocator_may_return_null=1"; }

TESTS_OPTIONS(__asan_default_options)
TESTS_OPTIONS(__tsan_default_options)
