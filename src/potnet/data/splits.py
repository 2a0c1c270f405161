"""Dividing crystals into training, validation and test, by rules that others can repeat."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potnet.errors import DataError
from potnet.files import atomic_write

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Indices of the crystals in each part; no crystal is in two of them."""

    train: Indices
    val: Indices
    test: Indices

    def __post_init__(self) -> None:
        for part in ("train", "val", "test"):
            object.__setattr__(self, part, np.asarray(getattr(self, part), dtype=np.int64))
        everything = np.concatenate([self.train, self.val, self.test])
        if len(np.unique(everything)) != len(everything):
            raise DataError("split: a crystal must be in one part only, got one in two.")
        for part in ("train", "val"):
            if not len(getattr(self, part)):
                raise DataError(
                    f"split: `{part}` must hold at least one crystal, got none. "
                    "Give more crystals, or larger shares."
                )

    def named(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Return the ids of each part, as ``split.json`` lists them."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {name: [ids[int(k)] for k in rows] for name, rows in parts.items()}

    def write(self, path: str | os.PathLike[str], ids: Sequence[str]) -> None:
        """Write the ids of each part to a JSON file."""
        with atomic_write(path) as file:
            json.dump(self.named(ids), file, indent=1)

    @staticmethod
    def read(path: str | os.PathLike[str], ids: Sequence[str]) -> Split:
        """Return the split in a file that :meth:`write` wrote, for a dataset with ``ids``.

        Raises:
            DataError: If the file names a crystal that is not there, or one twice.
        """
        with open(path, encoding="utf-8") as file:
            parts = json.load(file)
        place = {id: k for k, id in enumerate(ids)}
        try:
            indices = [[place[id] for id in parts[part]] for part in ("train", "val", "test")]
        except KeyError as error:
            raise DataError(
                f"{path}: ids and parts must be those of the dataset, got none for {error}. "
                "Give the dataset that the split was made for."
            ) from None
        return Split(*(np.array(part, dtype=np.int64) for part in indices))


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
    if not 0 <= fold < n_folds <= n:
        raise DataError(
            f"k_fold: `fold` must be below `n_folds`, and that at most the {n} crystals, got "
            f"{fold} and {n_folds}. Take fewer folds."
        )
    folds = np.array_split(np.random.default_rng(seed).permutation(n), n_folds)
    rest = np.concatenate([part for k, part in enumerate(folds) if k != fold])
    n_val = max(1, round(val_share * len(rest)))
    return Split(rest[n_val:], rest[:n_val], folds[fold])


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
