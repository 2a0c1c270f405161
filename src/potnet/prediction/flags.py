"""Reasons to doubt a prediction, in words: where a crystal lies outside of what a model knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from potnet.calibration import COMPONENTS
from potnet.crystal import SYMBOLS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from potnet.crystal import Crystal
    from potnet.models.card import DataCard

UNFAMILIAR = 0.08
"""A crystal is flagged if less than this share of the crystals held out is as far from training."""
UNFAMILIAR_FLAG = "unfamiliar"  # how the flag begins
_REASONS = {
    "distance": "by its structure and elements",
    "remainder": "by its structure and elements",
    "volume": "by its volume per atom",
    "support": "for {} is in {}",
}


def outside_of_training(data: DataCard, crystal: Crystal, n_atoms: int) -> tuple[str, ...]:
    """Return a flag for each range of the training data that a crystal is out of.

    Args:
        data: What the model learned from.
        crystal: The crystal as it was given.
        n_atoms: Atoms of the cell that the model saw: the primitive cell, as a rule.
    """
    flags = []
    symbols = {SYMBOLS[number] for number in crystal.composition}
    if unknown := sorted(symbols.difference(data.elements)):
        flags.append(f"elements never trained on: {', '.join(unknown)}")
    if data.anchors and symbols.isdisjoint(data.anchors):
        flags.append(f"no {' or '.join(data.anchors)}, which nearly all of training has")
    if n_atoms > data.max_atoms:
        flags.append(f"{n_atoms} atoms, training had at most {data.max_atoms}")
    low, high = data.volume_per_atom
    volume = crystal.volume / crystal.n_atoms
    if not low <= volume <= high:
        flags.append(f"{volume:.4g} Å^3 per atom, training had {low:.4g} to {high:.4g}")
    return tuple(flags)


def unfamiliar(
    crystal: Crystal,
    familiarity: float,
    excess: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> tuple[str, ...]:
    """Return a flag if hardly a crystal held out is as far from training as this one.

    Args:
        crystal: The crystal.
        familiarity: Share of the crystals held out that are as far or farther.
        excess: How far it is beyond what is usual, by component, in the order of ``COMPONENTS``.
        counts: Training crystals that have each element, by atomic number.
    """
    if familiarity >= UNFAMILIAR:
        return ()
    reason = _REASONS[COMPONENTS[int(np.argmax(excess))]]
    if reason is _REASONS["support"]:
        rarest = min(set(crystal.numbers.tolist()), key=lambda number: counts[number])
        symbol = dict(zip(crystal.numbers.tolist(), crystal.symbols, strict=True))[rarest]
        n = int(counts[rarest])
        reason = reason.format(symbol, f"{n or 'no'} training crystal{'s' if n > 1 else ''}")
    share = "none" if familiarity == 0 else f"{100 * familiarity:.1g} %"
    how = f"{share} of held-out crystals are as far from training, {reason}"
    return (f"{UNFAMILIAR_FLAG}: {how}",)
