"""What the file of a program or of an allocator tells before it runs.

Whether a library can be preloaded into a program and serves it then, and whether a file that is to
be an allocator is one at all, for this machine: ld.so goes on without what it cannot preload, and a
library that replaces nothing that is called changes nothing, so all of these would give libc's
figures under another name.
"""

import contextlib
import mmap
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# By ELF's number of the machine and the bits of a word.
_TARGETS = {
    (3, 32): "i386",
    (40, 32): "32-bit ARM",
    (62, 32): "x32",
    (62, 64): "x86-64",
    (183, 64): "ARM64",
    (243, 64): "64-bit RISC-V",
}

_PT_INTERP = 3
_SHT_SYMTAB, _SHT_DYNSYM = 2, 11

_MALLOC = b"malloc"
# operator new(size_t), for a size_t that is unsigned long and for unsigned int.
_OPERATORS = {b"_Znwm", b"_Znwj"}
# That of g++ and that of clang.
_CXX_LIBRARIES = ("libstdc++.so", "libc++.so")
# What the compiler is to translate at link time has no other symbols yet.
_NOT_TRANSLATED = b"__gnu_lto_slim"

_DAMAGED = (struct.error, IndexError, ValueError)


def preload_problem(program: Path) -> str | None:
    """One clause saying why LD_PRELOAD cannot reach this program, or None."""
    return _judged(program, _preload_problem)


def operators_problem(program: Path) -> str | None:
    """One clause saying why a library with the operators alone does not serve this program, or None.

    It may serve what the program starts, or loads while it runs, all the same.
    """
    return _judged(program, _operators_problem)


def replaces_malloc(library: Path) -> bool:
    """Does it replace more than the operators, as far as it tells?"""
    with contextlib.suppress(OSError, *_DAMAGED), _mapped(library) as data:
        names = _Elf(data).defined()
        return names is None or _MALLOC in names
    return True


def _judged(program: Path, judge: Callable[[Path, mmap.mmap], str | None]) -> str | None:
    """What `judge` says of a program, or of the interpreter of a script: its own set-user-ID bit has
    no effect on Linux."""
    try:
        with _mapped(program) as data:
            if data[:2] == b"#!":
                words = data[2:4096].split(b"\n", 1)[0].split()
                return _judged(Path(os.fsdecode(words[0])), judge) if words else None
            return judge(program, data) if data[:4] == b"\x7fELF" else None
    except (OSError, *_DAMAGED):
        return None


def _preload_problem(program: Path, data: mmap.mmap) -> str | None:
    if _privileged(program, program.stat()):
        return "it runs with another user's rights"
    elf = _Elf(data)
    if elf.target != _own_target():
        return f"it is a program for {elf.target}"
    return None if elf.interpreter() is not None else "it is statically linked"


