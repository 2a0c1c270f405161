"""Rules that divide single crystals, and that others can repeat."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from potnet.data.splits.split import Indices, Split
from potnet.errors import DataError


def random_split(
    n: int, *, seed: int = 123, shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> Split:
    """Return a shuffle of ``n`` crystals, cut by ``shares`` of train, val and test.

    Where the shares add up to 1, every crystal is in a part.
    """
    n_train, n_val, n_test = _sizes(n, shares)
    if abs(sum(shares) - 1) < 1e-9:
        n_train = n - n_val - n_test
    return _cut(np.random.default_rng(seed).permutation(n), (n_train, n_val, n_test))


def published_split(
    n: int, *, seed: int = 123, shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> Split:
    """Return the split of the published method (and of ALIGNN) for ``n`` crystals in file order.

    Python's generator shuffles the indices; training crystals are the first, test crystals the
    last, validation crystals those before the test. Sizes are rounded down, so that a few crystals
    may be in no part.
    """
    order = list(range(n))
    random.Random(seed).shuffle(order)
    return _cut(np.array(order), _sizes(n, shares))


def k_fold(
    n: int, *, n_folds: int = 5, fold: int = 0, seed: int = 123, val_share: float = 0.1
) -> Split:
    """Return fold number ``fold`` as test; ``val_share`` of the other crystals validates."""
    _check_fold(n, n_folds, fold)
    folds = np.array_split(np.random.default_rng(seed).permutation(n), n_folds)
    rest = np.concatenate([part for k, part in enumerate(folds) if k != fold])
    n_val = max(1, round(val_share * len(rest)))
    return Split(rest[n_val:], rest[:n_val], folds[fold])


def nested_k_fold(
    n: int,
    *,
    n_folds: int = 5,
    fold: int = 0,
    inner_folds: int = 5,
    inner_fold: int = 0,
    seed: int = 123,
) -> Split:
    """Return fold ``fold`` as test, and fold ``inner_fold`` of the other crystals as validation.

    Over all inner folds, each crystal that does not test validates once, so that settings can be
    chosen without a look at the test crystals of the outer fold.
    """
    _check_fold(n, n_folds, fold)
    folds = np.array_split(np.random.default_rng(seed).permutation(n), n_folds)
    rest = np.concatenate([part for k, part in enumerate(folds) if k != fold])
    _check_fold(len(rest), inner_folds, inner_fold)
    inner = np.array_split(np.random.default_rng([seed, fold]).permutation(rest), inner_folds)
    train = np.concatenate([part for k, part in enumerate(inner) if k != inner_fold])
    return Split(train, inner[inner_fold], folds[fold])


def fold_split(
    folds: NDArray[np.int64], fold: int, *, seed: int = 123, val_share: float = 0.1
) -> Split:
    """Return the split that tests on ``fold`` of official folds.

    Args:
        folds: Number of the fold of each crystal from 0, shape (n,); -1 for in none.
        fold: Which fold tests.
        seed: Seed of the shuffle that draws the validation crystals.
        val_share: Share of the other crystals that validates.
    """
    if not 0 <= fold <= folds.max():
        raise DataError(
            f"split: `fold` must be one of the official folds 0 to {folds.max()}, got {fold}. "
            "Choose one of them."
        )
    labels = np.where(folds == fold, "test", np.where(folds < 0, "", "train"))
    return given_split(labels, seed=seed, val_share=val_share)


def shuffled_folds(n: int, *, n_folds: int = 5, seed: int) -> NDArray[np.int64]:
    """Return the fold of each of ``n`` crystals, as scikit-learn's shuffled ``KFold`` makes them.

    The folds of MatBench v0.1 for regression are these with 5 folds and seed 18012019.
    """
    order = np.arange(n)
    np.random.RandomState(seed).shuffle(order)  # noqa: NPY002  (the generator of the benchmark)
    return _numbered(np.array_split(order, n_folds), n)


def stratified_folds(classes: NDArray, *, n_folds: int = 5, seed: int) -> NDArray[np.int64]:
    """Return the fold of each crystal, as scikit-learn's shuffled ``StratifiedKFold`` makes them.

    Args:
        classes: What each crystal is, shape (n,); each class is spread evenly over the folds.
        n_folds: Number of folds.
        seed: Seed; MatBench v0.1 takes 18012019 for its classification tasks.
    """
    _, first, inverse = np.unique(classes, return_index=True, return_inverse=True)
    codes = np.argsort(np.argsort(first))[inverse]  # classes numbered as they first appear
    sizes = [np.bincount(np.sort(codes)[k::n_folds], minlength=len(first)) for k in range(n_folds)]
    generator = np.random.RandomState(seed)  # noqa: NPY002
    folds = np.empty(len(codes), dtype=np.int64)
    for code, counts in enumerate(np.array(sizes).T):
        members = np.repeat(np.arange(n_folds), counts)
        generator.shuffle(members)
        folds[codes == code] = members
    return folds


def _numbered(folds: list[Indices], n: int) -> NDArray[np.int64]:
    numbers = np.empty(n, dtype=np.int64)
    for number, members in enumerate(folds):
        numbers[members] = number
    return numbers


def _check_fold(n: int, n_folds: int, fold: int) -> None:
    if not 0 <= fold < n_folds <= n:
        raise DataError(
            f"k_fold: `fold` must be below `n_folds`, and that at most the {n} crystals, got "
            f"{fold} and {n_folds}. Take fewer folds."
        )


def given_split(labels: NDArray[np.str_], *, seed: int = 123, val_share: float = 0.1) -> Split:
    """Return the split that ``labels`` name, shape (n,): train, val, test, or empty for none.

    Where no crystal is labelled val, a random ``val_share`` of the training crystals validates.
    """
    train, val, test = (np.flatnonzero(labels == part) for part in ("train", "val", "test"))
    if not len(val):
        shuffled = np.random.default_rng(seed).permutation(train)
        n_val = max(1, round(val_share * len(train)))
        train, val = np.sort(shuffled[n_val:]), np.sort(shuffled[:n_val])
    return Split(train, val, test)


def _sizes(n: int, shares: tuple[float, float, float]) -> tuple[int, int, int]:
    """Return the crystals per part; whole numbers from 1 up count crystals."""
    if any(share >= 1 and share != int(share) for share in shares):
        raise DataError(f"split: shares must be below 1 or whole numbers, got {shares}.")
    sizes = [int(share) if share >= 1 else int(share * n + 1e-9) for share in shares]
    if sum(sizes) > n:
        raise DataError(
            f"split: the parts must fit into {n} crystals, got {sizes} from {shares}. "
            "Lower the shares."
        )
    return sizes[0], sizes[1], sizes[2]


def _cut(order: Indices, sizes: tuple[int, int, int]) -> Split:
    n_train, n_val, n_test = sizes
    n = len(order)
    start = n - n_test - n_val
    return Split(order[:n_train], order[start : start + n_val], order[start + n_val :])
