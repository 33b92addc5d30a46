"""Programs that no library can be preloaded into or serves then, and files that are no allocators."""

from pathlib import Path

from runner.elf import allocator_problem, operators_problem, preload_problem, replaces_malloc
from runner.tests.fakes import I386, OnX86, archive, library, program


class Elf(OnX86):
    def _file(self, content: bytes, name: str) -> Path:
        path = self.path / name
        path.write_bytes(content)
        return path


class Program(Elf):
    def _problem(self, content: bytes) -> str | None:
        return preload_problem(self._file(content, "program"))

    def test_dynamic_program_has_none(self) -> None:
        self.assertIsNone(self._problem(program(6, 3, 1)))

    def test_static_program(self) -> None:
        self.assertIn("static", self._problem(program(1, 1)) or "")

    def test_script_is_judged_by_its_interpreter(self) -> None:
        self.assertIsNone(self._problem(b"#!/nonexistent\n"))
        interpreter = self._file(program(1), "static")
        self.assertIn("static", self._problem(b"#! %b -x\n" % str(interpreter).encode()) or "")

    def test_other_machine(self) -> None:
        self.assertIn("for i386", self._problem(program(6, 3, 1, machine=I386)) or "")
        self.assertIn("for ARM64", self._problem(program(6, 3, 1, machine=183)) or "")

    def test_damaged_file_is_nobodys_problem_here(self) -> None:
        self.assertIsNone(self._problem(b"\x7fELF\x02\x01"))
        self.assertIsNone(self._problem(b""))


class Operators(Elf):
    def _problem(self, content: bytes) -> str | None:
        return operators_problem(self._file(content, "program"))

    def _loading(self, *libraries: str) -> bytes:
        """A program for a loader that lists these."""
        loader = self.path / "loader"
        lines = "".join(f"echo '{name} => /lib/{name} (0x1000)'\n" for name in libraries)
        loader.write_text(f'#!/bin/sh\ntest "$1" = --list && test -e "$2" || exit 1\n{lines}')
        loader.chmod(0o755)
        return program(6, 3, 1, loader=str(loader))

    def test_program_in_cxx_has_none(self) -> None:
        for name in ("libstdc++.so.6", "libc++.so.1"):
            self.assertIsNone(self._problem(self._loading("libc.so.6", name)))

    def test_program_in_c(self) -> None:
        self.assertIn("no C++ library", self._problem(self._loading("libc.so.6")) or "")

    def test_operators_of_its_own(self) -> None:
        self.assertIn("of its own", self._problem(library("main", "_Znwm")) or "")
        self.assertIsNone(self._problem(library("main", wanted=("_Znwm",))))

    def test_script_is_judged_by_its_interpreter(self) -> None:
        interpreter = self._file(library("_Znwm"), "own")
        self.assertIn("of its own", self._problem(b"#!%b\n" % str(interpreter).encode()) or "")

    def test_what_does_not_tell_has_none(self) -> None:
        self.assertIsNone(self._problem(program(1)))
        self.assertIsNone(self._problem(program(3, loader="/nonexistent")))
        self.assertIsNone(self._problem(b"\x7fELF\x02\x01"))

    def test_libraries_with_the_operators_alone(self) -> None:
        self.assertFalse(replaces_malloc(self._file(library("_Znwm"), "lib.so")))
        self.assertTrue(replaces_malloc(self._file(library("_Znwm", "malloc"), "lib.so")))
        self.assertTrue(replaces_malloc(self.path / "nonexistent"))


class Allocator(Elf):
    def _problem(self, content: bytes, name: str = "lib.so") -> str | None:
        return allocator_problem(self._file(content, name))

    def test_what_replaces_something_has_none(self) -> None:
        for name in ("malloc", "_Znwm"):
            self.assertIsNone(self._problem(library("free", name)))
            self.assertIsNone(self._problem(archive("free", name, member=library()), "lib.a"))

    def test_what_replaces_nothing(self) -> None:
        for content, name in (
            (library("cos", wanted=("malloc",)), "lib.so"),
            (archive("cos", member=library()), "lib.a"),
        ):
            self.assertIn("neither malloc nor operator new", self._problem(content, name) or "")

    def test_what_does_not_tell_has_none(self) -> None:
        self.assertIsNone(self._problem(program(1), "stripped.so"))
        self.assertIsNone(self._problem(library("__gnu_lto_slim"), "slim.o"))
        self.assertIsNone(self._problem(b"BC\xc0\xde" + bytes(60), "bitcode.o"))

    def test_other_machine(self) -> None:
        other = library("malloc", machine=183)
        self.assertIn("is for ARM64, and this machine is x86-64", self._problem(other) or "")
        self.assertIn("is for ARM64", self._problem(archive("malloc", member=other), "lib.a") or "")

    def test_no_library(self) -> None:
        self.assertIn("linker script", self._problem(b"GROUP ( libc.so.6 )") or "")
        self.assertIn("empty", self._problem(b"") or "")
        self.assertIn("damaged", self._problem(library("malloc")[:70]) or "")
