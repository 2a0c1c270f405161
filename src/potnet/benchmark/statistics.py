"""Errors with intervals, and whether two sets of predictions differ by more than chance."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potnet.benchmark.predictions import PredictionTable
from potnet.benchmark.suites import Metric
from potnet.errors import DataError
from potnet.training.metrics import covariance, regression_metrics, roc_auc

_CHUNK = 2**22  # random numbers at a time


def summarise(
    predictions: PredictionTable, *, combine: str = "mean", metric: Metric = "mae"
) -> dict[str, Any]:
    """Return the errors of one row of a benchmark.

    Args:
        predictions: All folds and seeds; every target known.
        combine: How the seeds predict together.
        metric: ``roc_auc`` for targets of 0 and 1: adds ``roc_auc`` with ``_low`` and ``_high``
            (DeLong), ``fold_roc_auc_mean`` and ``_std``, and ``balanced_accuracy``, which is the
            ROC-AUC of probabilities that were rounded to 0 or 1.

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
    if metric == "roc_auc":
        metrics |= _separation(together)
    seeds = np.unique(predictions.seeds)
    metrics["seeds"] = len(seeds)
    if len(seeds) > 1:
        alone = [_mae(predictions.select(predictions.seeds == seed)) for seed in seeds]
        metrics["seed_mae_mean"] = float(np.mean(alone))
        metrics["seed_mae_std"] = float(np.std(alone, ddof=1))
    return metrics


def _separation(predictions: PredictionTable) -> dict[str, float]:
    """Return how well probabilities tell 1 from 0."""
    area, parts = roc_auc(predictions.targets, predictions.values)
    reach = 1.96 * float(np.sqrt(covariance(parts, parts)))
    parts = [predictions.select(predictions.folds == k) for k in np.unique(predictions.folds)]
    areas = [roc_auc(part.targets, part.values)[0] for part in parts]
    rounded = (predictions.values > 0.5).astype(float)
    return {
        "roc_auc": area,
        "roc_auc_low": area - reach,
        "roc_auc_high": min(1.0, area + reach),
        "fold_roc_auc_mean": float(np.mean(areas)),
        "fold_roc_auc_std": float(np.std(areas)),
        "balanced_accuracy": roc_auc(predictions.targets, rounded)[0],
    }


def _mae(predictions: PredictionTable) -> float:
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
    first: PredictionTable,
    second: PredictionTable,
    *,
    combine: str = "mean",
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
    pair = _Matched.of(first, second, combine)
    error_a, error_b = (np.abs(values - pair.targets) for values in pair.values)
    differences = error_a - error_b
    low, high = _bootstrap(differences, n_resamples, seed)
    return Comparison(
        **pair.counts,
        mae_first=float(error_a.mean()),
        mae_second=float(error_b.mean()),
        difference=float(differences.mean()),
        low=low,
        high=high,
        p_value=sign_flip_p(differences, n_resamples=n_resamples, seed=seed),
        wins=float(np.mean(differences < 0) + np.mean(differences == 0) / 2),
    )


@dataclass(frozen=True)
class AreaComparison:
    """A paired comparison of ROC-AUC on the same crystals.

    Attributes:
        n, only_first, only_second: As :class:`Comparison` has them.
        roc_auc_first, roc_auc_second: The areas.
        difference: The first minus the second: above zero, the first is better.
        low, high: 95 % interval of the difference.
        p_value: Chance of a difference at least as large if the areas were equal, two-sided.
    """

    n: int
    only_first: int
    only_second: int
    roc_auc_first: float
    roc_auc_second: float
    difference: float
    low: float
    high: float
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return asdict(self)


def compare_areas(
    first: PredictionTable, second: PredictionTable, *, combine: str = "mean"
) -> AreaComparison:
    """Compare how well two sets of predictions tell 1 from 0 (DeLong et al. 1988).

    Args:
        first: Predictions; those of several seeds are combined.
        second: The same; targets need to be in one of the two.
        combine: How several seeds predict together.

    Raises:
        DataError: If no crystal with a target is in both, the targets contradict, or one class is
            missing.
    """
    pair = _Matched.of(first, second, combine)
    (area_a, a), (area_b, b) = (roc_auc(pair.targets, values) for values in pair.values)
    error = float(np.sqrt(max(0.0, covariance(a, a) + covariance(b, b) - 2 * covariance(a, b))))
    difference = area_a - area_b
    return AreaComparison(
        **pair.counts,
        roc_auc_first=area_a,
        roc_auc_second=area_b,
        difference=difference,
        low=difference - 1.96 * error,
        high=difference + 1.96 * error,
        p_value=math.erfc(abs(difference) / error / math.sqrt(2)) if error else 1.0,
    )


@dataclass(frozen=True, eq=False)
class _Matched:
    """Two predictions of the same crystals, and their targets."""

    counts: dict[str, int]
    targets: NDArray[np.float64]
    values: tuple[NDArray[np.float64], NDArray[np.float64]]

    @staticmethod
    def of(first: PredictionTable, second: PredictionTable, combine: str) -> _Matched:
        """Return the crystals that both predict and whose target is known."""
        a, b = first.combined(combine), second.combined(combine)
        shared, rows_a, rows_b = np.intersect1d(a.ids, b.ids, return_indices=True)
        target_a, target_b = a.targets[rows_a], b.targets[rows_b]
        both = np.isfinite(target_a) & np.isfinite(target_b)
        off = both & ~np.isclose(target_a, target_b, rtol=1e-5, atol=1e-8)
        if off.any():
            k = int(np.flatnonzero(off)[0])
            raise DataError(
                f"compare: both tables must have the same targets, got {target_a[k]:g} and "
                f"{target_b[k]:g} for {shared[k]!r}. Compare predictions of one quantity in one "
                "unit."
            )
        target = np.where(np.isfinite(target_a), target_a, target_b)
        known = np.isfinite(target)
        if not known.any():
            raise DataError(
                "compare: the tables must share a crystal whose target is known, got none. "
                "Give tables of the same suite, at least one of them with targets."
            )
        alone = {"only_first": len(a) - len(shared), "only_second": len(b) - len(shared)}
        values = (a.values[rows_a][known], b.values[rows_b][known])
        return _Matched({"n": int(known.sum()), **alone}, target[known], values)


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
