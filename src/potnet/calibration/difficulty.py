"""How large an error may be: a linear model of its logarithm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

RIDGE = 5.0  # penalty on the slope of a column in units of its spread
RIDGE_OF_SHARES = 10.0  # penalty on the slope of the root of an element's share
WITHIN = 3.0  # spreads from the mean up to which a column counts: no extrapolation far beyond
SMALLEST = 0.02  # of the median error, so that errors that happen to be zero have a logarithm
ROUNDED = 0.3  # how wide the corner of the quantile's loss is, in logarithms of the error
DAMPING = 1e-3  # of the steps, where no crystal is near the quantile
MAX_STEPS = 50


@dataclass(frozen=True)
class Difficulty:
    """How large the error of a prediction may be, from numbers that say how hard it is.

    The logarithm of the size is linear in the columns, which are shifted, scaled and clipped.

    Attributes:
        intercept: The logarithm in the middle of all columns, shape (1,).
        slopes: Of the scaled columns, shape (n_columns,).
        middle: Taken from the columns, shape (n_columns,).
        spread: By which they are divided, shape (n_columns,).
        slopes_of_shares: Of the roots of the elements' shares, shape (119,).
    """

    intercept: NDArray[np.float64]
    slopes: NDArray[np.float64]
    middle: NDArray[np.float64]
    spread: NDArray[np.float64]
    slopes_of_shares: NDArray[np.float64]

    def of(self, columns: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how large the errors may be for rows of ``columns`` and of ``shares``, (n,).

        Columns that were not there when it was fitted stand last, and are left out.
        """
        scaled = _scaled(columns[:, : len(self.middle)], self.middle, self.spread)
        return np.exp(
            self.intercept + scaled @ self.slopes + np.sqrt(shares) @ self.slopes_of_shares
        )

    @classmethod
    def fit(
        cls,
        columns: NDArray[np.float64],
        shares: NDArray[np.float64],
        errors: NDArray[np.float64],
        level: float,
    ) -> Difficulty:
        """Return the difficulty that most likely is the ``level`` quantile of the errors.

        Quantile regression of the logarithm of the error (Koenker and Bassett, Econometrica 46, 33
        (1978)), whose corner is rounded so that Newton's method finds the one minimum, the same on
        every machine up to rounding.

        Args:
            columns: Of crystals that were not trained on, shape (n, n_columns).
            shares: Their compositions, shape (n, n_elements).
            errors: Absolute errors of the predictions, shape (n,).
            level: Share of the errors that should be smaller.
        """
        middle, spread = columns.mean(0), columns.std(0)
        spread = np.where(spread > 1e-9, spread, 1.0)
        ones = np.ones((len(columns), 1))
        rows = np.hstack([ones, _scaled(columns, middle, spread), np.sqrt(shares)])
        sizes = [1, columns.shape[1], shares.shape[1]]
        penalty = np.repeat([0.0, RIDGE, RIDGE_OF_SHARES], sizes)
        floor = SMALLEST * (np.median(errors) or errors.mean() or 1.0)
        found = _quantile_regression(rows, np.log(errors + floor), penalty, level)
        intercept, slopes, of_shares = np.split(found, np.cumsum(sizes)[:2])
        return cls(intercept, slopes, middle, spread, of_shares)

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return the numbers by name."""
        return asdict(self)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float64]]) -> Difficulty:
        """Return the difficulty of :meth:`arrays`."""
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


def _scaled(
    columns: NDArray[np.float64], middle: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.clip((columns - middle) / spread, -WITHIN, WITHIN)


def _quantile_regression(
    rows: NDArray[np.float64],
    values: NDArray[np.float64],
    penalty: NDArray[np.float64],
    level: float,
) -> NDArray[np.float64]:
    """Return weights w so that about a share ``level`` of ``values`` lies below ``rows @ w``.

    The loss of what is left, u = values - rows @ w, is ROUNDED log(1 + exp(u / ROUNDED)) -
    (1 - level) u, and penalty @ w**2 / 2 is added: a convex function.
    """
    weights = np.zeros(rows.shape[1])
    weights[0] = np.quantile(values, level)

    def loss(weights: NDArray[np.float64]) -> float:
        left = values - rows @ weights
        soft = ROUNDED * np.logaddexp(0, left / ROUNDED) - (1 - level) * left
        return float(soft.sum() + penalty @ weights**2 / 2)

    best = loss(weights)
    for _ in range(MAX_STEPS):
        above = 1 / (1 + np.exp((rows @ weights - values) / ROUNDED))
        slope = penalty * weights - rows.T @ (above - (1 - level))
        bend = (rows * (above * (1 - above) / ROUNDED)[:, None]).T @ rows
        step, size = np.linalg.solve(bend + np.diag(penalty + DAMPING), slope), 1.0
        while (found := loss(weights - size * step)) > best and size > 1e-6:
            size /= 2
        if found >= best:
            break
        weights, gain, best = weights - size * step, best - found, found
        if gain < 1e-9 * len(rows):
            break
    return weights
