"""Programs for Windows: the operators as PE has them, the choice in source, and one C++ library.

Runs on the machine that builds, with the compiler and the wrapper that the cross file names.
"""

import re

import macro
import support

# size_t is unsigned long long on 64-bit Windows, and unsigned int on 32-bit Windows.
SIZE_T = "y" if support.POINTER_SIZE == 8 else "j"
FORMS = {re.sub("^(_Zn[wa]|_Zd[la]Pv)[mj]", rf"\1{SIZE_T}", form) for form in support.REPLACEABLE_FORMS}
# What C adds to a name.
PREFIX = "" if support.POINTER_SIZE == 8 else "_"

RUNTIME_DLLS = ("libstdc++", "libgcc", "libwinpthread")

# The standard library allocates inside itself, and what it hands out is freed in the program. Only
# what the counting allocator sees of both sides makes the counts meet.
RUNTIME = """
#include <filesystem>
#include <fstream>
#include <iostream>
#include <locale>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <sysalloc/counting.hpp>
#include <sysalloc/global_allocator.hpp>
#include <sysalloc/system.hpp>
#include <vector>

using Counter = sysalloc::Counting<sysalloc::System>;
SYSALLOC_GLOBAL_ALLOCATOR(Counter);

static sysalloc::CountingStats stats() { return sysalloc::global_allocator<Counter>().stats(); }

// Each makes something whose memory functions compiled into the library allocate.
static std::string from_stream() {
  std::ostringstream out;
  for (int i = 0; i < 100; ++i) out << "number " << i << ' ';
  return out.str();
}
static std::string from_getline() {
  std::istringstream in(std::string(5000, 'x') + "\\n");
  std::string line;
  std::getline(in, line);
  return line;
}
static std::filesystem::path from_filesystem() {
  return std::filesystem::current_path() / std::string(300, 'd') / std::string(300, 'e');
}
static std::unique_ptr<std::ofstream> from_file() {
  auto file = std::make_unique<std::ofstream>(%(file)s);
  *file << std::string(100000, 'f');
  return file;
}

template <class Make>
static int seen(const char* what, Make make) {
  const auto before = stats();
  auto made = make();
  const auto during = stats();
  { const auto freed = std::move(made); }
  std::cout << what << ": " << during.blocks_total - before.blocks_total << " blocks\\n";
  return during.blocks_live > before.blocks_live ? 0 : 1;
}

static int all() {
  int bad = 0;
  bad += seen("stream", from_stream);
  bad += seen("getline", from_getline);
  bad += seen("filesystem", from_filesystem);
  bad += seen("file", from_file);
  bad += seen("exception", [] {
    try {
      return std::string("nothing").substr(8) + std::string(100, 'x');
    } catch (const std::out_of_range& error) {
      return std::string(error.what()) + std::string(100, 'x');
    }
  });
  return bad;
}

int main() {
  // The first time, the library keeps what it makes once.
  if (all() != 0) return 1;
  const auto before = stats();
  if (all() != 0) return 2;
  const auto after = stats();
  std::cout << after.blocks_total - before.blocks_total << " allocated, "
            << after.blocks_live << " of " << before.blocks_live << " left\\n";
  if (after.blocks_total < before.blocks_total + 20) return 3;
  return after.blocks_live == before.blocks_live && after.bytes_live == before.bytes_live ? 0 : 4;
}
"""

# Makes the mistake that it is told, over the override object of Cached.
MISTAKES = """
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <new>
#include <vector>
int main(int, char** argv) {
  const auto is = [argv](const char* name) { return std::strcmp(argv[1], name) == 0; };
  char* volatile block = static_cast<char*>(::operator new(100));
  char* volatile other = static_cast<char*>(::operator new(100));
  char* volatile wrong = is("interior") ? block + 16 : block;
  std::printf("%#zx\\n", reinterpret_cast<std::size_t>(static_cast<char*>(wrong)));
  std::fflush(stdout);
  if (is("none")) {
    ::operator delete(block);
  } else if (is("wrong size")) {
    ::operator delete(block, std::size_t{5000});
  } else {
    ::operator delete(block);
    ::operator delete(wrong);
  }
  ::operator delete(other);
  // Makes what is freed leave the cache of the thread.
  std::vector<void*> blocks(20000);
  for (void*& each : blocks) each = ::operator new(100);
  for (void* each : blocks) ::operator delete(each);
  return 0;
}
"""
ABORTED = 3  # what abort() ends a program with on Windows

