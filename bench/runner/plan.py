"""How many rounds, and how long a micro workload runs in each, so that all of it fits in the time.

Applications and programs take what they take; the micro workloads get what is left.
"""

from dataclasses import dataclass

BUDGET_S = 165.0
"""Under three minutes with the start, the report and a slow machine's surprises."""

MIN_ROUNDS = 3
MAX_ROUNDS = 7
MAX_PROGRAM_ROUNDS = 15

# A micro run takes a process's start, then a few tries to find the number of iterations.
START_S = 0.03
TRIES = 1.7

GOOD_MIN_TIME_S = 0.05
"""Above this, another round tells more than a longer one."""
SHORTEST_MIN_TIME_S = 0.005
LONGEST_MIN_TIME_S = 0.2


@dataclass(frozen=True)
class Plan:
    min_rounds: int
    max_rounds: int
    budget_s: float | None
    min_time_s: float | None
    """None: to be chosen once the applications' time is known."""
    scale: int
    """How much more than usual an application does."""

    def micro_time(self, micro_runs: int, other_s: float) -> float:
        """The minimum time of each of a round's micro runs, when the rest of the round takes `other_s`."""
        if self.min_time_s is not None or self.budget_s is None or micro_runs == 0:
            return self.min_time_s or LONGEST_MIN_TIME_S
        fitting = 0.0
        for rounds in range(self.max_rounds, self.min_rounds - 1, -1):
            per_run = (self.budget_s / rounds - other_s) / micro_runs
            fitting = (per_run - START_S) / TRIES
            if fitting >= GOOD_MIN_TIME_S:
                break
        return min(max(fitting, SHORTEST_MIN_TIME_S), LONGEST_MIN_TIME_S)

    def rounds(self, round_s: float) -> int:
        """How many rounds of this length there will be."""
        if self.budget_s is None:
            return self.max_rounds
        fitting = int(self.budget_s / round_s) if round_s > 0 else self.max_rounds
        return min(max(fitting, self.min_rounds), self.max_rounds)


def make(*, full: bool, rounds: int | None, program: bool) -> Plan:
    if full:
        count = rounds or (30 if program else 12)
        return Plan(count, count, None, min_time_s=0.5, scale=4)
    if rounds:
        return Plan(rounds, rounds, BUDGET_S, None, scale=1)
    return Plan(MIN_ROUNDS, MAX_PROGRAM_ROUNDS if program else MAX_ROUNDS, BUDGET_S, None, scale=1)
