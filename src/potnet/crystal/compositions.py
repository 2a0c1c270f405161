"""Compositions of many crystals: the elements that are there, and least squares over them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from potnet.crystal.elements import SYMBOLS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from potnet.crystal.crystal import Crystal

AT_ONCE = 2**17  # crystals that are written out together
_READ = 2**12  # and that are counted together


@dataclass(frozen=True)
class Compositions:
    """What references of the elements are multiplied with, of many crystals.

    Few elements are in each crystal: these are kept, and written out for some crystals at a time.

    Attributes:
        elements: Atomic numbers of the elements of all crystals, one crystal after the other.
        counts: Atoms of each.
        ends: Where each crystal ends, from 0 on, shape (n + 1,).
        n_columns: How many columns are wanted.
    """

    elements: NDArray[np.uint8]
    counts: NDArray[np.int32]
    ends: NDArray[np.int64]
    n_columns: int

    @classmethod
    def of(cls, crystals: Iterable[Crystal], n_columns: int = 2 * len(SYMBOLS)) -> Compositions:
        """Return those of ``crystals``, each of which is read once."""
        n, rest = len(SYMBOLS), iter(crystals)
        elements, counts, sizes = [np.zeros(0, np.uint8)], [np.zeros(0, np.int32)], [[0]]
        while some := [crystal.numbers for crystal in islice(rest, _READ)]:
            row = np.repeat(np.arange(len(some)), [len(numbers) for numbers in some])
            found = np.bincount(row * n + np.concatenate(some), minlength=len(some) * n)
            there = np.flatnonzero(found)
            elements.append((there % n).astype(np.uint8))
            counts.append(found[there].astype(np.int32))
            sizes.append(np.bincount(there // n, minlength=len(some)).tolist())
        ends = np.cumsum(np.concatenate(sizes)).astype(np.int64)
        return cls(np.concatenate(elements), np.concatenate(counts), ends, n_columns)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def subset(self, rows: NDArray[np.int64]) -> Compositions:
        """Return those of some crystals."""
        sizes = np.diff(self.ends)[rows]
        ends = np.concatenate([[0], np.cumsum(sizes)])
        places = np.arange(ends[-1]) + np.repeat(self.ends[rows] - ends[:-1], sizes)
        return Compositions(self.elements[places], self.counts[places], ends, self.n_columns)

    def __getitem__(self, rows: slice) -> NDArray[np.float64]:
        """Return crystals in a row, written out.

        Returns:
            The share of each element in each crystal, and beside them the same divided by the
            atoms in the reduced formula, shape (n, 2 * 119), or the first columns of that.
        """
        start, stop, _ = rows.indices(len(self))
        inside = slice(self.ends[start], self.ends[stop])
        counts = np.zeros((stop - start, len(SYMBOLS)), np.int32)
        crystals = np.repeat(np.arange(stop - start), np.diff(self.ends[start : stop + 1]))
        counts[crystals, self.elements[inside]] = self.counts[inside]
        n_atoms = counts.sum(1, keepdims=True)
        shares = counts / n_atoms
        if self.n_columns <= len(SYMBOLS):
            return shares[:, : self.n_columns]
        parts = shares * np.gcd.reduce(counts, axis=1, keepdims=True) / n_atoms
        return np.hstack([shares, parts])[:, : self.n_columns]


def some_at_a_time(n: int) -> list[slice]:
    """Return ``n`` rows in parts of ``AT_ONCE``, so that memory does not grow with all of them."""
    return [slice(start, start + AT_ONCE) for start in range(0, n, AT_ONCE)]


def normal_equations(
    rows: NDArray[np.float64] | Compositions, values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the products of columns with each other, (k, k), and with ``values``, (k,)."""
    normal: Any = 0.0
    projected: Any = 0.0
    for some in some_at_a_time(len(values)):
        part = rows[some]
        normal, projected = normal + part.T @ part, projected + part.T @ values[some]
    return normal, projected
