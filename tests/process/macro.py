"""SYSALLOC_GLOBAL_ALLOCATOR in source: alone, beside the override, and where the linker refuses."""

import pathlib
import sys
import tempfile

import support

# The seed's Counter, written as on its page: it needs the layout back, and has no dealloc_unsized.
COUNTER = """
#include <sysalloc/global_allocator.hpp>
#include <sysalloc/system.hpp>

#include <atomic>

static std::atomic<std::size_t> allocated{0};

struct Counter {
  void* alloc(sysalloc::Layout layout) const noexcept {
    void* const ptr = sysalloc::System{}.alloc(layout);
    if (ptr != nullptr) allocated += layout.size();
    return ptr;
  }
  void dealloc(void* ptr, sysalloc::Layout layout) const noexcept {
    sysalloc::System{}.dealloc(ptr, layout);
    allocated -= layout.size();
  }
};
SYSALLOC_GLOBAL_ALLOCATOR(Counter);

void* make(std::size_t size);
void unmake(void* block, std::size_t size);

int main() {
  const std::size_t before = allocated;
  void* blocks[100];
  for (void*& block : blocks) block = make(500);
  if (allocated < before + 100 * 500) return 2;
  for (void* block : blocks) unmake(block, 500);
  if (allocated != before) return 3;
  return 0;
}
"""

# Allocates in every way without knowing anything of the library. Half of the deletes are sized.
OTHER = """
#include <new>
struct Large {
  ~Large() { bytes[0] = 0; }
  alignas(64) volatile char bytes[512];
};
static Large* large = new Large[3];
void* make(std::size_t size) {
  delete[] large;
  large = new (std::nothrow) Large[3];
  return ::operator new(size);
}
void unmake(void* block, std::size_t size) {
  static bool sized = false;
  sized = !sized;
#if defined(__cpp_sized_deallocation)
  if (sized) return ::operator delete(block, size);
#endif
  (void)size;
  ::operator delete(block);
}
"""

SECOND_CHOICE = """
#include <sysalloc/global_allocator.hpp>
#include <sysalloc/system.hpp>
struct Other {
  void* alloc(sysalloc::Layout layout) const noexcept { return sysalloc::System{}.alloc(layout); }
  void dealloc(void* ptr, sysalloc::Layout layout) const noexcept {
    sysalloc::System{}.dealloc(ptr, layout);
  }
};
SYSALLOC_GLOBAL_ALLOCATOR(Other);
"""

# An allocator for a build that chooses it by option: it counts what it allocates.
TALLY = """
#pragma once
#include <sysalloc/system.hpp>
#include <cstddef>
namespace tally {
// Of the override's own object; a program reads it by this name.
extern "C" {
inline __attribute__((visibility("default"), used)) std::size_t tally_count = 0;
}
struct Tally {
  void* alloc(sysalloc::Layout layout) const noexcept {
    __atomic_add_fetch(&tally_count, 1, __ATOMIC_RELAXED);
    return sysalloc::System{}.alloc(layout);
  }
  void dealloc(void* ptr, sysalloc::Layout layout) const noexcept {
    sysalloc::System{}.dealloc(ptr, layout);
  }
};
}  // namespace tally
"""

READS_TALLY = """
#include <cstddef>
extern "C" std::size_t tally_count;
int main() {
  const std::size_t before = tally_count;
  // By name: a new expression may be left out by the compiler.
  ::operator delete(::operator new(10));
  ::operator delete[](::operator new[](10));
  return tally_count >= before + 2 ? 0 : 1;
}
"""

# What cannot be the global allocator, and what the compiler says of it first.
WRONG_TYPES = {
    "sysalloc::Global": "Global goes to the global allocator",
    "sysalloc::Counting<sysalloc::Limited<sysalloc::Global>>": "Global goes to the global allocator",
    "MayThrow": "no GlobalAlloc",
    "NotConst": "no GlobalAlloc",
    "Empty": "no GlobalAlloc",
}

