"""The time ratios as an SVG: one group of bars per workload, growing from 1 to faster or slower."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator  # noqa: E402

from runner import units  # noqa: E402
from runner.allocators import BASE, CONTROL, FLOOR  # noqa: E402
from runner.summary import Figure, Group, Summary  # noqa: E402
from runner.table import MEANS  # noqa: E402

ROWS_PER_PANEL = 28
"""More go into a second panel beside the first."""
BAR_INCHES = 0.085
GAP_INCHES = 0.16
PANEL_WIDTH_INCHES = 6.5
HEAD_INCHES = 1.0
"""For the title and the legend."""

LOWEST, HIGHEST = 0.06, 4.0
"""The axis ends here; a bar that goes on has its ratio written at its end. One allocator's slip of a
factor of 100 would otherwise press all other bars together."""

LONGEST_ERROR = 0.9
"""Below a bar's end, as a share of it: a logarithmic axis has no 0."""

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c6d31", "#5d3a9b")
"""Told apart by colour-blind eyes too (after Okabe and Ito)."""
FLOOR_COLOUR = "#b0b0b0"


@dataclass(frozen=True)
class _Bar:
    ratio: float
    spread: float


@dataclass(frozen=True)
class _Row:
    label: str
    bars: dict[str, _Bar]
    noise: float
    is_mean: bool = False


def draw(summary: Summary, path: Path, title: str) -> None:
    columns = [name for name in summary.columns if name not in (BASE, CONTROL)] or [CONTROL]
    panels = _panels([row for group in summary.groups for row in _rows(group, columns)])
    tallest = max(len(panel) for panel in panels)
    height = tallest * (len(columns) * BAR_INCHES + GAP_INCHES) + HEAD_INCHES + 0.6
    figure, axes = pyplot.subplots(
        1,
        len(panels),
        figsize=(PANEL_WIDTH_INCHES * len(panels), height),
        squeeze=False,
        layout="constrained",
    )
    limits = _limits(panels)
    for panel, axis in zip(panels, axes[0]):
        _draw_panel(axis, panel, columns, limits)
        # All panels to one scale, upward as well, so that bars are equally thick.
        axis.set_ylim(tallest - 0.5, -0.5)
    _draw_head(figure, columns, title, height)
    # No date and fixed ids: the same figures give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "sysalloc"}):
        figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)


def _rows(group: Group, columns: list[str]) -> Iterator[_Row]:
    """The mean first, then what it is of."""
    noise = group.noise.bound if group.noise else 0.0
    if group.means:
        # A mean over fewer workloads than the others' would stand beside them as if it compared.
        means = {
            name: _Bar(mean.ratio, 0.0)
            for name, mean in group.means.items()
            if name in columns and mean.count == len(group.rows)
        }
        yield _Row(MEANS[group.kind].format(len(group.rows)), means, 0.0, is_mean=True)
    for row in group.rows:
        bars = {
            name: _Bar(entry.ratio, entry.spread or 0.0)
            for name, entry in row.entries.items()
            if name in columns and isinstance(entry, Figure) and entry.ratio is not None
        }
        yield _Row(row.workload.label, bars, noise)


def _panels(rows: list[_Row]) -> list[list[_Row]]:
    count = -(-len(rows) // ROWS_PER_PANEL)
    size = -(-len(rows) // count)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _limits(panels: list[list[_Row]]) -> tuple[float, float]:
    bars = [bar for panel in panels for row in panel for bar in row.bars.values()]
    low = min([0.8, *(bar.ratio * (1 - min(bar.spread, LONGEST_ERROR)) for bar in bars)])
    high = max([1.25, *(bar.ratio * (1 + bar.spread) for bar in bars)])
    return max(low * 0.95, LOWEST), min(high * 1.05, HIGHEST)


def _draw_panel(axis, rows: list[_Row], columns: list[str], limits: tuple[float, float]) -> None:
    axis.set_xscale("log")
    axis.set_xlim(*limits)
    for place, row in enumerate(rows):
        extent = [place - 0.5, place + 0.5]
        axis.fill_betweenx(extent, 1 / (1 + row.noise), 1 + row.noise, color="#ececec", lw=0)
        if row.is_mean:
            axis.axhspan(*extent, color="#f4f1e4", zorder=0, lw=0)
    thickness = 1 / (len(columns) + GAP_INCHES / BAR_INCHES)
    for index, column in enumerate(columns):
        offset = (index - (len(columns) - 1) / 2) * thickness
        _draw_bars(axis, rows, column, offset, thickness, _colour(column, index), limits)
    axis.axvline(1, color="black", lw=0.8)
    axis.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=8)
    for tick, row in zip(axis.get_yticklabels(), rows):
        tick.set_fontweight("bold" if row.is_mean else "normal")
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("time, ratio to libc (left of 1 is faster)", fontsize=9)
    axis.grid(axis="x", color="#dddddd", lw=0.6)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    ticks = [mantissa * 10.0**power for power in range(-2, 1) for mantissa in (1, 2, 5)]
    axis.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if tick >= limits[0]]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.tick_params(axis="x", labelsize=8)


def _draw_bars(
    axis,
    rows: list[_Row],
    column: str,
    offset: float,
    thickness: float,
    colour: str,
    limits: tuple[float, float],
) -> None:
    low, high = limits
    bars = [
        (place + offset, row.bars[column]) for place, row in enumerate(rows) if column in row.bars
    ]
    axis.barh(
        [place for place, _ in bars],
        [min(max(bar.ratio, low), high) - 1 for _, bar in bars],
        left=1,
        height=thickness,
        color=colour,
    )
    within = [(place, bar) for place, bar in bars if low < bar.ratio < high and bar.spread]
    axis.errorbar(
        [bar.ratio for _, bar in within],
        [place for place, _ in within],
        xerr=[
            [bar.ratio * min(bar.spread, LONGEST_ERROR) for _, bar in within],
            [bar.ratio * bar.spread for _, bar in within],
        ],
        fmt="none",
        elinewidth=0.7,
        ecolor="#303030",
    )
    for place, bar in bars:
        if not low < bar.ratio < high:
            text = units.ratio(bar.ratio, bar.spread)
            is_low = bar.ratio <= low
            axis.text(
                low * 1.02 if is_low else high / 1.02,
                place,
                text,
                ha="left" if is_low else "right",
                va="center",
                fontsize=5.5,
                color="white",
                fontweight="bold",
            )


def _draw_head(figure, columns: list[str], title: str, height: float) -> None:
    # Placed by hand: Matplotlib puts a legend outside the axes by itself only since 3.7.
    below = 1 - HEAD_INCHES / height
    figure.get_layout_engine().set(rect=(0, 0, 1, below))
    explained = "(thin lines: the spread; grey: what libc differs from itself by, the noise)"
    text = f"Time against libc's, {title}\n{explained}"
    figure.text(0.5, 1 - 0.1 / height, text, ha="center", va="top", fontsize=9)
    figure.legend(
        handles=[
            Patch(color=_colour(column, index), label=column)
            for index, column in enumerate(columns)
        ],
        loc="lower center",
        bbox_to_anchor=(0.5, below),
        ncols=min(len(columns), 8),
        frameon=False,
        fontsize=9,
    )


def _colour(column: str, index: int) -> str:
    return FLOOR_COLOUR if column == FLOOR else COLOURS[index % len(COLOURS)]
