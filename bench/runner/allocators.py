"""The allocators the bench knows by name, and those a user adds as NAME=PATH."""

import re
from dataclasses import dataclass
from pathlib import Path

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


def parse(text: str) -> Choice:
    names: list[str] = []
    added: list[Added] = []
    for item in text.split(","):
        name, equals, path = item.strip().partition("=")
        if equals:
            added.append(_added(name, path))
        elif name not in KNOWN:
            raise UsageError(
                f"unknown allocator '{name}': there are {', '.join(KNOWN)}, or NAME=PATH of a .o, .a or .so"
            )
        if name not in names:
            names.append(name)
    return Choice(tuple(names), tuple(added))


def _added(name: str, text: str) -> Added:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise UsageError(
            f"'{name}' cannot name an allocator: a letter, then letters, digits, - and _"
        )
    if name in KNOWN:
        raise UsageError(
            f"'{name}' is the name of an allocator the bench has already; choose another"
        )
    path = Path(text).expanduser()
    if not path.is_file():
        raise UsageError(f"allocator {name}: no such file: {text}")
    if not re.search(r"\.(o|a|so(\.[0-9.]+)?)$", path.name):
        raise UsageError(f"allocator {name}: {text} is no .o, .a or .so")
    if "," in text or "=" in text:
        raise UsageError(
            f"allocator {name}: a path with ',' or '=' cannot be passed on; link to it: {text}"
        )
    return Added(name, path.absolute())
