"""How sure a trained model may be, measured on its validation crystals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from potnet.calibration import MAX_POINTS, Calibration, Contents, Evidence, Output
from potnet.data.dataset import Dataset, take
from potnet.models.evidence import described, evidence
from potnet.targets import Scale, is_probability, settled
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
    states, _ = describe(networks, loader, some_of(train), config.batch_size, fabric)
    found = describe(networks, loader, val, config.batch_size, fabric)
    held_out = evidence(
        *found, config.combine, Contents.of(take(crystals, val)), loader.atom_counts[val]
    )
    trained = Contents.of(take(crystals, train))
    known = HeldOut(states, trained, held_out, errors, outputs_of(prepared.scales))
    return known.fit(config.interval_level)


@dataclass(frozen=True)
class HeldOut:
    """What a calibration is fitted to.

    Attributes:
        states: Of some of the training crystals, shape (n_points, n_states).
        trained: All training crystals.
        held_out: Crystals that were not trained on.
        errors: Of their predictions, standardised, nan where unknown, shape (n, n_targets).
        outputs: What is known of each target.
    """

    states: NDArray[np.float32]
    trained: Contents
    held_out: Evidence
    errors: NDArray[np.float64]
    outputs: tuple[Output, ...]

    def fit(self, level: float, rows: NDArray | None = None) -> Calibration:
        """Return the calibration on the crystals held out, or on those in ``rows``."""
        every = np.arange(len(self.held_out)) if rows is None else rows
        return Calibration.fit(
            self.states,
            self.trained,
            self.held_out[every],
            self.errors[every],
            self.outputs,
            level=level,
        )


def held_out_of(
    networks: Sequence[Network],
    card: ModelCard,
    dataset: Dataset,
    *,
    train: NDArray[np.int64],
    val: NDArray[np.int64],
) -> HeldOut:
    """Return what a model that is there already is calibrated by.

    Args:
        networks: The members of the model.
        card: Their card.
        dataset: Crystals with the targets of the model, in its units.
        train: Rows of the crystals that it was trained on.
        val: Rows of crystals that it was not trained on.
    """
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
    return HeldOut(states, trained, held_out, errors, outputs_of(scales))


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
        has_interval = not is_probability(scale.transform)
        outputs.append(Output(scale.floor, found[0] if found else -1, has_interval))
    return tuple(outputs)


def lowest(values: NDArray[np.float64]) -> float | None:
    """Return 0 if no training target is below it: then no end of an interval is; else None."""
    known = values[np.isfinite(values)]
    return 0.0 if len(known) and known.min() >= 0 else None


def _described(
    networks: Sequence[Network], dataset: Dataset, rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray, NDArray[np.float64], NDArray[np.int64]]]:
    """Yield states, outputs and numbers of atoms of the crystals ``rows``, some at a time."""
    features = networks[0].features
    device = next(networks[0].parameters()).device
    for start in range(0, len(rows), BATCH_SIZE):
        crystals = take(dataset.crystals, rows[start : start + BATCH_SIZE])
        batch = features.once(list(crystals)).to(device)
        yield *described(networks, batch), batch.atom_counts.cpu().numpy()
