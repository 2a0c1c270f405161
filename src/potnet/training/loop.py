"""Training: from a dataset and settings to a folder with a model, its metrics and predictions."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from potnet.data.dataset import PARTS, Dataset, take
from potnet.data.questions import file_name, with_questions
from potnet.data.splits import Split, make_split
from potnet.errors import ConfigError, DataError, Failure
from potnet.features import Batch
from potnet.files import atomic_write, remove_leftovers
from potnet.models.registry import Network
from potnet.training.batches import HeldFeatures, Loader, StreamedFeatures
from potnet.training.checkpoint import read_checkpoint, write_checkpoint
from potnet.training.config import TrainingConfig
from potnet.training.evaluate import Metrics, answer_metrics, regression_metrics
from potnet.training.export import write_archive
from potnet.training.features import Features, Survey, survey
from potnet.training.member import Member, predict
from potnet.training.start import first_network, start_card
from potnet.training.targets import (
    Scale,
    chosen_targets,
    compositions,
    fit_scale,
)

if TYPE_CHECKING:
    from lightning_fabric import Fabric

MAX_THREADS = 8


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        stage: "features", counted in crystals, or "training", counted in epochs.
        done: Crystals or epochs done.
        total: Crystals or epochs in all.
        member: Which network is in training, from 0.
        record: The epoch's row of ``metrics.csv``.
    """

    stage: Literal["features", "training"]
    done: int
    total: int
    member: int = 0
    record: dict[str, float] | None = None


@dataclass(frozen=True)
class TrainingResult:
    """What a run left behind.

    Attributes:
        output: The folder of the run.
        model: The model archive in it.
        metrics: By part ("val", "test") and target; parts without known targets are left out.
            Empty in all processes but the first.
        best_epochs: Epoch of the kept weights of each member.
        failures: Crystals that were left out.
        seconds: Wall time of this call.
    """

    output: Path
    model: Path
    metrics: dict[str, dict[str, Metrics]]
    best_epochs: tuple[int, ...]
    failures: tuple[Failure, ...]
    seconds: float


@dataclass(frozen=True)
class _Prepared:
    """A dataset ready for training: everything below is indexed like ``dataset``."""

    dataset: Dataset
    split: Split
    scales: tuple[Scale, ...]
    loader: Loader
    standardised: NDArray[np.float64]
    references: NDArray[np.float64]


def train(
    dataset: Dataset,
    config: TrainingConfig,
    output: str | os.PathLike[str],
    *,
    resume: bool = False,
    on_error: Literal["raise", "skip"] = "raise",
    progress: Callable[[Progress], None] | None = None,
    batch: Batch | None = None,
) -> TrainingResult:
    """Train a network, or several with different seeds, and write a model archive.

    The folder then holds ``config.json``, ``run.json`` (versions, fingerprint of the data),
    ``split.json`` (ids), ``metrics.csv`` (a row per epoch), ``metrics.json``,
    ``predictions.csv`` (test) and ``predictions-val.csv``, ``errors.csv``, ``checkpoints/`` and
    ``model/``. A run killed at any moment continues with ``resume=True`` and ends with the same
    numbers, to the last bit on the CPU.

    Args:
        dataset: Crystals and targets. Test crystals need no targets.
        config: Settings.
        output: Folder of the run; must be empty or missing unless ``resume`` is true.
        resume: Continue from the last checkpoint in ``output`` (or begin if there is none).
        on_error: What happens when a crystal cannot be prepared: "raise", or "skip" and list it
            in ``errors.csv``.
        progress: Called after each chunk of features and each epoch.
        batch: What the network's features make of all crystals of ``dataset``, in order, for
            runs that share them; computed here if not given.

    Returns:
        Metrics, paths and failures.

    Raises:
        ConfigError: If a setting does not fit, or ``output`` belongs to another run.
        DataError: If the targets or the split cannot be used, or the checkpoints are damaged.
        StructureError: If a crystal cannot be prepared and ``on_error`` is "raise".
    """
    start = time.monotonic()
    output = Path(output)
    dataset = with_questions(dataset, config.targets)
    names = chosen_targets(dataset, config)
    fabric = _start(config)
    report = progress if progress and fabric.is_global_zero else lambda _: None
    with _own_state_of_torch(fabric, config):
        network = first_network(config, len(names))
        if fabric.is_global_zero:
            _open_folder(output, config, resume)
        fabric.barrier()
        split, unknown = make_split(dataset, config.split, names)
        failures = [*dataset.failures, *unknown]
        _require_targets(dataset, names, split)
        used = np.sort(np.concatenate([split.train, split.val, split.test]))
        if batch is None:
            found = survey(
                network.features,
                take(dataset.crystals, used),
                most_bytes=config.feature_memory * 2**30,
                on_error=on_error,
                workers=config.workers,
                progress=lambda done, total: report(Progress("features", done, total)),
            )
            used, failures = used[found.kept], failures + found.failures
        else:
            found = Survey.of(_rows_of(batch, used, len(dataset)))
        references = getattr(network, "references", None)
        n_references = 0 if references is None else references.num_embeddings
        prepared = _prepare(
            dataset, used, found, network.features, split, config, fabric.device, n_references
        )
        run = _fingerprint(prepared, config, network)
        if fabric.is_global_zero:
            _describe(output, prepared, config, failures, run, fabric)
        members = _train_members(output, prepared, config, run, fabric, report)
        networks = [member.take_best() for member in members]
        metrics: dict[str, dict[str, Metrics]] = {}
        if fabric.is_global_zero:
            metrics = _conclude(output, prepared, config, networks, fabric)
        fabric.barrier()
    return TrainingResult(
        output=output,
        model=output / "model",
        metrics=metrics,
        best_epochs=tuple(member.best_epoch for member in members),
        failures=tuple(failures),
        seconds=time.monotonic() - start,
    )


