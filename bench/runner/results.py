"""What the runs gave, before anything is made of it."""

from dataclasses import dataclass, field

from runner.workloads import Workload


@dataclass(frozen=True)
class Sample:
    """One good run."""

    time_ns: float
    """Of one iteration of a micro workload; of the whole process otherwise."""
    peak_bytes: int
    user_ns: int
    sys_ns: int
    evidence: dict[str, str] = field(hash=False, default_factory=dict)
    """What must be the same under every allocator, such as the checksum."""


@dataclass(frozen=True)
class Failure:
    label: str
    """For the table's cell."""
    text: str


@dataclass
class Cell:
    """One workload under one allocator."""

    samples: list[Sample] = field(default_factory=list)
    failure: Failure | None = None

    @property
    def times(self) -> list[float]:
        return [sample.time_ns for sample in self.samples]

    @property
    def peaks(self) -> list[float]:
        return [sample.peak_bytes for sample in self.samples]


@dataclass
class Results:
    workloads: list[Workload]
    columns: list[str]
    cells: dict[tuple[str, str], Cell]
    """By the workload's name and the column; no cell where the column does not have the workload."""
    rounds: int = 0
    """Of the whole programs; the micro workloads have their own."""
    micro_rounds: int = 0
    min_time_s: float = 0.0
    """Of one run of a micro workload."""
    seconds: float = 0.0
    """That all rounds took."""
    interrupted: int = 0
    """The number of the signal that ended the run early, or 0."""

    def cell(self, workload: Workload, column: str) -> Cell:
        return self.cells[workload.name, column]

    def of_kind(self, *kinds: str) -> list[Workload]:
        return [workload for workload in self.workloads if workload.kind in kinds]


def empty(workloads: list[Workload], columns: list[str]) -> Results:
    cells = {
        (workload.name, column): Cell() for workload in workloads for column in workload.commands
    }
    return Results(workloads, columns, cells)
