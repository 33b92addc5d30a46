"""Whole runs against a fake build: what is found wrong, and what the report says."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

from runner import workloads
from runner.build import _kept
from runner.manifest import Variant
from runner.tests import fakes
from runner.tests.fakes import CHECKSUM, FakeBuild

BASE_VARIANT = Variant("libc", "", None)
SYSTEM_VARIANT = Variant("system", "", Path("/fake/system.so"))


def _has_ended(pid: int) -> bool:
    """Soon, if not yet; a process that nobody has waited for has ended, too."""
    for _ in range(50):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


# Runs the bench in a process of its own, to which signals can be sent.
APART = """\
import signal, sys
from pathlib import Path
# Whoever started the tests may ignore these, as nohup does.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.path.insert(0, sys.argv[1])
from runner.tests.fakes import FakeBuild
build = FakeBuild(Path(sys.argv[2]))
build.variant("libc")
build.variant("system", preload="/fake/system.so")
sys.exit(build.main("--rounds", "3", "--", *sys.argv[3:]))
"""
BENCH = str(Path(__file__).parent.parent.parent)


class Run(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name)
        self.build = FakeBuild(self.path)

    def _run(self, *argv: str) -> tuple[int, str, str]:
        return self.build.run("--rounds", "3", *argv)


class Micro(Run):
    def setUp(self) -> None:
        super().setUp()
        self.build.variant("libc", micro={"pair/16": 10.0, "pair/160": 40.0, "map<int>(2)": 8.0})
        self.build.variant("system", micro={"pair/16": 5.0, "pair/160": 80.0, "map<int>(2)": 4.0})
        self.build.variant("floor", micro={"pair/16": 1.0, "pair/160": 4.0})

    def test_ratios_medians_and_means(self) -> None:
        report = self.path / "report.json"
        status, out, err = self._run("--json", str(report))
        self.assertEqual(status, 0, err)
        content = json.loads(report.read_text())
        times = {w["name"]: w["results"] for w in content["workloads"]}
        self.assertEqual(times["pair/16"]["system"]["time_ns"]["samples"], [5000.0] * 3)
        self.assertEqual(times["pair/16"]["system"]["time_ns"]["ratio"], 0.5)
        self.assertEqual(times["pair/160"]["system"]["time_ns"]["ratio"], 2.0)
        self.assertNotIn("floor", times["map<int>(2)"])
        self.assertAlmostEqual(
            content["geometric_means"]["time"]["micro"]["system"]["ratio"], 0.5 ** (1 / 3)
        )
        self.assertEqual(content["geometric_means"]["time"]["micro"]["floor"]["workloads"], 2)
        self.assertIn("0.50", out)
        self.assertIn("0.10*", out)
        self.assertNotIn("Peak memory", out)

    def test_filter_and_allocators(self) -> None:
        status, out, _ = self._run("--filter", r"^map", "--allocators", "floor")
        self.assertEqual(status, 0)
        self.assertIn("map<int>(2)", out)
        self.assertNotIn("pair", out)
        self.assertNotIn("system", out)

    def test_mistakes_found_after_the_build(self) -> None:
        for argv, named in (
            (["--filter", "nothing"], "nothing"),
            (["--only", "apps"], "apps"),
            (["--allocators", "cached"], "cached"),
        ):
            with self.subTest(argv=argv):
                status, out, err = self._run(*argv)
                self.assertEqual(status, 2)
                self.assertIn(named, err.splitlines()[-1])
                self.assertEqual(out, "")

    def test_list(self) -> None:
        status, out, _ = self._run("--list")
        self.assertEqual(status, 0)
        self.assertIn("pair/160", out)
        self.assertIn("system's how", out)

    def test_missing_baseline_is_mentioned_once(self) -> None:
        _, _, err = self._run()
        self.assertEqual(err.count("libjemalloc-dev"), 1)

    def test_plot(self) -> None:
        plot = self.path / "plot.svg"
        status, _, err = self._run("--plot", str(plot))
        self.assertEqual(status, 0, err)
        self.assertIn("<svg", plot.read_text())


class Apps(Run):
    def setUp(self) -> None:
        super().setUp()
        self.build.variant("libc", micro={})
        self.build.variant("system", micro={})

    def test_same_checksum_passes(self) -> None:
        self.build.app("index", libc=CHECKSUM, system=CHECKSUM)
        status, out, err = self._run()
        self.assertEqual(status, 0, err)
        self.assertIn("Peak memory", out)
        self.assertNotIn("FAILED", err)

    def test_changed_checksum_fails_and_names_both(self) -> None:
        self.build.app("index", libc=CHECKSUM, system="echo checksum: ffffffffffffffff")
        status, out, err = self._run()
        self.assertEqual(status, 1)
        self.assertIn("WRONG", out)
        for named in ("index", "system", "00112233aabbccdd", "ffffffffffffffff"):
            self.assertIn(named, err)

    def test_missing_checksum_fails(self) -> None:
        self.build.app("index", libc=CHECKSUM, system="echo done")
        status, _, err = self._run()
        self.assertEqual(status, 1)
        self.assertIn("done", err)

    def test_crash_is_named_and_the_rest_still_runs(self) -> None:
        self.build.app("index", libc=CHECKSUM, system="echo heap is broken >&2; kill -SEGV $$")
        self.build.app("graph", libc=CHECKSUM, system=CHECKSUM)
        report = self.path / "report.json"
        status, out, err = self._run("--json", str(report))
        self.assertEqual(status, 1)
        self.assertIn("crash", out)
        self.assertIn("index under system: killed by SIGSEGV", err)
        self.assertIn("heap is broken", err)
        graph = json.loads(report.read_text())["workloads"][1]["results"]["system"]
        self.assertEqual(len(graph["time_ns"]["samples"]), 3)

    def test_crash_under_libc_leaves_the_others_without_ratio(self) -> None:
        self.build.app("index", libc="exit 3", system=CHECKSUM)
        status, out, err = self._run()
        self.assertEqual(status, 1)
        self.assertIn("index under libc: exit status 3", err)
        self.assertIn(" ms", out)

    def test_timeout(self) -> None:
        self.build.app("index", libc=CHECKSUM, system="exec sleep 60")
        status, out, err = self._run("--timeout", "1")
        self.assertEqual(status, 1)
        self.assertIn("timeout", out)
        self.assertIn("index under system", err)

    def test_unsteady_application_is_not_blamed_on_an_allocator(self) -> None:
        self.build.app("index", libc="printf 'checksum: %016x\\n' $$", system=CHECKSUM)
        status, _, err = self._run()
        self.assertEqual(status, 1)
        self.assertIn("under libc itself", err)
        self.assertNotIn("under system", err)


class Signals(Run):
    def _signalled(self, number: int, commands: str) -> tuple[int, str, str]:
        """Sends it when the program has written its process's number, and waits for all to end."""
        pid, scratch = self.path / "pid", self.path / "tmp"
        scratch.mkdir(exist_ok=True)
        pid.unlink(missing_ok=True)
        program = ("sh", "-c", commands.replace("PID", str(pid)))
        bench = subprocess.Popen(
            [sys.executable, "-c", APART, BENCH, str(self.path), *program],
            env=os.environ | {"TMPDIR": str(scratch)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(200):
            if pid.exists() and pid.read_text().endswith("\n"):
                break
            time.sleep(0.05)
        bench.send_signal(number)
        try:
            out, err = bench.communicate(timeout=20)
        finally:
            bench.kill()
        self.assertEqual(list(scratch.iterdir()), [], "the scratch directory is left behind")
        for one in pid.read_text().split():
            self.assertTrue(_has_ended(int(one)), f"{commands}: a process is left behind")
        return bench.returncode, out, err

    def test_nothing_is_left_behind(self) -> None:
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            with self.subTest(number):
                ended, out, err = self._signalled(number, "sleep 60 & echo $$ $! >PID; sleep 60")
                self.assertEqual(ended, status, err)
                self.assertIn("interrupted before anything was measured", err)
                self.assertNotIn("Traceback", err)
                self.assertEqual(out.strip(), "")

    def test_a_report_that_cannot_be_written(self) -> None:
        with open("/dev/full", "w") as full:
            bench = subprocess.run(
                [sys.executable, "-c", APART, BENCH, str(self.path), "true"],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
            )
        self.assertEqual(bench.returncode, 2)
        self.assertIn("bench/run: cannot write: No space left on device\n", bench.stderr)
        self.assertNotIn("Traceback", bench.stderr)

    def test_what_was_measured_is_shown(self) -> None:
        wait_under_system = 'test -z "$FAKE_PRELOAD" || { echo $$ >PID; sleep 60; }'
        ended, out, err = self._signalled(signal.SIGTERM, wait_under_system)
        self.assertEqual(ended, 143, err)
        self.assertIn("libc again", out)
        self.assertIn("until then", err)


class Program(Run):
    def setUp(self) -> None:
        super().setUp()
        self.build.variant("libc", preload=None)
        self.build.variant("system", preload="/fake/system.so")
        self.build.variant("floor", preload=None)
        self.script = self.path / "program"

    def _program(self, commands: str) -> tuple[int, str, str]:
        self.script.write_text(f"#!/bin/sh\n{commands}\n")
        self.script.chmod(0o755)
        return self._run("--", str(self.script))

    def test_same_output_passes(self) -> None:
        status, out, err = self._program("echo hello")
        self.assertEqual(status, 0, err)
        self.assertIn("9 of 9 runs done\n", err)
        self.assertFalse([line for line in out.splitlines() if line != line.rstrip()])
        self.assertNotIn("\n\n\n", out)
        self.assertNotIn("floor", out)

    def test_a_program_that_fails_says_why(self) -> None:
        for end, named in (
            ("exit 3", "program ends with exit status 3 under libc itself\n    no such option"),
            ("kill -SEGV $$", "program was killed by SIGSEGV under libc itself\n    no such option"),
        ):
            status, _, err = self._program(f"echo no such option >&2; {end}")
            self.assertEqual(status, 0, err)
            self.assertIn(named, err)

    def test_a_program_that_nothing_can_be_preloaded_into(self) -> None:
        self.script.write_bytes(fakes.program(3, machine=1))
        static, dynamic = workloads.programs(
            [(str(self.script),), ("/bin/sh",)], [BASE_VARIANT, SYSTEM_VARIANT]
        )
        self.assertEqual(list(static.commands), ["libc", "libc again"])
        self.assertEqual(dynamic.commands["system"].preload, SYSTEM_VARIANT.preload)

    def test_a_program_that_the_operators_alone_do_not_serve(self) -> None:
        library = self.path / "operators.so"
        library.write_bytes(fakes.library("_Znwm"))
        self.build.variant("cached", preload=str(library))
        with mock.patch("runner.elf.operators_problem", return_value="loads no C++ library") as asked:
            _, _, err = self._program("true")
            self.assertIn(f"{self.script} loads no C++ library: ", err)
            self.assertIn("(cached) serves only", err)
            asked.reset_mock()
            self._run("--allocators", "system", "--", str(self.script))
            asked.assert_not_called()

    def test_no_figures_where_the_loader_refused_the_library(self) -> None:
        status, out, err = self._program(
            'test -z "$FAKE_PRELOAD" || '
            "echo \"ERROR: ld.so: object '$FAKE_PRELOAD' from LD_PRELOAD cannot be preloaded\" >&2"
        )
        self.assertEqual(status, 1)
        self.assertIn("no preload", out)
        self.assertIn("under system: it ran without this allocator: ERROR: ld.so", err)

    def test_a_path_that_the_loader_would_split(self) -> None:
        library = self.path / "a b:c" / "lib mine.so"
        library.parent.mkdir()
        library.write_text("mine")
        self.build.manifest["variants"][1]["preload"] = str(library)
        status, _, err = self._program('echo "$FAKE_PRELOAD" >&2; cat ${FAKE_PRELOAD:-/dev/null}')
        self.assertEqual(status, 1)
        self.assertIn("system: mine", err)
        self.assertNotIn("a b:c", err)
        self._scratch(name="t m p")
        status, _, err = self._program("true")
        self.assertEqual(status, 2)
        self.assertIn("TMPDIR", err)

    def test_changed_output_shows_the_first_line_that_differs(self) -> None:
        status, _, err = self._program('echo same; echo "with <$FAKE_PRELOAD>"')
        self.assertEqual(status, 1)
        self.assertIn("under system: stdout differs from line 2", err)
        self.assertIn("with </fake/system.so>", err)
        self.assertIn("libc: with <>", err)

    def test_changed_exit_status(self) -> None:
        status, _, err = self._program('test -z "$FAKE_PRELOAD"')
        self.assertEqual(status, 1)
        self.assertIn("under system: exit status 1, under libc exit status 0", err)

    def test_crash_under_one_allocator(self) -> None:
        status, out, err = self._program('test -z "$FAKE_PRELOAD" || kill -ABRT $$')
        self.assertEqual(status, 1)
        self.assertIn("crash", out)
        self.assertIn("killed by SIGABRT", err)

    def test_unsteady_output_blames_nobody(self) -> None:
        status, _, err = self._program('echo $$; echo "$FAKE_PRELOAD" >&2')
        self.assertEqual(status, 1)
        self.assertIn("its stdout is not the same in every run under libc itself", err)
        self.assertNotIn("stdout differs", err)
        self.assertIn("stderr differs", err)

    def _scratch(self, name: str = "tmp") -> Path:
        """Where the bench makes its scratch directory."""
        scratch = self.path / name
        scratch.mkdir()
        patch = mock.patch("tempfile.tempdir", str(scratch))
        patch.start()
        self.addCleanup(patch.stop)
        return scratch

    def test_endless_output_is_ended(self) -> None:
        scratch = self._scratch()
        for redirected, named in (("", "stdout"), (">&2", "stderr")):
            with self.subTest(named), mock.patch("runner.measure.OUTPUT_LIMIT", 2**20):
                # Not endless, in case that nothing ends it.
                status, out, err = self._program(f"yes | head -c 300000000 {redirected}; sleep 2")
                self.assertEqual(status, 2, err)
                self.assertIn(f"its {named} is longer than", err)
                self.assertEqual(out, "")
                self.assertEqual(list(scratch.iterdir()), [])

    def test_endless_output_under_one_allocator(self) -> None:
        with mock.patch("runner.measure.OUTPUT_LIMIT", 2**20):
            status, out, err = self._program(
                'test -z "$FAKE_PRELOAD" || yes | head -c 300000000; exit 0'
            )
        self.assertEqual(status, 1)
        self.assertIn("output", out)
        self.assertIn("under system: its stdout is longer than", err)

    def test_a_server_is_waited_for_once(self) -> None:
        started = time.monotonic()
        self.script.write_text("#!/bin/sh\nexec sleep 60\n")
        self.script.chmod(0o755)
        status, out, err = self._run("--timeout", "1", "--", str(self.script))
        self.assertEqual(status, 2)
        self.assertIn("still running after 1 s under libc: is it a server?", err)
        self.assertLess(time.monotonic() - started, 3)

    def test_what_a_program_leaves_running_is_ended(self) -> None:
        pid = self.path / "pid"
        status, _, err = self._program(f"sleep 60 & echo $! >{pid}")
        self.assertEqual(status, 0, err)
        self.assertTrue(_has_ended(int(pid.read_text())))

    def test_several_have_a_mean(self) -> None:
        listed = self.path / "list"
        listed.write_text("sh -c 'exit 0'\nsh -c 'exit 0 ; echo a command that is longer than a label'\n")
        status, out, err = self._run("--programs", str(listed))
        self.assertEqual(status, 0, err)
        self.assertIn("mean of 2 ", out)
        self.assertIn("sh -c 'exit 0 ; ech…longer than a label'", out)

    def test_reads_nothing_unless_told(self) -> None:
        self.assertEqual(self._program("read line && exit 1; exit 0")[0], 0)

    def test_reads_a_file(self) -> None:
        text = self.path / "text"
        text.write_text("hello\n")
        self.script.write_text('#!/bin/sh\nread line; test "$line" = hello || exit 1\n')
        self.script.chmod(0o755)
        _, _, err = self._run("--stdin", str(text), "--", str(self.script))
        self.assertNotIn("exit status 1", err)

    def test_two_files_of_one_name_are_two_programs(self) -> None:
        report, commands = self.path / "report.json", self.path / "commands"
        names = [str(self.path / version / "program") for version in ("old", "new")]
        for name in names:
            Path(name).parent.mkdir()
            Path(name).write_text("#!/bin/sh\n")
            Path(name).chmod(0o755)
        commands.write_text("\n".join([*names, "sh -c true"]))
        status, _, err = self._run("--programs", str(commands), "--json", str(report))
        self.assertEqual(status, 0, err)
        content = json.loads(report.read_text())
        self.assertEqual([one["name"] for one in content["workloads"]], [*names, "sh -c true"])
        for one in content["workloads"]:
            self.assertEqual(len(one["results"]["libc"]["time_ns"]["samples"]), 3)
        self.assertEqual(content["allocators"][1]["how"], "system.so preloaded")

    def test_what_the_caller_has_set_is_not_for_the_program(self) -> None:
        with mock.patch.dict(os.environ, {"SYSALLOC_STATS": "1"}):
            _, _, err = self._program('test -z "$SYSALLOC_STATS" || exit 1')
        self.assertNotIn("exit status 1", err)

    def test_what_a_shell_would_have_done(self) -> None:
        _, _, err = self._run("--", "/bin/true", ">", "/dev/null")
        self.assertIn("'>' is an argument here", err)
        text = self.path / "text"
        text.write_text("hello\n")
        for given, is_said in ((text, True), (os.devnull, False)):
            bench = [sys.executable, "-c", APART, BENCH, str(self.path / "apart"), "/bin/true"]
            (self.path / "apart").mkdir(exist_ok=True)
            with open(given) as stdin:
                done = subprocess.run(bench, stdin=stdin, capture_output=True, text=True)
            self.assertEqual("see --stdin" in done.stderr, is_said, done.stderr)

    def test_too_few_rounds_tell_no_difference(self) -> None:
        report = self.path / "report.json"
        self.script.write_text('#!/bin/sh\ntest -z "$FAKE_PRELOAD" || sleep 0.3\n')
        self.script.chmod(0o755)
        for rounds in ("2", "3"):
            status, out, err = self.build.run(
                "--rounds", rounds, "--json", str(report), "--", str(self.script)
            )
            self.assertEqual(status, 0, err)
            (workload,) = json.loads(report.read_text())["workloads"]
            if rounds == "2":
                self.assertTrue(workload["results"]["system"]["time_ns"]["within_noise"])
            self.assertEqual("it takes 3" in out, rounds == "2")

    def test_an_allocator_for_programs_alone(self) -> None:
        self.build.variant("libc", micro={"pair/16": 2.0})
        self.build.variant("cached_malloc", preload="/fake/malloc.so")
        _, out, _ = self._program("exit 0")
        self.assertIn("cached_malloc", out)
        self.build.manifest["variants"] = self.build.manifest["variants"][-2:]
        status, out, err = self._run()
        self.assertEqual(status, 0, err)
        self.assertNotIn("cached_malloc", out)
        status, _, err = self._run("--allocators", "cached_malloc")
        self.assertEqual(status, 2)
        self.assertIn("cached_malloc is for programs of yours", err)

    def test_an_added_allocator_is_preloaded_and_needs_no_build(self) -> None:
        # What another run had built is not this one's.
        self.build.variant("earlier", preload="/fake/earlier.so")
        library = self.path / "libmine.so"
        library.write_text("")
        with mock.patch("runner.elf.allocator_problem", return_value=None):
            _, out, err = self._run("--allocators", f"mine={library},system", "--", "/bin/true")
        self.assertIn("mine: libmine.so preloaded", out, err)
        self.assertNotIn("earlier", self._run("--", "/bin/true")[1])

    def test_the_allocators_of_the_last_build_are_kept_while_they_are_there(self) -> None:
        library = self.path / "libmine.so"
        before = {"options": {"bench_baselines": f"mine={library}"}}
        self.assertEqual(_kept(before), "")
        library.write_text("")
        self.assertEqual(_kept(before), f"mine={library}")
        self.assertEqual(_kept(None), "")

    def test_asking_for_an_allocator_without_library(self) -> None:
        status, _, err = self._run("--allocators", "floor", "--", "true")
        self.assertEqual(status, 2)
        self.assertIn("floor", err)