# ---------------------------------------------------------------------------------- surroundings


def _start(config: TrainingConfig) -> Fabric:
    """Return the launched processes; under torchrun these are the ones it started."""
    from lightning_fabric import Fabric

    n_processes = config.devices * config.n_nodes
    if config.batch_size < n_processes:
        raise ConfigError(
            f"training config: `batch_size` must be at least the {n_processes} processes, got "
            f"{config.batch_size}. Raise it."
        )
    fabric = Fabric(
        accelerator=config.device,
        devices=config.devices,
        num_nodes=config.n_nodes,
        strategy="ddp" if n_processes > 1 else "auto",
        precision=config.precision,
    )
    fabric.launch()
    return fabric


@contextmanager
def _own_state_of_torch(fabric: Fabric, config: TrainingConfig) -> Iterator[None]:
    """Leave the caller's generators and number of threads as they were."""
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads or min(threads, MAX_THREADS))
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        torch.set_num_threads(threads)


def _open_folder(output: Path, config: TrainingConfig, resume: bool) -> None:
    output.mkdir(parents=True, exist_ok=True)
    path = output / "config.json"
    if not resume and any(output.iterdir()):
        raise ConfigError(
            f"{output}: the output folder must be empty or missing, got one with files. "
            "Choose another folder, or continue the run in it with resume."
        )
    if resume and path.exists():
        differences = TrainingConfig.read(path).differences(config)
        if differences:
            raise ConfigError(
                f"{path}: settings must not change when a run continues, got "
                f"{'; '.join(differences)} (before, now). Restore them, or start a new folder."
            )
    for folder in (output, output / "checkpoints", output / "model"):
        remove_leftovers(folder)
    (output / "checkpoints").mkdir(exist_ok=True)
    _write_json(path, config.to_dict())


# ------------------------------------------------------------------------------------------ data


def _require_targets(dataset: Dataset, names: Sequence[str], split: Split) -> None:
    """Raise unless every target is known for a training and for a validation crystal."""
    for name in names:
        for part in ("train", "val"):
            if not np.isfinite(dataset.targets[name][getattr(split, part)]).any():
                raise DataError(
                    f"split: target {name!r} must be known for a crystal in {part}, got none. "
                    "Check the column and the split."
                )


def _keep(split: Split, mask: NDArray[np.bool_]) -> Split:
    return Split(*(rows[mask[rows]] for rows in (split.train, split.val, split.test)))


def _rows_of(batch: Batch, rows: NDArray[np.int64], n: int) -> Batch:
    """Return the crystals ``rows`` of features that were computed elsewhere."""
    if len(batch) != n:
        raise DataError(
            f"train: `batch` must hold the {n} crystals of the dataset, got {len(batch)}. "
            "Compute it from dataset.crystals."
        )
    return batch[torch.from_numpy(rows)]


