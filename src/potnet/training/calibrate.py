"""How sure a trained model may be, measured on its validation crystals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from potnet.calibration import (
    MAX_POINTS,
    Answers,
    Calibration,
    Contents,
    Evidence,
    ManyContents,
    Output,
)
from potnet.data.dataset import Dataset, take
from potnet.models.evidence import described, evidence, heard
from potnet.targets import Scale, is_probability, settled
from potnet.training.config import TrainingConfig
from potnet.training.trainer import describe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from potnet.models.card import ModelCard
    from potnet.models.contract import Network
    from potnet.training.prepared import Prepared

FEWEST_HELD_OUT = 40  # validation crystals below which nothing is said about familiarity
MOST_LEARNED = 20_000  # training crystals whose errors count
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
    scales = prepared.scales

    def seen(rows: NDArray[np.int64]) -> Evidence:
        found = describe(networks, loader, rows, config.batch_size, fabric)
        contents = Contents.of(take(crystals, rows))
        return evidence(*found, config.combine, contents, loader.atom_counts[rows])

    learned = many_of(train)
    training = answers_of(seen(learned), scales, prepared.standardised[learned])
    states = training.seen.states[: len(some_of(train))]
    trained = ManyContents.of(take(crystals, train))
    known = HeldOut(states, trained, seen(val), errors, outputs_of(scales), training)
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
        training: Answers about training crystals, first those of ``states``; None if not at hand.
    """

    states: NDArray[np.float32]
    trained: ManyContents
    held_out: Evidence
    errors: NDArray[np.float64]
    outputs: tuple[Output, ...]
    training: Answers | None = None

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
            training=self.training,
        )


def held_out_of(
    networks: Sequence[Network],
    card: ModelCard,
    dataset: Dataset,
    *,
    train: NDArray[np.int64],
    val: NDArray[np.int64],
    witnesses: Sequence[Network] = (),
) -> HeldOut:
    """Return what a model that is there already is calibrated by.

    Args:
        networks: The members of the model.
        card: Their card.
        dataset: Crystals with the targets of the model, in its units.
        train: Rows of the crystals that it was trained on.
        val: Rows of crystals that it was not trained on.
        witnesses: Networks that are heard beside the members.
    """
    scales = [target.scale for target in card.targets]

    def answers(rows: NDArray[np.int64]) -> Answers:
        parts = list(_described(networks, dataset, rows, witnesses))
        seen = evidence(
            np.concatenate([part[0] for part in parts]),
            np.concatenate([part[1] for part in parts], axis=1),
            card.combine,
            Contents.of(take(dataset.crystals, rows)),
            np.concatenate([part[2] for part in parts]),
            np.concatenate([part[3] for part in parts], axis=1) if witnesses else None,
        )
        true = [scale.standardise(dataset.targets[scale.name][rows]) for scale in scales]
        return answers_of(seen, scales, np.stack(true, axis=1))

    training, known = answers(many_of(train)), answers(val)
    states = training.seen.states[: len(some_of(train))]
    trained = ManyContents.of(take(dataset.crystals, train))
    return HeldOut(states, trained, known.seen, known.errors, outputs_of(scales), training)


def answers_of(seen: Evidence, scales: Sequence[Scale], true: NDArray[np.float64]) -> Answers:
    """Return what was seen of crystals, and how wrong it is beside ``true``, standardised."""
    return Answers(seen, settled(scales, seen.outputs) - true)


def many_of(train: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return up to ``MOST_LEARNED`` of the rows ``train``, first those of :func:`some_of`."""
    first = some_of(train)
    others = np.random.default_rng(1).permutation(np.setdiff1d(train, first))
    return np.concatenate([first, others[: MOST_LEARNED - len(first)]])


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
    networks: Sequence[Network],
    dataset: Dataset,
    rows: NDArray[np.int64],
    witnesses: Sequence[Network],
) -> Iterator[tuple[NDArray, NDArray[np.float64], NDArray[np.int64], Any]]:
    """Yield states, outputs, numbers of atoms and what is heard of ``rows``, some at a time."""
    features = networks[0].features
    device = next(networks[0].parameters()).device
    for start in range(0, len(rows), BATCH_SIZE):
        crystals = take(dataset.crystals, rows[start : start + BATCH_SIZE])
        batch = features.once(list(crystals)).to(device)
        counts = batch.atom_counts.cpu().numpy()
        yield *described(networks, batch), counts, heard(witnesses, batch)
