"""Which crystal is tested in which fold, by rules that others use too."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from potnet.data.splits import Split
from potnet.errors import DataError

N_FOLDS = 5
MATBENCH_SEED = 18012019
_NUMBERED = re.compile(r"mb-.*-(\d+)")


def matbench_folds(n: int) -> NDArray[np.int64]:
    """Return the fold in which MatBench v0.1 tests each of the ``n`` entries of a task, shape (n,).

    The same as scikit-learn's ``KFold(5, shuffle=True, random_state=18012019)``.

    References:
        Dunn et al., npj Comput. Mater. 6, 138 (2020).
    """
    order = np.arange(n)
    # The rule is this generator's stream, which numpy has frozen.
    np.random.RandomState(MATBENCH_SEED).shuffle(order)  # noqa: NPY002
    folds = np.empty(n, dtype=np.int64)
    for fold, rows in enumerate(np.array_split(order, N_FOLDS)):
        folds[rows] = fold
    return folds


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
