"""How the time is shared out."""

import unittest

from runner import plan


class Plan(unittest.TestCase):
    def _seconds(self, planned: plan.Plan, micro_runs: int, other_s: float) -> float:
        """What a run would take that costs just what the plan supposes."""
        min_time = planned.micro_time(micro_runs, other_s)
        round_s = other_s + micro_runs * (plan.START_S + plan.TRIES * min_time)
        return round_s * planned.rounds(round_s)

    def test_default_run_fits_in_the_budget(self) -> None:
        planned = plan.make(full=False, rounds=None, program=False)
        for micro_runs, other_s in ((320, 20.0), (100, 0.0), (600, 5.0), (0, 40.0)):
            with self.subTest(micro_runs=micro_runs, other_s=other_s):
                self.assertLessEqual(
                    self._seconds(planned, micro_runs, other_s), plan.BUDGET_S + 1e-6
                )

    def test_never_fewer_than_three_rounds(self) -> None:
        planned = plan.make(full=False, rounds=None, program=False)
        self.assertEqual(planned.rounds(1000.0), 3)
        self.assertEqual(planned.micro_time(300, 1000.0), plan.SHORTEST_MIN_TIME_S)

    def test_little_to_do_gets_more_rounds_not_endless_ones(self) -> None:
        planned = plan.make(full=False, rounds=None, program=False)
        self.assertEqual(planned.rounds(0.1), plan.MAX_ROUNDS)
        self.assertEqual(planned.micro_time(2, 0.0), plan.LONGEST_MIN_TIME_S)

    def test_rounds_asked_for_are_rounds_given(self) -> None:
        planned = plan.make(full=False, rounds=2, program=False)
        self.assertEqual(planned.rounds(1000.0), 2)

    def test_full_has_no_budget(self) -> None:
        planned = plan.make(full=True, rounds=None, program=False)
        self.assertGreater(planned.rounds(1000.0), plan.MAX_ROUNDS)
        self.assertGreater(planned.scale, 1)
