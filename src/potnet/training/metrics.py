"""How good predictions are: errors with intervals, beside the mean of the training targets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from potnet.errors import DataError

Metrics = dict[str, Any]


def regression_metrics(
    target: ArrayLike,
    prediction: ArrayLike,
    *,
    baseline: float | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Metrics:
    """Return the errors of predictions.

    Args:
        target: True values; nan where unknown, shape (n,).
        prediction: Predicted values, shape (n,).
        baseline: A constant prediction to compare with, such as the mean of the training targets.
        n_resamples: Bootstrap resamples of the crystals.
        seed: Seed of the bootstrap.

    Returns:
        ``n``, ``mae``, ``rmse``, ``r2`` (None for constant targets), ``mae_low`` and ``mae_high``
        (percentile bootstrap, 95 %), and ``baseline_mae`` if there is a baseline.

    Raises:
        DataError: If no target is known or the lengths differ.
    """
    target, prediction = np.asarray(target, np.float64), np.asarray(prediction, np.float64)
    if target.shape != prediction.shape or target.ndim != 1:
        raise DataError(
            f"metrics: `target` and `prediction` must have the same shape (n,), got "
            f"{target.shape} and {prediction.shape}. Give one prediction per target."
        )
    known = np.isfinite(target)
    target, prediction = target[known], prediction[known]
    if not len(target):
        raise DataError("metrics: `target` must hold a known value, got none. Check the targets.")
    error = prediction - target
    spread = float(np.sum((target - target.mean()) ** 2))
    low, high = bootstrap_interval(np.abs(error), n_resamples=n_resamples, seed=seed)
    metrics: Metrics = {
        "n": len(target),
        "mae": float(np.abs(error).mean()),
        "mae_low": low,
        "mae_high": high,
        "rmse": float(np.sqrt(np.mean(error**2))),
        "r2": 1 - float(np.sum(error**2)) / spread if spread > 0 else None,
    }
    if baseline is not None:
        metrics["baseline_mae"] = float(np.abs(target - baseline).mean())
    return metrics


def bootstrap_interval(
    values: NDArray[np.float64], *, level: float = 0.95, n_resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of ``values``, shape (n,)."""
    rng = np.random.default_rng(seed)
    n = len(values)
    means = [values[rng.integers(n, size=n)].mean() for _ in range(n_resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
