"""Programs that no library can be preloaded into."""

import struct
import tempfile
import unittest
from pathlib import Path

from runner.elf import preload_problem


def elf64(*segment_types: int) -> bytes:
    header = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header += struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, len(segment_types), 0, 0, 0
    )
    return header + b"".join(struct.pack("<I", kind) + bytes(52) for kind in segment_types)


class Elf(unittest.TestCase):
    def _problem(self, content: bytes) -> str | None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "program")
            path.write_bytes(content)
            return preload_problem(path)

    def test_dynamic_program_has_none(self) -> None:
        self.assertIsNone(self._problem(elf64(6, 3, 1)))

    def test_static_program(self) -> None:
        self.assertIn("static", self._problem(elf64(1, 1)) or "")

    def test_script_is_judged_by_its_interpreter(self) -> None:
        self.assertIsNone(self._problem(b"#!/bin/sh\n"))
        with tempfile.TemporaryDirectory() as directory:
            interpreter = Path(directory, "static")
            interpreter.write_bytes(elf64(1))
            self.assertIn("static", self._problem(b"#! %b -x\n" % str(interpreter).encode()) or "")

    def test_other_word_size(self) -> None:
        self.assertIn("word size", self._problem(b"\x7fELF\x01\x01" + bytes(60)) or "")

    def test_damaged_file_is_nobodys_problem_here(self) -> None:
        self.assertIsNone(self._problem(b"\x7fELF\x02\x01"))
        self.assertIsNone(self._problem(b""))
