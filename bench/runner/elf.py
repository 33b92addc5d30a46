"""Why a library cannot be preloaded into a program, as far as its file tells."""

import os
import stat
import struct
import sys
from pathlib import Path

_PT_INTERP = 3


def preload_problem(program: Path) -> str | None:
    """One clause saying why LD_PRELOAD cannot reach this program, or None."""
    try:
        owner = program.stat()
        with program.open("rb") as file:
            head = file.read(4096)
            if head.startswith(b"#!"):
                words = head[2:].split(b"\n", 1)[0].split()
                # The script's own set-user-ID bit has no effect on Linux; its interpreter decides.
                return preload_problem(Path(os.fsdecode(words[0]))) if words else None
            if head[:4] != b"\x7fELF":
                return None
            if _privileged(program, owner):
                return "it runs with another user's rights"
            if head[4] != _own_class():
                return "it is a program for another word size"
            return None if _has_interpreter(head, file) else "it is statically linked"
    except (OSError, struct.error, IndexError):
        return None


def _privileged(program: Path, owner: os.stat_result) -> bool:
    if owner.st_mode & stat.S_ISUID and owner.st_uid != os.getuid():
        return True
    if owner.st_mode & stat.S_ISGID and owner.st_gid != os.getgid():
        return True
    try:
        return os.getuid() != 0 and bool(os.getxattr(program, "security.capability"))
    except OSError:
        return False


def _own_class() -> int:
    return 2 if sys.maxsize > 2**32 else 1


def _has_interpreter(head: bytes, file) -> bool:
    order = "<" if head[5] == 1 else ">"
    if head[4] == 2:
        (table,) = struct.unpack_from(order + "Q", head, 32)
        size, count = struct.unpack_from(order + "HH", head, 54)
    else:
        (table,) = struct.unpack_from(order + "I", head, 28)
        size, count = struct.unpack_from(order + "HH", head, 42)
    file.seek(table)
    headers = file.read(size * count)
    return any(
        struct.unpack_from(order + "I", headers, i * size)[0] == _PT_INTERP for i in range(count)
    )
