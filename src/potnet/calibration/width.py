"""How wide the interval of a prediction is: below it and above it, from how hard it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from potnet.calibration.conformal import conformal_halfwidth, interval_scores
from potnet.calibration.difficulty import Difficulty

N_FOLDS = 10
PER_BAND = 150  # crystals for each factor of the width
MAX_BANDS = 5
LEAST = 1e-6  # factor of a width, by which may be divided
WORTH = 0.02  # of the score, from which sides get factors of their own
POINT = 1e-3  # standard deviations: an end that is nearer is the prediction itself
NEIGHBOURS = (5, 10, 30)  # training crystals whose errors count


@dataclass(frozen=True)
class Learned:
    """What errors on the training crystals say of one target.

    They are smaller than on others, for they were learned, but large where others are large, and
    there are many of them.

    Attributes:
        difficulty: Of the training crystals.
        values: Of the target at the points of the familiarity, standardised, shape (n_points,).
        errors: Absolute errors there, in units of their mean, shape (n_points,).
    """

    difficulty: Difficulty
    values: NDArray[np.float64]
    errors: NDArray[np.float64]

    @classmethod
    def fit(
        cls,
        columns: NDArray[np.float64],
        shares: NDArray[np.float64],
        outputs: NDArray[np.float64],
        errors: NDArray[np.float64],
        n_points: int,
        level: float,
    ) -> Learned | None:
        """Return what the errors say; None if fewer than a band of them is known, or all are zero.

        Args:
            columns: What says how hard training crystals are, shape (n, n_columns).
            shares: Their compositions, shape (n, n_elements).
            outputs: What is predicted for them, standardised, shape (n,).
            errors: Of that, nan where unknown, shape (n,).
            n_points: How many of them, the first, are points of the familiarity.
            level: Share of the errors that should be smaller.
        """
        known = np.isfinite(errors)
        size = np.abs(errors[known]).mean() if known.sum() >= PER_BAND else 0.0
        if not size:
            return None
        found = Difficulty.fit(columns[known], shares[known], np.abs(errors[known]), level)
        # Where the value is not known the model's own stands for it, and an error like others.
        values = (outputs - np.where(known, errors, 0))[:n_points]
        sizes = np.where(known, np.abs(errors) / size, 1.0)[:n_points]
        return cls(found, *(v.astype(np.float16).astype(np.float64) for v in (values, sizes)))

    def columns(
        self,
        columns: NDArray[np.float64],
        shares: NDArray[np.float64],
        outputs: NDArray[np.float64],
        near: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Return numbers that say how hard crystals are, shape (n, 4 + len(NEIGHBOURS)).

        Args:
            columns: As of the training crystals, shape (n, n_columns).
            shares: Compositions, shape (n, n_elements).
            outputs: What is predicted, shape (n,).
            near: The nearest points of each crystal, the nearest first, shape (n, n_near).
        """
        found = [np.log(self.difficulty.of(columns, shares))]
        errors, values = self.errors[near], self.values[near[:, : NEIGHBOURS[0]]]
        found += [np.log(errors[:, :n].mean(1) + 0.05) for n in NEIGHBOURS]
        off = values.mean(1) - outputs
        found += [off, np.log(np.abs(off) + 0.01), np.log(values.std(1) + 0.01)]
        return np.stack(found, axis=1)

    def arrays(self) -> dict[str, NDArray]:
        """Return the numbers by name, as small as they may be."""
        found = {"values": self.values.astype(np.float16), "errors": self.errors.astype(np.float16)}
        return found | {f"difficulty.{n}": v for n, v in self.difficulty.arrays().items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray]) -> Learned:
        """Return what :meth:`arrays` says."""
        difficulty = Difficulty.from_arrays(under(arrays, "difficulty."))
        return cls(difficulty, *(arrays[n].astype(np.float64) for n in ("values", "errors")))


