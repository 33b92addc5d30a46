"""Projects outside use an installed sysalloc in every way that is documented.

What is installed here is what `meson install` of the shipped configuration installs, into a prefix
of its own. The whole prefix is then moved, so that nothing can depend on where it was built.
"""

import json
import os
import pathlib
import shutil
import signal
import tempfile

import support

# Each way to put the override into a program, by the name that its package, target, object,
# archive and shared library derive from. A new override adds its line.
OVERRIDES = {
    "sysalloc-override": ("sysalloc::override", "sysalloc_override"),
    "sysalloc-override-cached": ("sysalloc::override_cached", "sysalloc_override_cached"),
}

# Uses the library, and says whether the operators of this program are sysalloc's: the hook behind
# them is a hidden symbol, so only a program that the override is linked into finds it.
LIBRARY_USER = """
#include <sysalloc/global.hpp>
#include <sysalloc/std_allocator.hpp>
#include <sysalloc/system.hpp>
#include <cstdio>
#include <vector>
extern "C" [[gnu::weak]] void hook() __asm__("HOOK_NEW");
int main() {
  const auto layout = sysalloc::Layout::of<long>();
  void* const block = sysalloc::alloc(layout);
  sysalloc::dealloc(block, layout);
  std::vector<int, sysalloc::StdAllocator<int, sysalloc::System>> numbers(100, 1);
  std::vector<int> others(1000, 1);
  std::puts(hook != nullptr ? "overridden" : "not overridden");
  return block == nullptr || numbers.size() != 100 || others.size() != 1000;
}
""".replace("HOOK_NEW", support.HOOK_NEW)

# Frees a block with a wrong size.
WRONG_SIZE = """
#include <sysalloc/sysalloc.hpp>
#include <new>
SYSALLOC_GLOBAL_ALLOCATOR(sysalloc::Cached<>);
int main() {
  ::operator delete(::operator new(100), std::size_t{1000});
}
"""

# With an executable for each override, named as its package.
CMAKE_PROJECT = """
cmake_minimum_required(VERSION 3.20)
project(outside LANGUAGES CXX)
find_package(sysalloc 0.1 REQUIRED CONFIG)
add_executable(plain main.cpp)
target_link_libraries(plain PRIVATE sysalloc::sysalloc)
"""
CMAKE_OVERRIDDEN = """
add_executable({name} main.cpp)
target_link_libraries({name} PRIVATE sysalloc::sysalloc {target})
add_executable({name}-any serves.cpp)
target_compile_features({name}-any PRIVATE cxx_std_17)
target_link_libraries({name}-any PRIVATE {target})
"""

MESON_PROJECT = """
project('outside', 'cpp', default_options: ['cpp_std=none', 'warning_level=0'])
add_project_arguments('-std=c++23', language: 'cpp')
executable('plain', 'main.cpp', dependencies: dependency('sysalloc'))
"""
MESON_OVERRIDDEN = """
executable('{name}', 'main.cpp', dependencies: [dependency('sysalloc'), dependency('{name}')])
"""

MESON_SUBPROJECT_WRAP = """
[wrap-file]
directory = sysalloc

[provide]
dependency_names = sysalloc, {names}
"""


