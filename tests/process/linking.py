"""The override serves programs however they are compiled and linked."""

import sys

import served
import support

SERVES = support.PROGRAMS / "serves.cpp"

# (flags, which forms of new show themselves). C++14 has no aligned forms; without exceptions a
# throwing form that fails ends the program, so only the nothrow forms are let fail.
ALL = served.ALL_FORMS
WAYS = {
    "dynamic": (["-O2"], ALL),
    "not optimised": (["-O0"], ALL),
    "not PIE": (["-O2", "-fno-pie", "-no-pie"], ALL),
    "static": (["-O2", "-static"], ALL),
    "static PIE": (["-O2", "-fPIE", "-static-pie"], ALL),
    "C++14": (["-O2", "-std=c++14"], served.PLAIN_FORMS),
    "C++17": (["-O2", "-std=c++17"], ALL),
    "C++20": (["-O2", "-std=c++20"], ALL),
    "no exceptions": (
        ["-O2", "-std=c++17", "-fno-exceptions"],
        served.NOTHROW_FORMS | served.ALIGNED_NOTHROW_FORMS,
    ),
    "no sized deallocation": (["-O2", "-std=c++17", "-fno-sized-deallocation"], ALL),
    "sized deallocation": (["-O2", "-std=c++17", "-fsized-deallocation"], ALL),
    "no RTTI": (["-O2", "-std=c++17", "-fno-rtti"], ALL),
    "hidden visibility": (["-O2", "-std=c++17", "-fvisibility=hidden"], ALL),
    "sections collected": (
        ["-O2", "-std=c++17", "-ffunction-sections", "-Wl,--gc-sections"],
        ALL,
    ),
    "LTO": (["-O2", "-std=c++17", "-flto"], ALL),
    "LTO, static": (["-O2", "-std=c++17", "-flto", "-static"], ALL),
}

# clang's own linker, which both its LTO and people who want speed use.
LLD = "-fuse-ld=lld-19"


def standard(flags):
    """Some compilers default to C++14: the aligned forms are asked for by name."""
    return flags if any(flag.startswith("-std=") for flag in flags) else ["-std=c++17", *flags]


class Linking(served.ServedTestCase):
    def each_way(self):
        for toolchain in self.each_toolchain():
            for way, (flags, forms) in WAYS.items():
                flags = standard(flags)
                reason = support.cannot_link(toolchain, *flags)
                if reason is not None and LLD not in flags and "LTO" in way:
                    # GNU's linker may lack clang's plugin; LLVM's linker needs none.
                    flags = [*flags, LLD]
                    reason = support.cannot_link(toolchain, *flags)
                if reason is not None:
                    print(f"left out: {toolchain}, {way}: {reason}", file=sys.stderr)
                    continue
                yield toolchain, way, flags, forms

    def test_object_on_the_link_line(self):
        tried = 0
        for toolchain, way, flags, forms in self.each_way():
            with self.subTest(toolchain=toolchain, way=way):
                program = self.build(*flags, SERVES, support.OBJECT, toolchain=toolchain)
                self.assert_served([program], forms, by="program")
                tried += 1
        self.assertGreaterEqual(tried, len(WAYS), "g++ has to know every way")

    def test_the_test_sees_a_program_without_the_override(self):
        for toolchain in self.each_toolchain():
            with self.subTest(toolchain=toolchain):
                program = self.build("-std=c++17", SERVES, toolchain=toolchain)
                self.assert_not_served([program])

    def test_object_before_the_program(self):
        for flags in ([], ["-static"]):
            with self.subTest(flags=flags):
                program = self.build("-std=c++17", *flags, support.OBJECT, SERVES)
                self.assert_served([program], served.ALL_FORMS, by="program")

    def test_archive_on_the_link_line(self):
        for flags in ([], ["-no-pie"], ["-static"], ["-static-pie", "-fPIE"]):
            with self.subTest(flags=flags):
                program = self.build("-std=c++17", *flags, SERVES, support.ARCHIVE)
                self.assert_served([program], served.ALL_FORMS, by="program")

    def test_shared_library_on_the_link_line(self):
        for toolchain in self.each_toolchain():
            with self.subTest(toolchain=toolchain):
                rpath = f"-Wl,-rpath,{support.SHARED.parent}"
                program = self.build(
                    "-std=c++17", SERVES, support.SHARED, rpath, toolchain=toolchain
                )
                self.assert_served([program], served.ALL_FORMS, by=support.SHARED.resolve().name)

    def test_library_alone_replaces_nothing(self):
        # With a call into the library, so that its archive members are really linked.
        caller = self.write(
            "caller.cpp",
            "#include <sysalloc/global.hpp>\n"
            "__attribute__((constructor)) void use() {\n"
            "  const auto layout = sysalloc::Layout::of<long>();\n"
            "  sysalloc::dealloc(sysalloc::alloc(layout), layout);\n"
            "}\n",
        )
        for flags in ([], ["-static"]):
            with self.subTest(flags=flags):
                program = self.build(
                    "-std=c++23", support.INCLUDE, *flags, SERVES, caller, support.LIBRARY
                )
                self.assertIn("_ZN8sysalloc5allocENS_6LayoutE", support.defined_symbols(program))
                self.assert_not_served([program])


if __name__ == "__main__":
    support.main()
