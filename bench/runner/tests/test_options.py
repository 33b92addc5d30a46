"""Every mistake on the command line is one clear line."""

from runner import options
from runner.errors import UsageError
from runner.tests import fakes


class Options(fakes.OnX86):
    def _rejected(self, *argv: str) -> str:
        with self.assertRaises(UsageError) as caught:
            options.parse(list(argv))
        message = str(caught.exception)
        self.assertNotIn("\n", message)
        return message

    def test_mistakes_name_what_is_wrong(self) -> None:
        plain = self.path / "plain"
        plain.write_text("")
        library = self.path / "libm.so"
        library.write_bytes(fakes.library("malloc"))
        cosine = self.path / "cosine.so"
        cosine.write_bytes(fakes.library("cos"))
        spaced = self.path / "a b.so"
        spaced.write_bytes(fakes.library("malloc"))
        object_file = self.path / "mine.o"
        object_file.write_bytes(fakes.library("malloc"))
        for argv, named in (
            (["--colour"], "--colour"),
            (["ls"], "after --"),
            (["--rounds", "0"], "--rounds"),
            (["--rounds", "many"], "many"),
            (["--rounds"], "--rounds"),
            (["--timeout", "-1"], "--timeout"),
            (["--filter", "("], "--filter"),
            (["--only", "macro"], "macro"),
            (["--pin", "4096"], "4096"),
            (["--pin", "3-1"], "3-1"),
            (["--pin", "first"], "first"),
            (["--allocators", "libc,tcmaloc"], "tcmaloc"),
            (["--allocators", "mine=/nonexistent.so"], "/nonexistent.so"),
            (["--allocators", f"mine={plain}"], "no .o, .a or .so"),
            (["--allocators", f"system={plain}"], "system"),
            (["--allocators", f"a b={plain}"], "a b"),
            (["--allocators", f"a={library},a={cosine}"], "neither malloc nor operator new"),
            (["--allocators", f"a={library},a={library}"], "two allocators have the name 'a'"),
            (["--allocators", f"mine={self.path}"], "is a directory"),
            (["--allocators", "mine="], "no path after 'mine='"),
            (["--allocators", str(library)], f"write NAME={library}"),
            (["--allocators", f"mine={spaced}"], "a path with ' ' cannot be passed on"),
            (["--allocators", f"mine={object_file}", "--", "true"], "cannot be brought into a program"),
            (["--json", "/nonexistent/x.json"], "/nonexistent/x.json"),
            (["--json", str(self.path)], str(self.path)),
            (["--plot", str(self.path / "x.png")], ".svg"),
            (["--plot", "/nonexistent/x.svg"], "/nonexistent/x.svg"),
            (["--stdin", str(plain)], "--stdin"),
            (["--programs", "/nonexistent"], "/nonexistent"),
            (["--"], "no program"),
            (["--", "no-such-program"], "no-such-program"),
            (["--", str(plain)], "not executable"),
            (["--", str(self.path)], "directory"),
            (["--filter", "x", "--", "true"], "--filter"),
            (["--list", "--", "true"], "--list"),
            (["--stdin", "/nonexistent", "--", "true"], "/nonexistent"),
        ):
            with self.subTest(argv=argv):
                self.assertIn(named, self._rejected(*argv))

    def test_trying_an_output_file_leaves_nothing_behind(self) -> None:
        old, new = self.path / "old.json", self.path / "new.json"
        old.write_text("kept")
        options.parse(["--json", str(old)])
        options.parse(["--json", str(new)])
        self.assertEqual(old.read_text(), "kept")
        self.assertFalse(new.exists())

    def test_program_keeps_its_own_options(self) -> None:
        parsed = options.parse(["--rounds", "5", "--", "echo", "--rounds", "--", "x"])
        self.assertEqual(parsed.programs[0][1:], ("--rounds", "--", "x"))
        self.assertTrue(parsed.programs[0][0].endswith("/echo"))
        self.assertEqual(parsed.rounds, 5)

    def test_programs_of_a_file(self) -> None:
        listed = self.path / "list"
        listed.write_text("# none\n\necho 'a b' # here\ntrue\n")
        parsed = options.parse(["--programs", str(listed)])
        self.assertEqual([argv[1:] for argv in parsed.programs], [("a b",), ()])
        self.assertTrue(parsed.programs[1][0].endswith("/true"))

    def test_programs_that_cannot_be_measured(self) -> None:
        listed = self.path / "list"
        for text, named in (
            ("# none\n", "no command"),
            ("true\n\nno-such-program\n", "line 3: program not found"),
            ("no-such-program\ntrue\nnor-this\n", "line 3: program not found: nor-this"),
            ("echo 'a\n", "line 1: a quotation mark is not closed"),
            ("true\n\ntrue\n", "line 3: the same command as in line 1"),
        ):
            with self.subTest(text=text):
                listed.write_text(text)
                self.assertIn(named, self._rejected("--programs", str(listed)))
        self.assertIn("after --", self._rejected("--programs", str(listed), "--", "true"))
        self.assertIn("--filter", self._rejected("--programs", str(listed), "--filter", "x"))

    def test_a_file_that_cannot_be_read_is_named_once(self) -> None:
        self.assertEqual(self._rejected("--programs", "/nonexistent").count("/nonexistent"), 1)

    def test_added_allocator(self) -> None:
        library = self.path / "libmine.so.2"
        library.write_bytes(fakes.library("malloc"))
        choice = options.parse(["--allocators", f"system,mine={library}"]).allocators
        self.assertEqual(choice.names, ("system", "mine"))
        self.assertEqual(choice.added[0].path, library)
        # What is only preloaded may be anywhere.
        spaced = self.path / "a b:c" / "libmine.so"
        spaced.parent.mkdir()
        spaced.write_bytes(fakes.library("malloc"))
        choice = options.parse(["--allocators", f"mine={spaced}", "--", "true"]).allocators
        self.assertEqual(choice.added[0].path, spaced)
