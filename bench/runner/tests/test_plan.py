"""How the time is shared out."""

import unittest

from runner import plan


class Plan(unittest.TestCase):
    def test_default_run_fits_in_the_budget(self) -> None:
        planned = plan.make(full=False, rounds=None)
        for whole_s, micro_s in ((21.0, 16.0), (0.0, 16.0), (40.0, 0.0), (5.0, 30.0), (0.1, 0.1)):
            with self.subTest(whole_s=whole_s, micro_s=micro_s):
                whole, micro = planned.shares(whole_s, micro_s)
                self.assertLessEqual(whole * whole_s + micro * micro_s, plan.BUDGET_S)
                self.assertGreaterEqual(min(whole, micro), plan.MIN_RUNS)

    def test_never_fewer_than_three_runs(self) -> None:
        self.assertEqual(plan.make(full=False, rounds=None).shares(1000.0, 1000.0), (3, 3))

    def test_little_to_do_is_not_done_endlessly(self) -> None:
        self.assertEqual(plan.make(full=False, rounds=None).shares(0.01, 0.01), (15, 30))

    def test_rounds_asked_for_are_rounds_given(self) -> None:
        for full in (False, True):
            self.assertEqual(plan.make(full=full, rounds=2).shares(1000.0, 1000.0), (2, 2))

    def test_full_has_no_budget(self) -> None:
        planned = plan.make(full=True, rounds=None)
        self.assertGreater(min(planned.shares(1000.0, 1000.0)), plan.MIN_RUNS)
        self.assertGreater(planned.scale, 1)
