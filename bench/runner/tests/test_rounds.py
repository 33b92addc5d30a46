"""In which order runs come, and what ends them."""

import json
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path

from runner import plan, rounds
from runner.measure import Command, Measurer, Run
from runner.progress import Plain
from runner.results import Results
from runner.workloads import APP, MICRO, Workload

COLUMNS = ["libc", "libc again", "system"]


class FakeMeasurer(Measurer):
    """Notes what it is to run, and runs nothing."""

    def __init__(self, scratch: Path, signal_of: Callable[[str], int | None]) -> None:
        self.timeout = 60.0
        self.runs: list[str] = []
        self._signal_of = signal_of
        self._stdout, self._stderr = scratch / "stdout", scratch / "stderr"
        self._stderr.write_text("")

    def run(self, command: Command) -> Run:
        name = command.argv[0]
        self.runs.append(name)
        micro = json.dumps({"benchmarks": [{"real_time": 1.0, "time_unit": "ns"}]})
        is_micro = any("min_time" in word for word in command.argv)
        self._stdout.write_text(micro if is_micro else "checksum: 0123456789abcdef\n")
        number = self._signal_of(name)
        status = 0 if number is None else None
        return Run(1, 0, 0, 4096, status, number, False, None, self._stdout, self._stderr)


class Silent(Plain):
    def round(self, number: int, runs: int, total_runs: int) -> None:
        pass

    def end(self, total_runs: int) -> None:
        pass


class Rounds(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.scratch = Path(directory.name)

    def _run(
        self,
        signal_of: Callable[[str], int | None] = lambda name: None,
        rounds_wanted: int = 2,
        **kinds: str,
    ) -> tuple[list[str], Results]:
        workloads = [
            Workload(name, kind, "", {one: Command((f"{name} {one}",)) for one in COLUMNS})
            for name, kind in kinds.items()
        ]
        measurer = FakeMeasurer(self.scratch, signal_of)
        planned = plan.Plan(60.0, rounds_wanted, 0.02, 1)
        results = rounds.run(workloads, COLUMNS, planned, measurer, self.scratch, Silent())
        return measurer.runs, results

    def test_allocators_take_turns(self) -> None:
        runs, results = self._run(a=APP, b=APP)
        one_round = [f"{name} {column}" for name in "ab" for column in COLUMNS]
        self.assertEqual(runs[:6], one_round)
        for workload in range(0, 12, 3):
            turn = runs[workload : workload + 3]
            self.assertEqual(sorted(turn), sorted(f"{turn[0][0]} {one}" for one in COLUMNS))
        self.assertEqual(results.rounds, 2)

    def test_each_allocator_comes_after_each(self) -> None:
        # In enough rounds: what one leaves behind is then no other one's burden alone.
        runs, _ = self._run(rounds_wanted=24, a=APP)
        turns = [runs[at : at + 3] for at in range(0, len(runs), 3)]
        after = {pair for turn in turns for pair in zip(turn, turn[1:])}
        self.assertEqual(len(after), 6)
        self.assertEqual({turn[0] for turn in turns}, set(runs))
        self.assertEqual(self._run(rounds_wanted=24, a=APP)[0], runs)

    def test_micro_rounds_alternate_with_the_others(self) -> None:
        runs, results = self._run(m=MICRO, a=APP)
        self.assertEqual([run[0] for run in runs[::3]], ["a", "m", "a", "m"])
        self.assertEqual((results.rounds, results.micro_rounds), (2, 2))

    def test_a_crash_is_not_repeated(self) -> None:
        runs, results = self._run(lambda name: 11 if name == "a system" else None, a=APP)
        self.assertEqual(runs.count("a system"), 1)
        self.assertEqual(runs.count("a libc"), 2)
        failure = results.cells["a", "system"].failure
        assert failure is not None
        self.assertIn("SIGSEGV", failure.text)

    def test_interrupted_run_keeps_what_it_has(self) -> None:
        seen: list[str] = []

        def interrupt(name: str) -> None:
            seen.append(name)
            if len(seen) == 5:
                raise KeyboardInterrupt

        _, results = self._run(interrupt, a=APP)
        self.assertTrue(results.interrupted)
        samples = [len(results.cells["a", column].samples) for column in COLUMNS]
        self.assertEqual(sorted(samples), [1, 1, 2])
