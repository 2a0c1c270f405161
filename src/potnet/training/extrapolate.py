"""How many more crystals: a power law through the errors of a learning curve, and its doubt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_DRAWS = 2000
REDUCTIONS = (0.1, 0.25, 0.5)  # of the error, for which the crystals are asked
LEVEL = 0.9


@dataclass(frozen=True)
class Needed:
    """How many training crystals a smaller error takes.

    Attributes:
        reduction: By which share the error is to become smaller.
        crystals: How many that takes in all; inf where errors do not fall.
        low: Lower end of the 90 % interval.
        high: Upper end; inf where it cannot be told from never.
    """

    reduction: float
    crystals: float
    low: float
    high: float


@dataclass(frozen=True)
class PowerLaw:
    """The error as ``scale * n ** -exponent`` of the number n of training crystals.

    Attributes:
        exponent: How fast the error falls, with its 90 % interval.
        exponent_low, exponent_high: Ends of the interval.
        scale: The error at one crystal, which has no meaning of its own.
        low, high: 90 % bootstrap interval of each measured error, over the test crystals.
        needed: Crystals for smaller errors.
        sizes: Where the law was fitted.
    """

    exponent: float
    exponent_low: float
    exponent_high: float
    scale: float
    low: tuple[float, ...]
    high: tuple[float, ...]
    needed: tuple[Needed, ...]
    sizes: tuple[int, ...]

    def at(self, n: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the error with ``n`` crystals."""
        return self.scale * np.asarray(n, dtype=np.float64) ** -self.exponent

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; what is infinite is null."""

        def finite(value: float) -> float | None:
            return value if math.isfinite(value) else None

        return {
            "exponent": self.exponent,
            "exponent_low": self.exponent_low,
            "exponent_high": self.exponent_high,
            "scale": self.scale,
            "low": list(self.low),
            "high": list(self.high),
            "needed": [
                {key: finite(value) for key, value in vars(needed).items()}
                for needed in self.needed
            ],
        }

    def sentence(self, name: str) -> str:
        """Return the answer to "how many more calculations do I need?" in words."""
        n, half = self.sizes[-1], self.needed[-1]
        fall = (
            f"{name}: the error goes as n^{-self.exponent:+.2f} ({-self.exponent_high:+.2f} to "
            f"{-self.exponent_low:+.2f}) with n training crystals, now {n:,}."
        )
        if not math.isfinite(half.crystals) or self.exponent_low <= 0:
            return f"{fall} It cannot be told from not falling: more crystals may not help."
        more = half.crystals - n
        high = f"{_rounded(half.high - n)}" if math.isfinite(half.high) else "any number"
        return (
            f"{fall} Half of it takes about {_rounded(more)} more "
            f"({_rounded(max(half.low - n, 0))} to {high})."
        )


def fit_power_law(
    sizes: NDArray[np.int64], errors: NDArray[np.float64], *, seed: int = 0
) -> PowerLaw:
    """Return the power law through mean errors, a straight line between their logarithms.

    Its doubt has two parts that are drawn together: which crystals the test happened to have
    (bootstrap, the same ones for all sizes), and the scatter of the runs around the line, by the
    usual theory of least squares. That the law goes on beyond the measured sizes is an assumption;
    errors of labels make the error flatten out somewhere.

    Args:
        sizes: Training crystals of each run, rising, shape (n_sizes,), three at least.
        errors: Absolute errors of each run for the same test crystals, shape (n_sizes, n_test).
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    n_sizes, n_test = errors.shape
    floor = np.finfo(float).tiny
    x = np.log(sizes)
    design = np.stack([np.ones_like(x), x], axis=1)
    solve = np.linalg.pinv(design)
    means = np.maximum(errors.mean(1), floor)
    line = solve @ np.log(means)
    picks = rng.integers(n_test, size=(N_DRAWS, n_test))
    drawn = np.stack([np.maximum(errors[:, pick].mean(1), floor) for pick in picks])
    lines = np.log(drawn) @ solve.T
    dof = n_sizes - 2
    scatter = float(((np.log(means) - design @ line) ** 2).sum() / dof)
    root = np.linalg.cholesky(np.linalg.inv(design.T @ design))
    noise = rng.standard_normal((N_DRAWS, 2)) @ root.T * math.sqrt(scatter)
    # Student's t: the scatter itself is known from few runs only.
    lines = lines + noise / np.sqrt(rng.chisquare(dof, N_DRAWS) / dof)[:, None]
    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    exponent_low, exponent_high = np.quantile(-lines[:, 1], tails)
    low, high = np.quantile(drawn, tails, axis=0)
    return PowerLaw(
        exponent=float(-line[1]),
        exponent_low=float(exponent_low),
        exponent_high=float(exponent_high),
        scale=float(np.exp(line[0])),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        needed=tuple(_needed(r, -line[1], -lines[:, 1], int(sizes[-1])) for r in REDUCTIONS),
        sizes=tuple(sizes.tolist()),
    )


def _needed(reduction: float, exponent: float, drawn: NDArray[np.float64], n: int) -> Needed:
    """Return the crystals that the law itself asks for, from its value at ``n``."""

    def crystals(b: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(over="ignore", divide="ignore"):
            factor = np.exp(-math.log(1 - reduction) / np.where(b > 0, b, np.nan))
        return np.where(b > 0, n * factor, np.inf)

    low, high = np.quantile(crystals(drawn), ((1 - LEVEL) / 2, (1 + LEVEL) / 2), method="nearest")
    return Needed(reduction, float(crystals(np.array(exponent))), float(low), float(high))


def _rounded(count: float) -> str:
    """Return a number of crystals with two digits, for it is not known better."""
    if count >= 1e9:
        return f"{count:.0e}"
    digits = max(0, math.floor(math.log10(count)) - 1) if count >= 1 else 0
    return f"{round(count, -digits):,.0f}"
