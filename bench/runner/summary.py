"""From samples to figures: medians, ratios to libc, spreads, means, and what of it is only noise."""

from dataclasses import dataclass
from math import sqrt
from statistics import median

from runner import stats
from runner.allocators import BASE, CONTROL
from runner.results import Cell, Failure, Results
from runner.workloads import APP, MICRO, PROGRAM, Workload

TIME, PEAK = "time", "peak"


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
class Group:
    """The workloads of one kind, which share a mean."""

    kind: str
    rows: list[Row]
    means: dict[str, Mean]


@dataclass(frozen=True)
class Noise:
    """How far libc is from itself, as a share."""

    typical: float
    worst: float
    worst_workload: str


@dataclass(frozen=True)
class Summary:
    metric: str
    columns: list[str]
    groups: list[Group]
    noise: Noise | None


def summarise(results: Results, metric: str) -> Summary:
    # A micro workload does as many iterations as it takes, so its peak memory tells nothing.
    kinds = (MICRO, APP, PROGRAM) if metric == TIME else (APP, PROGRAM)
    noise = _noise(results, metric, kinds)
    groups = []
    for kind in kinds:
        rows = [_row(results, workload, metric, noise) for workload in results.of_kind(kind)]
        if rows:
            groups.append(
                Group(kind, rows, _means(rows, results.columns, noise) if len(rows) > 1 else {})
            )
    return Summary(metric, results.columns, groups, noise)


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


def _noise(results: Results, metric: str, kinds: tuple[str, ...]) -> Noise | None:
    ratios = {
        workload.label: _ratio(results, workload, CONTROL, metric)
        for workload in results.of_kind(*kinds)
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
                noise.typical if noise else 0.0,
            )
            same = ratio is not None and stats.deviation(ratio) <= doubt
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
        if (mean := stats.geometric_mean(ratios[column])) is not None
    }
    # libc's own mean may be at 1 by luck, so the noise of one workload counts too, less for each it is averaged over.
    doubt = max(
        stats.deviation(means.get(CONTROL, 1.0)), noise.typical / sqrt(len(rows)) if noise else 0.0
    )
    return {
        column: Mean(mean, len(ratios[column]), column != BASE and stats.deviation(mean) <= doubt)
        for column, mean in means.items()
    }
