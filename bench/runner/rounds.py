"""Runs everything, round after round.

A round runs each workload under each allocator once, one directly after the other: what disturbs the
machine for a while then disturbs them all alike. In which order changes from round to round, since
what a run leaves behind, in the system's memory above all, disturbs the one after it. Micro workloads
and whole programs have rounds of their own, which alternate.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from runner.allocators import BASE
from runner.errors import UsageError, signal_of
from runner.measure import Command, Measurer, Run
from runner.plan import Plan
from runner.progress import Progress
from runner.reading import read, too_long
from runner.results import Failure, Results, empty
from runner.workloads import APP, MICRO, PROGRAM, Workload

Clock = Callable[[], float]


@dataclass
class _Rounds:
    """Of one kind of workloads."""

    workloads: list[Workload]
    done: int = 0
    wanted: int = 1
    seconds: float = 0.0

    @property
    def runs(self) -> int:
        return sum(len(workload.commands) for workload in self.workloads)

    @property
    def mean_seconds(self) -> float:
        return self.seconds / self.done if self.done else 0.0


def run(
    workloads: list[Workload],
    columns: list[str],
    plan: Plan,
    measurer: Measurer,
    outputs: Path,
    progress: Progress,
    clock: Clock = time.monotonic,
) -> Results:
    results = empty(workloads, columns)
    results.min_time_s = plan.min_time_s
    whole = _Rounds([workload for workload in workloads if workload.kind != MICRO])
    micro = _Rounds(results.of_kind(MICRO))
    kinds = [kind for kind in (whole, micro) if kind.workloads]
    _warm_up(workloads)
    try:
        # The first round of each shows how many there can be.
        while behind := [kind for kind in kinds if kind.done < kind.wanted]:
            kind = min(behind, key=lambda one: one.done / one.wanted)
            total = sum(one.runs * one.wanted for one in kinds)
            progress.round(sum(one.done for one in kinds) + 1, kind.runs, total)
            start = clock()
            for workload in kind.workloads:
                _run_workload(workload, kind.done, results, plan, measurer, outputs, progress)
            kind.seconds += clock() - start
            kind.done += 1
            results.seconds = sum(one.seconds for one in kinds)
            results.rounds, results.micro_rounds = whole.done, micro.done
            if all(one.done for one in kinds):
                whole.wanted, micro.wanted = plan.shares(whole.mean_seconds, micro.mean_seconds)
        progress.end(sum(one.runs * one.done for one in kinds))
    except KeyboardInterrupt as interrupt:
        results.interrupted = signal_of(interrupt)
    return results


def _run_workload(
    workload: Workload,
    number: int,
    results: Results,
    plan: Plan,
    measurer: Measurer,
    outputs: Path,
    progress: Progress,
) -> None:
    for column, command in _in_order(workload, number):
        cell = results.cell(workload, column)
        # A crash is enough to know once; the others should not wait for it again.
        if cell.failure is None:
            progress.step(workload.label, column)
            run = measurer.run(_with_length(workload, command, plan))
            if workload.kind == PROGRAM and column == BASE and not cell.samples:
                _check(workload, run, measurer.timeout)
            outcome = read(workload, run, outputs)
            if isinstance(outcome, Failure):
                cell.failure = outcome
            else:
                cell.samples.append(outcome)
        progress.done()


def _check(workload: Workload, run: Run, timeout: float) -> None:
    """Of the first run of all: what keeps a program from being measured under any allocator."""
    if run.exec_error is not None:
        raise UsageError(run.exec_error)
    if run.too_long is not None:
        raise UsageError(f"{workload.label}: {too_long(run.too_long)}")
    if run.timed_out:
        raise UsageError(
            f"{workload.label}: still running after {timeout:g} s under libc: is it a server? "
            "It has to end by itself (--timeout)"
        )


def _in_order(workload: Workload, number: int) -> list[tuple[str, Command]]:
    """The commands of a workload as round `number` runs them: the first as they were given, any other
    at random, and the same each time that the bench is run."""
    commands = list(workload.commands.items())
    if number != 0:
        random.Random(f"{number} {workload.name}").shuffle(commands)
    return commands


def _with_length(workload: Workload, command: Command, plan: Plan) -> Command:
    if workload.kind == MICRO:
        # No unit: Google Benchmark takes "0.1s" only since 1.8, and a plain number always.
        flag = f"--benchmark_min_time={plan.min_time_s}"
        return replace(command, argv=(*command.argv, flag))
    if workload.kind == APP and plan.scale != 1:
        return replace(command, argv=(*command.argv, "--scale", str(plan.scale)))
    return command


def _warm_up(workloads: list[Workload]) -> None:
    """Reads the files once, so that the first round does not measure the disk."""
    commands = [command for workload in workloads for command in workload.commands.values()]
    files = {Path(command.argv[0]) for command in commands}
    files |= {command.preload for command in commands if command.preload}
    for path in files:
        try:
            path.read_bytes()
        except OSError:
            continue
