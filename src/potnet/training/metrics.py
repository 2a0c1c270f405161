"""How good predictions are: errors with intervals, beside the mean of the training targets."""

from __future__ import annotations

from collections.abc import Sequence
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


def binary_metrics(
    target: ArrayLike, prediction: ArrayLike, *, baseline: float | None = None
) -> Metrics:
    """Return the errors of the probabilities predicted for a binary target.

    Args:
        target: 0 or 1; nan where unknown, shape (n,).
        prediction: Probabilities of 1, shape (n,).
        baseline: Share of 1 among the training targets.

    Returns:
        What :func:`regression_metrics` does, and ``accuracy``, the share of right answers where
        probabilities above a half are taken for a yes, beside that of the more frequent answer,
        ``baseline_accuracy``; ``balanced_accuracy``, the mean of the shares found of 0 and of 1;
        ``precision``, ``recall`` and ``f1`` of 1; ``roc_auc`` with ``roc_auc_low`` and
        ``roc_auc_high`` (95 %, DeLong); ``confusion``, rows true, columns predicted, 0 first.
        What is not defined, for there is one class alone, is None.
    """
    metrics = regression_metrics(target, prediction, baseline=baseline)
    target, prediction = np.asarray(target, np.float64), np.asarray(prediction, np.float64)
    known = np.isfinite(target)
    target, prediction = target[known], prediction[known]
    share = float(target.mean())
    confusion = confusion_matrix(target.astype(int), (prediction > 0.5).astype(int), 2)
    precision, recall, f1 = (found[1] for found in _by_class(confusion))
    metrics |= {
        "accuracy": float(np.mean((prediction > 0.5) == target)),
        "baseline_accuracy": max(share, 1 - share),
        "balanced_accuracy": _mean(_by_class(confusion)[1]),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        **_area(target, prediction),
        "confusion": confusion.tolist(),
    }
    return metrics


def class_metrics(
    target: NDArray[np.float64], chances: NDArray[np.float64], classes: Sequence[str]
) -> Metrics:
    """Return how good the probabilities of several classes are.

    Args:
        target: 1 for the class of a crystal, 0 for the others, nan where it is unknown, shape
            (n, n_classes).
        chances: Probabilities, shape (n, n_classes).
        classes: Their names.

    Returns:
        ``n``; ``accuracy`` of the most probable class with ``accuracy_low`` and ``accuracy_high``
        (95 % bootstrap), beside that of the most frequent class; ``balanced_accuracy``; ``f1`` and
        ``roc_auc`` (one against the rest), means over the classes that are there; ``log_loss``;
        ``classes``, ``counts`` of them, and ``confusion``, rows true, columns predicted.
    """
    known = np.isfinite(target).all(1)
    target, chances = target[known], chances[known]
    true, said = target.argmax(1), chances.argmax(1)
    counts = np.bincount(true, minlength=len(classes))
    confusion = confusion_matrix(true, said, len(classes))
    _, recall, f1 = _by_class(confusion)
    low, high = bootstrap_interval((true == said).astype(float))
    areas = [_area(target[:, k], chances[:, k])["roc_auc"] for k in range(len(classes))]
    chosen = np.maximum(chances[np.arange(len(true)), true], np.finfo(float).tiny)
    return {
        "n": len(true),
        "accuracy": float(np.mean(true == said)),
        "accuracy_low": low,
        "accuracy_high": high,
        "baseline_accuracy": float(counts.max() / len(true)),
        "balanced_accuracy": _mean(recall),
        "f1": _mean([value for value, count in zip(f1, counts, strict=True) if count]),
        "roc_auc": _mean(areas),
        "log_loss": float(-np.log(chosen).mean()),
        "classes": list(classes),
        "counts": counts.tolist(),
        "confusion": confusion.tolist(),
    }


def confusion_matrix(
    true: NDArray[np.int64], said: NDArray[np.int64], n_classes: int
) -> NDArray[np.int64]:
    """Return how many crystals of each class (row) are taken for each (column)."""
    found = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(found, (true, said), 1)
    return found


def _by_class(
    confusion: NDArray[np.int64],
) -> tuple[list[float | None], list[float | None], list[float | None]]:
    """Return precision, recall and F1 of each class; None where they are not defined."""
    right, true, said = confusion.diagonal(), confusion.sum(1), confusion.sum(0)

    def share(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> list[float | None]:
        pairs = zip(parts.tolist(), wholes.tolist(), strict=True)
        return [part / whole if whole else None for part, whole in pairs]

    return share(right, said), share(right, true), share(2 * right, true + said)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _area(target: NDArray[np.float64], values: NDArray[np.float64]) -> dict[str, float | None]:
    """Return the ROC-AUC with its interval; None where one class alone is there."""
    if not 0 < target.sum() < len(target):
        return dict.fromkeys(("roc_auc", "roc_auc_low", "roc_auc_high"))
    area, parts = roc_auc(target, values)
    reach = 1.96 * float(np.sqrt(covariance(parts, parts)))
    return {
        "roc_auc": area,
        "roc_auc_low": max(0.0, area - reach),
        "roc_auc_high": min(1.0, area + reach),
    }


def roc_auc(
    targets: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[float, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return the area under the ROC curve, and what each crystal adds to its variance.

    The area is the chance that a 1 has a larger value than a 0; equal values count half. What a
    crystal adds is the share of the crystals of the other class that it is told from, for the 1s
    and for the 0s (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 837 (1988)).

    Raises:
        DataError: If there are not both classes and nothing else.
    """
    ones, zeros = values[targets == 1], values[targets == 0]
    if not len(ones) or not len(zeros) or len(ones) + len(zeros) < len(values):
        raise DataError(
            f"ROC-AUC: targets must be 0 and 1, and both must be there, got {len(zeros)} times 0, "
            f"{len(ones)} times 1 in {len(values)}. Check the targets."
        )
    below = _share_below(ones, zeros)
    return float(below.mean()), (below, 1 - _share_below(zeros, ones))


def _share_below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each value the share of the others that are smaller; equal ones count half."""
    ordered = np.sort(others)
    smaller, not_larger = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return (smaller + not_larger) / (2 * len(others))


def covariance(
    first: tuple[NDArray[np.float64], NDArray[np.float64]],
    second: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> float:
    """Return the covariance of two areas from what each crystal adds to them."""
    return sum(
        float(np.cov(a, b)[0, 1]) / len(a) for a, b in zip(first, second, strict=True) if len(a) > 1
    )
