"""The lines under the tables: what is what, and how far the figures can be trusted."""

from collections.abc import Iterable, Iterator

from runner import units
from runner.allocators import BASE, CONTROL, FLOOR
from runner.manifest import Variant
from runner.results import Results
from runner.summary import Figure, Group, Summary
from runner.workloads import APP, MICRO, PROGRAM

KINDS = {MICRO: "micro", APP: "apps", PROGRAM: "programs"}


def lines(
    results: Results, time: Summary, variants: Iterable[Variant], machine: str
) -> Iterator[str]:
    for variant in (variant for variant in variants if variant.name in time.columns):
        yield f"{variant.name}: {how(variant, results)}"
    yield f"{CONTROL}: the same as libc, run a second time in every round; how far it is from 1 is noise"
    yield from (_noise(group) for group in time.groups)
    if any(figure.spread is not None for figure in _figures(time)):
        yield "±: half the distance between the quartiles of all runs, in % of the median; none below 0.5"
    if any(figure.spread is None for figure in _figures(time)):
        yield "~: no difference, as far as can be told from so few rounds: it takes 3"
    elif any(figure.same for figure in _figures(time)):
        yield "~: no difference, given the spreads and the noise"
    if any(group.means for group in time.groups):
        yield "mean: the geometric mean of the ratios" + _incomplete(time)
    yield f"measured: {_amount(results)} on {machine}"


def how(variant: Variant, results: Results) -> str:
    """How a workload comes by the allocator."""
    if results.of_kind(PROGRAM):
        is_preloaded = variant.preload is not None and variant.name != BASE
        return f"{variant.preload.name} preloaded" if is_preloaded else "the program as it is"
    if variant.name == FLOOR:
        return f"no allocator but the least a workload can cost: {variant.how}"
    return variant.how


def _noise(group: Group) -> str:
    name, noise = f"noise of {KINDS[group.kind]}", group.noise
    if noise is None:
        return f"{name}: not known, since libc has no result"
    if noise.worst == noise.typical:
        return f"{name}: libc differs from itself by {_share(noise.typical)}"
    return (
        f"{name}: libc differs from itself by {_share(noise.typical)} in the median workload, "
        f"by {_share(noise.worst)} in the worst ({noise.worst_workload})"
    )


def _figures(summary: Summary) -> Iterator[Figure]:
    for group in summary.groups:
        for row in group.rows:
            for column, entry in row.entries.items():
                if column not in (BASE, CONTROL) and isinstance(entry, Figure):
                    yield entry


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.1 else f"{value:.1%}"


def _incomplete(time: Summary) -> str:
    if all(mean.count == len(group.rows) for group in time.groups for mean in group.means.values()):
        return ""
    return "; * of fewer workloads than there are, so not to be compared with the others'"


def _amount(results: Results) -> str:
    amounts = []
    if results.micro_rounds:
        shortest = units.time(results.min_time_s * 1e9)
        amounts.append(
            f"each micro workload {_times(results.micro_rounds)} for at least {shortest}"
        )
    if results.rounds:
        what = "each program" if results.of_kind(PROGRAM) else "each app"
        amounts.append(f"{what} {_times(results.rounds)}")
    return ", ".join(amounts) or "a part of the first round"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
