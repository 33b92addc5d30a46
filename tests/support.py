"""What the tests of whole programs share: compilers, compiling, running, and reading symbols.

The tests are unittest scripts that Meson runs with two variables set:

  SYSALLOC_SOURCE   the source tree
  SYSALLOC_BUILD    the build tree, with the override built in it

and in a build for another machine than this one more:

  SYSALLOC_CROSS_FILE    what Meson knows that machine by
  SYSALLOC_CXX           the compiler and its arguments for that machine, instead of those found here
  SYSALLOC_RUN           what runs a program of that machine, where this one cannot by itself
  SYSALLOC_POINTER_SIZE  of that machine, in bytes

By hand, after ninja -C build/dev:

  PYTHONPATH=tests SYSALLOC_BUILD=build/dev python3 tests/process/symbols.py -v
"""

import functools
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(
    os.environ.get("SYSALLOC_SOURCE", pathlib.Path(__file__).resolve().parent.parent)
).resolve()
BUILD = pathlib.Path(os.environ.get("SYSALLOC_BUILD", SOURCE / "build" / "dev")).resolve()
CROSS = "SYSALLOC_CROSS_FILE" in os.environ
RUN = shlex.split(os.environ.get("SYSALLOC_RUN", ""))
POINTER_SIZE = int(os.environ.get("SYSALLOC_POINTER_SIZE", 8))
PROGRAMS = SOURCE / "tests" / "process" / "programs"

INCLUDE = f"-I{SOURCE / 'include'}"
OBJECT = BUILD / "override" / "sysalloc_override.o"
ARCHIVE = BUILD / "override" / "libsysalloc_override.a"
SHARED = BUILD / "override" / "libsysalloc_override.so"
CACHED_OBJECT = BUILD / "override" / "sysalloc_override_cached.o"
CACHED_SHARED = BUILD / "override" / "libsysalloc_override_cached.so"
MALLOC_SHARED = BUILD / "override" / "libsysalloc_override_cached_malloc.so"
LIBRARY = BUILD / "src" / "libsysalloc.a"

# The 20 replaceable forms, [new.delete.single] and [new.delete.array], as the Itanium ABI mangles
# them. Written out, for a size_t that is unsigned long: nothing here is derived from what is tested.
REPLACEABLE_FORMS = {
    "_Znwm": "operator new(size_t)",
    "_ZnwmRKSt9nothrow_t": "operator new(size_t, nothrow_t const&)",
    "_ZnwmSt11align_val_t": "operator new(size_t, align_val_t)",
    "_ZnwmSt11align_val_tRKSt9nothrow_t": "operator new(size_t, align_val_t, nothrow_t const&)",
    "_Znam": "operator new[](size_t)",
    "_ZnamRKSt9nothrow_t": "operator new[](size_t, nothrow_t const&)",
    "_ZnamSt11align_val_t": "operator new[](size_t, align_val_t)",
    "_ZnamSt11align_val_tRKSt9nothrow_t": "operator new[](size_t, align_val_t, nothrow_t const&)",
    "_ZdlPv": "operator delete(void*)",
    "_ZdlPvm": "operator delete(void*, size_t)",
    "_ZdlPvSt11align_val_t": "operator delete(void*, align_val_t)",
    "_ZdlPvmSt11align_val_t": "operator delete(void*, size_t, align_val_t)",
    "_ZdlPvRKSt9nothrow_t": "operator delete(void*, nothrow_t const&)",
    "_ZdlPvSt11align_val_tRKSt9nothrow_t": "operator delete(void*, align_val_t, nothrow_t const&)",
    "_ZdaPv": "operator delete[](void*)",
    "_ZdaPvm": "operator delete[](void*, size_t)",
    "_ZdaPvSt11align_val_t": "operator delete[](void*, align_val_t)",
    "_ZdaPvmSt11align_val_t": "operator delete[](void*, size_t, align_val_t)",
    "_ZdaPvRKSt9nothrow_t": "operator delete[](void*, nothrow_t const&)",
    "_ZdaPvSt11align_val_tRKSt9nothrow_t": "operator delete[](void*, align_val_t, nothrow_t const&)",
}
# size_t is unsigned int on 32-bit targets.
SIZE_T = "m" if POINTER_SIZE == 8 else "j"
REPLACEABLE_FORMS = {
    re.sub("^(_Zn[wa]|_Zd[la]Pv)m", rf"\1{SIZE_T}", name): signature
    for name, signature in REPLACEABLE_FORMS.items()
}

