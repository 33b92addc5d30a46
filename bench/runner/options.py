"""The command line of bench/run: parsed and checked before anything long starts."""

import argparse
import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from runner import allocators
from runner.errors import UsageError

EPILOG = """\
allocators: libc (always measured: every ratio is against it), system (sysalloc's default), cached,
cached_malloc (which replaces malloc too; for programs alone), mimalloc, jemalloc and tcmalloc (the
last two when installed), floor (no allocator: the least the workload can cost), or NAME=PATH of any
other one's .o, .a or .so (.so for a program).

PROGRAM is started as it is, with no shell: for pipes, variables and redirections write sh -c '...',
for a variable of its environment env NAME=VALUE PROGRAM. It has to end by itself. What differs under
an allocator from what libc gave, on stdout, on stderr or in how it ends, is named.

exit status: 0 all is well, 1 an allocator changed a result or a run crashed, 2 nothing was measured
or no report could be written, 130 interrupted (143 by SIGTERM, 129 by SIGHUP).

examples:
  ./bench/run                                          everything, in about three minutes
  ./bench/run --filter map --allocators system,mimalloc
  ./bench/run --json result.json --plot result.svg
  ./bench/run --allocators system,mine=/opt/mine/libmine.so
  ./bench/run -- clang++-19 -O2 -c file.cpp            the same table for any program
  ./bench/run --programs bench/programs/debian.txt     and for several, with their mean
"""


