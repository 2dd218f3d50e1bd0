"""Confidence intervals of fractions."""

from __future__ import annotations

import math

_Z95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """The Wilson score interval at 95 % of a binomial proportion (Wilson 1927), within [0, 1].

    Args:
        successes: how many of the trials succeeded, 0 .. n.
        n: the trials, >= 1.

    Returns:
        Lower and upper end: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n).
    """
    p, z2 = successes / n, _Z95 * _Z95
    centre = p + z2 / (2 * n)
    half = _Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    lower, upper = (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)
    return (0.0 if successes == 0 else lower, 1.0 if successes == n else upper)
