"""The time ratios as an SVG: one group of bars per workload, growing from 1 to faster or slower."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator  # noqa: E402

from runner.allocators import BASE, CONTROL, FLOOR  # noqa: E402
from runner.summary import Figure, Row, Summary  # noqa: E402

ROWS_PER_PANEL = 16
"""More go into a second panel beside the first: a tower of bars cannot be read at once."""
BAR_INCHES = 0.085
GAP_INCHES = 0.14
LONGEST_ERROR = 0.9
"""Below a bar's end, as a share of it: a logarithmic axis has no 0."""
HEAD_INCHES = 1.0
"""For the title and the legend."""
PANEL_WIDTH_INCHES = 6.2
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c6d31", "#5d3a9b")
"""Told apart by colour-blind eyes too (after Okabe and Ito)."""
FLOOR_COLOUR = "#b0b0b0"


def draw(summary: Summary, path: Path, title: str) -> None:
    rows = [row for group in summary.groups for row in group.rows]
    columns = [column for column in summary.columns if column not in (BASE, CONTROL)] or [CONTROL]
    panels = _panels(rows)

    tallest = max(len(panel) for panel in panels)
    height = tallest * (len(columns) * BAR_INCHES + GAP_INCHES) + 1.6
    # Placed by hand: Matplotlib puts a legend outside the axes by itself only since 3.7.
    below_head = 1 - HEAD_INCHES / height
    figure, axes = pyplot.subplots(
        1,
        len(panels),
        figsize=(PANEL_WIDTH_INCHES * len(panels), height),
        squeeze=False,
        layout="constrained",
    )
    low, high = _limits(rows, columns)
    for panel, axis in zip(panels, axes[0]):
        _draw_panel(axis, panel, columns, summary)
        axis.set_xlim(low, high)
        # All panels to one scale, upward as well, so that bars are equally thick.
        axis.set_ylim(tallest - 0.5, -0.5)
    figure.get_layout_engine().set(rect=(0, 0, 1, below_head))
    title = f"Time against libc's, {title}\n(lines: spread; grey: libc against itself, the noise)"
    figure.text(0.5, 1 - 0.1 / height, title, ha="center", va="top", fontsize=10)
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="lower center",
        bbox_to_anchor=(0.5, below_head),
        ncols=4 * len(panels),
        frameon=False,
        fontsize=9,
    )
    # No date and fixed ids: the same figures give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "sysalloc"}):
        figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)


def _panels(rows: list[Row]) -> list[list[Row]]:
    count = -(-len(rows) // ROWS_PER_PANEL)
    size = -(-len(rows) // count)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _draw_panel(axis, rows: list[Row], columns: list[str], summary: Summary) -> None:
    axis.set_xscale("log")
    for group in summary.groups:
        places = [place for place, row in enumerate(rows) if row in group.rows]
        if places and group.noise:
            noise = 1 + group.noise.bound
            extent = [places[0] - 0.5, places[-1] + 0.5]
            axis.fill_betweenx(extent, 1 / noise, noise, color="black", alpha=0.08, lw=0)
    thickness = 1 / (len(columns) + GAP_INCHES / BAR_INCHES)
    for index, column in enumerate(columns):
        offset = (index - (len(columns) - 1) / 2) * thickness
        colour = FLOOR_COLOUR if column == FLOOR else COLOURS[index % len(COLOURS)]
        bars = [
            (place + offset, entry.ratio, entry.spread or 0.0)
            for place, row in enumerate(rows)
            if isinstance(entry := row.entries.get(column), Figure) and entry.ratio is not None
        ]
        axis.barh(
            [place for place, _, _ in bars],
            [ratio - 1 for _, ratio, _ in bars],
            left=1,
            height=thickness,
            color=colour,
            label=column,
            xerr=[
                [ratio * min(spread, LONGEST_ERROR) for _, ratio, spread in bars],
                [ratio * spread for _, ratio, spread in bars],
            ],
            error_kw={"elinewidth": 0.7, "ecolor": "#303030"},
        )
    axis.axvline(1, color="black", lw=0.8)
    axis.set_yticks(range(len(rows)), [row.workload.label for row in rows], fontsize=8)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("time, ratio to libc (left of 1 is faster)", fontsize=9)
    axis.grid(axis="x", color="#dddddd", lw=0.6)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.xaxis.set_major_locator(
        FixedLocator([m * 10.0**e for e in range(-4, 4) for m in (1, 2, 5)])
    )
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.tick_params(axis="x", labelsize=8)


def _limits(rows: list[Row], columns: list[str]) -> tuple[float, float]:
    edges = [1.0]
    for row in rows:
        for column in columns:
            entry = row.entries.get(column)
            if isinstance(entry, Figure) and entry.ratio is not None:
                spread = min(entry.spread or 0, LONGEST_ERROR)
                edges += [entry.ratio * (1 - spread), entry.ratio * (1 + spread)]
    return min(min(edges) * 0.92, 0.8), max(max(edges) * 1.08, 1.25)
