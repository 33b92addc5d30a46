"""A throwing form that fails ends a program that cannot catch, with a message and SIGABRT."""

import signal

import support

FAILS = """
#include <cstdint>
#include <new>
int main() {
  volatile std::size_t too_much = static_cast<std::size_t>(PTRDIFF_MAX) + 1;
  return ::operator new(too_much) == nullptr;
}
"""

LAST_WORDS = (
    "sysalloc: operator new is out of memory, and this program is built without exceptions\n"
)


class Ending(support.TestCase):
    def assert_aborts(self, program, *words):
        result = support.run([program])
        self.assertEqual(result.returncode, -signal.SIGABRT, support.describe(result))
        for word in words:
            self.assertIn(word, result.stderr, support.describe(result))

    def test_program_without_exceptions(self):
        source = self.write("fails.cpp", FAILS)
        for toolchain in self.each_toolchain():
            for flags in ([], ["-static"]):
                with self.subTest(toolchain=toolchain, flags=flags):
                    program = self.build(
                        "-fno-exceptions", *flags, source, support.OBJECT, toolchain=toolchain
                    )
                    self.assert_aborts(program, "terminat", "bad_alloc")

    def test_override_without_exceptions(self):
        source = self.write("fails.cpp", FAILS)
        build = self.scratch / "build"
        setup = [*support.MESON_SETUP, build, support.SOURCE, "-Dcpp_eh=none", "-Dtests=false"]
        self.check([*setup, "-Dbuildtype=release", "-Dwerror=true"])
        self.check(["ninja", "-C", build, "override/sysalloc_override.o"])
        override = build / "override" / "sysalloc_override.o"
        for name in support.defined_symbols(override):
            self.assertNotIn("__gxx_personality", name)

        program = self.build("-fno-exceptions", source, override)
        self.assert_aborts(program, LAST_WORDS)

        nothrow = self.write(
            "nothrow.cpp",
            FAILS.replace("new(too_much)", "new(too_much, std::nothrow)").replace("==", "!="),
        )
        self.check([self.build("-fno-exceptions", nothrow, override)])

    def test_one_file_without_exceptions_among_others(self):
        without = self.write(
            "without.cpp",
            """
            #include <sysalloc/sysalloc.hpp>
            #include <vector>
            std::size_t count() {
              std::vector<int, sysalloc::StdAllocator<int, sysalloc::System>> numbers(10);
              return numbers.size();
            }
            """,
        )
        catches = self.write(
            "catches.cpp",
            """
            #include <cstdint>
            #include <new>
            std::size_t count();
            int main() {
              volatile std::size_t too_much = static_cast<std::size_t>(PTRDIFF_MAX) + 1;
              try {
                return ::operator new(too_much) == nullptr;
              } catch (const std::bad_alloc&) {
                return count() == 10 ? 0 : 2;
              }
            }
            """,
        )
        for toolchain in self.each_toolchain():
            for override in (support.OBJECT, support.CACHED_OBJECT):
                for optimised in ("-O0", "-O2"):
                    with self.subTest(toolchain=toolchain, override=override, optimised=optimised):
                        flags = ["-std=c++23", optimised, support.INCLUDE]
                        # The first definition of a function that several files have is kept.
                        first = self.build(
                            *flags, "-fno-exceptions", "-c", without,
                            toolchain=toolchain, output="without.o",
                        )
                        program = self.build(
                            *flags, first, catches, override, support.LIBRARY, toolchain=toolchain
                        )
                        self.check([program])

    def test_macro_in_a_program_without_exceptions(self):
        source = self.write(
            "fails.cpp",
            "#include <sysalloc/global_allocator.hpp>\n#include <sysalloc/system.hpp>\n"
            + FAILS
            + "SYSALLOC_GLOBAL_ALLOCATOR(sysalloc::System);\n",
        )
        program = self.build(
            "-std=c++23", "-fno-exceptions", support.INCLUDE, source, support.LIBRARY
        )
        self.assert_aborts(program, LAST_WORDS)


if __name__ == "__main__":
    support.main()
