"""How often everything is run, so that all of it fits in the time.

What disturbs a machine comes and goes within a second or so. Many short runs, spread over the whole
time, therefore tell more than few long ones: a micro workload's runs are as short as they can be, and
it has more of them than an application, whose runs are as long as they are.
"""

from dataclasses import dataclass

BUDGET_S = 165.0
"""Under three minutes with the start, the report and a slow machine's surprises."""

MIN_RUNS = 3
MAX_RUNS = 15
FULL_RUNS = 10
MICRO_RUNS_TO_ONE = 2
"""How many runs a micro workload is to have for each one of an application, if the time allows."""

MIN_TIME_S = 0.02


@dataclass(frozen=True)
class Plan:
    budget_s: float | None
    """None: as long as it takes."""
    runs: int | None
    """Of everything alike, when the user has said so."""
    min_time_s: float
    """Of one run of a micro workload."""
    scale: int
    """How much more than usual an application does."""

    def shares(self, whole_s: float, micro_s: float) -> tuple[int, int]:
        """How many runs of each whole program, and of each micro workload.

        Given how long it takes to run all of the ones, and all of the others, once.
        """
        if self.runs is not None or self.budget_s is None:
            return self.runs or FULL_RUNS, self.runs or FULL_RUNS * MICRO_RUNS_TO_ONE
        whole = _fitting(self.budget_s, whole_s + MICRO_RUNS_TO_ONE * micro_s, MAX_RUNS)
        left = self.budget_s - whole * whole_s
        return whole, _fitting(left, micro_s, whole * MICRO_RUNS_TO_ONE)


def _fitting(budget_s: float, once_s: float, most: int) -> int:
    return min(max(int(budget_s / once_s), MIN_RUNS), most) if once_s > 0 else most


def make(*, full: bool, rounds: int | None) -> Plan:
    if full:
        return Plan(None, rounds, min_time_s=0.1, scale=4)
    return Plan(BUDGET_S, rounds, MIN_TIME_S, scale=1)
