"""The report as JSON: every sample, so that others can compute what they like of it."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from runner import legend
from runner.allocators import BASE, CONTROL
from runner.manifest import Variant
from runner.options import Options
from runner.results import Cell, Results
from runner.summary import Figure, Summary
from runner.workloads import Workload

SCHEMA = 1
"""To be raised when a field goes or changes its meaning; not when one is added."""


def write(
    path: Path,
    options: Options,
    results: Results,
    time: Summary,
    peak: Summary,
    variants: Iterable[Variant],
    machine: dict[str, object],
    revision: dict[str, object],
    failures: list[str],
) -> None:
    report = {
        "schema": SCHEMA,
        "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "sysalloc": revision,
        "machine": machine,
        "settings": {
            "rounds": results.rounds,
            "micro_rounds": results.micro_rounds,
            "micro_min_time_s": results.min_time_s,
            "seconds": round(results.seconds, 1),
            "full": options.full,
            "pin": options.pin,
            "timeout_s": options.timeout,
            "interrupted": results.interrupted != 0,
        },
        "allocators": [{"name": variant.name, "how": legend.how(variant, results)} for variant in variants],
        "columns": {"base": BASE, "control": CONTROL, "all": results.columns},
        "workloads": [_workload(workload, results, time, peak) for workload in results.workloads],
        "geometric_means": {"time": _means(time), "peak": _means(peak)},
        "noise": {"time": _noise(time), "peak": _noise(peak)},
        "failures": failures,
    }
    path.write_text(json.dumps(report, indent=2) + "\n")


def _workload(
    workload: Workload, results: Results, time: Summary, peak: Summary
) -> dict[str, object]:
    return {
        "name": workload.name,
        "kind": workload.kind,
        "about": workload.about,
        "results": {
            column: _cell(
                results.cell(workload, column),
                _figure(time, workload, column),
                _figure(peak, workload, column),
            )
            for column in workload.commands
        },
    }


def _cell(cell: Cell, time: Figure | None, peak: Figure | None) -> dict[str, object]:
    return {
        "failure": {"label": cell.failure.label, "text": cell.failure.text}
        if cell.failure
        else None,
        "time_ns": _metric(time, cell.times),
        "peak_bytes": _metric(peak, cell.peaks),
        "user_ns": [sample.user_ns for sample in cell.samples],
        "sys_ns": [sample.sys_ns for sample in cell.samples],
        "checksums": sorted(
            {
                sample.evidence["checksum"]
                for sample in cell.samples
                if "checksum" in sample.evidence
            }
        ),
    }


def _metric(figure: Figure | None, samples: list[float]) -> dict[str, object]:
    if figure is None:
        return {"samples": samples}
    return {
        "median": figure.median,
        "spread": figure.spread,
        "ratio": figure.ratio,
        "within_noise": figure.same,
        "samples": samples,
    }


def _figure(summary: Summary, workload: Workload, column: str) -> Figure | None:
    entries = (
        row.entries.get(column)
        for group in summary.groups
        for row in group.rows
        if row.workload is workload
    )
    return next((entry for entry in entries if isinstance(entry, Figure)), None)


def _means(summary: Summary) -> dict[str, object]:
    return {
        group.kind: {
            column: {"ratio": mean.ratio, "workloads": mean.count}
            for column, mean in group.means.items()
        }
        for group in summary.groups
    }


def _noise(summary: Summary) -> dict[str, object]:
    return {group.kind: asdict(group.noise) for group in summary.groups if group.noise}