# A program and a DLL, each with the override object, that free each other's blocks.
DLL = """
#include <cstddef>
#include <new>
constexpr auto align = static_cast<std::align_val_t>(256);
extern "C" {
__declspec(dllexport) void* make() { return ::operator new(1000); }
__declspec(dllexport) void* make_aligned() { return ::operator new(1000, align); }
__declspec(dllexport) void unmake(void* ptr) { ::operator delete(ptr, std::size_t{1000}); }
__declspec(dllexport) void unmake_aligned(void* ptr) { ::operator delete(ptr, align); }
}
"""
USES_DLL = """
#include <cstdint>
#include <cstring>
#include <new>
constexpr auto align = static_cast<std::align_val_t>(256);
extern "C" {
void* make();
void* make_aligned();
void unmake(void* ptr);
void unmake_aligned(void* ptr);
}
int main() {
  for (int i = 0; i < 1000; ++i) {
    void* const ptr = make();
    void* const aligned = make_aligned();
    std::memset(ptr, 1, 1000);
    std::memset(aligned, 2, 1000);
    if (reinterpret_cast<std::uintptr_t>(aligned) % 256 != 0) return 1;
    ::operator delete(ptr);
    ::operator delete(aligned, align);
    unmake(::operator new(1000));
    unmake_aligned(::operator new(1000, align));
  }
  return 0;
}
"""

FLAGS = ["-std=c++23", "-O2", "-Wall", "-Wextra", "-Werror", support.INCLUDE]
OVERRIDE = support.BUILD / "override"
CACHED_ARCHIVE = OVERRIDE / "libsysalloc_override_cached.a"


def tool(name):
    """A program of the compiler's own, for the files it makes."""
    compiler = support.TOOLCHAINS["g++"]
    return support.run([*compiler, f"-print-prog-name={name}"]).stdout.strip()


def defined_symbols(path):
    """{name as C++ mangles it: nm's letter} of what a file defines."""
    symbols = {}
    for line in support.run([tool("nm"), "--defined-only", path]).stdout.splitlines():
        parts = line.split()
        if len(parts) == 3:
            symbols[parts[2].removeprefix(PREFIX)] = parts[1]
    return symbols


def imported_dlls(program):
    text = support.run([tool("objdump"), "-p", program]).stdout
    return re.findall(r"DLL Name: (\S+)", text)


class WindowsTestCase(support.TestCase):
    def compile_text(self, name, text, *flags):
        source = self.write(f"{name}.cpp", text)
        return self.build(*FLAGS, *flags, "-c", source, output=f"{name}{''.join(flags)}.o")

    def link_program(self, *inputs, flags=("-static",)):
        return self.link(*flags, *inputs, output="program.exe")

    def build_program(self, *inputs, flags=("-static",)):
        result = self.link_program(*inputs, flags=flags)
        self.assertEqual(result.returncode, 0, support.describe(result))
        return self.scratch / "program.exe"

    def run_program(self, program, *arguments):
        return support.run([*support.RUN, program, *arguments], timeout=300)

    def check_program(self, program, *arguments):
        result = self.run_program(program, *arguments)
        self.assertEqual(result.returncode, 0, support.describe(result))
        return result

    def assert_refused(self, result, name):
        self.assertNotEqual(result.returncode, 0, support.describe(result))
        self.assertIn("multiple definition", result.stderr, support.describe(result))
        self.assertIn(name, result.stderr, support.describe(result))


class Symbols(WindowsTestCase):
    def test_objects_and_archives_define_the_20_forms(self):
        self.assertEqual(len(FORMS), 20)
        for path in (support.OBJECT, support.ARCHIVE, support.CACHED_OBJECT, CACHED_ARCHIVE):
            symbols = defined_symbols(path)
            found = {name for name in symbols if re.match("_Z(n[wa]|d[la])", name)}
            self.assertEqual(found, FORMS, path)
            for name in FORMS:
                self.assertEqual(symbols[name], "T", f"{path}: {name}")

    def test_library_defines_no_operator(self):
        self.assertEqual(FORMS & set(defined_symbols(support.LIBRARY)), set())


