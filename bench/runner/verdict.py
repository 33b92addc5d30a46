"""Whether an allocator changed what a program does: its checksum, its output, how it ends.

libc runs twice in every round, so what differs between its own runs is the program's own doing and
no allocator is blamed for it.
"""

from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from runner.allocators import BASE, CONTROL
from runner.measure import last_lines
from runner.results import Cell, Failure, Results, Sample
from runner.workloads import APP, PROGRAM, Workload


@dataclass
class Verdict:
    failures: list[str] = field(default_factory=list)
    """Each makes the whole run fail."""
    failing: list[str] = field(default_factory=list)
    """The programs that fail under libc itself."""
    notes: list[str] = field(default_factory=list)


def judge(results: Results, outputs: Path) -> Verdict:
    """Also marks the cells whose time means nothing, because something else was computed in it."""
    verdict = Verdict()
    for workload in results.workloads:
        for column in workload.commands:
            cell = results.cell(workload, column)
            if cell.failure:
                verdict.failures.append(f"{workload.label} under {column}: {cell.failure.text}")
        _compare(results, workload, outputs, verdict)
    return verdict


def _compare(results: Results, workload: Workload, outputs: Path, verdict: Verdict) -> None:
    base, control = results.cell(workload, BASE), results.cell(workload, CONTROL)
    if not base.samples:
        return
    for aspect, expected in base.samples[0].evidence.items():
        if any(value != expected for value in _values(base, aspect) + _values(control, aspect)):
            _unsteady(workload, aspect, verdict)
            continue
        if aspect == "ending" and workload.kind == PROGRAM and expected != "exit status 0":
            verdict.failing.append(_failing(workload, base.samples[0], outputs))
        for column in workload.commands:
            cell = results.cell(workload, column)
            values = _values(cell, aspect)
            wrong = [value for value in values if value != expected]
            if not wrong:
                continue
            difference = _difference(aspect, column, wrong[0], expected, outputs)
            often = "" if len(wrong) == len(values) else f" (in {len(wrong)} of {len(values)} runs)"
            verdict.failures.append(f"{workload.label} under {column}: {difference}{often}")
            # What a program says on stderr may name the allocator; its time stands all the same.
            if aspect != "stderr" and cell.failure is None:
                label = "crash" if aspect == "ending" and wrong[0].startswith("killed") else "WRONG"
                cell.failure = Failure(label, difference)


def _failing(workload: Workload, sample: Sample, outputs: Path) -> str:
    ending = sample.evidence["ending"]
    verb = "was" if ending.startswith("killed") else "ends with"
    stderr = outputs / sample.evidence["stderr"]
    said = last_lines(stderr) if stderr.exists() else []
    return "\n    ".join([f"{workload.label} {verb} {ending} under libc itself", *said])


def _values(cell: Cell, aspect: str) -> list[str]:
    return [sample.evidence[aspect] for sample in cell.samples]


def _unsteady(workload: Workload, aspect: str, verdict: Verdict) -> None:
    if workload.kind == APP:
        verdict.failures.append(
            f"{workload.label}: its checksum is not the same in every run under libc itself"
        )
    else:
        what = "its way of ending" if aspect == "ending" else f"its {aspect}"
        verdict.notes.append(
            f"{workload.label}: {what} is not the same in every run under libc itself, "
            "so it was not compared"
        )


def _difference(aspect: str, column: str, got: str, expected: str, outputs: Path) -> str:
    if aspect == "checksum":
        return f"WRONG checksum {got}, under libc {expected}"
    if aspect == "ending":
        return f"{got}, under libc {expected}"
    if not (outputs / got).exists() or not (outputs / expected).exists():
        return f"{aspect} differs"
    number, line, libc_line = _first_difference(outputs / got, outputs / expected)
    return f"{aspect} differs from line {number}:\n    {column}: {line}\n    libc: {libc_line}"


def _first_difference(one: Path, other: Path) -> tuple[int, str, str]:
    with one.open(errors="replace") as first, other.open(errors="replace") as second:
        for number, (line, other_line) in enumerate(zip_longest(first, second), start=1):
            if line != other_line:
                return number, _shown(line), _shown(other_line)
    # Only bytes that are no text differ.
    return 1, "(binary)", "(binary)"


def _shown(line: str | None) -> str:
    if line is None:
        return "(ends here)"
    text = line.rstrip("\n")
    return text if len(text) <= 160 else text[:160] + "…"