def _prepare(
    dataset: Dataset,
    rows: NDArray[np.int64],
    found: Survey,
    features: Features,
    split: Split,
    config: TrainingConfig,
    device: torch.device,
    n_references: int,
) -> _Prepared:
    """Join the features ``found`` of the crystals ``rows`` with their standardised targets.

    If the network has references, the linear function of the composition with which it begins is
    not counted into the standard deviations.
    """
    place = np.full(len(dataset), -1)
    place[rows] = np.arange(len(rows))
    names = chosen_targets(dataset, config)
    kept = _keep(split, place >= 0)
    _require_targets(dataset, names, kept)
    local = Split(*(place[part] for part in (kept.train, kept.val, kept.test)))
    chosen = dataset.subset(rows)
    shares = compositions(chosen)[:, :n_references]
    fitted = [fit_scale(chosen, n, config.transform_of(n), local.train, shares) for n in names]
    scales = tuple(scale for scale, _ in fitted)
    standardised = np.stack([s.standardise(chosen.targets[s.name]) for s in scales], axis=1)
    loader: Loader
    if found.batch is None:
        loader = StreamedFeatures(
            features, chosen.crystals, found, standardised, device, config.max_pairs, config.workers
        )
    else:
        loader = HeldFeatures(found, standardised, device, config.max_pairs)
    references = np.stack([references for _, references in fitted], axis=1)
    return _Prepared(chosen, local, scales, loader, standardised, references)


def _fingerprint(prepared: _Prepared, config: TrainingConfig, network: Network) -> str:
    """Return a hash of all that decides the result of a run."""
    decisive = TrainingConfig().differences(config)
    # Whole, for a default of the network may be another one when the run continues.
    decisive.append(network.settings.model_dump_json())
    parts = prepared.split.named(prepared.dataset.ids)
    if config.start is not None:
        decisive.append(start_card(config).weights_sha256)
    text = json.dumps([decisive, prepared.dataset.sha256, parts])
    return hashlib.sha256(text.encode()).hexdigest()


# -------------------------------------------------------------------------------------- training


def _train_members(
    output: Path,
    prepared: _Prepared,
    config: TrainingConfig,
    run: str,
    fabric: Fabric,
    report: Callable[[Progress], None],
) -> list[Member]:
    """Train the members one after the other, from where their checkpoints are."""
    members = []
    for index in range(config.members):
        member = Member(
            fabric,
            config,
            index,
            scales=prepared.scales,
            n_train=len(prepared.split.train),
            references=prepared.references,
        )
        checkpoint = read_checkpoint(output / "checkpoints", member.name, run=run)
        if checkpoint is not None:
            member.restore(checkpoint)
        members.append(member)
        if fabric.is_global_zero:
            _rewrite_history(output / "metrics.csv", prepared.scales, members)
        _train_member(output, prepared, member, run, report)
    return members


