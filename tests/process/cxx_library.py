"""The shared libraries find the C++ library when an allocation fails, wherever the program has it;
and bring none into a program that has none."""

import platform

import support

EXHAUSTED = support.PROGRAMS / "exhausted.cpp"
# The last one is for glibc alone.
LIBRARIES = [
    library
    for library in (support.SHARED, support.CACHED_SHARED, support.MALLOC_SHARED)
    if library.exists()
]
FLAGS = ["-std=c++17", "-O1"]
STATIC = ["-static-libstdc++", "-static-libgcc"]
# As every plugin has it that uses a container.
THROWS = [*STATIC, "-Wl,-u,_ZSt17__throw_bad_allocv"]

# Loads the plugins that it is given, calls run() of the last, and prints what is loaded.
HOST = r"""
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char** argv) {
  void* plugin = NULL;
  for (int i = 1; i < argc; ++i) {
    plugin = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
    if (plugin == NULL) {
      puts(dlerror());
      return 1;
    }
  }
  if (plugin != NULL) ((void (*)(void))dlsym(plugin, "run"))();
  FILE* const maps = fopen("/proc/self/maps", "r");
  char line[4352];
  while (fgets(line, sizeof line, maps) != NULL) fputs(line, stderr);
  return 0;
}
"""


class CxxLibrary(support.TestCase):
    def assert_done(self, command, **environment):
        result = self.check(command, env=support.environment(**environment))
        self.assertEqual(result.stdout, "done\n", support.describe(result))

    def assert_done_with_each_library(self, *command):
        self.assert_done(command)
        for library in LIBRARIES:
            with self.subTest(library=library.name):
                self.assert_done(command, LD_PRELOAD=str(library))

    def build_host(self):
        return self.build("-x", "c", self.write("host.c", HOST), "-ldl", output="host")

    def build_plugin(self, *flags, toolchain="g++", output="plugin.so"):
        return self.build(*FLAGS, "-DPLUGIN", "-shared", "-fPIC", EXHAUSTED, *flags,
                          toolchain=toolchain, output=output)

    def test_a_program_in_cpp(self):
        for toolchain in self.each_toolchain():
            for flags in ([], ["-fno-pie", "-no-pie"]):
                with self.subTest(toolchain=toolchain, flags=flags):
                    program = self.build(*FLAGS, *flags, EXHAUSTED, toolchain=toolchain)
                    self.assert_done_with_each_library(program)

    def test_a_plugin_of_a_program_in_c(self):
        host = self.build_host()
        for toolchain in self.each_toolchain():
            with self.subTest(toolchain=toolchain):
                plugin = self.build_plugin(toolchain=toolchain)
                self.assert_done_with_each_library(host, plugin)

    def test_a_plugin_with_the_library_in_it(self):
        host = self.build_host()
        every = [STATIC, THROWS]
        if platform.machine() == "x86_64" and not support.CROSS:
            # Linked for an address above all that programs have, so it lies below that.
            every.append([*THROWS, "-Wl,-Ttext-segment=0x800000000000"])
        for flags in every:
            with self.subTest(flags=flags):
                self.assert_done_with_each_library(host, self.build_plugin(*flags))

    def test_a_plugin_behind_another_with_the_library_in_it(self):
        # What the other one would throw is counted there, and its new_handler is its own.
        other = self.build_plugin(*THROWS, output="other.so")
        self.assert_done_with_each_library(self.build_host(), other, self.build_plugin())

    def test_a_program_with_the_library_in_it(self):
        flags = [*THROWS, "-DNOTHROW_CATCHES_NOTHING"]
        for library in LIBRARIES:
            with self.subTest(library=library.name):
                rpath = f"-Wl,-rpath,{library.parent}"
                self.assert_done([self.build(*FLAGS, EXHAUSTED, library, rpath, *flags)])

    def test_two_libraries(self):
        program = self.build(*FLAGS, EXHAUSTED)
        self.assert_done([program], LD_PRELOAD=f"{support.SHARED}:{support.CACHED_SHARED}")

    def test_a_program_in_c_has_none(self):
        host = self.build_host()
        for library in LIBRARIES:
            with self.subTest(library=library.name):
                maps = self.check([host], env=support.environment(LD_PRELOAD=str(library))).stderr
                self.assertIn(library.resolve().name, maps)
                self.assertNotIn("++", maps)


if __name__ == "__main__":
    support.main()
