"""Sanitizers and valgrind see through System: mistakes are reported as without the override."""

import pathlib
import sys

import support

MISTAKES = r"""
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <thread>

// Not inlined and not seen through: the mistake has to survive optimisation.
[[gnu::noinline]] static char* make(std::size_t size) {
  char* volatile block = static_cast<char*>(::operator new(size));
  return block;
}
[[gnu::noinline]] static void overflow() {
  char* const block = make(40);
  block[40] = 1;
  ::operator delete(block);
}
[[gnu::noinline]] static void overflow_read_aligned() {
  void* volatile block = ::operator new(100, std::align_val_t{64});
  volatile char c = static_cast<char*>(block)[100];
  (void)c;
  ::operator delete(block, std::align_val_t{64});
}
[[gnu::noinline]] static void underflow() {
  char* const block = make(40);
  block[-1] = 1;
  ::operator delete(block);
}
[[gnu::noinline]] static void use_after_free() {
  char* const block = make(40);
  ::operator delete(block);
  block[3] = 1;
}
[[gnu::noinline]] static void use_after_sized_free() {
  char* const block = make(40);
  ::operator delete(block, std::size_t{40});
  block[3] = 1;
}
[[gnu::noinline]] static void double_free() {
  char* const block = make(40);
  ::operator delete(block);
  ::operator delete(block);
}
[[gnu::noinline]] static void leak() {
  char* volatile block = make(1234);
  block[0] = 1;
  block = nullptr;
}
[[gnu::noinline]] static void uninitialised() {
  char* const block = make(40);
  if (block[7] == 3) std::puts("three");
  ::operator delete(block);
}
[[gnu::noinline]] static void race() {
  int* const shared = reinterpret_cast<int*>(make(sizeof(int)));
  *shared = 0;
  auto add = [shared] {
    for (int i = 0; i < 1000; ++i) *static_cast<volatile int*>(shared) = i;
  };
  std::thread other(add);
  add();
  other.join();
  ::operator delete(shared);
}
static void nothing() {
  ::operator delete(make(40));
  std::string text(100, 'x');
  if (text.size() != 100) std::abort();
}

int main(int, char** argv) {
  const std::string mistake = argv[1];
  if (mistake == "overflow") overflow();
  if (mistake == "overflow_read_aligned") overflow_read_aligned();
  if (mistake == "underflow") underflow();
  if (mistake == "use_after_free") use_after_free();
  if (mistake == "use_after_sized_free") use_after_sized_free();
  if (mistake == "double_free") double_free();
  if (mistake == "leak") leak();
  if (mistake == "uninitialised") uninitialised();
  if (mistake == "race") race();
  if (mistake == "nothing") nothing();
}
"""

# What each tool has to say of each mistake, override or not.
ADDRESS = {
    "overflow": "heap-buffer-overflow",
    "overflow_read_aligned": "heap-buffer-overflow",
    "underflow": "heap-buffer-overflow",
    "use_after_free": "heap-use-after-free",
    "use_after_sized_free": "heap-use-after-free",
    "double_free": "attempting double-free",
    "leak": "detected memory leaks",
}
MEMCHECK = {
    "overflow": "Invalid write of size 1",
    "overflow_read_aligned": "Invalid read of size 1",
    "underflow": "Invalid write of size 1",
    "use_after_free": "Invalid write of size 1",
    "use_after_sized_free": "Invalid write of size 1",
    "double_free": "Invalid free()",
    "leak": "are definitely lost",
    "uninitialised": "depends on uninitialised value",
}
DATA_RACE = "data race"

# What a report says of the block itself, which it can only if it saw the allocation as it was.
DETAILS = {
    "overflow": r"0 bytes (after|to the right of) (a block of size 40|40-byte region)",
    "overflow_read_aligned": r"0 bytes (after|to the right of) (a block of size 100|100-byte region)",
    "underflow": r"1 bytes (before|to the left of) (a block of size 40|40-byte region)",
    "use_after_free": r"3 bytes inside (a block of size 40|of 40-byte region)",
    "use_after_sized_free": r"3 bytes inside (a block of size 40|of 40-byte region)",
    "leak": r"1,?234 (bytes in 1 blocks|byte\(s\))",
}

SANITIZED = ["-std=c++17", "-g", "-O1", "-fno-omit-frame-pointer", "-pthread"]


