"""The tables: for each workload libc's figure, and every allocator's ratio to it."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner import units
from runner.allocators import BASE, CONTROL
from runner.results import Failure
from runner.summary import PEAK, TIME, Figure, Group, Mean, Row, Summary
from runner.workloads import APP, MICRO, PROGRAM

TITLES = {
    TIME: "Time: libc's, and the others' as a ratio to it (below 1 is faster)",
    PEAK: "Peak memory: libc's, and the others' as a ratio to it (below 1 is less)",
}
MEANS = {MICRO: "mean of {} micro", APP: "mean of {} apps", PROGRAM: "mean of {} programs"}

PIPED_WIDTH = 200
"""Wide enough for every column; a file has no width of its own."""
GAP = 3


def console() -> Console:
    if sys.stdout.isatty():
        return Console(highlight=False)
    width = shutil.get_terminal_size((PIPED_WIDTH, 24)).columns
    return Console(highlight=False, width=width, no_color=True)


def render(summary: Summary, to: Console) -> None:
    lines = list(_lines(summary, medians=True))
    if _width(lines, summary.columns) > to.width:
        lines = list(_lines(summary, medians=False))
    for part, columns in enumerate(_parts(lines, summary.columns, to.width)):
        to.print()
        to.print(
            Text(TITLES[summary.metric] + (" (continued)" if part else ""), style="bold"),
            soft_wrap=True,
        )
        with to.capture() as drawn:
            to.print(_table(lines, columns, plain=not to.is_terminal))
        # Without the spaces that a box without lines draws above and below.
        drawn_lines = [line.rstrip() for line in drawn.get().splitlines()]
        to.print()
        to.file.write("\n".join(drawn_lines).strip("\n") + "\n")


@dataclass(frozen=True)
class _Line:
    label: str
    cells: dict[str, Text]
    last_of_group: bool
    style: str = ""


def _lines(summary: Summary, medians: bool) -> Iterator[_Line]:
    for group in summary.groups:
        for row in group.rows:
            last = row is group.rows[-1] and not group.means
            yield _Line(
                row.workload.label,
                {c: _cell(row, c, summary.metric, medians) for c in summary.columns},
                last,
            )
        if group.means:
            cells = {column: _mean(group, column) for column in summary.columns}
            yield _Line(MEANS[group.kind].format(len(group.rows)), cells, True, "bold")


def _cell(row: Row, column: str, metric: str, medians: bool) -> Text:
    entry = row.entries.get(column)
    if entry is None:
        return Text("")
    if isinstance(entry, Failure):
        return Text(entry.label, style="bold red")
    amount = (units.time if metric == TIME else units.memory)(entry.median, entry.spread)
    around = f" ±{units.percent(entry.spread)}" if entry.spread and entry.spread >= 0.005 else ""
    if column == BASE or entry.ratio is None:
        return Text(amount + around)
    before = f"{amount}  " if medians and column != CONTROL else ""
    mark = "~" if entry.same and column != CONTROL else ""
    return Text(
        before + mark + units.ratio(entry.ratio, entry.spread) + around, style=_style(entry, column)
    )


def _mean(group: Group, column: str) -> Text:
    mean = group.means.get(column)
    if mean is None:
        return Text("")
    mark = "~" if mean.same and column != CONTROL else ""
    # With too few workloads in common the means do not compare; the legend says so.
    star = "*" if mean.count < len(group.rows) else ""
    return Text(f"{mark}{mean.ratio:.2f}{star}", style=_style(mean, column))


def _style(entry: Figure | Mean, column: str) -> str:
    if column in (BASE, CONTROL):
        return "dim" if column == CONTROL else ""
    if entry.same:
        return ""
    return "green" if (entry.ratio or 1.0) < 1 else "red"


def _widths(lines: list[_Line], columns: list[str]) -> dict[str, int]:
    return {
        column: max(len(column), *(len(line.cells[column]) for line in lines)) for column in columns
    }


def _label_width(lines: list[_Line]) -> int:
    return max(len(line.label) for line in lines)


def _width(lines: list[_Line], columns: list[str]) -> int:
    return _label_width(lines) + sum(width + GAP for width in _widths(lines, columns).values()) + 1


def _parts(lines: list[_Line], columns: list[str], width: int) -> list[list[str]]:
    """The columns in as many tables as it takes, each with libc's own."""
    parts = list(_filled(lines, columns, width))
    # The same number of tables with the columns shared out evenly: no last one with a single column.
    while width > 0 and len(evener := list(_filled(lines, columns, width - 1))) == len(parts):
        parts, width = evener, width - 1
    return parts


def _filled(lines: list[_Line], columns: list[str], width: int) -> Iterator[list[str]]:
    widths = _widths(lines, columns)
    part = [BASE]
    used = start = _width(lines, [BASE])
    for column in columns[1:]:
        if used + widths[column] + GAP > width and len(part) > 1:
            yield part
            part, used = [BASE], start
        part.append(column)
        used += widths[column] + GAP
    yield part


def _table(lines: list[_Line], columns: list[str], plain: bool) -> Table:
    table = Table(box=box.MARKDOWN if plain else box.SIMPLE_HEAD, pad_edge=plain, padding=(0, 1))
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for line in lines:
        cells = [line.cells[column] for column in columns]
        table.add_row(
            Text(line.label), *cells, style=line.style, end_section=line.last_of_group and not plain
        )
    return table
