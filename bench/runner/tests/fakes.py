"""A build directory as the real build leaves it, with scripts for the launcher and the workloads."""

import contextlib
import io
import json
import struct
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from runner import cli

LAUNCHER = """\
#!/usr/bin/python3 -IS
import json, os, sys, time
split = sys.argv.index("--")
own, program = sys.argv[1:split], sys.argv[split + 1:]
options = dict(zip(own[::2], own[1::2]))
start = time.monotonic_ns()
child = os.fork()
if child == 0:
    os.dup2(os.open(options["--stdout"], os.O_WRONLY), 1)
    os.dup2(os.open(options["--stderr"], os.O_WRONLY), 2)
    # Not the name ld.so reads: the library of a fake allocator is no library.
    os.environ["FAKE_PRELOAD"] = options.get("--preload", "")
    os.execv(program[0], program)
_, status, usage = os.wait4(child, 0)
result = {
    "wall_ns": time.monotonic_ns() - start,
    "user_ns": int(usage.ru_utime * 1e9),
    "sys_ns": int(usage.ru_stime * 1e9),
    "max_rss_bytes": usage.ru_maxrss * 1024,
}
if os.WIFSIGNALED(status):
    result["signal"] = os.WTERMSIG(status)
else:
    result["exit_status"] = os.WEXITSTATUS(status)
json.dump(result, open(options["--out"], "w"))
"""

MICRO = """\
#!/usr/bin/python3 -IS
import json, re, sys
times = {times}
options = dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
if "--benchmark_list_tests" in sys.argv:
    print("\\n".join(times))
    sys.exit()
names = [name for name in times if re.search(options["--benchmark_filter"], name)]
float(options["--benchmark_min_time"])
print(json.dumps({{"benchmarks": [{{"real_time": times[name], "time_unit": "us"}} for name in names]}}))
"""

X86_64, I386 = 62, 3


class OnX86(unittest.TestCase):
    """Has a directory for files of its own, on a machine that takes the files below."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name)
        own = mock.patch("runner.elf._own_target", return_value="x86-64")
        own.start()
        self.addCleanup(own.stop)


def program(*segment_types: int, machine: int = X86_64, loader: str = "") -> bytes:
    """A program of ELF's, as far as the file tells what it is. A segment of type 3 names the loader."""
    count = len(segment_types)
    name = loader.encode() + b"\0"
    place = struct.pack("<IQQQQQQ", 0, 64 + 56 * count, 0, 0, len(name), len(name), 1)
    segments = b"".join(struct.pack("<I", kind) + place for kind in segment_types)
    return _header(2, machine, program_headers=(64, count)) + segments + name


def library(*defined: str, wanted: tuple[str, ...] = (), machine: int = X86_64) -> bytes:
    """A shared library that defines these names and wants others."""
    names, symbols = b"\0", bytes(24)
    for name in (*defined, *wanted):
        section = 1 if name in defined else 0
        symbols += struct.pack("<IBBHQQ", len(names), 0x12, 0, section, 0, 0)
        names += name.encode() + b"\0"
    end = 64 + len(symbols) + len(names)
    sections = bytes(64) + _section(11, 64, len(symbols), 2) + _section(3, end - len(names), len(names), 0)
    return _header(3, machine, section_headers=(end, 3)) + symbols + names + sections


def archive(*defined: str, member: bytes) -> bytes:
    names = b"".join(name.encode() + b"\0" for name in defined)
    index = len(defined).to_bytes(4, "big")
    index += (68 + 4 + 4 * len(defined) + len(names)).to_bytes(4, "big") * len(defined) + names
    parts = ((b"/", index), (b"a.o/", member))
    return b"!<arch>\n" + b"".join(
        b"%-16s%-12d%-6d%-6d%-8d%-10d`\n" % (name, 0, 0, 0, 0, len(content)) + content
        for name, content in parts
    )


def _header(
    kind: int,
    machine: int,
    program_headers: tuple[int, int] = (0, 0),
    section_headers: tuple[int, int] = (0, 0),
) -> bytes:
    start, count = program_headers
    sections, section_count = section_headers
    bits = 1 if machine == I386 else 2
    return (
        b"\x7fELF"
        + bytes([bits, 1, 1])
        + bytes(9)
        + struct.pack(
            "<HHIQQQIHHHHHH",
            *(kind, machine, 1, 0, start, sections, 0, 64, 56, count, 64, section_count, 0),
        )
    )


def _section(kind: int, start: int, size: int, link: int) -> bytes:
    return struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, start, size, link, 0, 1, 24)


CHECKSUM = "echo checksum: 00112233aabbccdd"


class FakeBuild:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: dict = {"variants": [], "micro": {}, "apps": [], "launcher": "launcher"}
        self._script("launcher", LAUNCHER)

    def variant(
        self, name: str, micro: dict[str, float] | None = None, preload: str | None = None
    ) -> None:
        """`micro`: the time in microseconds of each workload it has."""
        self.manifest["variants"].append({"name": name, "how": f"{name}'s how", "preload": preload})
        if micro is not None:
            self._script(f"micro-{name}", MICRO.format(times=repr(micro)))
            self.manifest["micro"][name] = f"micro-{name}"

    def app(self, name: str, **shell: str) -> None:
        """The shell commands that are the application, by allocator."""
        for variant, commands in shell.items():
            self._script(f"{name}-{variant}", f"#!/bin/sh\n{commands}\n")
        exes = {variant: f"{name}-{variant}" for variant in shell}
        self.manifest["apps"].append({"name": name, "about": f"what {name} does", "exe": exes})

    def run(self, *argv: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of bench/run."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = self.main(*argv)
        return status, out.getvalue(), err.getvalue()

    def main(self, *argv: str) -> int:
        manifest = self.path / "bench" / "manifest.json"
        manifest.parent.mkdir(exist_ok=True)
        manifest.write_text(json.dumps(self.manifest))
        with (
            mock.patch("runner.packages.ensure", return_value=True),
            mock.patch("runner.build.build", return_value=self.path),
        ):
            return cli.main(list(argv))

    def _script(self, name: str, text: str) -> None:
        path = self.path / name
        path.write_text(text)
        path.chmod(0o755)