def _train_member(
    output: Path,
    prepared: _Prepared,
    member: Member,
    run: str,
    report: Callable[[Progress], None],
) -> None:
    config, split = member.config, prepared.split
    saved = time.monotonic()
    while not member.is_finished:
        learning_rate = member.learning_rate
        loss = member.train_epoch(prepared.loader, split.train)
        validation = _validate(prepared, member.predict(prepared.loader, split.val))
        # All processes must agree on the best epoch, and only the first one's statistics of
        # normalisation count.
        score, errors = member.fabric.broadcast(validation)
        entry = {
            "member": member.index,
            "epoch": member.epoch,
            "learning_rate": learning_rate,
            "train_loss": loss,
            "val_score": score,
            **errors,
        }
        member.record(entry, score)
        if member.fabric.is_global_zero:
            with open(output / "metrics.csv", "a", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(entry.values())
            due = time.monotonic() - saved >= config.checkpoint_seconds
            if due or member.is_finished:
                write_checkpoint(output / "checkpoints", member.name, member.checkpoint(run))
                saved = time.monotonic()
        report(Progress("training", member.epoch, config.epochs, member.index, entry))
    member.fabric.barrier()


def _validate(
    prepared: _Prepared, predicted: NDArray[np.float64]
) -> tuple[float, dict[str, float]]:
    """Return the score to minimise, and the mean absolute errors in the targets' units.

    The score is the mean absolute error of the standardised targets: for one target without a
    transform, the error in units of the spread of the training targets.
    """
    rows = prepared.split.val
    settled = _settled(prepared.scales, predicted)
    score = np.nanmean(np.abs(settled - prepared.standardised[rows]), axis=0).mean()
    errors = {
        f"val_mae_{scale.name}": float(
            np.nanmean(np.abs(scale.physical(predicted[:, k]) - _values(prepared, scale, rows)))
        )
        for k, scale in enumerate(prepared.scales)
    }
    return float(score), errors


def _settled(scales: Sequence[Scale], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    columns = zip(scales, predicted.T, strict=True)
    return np.stack([scale.settled(column) for scale, column in columns], axis=1)


def _values(prepared: _Prepared, scale: Scale, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return prepared.dataset.targets[scale.name][rows]


def _rewrite_history(path: Path, scales: Sequence[Scale], members: Sequence[Member]) -> None:
    """Write the epochs that the checkpoints know; later ones of a killed run will come again."""
    names = [f"val_mae_{scale.name}" for scale in scales]
    header = ["member", "epoch", "learning_rate", "train_loss", "val_score", *names]
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(entry.values() for member in members for entry in member.history)


# ------------------------------------------------------------------------------------------- end


def _conclude(
    output: Path,
    prepared: _Prepared,
    config: TrainingConfig,
    networks: Sequence[nn.Module],
    fabric: Fabric,
) -> dict[str, dict[str, Metrics]]:
    """Predict validation and test crystals with the best weights; write tables and the model."""
    combine = np.median if config.combine == "median" else np.mean
    metrics: dict[str, dict[str, Metrics]] = {}
    residuals = np.empty(0)
    for part in ("val", "test"):
        rows = getattr(prepared.split, part)
        if not len(rows):
            continue
        members = [
            predict(network, prepared.loader, rows, config.batch_size, fabric)
            for network in networks
        ]
        predicted = combine(members, axis=0)
        if part == "val":
            residuals = _settled(prepared.scales, predicted) - prepared.standardised[rows]
        metrics[part] = {}
        for k, scale in enumerate(prepared.scales):
            values, target = scale.physical(predicted[:, k]), _values(prepared, scale, rows)
            several = len(prepared.scales) > 1
            name = (
                "predictions" + ("-val" * (part == "val")) + (f"-{file_name(scale.name)}" * several)
            )
            ids = [prepared.dataset.ids[row] for row in rows]
            _write_predictions(output / f"{name}.csv", ids, target, values)
            if np.isfinite(target).any():
                baseline = scale.physical_mean
                measure = answer_metrics if scale.transform == "yes-no" else regression_metrics
                metrics[part][scale.name] = measure(target, values, baseline=baseline)
    metrics = {part: by_target for part, by_target in metrics.items() if by_target}
    _write_json(output / "metrics.json", metrics)
    write_archive(
        output / "model",
        networks,
        dataset=prepared.dataset,
        split=prepared.split,
        atom_counts=prepared.loader.atom_counts,
        scales=prepared.scales,
        config=config,
        residuals=residuals,
        metrics=metrics,
    )
    return metrics


def _write_predictions(
    path: Path,
    ids: Sequence[str],
    target: NDArray[np.float64],
    prediction: NDArray[np.float64],
) -> None:
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "target", "prediction"])
        for id, true, value in zip(ids, target.tolist(), prediction.tolist(), strict=True):
            writer.writerow([id, "" if np.isnan(true) else repr(true), f"{value:.9g}"])


def _describe(
    output: Path,
    prepared: _Prepared,
    config: TrainingConfig,
    failures: Sequence[Failure],
    run: str,
    fabric: Fabric,
) -> None:
    """Write what a reader needs to repeat the run."""
    import potnet

    dataset, split = prepared.dataset, prepared.split
    split.write(output / "split.json", dataset.ids)
    with atomic_write(output / "errors.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "stage", "reason"])
        writer.writerows(asdict(failure).values() for failure in failures)
    _write_json(
        output / "run.json",
        {
            "run": run,
            "versions": {
                "potnet": potnet.__version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "device": str(fabric.device),
            "processes": fabric.world_size,
            "features": "held" if isinstance(prepared.loader, HeldFeatures) else "streamed",
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


def _write_json(path: Path, content: Any) -> None:
    with atomic_write(path) as file:
        json.dump(content, file, indent=1)
