"""From samples to figures: medians, ratios to libc, spreads, means, and what of it is only noise."""

from dataclasses import dataclass
from math import sqrt
from statistics import median

from runner import stats
from runner.allocators import BASE, CONTROL
from runner.results import Cell, Failure, Results
from runner.workloads import APP, MICRO, PROGRAM, Workload

TIME, PEAK = "time", "peak"

NEGLIGIBLE = 0.005
"""No table shows it."""


@dataclass(frozen=True)
class Figure:
    median: float
    spread: float | None
    ratio: float | None
    """To libc's median; None where libc has none."""
    same: bool
    """Too close to libc, given the noise, to call it a difference."""


@dataclass(frozen=True)
class Row:
    workload: Workload
    entries: dict[str, Figure | Failure]


@dataclass(frozen=True)
class Mean:
    ratio: float
    count: int
    """Of how many workloads: an allocator may lack some."""
    same: bool


@dataclass(frozen=True)
class Noise:
    """How far libc is from itself, as a share."""

    typical: float
    """In the median workload."""
    worst: float
    worst_workload: str

    @property
    def bound(self) -> float:
        """What 19 of 20 workloads stay below, were it normal: twice the standard deviation."""
        return 2 * 1.48 * self.typical


@dataclass(frozen=True)
class Group:
    """The workloads of one kind, which share a mean and a noise."""

    kind: str
    rows: list[Row]
    means: dict[str, Mean]
    noise: Noise | None


@dataclass(frozen=True)
class Summary:
    metric: str
    columns: list[str]
    """Those that have anything to show."""
    groups: list[Group]


def summarise(results: Results, metric: str) -> Summary:
    # A micro workload does as many iterations as it takes, so its peak memory tells nothing.
    kinds = (MICRO, APP, PROGRAM) if metric == TIME else (APP, PROGRAM)
    groups = [_group(results, kind, metric) for kind in kinds if results.of_kind(kind)]
    shown = {column for group in groups for row in group.rows for column in row.entries}
    return Summary(metric, [column for column in results.columns if column in shown], groups)


def _group(results: Results, kind: str, metric: str) -> Group:
    noise = _noise(results, metric, kind)
    rows = [_row(results, workload, metric, noise) for workload in results.of_kind(kind)]
    means = _means(rows, results.columns, noise) if len(rows) > 1 else {}
    return Group(kind, rows, means, noise)


def _samples(cell: Cell, metric: str) -> list[float]:
    if cell.failure is not None:
        return []
    return cell.times if metric == TIME else cell.peaks


def _ratio(results: Results, workload: Workload, column: str, metric: str) -> float | None:
    samples = _samples(results.cell(workload, column), metric)
    base = _samples(results.cell(workload, BASE), metric)
    if not samples or not base or not median(samples) or not median(base):
        return None
    return median(samples) / median(base)


def _noise(results: Results, metric: str, kind: str) -> Noise | None:
    ratios = {
        workload.label: _ratio(results, workload, CONTROL, metric)
        for workload in results.of_kind(kind)
    }
    deviations = {
        name: stats.deviation(ratio) for name, ratio in ratios.items() if ratio is not None
    }
    if not deviations:
        return None
    worst = max(deviations, key=lambda name: deviations[name])
    return Noise(median(deviations.values()), deviations[worst], worst)


def _row(results: Results, workload: Workload, metric: str, noise: Noise | None) -> Row:
    base_spread = stats.spread(_samples(results.cell(workload, BASE), metric)) or 0.0
    control = _ratio(results, workload, CONTROL, metric)
    entries: dict[str, Figure | Failure] = {}
    for column in workload.commands:
        cell = results.cell(workload, column)
        samples = _samples(cell, metric)
        if cell.failure is not None:
            entries[column] = cell.failure
        elif samples:
            spread = stats.spread(samples)
            ratio = _ratio(results, workload, column, metric)
            # Three independent estimates of the noise; none alone is sure with so few rounds.
            doubt = max(
                (spread or 0.0) + base_spread,
                stats.deviation(control) if control else 0.0,
                noise.bound if noise else 0.0,
                NEGLIGIBLE,
            )
            # Of fewer than three rounds nobody knows the spread.
            same = ratio is not None and (spread is None or stats.deviation(ratio) <= doubt)
            entries[column] = Figure(median(samples), spread, ratio, same)
    return Row(workload, entries)


def _means(rows: list[Row], columns: list[str], noise: Noise | None) -> dict[str, Mean]:
    ratios = {
        column: [
            entry.ratio
            for row in rows
            if isinstance(entry := row.entries.get(column), Figure) and entry.ratio is not None
        ]
        for column in columns
    }
    means = {
        column: mean
        for column in columns
        if len(ratios[column]) > 1 and (mean := stats.geometric_mean(ratios[column]))
    }
    # libc's own mean may be at 1 by luck; the noise averages out with the root of the number.
    doubt = max(
        stats.deviation(means.get(CONTROL, 1.0)),
        noise.bound / sqrt(len(rows)) if noise else 0.0,
        NEGLIGIBLE,
    )
    return {
        column: Mean(mean, len(ratios[column]), column != BASE and stats.deviation(mean) <= doubt)
        for column, mean in means.items()
    }