class Consume(support.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        scratch = tempfile.TemporaryDirectory(prefix="sysalloc-test-")
        cls.addClassCleanup(scratch.cleanup)
        cls.built = pathlib.Path(scratch.name, "build")
        cls.installed = pathlib.Path(scratch.name, "installed")
        for command in (
            [
                *(*support.MESON_SETUP, cls.built, support.SOURCE, "-Dtests=false", "-Dwerror=true"),
                f"--prefix={cls.installed}",
                "-Dlibdir=lib",
            ],
            ["meson", "install", "-C", cls.built, "--quiet"],
        ):
            result = support.run(command)
            assert result.returncode == 0, support.describe(result)
        cls.prefix = pathlib.Path(scratch.name, "moved")
        cls.installed.rename(cls.prefix)
        cls.include = cls.prefix / "include"
        cls.lib = cls.prefix / "lib"

    def setUp(self):
        super().setUp()
        self.main = self.write("main.cpp", LIBRARY_USER)
        self.serves = self.scratch / "serves.cpp"
        shutil.copy(support.PROGRAMS / "serves.cpp", self.serves)

    def assert_says(self, program, words, env=None):
        self.assertEqual(self.check([program], env=env).stdout, words + "\n")

    def pkg_config(self, *arguments, prefix=None):
        prefix = prefix or self.prefix
        # By the variable and not by --define-prefix, which knows only prefix/lib/pkgconfig.
        env = support.environment(PKG_CONFIG_PATH=str(prefix / "lib" / "pkgconfig"))
        command = ["pkg-config", f"--define-variable=prefix={prefix}", *arguments]
        return self.check(command, env=env).stdout.split()

    def test_link_line(self):
        compiling = ["-std=c++23", f"-I{self.include}", "-c", self.main]
        main = self.build(*compiling, output="main.o")
        library = self.lib / "libsysalloc.a"
        self.assert_says(self.build(main, library), "not overridden")
        for _, file in OVERRIDES.values():
            for override in (f"{file}.o", f"lib{file}.a"):
                for inputs in (
                    [main, self.lib / override, library],
                    [self.lib / override, main, library],
                ):
                    if inputs[0] != main and override.endswith(".a"):
                        continue  # An archive goes after what needs it, as any does.
                    with self.subTest(inputs=inputs):
                        self.assert_says(self.build(*inputs), "overridden")
                        self.assert_says(self.build("-static", *inputs), "overridden")

    def test_minus_l(self):
        # The library that the program then needs at run time is the one with the version's name.
        for _, file in OVERRIDES.values():
            with self.subTest(file=file):
                program = self.build(
                    *("-std=c++17", self.serves, f"-L{self.lib}", f"-l{file}"),
                    f"-Wl,-rpath,{self.lib}",
                )
                needed = self.check(["readelf", "-d", program]).stdout
                self.assertIn(f"lib{file}.so.0", needed)
                self.assertIn(f"lib{file}.so.0.1.0 ", self.check([program]).stdout.replace("\n", " "))

    def test_preload(self):
        program = self.build("-std=c++17", self.serves)
        for _, file in OVERRIDES.values():
            with self.subTest(file=file):
                shared = self.lib / f"lib{file}.so"
                env = support.environment(LD_PRELOAD=str(shared))
                self.assertIn(f"lib{file}.so", self.check([program], env=env).stdout)
                self.assertNotIn(f"lib{file}.so", self.check([program]).stdout)

    def test_pkg_config(self):
        self.need("pkg-config")
        flags = self.pkg_config("--cflags", "--libs", "sysalloc")
        self.assertIn(f"-I{self.include}", flags)
        plain = self.build("-std=c++23", self.main, *flags)
        self.assert_says(plain, "not overridden")
        for name in OVERRIDES:
            with self.subTest(name=name):
                flags = self.pkg_config("--cflags", "--libs", name)
                self.assert_says(self.build("-std=c++23", self.main, *flags), "overridden")
                static = self.pkg_config("--static", "--cflags", "--libs", name)
                program = self.build("-std=c++23", self.main, *static, "-static")
                self.assert_says(program, "overridden")

    def test_hardening_holds_for_the_line_of_source(self):
        self.need("pkg-config")
        self.need("cmake")
        build, prefix = self.scratch / "hardened", self.scratch / "prefix"
        options = ["-Dtests=false", "-Dhardening=abort", "-Dlibdir=lib", f"--prefix={prefix}"]
        self.check([*support.MESON_SETUP, build, support.SOURCE, *options])
        self.check(["meson", "install", "-C", build, "--quiet"])
        source = self.write("wrong.cpp", WRONG_SIZE)
        for where, ends in ((self.prefix, 0), (prefix, -signal.SIGABRT)):
            flags = self.pkg_config("--cflags", "--libs", "sysalloc", prefix=where)
            program = self.build("-std=c++23", source, *flags, output=f"wrong{ends}")
            self.assertEqual(support.run([program]).returncode, ends)
        self.write("CMakeLists.txt", CMAKE_PROJECT.replace("main.cpp", "wrong.cpp"))
        made = self.scratch / "made"
        configure = [*support.CMAKE_SETUP, "-S", self.scratch, "-B", made]
        self.check([*configure, f"-DCMAKE_PREFIX_PATH={prefix}"])
        self.check(["cmake", "--build", made])
        self.assertEqual(support.run([made / "plain"]).returncode, -signal.SIGABRT)

    def assert_built(self, build):
        """What a project built with these names does as its name says."""
        self.assert_says(build / "plain", "not overridden")
        for name in OVERRIDES:
            with self.subTest(name=name):
                self.assert_says(build / name, "overridden")

    def test_cmake(self):
        self.need("cmake")
        targets = "".join(
            CMAKE_OVERRIDDEN.format(name=name, target=target)
            for name, (target, _) in OVERRIDES.items()
        )
        self.write("CMakeLists.txt", CMAKE_PROJECT + targets)
        build = self.scratch / "build"
        configure = [*support.CMAKE_SETUP, "-S", self.scratch, "-B", build]
        self.check([*configure, f"-DCMAKE_PREFIX_PATH={self.prefix}"])
        self.check(["cmake", "--build", build])
        self.assert_built(build)
        # And in a program that has nothing else of the library.
        for name in OVERRIDES:
            symbols = support.defined_symbols(build / f"{name}-any")
            self.assertIn(support.HOOK_NEW, symbols, name)

    def test_cmake_refuses_another_version(self):
        self.need("cmake")
        self.write("CMakeLists.txt", CMAKE_PROJECT.replace("sysalloc 0.1 ", "sysalloc 0.2 "))
        configure = [*support.CMAKE_SETUP, "-S", self.scratch, "-B", self.scratch / "build"]
        result = support.run([*configure, f"-DCMAKE_PREFIX_PATH={self.prefix}"])
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("version: 0.1", result.stderr)

    def test_cmake_is_not_needed_to_build(self):
        # Nor what it writes into the directory that it is started in.
        missing = self.scratch / "bin" / "cmake"
        missing.parent.mkdir()
        missing.write_text("#!/bin/sh\nexit 1\n")
        missing.chmod(0o755)
        env = support.environment(PATH=f"{missing.parent}:{os.environ['PATH']}")
        options = ["-Dtests=false", "-Dlibdir=lib"]
        build = self.scratch / "build"
        self.check([*support.MESON_SETUP, build, support.SOURCE, *options], env=env)

    def test_cmake_with_a_libdir_outside_the_prefix(self):
        self.need("cmake")
        build, prefix, lib = self.scratch / "made", self.scratch / "prefix", self.scratch / "lib"
        options = ["-Dtests=false", f"-Dlibdir={lib}", f"--prefix={prefix}"]
        self.check([*support.MESON_SETUP, build, support.SOURCE, *options])
        self.check(["meson", "install", "-C", build, "--quiet"])
        self.write("CMakeLists.txt", CMAKE_PROJECT)
        configure = [*support.CMAKE_SETUP, "-S", self.scratch, "-B", self.scratch / "build"]
        self.check([*configure, f"-Dsysalloc_DIR={lib}/cmake/sysalloc"])
        self.check(["cmake", "--build", self.scratch / "build"])
        self.assert_says(self.scratch / "build" / "plain", "not overridden")

    def build_with_meson(self, env=None):
        targets = "".join(MESON_OVERRIDDEN.format(name=name) for name in OVERRIDES)
        self.write("meson.build", MESON_PROJECT + targets)
        build = self.scratch / "build"
        self.check([*support.MESON_SETUP, build, self.scratch], env=env)
        self.check(["ninja", "-C", build, "plain", *OVERRIDES])
        self.assert_built(build)
        return build

    def test_meson_by_pkg_config(self):
        self.need("pkg-config")
        # Meson takes the files as they are, so for a moved prefix they say where it is now.
        for file in (self.lib / "pkgconfig").glob("*.pc"):
            text = file.read_text().replace(str(self.installed), str(self.prefix))
            self.write(f"pkgconfig/{file.name}", text)
        directory = str(self.scratch / "pkgconfig")
        self.build_with_meson(env=support.environment(PKG_CONFIG_PATH=directory))

    def test_meson_subproject(self):
        # With what git would give: no build directories.
        subproject = self.scratch / "subprojects" / "sysalloc"
        shutil.copytree(
            support.SOURCE,
            subproject,
            ignore=shutil.ignore_patterns("build*", ".git", "bench", "tests", "examples"),
        )
        wrap = MESON_SUBPROJECT_WRAP.format(names=", ".join(OVERRIDES))
        self.write("subprojects/sysalloc.wrap", wrap)
        built = self.build_with_meson()
        # The project says nothing of optimisation, which is none then.
        commands = json.loads((built / "compile_commands.json").read_text())
        ours = [one["command"] for one in commands if "subprojects/sysalloc/" in one["file"]]
        self.assertGreater(len(ours), 2)
        for command in ours:
            self.assertIn(" -O3 ", command)
            self.assertIn(" -DNDEBUG ", command)

    def test_the_headers_are_those_of_the_source(self):
        # That each compiles alone is tested there, in tests/unit/headers.
        def contents(root):
            return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*.hpp")}

        installed = contents(self.include)
        self.assertGreater(len(installed), 10)
        self.assertEqual(installed, contents(support.SOURCE / "include"))

    def test_nothing_names_where_it_was_built(self):
        files = [path for path in self.prefix.rglob("*") if path.is_file()]
        self.assertGreater(len(files), 20)
        for file in files:
            data = file.read_bytes()
            for place in (self.built, support.SOURCE):
                with self.subTest(file=file.name, place=str(place)):
                    self.assertNotIn(str(place).encode(), data)

    def test_the_prefix_is_named_by_pkg_config_only(self):
        for file in self.prefix.rglob("*"):
            if file.is_file() and str(self.installed).encode() in file.read_bytes():
                with self.subTest(file=file.name):
                    self.assertEqual(file.suffix, ".pc")
                    lines = [x for x in file.read_text().splitlines() if str(self.installed) in x]
                    self.assertEqual(lines, [f"prefix={self.installed}"])


if __name__ == "__main__":
    support.main()
