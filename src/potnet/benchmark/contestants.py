"""What competes: a network of this package, and two that a network must beat."""

from __future__ import annotations

import contextlib
import csv
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from potnet.benchmark.cost import Cost, Meter, peak_memory_mb
from potnet.crystal import Crystal
from potnet.data import Dataset, Split, SplitConfig
from potnet.errors import ConfigError
from potnet.files import atomic_write
from potnet.models import registry
from potnet.models.descriptors import MAX_NUMBER, element_table
from potnet.targets import transform_of
from potnet.text import csv_text
from potnet.training import Progress, TrainingConfig, train
from potnet.training.finetune import first_network
from potnet.training.run_folder import RunFolder

Combine = Literal["median", "mean"]
Values = NDArray[np.float64]
Rows = NDArray[np.int64]
PROBE_EPOCHS = 3
"""Most epochs that are trained to learn what one takes; half of the budget ends it, too."""
PLACES = frozenset({"feature_memory", "feature_folder"})
"""Settings that say where features are: they decide nothing, and may change in a row."""


@dataclass(frozen=True, eq=False)
class Job:
    """One training and its predictions.

    Attributes:
        dataset: All crystals of the suite; the targets of the test crystals are nan, and only the
            targets to learn are there.
        split: Its parts.
        seed: Of everything random.
        folder: The job's own.
        features: Folder with the features of all crystals, for contestants that ask for them.
        binary: Targets of 0 and 1; what is predicted is the probability of 1.
        progress: Called with each epoch's progress.
    """

    dataset: Dataset
    split: Split
    seed: int
    folder: Path
    features: Path | None = None
    binary: frozenset[str] = frozenset()
    progress: Callable[[Progress], None] | None = None

    @property
    def asked(self) -> NDArray[np.int64]:
        """The crystals to predict: validation, then test."""
        return np.concatenate([self.split.val, self.split.test])


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a contestant returns.

    Attributes:
        predictions: One column per target, in their units, for the crystals that the job asked
            for, shape (n_asked, n_targets).
        cost: What it took.
    """

    predictions: NDArray[np.float64]
    cost: Cost


class Contestant(Protocol):
    """Something that learns from the training crystals of a job and predicts the others.

    Attributes:
        network: Its name.
        split_rule: Share and seed of inner validation.
        combine: How the predictions of several seeds become one.
        targets: What is learned together; empty learns each target by itself.
        first_seed: Seed of the first training; the next ones count up.
        n_seeds: Trainings whose predictions are combined, unless the call says how many.
    """

    @property
    def network(self) -> str: ...
    @property
    def split_rule(self) -> SplitConfig: ...
    @property
    def combine(self) -> Combine: ...
    @property
    def targets(self) -> tuple[str, ...]: ...
    @property
    def first_seed(self) -> int: ...
    @property
    def n_seeds(self) -> int: ...

    def settings(self) -> dict[str, Any]:
        """Return what decides the result, as JSON holds it."""
        ...

    def features(self) -> Any:
        """Return the settings of the features it wants made for all crystals, or None."""
        ...

    def compete(self, job: Job) -> Outcome:
        """Learn and predict; a job that was killed goes on."""
        ...


class _KnownEnough(Exception):
    """The time of an epoch is known."""


@dataclass(frozen=True)
class Network:
    """A network of this package, trained by :func:`potnet.training.train`.

    Attributes:
        config: Settings of the training; the suite gives split and seed. ``members`` is the
            number of seeds, each a training of its own; one if it is null.
        budget: Seconds of training (processor seconds on a CPU) that decide the number of epochs
            in place of the settings: as many as fit, by the time of the first few.
    """

    config: TrainingConfig
    budget: float | None = None

    @property
    def network(self) -> str:
        """Its name."""
        return self.config.network

    @property
    def split_rule(self) -> SplitConfig:
        """Share and seed of inner validation."""
        return self.config.split

    @property
    def combine(self) -> Combine:
        """How several seeds predict together."""
        return self.config.combine

    @property
    def targets(self) -> tuple[str, ...]:
        """What is learned together."""
        return self.config.targets

    @property
    def first_seed(self) -> int:
        """Seed of the first training."""
        return self.config.seed

    @property
    def n_seeds(self) -> int:
        """How many seeds."""
        return self.config.members or 1

    def settings(self) -> dict[str, Any]:
        """Return all settings, of the training and of the network, and the budget.

        Those that have their default are among them: a default may change, what was done does not.
        Where features are kept decides nothing.
        """
        settings = self.config.to_dict() | {"members": self.n_seeds}
        settings = {name: value for name, value in settings.items() if name not in PLACES}
        if self.config.finetune is None:  # otherwise the model to begin with says the rest
            complete = registry.settings_of(self.network, self.config.network_settings)
            settings["network_settings"] = complete.model_dump(mode="json")
        return settings if self.budget is None else {**settings, "budget": self.budget}

    def features(self) -> Any:
        """Return the settings of the network's features."""
        return first_network(self.config, 1).features

    def compete(self, job: Job) -> Outcome:
        """Train, or go on with it, and return what the best epoch predicts."""
        names = tuple(job.dataset.targets)
        config = self._of_job(names, job)
        if self.budget is not None:
            epochs = self._epochs_within(job, config)
            config = TrainingConfig(**{**config.to_dict(), "epochs": epochs})
        meter = Meter(job.folder / "cost.json", _clock(config))

        def report(progress: Progress) -> None:
            if progress.stage == "training":
                meter.epoch()
            if job.progress is not None:
                job.progress(progress)

        result = train(job.dataset, config, job.folder / "training", resume=True, progress=report)
        meter.save()
        columns = [_read(result.output, name, several=len(names) > 1) for name in names]
        ids = [job.dataset.ids[row] for row in job.asked]
        predictions = np.array([[column[id] for column in columns] for id in ids])
        return Outcome(predictions, self._cost(config, meter, len(names)))

    def _of_job(self, targets: tuple[str, ...], job: Job) -> TrainingConfig:
        changes = {"targets": targets, "seed": job.seed, "members": 1, "split": {"kind": "given"}}
        changes["feature_folder"] = job.features
        if job.binary:
            transforms = {name: transform_of(name, self.config.transform) for name in targets}
            changes["transform"] = {**transforms, **dict.fromkeys(job.binary, "binary")}
        return TrainingConfig(**{**self.config.to_dict(), **changes})

    def _epochs_within(self, job: Job, config: TrainingConfig) -> int:
        """Return how many epochs fit into the budget; the first answer is kept."""
        path, budget = job.folder / "budget.json", self.budget or 0
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))["epochs"]
        clock = _clock(config)
        ends = [clock()]

        def note(progress: Progress) -> None:
            if progress.stage == "training":
                ends.append(clock())
                if ends[-1] - ends[0] > budget / 2:
                    raise _KnownEnough

        probe = TrainingConfig(**{**config.to_dict(), "epochs": PROBE_EPOCHS})
        with (
            tempfile.TemporaryDirectory(dir=job.folder) as folder,
            contextlib.suppress(_KnownEnough),
        ):
            train(job.dataset, probe, folder, resume=True, progress=note)
        epoch = float(np.diff(ends).min())
        epochs = max(1, int(budget / epoch))
        with atomic_write(path) as file:
            json.dump({"seconds_per_epoch": epoch, "epochs": epochs}, file)
        return epochs

    def _cost(self, config: TrainingConfig, meter: Meter, n_targets: int) -> Cost:
        network = first_network(config, n_targets)
        on_gpu = _on_gpu(config)
        return Cost(
            device=torch.cuda.get_device_name() if on_gpu else "cpu",
            seconds=meter.seconds,
            epochs=meter.epochs,
            n_parameters=sum(p.numel() for p in network.parameters()),
            peak_memory_mb=torch.cuda.max_memory_allocated() / 2**20
            if on_gpu
            else peak_memory_mb(),
        )