NAMES_A_TYPE = """
#include <sysalloc/sysalloc.hpp>
struct MayThrow {
  void* alloc(sysalloc::Layout layout) const { return sysalloc::System{}.alloc(layout); }
  void dealloc(void* ptr, sysalloc::Layout layout) const noexcept {
    sysalloc::System{}.dealloc(ptr, layout);
  }
};
struct NotConst {
  void* alloc(sysalloc::Layout layout) noexcept { return sysalloc::System{}.alloc(layout); }
  void dealloc(void* ptr, sysalloc::Layout layout) noexcept {
    sysalloc::System{}.dealloc(ptr, layout);
  }
};
struct Empty {};
SYSALLOC_GLOBAL_ALLOCATOR(%s)%s
int main() { delete new int; }
"""

FLAGS = ["-std=c++23", "-O2", "-Wall", "-Wextra", "-Werror", support.INCLUDE]


class MacroTestCase(support.TestCase):
    def compile(self, toolchain, *flags):
        """The objects of the Counter's file and of the other: compiled once, linked in many ways."""
        objects = []
        for name, text in (("counter", COUNTER), ("other", OTHER)):
            source = self.write(f"{name}.cpp", text)
            objects.append(self.compile_one(toolchain, source, *flags))
        return objects

    def compile_one(self, toolchain, source, *flags):
        output = f"{source.stem}{''.join(flags)}-{toolchain}.o".replace(" ", "-")
        return self.build(*FLAGS, *flags, "-c", source, toolchain=toolchain, output=output)

    def assert_refused(self, result):
        self.assertNotEqual(result.returncode, 0, support.describe(result))
        # GNU's linkers say the first, LLVM's the second. The name is mangled or not.
        words = result.stderr
        self.assertTrue(
            "multiple definition" in words or "duplicate symbol" in words,
            support.describe(result),
        )
        self.assertIn("hook_new", words, support.describe(result))


class Macro(MacroTestCase):
    def test_beside_the_override(self):
        for toolchain in self.each_toolchain():
            counter, other = self.compile(toolchain)
            rpath = f"-Wl,-rpath,{support.SHARED.parent}"
            lines = {
                "library": [counter, other, support.LIBRARY],
                "object last": [counter, other, support.OBJECT, support.LIBRARY],
                "object first": [support.OBJECT, counter, other, support.LIBRARY],
                "object between": [counter, support.OBJECT, other, support.LIBRARY],
                "library before the object": [counter, other, support.LIBRARY, support.OBJECT],
                "archive last": [counter, other, support.LIBRARY, support.ARCHIVE],
                "archive before the library": [counter, other, support.ARCHIVE, support.LIBRARY],
                # The program's own operators come before those of any library it loads.
                "shared": [counter, other, support.LIBRARY, support.SHARED, rpath],
                "shared first": [support.SHARED, counter, other, support.LIBRARY, rpath],
            }
            for order, inputs in lines.items():
                for flags in ([], ["-static"]):
                    if flags and "shared" in order:
                        continue
                    with self.subTest(toolchain=toolchain, order=order, flags=flags):
                        self.check([self.build(*flags, *inputs, toolchain=toolchain)])

    def test_compiled_in_other_ways(self):
        for flags in (["-O0"], ["-fno-pie", "-no-pie"], ["-fno-sized-deallocation"]):
            compiling = [flag for flag in flags if flag != "-no-pie"]
            objects = self.compile("g++", *compiling)
            for extra in ([], [support.OBJECT]):
                with self.subTest(flags=flags, extra=extra):
                    self.check([self.build(*flags, *objects, *extra, support.LIBRARY)])

    def test_with_link_time_optimisation(self):
        for toolchain in self.each_toolchain():
            flags = ["-O2", "-flto"]
            if support.cannot_link(toolchain, *flags) is not None:
                flags.append("-fuse-ld=lld-19")
            reason = support.cannot_link(toolchain, *flags)
            if reason is not None:
                print(f"left out: {toolchain}, LTO: {reason}", file=sys.stderr)
                continue
            objects = self.compile(toolchain, "-flto")
            for static in ([], ["-static"]):
                for extra in ([], [support.OBJECT]):
                    with self.subTest(toolchain=toolchain, static=static, extra=extra):
                        inputs = [*flags, *static, *objects, *extra, support.LIBRARY]
                        self.check([self.build(*inputs, toolchain=toolchain)])

    def test_two_in_one_program_are_refused(self):
        source = self.write("second.cpp", SECOND_CHOICE)
        for toolchain in self.each_toolchain():
            objects = [*self.compile(toolchain), self.compile_one(toolchain, source)]
            for flags in ([], ["-static"], ["-fuse-ld=lld-19"]):
                if support.cannot_link(toolchain, *flags) is not None:
                    continue
                for extra in ([], [support.OBJECT]):
                    with self.subTest(toolchain=toolchain, flags=flags, extra=extra):
                        inputs = [*flags, *objects, *extra, support.LIBRARY]
                        self.assert_refused(self.link(*inputs, toolchain=toolchain))


