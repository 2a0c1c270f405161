"""Evaluation: a model's predictions beside the targets of a dataset."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from potnet.data.dataset import Dataset
from potnet.errors import DataError, Failure
from potnet.files import atomic_write
from potnet.targets import (
    class_target,
    groups,
    in_units,
    is_probability,
    with_binary_targets,
)
from potnet.text import csv_cell
from potnet.training.metrics import Metrics, binary_metrics, class_metrics, regression_metrics

if TYPE_CHECKING:
    from potnet.prediction.predictor import Predictor


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
            cells = ([row[key] for key in columns] for row in self.rows)
            writer.writerows([csv_cell(c) if isinstance(c, str) else c for c in r] for r in cells)
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
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"evaluate: `dataset` must be a Dataset, got {type(dataset).__name__}. Open a file "
            "with potnet.data.open."
        )
    dataset = with_binary_targets(
        in_units(dataset, {card.name: card.unit for card in predictor.card.targets}), predicted
    )
    names = _names_in_both(predictor, dataset, targets)
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
    binary = {c.name for c in predictor.card.targets if is_probability(c.transform)}
    metrics = {
        name: _metrics([row for row in rows if row["property"] == name], name in binary)
        for name in names
    }
    metrics |= _of_classes(predictor, rows)
    return Evaluation(tuple(rows), metrics, tuple(predictions.failures))


def _names_in_both(predictor: Predictor, dataset: Dataset, targets: Sequence[str]) -> list[str]:
    """Return the properties to compare, a column of classes by its classes.

    Raises:
        DataError: If model and dataset have none in common, or one that was asked for is missing.
    """
    predicted = [card.name for card in predictor.card.targets]
    classes = predictor.card.classes
    wanted = [
        name
        for asked in targets
        for name in [class_target(asked, word) for word in classes.get(asked, ())] or [asked]
    ]
    names = [name for name in wanted or predicted if name in predicted and name in dataset.targets]
    if not names or len(names) < len(wanted):
        raise DataError(
            f"evaluate: targets must be predicted by the model ({', '.join(predicted)}) and be in "
            f"the dataset ({', '.join(dataset.targets) or 'none'}), got {wanted}. "
            "Rename the column, or choose another model."
        )
    return names


def _of_classes(predictor: Predictor, rows: Sequence[dict[str, Any]]) -> dict[str, Metrics]:
    """Return how good the classes of each column are that is predicted and known."""
    found = {}
    names = list(dict.fromkeys(row["property"] for row in rows))
    for column, places in groups(names, predictor.card.classes).items():
        target, chances = (
            np.array(
                [[row[key] for row in rows if row["property"] == names[k]] for k in places],
                dtype=np.float64,
            ).T
            for key in ("target", "prediction")
        )
        if np.isfinite(target).all(1).any():
            found[column] = class_metrics(target, chances, predictor.card.classes[column])
    return found


def _metrics(rows: Sequence[dict[str, Any]], is_binary: bool) -> Metrics:
    known = [row for row in rows if row["target"] is not None]
    target, prediction, lower, upper = (
        np.array([row[key] for row in known], dtype=np.float64)
        for key in ("target", "prediction", "lower", "upper")
    )
    metrics = (binary_metrics if is_binary else regression_metrics)(target, prediction)
    if np.isfinite(lower).all() and np.isfinite(upper).all():
        metrics["coverage"] = float(np.mean((lower <= target) & (target <= upper)))
    return metrics


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