@dataclass(frozen=True)
class _Dumb:
    """What the contestants without a network have in common."""

    network: str = ""
    split_rule: SplitConfig = field(default_factory=SplitConfig)
    combine: Combine = "mean"
    targets: tuple[str, ...] = ()
    first_seed: int = 0
    n_seeds: int = 1

    def settings(self) -> dict[str, Any]:
        """Return the name: there is nothing to set."""
        return {"network": self.network}

    def features(self) -> None:
        """Return None: none are needed."""

    def compete(self, job: Job) -> Outcome:
        """Learn each target by itself and predict."""
        meter = Meter()
        columns = []
        for target, values in job.dataset.targets.items():
            parts = [rows[np.isfinite(values[rows])] for rows in (job.split.train, job.split.val)]
            columns.append(self._predict(job, target, parts[0], parts[1]))
        cost = Cost(seconds=meter.seconds, peak_memory_mb=peak_memory_mb())
        return Outcome(np.stack(columns, axis=1), cost)

    def _predict(self, job: Job, target: str, train: Rows, val: Rows) -> Values:
        raise NotImplementedError


@dataclass(frozen=True)
class Mean(_Dumb):
    """Predicts the mean of the training targets for every crystal."""

    network: str = "mean"

    def _predict(self, job: Job, target: str, train: Rows, val: Rows) -> Values:
        return np.full(len(job.asked), job.dataset.targets[target][train].mean())


