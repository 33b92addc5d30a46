"""LD_PRELOAD of the shared library into programs that are already built."""

import shutil
import sys
import unittest

import served
import support

PIPELINE = """
set -e
seq 1 20000 | sort -r | uniq | head -n 5000 | awk '{ sum += $1 } END { print sum }'
printf '%s\\n' one two three | tr a-z A-Z | grep -c T
ls / | sort | head -n 3
"""

C_PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void) {
  char* text = NULL;
  for (int i = 1; i < 100; ++i) {
    text = realloc(text, 100 * i);
    if (text == NULL) return 1;
    memset(text, 'x', 100 * i - 1);
    text[100 * i - 1] = 0;
  }
  printf("%zu\n", strlen(text));
  free(text);
  return 7;
}
"""

CPP_PROGRAM = r"""
#include <iostream>
#include <map>
#include <sstream>
#include <string>
int main() {
  std::map<std::string, int> words;
  for (int i = 0; i < 3000; ++i) ++words["a word that is not held in place " + std::to_string(i % 700)];
  std::ostringstream out;
  for (const auto& [word, count] : words) out << word << ' ' << count << '\n';
  std::cout << out.str();
  try {
    words.at("no such word");
  } catch (const std::exception& error) {
    std::cerr << "caught\n";
  }
  return 5;
}
"""


class Preload(served.ServedTestCase):
    SHARED = support.SHARED

    def setUp(self):
        super().setUp()
        self.env = support.environment(LD_PRELOAD=str(self.SHARED))

    def assert_same(self, command):
        plain = support.run(command)
        preloaded = support.run(command, env=self.env)
        self.assertEqual(plain.stdout, preloaded.stdout, support.describe(preloaded))
        self.assertEqual(plain.stderr, preloaded.stderr, support.describe(preloaded))
        self.assertEqual(plain.returncode, preloaded.returncode, support.describe(preloaded))
        return plain

    def test_serves_a_program_already_built(self):
        name = self.SHARED.resolve().name
        for toolchain in self.each_toolchain():
            for flags in ([], ["-no-pie"], ["-flto"]):
                flags = ["-std=c++17", *flags]
                if support.cannot_link(toolchain, *flags) is not None:
                    continue
                with self.subTest(toolchain=toolchain, flags=flags):
                    program = self.build(
                        *flags, support.PROGRAMS / "serves.cpp", toolchain=toolchain
                    )
                    self.assert_not_served([program])
                    self.assert_served([program], served.ALL_FORMS, by=name, env=self.env)

    def test_cpp_program(self):
        for toolchain in self.each_toolchain():
            with self.subTest(toolchain=toolchain):
                source = self.write("program.cpp", CPP_PROGRAM)
                plain = self.assert_same([self.build("-std=c++17", source, toolchain=toolchain)])
                self.assertEqual(plain.returncode, 5)
                self.assertEqual(plain.stdout.count("\n"), 700)

    def test_c_program(self):
        program = self.build("-x", "c", self.write("program.c", C_PROGRAM))
        plain = self.assert_same([program])
        self.assertEqual((plain.stdout, plain.returncode), ("9899\n", 7))

    @unittest.skipIf(support.CROSS, "the system's programs are for another machine")
    def test_shell_pipeline(self):
        plain = self.assert_same(["sh", "-c", PIPELINE])
        self.assertTrue(plain.stdout.startswith("87519500") or "\n2\n" in plain.stdout)

    @unittest.skipIf(support.CROSS, "the system's programs are for another machine")
    def test_programs_of_the_system(self):
        # Large C++ programs of others, each with plugins of its own.
        source = self.write("program.cpp", CPP_PROGRAM)
        commands = [
            ["cmake", "--help-property-list"],
            ["ninja", "--version"],
            ["g++", "-std=c++17", "-O1", "-S", source, "-o", "-"],
            ["clang++-19", "-std=c++17", "-O1", "-S", source, "-o", "-"],
            ["python3", "-c", "import json, sys; json.dump(list(range(9999)), sys.stdout)"],
        ]
        for command in commands:
            if shutil.which(command[0]) is None:
                print(f"left out: {command[0]} is not installed", file=sys.stderr)
                continue
            with self.subTest(command=command):
                self.assertEqual(self.assert_same(command).returncode, 0)


if __name__ == "__main__":
    support.main()
