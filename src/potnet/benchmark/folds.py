"""Which crystal is tested in which fold, by rules that others use too."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from potnet.data.splits import Split
from potnet.errors import DataError

_NUMBERED = re.compile(r"mb-.*-(\d+)")


def matbench_place(id: str) -> int | None:
    """Return which entry of its task ``mb-phonons-0007`` is, from 0; None for other ids."""
    found = _NUMBERED.fullmatch(id)
    return int(found.group(1)) - 1 if found else None


def outer_and_inner(
    folds: NDArray[np.int64], fold: int, *, turn: int, val_share: float, seed: int
) -> Split:
    """Return the parts of one fold: its crystals are the test, a part of the others validates.

    The others are shuffled and cut into ``round(1 / val_share)`` parts. Turn k validates on part
    k (and begins again after the last), so that networks of different turns have together learned
    from all crystals outside the fold, and each such crystal validates in one turn.

    Args:
        folds: Fold of each crystal, shape (n,).
        fold: The one to test.
        turn: Which part validates, from 0.
        val_share: Size of a part.
        seed: Of the shuffle.

    Raises:
        DataError: If no crystal is in the fold.
    """
    test, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
    if not len(test):
        raise DataError(
            f"folds: fold {fold} must hold a crystal, got none. Take one of "
            f"{', '.join(str(k) for k in np.unique(folds))}."
        )
    shuffled = np.random.default_rng([seed, fold]).permutation(rest)
    parts = np.array_split(shuffled, max(2, round(1 / val_share)))
    val = parts.pop(turn % len(parts))
    return Split(np.sort(np.concatenate(parts)), np.sort(val), test)
