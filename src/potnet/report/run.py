"""The reports of a training run and of an evaluation: plots as PNG files and one HTML page."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from potnet.errors import FAILURE_COLUMNS
from potnet.files import atomic_write
from potnet.report.page import Report, versions
from potnet.report.plots import (
    learning_curve,
    parity_plot,
    png,
    residual_histogram,
    roc_curves,
)
from potnet.targets import class_target
from potnet.text import file_name
from potnet.training.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from potnet.training.evaluate import Evaluation

N_WORST = 10
RARE = 0.1  # Share of the crystals below which a class is said to be rare.
MOST_SHOWN = 12  # classes in the table of what is taken for what
EXPLAINED = (
    "The error is the mean absolute error; the range behind it is a 95 % bootstrap interval over "
    "the crystals. The baseline predicts the mean of the training targets for every crystal."
)


@dataclass(frozen=True)
class Compared:
    """Reference values and predictions of one property for the same crystals, shape (n,) each.

    Attributes:
        crystals: What the crystals are, in words: "test crystals".
    """

    name: str
    unit: str
    ids: tuple[str, ...]
    target: NDArray[np.float64]
    prediction: NDArray[np.float64]
    metrics: Mapping[str, Any]
    crystals: str


def training_report(folder: str | os.PathLike[str]) -> Path:
    """Write plots and ``report.html`` into the folder of a finished training run.

    Args:
        folder: What :func:`potnet.train` wrote: its metrics, predictions and settings.

    Returns:
        The HTML file.
    """
    folder = Path(folder)
    run = _json(folder / "run.json")
    report = Report(f"Training: {', '.join(target['name'] for target in run['targets'])}")
    add_training(report, folder)
    return close_report(report, folder)


def add_training(report: Report, folder: Path, *, plots: Path | None = None) -> None:
    """Add a finished training run to a report and write its plots.

    Args:
        report: What is added to.
        folder: The folder of the run.
        plots: Folder for the plots; that of the run if None.
    """
    plots = folder if plots is None else plots
    config, run, metrics = (_json(folder / f"{n}.json") for n in ("config", "run", "metrics"))
    data = run["data"]
    report.text(
        f"Network {config['network']}, trained on {data['sizes']['train']:,} crystals of "
        f"{data.get('name') or data['source'] or 'a dataset'}, chosen on "
        f"{data['sizes']['val']:,} and tested on {data['sizes']['test']:,} others."
    )
    tested = metrics.get("test", {})
    add_properties(report, _tested(folder, run["targets"], tested), tested, plots)
    report.heading("Learning")
    curves = _learning(folder / "metrics.csv", mark_best=config.get("finetune") is None)
    save_figure(curves, plots / "learning-curve.png")
    report.figures({"Loss by epoch": curves})
    parts = {part: metrics[part] for part in ("val", "test") if part in metrics}
    _add_metrics(report, parts, {target["name"]: target["unit"] for target in run["targets"]})
    report.heading("Settings")
    report.pairs({name: _plain(value) for name, value in config.items()})
    report.heading("Data")
    report.pairs({key: _plain(value) for key, value in data.items()})


def evaluation_report(
    folder: str | os.PathLike[str], evaluation: Evaluation, *, model: str, data: str
) -> Path:
    """Write plots and ``report.html`` of an evaluation into ``folder``.

    Args:
        folder: An existing folder.
        evaluation: What :func:`potnet.training.evaluate` returned.
        model: What was evaluated, in words.
        data: On what, in words.

    Returns:
        The HTML file.
    """
    folder = Path(folder)
    report = Report(f"Evaluation: {', '.join(evaluation.metrics)}", f"{model}, on {data}.")
    units, found = {}, []
    for name, metrics in evaluation.metrics.items():
        rows = [r for r in evaluation.rows if r["property"] == name and r["target"] is not None]
        if not rows:  # a column of classes, whose targets are the classes
            continue
        units[name] = rows[0]["unit"]
        true, said = (np.array([row[key] for row in rows]) for key in ("target", "prediction"))
        ids = tuple(row["id"] for row in rows)
        found.append(Compared(name, units[name], ids, true, said, metrics, "crystals"))
    add_properties(report, found, evaluation.metrics, folder)
    _add_metrics(report, {"evaluated": evaluation.metrics}, units)
    if evaluation.failures:
        report.heading("Not predicted")
        rows = [[f.id, f.stage, f.reason] for f in evaluation.failures]
        report.table(FAILURE_COLUMNS, rows)
    return close_report(report, folder)


def close_report(report: Report, folder: Path) -> Path:
    """Add the versions and write ``report.html`` into ``folder``; return it."""
    report.heading("Versions")
    report.pairs(versions())
    path = folder / "report.html"
    report.write(path)
    return path


def add_properties(
    report: Report, found: Sequence[Compared], metrics: Mapping[str, Any], folder: Path
) -> None:
    """Add a section for each property and each column of classes; write the plots.

    Args:
        report: What is added to.
        found: The properties.
        metrics: Theirs, and those of columns of classes.
        folder: Where the plots go.
    """
    of_class = {
        class_target(column, word): column
        for column, m in metrics.items()
        for word in m.get("classes", ())
    }
    for compared in found:
        if "accuracy" not in compared.metrics:
            _add_property(report, compared, folder)
        elif compared.name not in of_class:
            _add_classes(report, compared.name, metrics[compared.name], [compared], folder)
    for column in dict.fromkeys(of_class.values()):
        members = [compared for compared in found if of_class.get(compared.name) == column]
        if members:
            _add_classes(report, column, metrics[column], members, folder)


def _add_classes(
    report: Report,
    name: str,
    metrics: Mapping[str, Any],
    members: Sequence[Compared],
    folder: Path,
) -> None:
    """Add right answers, ROC curves and what is taken for what; write the curves.

    Args:
        report: What is added to.
        name: The column of classes.
        metrics: What :func:`potnet.training.metrics.class_metrics` returned of it, or
            ``binary_metrics``, whose classes are 0 and 1.
        members: The probabilities of its classes.
        folder: Where the plot goes.
    """
    curves = {
        one.name.removeprefix(class_target(name, "")): (one.target, one.prediction)
        for one in members
    }
    figure = roc_curves(name, curves)
    save_figure(figure, folder / f"roc-{file_name(name)}.png")
    classes = metrics.get("classes", ["0", "1"])
    confusion = np.array(metrics["confusion"])
    counts, n = confusion.sum(1), metrics["n"]
    report.heading(f"{name}: {n:,} {members[0].crystals}")
    tiles = {"right answers": f"{100 * metrics['accuracy']:.1f} %"}
    tiles["by the most frequent answer"] = f"{100 * metrics['baseline_accuracy']:.1f} %"
    for key, what in (("balanced_accuracy", "mean over the classes"), ("f1", "F1")):
        if metrics[key] is not None:
            tiles[what] = f"{metrics[key]:.3f}"
    if metrics["roc_auc"] is not None:
        tiles["ROC-AUC"] = f"{metrics['roc_auc']:.3f}"
    report.tiles(tiles)
    rare = [word for word, count in zip(classes, counts, strict=True) if count < RARE * n]
    if rare:
        report.text(
            f"Rare classes, below {100 * RARE:.0f} % of these crystals: {', '.join(rare)}. Where "
            "classes are uneven, right answers alone say little; F1 and the mean over the classes "
            "count each class alike."
        )
    report.figures({f"{name}: ROC curves": figure})
    shown = np.argsort(-counts, kind="stable")[:MOST_SHOWN]
    rows = [[classes[k], *confusion[k, shown].tolist(), int(counts[k])] for k in shown]
    header = ["reference", *(f"said {classes[k]}" for k in shown), "all"]
    report.table(header, rows, "What is taken for what")


def _add_property(report: Report, compared: Compared, folder: Path) -> None:
    """Add the errors, the plots and the worst crystals of one property; write the plots."""
    name, unit, metrics = compared.name, compared.unit, compared.metrics
    report.heading(f"{name}: {metrics['n']:,} {compared.crystals}")
    tiles = {"mean absolute error": f"{metrics['mae']:.3g} {unit}".rstrip()}
    tiles["its 95 % interval"] = f"{metrics['mae_low']:.3g} to {metrics['mae_high']:.3g}"
    if "baseline_mae" in metrics:
        tiles["error of the mean predictor"] = f"{metrics['baseline_mae']:.3g} {unit}".rstrip()
    if metrics.get("r2") is not None:
        tiles["R²"] = f"{metrics['r2']:.3f}"
    if "coverage" in metrics:
        tiles["inside the predicted interval"] = f"{100 * metrics['coverage']:.0f} %"
    report.tiles(tiles)
    pair = (compared.target, compared.prediction)
    parity = parity_plot(*pair, name=name, unit=unit)
    residuals = residual_histogram(*pair, name=name, unit=unit)
    stem = file_name(name)
    save_figure(parity, folder / f"parity-{stem}.png")
    save_figure(residuals, folder / f"residuals-{stem}.png")
    report.figures({f"{name}: parity": parity, f"{name}: residuals": residuals})
    error = compared.prediction - compared.target
    worst = np.argsort(-np.abs(error), kind="stable")[:N_WORST]
    rows = [
        [compared.ids[k], float(compared.target[k]), float(compared.prediction[k]), float(error[k])]
        for k in worst
    ]
    report.table(["crystal", "reference", "predicted", "error"], rows, "Largest errors")


def _add_metrics(
    report: Report, metrics: Mapping[str, Mapping[str, Any]], units: Mapping[str, str]
) -> None:
    report.heading("Errors")
    report.text(EXPLAINED)
    rows = []
    for part, by_target in metrics.items():
        for name, m in by_target.items():
            if "mae" not in m:
                continue
            r2 = "" if m["r2"] is None else f"{m['r2']:.4f}"
            interval = f"{m['mae_low']:.4g} to {m['mae_high']:.4g}"
            baseline = f"{m['baseline_mae']:.4g}" if "baseline_mae" in m else ""
            numbers = [m["n"], m["mae"], interval, m["rmse"], r2, baseline]
            rows.append([part, name, units.get(name, ""), *numbers])
    header = ["part", "property", "unit", "crystals", "MAE", "95 % interval", "RMSE", "R²"]
    report.table([*header, "baseline MAE"], rows)


def _tested(
    folder: Path, targets: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]
) -> list[Compared]:
    """Return what the run predicted for its test crystals, where their targets are known."""
    compared = []
    for target in targets:
        name = target["name"]
        if name not in metrics:
            continue
        path = RunFolder(folder).predictions("test", name, several=len(targets) > 1)
        rows = [row for row in _table(path) if row["target"]]
        compared.append(
            Compared(
                name,
                target["unit"],
                tuple(row["id"] for row in rows),
                np.array([float(row["target"]) for row in rows]),
                np.array([float(row["prediction"]) for row in rows]),
                metrics[name],
                "test crystals, never trained on",
            )
        )
    return compared


def _learning(path: Path, *, mark_best: bool) -> Figure:
    """Return the learning curves of the first network of a run."""
    rows = [row for row in _table(path) if row["member"] == "0"]
    scores = [float(row["val_score"]) for row in rows]
    epochs = [int(row["epoch"]) for row in rows]
    curves = {"training": [float(row["train_loss"]) for row in rows], "validation": scores}
    # A model that goes on from another is kept by more than its score.
    best = epochs[int(np.argmin(scores))] if mark_best else None
    return learning_curve(epochs, curves, best=best, label="loss (standardised)")


def _table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_write(path, "wb") as file:
        file.write(png(figure))
