"""The folder of a run: its files, what they are called, and what must not change in it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from potnet.data.dataset import PARTS
from potnet.errors import FAILURE_COLUMNS, ConfigError
from potnet.files import atomic_write, exclusive, remove_leftovers
from potnet.targets import Scale, excluding
from potnet.text import csv_cell, file_name
from potnet.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from potnet.training.config import TrainingConfig
from potnet.training.finetune import origin_card
from potnet.training.metrics import Metrics
from potnet.training.prepared import Prepared

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from potnet.models.contract import Network

Epoch = dict[str, float]
LOCK = ".lock"
# What settings were when nobody set them, and are no longer: first what changed last.
FORMER: tuple[dict[str, Any], ...] = (
    {"combine": "median"},
    {"combine": "median", "transform": "none"},
    {"combine": "median", "transform": "none", "epochs": 300},
)


class RunFolder:
    """The folder of a run.

    It holds ``config.json``, ``run.json`` (versions, fingerprint of the data), ``split.json``
    (ids), ``metrics.csv`` (a row per epoch), ``metrics.json``, ``predictions.csv`` (test) and
    ``predictions-val.csv``, ``errors.csv``, ``checkpoints/`` and ``model/``.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def model(self) -> Path:
        """The model archive."""
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process alone.

        Raises:
            ConfigError: If another process trains in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        refusal = ConfigError(
            f"{self.path}: the output folder must be free, got one that another process "
            "trains in. Wait for it, or choose another folder."
        )
        with exclusive(self.path / LOCK, refusal):
            yield

    def begun(self, config: TrainingConfig) -> TrainingConfig:
        """Return the settings, with those of the run here for what has had other defaults before.

        A run goes on as it began, unless somebody says otherwise.
        """
        path = self.path / "config.json"
        if not path.exists():
            return config
        known = TrainingConfig.read(path).model_dump(include={*FORMER[-1], "members"})
        return TrainingConfig(**{**known, **config.model_dump(exclude_unset=True)})

    def prolonged(self, config: TrainingConfig) -> TrainingConfig:
        """Return the settings with which the run here goes on, perhaps for more epochs."""
        path = self.path / "config.json"
        if not path.exists():
            return config
        known = TrainingConfig.read(path)
        if config.epochs < known.epochs:
            return config  # which is refused
        is_longer = config.epochs > known.epochs
        cycles = (*known.cycles, known.epochs) if is_longer else known.cycles
        return TrainingConfig(**config.to_dict() | {"cycles": cycles})

    def open(self, config: TrainingConfig, *, resume: bool) -> None:
        """Make the folder ready for a run, or for its continuation.

        Raises:
            ConfigError: If the folder belongs to another run.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / "config.json"
        if not resume and any(item.name != LOCK for item in self.path.iterdir()):
            raise ConfigError(
                f"{self.path}: the output folder must be empty or missing, got one with files. "
                "Choose another folder, or continue the run in it with resume."
            )
        if resume and path.exists():
            known = TrainingConfig.read(path)
            longer = {"epochs": config.epochs, "cycles": config.cycles}
            if config.epochs > known.epochs:
                known = TrainingConfig(**known.to_dict() | longer)
            differences = known.differences(config)
            if differences:
                raise ConfigError(
                    f"{path}: settings must not change when a run continues, got "
                    f"{'; '.join(differences)} (before, now). Restore them, or start a new folder."
                )
        for folder in (self.path, self.checkpoints, self.model):
            remove_leftovers(folder)
        self.checkpoints.mkdir(exist_ok=True)
        _write_json(path, config.to_dict())

    def begun_as(self, fingerprints: Sequence[str]) -> str:
        """Return the one of some fingerprints with which a run here began, else the first."""
        path = self.path / "run.json"
        known = json.loads(path.read_text("utf-8")).get("run") if path.exists() else ""
        return next((found for found in fingerprints if found == known), fingerprints[0])

    def describe(self, prepared: Prepared, run: str, fabric: Fabric) -> None:
        """Write what a reader needs to repeat the run."""
        dataset, split = prepared.dataset, prepared.split
        split.write(self.path / "split.json", dataset.ids)
        failures = (map(csv_cell, asdict(failure).values()) for failure in prepared.failures)
        _write_table(self.path / "errors.csv", FAILURE_COLUMNS, failures)
        _write_json(
            self.path / "run.json",
            {
                "run": run,
                "versions": {
                    "potnet": version("potnet"),
                    "torch": torch.__version__,
                    "numpy": np.__version__,
                    "python": platform.python_version(),
                },
                "device": str(fabric.device),
                "processes": fabric.world_size,
                "features": prepared.loader.kind,
                "data": {
                    "name": dataset.name,
                    "source": dataset.source,
                    "licence": dataset.licence,
                    "sha256": dataset.sha256,
                    "sizes": {part: len(getattr(split, part)) for part in PARTS},
                },
                "targets": [asdict(scale) for scale in prepared.scales],
            },
        )

    def read_checkpoint(self, name: str, *, run: str) -> Checkpoint | None:
        """Return the newest checkpoint of a network, or None if there is none."""
        return read_checkpoint(self.checkpoints, name, run=run)

    def write_checkpoint(self, name: str, checkpoint: Checkpoint) -> None:
        """Write a checkpoint over the older of two."""
        write_checkpoint(self.checkpoints, name, checkpoint)

    def rewrite_history(self, scales: Sequence[Scale], epochs: Iterable[Epoch]) -> None:
        """Write the epochs that the checkpoints know; later ones of a killed run come again."""
        names = [f"val_mae_{scale.name}" for scale in scales]
        header = ["member", "epoch", "learning_rate", "train_loss", "val_score", *names]
        _write_table(self.path / "metrics.csv", header, (epoch.values() for epoch in epochs))

    def add_epoch(self, epoch: Epoch) -> None:
        """Add a row to the history."""
        with open(self.path / "metrics.csv", "a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(epoch.values())

    def predictions(self, part: Literal["val", "test"], target: str, *, several: bool) -> Path:
        """Return the file of the predictions for a part; targets of several have each their own."""
        name = "predictions" + "-val" * (part == "val") + f"-{file_name(target)}" * several
        return self.path / f"{name}.csv"

    def write_predictions(
        self,
        path: Path,
        ids: Sequence[str],
        target: NDArray[np.float64],
        prediction: NDArray[np.float64],
    ) -> None:
        """Write predictions beside their targets, which are left empty where unknown."""
        rows = zip(ids, target.tolist(), prediction.tolist(), strict=True)
        _write_table(
            path,
            ["id", "target", "prediction"],
            (
                [csv_cell(id), "" if np.isnan(true) else repr(true), f"{value:.9g}"]
                for id, true, value in rows
            ),
        )

    def write_metrics(self, metrics: dict[str, dict[str, Metrics]]) -> None:
        """Write the errors by part and target."""
        _write_json(self.path / "metrics.json", metrics)


def fingerprints(prepared: Prepared, config: TrainingConfig, network: Network) -> tuple[str, ...]:
    """Return hashes of all that decides the result of a run: that of today, and former ones.

    What is hashed of the settings is where they differ from the defaults, which were others before.
    """
    # A run that is prolonged stays the same run.
    first = {"epochs": config.cycles[0] if config.cycles else config.epochs, "cycles": ()}
    chosen = TrainingConfig(**config.to_dict() | first)
    # Whole, for a default of the network may be another one when the run continues.
    decisive = [network.settings.model_dump_json()]
    if config.finetune is not None:
        decisive.append(origin_card(config).weights_sha256)
    if excluding(prepared.scales):
        decisive.append("softmax")  # which classes had not before
    if prepared.weights is not None:
        decisive.append(hashlib.sha256(prepared.weights.tobytes()).hexdigest())
    parts = prepared.split.named(prepared.dataset.ids)

    def fingerprint(defaults: dict[str, Any]) -> str:
        differences = TrainingConfig(members=1, **defaults).differences(chosen)
        text = json.dumps([[*differences, *decisive], prepared.dataset.sha256, parts])
        return hashlib.sha256(text.encode()).hexdigest()

    return tuple(fingerprint(defaults) for defaults in ({}, *FORMER))


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _write_json(path: Path, content: Any) -> None:
    with atomic_write(path) as file:
        json.dump(content, file, indent=1)