# How user programs are compiled. Each runs where its compiler is found; g++ always has to be.
if CROSS:
    TOOLCHAINS = {"g++": shlex.split(os.environ["SYSALLOC_CXX"])}
else:
    TOOLCHAINS = {
        "g++": ["g++"],
        "clang++": ["clang++-19"],
        "clang++ with libc++": ["clang++-19", "-stdlib=libc++"],
    }

# How projects are configured, sysalloc and those that use it.
MESON_SETUP = ["meson", "setup"]
CMAKE_SETUP = ["cmake", "-G", "Ninja"]
if CROSS:
    MESON_SETUP += ["--cross-file", os.environ["SYSALLOC_CROSS_FILE"]]
    compiler, *flags = TOOLCHAINS["g++"]
    CMAKE_SETUP += [f"-DCMAKE_CXX_COMPILER={compiler}", f"-DCMAKE_CXX_FLAGS={shlex.join(flags)}"]

# The function behind operator new(size_t), which every program has that the override is linked into.
HOOK_NEW = f"_ZN8sysalloc6detail8hook_newE{SIZE_T}"

# Where commands run unless a test says otherwise: some (cmake, asked by meson) write into the
# directory they are run in, and two tests at once would get in each other's way.
_directory = tempfile.TemporaryDirectory(prefix="sysalloc-test-")

SKIPPED = 77  # the exit status that Meson counts as skipped


def environment(**changes):
    """This process's environment without what would change how compilers and programs behave."""
    env = {
        name: value
        for name, value in os.environ.items()
        # Meson names the libraries of its own build in LD_LIBRARY_PATH, which goes before the path
        # that a program was linked with.
        if name not in ("LD_PRELOAD", "LD_LIBRARY_PATH", "CXX", "CXXFLAGS", "CPPFLAGS", "LDFLAGS",
                        "DESTDIR", "CFLAGS")
        and not name.endswith("SAN_OPTIONS")
        and not name.startswith("MESON")
        and name != "MALLOC_PERTURB_"
    }
    env.update({"LC_ALL": "C"}, **changes)
    return env


def is_foreign(program):
    """Is this the path of an ELF file for another kind of machine than Python runs on?"""
    if not (RUN and os.path.isabs(program)):
        return False
    with open(program, "rb") as file, open(sys.executable, "rb") as python:
        header, own = file.read(20), python.read(20)
    # The last two bytes are e_machine (elf(5)).
    return header[:4] == own[:4] and header[18:] != own[18:]


def run(command, *, env=None, timeout=1200, **options):
    """Runs a command to its end and returns its CompletedProcess, output as text."""
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("cwd", _directory.name)
    command = [str(part) for part in command]
    return subprocess.run(
        [*(RUN if is_foreign(command[0]) else []), *command],
        env=environment() if env is None else env,
        timeout=timeout,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
        **options,
    )


def describe(result):
    """A finished command with all it printed, for the message of a failed assertion."""
    status = result.returncode
    if status < 0:
        status = signal.Signals(-status).name
    return f"\n$ {' '.join(result.args)}\nstatus {status}\n{result.stdout}{result.stderr}"


