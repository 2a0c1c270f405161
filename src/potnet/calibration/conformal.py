"""Intervals that cover a new crystal with a stated chance, and how good intervals are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def conformal_halfwidth(residuals: NDArray[np.float64], level: float) -> float | None:
    """Return the half-width of an interval that covers a new crystal with chance ``level``.

    Split conformal prediction: the ceil((n + 1) level)-th smallest absolute residual of n crystals
    that were not trained on (Vovk et al. 2005; Lei et al., JASA 113, 1094 (2018)). None if n is
    too small for the level. Of residuals divided by a difficulty it is the factor by which that of
    a new crystal is multiplied.
    """
    ordered = np.sort(np.abs(residuals))
    rank = int(np.ceil((len(ordered) + 1) * level - 1e-9))
    return float(ordered[rank - 1]) if rank <= len(ordered) else None


def interval_scores(
    values: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    level: float,
) -> NDArray[np.float64]:
    """Return the score of each interval, the smaller the better.

    The width, and 2 / (1 - level) times the distance of a value that lies outside (Winkler, JASA
    67, 187 (1972); Gneiting and Raftery, JASA 102, 359 (2007)): neither wide intervals nor narrow
    ones that miss are worth it.
    """
    outside = np.maximum(np.maximum(lower - values, values - upper), 0)
    return upper - lower + 2 / (1 - level) * outside
