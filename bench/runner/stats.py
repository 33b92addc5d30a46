"""The few statistics the report is made of."""

import math
import statistics
from collections.abc import Iterable, Sequence


def spread(samples: Sequence[float]) -> float | None:
    """Half the distance between the quartiles, as a share of the median; None below 3 samples.

    Quartiles, because on a machine with other work one sample in five is often far off.
    """
    if len(samples) < 3:
        return None
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
    return (high - low) / 2 / middle if middle else 0.0


def geometric_mean(ratios: Iterable[float]) -> float | None:
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logs) / len(logs)) if logs else None


def deviation(ratio: float) -> float:
    """How far a ratio is from 1, the same for a half as for a double."""
    return max(ratio, 1 / ratio) - 1