@dataclass(frozen=True)
class Width:
    """How far the ends of an interval are from the prediction, from its difficulty.

    Attributes:
        difficulty: Of the prediction.
        knots: Logarithms of difficulties, rising, shape (n_bands,).
        factors: What the difficulty is multiplied with there, below and above the prediction,
            shape (2, n_bands).
        hinges: Where the slope in the prediction may change, shape (n_hinges,).
        learned: What training crystals say; None if the difficulty was measured without them.
    """

    difficulty: Difficulty
    knots: NDArray[np.float64]
    factors: NDArray[np.float64]
    hinges: NDArray[np.float64]
    learned: Learned | None = None

    @classmethod
    def fit(
        cls,
        columns: NDArray[np.float64],
        shares: NDArray[np.float64],
        errors: NDArray[np.float64],
        hinges: NDArray[np.float64],
        learned: Learned | None,
        level: float,
    ) -> Width | None:
        """Return the width that covers a share ``level`` of crystals that were held out.

        Each crystal's difficulty is that of a fit to the others, so that it does not know the
        error. Both ends are as far away, or errors upward and downward have factors of their own:
        what scores better.

        Args:
            columns: What says how hard they are, shape (n, n_columns).
            shares: Their compositions, shape (n, n_elements).
            errors: What is predicted less what is true, shape (n,).
            hinges: Kept for the columns of others.
            learned: Kept for the columns of others.
            level: Share of crystals that an interval should cover.
        """
        sizes, folds = np.empty(len(errors)), folds_of(shares)
        for fold in range(folds.max() + 1):
            rest, out = folds != fold, folds == fold
            found = Difficulty.fit(columns[rest], shares[rest], np.abs(errors[rest]), level)
            sizes[out] = found.of(columns[out], shares[out])
        fits = [_scaled_bands(sizes, errors, folds, level, f) for f in (_alike, _by_side)]
        alike, by_side = fits
        if alike is None or by_side is None:
            return None
        _, scaled = by_side if by_side[0] < (1 - WORTH) * alike[0] else alike
        difficulty = Difficulty.fit(columns, shares, np.abs(errors), level)
        return cls(difficulty, *scaled, hinges, learned)

    def of(self, columns: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far the ends are below and above the prediction, standardised, (2, n)."""
        halves = _halves(self.difficulty.of(columns, shares), self.knots, self.factors)
        return np.where(halves < POINT, 0.0, halves)

    def times(self, factor: float) -> Width:
        """Return a width that is ``factor`` times as large."""
        return replace(self, factors=self.factors * max(factor, LEAST))

    def arrays(self) -> dict[str, NDArray]:
        """Return the numbers by name."""
        found = {name: getattr(self, name) for name in ("knots", "factors", "hinges")}
        found |= {f"difficulty.{n}": v for n, v in self.difficulty.arrays().items()}
        if self.learned is not None:
            found |= {f"learned.{n}": v for n, v in self.learned.arrays().items()}
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray]) -> Width:
        """Return the width of :meth:`arrays`."""
        factors, learned = arrays["factors"], under(arrays, "learned.")
        if factors.ndim == 1:  # archives from when both sides had the same, as logarithms
            factors = np.exp(np.stack([factors, factors]))
        return cls(
            Difficulty.from_arrays(under(arrays, "difficulty.")),
            arrays["knots"],
            factors,
            arrays["hinges"],
            Learned.from_arrays(learned) if learned else None,
        )


def under(arrays: Mapping[str, NDArray], prefix: str) -> dict[str, NDArray]:
    """Return the arrays whose names begin with ``prefix``, under the rest of their names."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def folds_of(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of the fold of each crystal; those of one composition stay together."""
    _, group = np.unique(shares.round(6), axis=0, return_inverse=True)
    group = group.ravel()
    order = np.random.default_rng(0).permutation(group.max() + 1)
    return order[group] % min(N_FOLDS, len(order))


def excess(errors: NDArray[np.float64], halves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by what factor the ends ``halves``, (2, n), are too near for each error, (n,)."""
    return np.maximum(errors / halves[0], -errors / halves[1])


_Factors = Callable[[NDArray[np.float64], float], "list[float]"]


def _alike(ratios: NDArray[np.float64], level: float) -> list[float]:
    """Return the same factor for both sides."""
    return [float(np.quantile(np.abs(ratios), level))] * 2


def _by_side(ratios: NDArray[np.float64], level: float) -> list[float]:
    """Return a factor for errors that are too high, for which the end below is, and too low."""
    return [float(np.quantile(side, (1 + level) / 2)) for side in (ratios, -ratios)]


def _scaled_bands(
    sizes: NDArray[np.float64],
    errors: NDArray[np.float64],
    folds: NDArray[np.int64],
    level: float,
    factors_of: _Factors,
) -> tuple[float, tuple[NDArray[np.float64], NDArray[np.float64]]] | None:
    """Return the score of intervals, and knots and factors that cover a share ``level``.

    The factors of each crystal's band come from the other folds. Points, as the intervals of sure
    metals are, cover more than asked, and cannot cover less: the others are then to cover
    a share between the level and what would make all together cover it. None if there are too few.
    """
    halves = np.empty((2, len(sizes)))
    for fold in range(folds.max() + 1):
        rest, out = folds != fold, folds == fold
        halves[:, out] = _halves(sizes[out], *_bands(sizes[rest], errors[rest], level, factors_of))
    needed = np.maximum(excess(errors, halves), 0)
    is_point = halves.max(0) < POINT
    found = [
        conformal_halfwidth(needed[rows], level)
        for rows in (np.full_like(is_point, True), ~is_point)
        if rows.any()
    ]
    if None in found:
        return None
    factor = float(np.exp(np.log(np.maximum(np.array(found, np.float64), LEAST)).mean()))
    lower, upper = -factor * halves[0], factor * halves[1]
    score = float(interval_scores(-errors, lower, upper, level).mean())
    knots, factors = _bands(sizes, errors, level, factors_of)
    return score, (knots, factor * factors)


def _halves(
    sizes: NDArray[np.float64], knots: NDArray[np.float64], factors: NDArray[np.float64]
) -> NDArray[np.float64]:
    return sizes * np.array([np.interp(np.log(sizes), knots, side) for side in factors])


def _bands(
    sizes: NDArray[np.float64], errors: NDArray[np.float64], level: float, factors_of: _Factors
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return logarithms of difficulties, and the factors that ``level`` of the crystals there need.

    Crystals are ordered by difficulty and cut into bands: where all errors of a band are larger
    than the difficulty says, or smaller, its intervals must know it.
    """
    n = max(1, min(MAX_BANDS, len(sizes) // PER_BAND))
    bands = np.array_split(np.argsort(sizes, kind="stable"), n)
    knots = [np.log(sizes[rows]).mean() for rows in bands]
    factors = [factors_of(errors[rows] / sizes[rows], level) for rows in bands]
    return np.array(knots), np.maximum(np.array(factors).T, LEAST)
