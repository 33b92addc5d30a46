"""The allocators the bench knows by name, and those a user adds as NAME=PATH."""

import re
from dataclasses import dataclass
from pathlib import Path

from runner import elf
from runner.errors import UsageError

BASE = "libc"
"""Every ratio is against this one."""

CONTROL = "libc again"
"""libc measured a second time in every round: what it differs from libc is noise, and nothing else."""

FLOOR = "floor"
"""Not an allocator: what the workload costs when allocating costs next to nothing."""

KNOWN = (BASE, "system", "cached", "cached_malloc", "mimalloc", "jemalloc", "tcmalloc", FLOOR)

OPTIONAL_PACKAGES = {"jemalloc": "libjemalloc-dev", "tcmalloc": "libgoogle-perftools-dev"}
"""Baselines that are measured when this Debian package is installed."""


@dataclass(frozen=True)
class Added:
    """An allocator of the user's own."""

    name: str
    path: Path


@dataclass(frozen=True)
class Choice:
    """What --allocators asks for; no names means all there are."""

    names: tuple[str, ...] = ()
    added: tuple[Added, ...] = ()


def parse(text: str, for_program: bool) -> Choice:
    names: list[str] = []
    added: list[Added] = []
    for item in text.split(","):
        name, equals, path = item.strip().partition("=")
        if equals:
            added.append(_added(name, path, for_program))
            if name in names:
                raise UsageError(f"two allocators have the name '{name}'; choose another for one")
        elif "/" in name:
            raise UsageError(
                f"unknown allocator '{name}': write NAME={name}, with a name of your own"
                + ("; no path may have a ',' in it" if added and "," in text else "")
            )
        elif name not in KNOWN:
            raise UsageError(
                f"unknown allocator '{name}': there are {', '.join(KNOWN)}, or NAME=PATH of a .o, .a or .so"
            )
        if name not in names:
            names.append(name)
    return Choice(tuple(names), tuple(added))


def _added(name: str, text: str, for_program: bool) -> Added:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise UsageError(
            f"'{name}' cannot name an allocator: a letter, then letters, digits, - and _"
        )
    if name in KNOWN:
        raise UsageError(
            f"'{name}' is the name of an allocator the bench has already; choose another"
        )
    if not text:
        raise UsageError(f"allocator {name}: there is no path after '{name}='")
    path = Path(text).expanduser()
    if path.is_dir():
        raise UsageError(f"allocator {name}: {text} is a directory; name the .o, .a or .so in it")
    if not path.is_file():
        raise UsageError(f"allocator {name}: no such file: {text}")
    if not re.search(r"\.(o|a|so(\.[0-9.]+)?)$", path.name):
        raise UsageError(f"allocator {name}: {text} is no .o, .a or .so")
    if for_program and path.suffix in (".o", ".a"):
        raise UsageError(
            f"allocator {name}: {text} cannot be brought into a program; its shared library can"
        )
    if problem := elf.allocator_problem(path):
        raise UsageError(f"allocator {name}: {text} {problem}")
    # A program only has it preloaded; a workload is linked with it.
    if not for_program and (found := re.search(r"[\s:=,$'\"]", str(path.absolute()))):
        raise UsageError(
            f"allocator {name}: a path with '{found[0]}' cannot be passed on; link to it: {text}"
        )
    return Added(name, path.absolute())
