"""The lines under the tables: what is what, and how far the figures can be trusted."""

from collections.abc import Iterable, Iterator

from runner import units
from runner.allocators import CONTROL, FLOOR
from runner.manifest import Variant
from runner.results import Results
from runner.summary import Summary
from runner.workloads import MICRO, PROGRAM


def lines(
    results: Results, time: Summary, variants: Iterable[Variant], machine: str
) -> Iterator[str]:
    for variant in variants:
        yield f"{variant.name}: {_how(variant, results)}"
    yield f"{CONTROL}: the same as libc, run a second time in every round; how far it is from 1 is noise"
    yield _noise(time)
    if results.rounds >= 3:
        yield "±: half the distance between the quartiles of the rounds, in % of the median"
    if results.rounds > 1:
        yield "~: no difference, being within libc's noise and the spreads"
    if any(group.means for group in time.groups):
        yield "mean: the geometric mean of the ratios" + _incomplete(time)
    yield f"measured: {_amount(results)} on {machine}"


def _how(variant: Variant, results: Results) -> str:
    if results.of_kind(PROGRAM):
        return f"{variant.preload.name} preloaded" if variant.preload else "the program as it is"
    if variant.name == FLOOR:
        return f"no allocator but the least a workload can cost: {variant.how}"
    return variant.how


def _noise(time: Summary) -> str:
    noise = time.noise
    if noise is None:
        return "noise: not known, since libc has no result"
    if sum(len(group.rows) for group in time.groups) == 1:
        return f"noise: libc differs from itself by {_share(noise.typical)}"
    return (
        f"noise: libc differs from itself by {_share(noise.typical)} in the median workload, "
        f"by {_share(noise.worst)} in the worst ({noise.worst_workload})"
    )


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.1 else f"{value:.1%}"


def _incomplete(time: Summary) -> str:
    if all(mean.count == len(group.rows) for group in time.groups for mean in group.means.values()):
        return ""
    return "; * of fewer workloads than there are, so not to be compared with the others'"


def _amount(results: Results) -> str:
    rounds = f"{results.rounds} round{'s' if results.rounds != 1 else ''}"
    if results.of_kind(MICRO) and results.min_time_s is not None:
        return f"{rounds}, each micro run at least {units.time(results.min_time_s * 1e9)},"
    return rounds
