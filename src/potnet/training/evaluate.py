"""How good predictions are: errors with intervals, beside the mean of the training targets."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from potnet.data.dataset import Dataset
from potnet.data.questions import with_questions
from potnet.errors import DataError, Failure
from potnet.files import atomic_write

if TYPE_CHECKING:
    from potnet.prediction.predictor import Predictor

Metrics = dict[str, float | int | None]


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


def answer_metrics(
    target: ArrayLike, prediction: ArrayLike, *, baseline: float | None = None
) -> Metrics:
    """Return the errors of the probabilities predicted for the answers to a question.

    Args:
        target: 0 or 1; nan where unknown, shape (n,).
        prediction: Probabilities of 1, shape (n,).
        baseline: Share of 1 among the training targets.

    Returns:
        What :func:`regression_metrics` does, and ``accuracy``, the share of right answers where
        probabilities above a half are taken for a yes, beside that of the more frequent answer,
        ``baseline_accuracy``.
    """
    metrics = regression_metrics(target, prediction, baseline=baseline)
    target, prediction = np.asarray(target, np.float64), np.asarray(prediction, np.float64)
    known = np.isfinite(target)
    share = float(target[known].mean())
    metrics["accuracy"] = float(np.mean((prediction[known] > 0.5) == target[known]))
    metrics["baseline_accuracy"] = max(share, 1 - share)
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


def conformal_halfwidth(residuals: NDArray[np.float64], level: float) -> float | None:
    """Return the half-width of an interval that covers a new crystal with chance ``level``.

    Split conformal prediction: the ceil((n + 1) level)-th smallest absolute residual of n crystals
    that were not trained on (Vovk et al. 2005; Lei et al., JASA 113, 1094 (2018)). None if n is
    too small for the level.
    """
    ordered = np.sort(np.abs(residuals))
    rank = int(np.ceil((len(ordered) + 1) * level - 1e-9))
    return float(ordered[rank - 1]) if rank <= len(ordered) else None


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` found.

    Attributes:
        rows: One per crystal and target: id, property, target, prediction, lower, upper, unit.
        metrics: Errors by target; with ``coverage``, the share of targets inside the interval.
        failures: Crystals without a prediction.
    """

    rows: tuple[dict[str, Any], ...]
    metrics: dict[str, Metrics]
    failures: tuple[Failure, ...] = ()

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write ``predictions.csv`` and ``metrics.json`` into ``folder``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "predictions.csv") as file:
            columns = ("id", "property", "target", "prediction", "lower", "upper", "unit")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([row[key] for key in columns] for row in self.rows)
        with atomic_write(folder / "metrics.json") as file:
            json.dump(self.metrics, file, indent=1)


def evaluate(
    model: Predictor | str | os.PathLike[str],
    dataset: Dataset,
    *,
    targets: Sequence[str] = (),
    part: Literal["all", "train", "val", "test"] = "all",
    on_error: Literal["raise", "skip"] = "raise",
) -> Evaluation:
    """Compare the predictions of a model with the targets of a dataset.

    Args:
        model: A predictor, the name of a bundled model, or the path of an archive.
        dataset: Crystals and targets.
        targets: Which properties; empty means all that the model predicts and the dataset has.
        part: Which part of the dataset's official split to use.
        on_error: What happens when a crystal cannot be predicted.

    Returns:
        Rows, metrics by target and failures; the coverage needs a calibrated model.

    Raises:
        DataError: If model and dataset have no property in common, or a part is empty.
    """
    from potnet.prediction.predictor import Predictor, load

    predictor = model if isinstance(model, Predictor) else load(model)
    predicted = [card.name for card in predictor.card.targets]
    dataset = with_questions(dataset, predicted)
    names = [name for name in targets or predicted if name in predicted and name in dataset.targets]
    if not names or (targets and len(names) < len(targets)):
        raise DataError(
            f"evaluate: targets must be predicted by the model ({', '.join(predicted)}) and be in "
            f"the dataset ({', '.join(dataset.targets) or 'none'}), got {list(targets)}. "
            "Rename the column, or choose another model."
        )
    if part != "all":
        labels = dataset.split_for(names)
        rows = [] if labels is None else np.flatnonzero(labels == part)
        if not len(rows):
            raise DataError(f"evaluate: the dataset must have a {part} part, got none.")
        dataset = dataset.subset(rows)
    predictions = predictor.predict(dataset.crystals, on_error=on_error)
    place = {id: k for k, id in enumerate(dataset.ids)}
    rows = [
        {
            "id": row.id,
            "property": row.property,
            "target": _known(dataset.targets[row.property][place[row.id]]),
            "prediction": row.prediction,
            "lower": row.lower,
            "upper": row.upper,
            "unit": row.unit,
        }
        for row in predictions
        if row.property in names
    ]
    questions = {c.name for c in predictor.card.targets if c.transform == "yes-no"}
    metrics = {
        name: _metrics([row for row in rows if row["property"] == name], name in questions)
        for name in names
    }
    return Evaluation(tuple(rows), metrics, tuple(predictions.failures))


def _metrics(rows: Sequence[dict[str, Any]], is_question: bool) -> Metrics:
    known = [row for row in rows if row["target"] is not None]
    target, prediction, lower, upper = (
        np.array([row[key] for row in known], dtype=np.float64)
        for key in ("target", "prediction", "lower", "upper")
    )
    metrics = (answer_metrics if is_question else regression_metrics)(target, prediction)
    if np.isfinite(lower).all() and np.isfinite(upper).all():
        metrics["coverage"] = float(np.mean((lower <= target) & (target <= upper)))
    return metrics


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
