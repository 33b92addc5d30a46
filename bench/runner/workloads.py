"""What there is to run: the bench's own workloads, or the user's programs, under each allocator."""

import re
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from runner import elf
from runner.allocators import BASE, CONTROL, FLOOR, OPTIONAL_PACKAGES, Choice
from runner.errors import BuildError, UsageError
from runner.manifest import Manifest, Variant
from runner.measure import Command

MICRO, APP, PROGRAM = "micro", "app", "program"


@dataclass(frozen=True)
class Workload:
    name: str
    kind: str
    about: str
    commands: dict[str, Command] = field(hash=False)
    """By column; a column that is not there does not have this workload."""

    @property
    def label(self) -> str:
        """For people, so no long command line, and not the clock that Google Benchmark names: it is
        always the wall's here."""
        if self.kind == PROGRAM:
            # Both ends, since programs that are alike may differ at either.
            return self.name if len(self.name) <= 40 else f"{self.name[:19]}…{self.name[-20:]}"
        return re.sub(r"/(process|real)_time\b", "", self.name)


def columns(chosen: Iterable[Variant]) -> list[str]:
    """libc first and its second measurement beside it, the floor last."""
    names = [variant.name for variant in chosen]
    rest = [name for name in names if name not in (BASE, FLOOR)]
    return [BASE, CONTROL, *rest, *(name for name in names if name == FLOOR)]


def choose(manifest: Manifest, choice: Choice, for_program: bool) -> list[Variant]:
    """The allocators to measure: all there are, or those asked for and libc."""
    for name in choice.names:
        variant = manifest.variant(name)
        if variant is None:
            package = OPTIONAL_PACKAGES.get(name)
            raise UsageError(
                f"{name} is not installed (apt-get install {package})"
                if package
                else f"{name} is not built here"
            )
        if for_program and name != BASE and variant.preload is None:
            raise UsageError(
                f"{name} has no shared library, so it cannot be brought into a program"
            )
        if not for_program and name not in manifest.micro:
            raise UsageError(f"{name} is for programs of yours: ./bench/run -- PROGRAM")

    def has(variant: Variant) -> bool:
        return variant.preload is not None if for_program else variant.name in manifest.micro

    return [
        variant
        for variant in manifest.variants
        if variant.name == BASE
        or (not choice.names or variant.name in choice.names) and has(variant)
    ]


def discover(manifest: Manifest, chosen: Iterable[Variant]) -> list[Workload]:
    """All of the bench's own."""
    variants = list(chosen)
    exes = {
        variant.name: manifest.micro[variant.name]
        for variant in variants
        if variant.name in manifest.micro
    }
    listed = {name: _micro_names(exe) for name, exe in exes.items()}
    found = []
    for name in listed[BASE]:
        flags = (f"--benchmark_filter=^{_escape(name)}$", "--benchmark_format=json")
        commands = {
            variant: Command((str(exes[variant]), *flags))
            for variant in exes
            if name in listed[variant]
        }
        found.append(Workload(name, MICRO, "", _commands(variants, commands)))
    for app in manifest.apps:
        commands = {variant: Command((str(exe),)) for variant, exe in app.exe.items()}
        found.append(Workload(app.name, APP, app.about, _commands(variants, commands)))
    return found


def select(
    workloads: list[Workload], only: str | None, pattern: re.Pattern[str] | None
) -> list[Workload]:
    kinds = {None: (MICRO, APP), "micro": (MICRO,), "apps": (APP,)}[only]
    selected = [
        workload
        for workload in workloads
        if workload.kind in kinds and (pattern is None or pattern.search(workload.name))
    ]
    if not selected:
        where = f" with --only {only}" if only else ""
        what = (
            f"--filter '{pattern.pattern}' matches no workload"
            if pattern
            else "there is no workload"
        )
        raise UsageError(f"{what}{where}; --list shows them all")
    return selected


def programs(commands: Iterable[tuple[str, ...]], chosen: Iterable[Variant]) -> list[Workload]:
    """The user's, by the name of the file, or by its path where several have that name."""
    wanted, variants = list(commands), list(chosen)
    names = [shlex.join([Path(argv[0]).name, *argv[1:]]) for argv in wanted]
    return [
        _program(name if names.count(name) == 1 else shlex.join(argv), argv, variants)
        for name, argv in zip(names, wanted)
    ]


def _program(name: str, argv: tuple[str, ...], variants: list[Variant]) -> Workload:
    # Into some nothing can be preloaded, so under any allocator the figures would be libc's.
    reachable = elf.preload_problem(Path(argv[0])) is None
    commands = {variant.name: Command(argv, variant.preload) for variant in variants if reachable}
    # Whatever the manifest would preload for libc, here it means the program as it is.
    commands[BASE] = Command(argv)
    return Workload(name, PROGRAM, shlex.join(argv), _commands(variants, commands))


def _commands(variants: list[Variant], by_variant: dict[str, Command]) -> dict[str, Command]:
    """In the columns' order."""
    by_column = by_variant | {CONTROL: by_variant[BASE]}
    return {column: by_column[column] for column in columns(variants) if column in by_column}


def _micro_names(exe: Path) -> list[str]:
    try:
        done = subprocess.run(
            [exe, "--benchmark_list_tests"], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{exe} does not list its workloads: {error}") from None
    if done.returncode != 0:
        raise BuildError(
            f"{exe} does not list its workloads: exit status {done.returncode} {done.stderr.strip()}"
        )
    return [line for line in done.stdout.splitlines() if line]


def _escape(name: str) -> str:
    """re.escape would put backslashes where the C++ regular expressions do not allow them."""
    return re.sub(r"([.^$*+?()\[\]{}|\\])", r"\\\1", name)