class Spelling(MacroTestCase):
    def test_with_a_semicolon_and_without(self):
        for toolchain in self.each_toolchain():
            for end, flags in ((";", []), ("", ["-Wextra-semi"])):
                with self.subTest(toolchain=toolchain, end=end):
                    source = self.write("line.cpp", NAMES_A_TYPE % ("sysalloc::System", end))
                    built = self.compile_one(toolchain, source, "-Wpedantic", *flags)
                    self.check([self.build(built, support.LIBRARY, toolchain=toolchain)])

    def test_a_wrong_type_is_the_first_error(self):
        for toolchain in self.each_toolchain():
            for name, reason in WRONG_TYPES.items():
                with self.subTest(toolchain=toolchain, name=name):
                    source = self.write("line.cpp", NAMES_A_TYPE % (name, ";"))
                    result = self.link(*FLAGS, "-c", source, toolchain=toolchain)
                    self.assertNotEqual(result.returncode, 0, support.describe(result))
                    errors = [line for line in result.stderr.splitlines() if "error: " in line]
                    self.assertIn("static assertion failed", errors[0])
                    self.assertIn(reason, errors[0])


class ChosenByOption(MacroTestCase):
    """-Dglobal_allocator=custom: a build chooses without touching source."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        scratch = tempfile.TemporaryDirectory(prefix="sysalloc-test-")
        cls.addClassCleanup(scratch.cleanup)
        cls.place = pathlib.Path(scratch.name)
        header = cls.place / "tally.hpp"
        header.write_text(TALLY)
        cls.made = cls.place / "build"
        setup = support.run(
            [
                *(*support.MESON_SETUP, cls.made, support.SOURCE, "-Dwerror=true"),
                "-Dglobal_allocator=custom",
                f"-Dcustom_allocator_header={header}",
                "-Dcustom_allocator_type=tally::Tally",
                "-Dtests=false",
            ]
        )
        assert setup.returncode == 0, support.describe(setup)
        names = ("sysalloc_override.o", "libsysalloc_override.a", "libsysalloc_override.so.0.1.0")
        result = support.run(["ninja", "-C", cls.made, *(f"override/{name}" for name in names)])
        assert result.returncode == 0, support.describe(result)
        cls.override = cls.made / "override"

    def test_serves_the_program(self):
        source = self.write("reads.cpp", READS_TALLY)
        rpath = f"-Wl,-rpath,{self.override}"
        for name in ("sysalloc_override.o", "libsysalloc_override.a", "libsysalloc_override.so"):
            with self.subTest(name=name):
                # The archive's member has to be drawn in; its own operators do that.
                program = self.build(source, self.override / name, rpath)
                self.check([program])

    def test_defines_the_20_forms(self):
        symbols = support.defined_symbols(self.override / "sysalloc_override.o")
        for name, signature in support.REPLACEABLE_FORMS.items():
            self.assertEqual(symbols.get(name, (0, None))[1], "T", signature)

    def test_beside_a_choice_in_source_is_refused(self):
        override = self.override / "sysalloc_override.o"
        for toolchain in self.each_toolchain():
            counter, other = self.compile(toolchain)
            for inputs in ([counter, other, override], [override, counter, other]):
                with self.subTest(toolchain=toolchain, inputs=inputs):
                    self.assert_refused(self.link(*inputs, toolchain=toolchain))


if __name__ == "__main__":
    support.main()
