"""Makes a sample, or a failure, of a finished run."""

import hashlib
import json
import re
import shutil
from pathlib import Path

from runner.measure import OUTPUT_LIMIT, Run, last_lines
from runner.results import Failure, Sample
from runner.workloads import APP, MICRO, Workload

KEPT_LIMIT = 8 * OUTPUT_LIMIT
"""Bytes of outputs that are kept; one more may be begun below it."""

_NANOSECONDS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


def read(workload: Workload, run: Run, outputs: Path) -> Sample | Failure:
    """Keeps in `outputs` what a user's program printed."""
    if run.too_long is not None:
        return Failure("output", too_long(run.too_long))
    if run.timed_out:
        return Failure("timeout", "still running when its time was up (--timeout)")
    if run.exec_error is not None:
        return _failure("no start", run)
    if refusal := _refusal(run):
        return Failure("no preload", f"it ran without this allocator: {refusal}")
    if workload.kind in (MICRO, APP) and run.exit_status != 0:
        return _failure("crash", run)
    if workload.kind == MICRO:
        return _micro(run)
    if workload.kind == APP:
        return _app(run)
    return _sample(
        run,
        run.wall_ns,
        {
            "ending": run.ending,
            "stdout": _keep(run.stdout, outputs),
            "stderr": _keep(run.stderr, outputs),
        },
    )


def _micro(run: Run) -> Sample | Failure:
    try:
        (result,) = json.loads(run.stdout.read_text())["benchmarks"]
        if result.get("error_occurred"):
            return Failure("error", str(result.get("error_message", "no reason given")))
        return _sample(run, float(result["real_time"]) * _NANOSECONDS[result["time_unit"]])
    except (ValueError, KeyError, TypeError):
        return _failure("no result", run)


def _app(run: Run) -> Sample | Failure:
    last = last_lines(run.stdout, 1)
    match = re.fullmatch(r"checksum: ([0-9a-f]{16})", last[0]) if last else None
    if not match:
        return Failure(
            "no result",
            f"its last line is no checksum: {last[0] if last else '(it printed nothing)'}",
        )
    return _sample(run, run.wall_ns, {"checksum": match[1]})


def _sample(run: Run, time_ns: float, evidence: dict[str, str] | None = None) -> Sample:
    return Sample(time_ns, run.peak_bytes, run.user_ns, run.sys_ns, evidence or {})


def _failure(label: str, run: Run) -> Failure:
    return Failure(label, "\n    ".join([run.ending, *last_lines(run.stderr)]))


def _refusal(run: Run) -> str | None:
    """What the loader said if it went on without the library, in the program or in one it started."""
    if run.preload is None:
        return None
    refused = f"'{run.preload}' from LD_PRELOAD cannot be preloaded"
    with run.stderr.open(errors="replace") as lines:
        return next((line.strip() for line in lines if refused in line), None)


def too_long(output: str) -> str:
    return (
        f"its {output} is longer than {OUTPUT_LIMIT >> 20} MiB: "
        "make it print less, or send it to /dev/null (sh -c 'exec PROGRAM ARGS >/dev/null')"
    )


def _keep(output: Path, outputs: Path) -> str:
    """The digest of an output, under which it is kept for showing where two differ, while there is
    room: one that is never the same twice would fill the disk."""
    with output.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    kept = outputs / digest
    if not kept.exists() and sum(one.stat().st_size for one in outputs.iterdir()) <= KEPT_LIMIT:
        shutil.copyfile(output, kept)
    return digest
