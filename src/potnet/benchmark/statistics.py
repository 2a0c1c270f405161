"""Errors with intervals, and whether two sets of predictions differ by more than chance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potnet.benchmark.predictions import Predictions
from potnet.errors import DataError
from potnet.training.evaluate import regression_metrics

_CHUNK = 2**22  # random numbers at a time


def summarise(predictions: Predictions, *, combine: str = "median") -> dict[str, Any]:
    """Return the errors of one row of a benchmark.

    Args:
        predictions: All folds and seeds; every target known.
        combine: How the seeds predict together.

    Returns:
        ``n``, ``mae``, ``mae_low``, ``mae_high``, ``rmse``, ``r2`` over all crystals (the seeds
        combined, 95 % bootstrap over the crystals); ``folds``, each with ``fold``, ``n``, ``mae``,
        ``rmse``; ``fold_mae_mean`` and ``fold_mae_std`` (population, as MatBench reports);
        ``seeds`` and, for several, ``seed_mae_mean`` and ``seed_mae_std`` (sample) of one alone.
    """
    together = predictions.combined(combine)
    metrics: dict[str, Any] = dict(regression_metrics(together.targets, together.values))
    folds = []
    for fold in np.unique(together.folds):
        part = together.select(together.folds == fold)
        error = part.values - part.targets
        folds.append(
            {
                "fold": int(fold),
                "n": len(part),
                "mae": float(np.abs(error).mean()),
                "rmse": float(np.sqrt(np.mean(error**2))),
            }
        )
    maes = [fold["mae"] for fold in folds]
    metrics |= {
        "folds": folds,
        "fold_mae_mean": float(np.mean(maes)),
        "fold_mae_std": float(np.std(maes)),
    }
    seeds = np.unique(predictions.seeds)
    metrics["seeds"] = len(seeds)
    if len(seeds) > 1:
        alone = [_mae(predictions.select(predictions.seeds == seed)) for seed in seeds]
        metrics["seed_mae_mean"] = float(np.mean(alone))
        metrics["seed_mae_std"] = float(np.std(alone, ddof=1))
    return metrics


def _mae(predictions: Predictions) -> float:
    return float(np.abs(predictions.values - predictions.targets).mean())


@dataclass(frozen=True)
class Comparison:
    """A paired comparison on the same crystals.

    Attributes:
        n: Crystals that both predict and whose target is known.
        only_first, only_second: Crystals that only one of them predicts; they do not count.
        mae_first, mae_second: Mean absolute errors.
        difference: The first minus the second: below zero, the first is better.
        low, high: 95 % bootstrap interval of the difference, over the crystals.
        p_value: Chance of a difference at least as large if it were arbitrary, crystal by crystal,
            which of the two made which error (sign-flip permutation, two-sided).
        wins: Share of the crystals on which the first is closer; ties count half.
    """

    n: int
    only_first: int
    only_second: int
    mae_first: float
    mae_second: float
    difference: float
    low: float
    high: float
    p_value: float
    wins: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return asdict(self)

    @property
    def verdict(self) -> str:
        """The result in words."""
        if self.low <= 0 <= self.high:
            return "no significant difference"
        return f"the {'first' if self.difference < 0 else 'second'} is better"


def compare(
    first: Predictions,
    second: Predictions,
    *,
    combine: str = "median",
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two sets of predictions crystal by crystal.

    The crystals are the sample: the interval says what other crystals of the same kind would
    give, with the trained networks as they are. It does not cover training with other seeds.

    Args:
        first: Predictions; those of several seeds are combined.
        second: The same; targets need to be in one of the two.
        combine: How several seeds predict together.
        n_resamples: Resamples of the bootstrap, and of the permutation.
        seed: Of both.

    Raises:
        DataError: If no crystal with a target is in both, or the targets contradict.
    """
    a, b = first.combined(combine), second.combined(combine)
    shared, rows_a, rows_b = np.intersect1d(a.ids, b.ids, return_indices=True)
    target_a, target_b = a.targets[rows_a], b.targets[rows_b]
    both = np.isfinite(target_a) & np.isfinite(target_b)
    off = both & ~np.isclose(target_a, target_b, rtol=1e-5, atol=1e-8)
    if off.any():
        k = int(np.flatnonzero(off)[0])
        raise DataError(
            f"compare: both tables must have the same targets, got {target_a[k]:g} and "
            f"{target_b[k]:g} for {shared[k]!r}. Compare predictions of one quantity in one unit."
        )
    target = np.where(np.isfinite(target_a), target_a, target_b)
    known = np.isfinite(target)
    if not known.any():
        raise DataError(
            "compare: the tables must share a crystal whose target is known, got none. "
            "Give tables of the same suite, at least one of them with targets."
        )
    error_a = np.abs(a.values[rows_a] - target)[known]
    error_b = np.abs(b.values[rows_b] - target)[known]
    differences = error_a - error_b
    low, high = _bootstrap(differences, n_resamples, seed)
    return Comparison(
        n=int(known.sum()),
        only_first=len(a) - len(shared),
        only_second=len(b) - len(shared),
        mae_first=float(error_a.mean()),
        mae_second=float(error_b.mean()),
        difference=float(differences.mean()),
        low=low,
        high=high,
        p_value=sign_flip_p(differences, n_resamples=n_resamples, seed=seed),
        wins=float(np.mean(differences < 0) + np.mean(differences == 0) / 2),
    )


def sign_flip_p(
    differences: NDArray[np.float64], *, n_resamples: int = 10_000, seed: int = 0
) -> float:
    """Return the two-sided p value of the mean of paired ``differences``, shape (n,).

    Under the null hypothesis each difference is as likely as its negative (Fisher 1935, The Design
    of Experiments, section 21). All 2**n choices of signs are tried where they are no more than
    ``n_resamples``, else a random sample of them, to which the observed one is added.
    """
    n = len(differences)
    observed = abs(float(differences.sum())) * (1 - 1e-12)
    if n < 63 and 2**n <= n_resamples:
        choices = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float(np.mean(np.abs((1 - 2 * choices) @ differences) >= observed))
    rng = np.random.default_rng(seed)
    hits = 0
    for size in _chunks(n_resamples, n):
        signs = 1.0 - 2.0 * rng.integers(0, 2, size=(size, n), dtype=np.int8)
        hits += int(np.sum(np.abs(signs @ differences) >= observed))
    return (1 + hits) / (1 + n_resamples)


def _bootstrap(values: NDArray[np.float64], n_resamples: int, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean."""
    rng = np.random.default_rng(seed)
    n = len(values)
    means = [
        values[rng.integers(n, size=(size, n))].mean(axis=1) for size in _chunks(n_resamples, n)
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)


def _chunks(total: int, width: int) -> list[int]:
    size = max(1, _CHUNK // width)
    return [min(size, total - start) for start in range(0, total, size)]
