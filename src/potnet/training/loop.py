"""Training: from a dataset and settings to a folder with a model, its metrics and predictions."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from potnet.data.dataset import Dataset
from potnet.devices import device
from potnet.errors import ConfigError, DataError, PotNetError
from potnet.features import Batch
from potnet.models.evidence import combined
from potnet.targets import chosen_targets, groups, in_units, is_probability
from potnet.training.calibrate import calibrate
from potnet.training.callbacks import Callback, Callbacks, Progress, TrainingResult
from potnet.training.config import TrainingConfig
from potnet.training.export import write_archive
from potnet.training.finetune import (
    first_network,
    kept_scales,
    outputs_alike,
    resolved,
    transforms_asked,
)
from potnet.training.metrics import Metrics, binary_metrics, class_metrics, regression_metrics
from potnet.training.prepared import Prepared, prepare
from potnet.training.run_folder import RunFolder, fingerprints
from potnet.training.trainer import Trainer, predict

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from potnet.models.contract import Network

MAX_THREADS = 8


def train(
    dataset: Dataset,
    config: TrainingConfig,
    output: str | os.PathLike[str],
    *,
    resume: bool = False,
    on_error: Literal["raise", "skip"] = "raise",
    progress: Callable[[Progress], None] | None = None,
    callbacks: Sequence[Callback] = (),
    weights: ArrayLike | None = None,
    batch: Batch | None = None,
    export_now: bool = False,
) -> TrainingResult:
    """Train a network, or several with different seeds, and write a model archive.

    :class:`~potnet.training.run_folder.RunFolder` says what the folder holds then. A run killed at
    any moment continues with ``resume=True`` and ends with the same numbers, to the last bit on the
    CPU.

    Args:
        dataset: Crystals and targets. Test crystals need no targets.
        config: Settings.
        output: Folder of the run; must be empty or missing unless ``resume`` is true.
        resume: Continue from the last checkpoint in ``output`` (or begin if there is none). With
            more epochs than before, a run that was finished goes on with a learning rate that
            rises and falls once more over the new epochs, from the weights and the state of the
            optimizer at its end; the kept weights are the best of all epochs.
        on_error: What happens when a crystal cannot be prepared: "raise", or "skip" and list it
            in ``errors.csv``.
        progress: Called after each chunk of features and each epoch.
        callbacks: Told of the beginning, each step and the end, such as
            :class:`~potnet.training.callbacks.TensorBoard`.
        weights: How much each crystal counts in the loss and in the choice of the kept weights,
            above zero, shape (n,); all alike by default.
        batch: What the network's features make of all crystals of ``dataset``, in order, for
            runs that share them; computed here if not given.
        export_now: With ``resume``: write metrics, predictions and the model of the best epoch so
            far, and train no further. The run can still be resumed.

    Returns:
        Metrics, paths and failures.

    Raises:
        ConfigError: If a setting does not fit, or ``output`` belongs to another run.
        DataError: If the targets or the split cannot be used, or the checkpoints are damaged.
        StructureError: If a crystal cannot be prepared and ``on_error`` is "raise".
    """
    start = time.monotonic()
    _check_types(dataset, config)
    folder = RunFolder(output)
    if resume:
        config = folder.begun(config)
    alike = outputs_alike(config, dataset)
    asked = transforms_asked(config, dataset, alike)
    chosen = chosen_targets(dataset, config.targets, asked)
    dataset, transforms = chosen.dataset, chosen.transforms
    kept = kept_scales(config, dataset, transforms, alike)
    config = resolved(config, kept, len(dataset))
    dataset = in_units(dataset, {scale.name: scale.unit for scale in kept.values()})
    weights = None if weights is None else _checked_weights(weights, dataset)
    if resume:
        config = folder.prolonged(config)
    fabric = _launched(config)
    told = Callbacks(callbacks, progress) if fabric.is_global_zero else Callbacks()
    report = told.progressed
    lock = folder.locked() if fabric.is_global_zero else nullcontext()
    with _own_state_of_torch(fabric, config), lock, _together(fabric, folder):
        network = first_network(config, len(transforms), kept=kept)
        if fabric.is_global_zero:
            folder.open(config, resume=resume)
        fabric.barrier()
        told.started(config, folder.path)
        prepared = prepare(
            dataset,
            transforms,
            network,
            config,
            fabric.device,
            on_error=on_error,
            progress=lambda done, total: report(Progress("features", done, total)),
            batch=batch,
            kept=kept,
            classes=chosen.classes,
            weights=weights,
        )
        _require_crystals_for_all(fabric, config, len(prepared.split.train))
        run = folder.begun_as(fingerprints(prepared, config, network))
        if fabric.is_global_zero:
            folder.describe(prepared, run, fabric)
        trainers = _train_all(prepared, config, folder, run, fabric, report, export_now)
        if export_now:
            done = max(trainer.epoch for trainer in trainers)
            config = config.model_copy(update={"epochs": done, "members": len(trainers)})
        networks = [trainer.take_best() for trainer in trainers]
        metrics: dict[str, dict[str, Metrics]] = {}
        if fabric.is_global_zero:
            metrics = _conclude(prepared, config, networks, folder, fabric)
        fabric.barrier()
        result = TrainingResult(
            output=folder.path,
            model=folder.model,
            metrics=metrics,
            best_epochs=tuple(trainer.best_epoch for trainer in trainers),
            failures=prepared.failures,
            seconds=time.monotonic() - start,
        )
        told.finished(result)
    return result


def _check_types(dataset: Any, config: Any) -> None:
    if not isinstance(dataset, Dataset) or not isinstance(config, TrainingConfig):
        raise ConfigError(
            "train: `dataset` must be a Dataset and `config` a TrainingConfig, got "
            f"{type(dataset).__name__} and {type(config).__name__}. Open a file with "
            "potnet.data.open, and write potnet.TrainingConfig(...)."
        )


def _checked_weights(weights: ArrayLike, dataset: Dataset) -> NDArray[np.float64]:
    found = np.asarray(weights, dtype=np.float64)
    if found.shape != (len(dataset),) or not (np.isfinite(found) & (found > 0)).all():
        raise DataError(
            f"train: `weights` must be a number above zero for each of {len(dataset)} crystals, "
            f"got shape {found.shape}{f' and {found.min():g}' if found.size else ''}. Leave "
            "crystals out that are not to count."
        )
    return found


def _launched(config: TrainingConfig) -> Fabric:
    """Return the launched processes; under torchrun these are the ones it started."""
    from lightning_fabric import Fabric

    if config.device != "auto":
        device(config.device)  # one sentence where there is none
    n_processes = config.devices * config.n_nodes
    if config.batch_size < n_processes:
        raise ConfigError(
            f"training config: `batch_size` must be at least the {n_processes} processes, got "
            f"{config.batch_size}. Raise it."
        )
    # It recommends TF32 to everyone with such a GPU; networks here keep float32.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=config.device,
        devices=config.devices,
        num_nodes=config.n_nodes,
        strategy="ddp" if n_processes > 1 else "auto",
        precision=config.precision,
    )
    fabric.launch()
    return fabric


def _require_crystals_for_all(fabric: Fabric, config: TrainingConfig, n_train: int) -> None:
    """Raise unless every process has a crystal in every step."""
    n_steps = math.ceil(n_train / config.batch_size)
    if n_train // n_steps < fabric.world_size:
        raise ConfigError(
            f"training config: a step must have a crystal for each of {fabric.world_size} "
            f"processes, got {n_train} training crystals in {n_steps} steps. Raise `batch_size`, "
            "or take fewer processes."
        )


@contextmanager
def _together(fabric: Fabric, folder: RunFolder) -> Iterator[None]:
    """Say in a sentence that another process of the run has ended, which ends this one, too.

    Those that are left find a closed connection, or are told to end by torchrun.
    """
    sentence = (
        f"{folder.path}: all {fabric.world_size} processes must live until training ends, got one "
        "that has ended. Start all again with --resume, which goes on from the last checkpoint."
    )
    try:
        yield
    except RuntimeError as error:
        is_lost = isinstance(error, torch.distributed.DistError) or "by peer" in str(error)
        if fabric.world_size == 1 or not is_lost:
            raise
        raise PotNetError(sentence) from None
    except SystemExit:
        if fabric.world_size == 1:
            raise
        raise PotNetError(sentence) from None


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


def _train_all(
    prepared: Prepared,
    config: TrainingConfig,
    folder: RunFolder,
    run: str,
    fabric: Fabric,
    report: Callable[[Progress], None],
    export_now: bool,
) -> list[Trainer]:
    """Return the networks, trained one after the other from where their checkpoints are.

    With ``export_now`` they are those that have a checkpoint, as they are.
    """
    trainers: list[Trainer] = []
    for index in range(config.members or 1):
        trainer = Trainer(
            fabric,
            config,
            index,
            scales=prepared.scales,
            pair_counts=prepared.loader.pair_counts[prepared.split.train],
            references=prepared.references,
            kept=prepared.kept,
        )
        checkpoint = folder.read_checkpoint(trainer.name, run=run)
        if checkpoint is not None:
            trainer.restore(checkpoint)
        elif export_now:
            break
        trainers.append(trainer)
        if fabric.is_global_zero:
            epochs = (epoch for trainer in trainers for epoch in trainer.history)
            folder.rewrite_history(prepared.scales, epochs)
        if not export_now:
            _train_one(prepared, trainer, folder, run, report)
    if not trainers:
        raise ConfigError(
            f"{folder.path}: a run must have a checkpoint before its model is written, got none. "
            "Resume it until the first one."
        )
    return trainers


def _train_one(
    prepared: Prepared,
    trainer: Trainer,
    folder: RunFolder,
    run: str,
    report: Callable[[Progress], None],
) -> None:
    config, split = trainer.config, prepared.split
    saved = time.monotonic()
    if trainer.begins_trained and not trainer.history:
        trainer.correct(prepared)
        _record(prepared, trainer, folder, report, loss=math.nan)  # No worse than it began.
    while not trainer.is_finished:
        learning_rate = trainer.learning_rate
        loss = trainer.train_epoch(prepared.loader, split.train)
        _record(prepared, trainer, folder, report, loss=loss, learning_rate=learning_rate)
        if trainer.fabric.is_global_zero:
            due = time.monotonic() - saved >= config.checkpoint_seconds
            if due or trainer.is_finished:
                folder.write_checkpoint(trainer.name, trainer.checkpoint(run))
                saved = time.monotonic()
    trainer.fabric.barrier()


def _record(
    prepared: Prepared,
    trainer: Trainer,
    folder: RunFolder,
    report: Callable[[Progress], None],
    *,
    loss: float,
    learning_rate: float = 0.0,
) -> None:
    """Validate a network, keep its weights if they are the best, and write the epoch down."""
    predicted = trainer.predict(prepared.loader, prepared.split.val)
    score, errors = _validate(prepared, predicted)
    margin = trainer.margin(_by_crystal(np.abs(prepared.errors(predicted, "val"))))
    # All processes must agree on the best epoch, and only the first one's statistics of
    # normalisation count.
    score, errors, margin = trainer.fabric.broadcast((score, errors, margin))
    epoch = {
        "member": trainer.index,
        "epoch": trainer.epoch,
        "learning_rate": learning_rate,
        "train_loss": loss,
        "val_score": score,
        **errors,
    }
    trainer.record(epoch, score + margin)
    if trainer.fabric.is_global_zero:
        folder.add_epoch(epoch)
    report(Progress("training", trainer.epoch, trainer.config.epochs, trainer.index, epoch))


def _validate(prepared: Prepared, predicted: NDArray[np.float64]) -> tuple[float, dict[str, float]]:
    """Return the score to minimise, and the mean absolute errors in the targets' units.

    The score is the mean absolute error of the standardised targets: for one target without a
    transform, the error in units of the spread of the training targets.
    """
    score = prepared.mean(np.abs(prepared.errors(predicted, "val")), "val").mean()
    errors = {
        f"val_mae_{scale.name}": float(
            np.nanmean(np.abs(scale.physical(predicted[:, k]) - prepared.values(scale, "val")))
        )
        for k, scale in enumerate(prepared.scales)
    }
    return float(score), errors


def _by_crystal(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the targets that are known, nan where none is, shape (n,)."""
    counts = np.isfinite(errors).sum(1)
    return np.where(counts > 0, np.nansum(errors, axis=1) / np.maximum(counts, 1), np.nan)