class Choice(WindowsTestCase):
    def objects(self, *flags):
        return [
            self.compile_text("counter", macro.COUNTER, *flags),
            self.compile_text("other", macro.OTHER, *flags),
        ]

    def test_in_source_wherever_the_override_stands(self):
        counter, other = self.objects()
        lines = {
            "alone": [counter, other],
            "object last": [counter, other, support.OBJECT],
            "object first": [support.OBJECT, counter, other],
            "object between": [counter, support.OBJECT, other],
            "object before what chooses": [other, support.OBJECT, counter],
            "archive": [counter, other, support.ARCHIVE],
        }
        for order, inputs in lines.items():
            with self.subTest(order=order):
                self.check_program(self.build_program(*inputs, support.LIBRARY))

    def test_with_link_time_optimisation(self):
        objects = self.objects("-flto")
        for extra in ([], [support.OBJECT]):
            with self.subTest(extra=extra):
                flags = ["-static", "-O2", "-flto"]
                program = self.build_program(*objects, *extra, support.LIBRARY, flags=flags)
                self.check_program(program)

    def test_two_in_one_program_are_refused(self):
        objects = [*self.objects(), self.compile_text("second", macro.SECOND_CHOICE)]
        for extra in ([], [support.OBJECT]):
            with self.subTest(extra=extra):
                result = self.link_program(*objects, *extra, support.LIBRARY)
                self.assert_refused(result, "hook_new")

    def test_beside_an_override_for_another_allocator_is_refused(self):
        counter, other = self.objects()
        for inputs in (
            [counter, other, support.CACHED_OBJECT],
            [support.CACHED_OBJECT, counter, other],
        ):
            with self.subTest(inputs=inputs):
                result = self.link_program(*inputs, support.LIBRARY)
                self.assert_refused(result, "hook_new")

    def test_some_forms_of_the_programs_own_are_refused(self):
        own = "#include <cstdlib>\nvoid* operator new(std::size_t n) { return std::malloc(n); }\n"
        user = "int main() { delete new int; }\n"
        for path in (support.OBJECT, support.CACHED_OBJECT):
            with self.subTest(path=path):
                inputs = [self.compile_text("own", own), self.compile_text("user", user), path]
                self.assert_refused(self.link_program(*inputs, support.LIBRARY), "operator new")


class Runtime(WindowsTestCase):
    def test_what_the_library_allocates_and_the_program_frees_is_counted(self):
        file = '"' + "runtime-test.txt" + '"'
        text = RUNTIME % {"file": file}
        counter = self.compile_text("runtime", text)
        for extra in ([], [support.OBJECT]):
            with self.subTest(extra=extra):
                program = self.build_program(counter, *extra, support.LIBRARY)
                result = support.run([*support.RUN, program], cwd=self.scratch, timeout=300)
                self.assertEqual(result.returncode, 0, support.describe(result))

    def test_programs_of_the_build_have_the_library_in_them(self):
        programs = sorted(support.BUILD.glob("examples/*.exe"))
        self.assertGreaterEqual(len(programs), 5)
        for program in programs:
            dlls = imported_dlls(program)
            self.assertTrue(dlls, program)
            for dll in dlls:
                self.assertFalse(dll.startswith(RUNTIME_DLLS), f"{program}: {dll}")

    def test_the_test_sees_a_library_that_is_a_dll(self):
        program = self.build_program(self.compile_text("user", macro.OTHER + "int main() {}"), flags=())
        self.assertTrue(any(dll.startswith(RUNTIME_DLLS) for dll in imported_dlls(program)))

    def test_a_dll_with_the_object_and_a_program_with_it_free_each_others_blocks(self):
        dll = self.build(
            "-shared", "-static", self.compile_text("library", DLL), support.OBJECT, output="library.dll"
        )
        self.assertFalse([name for name in imported_dlls(dll) if name.startswith(RUNTIME_DLLS)])
        program = self.build_program(self.compile_text("uses", USES_DLL), support.OBJECT, dll)
        self.check_program(program)

    def test_pkg_config_says_how_to_link(self):
        for name in ("sysalloc", "sysalloc-override", "sysalloc-override-cached"):
            text = (support.BUILD / "meson-private" / f"{name}.pc").read_text()
            requires = "Requires: sysalloc\n" in text
            self.assertTrue(requires or re.search(r"^Libs:.* -static\b", text, re.M), text)


class Mistakes(WindowsTestCase):
    def test_cached_names_them_and_ends_the_program(self):
        source = self.compile_text("mistakes", MISTAKES)
        program = self.build_program(source, support.CACHED_OBJECT)
        self.check_program(program, "none")
        # Repaired and counted, unless the build says otherwise.
        self.check_program(program, "wrong size")
        for mistake, words in (
            ("twice", "sysalloc: block freed twice at {}"),
            ("interior", "sysalloc: interior pointer freed at {}"),
        ):
            with self.subTest(mistake=mistake):
                result = self.run_program(program, mistake)
                self.assertEqual(result.returncode, ABORTED, support.describe(result))
                address = result.stdout.split()[0]
                self.assertIn(words.format(address), result.stderr, support.describe(result))


if __name__ == "__main__":
    support.main()
