"""How sure a trained model may be, measured on its validation crystals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from potnet.calibration import MAX_POINTS, Calibration, Contents, Output
from potnet.data.dataset import Dataset, take
from potnet.models.evidence import described, evidence
from potnet.targets import Scale, settled
from potnet.training.config import TrainingConfig
from potnet.training.trainer import describe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from potnet.models.card import ModelCard
    from potnet.models.contract import Network
    from potnet.training.prepared import Prepared

FEWEST_HELD_OUT = 40  # validation crystals below which nothing is said about familiarity
BATCH_SIZE = 64


def calibrate(
    networks: Sequence[Network],
    prepared: Prepared,
    config: TrainingConfig,
    fabric: Fabric,
    *,
    errors: NDArray[np.float64],
) -> Calibration | None:
    """Return the calibration of networks that have just learned.

    Args:
        networks: The members of the model.
        prepared: What they learned from.
        config: Settings of the run.
        fabric: Where they compute.
        errors: Of the validation crystals, standardised, shape (n_val, n_targets).

    Returns:
        None if there are fewer than ``FEWEST_HELD_OUT`` validation crystals.
    """
    train, val = prepared.split.train, prepared.split.val
    if len(val) < FEWEST_HELD_OUT:
        return None
    loader, crystals = prepared.loader, prepared.dataset.crystals
    rows = some_of(train)
    states, _ = describe(networks, loader, rows, config.batch_size, fabric)
    found = describe(networks, loader, val, config.batch_size, fabric)
    held_out = evidence(
        *found, config.combine, Contents.of(take(crystals, val)), loader.atom_counts[val]
    )
    return Calibration.fit(
        states,
        Contents.of(take(crystals, train)),
        held_out,
        errors,
        outputs_of(prepared.scales),
        level=config.interval_level,
    )


def recalibrate(
    networks: Sequence[Network],
    card: ModelCard,
    dataset: Dataset,
    *,
    train: NDArray[np.int64],
    val: NDArray[np.int64],
    level: float,
) -> Calibration | None:
    """Return the calibration of a model that is there already.

    Args:
        networks: The members of the model.
        card: Their card.
        dataset: Crystals with the targets of the model, in its units.
        train: Rows of the crystals that it was trained on.
        val: Rows of crystals that it was not trained on.
        level: Share of crystals that an interval should cover.

    Returns:
        None if there are fewer than ``FEWEST_HELD_OUT`` crystals in ``val``.
    """
    if len(val) < FEWEST_HELD_OUT:
        return None
    crystals = dataset.crystals
    states = np.concatenate([part[0] for part in _described(networks, dataset, some_of(train))])
    parts = list(_described(networks, dataset, val))
    held_out = evidence(
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts], axis=1),
        card.combine,
        Contents.of(take(crystals, val)),
        np.concatenate([part[2] for part in parts]),
    )
    scales = [target.scale for target in card.targets]
    true = [scale.standardise(dataset.targets[scale.name][val]) for scale in scales]
    errors = settled(scales, held_out.outputs) - np.stack(true, axis=1)
    trained = Contents.of(take(crystals, train))
    return Calibration.fit(states, trained, held_out, errors, outputs_of(scales), level=level)


def some_of(train: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return up to ``MAX_POINTS`` of the rows ``train``, chosen at random, in their order."""
    n = min(MAX_POINTS, len(train))
    return np.sort(np.random.default_rng(0).choice(train, n, replace=False))


def outputs_of(scales: Sequence[Scale]) -> tuple[Output, ...]:
    """Return what a calibration must know of the targets.

    The companion of a quantity is the binary target that says whether it is above a threshold.
    """
    names = [scale.name if scale.transform == "binary" else "" for scale in scales]
    outputs = []
    for scale in scales:
        found = [k for k, name in enumerate(names) if name.startswith(f"{scale.name} > ")]
        is_binary = scale.transform == "binary"
        outputs.append(Output(scale.floor, found[0] if found else -1, not is_binary))
    return tuple(outputs)


def lowest(values: NDArray[np.float64]) -> float | None:
    """Return 0 if no training target is below it: then no end of an interval is; else None."""
    known = values[np.isfinite(values)]
    return 0.0 if len(known) and known.min() >= 0 else None


def _described(networks: Sequence[Network], dataset: Dataset, rows: NDArray[np.int64]):
    """Yield states, outputs and numbers of atoms of the crystals ``rows``, some at a time."""
    features = networks[0].features
    device = next(networks[0].parameters()).device
    for start in range(0, len(rows), BATCH_SIZE):
        crystals = take(dataset.crystals, rows[start : start + BATCH_SIZE])
        batch = features.once(list(crystals)).to(device)
        yield *described(networks, batch), batch.atom_counts.cpu().numpy()
