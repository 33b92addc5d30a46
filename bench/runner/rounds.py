"""Runs everything, round after round.

A round runs each workload under each allocator once, one directly after the other: what disturbs the
machine for a while then disturbs them all alike.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from runner.allocators import BASE
from runner.errors import UsageError
from runner.measure import Command, Measurer
from runner.plan import Plan
from runner.progress import Progress
from runner.reading import read
from runner.results import Failure, Results, empty
from runner.workloads import APP, MICRO, PROGRAM, Workload

Clock = Callable[[], float]


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
    # The applications first: the micro workloads share what time these leave.
    ordered = [one for one in workloads if one.kind != MICRO] + results.of_kind(MICRO)
    micro_runs = sum(len(workload.commands) for workload in results.of_kind(MICRO))
    runs = sum(len(workload.commands) for workload in ordered)
    _warm_up(ordered)

    start = clock()
    total = plan.max_rounds
    try:
        while results.rounds < total:
            progress.round(results.rounds + 1, total, runs)
            for workload in ordered:
                if workload.kind == MICRO and results.min_time_s is None:
                    results.min_time_s = plan.micro_time(micro_runs, clock() - start)
                _run_workload(workload, results, plan, measurer, outputs, progress)
            results.rounds += 1
            total = plan.rounds((clock() - start) / results.rounds)
    except KeyboardInterrupt:
        results.interrupted = True
    return results


def _run_workload(
    workload: Workload,
    results: Results,
    plan: Plan,
    measurer: Measurer,
    outputs: Path,
    progress: Progress,
) -> None:
    for column, command in workload.commands.items():
        cell = results.cell(workload, column)
        # A crash is enough to know once; the others should not wait for it again.
        if cell.failure is None:
            progress.step(workload.name, column)
            run = measurer.run(_with_length(workload, command, results, plan))
            if workload.kind == PROGRAM and column == BASE and run.exec_error is not None:
                raise UsageError(run.exec_error)
            outcome = read(workload, run, outputs)
            if isinstance(outcome, Failure):
                cell.failure = outcome
            else:
                cell.samples.append(outcome)
        progress.done()


def _with_length(workload: Workload, command: Command, results: Results, plan: Plan) -> Command:
    if workload.kind == MICRO:
        # Without a unit: Google Benchmark takes "0.1s" only since 1.8, and a plain number in all versions.
        return replace(
            command, argv=(*command.argv, f"--benchmark_min_time={results.min_time_s:.4f}")
        )
    if workload.kind == APP and plan.scale != 1:
        return replace(command, argv=(*command.argv, "--scale", str(plan.scale)))
    return command


def _warm_up(workloads: list[Workload]) -> None:
    """Reads the files once, so that the first round does not measure the disk."""
    files = {
        Path(command.argv[0]) for workload in workloads for command in workload.commands.values()
    }
    files |= {
        command.preload
        for workload in workloads
        for command in workload.commands.values()
        if command.preload
    }
    for path in files:
        try:
            path.read_bytes()
        except OSError:
            continue
