"""Tables of real size fit the terminal and lose nothing."""

import io
import unittest

from rich.console import Console

from runner import table
from runner.measure import Command
from runner.results import Failure, Sample, empty
from runner.summary import TIME, Figure, summarise
from runner.workloads import APP, MICRO, Workload

COLUMNS = ["libc", "libc again", "system", "cached", "mimalloc", "jemalloc", "tcmalloc", "floor"]


def results_of(count: int):
    commands = {column: Command(("x",)) for column in COLUMNS}
    workloads = [
        Workload(f"workload/{n}/real_time", MICRO if n % 4 else APP, "", commands)
        for n in range(count)
    ]
    results = empty(workloads, COLUMNS)
    for (name, column), cell in results.cells.items():
        base = 1000.0 + 10 * int(name.split("/")[1])
        factor = {"libc": 1, "libc again": 1.01}.get(column, 0.5)
        cell.samples = [Sample(base * factor * noise, 2**20, 0, 0) for noise in (0.99, 1.0, 1.02)]
    results.rounds = 3
    return results


def rendered(results, width: int, terminal: bool) -> str:
    out = io.StringIO()
    table.render(
        summarise(results, TIME),
        Console(file=out, width=width, force_terminal=terminal, color_system=None),
    )
    return out.getvalue()


class Table(unittest.TestCase):
    def test_fits_the_width_and_shows_every_column_and_row(self) -> None:
        for width in (80, 100, 120, 200):
            for terminal in (True, False):
                with self.subTest(width=width, terminal=terminal):
                    text = rendered(results_of(40), width, terminal)
                    self.assertLessEqual(
                        max(len(line.rstrip()) for line in text.splitlines()), width
                    )
                    self.assertNotIn("…", text)
                    for column in COLUMNS:
                        self.assertIn(column, text)
                    self.assertIn("workload/39 ", text)
                    self.assertIn("mean of 30 micro", text)
                    self.assertIn("mean of 10 apps", text)

    def test_wide_terminal_shows_the_medians_too(self) -> None:
        self.assertIn("505 ns  0.50", rendered(results_of(3), 200, True))
        self.assertNotIn("505 ns", rendered(results_of(3), 100, True))

    def test_failure_stands_in_its_cell_and_leaves_the_mean(self) -> None:
        results = results_of(9)
        results.cells["workload/1/real_time", "system"].failure = Failure("crash", "killed")
        text = rendered(results, 200, False)
        self.assertIn("crash", text)
        self.assertIn("0.50*", text)

    def test_difference_within_the_noise_is_marked(self) -> None:
        results = results_of(1)
        cell = results.cells["workload/0/real_time", "system"]
        cell.samples = [Sample(1000 * noise, 0, 0, 0) for noise in (0.98, 1.005, 1.03)]
        entry = summarise(results, TIME).groups[0].rows[0].entries["system"]
        assert isinstance(entry, Figure)
        self.assertTrue(entry.same)
        self.assertIn("~1.0", rendered(results, 200, False))
