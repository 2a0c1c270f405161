"""What follows from bulk and shear modulus of an isotropic solid, with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple


class Interval(NamedTuple):
    """A value with the ends of its interval; nan where there is none."""

    value: float
    lower: float = math.nan
    upper: float = math.nan


def young_modulus(bulk: Interval, shear: Interval) -> Interval:
    """Return Young's modulus, 9 K G / (3 K + G), in the unit of the moduli.

    >>> round(young_modulus(Interval(160.0), Interval(80.0)).value, 1)
    205.7
    """
    return _propagated(lambda k, g: 9 * k * g / (3 * k + g), bulk, shear, (0.0, math.inf))


def poisson_ratio(bulk: Interval, shear: Interval) -> Interval:
    """Return Poisson's ratio, (3 K - 2 G) / (6 K + 2 G), between -1 and 1/2."""
    return _propagated(lambda k, g: (3 * k - 2 * g) / (6 * k + 2 * g), bulk, shear, (-1.0, 0.5))


def pugh_ratio(bulk: Interval, shear: Interval) -> Interval:
    """Return Pugh's ratio K / G; above 1.75 solids tend to be ductile, below brittle."""
    return _propagated(lambda k, g: k / g, bulk, shear, (0.0, math.inf))


def _propagated(
    function: Callable[[float, float], float],
    bulk: Interval,
    shear: Interval,
    limits: tuple[float, float],
) -> Interval:
    """Return a function of both moduli; its interval as if their errors were independent.

    Each end adds up in squares what the function loses or gains when one modulus goes to an end
    of its interval. Nothing is known where a modulus is not positive: nan.
    """
    if not (bulk.value > 0 and shear.value > 0):
        return Interval(math.nan)
    value = function(bulk.value, shear.value)
    if any(math.isnan(end) for end in (*bulk, *shear)):
        return Interval(value)
    changes = (
        [function(k, shear.value) - value for k in _ends(bulk)],
        [function(bulk.value, g) - value for g in _ends(shear)],
    )
    down = math.hypot(*(min(0.0, *pair) for pair in changes))
    up = math.hypot(*(max(0.0, *pair) for pair in changes))
    low, high = limits
    return Interval(value, max(value - down, low), min(value + up, high))


def _ends(modulus: Interval) -> tuple[float, float]:
    """Return both ends of an interval, the lower one not at zero, where ratios have no value."""
    return max(modulus.lower, 1e-3 * modulus.value), modulus.upper