def _operators_problem(program: Path, data: mmap.mmap) -> str | None:
    elf = _Elf(data)
    if _OPERATORS & elf.defined_anywhere():
        return "has an operator new of its own"
    loader = elf.interpreter()
    if loader is None or elf.target != _own_target():
        return None
    try:
        listed = subprocess.run(
            [loader, "--list", program], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return None if any(name in listed.stdout for name in _CXX_LIBRARIES) else "loads no C++ library"


def allocator_problem(path: Path) -> str | None:
    """What follows the path in a sentence that says why this .o, .a or .so is no allocator, or None."""
    try:
        with _mapped(path) as data:
            if data[:8] in (b"!<arch>\n", b"!<thin>\n"):
                target, names = _archive(data)
            elif data[:4] == b"\x7fELF":
                elf = _Elf(data)
                target, names = elf.target, elf.defined()
            elif ".so" in path.name:
                return "is no shared library; a linker script names the library itself"
            else:
                return None
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except _DAMAGED:
        return "is empty or damaged"
    if target is not None and target != _own_target():
        return f"is for {target}, and this machine is {_own_target()}"
    if names is not None and not names & {_MALLOC, *_OPERATORS}:
        return "defines neither malloc nor operator new: its figures would be libc's"
    return None


def _own_target() -> str:
    # Python's.
    own = Path("/proc/self/exe")
    with _mapped(own if own.exists() else Path(sys.executable)) as data:
        return _Elf(data).target


class _Elf:
    def __init__(self, data: bytes) -> None:
        if data[:4] != b"\x7fELF":
            raise ValueError
        self._data = data
        self._is64 = data[4] == 2
        self._order = "<" if data[5] == 1 else ">"
        (machine,) = self._unpack("H", 18)
        bits = 64 if self._is64 else 32
        self.target = _TARGETS.get((machine, bits), f"a {bits}-bit machine of ELF's number {machine}")

    def interpreter(self) -> str | None:
        """The loader that a program asks for; None where it is statically linked."""
        (table,) = self._unpack("Q", 32) if self._is64 else self._unpack("I", 28)
        size, count = self._unpack("HH", 54 if self._is64 else 42)
        for header in range(table, table + size * count, size):
            if self._unpack("I", header)[0] == _PT_INTERP:
                word, offset = ("Q", 8) if self._is64 else ("I", 4)
                (start,) = self._unpack(word, header + offset)
                (size,) = self._unpack(word, header + 4 * offset)
                return os.fsdecode(self._data[start : start + size].rstrip(b"\0"))
        return None

    def defined(self) -> set[bytes] | None:
        """The names of what it defines for others; None where it does not tell."""
        tables = self._tables()
        # A shared library offers what is in the one; a stripped one has only that.
        table = tables.get(_SHT_DYNSYM) or tables.get(_SHT_SYMTAB)
        if table is None:
            return None
        names = set(self._symbols(*table))
        return None if _NOT_TRANSLATED in names else names

    def defined_anywhere(self) -> set[bytes]:
        """The names of all that it defines and does not hide in one of its objects."""
        return {name for table in self._tables().values() for name in self._symbols(*table)}

    def _tables(self) -> dict[int, tuple[int, int, int]]:
        """Where each kind of table of symbols is, as _symbols() wants it."""
        kinds = (_SHT_DYNSYM, _SHT_SYMTAB)
        return {kind: (*place,) for kind, *place in self._sections() if kind in kinds}

    def _sections(self) -> Iterator[tuple[int, int, int, int]]:
        """Type, offset, size and link of each."""
        (table,) = self._unpack("Q", 40) if self._is64 else self._unpack("I", 32)
        each, count = self._unpack("HH", 58 if self._is64 else 46)
        for section in range(table, table + each * count, each):
            (kind,) = self._unpack("I", section + 4)
            if self._is64:
                start, size, link = self._unpack("QQI", section + 24)
            else:
                start, size, link = self._unpack("III", section + 16)
            yield kind, start, size, link

    def _symbols(self, start: int, size: int, link: int) -> Iterator[bytes]:
        _, names, names_size, _ = list(self._sections())[link]
        text = self._data[names : names + names_size]
        each = 24 if self._is64 else 16
        for symbol in range(start, start + size, each):
            (name,) = self._unpack("I", symbol)
            info, _, section = self._unpack("BBH", symbol + (4 if self._is64 else 12))
            if section != 0 and info >> 4 != 0:  # defined, and not local
                yield text[name : text.index(b"\0", name)]

    def _unpack(self, format: str, offset: int) -> tuple:
        return struct.unpack_from(self._order + format, self._data, offset)


def _archive(data: bytes) -> tuple[str | None, set[bytes] | None]:
    """From the index that ar puts first, and from the first object."""
    name, size = data[8:24].rstrip(), int(data[56:66])
    if name not in (b"/", b"/SYM64/"):
        return None, None
    index = data[68 : 68 + size]
    each = 4 if name == b"/" else 8
    count = int.from_bytes(index[:each], "big")
    names = set(index[each * (count + 1) :].split(b"\0"))
    target = None
    if count and data[:8] == b"!<arch>\n":
        first = int.from_bytes(index[each : 2 * each], "big") + 60
        if data[first : first + 4] == b"\x7fELF":
            target = _Elf(data[first : first + 64]).target
    return target, names


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _privileged(program: Path, owner: os.stat_result) -> bool:
    if owner.st_mode & stat.S_ISUID and owner.st_uid != os.getuid():
        return True
    if owner.st_mode & stat.S_ISGID and owner.st_gid != os.getgid():
        return True
    try:
        return os.getuid() != 0 and bool(os.getxattr(program, "security.capability"))
    except OSError:
        return False