@functools.lru_cache(maxsize=None)
def missing(toolchain):
    """Why a toolchain cannot be used here, or None."""
    command = TOOLCHAINS[toolchain]
    if shutil.which(command[0]) is None:
        return f"{command[0]} is not installed"
    with tempfile.TemporaryDirectory() as scratch:
        source = pathlib.Path(scratch, "try.cpp")
        source.write_text("#include <new>\nint main() { delete new int; }\n")
        result = run([*command, source, "-o", pathlib.Path(scratch, "try")])
    return None if result.returncode == 0 else f"{toolchain} builds no program: {result.stderr}"


@functools.lru_cache(maxsize=None)
def cannot_link(toolchain, *flags):
    """Why a toolchain cannot link with these flags here, override or not; or None."""
    with tempfile.TemporaryDirectory() as scratch:
        source = pathlib.Path(scratch, "try.cpp")
        source.write_text("#include <new>\nint main() { delete new int; }\n")
        command = [*TOOLCHAINS[toolchain], *flags, source, "-o", pathlib.Path(scratch, "try")]
        result = run(command)
    return None if result.returncode == 0 else describe(result)


def defined_symbols(path, *, dynamic=False):
    """{mangled name: (value, nm's letter)} of what a file defines."""
    result = run(["nm", *(["-D"] if dynamic else []), "--defined-only", path])
    symbols = {}
    for line in result.stdout.splitlines():
        parts = line.split()
        if len(parts) == 3:
            symbols[parts[2].split("@")[0]] = (int(parts[0], 16), parts[1])
    return symbols


def needed_libraries(path):
    """The names of the shared libraries that a file asks the loader for."""
    return re.findall(r"\(NEEDED\).*\[(.*)\]", run(["readelf", "-d", path]).stdout)


class TestCase(unittest.TestCase):
    """A test with a directory of its own, and asserts over commands."""

    longMessage = True

    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="sysalloc-test-")
        self.addCleanup(scratch.cleanup)
        self.scratch = pathlib.Path(scratch.name)

    def need(self, tool):
        """Skips the test where a tool is missing."""
        if shutil.which(tool) is None:
            self.skipTest(f"{tool} is not installed")

    def need_memcheck(self):
        """Skips the test where valgrind's memcheck cannot run the programs that are made here."""
        self.need("valgrind")
        program = self.build("-x", "c", self.write("empty.c", "int main(void) { return 0; }\n"))
        result = run(["valgrind", program])
        if result.returncode != 0:
            said = [line for line in result.stderr.splitlines() if line.startswith("valgrind:")]
            self.skipTest("valgrind cannot run such programs here: " + " ".join(said[:1]))

    def each_toolchain(self):
        """The toolchains found here. Says which are not; the test is skipped when none is."""
        for name in TOOLCHAINS:
            reason = missing(name)
            if reason is None:
                yield name
            else:
                print(f"left out: {reason}", file=sys.stderr)

    def write(self, name, text):
        path = self.scratch / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def link(self, *arguments, toolchain="g++", output="program"):
        """Runs a compiler over the arguments; returns its CompletedProcess."""
        return run([*TOOLCHAINS[toolchain], *arguments, "-o", self.scratch / output])

    def build(self, *arguments, toolchain="g++", output="program"):
        """As link, and the test fails when that does. Returns the path of what was made."""
        result = self.link(*arguments, toolchain=toolchain, output=output)
        self.assertEqual(result.returncode, 0, describe(result))
        return self.scratch / output

    def check(self, command, **options):
        """Runs a command that has to succeed."""
        result = run(command, **options)
        self.assertEqual(result.returncode, 0, describe(result))
        return result


def main():
    """Runs the script's tests. Exits with SKIPPED when every one of them was skipped."""
    program = unittest.main(exit=False)
    result = program.result
    for test, reason in result.skipped:
        print(f"skipped: {test}: {reason}", file=sys.stderr)
    if not result.wasSuccessful() or result.testsRun == 0:
        sys.exit(1)
    sys.exit(SKIPPED if len(result.skipped) == result.testsRun else 0)
