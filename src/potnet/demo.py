"""The demo: predict, train, test and report, on crystals and data that come with the package."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potnet import data
from potnet.errors import DataError
from potnet.io import read
from potnet.prediction import COLUMNS, Prediction, Predictions, load, predict_stream
from potnet.report import Report, add_training, close_report
from potnet.training import Progress, TrainingConfig, train

MODELS = ("jarvis-formation-energy", "bulk-modulus")
TARGET = "bulk_modulus"
LEARNING = TrainingConfig(
    targets=TARGET,
    transform="log10",
    epochs=60,
    batch_size=32,
    learning_rate=2e-3,
    ema_decay=0.99,
    network_settings={"width": 64, "dropout": 0.1},
    device="cpu",
)
FAST_CRYSTALS, FAST_EPOCHS = 200, 4


@dataclass(frozen=True)
class Demo:
    """What the demo made.

    Attributes:
        predictions: Rows for the example crystals.
        metrics: Errors of the trained model on held-out crystals, by target.
        units: Unit of each target.
        files: What each file or folder is.
    """

    predictions: Predictions
    metrics: Mapping[str, Any]
    units: Mapping[str, str]
    files: Mapping[Path, str]


def run_demo(
    output: str | os.PathLike[str],
    *,
    fast: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Demo:
    """Predict the example crystals, train a small model, test it, and write a report.

    Args:
        output: Folder to make; if it is in use, "-2" (or the next free number) is added to it.
        fast: Take part of the data and a few epochs: seconds, at the cost of the error.
        progress: Called as by :func:`potnet.train`.

    Raises:
        ModelError: If the bundled models are missing.
    """
    folder = _free(Path(output))
    models = [load(name) for name in MODELS]
    found = predict_stream(models, read(examples()), on_error="raise")
    rows = Predictions(row for row in found if isinstance(row, Prediction))
    rows.to_csv(folder / "predictions.csv")
    dataset = data.open("elastic")
    config = LEARNING
    if fast:
        dataset = dataset.subset(range(FAST_CRYSTALS))
        config = LEARNING.model_copy(update={"epochs": FAST_EPOCHS})
    result = train(dataset, config, folder / "training", progress=progress)
    report = Report(
        "potnet demo",
        "Properties of the example crystals, predicted by the bundled models, and a small model "
        "trained on the embedded elastic dataset, tested on crystals that it has never seen.",
    )
    report.heading("Example crystals")
    report.table(COLUMNS, [row.cells(digits=4) for row in rows])
    for name, model in zip(MODELS, models, strict=True):
        report.text(f"{name}: {model.card.limits}")
    report.heading("A small model for the bulk modulus")
    add_training(report, folder / "training", plots=folder)
    page = close_report(report, folder)
    files = {
        page: "Report",
        folder / "predictions.csv": "Predictions",
        folder / "training" / "metrics.json": "Metrics",
        folder / f"parity-{TARGET}.png": "Parity plot",
        folder / "training" / "model": "Model",
    }
    return Demo(rows, result.metrics["test"], dataset.units, files)


def examples() -> Path:
    """Return the folder of the example crystals: inside the package, or beside its sources.

    Raises:
        DataError: If there is none.
    """
    package = Path(__file__).parent
    folders = (package / "examples", package.parents[1] / "examples" / "crystals")
    for folder in folders:
        if folder.is_dir():
            return folder
    raise DataError(
        f"demo: the folder of example crystals must exist, got none at {folders[0]}. "
        "Install potnet again."
    )


def _free(folder: Path) -> Path:
    """Make and return ``folder``, or the first of ``folder-2``, ``folder-3`` ... that is new."""
    candidate, number = folder, 1
    while candidate.exists() and any(candidate.iterdir()):
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    candidate.mkdir(parents=True, exist_ok=True)
    return candidate
