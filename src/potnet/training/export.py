"""The model archive of a finished run, with a card that says what it is good for."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potnet.calibration import FEWEST, Calibration, conformal_halfwidth
from potnet.crystal import Crystal
from potnet.data.dataset import Dataset, take
from potnet.data.splits import Split
from potnet.models import archive
from potnet.models.card import MAX_GOLDEN_ATOMS, DataCard, ModelCard, TargetCard
from potnet.models.contract import Network
from potnet.targets import Scale, is_probability
from potnet.training.calibrate import lowest
from potnet.training.config import TrainingConfig
from potnet.training.finetune import origin_card
from potnet.training.metrics import Metrics
from potnet.training.prepared import Prepared

N_GOLDEN = 3
ANCHORED = 0.99  # share of the crystals that makes an element a mark of the dataset


def write_archive(
    path: Path,
    networks: Sequence[Network],
    prepared: Prepared,
    config: TrainingConfig,
    *,
    residuals: NDArray[np.float64],
    metrics: dict[str, dict[str, Metrics]],
    calibration: Calibration | None,
) -> None:
    """Write the networks and their card.

    Args:
        path: Folder of the archive.
        networks: Trained members.
        prepared: What they were trained on.
        config: Settings of the run.
        residuals: Prediction minus target of the validation crystals, standardised, nan where
            unknown, shape (n_val, n_targets).
        metrics: What was measured.
        calibration: How sure they may be of each prediction, if that was measured.
    """
    dataset, split = prepared.dataset, prepared.split
    card = ModelCard(
        network=config.network,
        settings=networks[0].settings.model_dump(mode="json"),
        combine=config.combine,
        targets=tuple(
            _target_card(scale, residuals[:, k], config.interval_level, _values(prepared, scale))
            for k, scale in enumerate(prepared.scales)
        ),
        data=_data_card(dataset, split, prepared.loader.atom_counts),
        classes=dict(prepared.classes),
        finetuned_from=None if config.finetune is None else origin_card(config),
        metrics={**metrics, "note": _note(split, config, calibration)},
        limits=_limits(dataset, split),
    )
    smallest = sorted(
        np.concatenate([split.train, split.val]).tolist(),
        key=lambda k: (dataset.crystals[k].n_atoms, dataset.ids[k]),
    )
    golden = [dataset.crystals[k] for k in smallest[:N_GOLDEN]]
    golden = [crystal for crystal in golden if crystal.n_atoms <= MAX_GOLDEN_ATOMS]
    if len(golden) < 2:  # Where all are large, simple ones of an element they have.
        number = int(dataset.crystals[smallest[0]].numbers[0])
        golden = [Crystal([number], np.zeros((1, 3)), size * np.eye(3)) for size in (3.0, 3.5)]
    archive.save(path, networks, archive.with_golden(card, networks, golden), calibration)


def _values(prepared: Prepared, scale: Scale) -> NDArray[np.float64]:
    return prepared.dataset.targets[scale.name][prepared.split.train]


def _target_card(
    scale: Scale, residuals: NDArray[np.float64], level: float, trained: NDArray[np.float64]
) -> TargetCard:
    halfwidth = None
    if not is_probability(scale.transform):  # A probability says itself how sure it is.
        halfwidth = conformal_halfwidth(residuals[np.isfinite(residuals)], level)
    return TargetCard(
        name=scale.name,
        unit=scale.unit,
        transform=scale.transform,
        mean=scale.mean,
        std=scale.std,
        interval_level=None if halfwidth is None else level,
        interval_halfwidth=None if halfwidth is None else halfwidth * scale.std,
        lowest=None if halfwidth is None else lowest(trained),
    )


def _data_card(dataset: Dataset, split: Split, atom_counts: NDArray[np.int64]) -> DataCard:
    symbols: dict[int, str] = {}
    volumes: list[float] = []
    compositions: list[set[str]] = []
    for crystal in take(dataset.crystals, split.train):
        symbols.update(zip(crystal.numbers.tolist(), crystal.symbols, strict=True))
        volumes.append(crystal.volume / crystal.n_atoms)
        compositions.append(set(crystal.symbols))
    ids = sorted(dataset.ids[k] for k in split.train)
    return DataCard(
        name=dataset.name,
        source=dataset.source,
        licence=dataset.licence,
        n_train=len(split.train),
        n_val=len(split.val),
        n_test=len(split.test),
        train_ids_sha256=hashlib.sha256("\n".join(ids).encode()).hexdigest(),
        elements=tuple(symbols[number] for number in sorted(symbols)),
        max_atoms=int(atom_counts[split.train].max()),
        volume_per_atom=(min(volumes), max(volumes)),
        anchors=_anchors(compositions),
    )


def _anchors(compositions: Sequence[set[str]]) -> tuple[str, ...]:
    """Return one or two elements of which nearly every crystal holds one; () if there are none."""
    found: list[str] = []
    rest = list(compositions)
    for _ in range(2):
        counts = Counter(symbol for symbols in rest for symbol in sorted(symbols))
        found.append(counts.most_common(1)[0][0])
        rest = [symbols for symbols in rest if found[-1] not in symbols]
        if len(rest) <= (1 - ANCHORED) * len(compositions):
            return tuple(found)
    return ()


def _note(split: Split, config: TrainingConfig, calibration: Calibration | None) -> str:
    adapt = calibration is not None and any(width is not None for width in calibration.widths)
    widths = "adapt to each crystal" if adapt else f"are constant: fewer than {FEWEST} crystals"
    return (
        f"{config.members} network(s), {config.epochs} epochs; weights chosen and intervals "
        f"calibrated on the {len(split.val)} validation crystals, widths {widths}; 95 % bootstrap "
        "intervals of the mean absolute error; baseline: the mean of the training targets."
    )


def _limits(dataset: Dataset, split: Split) -> str:
    return (
        f"Learned from {len(split.train)} crystals of {dataset.name or 'one dataset'}: not for "
        "elements, sizes or densities outside it, disordered or unrelaxed structures, or "
        "molecules. Intervals hold on average for crystals like those of the dataset."
    )
