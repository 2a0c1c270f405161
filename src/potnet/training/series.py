"""Several runs on one dataset: all folds, and ever more crystals to learn from.

Each run has a folder of its own in that of the series, and a series that was interrupted goes on
with the run it was at. At the end stands one model: ``model/``.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from potnet.data.dataset import Dataset
from potnet.data.splits import make_split
from potnet.errors import ConfigError, DataError, Failure
from potnet.files import atomic_write
from potnet.models import archive
from potnet.targets import Chosen, chosen_targets, groups, is_probability
from potnet.training.callbacks import Callback, Progress
from potnet.training.config import TrainingConfig
from potnet.training.extrapolate import PowerLaw, fit_power_law
from potnet.training.loop import train
from potnet.training.metrics import Metrics, binary_metrics, class_metrics, regression_metrics
from potnet.training.run_folder import RunFolder

FEWEST = 8  # training crystals of the smallest run of a learning curve
N_SIZES = 5
FEATURES = "features"  # the folder of those that all runs share, until the series is finished
SPAN = 16  # how many times more crystals the largest run has than the smallest


@dataclass(frozen=True)
class CrossValidation:
    """What all folds together say.

    Attributes:
        output: The folder of the series.
        model: The model, which has learned from all crystals.
        metrics: By target, over the crystals of all folds, each predicted by the network that has
            not seen it; ``folds`` are the errors of each, with ``fold_mean`` and ``fold_std``.
        failures: Crystals that were left out.
    """

    output: Path
    model: Path
    metrics: dict[str, Metrics]
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class LearningCurve:
    """How the error falls with the number of training crystals.

    Attributes:
        output: The folder of the series.
        model: The model that has learned from most.
        sizes: Training crystals of each run, rising.
        errors: Mean absolute errors of each run on the same test crystals, by target.
        laws: The power law through them, by target.
        failures: Crystals that were left out.
    """

    output: Path
    model: Path
    sizes: tuple[int, ...]
    errors: dict[str, tuple[float, ...]]
    laws: dict[str, PowerLaw]
    failures: tuple[Failure, ...]


def cross_validate(
    dataset: Dataset,
    config: TrainingConfig,
    output: str | os.PathLike[str],
    *,
    n_folds: int = 5,
    on_error: Literal["raise", "skip"] = "raise",
    progress: Callable[[Progress], None] | None = None,
    callbacks: Sequence[Callback] = (),
) -> CrossValidation:
    """Train and test on each fold, then learn from all crystals.

    Fold k is in ``fold{k}/``, the model that has learned from all in ``all/`` and, with the errors
    of the folds on its card, in ``model/``. ``predictions.csv`` (one for each target of several)
    has a row for each crystal: id, fold, target, prediction; ``metrics.json`` has the errors.

    Args:
        dataset: Crystals and targets.
        config: Settings; its split says by what folds are made (``by``) and how much validates.
        output: Folder of the series, empty or that of the same series, which goes on.
        n_folds: How many folds.
        on_error: As for :func:`potnet.train`; so are the others.
        progress: Called by each run.
        callbacks: Told by each run.

    Raises:
        ConfigError: If the split has parts of its own, or ``output`` belongs to something else.
        DataError: If the targets or a split cannot be used.
        StructureError: If a crystal cannot be prepared and ``on_error`` is "raise".
    """
    output = _opened(output, {"folds": n_folds})
    config = _with_features(config, output)
    chosen = chosen_targets(dataset, config.targets, config.transform)
    split = config.split.model_dump()
    if config.split.kind not in ("auto", "random", "k-fold") or n_folds < 2:
        raise ConfigError(
            "folds: two folds at least, with a split that is random or k-fold, must be asked for, "
            f"got {n_folds} and {config.split.kind}. Leave `split` out, or give k-fold,by=..."
        )
    split |= {"kind": "k-fold", "n_folds": n_folds}
    told: dict[str, Any] = {"on_error": on_error, "progress": progress, "callbacks": callbacks}
    for fold in range(n_folds):
        of_fold = _with_split(config, chosen, {**split, "fold": fold})
        result = train(dataset, of_fold, output / f"fold{fold}", resume=True, **told)
    rest = {"kind": "random", "by": config.split.by, "seed": config.split.seed}
    shares = {"train": 1 - config.split.val, "val": config.split.val, "test": 0.0}
    of_all = _with_split(config, chosen, {**rest, **shares})
    result = train(dataset, of_all, output / "all", resume=True, **told)
    metrics = _pooled(output, chosen, n_folds)
    with atomic_write(output / "metrics.json") as file:
        json.dump({"folds": metrics}, file, indent=1)
    note = (
        f"Learned from all crystals. `folds`: errors of {n_folds} other models of the same "
        "settings on the crystals that each had not seen."
    )
    model = _with_metrics(result.model, output / "model", {"folds": metrics, "note": note})
    shutil.rmtree(output / FEATURES, ignore_errors=True)
    return CrossValidation(output, model, metrics, result.failures)


def learning_curve(
    dataset: Dataset,
    config: TrainingConfig,
    output: str | os.PathLike[str],
    *,
    on_error: Literal["raise", "skip"] = "raise",
    progress: Callable[[Progress], None] | None = None,
    callbacks: Sequence[Callback] = (),
) -> LearningCurve:
    """Train on ever more of the training crystals, always testing on the same ones.

    The smaller sets are parts of the larger ones, and validation crystals are left out in
    proportion. A run with n training crystals is in ``size{n}/``; the model of the largest also in
    ``model/``; errors and the power law in ``learning-curve.json`` and ``learning-curve.csv``.

    Args:
        dataset: Crystals and targets.
        config: Settings.
        output: Folder of the series, empty or that of the same series, which goes on.
        on_error: As for :func:`potnet.train`; so are the others.
        progress: Called by each run.
        callbacks: Told by each run.

    Raises:
        ConfigError: If ``output`` belongs to something else.
        DataError: If the targets or the split cannot be used, or there are too few crystals.
        StructureError: If a crystal cannot be prepared and ``on_error`` is "raise".
    """
    output = _opened(output, {"learning_curve": True})
    config = _with_features(config, output)
    chosen = chosen_targets(dataset, config.targets, config.transform)
    split, _ = make_split(chosen.dataset, config.split, tuple(chosen.transforms))
    sizes = _sizes(len(split.train))
    if len(sizes) < 3 or not len(split.test):
        raise DataError(
            f"learning curve: the split must have {3 * FEWEST} crystals to train on and some to "
            f"test on, got {len(split.train)} and {len(split.test)}. Give more crystals."
        )
    rng = np.random.default_rng(config.seed)
    train_rows, val_rows = rng.permutation(split.train), rng.permutation(split.val)
    given = _with_split(config, chosen, {"kind": "given"})
    results = []
    for size in sizes:
        n_val = max(min(2, len(val_rows)), math.ceil(size / sizes[-1] * len(val_rows)))
        labels = np.full(len(dataset), "", dtype="<U5")
        labels[train_rows[:size]], labels[val_rows[:n_val]] = "train", "val"
        labels[split.test] = "test"
        part, folder = replace(dataset, splits={"": labels}), output / f"size{size}"
        told: dict[str, Any] = {"progress": progress, "callbacks": callbacks}
        results.append(train(part, given, folder, resume=True, on_error=on_error, **told))
    errors, laws = _curves(output, chosen, sizes)
    _write_curves(output, sizes, errors, laws)
    model = _with_metrics(results[-1].model, output / "model", {})
    shutil.rmtree(output / FEATURES, ignore_errors=True)
    return LearningCurve(output, model, sizes, errors, laws, results[-1].failures)


def _with_features(config: TrainingConfig, output: Path) -> TrainingConfig:
    """Return the settings with a folder for features, which all runs of a series share."""
    if config.feature_folder is not None:
        return config
    return config.model_copy(update={"feature_folder": output / FEATURES})


def _with_split(config: TrainingConfig, chosen: Chosen, split: dict[str, Any]) -> TrainingConfig:
    """Return the settings of a run; what was not given is resolved by each."""
    known = config.to_dict()
    given = {name: known[name] for name in config.model_fields_set if name in known}
    return TrainingConfig(**given | {"targets": chosen.names, "split": split})


def _opened(output: str | os.PathLike[str], series: dict[str, Any]) -> Path:
    """Return the folder of a series, which says what it is of."""
    path = Path(output)
    about = path / "series.json"
    if about.exists():
        known = json.loads(about.read_text("utf-8"))
        if known != series:
            raise ConfigError(
                f"{path}: a series must stay as it began, got {series} after {known}. Restore it, "
                "or choose another folder."
            )
        return path
    if path.exists() and any(path.iterdir()):
        raise ConfigError(
            f"{path}: the output folder must be empty or that of the same series, got one with "
            "other files. Choose another folder."
        )
    path.mkdir(parents=True, exist_ok=True)
    with atomic_write(about) as file:
        json.dump(series, file)
    return path


def _sizes(n: int) -> tuple[int, ...]:
    """Return how many of ``n`` crystals the runs of a learning curve train on, rising."""
    if n < 3 * FEWEST:
        return (n,)
    smallest = max(FEWEST, n / SPAN)
    found = np.geomspace(smallest, n, N_SIZES).round().astype(int).tolist()
    return tuple(sorted(set(found)))


def _with_metrics(source: Path, target: Path, metrics: dict[str, Any]) -> Path:
    """Write a copy of an archive whose card has more metrics; return where it is."""
    members, card = archive.read(source)
    card = card.model_copy(update={"metrics": {**card.metrics, **metrics}})
    archive.save(target, members, card, archive.read_calibration(source))
    return target


# ----------------------------------------------------------------------------------------- folds


def _pooled(output: Path, chosen: Chosen, n_folds: int) -> dict[str, Metrics]:
    """Write the predictions of all folds together; return their errors by target."""
    found: dict[str, Metrics] = {}
    names = list(chosen.transforms)
    folders = [output / f"fold{k}" for k in range(n_folds)]
    tables = {name: _tables(folders, name, several=len(names) > 1) for name in names}
    for name, parts in tables.items():
        rows = [row for part in parts for row in part]
        path = RunFolder(output).predictions("test", name, several=len(names) > 1)
        with atomic_write(path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", "fold", "target", "prediction"])
            for fold, part in enumerate(parts):
                cells = ((id, fold, "" if math.isnan(t) else t, p) for id, t, p in part)
                writer.writerows(cells)
        is_chance = is_probability(chosen.transforms[name])
        measure = binary_metrics if is_chance else regression_metrics
        target, prediction = (np.array([row[k] for row in rows]) for k in (1, 2))
        if np.isfinite(target).any():
            errors = [_mae(part) for part in parts]
            found[name] = {
                **measure(target, prediction),
                "folds": errors,
                "fold_mean": float(np.nanmean(errors)),
                "fold_std": float(np.nanstd(errors)),
            }
    for column, places in groups(names, chosen.classes).items():
        columns = [[row for part in tables[names[k]] for row in part] for k in places]
        target, chances = (
            np.array([[row[j] for row in rows] for rows in columns]).T for j in (1, 2)
        )
        found[column] = class_metrics(target, chances, chosen.classes[column])
    return found


Table = list[tuple[str, float, float]]


def _tables(folders: Sequence[Path], name: str, *, several: bool) -> list[Table]:
    """Return the test predictions of each run for a target, one of several or alone."""
    runs = map(RunFolder, folders)
    return [read_table(run.predictions("test", name, several=several)) for run in runs]


def read_table(path: Path) -> Table:
    """Return id, target (nan where unknown) and prediction of each row."""
    with open(path, encoding="utf-8", newline="") as file:
        return [
            (row["id"], float(row["target"] or "nan"), float(row["prediction"]))
            for row in csv.DictReader(file)
        ]


def _mae(rows: Table) -> float:
    errors = [abs(prediction - target) for _, target, prediction in rows]
    known = [error for error in errors if error == error]
    return float(np.mean(known)) if known else math.nan


# ---------------------------------------------------------------------------------------- curves


def _curves(
    output: Path, chosen: Chosen, sizes: Sequence[int]
) -> tuple[dict[str, tuple[float, ...]], dict[str, PowerLaw]]:
    errors: dict[str, tuple[float, ...]] = {}
    laws: dict[str, PowerLaw] = {}
    folders = [output / f"size{size}" for size in sizes]
    for name in chosen.transforms:
        tables = _tables(folders, name, several=len(chosen.transforms) > 1)
        found = np.array([[abs(p - t) for _, t, p in table] for table in tables])
        found = found[:, np.isfinite(found).all(0)]
        if found.size:
            errors[name] = tuple(found.mean(1).tolist())
            laws[name] = fit_power_law(np.array(sizes), found)
    return errors, laws


def _write_curves(
    output: Path,
    sizes: Sequence[int],
    errors: dict[str, tuple[float, ...]],
    laws: dict[str, PowerLaw],
) -> None:
    with atomic_write(output / "learning-curve.json") as file:
        content = {
            name: {"sizes": list(sizes), "errors": list(errors[name]), **law.to_dict()}
            for name, law in laws.items()
        }
        json.dump(content, file, indent=1)
    with atomic_write(output / "learning-curve.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["property", "n_train", "mae", "mae_low", "mae_high"])
        for name, law in laws.items():
            rows = zip(sizes, errors[name], law.low, law.high, strict=True)
            writer.writerows([name, *row] for row in rows)