def measured(
    prepared: Prepared, part: Literal["val", "test"], physical: NDArray[np.float64]
) -> dict[str, Metrics]:
    """Return how good predictions of a part are, by target and by column of classes.

    Args:
        prepared: The targets.
        part: Whose crystals were predicted.
        physical: Predictions in the units of the targets, shape (n, n_targets).
    """
    found: dict[str, Metrics] = {}
    targets = np.stack([prepared.values(scale, part) for scale in prepared.scales], axis=1)
    for k, scale in enumerate(prepared.scales):
        if np.isfinite(targets[:, k]).any():
            is_chance = is_probability(scale.transform)
            measure = binary_metrics if is_chance else regression_metrics
            pair = (targets[:, k], physical[:, k])
            found[scale.name] = measure(*pair, baseline=scale.physical_mean)
    names = [scale.name for scale in prepared.scales]
    for column, places in groups(names, prepared.classes).items():
        if np.isfinite(targets[:, places]).all(1).any():
            chances = physical[:, places]
            found[column] = class_metrics(targets[:, places], chances, prepared.classes[column])
    return found


def _conclude(
    prepared: Prepared,
    config: TrainingConfig,
    networks: Sequence[Network],
    folder: RunFolder,
    fabric: Fabric,
) -> dict[str, dict[str, Metrics]]:
    """Predict validation and test crystals with the best weights; write tables and the model."""
    metrics: dict[str, dict[str, Metrics]] = {}
    residuals = np.empty(0)
    parts: tuple[Literal["val", "test"], ...] = ("val", "test")
    for part in parts:
        rows = getattr(prepared.split, part)
        if not len(rows):
            continue
        members = [
            predict(network, prepared.loader, rows, config.batch_size, fabric)
            for network in networks
        ]
        predicted = combined(np.stack(members), config.combine)
        if part == "val":
            residuals = prepared.errors(predicted, part)
        physical = prepared.physical(predicted)
        ids = [prepared.dataset.ids[row] for row in rows]
        for k, scale in enumerate(prepared.scales):
            path = folder.predictions(part, scale.name, several=len(prepared.scales) > 1)
            folder.write_predictions(path, ids, prepared.values(scale, part), physical[:, k])
        metrics[part] = measured(prepared, part, physical)
    metrics = {part: by_target for part, by_target in metrics.items() if by_target}
    folder.write_metrics(metrics)
    calibration = calibrate(networks, prepared, config, fabric, errors=residuals)
    write_archive(
        folder.model,
        networks,
        prepared,
        config,
        residuals=residuals,
        metrics=metrics,
        calibration=calibration,
    )
    return metrics