class Sanitizers(support.TestCase):
    def setUp(self):
        super().setUp()
        self.source = self.write("mistakes.cpp", MISTAKES)
        # What is reported is compared, and not in which line: looking that up takes most of the time.
        self.env = support.environment(
            ASAN_OPTIONS="symbolize=0", LSAN_OPTIONS="symbolize=0", TSAN_OPTIONS="symbolize=0"
        )

    def programs(self, toolchain, *flags):
        """The same program without the override, and with it: linked in, and as a library."""
        flags = [*SANITIZED, *flags]
        if toolchain != "g++":
            flags.append("-fsized-deallocation")
        rpath = f"-Wl,-rpath,{support.SHARED.parent}"
        inputs = {"without": [], "object": [support.OBJECT], "shared": [support.SHARED, rpath]}
        mistakes = self.build(*flags, "-c", self.source, toolchain=toolchain, output="mistakes.o")
        return {
            way: self.build(*flags, mistakes, *files, toolchain=toolchain, output=way)
            for way, files in inputs.items()
        }

    def assert_says(self, command, mistake, words, env=None):
        result = support.run(command, env=env or self.env)
        self.assertNotEqual(result.returncode, 0, support.describe(result))
        self.assertIn(words, result.stderr, support.describe(result))
        if mistake in DETAILS:
            self.assertRegex(result.stderr, DETAILS[mistake], support.describe(result))

    def test_address_sanitizer(self):
        for toolchain in self.each_toolchain():
            flag = "-fsanitize=address"
            reason = support.cannot_link(toolchain, flag)
            if reason is not None:
                print(f"left out: {toolchain}, {flag}: {reason}", file=sys.stderr)
                continue
            for way, program in self.programs(toolchain, flag).items():
                for mistake, words in ADDRESS.items():
                    with self.subTest(toolchain=toolchain, way=way, mistake=mistake):
                        self.assert_says([program, mistake], mistake, words)
                with self.subTest(toolchain=toolchain, way=way, mistake="nothing"):
                    self.check([program, "nothing"])

    def test_thread_sanitizer(self):
        for toolchain in self.each_toolchain():
            flags = ["-fsanitize=thread"]
            if toolchain != "g++":
                # clang's default is to link its runtime statically, which for this sanitizer alone
                # has operators that are not weak: another definition of them is a link error,
                # anybody's. Its shared runtime lets the program's come first, as g++'s does.
                where = support.run(["clang++-19", "-print-file-name=libclang_rt.tsan-x86_64.so"])
                directory = pathlib.Path(where.stdout.strip()).parent
                flags += ["-shared-libsan", f"-Wl,-rpath,{directory}"]
            reason = support.cannot_link(toolchain, *flags)
            if reason is not None:
                print(f"left out: {toolchain}, {flags}: {reason}", file=sys.stderr)
                continue
            for way, program in self.programs(toolchain, *flags).items():
                if support.run([program, "nothing"]).returncode != 0:
                    # Kernels that lay out memory in a way this runtime does not know.
                    print(f"left out: {toolchain}: ThreadSanitizer does not start", file=sys.stderr)
                    break
                with self.subTest(toolchain=toolchain, way=way):
                    self.assert_says([program, "race"], "race", DATA_RACE)
                    result = support.run([program, "race"], env=self.env)
                    self.assertRegex(result.stderr, "heap block of size 4 ", support.describe(result))

    def test_memcheck(self):
        self.need_memcheck()
        memcheck = ["valgrind", "--leak-check=full", "--error-exitcode=9"]
        for way, program in self.programs("g++").items():
            for mistake, words in MEMCHECK.items():
                with self.subTest(way=way, mistake=mistake):
                    self.assert_says([*memcheck, program, mistake], mistake, words)
            with self.subTest(way=way, mistake="nothing"):
                result = self.check([*memcheck, program, "nothing"])
                self.assertIn("ERROR SUMMARY: 0 errors", result.stderr)

    def test_memcheck_with_the_shared_library_preloaded(self):
        self.need_memcheck()
        program = self.build(*SANITIZED, self.source)
        env = support.environment(LD_PRELOAD=str(support.SHARED))
        memcheck = ["valgrind", "--leak-check=full", "--error-exitcode=9"]
        for mistake, words in MEMCHECK.items():
            with self.subTest(mistake=mistake):
                self.assert_says([*memcheck, program, mistake], mistake, words, env=env)

    def test_undefined_behaviour_sanitizer_is_content(self):
        for toolchain in self.each_toolchain():
            flags = ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
            if support.cannot_link(toolchain, *flags) is not None:
                continue
            for way, program in self.programs(toolchain, *flags).items():
                with self.subTest(toolchain=toolchain, way=way):
                    self.check([program, "nothing"])


if __name__ == "__main__":
    support.main()