@dataclass(frozen=True)
class Options:
    full: bool
    filter: re.Pattern[str] | None
    allocators: allocators.Choice
    rounds: int | None
    json: Path | None
    plot: Path | None
    list: bool
    only: str | None
    pin: str | None
    timeout: float
    stdin: Path | None
    programs: tuple[tuple[str, ...], ...]
    """Each one's path and its arguments; empty when the bench's own workloads are to run."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message + " (see --help)")


def parse(argv: list[str]) -> Options:
    program: list[str] | None = None
    if "--" in argv:
        split = argv.index("--")
        argv, program = argv[:split], argv[split + 1 :]

    values, extra = _parser().parse_known_args(argv)
    if extra:
        hint = "" if extra[0].startswith("-") else "; a program to measure goes after --"
        raise UsageError(f"unknown argument '{extra[0]}'{hint} (see --help)")
    _check_mode(values, program)
    programs = _programs(values.programs) if program is None else (_program(program),)

    return Options(
        full=values.full,
        filter=_regex(values.filter),
        allocators=allocators.parse(values.allocators, for_program=bool(programs))
        if values.allocators is not None
        else allocators.Choice(),
        rounds=_rounds(values.rounds),
        json=_output(values.json, "--json"),
        plot=_plot(values.plot),
        list=values.list,
        only=values.only,
        pin=_pin(values.pin),
        timeout=_timeout(values.timeout, default=600.0 if values.full else 60.0),
        stdin=_input(values.stdin),
        programs=programs,
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="bench/run",
        usage="./bench/run [options] [-- PROGRAM ARGS...]",
        description="Measures sysalloc against libc's allocator and others: time and peak memory.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--full",
        action="store_true",
        help="more rounds, longer and larger ones; takes about an hour",
    )
    add("--filter", metavar="REGEX", help="only the workloads whose name matches")
    add("--allocators", metavar="LIST", help="only these, separated by commas (see below)")
    add(
        "--only",
        choices=("micro", "apps"),
        help="only the micro workloads, or only the applications",
    )
    add(
        "--micro-only",
        dest="only",
        action="store_const",
        const="micro",
        help="the same as --only micro",
    )
    add(
        "--apps-only",
        dest="only",
        action="store_const",
        const="apps",
        help="the same as --only apps",
    )
    add(
        "--rounds",
        metavar="N",
        help="how often each is run (default: what fits in the time, at least 3)",
    )
    add("--pin", metavar="CPUS", help="run everything on these CPUs, such as 1 or 0,2-3")
    add(
        "--timeout",
        metavar="SECONDS",
        help="give up on a single run after this (default 60, full 600)",
    )
    add(
        "--stdin",
        metavar="FILE",
        help="what PROGRAM reads as its standard input (default: nothing)",
    )
    add(
        "--programs",
        metavar="FILE",
        help="the programs to measure: a command on each line; # begins a comment",
    )
    add("--json", metavar="FILE", help="write all samples, with a description of the machine")
    add("--plot", metavar="FILE.svg", help="draw the ratios to libc")
    add("--list", action="store_true", help="list workloads and allocators, and stop")
    return parser


def _check_mode(values: argparse.Namespace, program: list[str] | None) -> None:
    if program == []:
        raise UsageError("no program after --")
    if program and values.programs is not None:
        raise UsageError("--programs has the programs to measure; none can come after --, too")
    if program is None and values.programs is None:
        if values.stdin is not None:
            raise UsageError("--stdin goes with a program to measure (-- PROGRAM ARGS...)")
        return
    for name in ("filter", "only", "list"):
        if getattr(values, name):
            raise UsageError(
                f"--{name} is for the bench's own workloads, not for programs that are given"
            )


def _rounds(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"0*[1-9]\d{0,4}", text):
        raise UsageError(f"--rounds: '{text}' is no whole number from 1 to 99999")
    return int(text)


def _timeout(text: str | None, default: float) -> float:
    if text is None:
        return default
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", text) or float(text) == 0:
        raise UsageError(f"--timeout: '{text}' is no number of seconds")
    return float(text)


def _regex(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        return re.compile(text)
    except re.error as error:
        raise UsageError(f"--filter: '{text}' is no regular expression: {error}") from None


def _plot(text: str | None) -> Path | None:
    if text is not None and not text.endswith(".svg"):
        raise UsageError(f"--plot: the plot is an SVG, so its name must end in .svg: {text}")
    return _output(text, "--plot")


def _output(text: str | None, option: str) -> Path | None:
    """Tries to open the file: nothing else tells for certain, and it is better known before the run."""
    if text is None:
        return None
    path = Path(text)
    existed = os.path.lexists(path)
    try:
        with open(path, "a"):
            pass
        if not existed:
            path.unlink()
    except OSError as error:
        raise UsageError(f"{option}: cannot write {text}: {error.strerror}") from None
    return path.absolute()


def _input(text: str | None) -> Path | None:
    if text is None:
        return None
    try:
        with open(text, "rb"):
            return Path(text).absolute()
    except OSError as error:
        raise UsageError(f"--stdin: cannot read {text}: {error.strerror}") from None


def _pin(text: str | None) -> str | None:
    if text is None:
        return None
    cpus: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if not match:
            raise UsageError(f"--pin: '{text}' is no list of CPUs such as 1 or 0,2-3")
        first = int(match[1])
        cpus.update(range(first, int(match[2] or first) + 1))
    usable = os.sched_getaffinity(0)
    if not cpus or not cpus <= usable:
        raise UsageError(f"--pin: '{text}' is not among this machine's CPUs: {_ranges(usable)}")
    return _ranges(cpus)


def _ranges(cpus: set[int]) -> str:
    return ",".join(str(cpu) for cpu in sorted(cpus))


def _programs(file: str | None) -> tuple[tuple[str, ...], ...]:
    if file is None:
        return ()
    try:
        lines = Path(file).read_text().splitlines()
    except OSError as error:
        raise UsageError(f"--programs: cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--programs: {file} is no text") from None
    found: dict[tuple[str, ...], int] = {}
    missing: list[str] = []
    for number, line in enumerate(lines, 1):
        where = f"--programs: {file}, line {number}"
        try:
            words = shlex.split(line, comments=True)
            command = _program(words) if words else None
        except ValueError:
            raise UsageError(
                f"{where}: a quotation mark is not closed, or a backslash ends the line"
            ) from None
        except UsageError as error:
            missing.append(f"line {number}: {error}")
            continue
        if command in found:
            raise UsageError(f"{where}: the same command as in line {found[command]}")
        if command is not None:
            found[command] = number
    if missing:
        raise UsageError(f"--programs: {file}, {'; '.join(missing)}")
    if not found:
        raise UsageError(f"--programs: there is no command in {file}")
    return tuple(found)


def _program(words: list[str]) -> tuple[str, ...]:
    name = words[0]
    found = shutil.which(name)
    if found is None:
        if os.path.isdir(name) and "/" in name:
            raise UsageError(f"{name} is a directory, not a program")
        if os.path.exists(name) and "/" in name:
            raise UsageError(f"{name} is not executable")
        raise UsageError(f"program not found: {name}")
    return (found, *words[1:])
