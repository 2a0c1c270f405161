"""Rules that keep groups of crystals together: no group is in two parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potnet.data.splits.split import PARTS, Indices, Split
from potnet.errors import DataError

Groups = NDArray[np.int64]


def numbered(keys: Sequence[object]) -> Groups:
    """Return a number for each key, equal for equal keys, in the order of their first crystals."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def group_split(
    groups: Groups,
    *,
    seed: int = 123,
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> Split:
    """Return a random split with each group in one part.

    Groups are dealt from the largest to the smallest, each into a part with room for it, with a
    chance in proportion to the room; where no part has room, into that with the most. So the
    small groups even out what the large ones leave, and every crystal is in a part.

    Args:
        groups: Number of the group of each crystal, shape (n,).
        seed: Seed of the chances.
        shares: Of train, val and test; scaled to add up to 1.
    """
    wanted = np.array(shares) / sum(shares) * len(groups)
    parts = [k for k in range(3) if shares[k] > 0]
    sizes = np.bincount(groups)
    if len(sizes) < len(parts):
        raise DataError(
            f"split: there must be at least {len(parts)} groups for as many parts, got "
            f"{len(sizes)}. Group by something finer."
        )
    generator = np.random.default_rng(seed)
    room = wanted.copy()
    part_of = np.empty(len(sizes), dtype=np.int64)
    # A part without a group would be empty: the first, largest, groups leave enough for all.
    for position, group in enumerate(_largest_first(sizes, generator)):
        empty = [k for k in parts if room[k] == wanted[k]]
        open_parts = empty if len(sizes) - position <= len(empty) else parts
        fitting = [k for k in open_parts if sizes[group] <= room[k] + 1e-9]
        if fitting:
            chances = room[fitting] / room[fitting].sum()
            part = fitting[generator.choice(len(fitting), p=chances)]
        else:
            part = max(open_parts, key=lambda k: room[k])
        part_of[group] = part
        room[part] -= sizes[group]
    return Split(*(np.flatnonzero(part_of[groups] == part) for part in range(len(PARTS))))


def group_folds(groups: Groups, *, n_folds: int = 5, seed: int = 123) -> NDArray[np.int64]:
    """Return the fold of each crystal, with each group in one fold and folds of like sizes.

    The largest group goes first, each to the smallest fold; equals are dealt at random.
    """
    sizes = np.bincount(groups)
    if len(sizes) < n_folds:
        raise DataError(
            f"split: `n_folds` must be at most the number of groups {len(sizes)}, got {n_folds}. "
            "Take fewer folds, or group by something finer."
        )
    generator = np.random.default_rng(seed)
    filled = np.zeros(n_folds)
    fold_of = np.empty(len(sizes), dtype=np.int64)
    for group in _largest_first(sizes, generator):
        fold = int(generator.choice(np.flatnonzero(filled == filled.min())))
        fold_of[group] = fold
        filled[fold] += sizes[group]
    return fold_of[groups]


def group_k_fold(
    groups: Groups,
    *,
    n_folds: int = 5,
    fold: int = 0,
    seed: int = 123,
    val_share: float = 0.1,
) -> Split:
    """Return the groups of one fold as test; ``val_share`` of the others, in groups, validates."""
    folds = group_folds(groups, n_folds=n_folds, seed=seed)
    return hold_out(groups, folds == fold, seed=seed, val_share=val_share)


def group_nested_k_fold(
    groups: Groups,
    *,
    n_folds: int = 5,
    fold: int = 0,
    inner_folds: int = 5,
    inner_fold: int = 0,
    seed: int = 123,
) -> Split:
    """Return the groups of fold ``fold`` as test, those of an inner fold of the rest as val."""
    outer = group_folds(groups, n_folds=n_folds, seed=seed)
    rest = np.flatnonzero(outer != fold)
    inner = group_folds(numbered(groups[rest].tolist()), n_folds=inner_folds, seed=seed)
    return Split(
        rest[inner != inner_fold], rest[inner == inner_fold], np.flatnonzero(outer == fold)
    )


def hold_out(
    groups: Groups, test: NDArray[np.bool_], *, seed: int = 123, val_share: float = 0.1
) -> Split:
    """Return the crystals ``test`` as test; ``val_share`` of the others, in groups, validates."""
    rest = np.flatnonzero(~test)
    if not len(rest):
        raise DataError("split: `train` must hold at least one crystal, got none. Test on fewer.")
    local = group_split(
        numbered(groups[rest].tolist()), seed=seed, shares=(1 - val_share, val_share, 0)
    )
    return Split(rest[local.train], rest[local.val], np.flatnonzero(test))


def ordered_split(
    times: NDArray[np.float64], *, shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> Split:
    """Return the oldest crystals as train, newer ones as val, the newest as test.

    Crystals of one time stay together: each cut is between two times, the nearest one to its
    share that leaves no part empty.

    Args:
        times: When each crystal became known, shape (n,), in any unit.
        shares: Of train, val and test; scaled to add up to 1.
    """
    moments, counts = np.unique(times, return_counts=True)
    n_cuts = 2 if shares[2] > 0 else 1
    if len(moments) <= n_cuts:
        raise DataError(
            f"split: there must be at least {n_cuts + 1} different times, got {len(moments)}. "
            "Give a finer column."
        )
    ends = np.cumsum(counts)[:-1]  # crystals before each possible cut
    wanted = np.cumsum(np.array(shares) / sum(shares) * len(times))
    first = int(np.argmin(abs(ends[: len(ends) + 1 - n_cuts] - wanted[0])))
    last = len(ends)
    if n_cuts == 2:
        last = first + 1 + int(np.argmin(abs(ends[first + 1 :] - wanted[1])))
    rank = np.searchsorted(moments, times)
    order = np.argsort(times, kind="stable")
    parts = (rank <= first, (rank > first) & (rank <= last), rank > last)
    return Split(*(order[part[order]] for part in parts))


def _largest_first(sizes: NDArray[np.int64], generator: np.random.Generator) -> Indices:
    shuffled = generator.permutation(len(sizes))
    return shuffled[np.argsort(-sizes[shuffled], kind="stable")]
