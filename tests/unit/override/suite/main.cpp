// main of the suite: after the last test, every layout must have come back as it went out.

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "../program/program.hpp"

int main(int argc, char** argv) {
  const int result = doctest::Context(argc, argv).run();
  const std::size_t mismatches = program::mismatches();
  if (mismatches == 0) return result;
  std::printf("%zu layouts were not what they should be, see mismatches() in program.hpp\n",
              mismatches);
  return 1;
}
