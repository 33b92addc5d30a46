"""The statistics and the way numbers are printed."""

import unittest

from runner import stats, units


class Stats(unittest.TestCase):
    def test_spread_is_half_the_quartile_distance_over_the_median(self) -> None:
        self.assertAlmostEqual(stats.spread([8, 9, 10, 11, 12]) or 0, 0.1)

    def test_spread_ignores_one_wild_sample(self) -> None:
        self.assertAlmostEqual(stats.spread([8, 9, 10, 11, 1200]) or 0, 0.1)

    def test_spread_is_unknown_below_three_samples(self) -> None:
        self.assertIsNone(stats.spread([1, 2]))

    def test_geometric_mean(self) -> None:
        self.assertAlmostEqual(stats.geometric_mean([0.5, 2.0]) or 0, 1.0)
        self.assertIsNone(stats.geometric_mean([]))

    def test_deviation_is_the_same_both_ways(self) -> None:
        self.assertAlmostEqual(stats.deviation(2), stats.deviation(0.5))


class Units(unittest.TestCase):
    def test_ratio_has_no_more_digits_than_its_spread_allows(self) -> None:
        self.assertEqual(units.ratio(0.354, 0.02), "0.35")
        self.assertEqual(units.ratio(0.0053, 0.02), "0.005")
        self.assertEqual(units.ratio(1.542, 0.3), "1.5")
        self.assertEqual(units.ratio(15.42, 0.01), "15.4")
        self.assertEqual(units.ratio(154.2, 0.001), "154")

    def test_percent_rounds_up(self) -> None:
        self.assertEqual(units.percent(0.011), "2")
        self.assertEqual(units.percent(0.03), "3")
        self.assertEqual(units.percent(0.0), "0")

    def test_time(self) -> None:
        self.assertEqual(units.time(4.2345), "4.23 ns")
        self.assertEqual(units.time(15.46, 0.2), "15 ns")
        self.assertEqual(units.time(999.9), "1.00 us")
        self.assertEqual(units.time(1.29e6), "1.29 ms")
        self.assertEqual(units.time(2e11), "200 s")

    def test_memory(self) -> None:
        self.assertEqual(units.memory(193 * 2**20), "193 MiB")
        self.assertEqual(units.memory(1.5 * 2**30), "1.50 GiB")
