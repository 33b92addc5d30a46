"""Numbers as people read them, with no more digits than the measurement is good for."""

import math


def ratio(value: float, spread: float | None) -> str:
    """Down to the first digit that the spread leaves in doubt, and at most three digits."""
    doubt = value * (spread or 0.0)
    decimals = 2 if doubt < 0.1 else 1 if doubt < 1 else 0
    if value >= 10:
        decimals = min(decimals, 1 if value < 100 else 0)
    elif value < 0.1:
        decimals = 3
    return f"{value:.{decimals}f}"


def percent(share: float) -> str:
    """Rounded up: never less than it is."""
    return f"{math.ceil(share * 100 - 1e-9)}"


def time(ns: float, spread: float | None = None) -> str:
    return _scaled(ns, (("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)), spread)


def memory(size: float, spread: float | None = None) -> str:
    return _scaled(size, (("KiB", 2.0**10), ("MiB", 2.0**20), ("GiB", 2.0**30)), spread)


def _scaled(value: float, units: tuple[tuple[str, float], ...], spread: float | None) -> str:
    # Below 999.5, so that rounding does not give 1000 of the smaller unit.
    name, factor = next((unit for unit in units if value < 999.5 * unit[1]), units[-1])
    scaled = value / factor
    digits = 3 if spread is None or spread < 0.05 else 2
    whole = len(str(int(scaled))) if scaled >= 1 else 1
    return f"{scaled:.{max(0, digits - whole)}f} {name}"