@dataclass(frozen=True)
class Composition(_Dumb):
    """Gradient boosted trees that see the composition and no structure (scikit-learn)."""

    network: str = "composition"

    def _predict(self, job: Job, target: str, train: Rows, val: Rows) -> Values:
        try:
            from sklearn.ensemble import (
                HistGradientBoostingClassifier,
                HistGradientBoostingRegressor,
            )
        except ImportError:
            raise ConfigError(
                "benchmark: `network` composition must have scikit-learn, got no such package. "
                "Install potnet[benchmark]."
            ) from None
        values, table = job.dataset.targets[target], composition_table(job.dataset.crystals)
        settings: dict[str, Any] = {
            "learning_rate": 0.05,
            "max_iter": 2000,
            "early_stopping": True,
            "n_iter_no_change": 50,
            "random_state": job.seed,
        }
        validation = {"X_val": table[val], "y_val": values[val]}
        if target in job.binary:
            classes = HistGradientBoostingClassifier(**settings)
            classes.fit(table[train], values[train], **validation)
            return classes.predict_proba(table[job.asked])[:, 1]
        trees = HistGradientBoostingRegressor(loss="absolute_error", **settings)
        trees.fit(table[train], values[train], **validation)
        return trees.predict(table[job.asked])


def composition_table(crystals: Sequence[Crystal]) -> NDArray[np.float64]:
    """Return one row per crystal that depends on nothing but its reduced composition.

    The row holds the share of each element, then mean, standard deviation, least and largest
    value over the atoms of: atomic number, row and column of the periodic table, and the bins of
    electronegativity, radius, valence, ionisation energy, electron affinity and volume; and how
    many elements there are.

    Args:
        crystals: The crystals.

    Returns:
        Shape (n, n_columns), float64.
    """
    properties = _element_properties()
    rows = []
    for crystal in crystals:
        shares = np.bincount(crystal.numbers, minlength=MAX_NUMBER + 1) / crystal.n_atoms
        present = np.flatnonzero(shares)
        weights, values = shares[present, None], properties[present]
        mean = (weights * values).sum(0)
        spread = np.sqrt((weights * (values - mean) ** 2).sum(0))
        parts = (shares[1:], mean, spread, values.min(0), values.max(0), [len(present)])
        rows.append(np.concatenate(parts))
    return np.array(rows)


# Where the bins of each property begin in the table of zeros and ones: group, period,
# electronegativity, radius, valence electrons, ionisation energy, electron affinity, block, volume.
_STARTS = (0, 19, 26, 36, 46, 58, 68, 78, 82, 92)


def _element_properties() -> NDArray[np.float64]:
    """Return, for each atomic number, itself and the bin of each property, shape (119, 10)."""
    table = element_table().numpy()
    columns = [np.arange(len(table), dtype=np.float64)]
    for start, stop in zip(_STARTS, _STARTS[1:], strict=False):
        bins = table[:, start:stop]
        columns.append(np.where(bins.any(1), bins.argmax(1), -1.0))
    return np.stack(columns, axis=1)


def _on_gpu(config: TrainingConfig) -> bool:
    return config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())


def _clock(config: TrainingConfig) -> Callable[[], float]:
    """Return processor seconds for a CPU; a GPU is paid for as long as it is held."""
    return time.monotonic if _on_gpu(config) else time.process_time


def _read(folder: Path, target: str, *, several: bool) -> dict[str, float]:
    """Return what a training run predicted for its validation and test crystals, by id."""
    parts: tuple[Literal["val", "test"], ...] = ("val", "test")
    found: dict[str, float] = {}
    for part in parts:
        path = RunFolder(folder).predictions(part, target, several=several)
        if path.exists():
            with open(path, encoding="utf-8", newline="") as file:
                rows = csv.DictReader(file)
                found |= {csv_text(row["id"]): float(row["prediction"]) for row in rows}
    return found
