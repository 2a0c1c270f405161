"""The search for all translations of a crystal, and so for its primitive cell."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from potnet.crystal.checks import MIN_DISTANCE
from potnet.crystal.distances import MANY_ATOMS, close_pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray


def integer_basis(rows: list[list[int]]) -> list[list[int]]:
    """Return an upper triangular basis with positive diagonal of the lattice of integer ``rows``.

    Rows of a singular lattice give fewer than three rows (Hermite's normal form, not reduced
    above the diagonal).
    """
    rows = [list(row) for row in rows]
    basis = []
    for column in range(3):
        while True:
            live = sorted((r for r in rows if r[column]), key=lambda r: abs(r[column]))
            if len(live) < 2:
                break
            for row in live[1:]:
                factor = row[column] // live[0][column]
                row[:] = [a - factor * b for a, b in zip(row, live[0], strict=True)]
        if live:
            pivot = live[0]
            rows = [r for r in rows if r is not pivot]
            basis.append([-a for a in pivot] if pivot[column] < 0 else pivot)
    return basis


def determinant(basis: list[list[int]]) -> int:
    """Return the determinant of the upper triangular ``basis``."""
    return math.prod(basis[k][k] for k in range(3))


class Atoms(NamedTuple):
    """What the search needs of a crystal: its arrays, as ``Crystal`` has them."""

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    scaled_positions: NDArray[np.float64]
    cell: NDArray[np.float64]


class Fold(NamedTuple):
    """A crystal folded into a smaller cell.

    Attributes:
        cell: Lattice vectors, shape (3, 3), Å.
        labels: First copy of each atom, shape (n_atoms,).
        offsets: Vector from the first copy to each atom, less a lattice vector, (n_atoms, 3), Å.
    """

    cell: NDArray[np.float64]
    labels: NDArray[np.int64]
    offsets: NDArray[np.float64]

    @classmethod
    def search(cls, atoms: Atoms, tolerance: float) -> Fold | None:
        """Return the crystal folded by all of its translations, or None if it has none.

        Args:
            atoms: The crystal, periodic in all directions.
            tolerance: Largest distance in Å of a copy to the mean of the copies.
        """
        # The order of the group of translations divides the number of atoms of each element.
        order = math.gcd(*Counter(atoms.numbers.tolist()).values())
        if order == 1:
            return None
        basis = [[order, 0, 0], [0, order, 0], [0, 0, order]]
        labels = np.arange(len(atoms.numbers))
        found = None
        for shift in _candidate_translations(atoms, order, tolerance):
            finer = integer_basis([*basis, shift])
            if determinant(finer) == determinant(basis):
                continue  # a sum of translations found before
            images = _images(atoms, np.array(shift) / order, tolerance)
            if images is None:
                continue
            trial = cls._of(atoms, finer, order, labels, images)
            if trial is not None and trial.spread() <= tolerance:
                basis, labels, found = finer, trial.labels, trial
        return found

    @classmethod
    def _of(
        cls,
        atoms: Atoms,
        basis: list[list[int]],
        order: int,
        labels: NDArray[np.int64],
        images: NDArray[np.int64],
    ) -> Fold | None:
        """Return the fold after one more translation, which takes each atom to ``images``.

        Args:
            atoms: The atoms.
            basis: Lattice of all translations, the new one too, in units of the lattice vectors
                divided by ``order``.
            order: A multiple of the order of each translation.
            labels: First copy of each atom under the translations before, shape (n_atoms,).
            images: Atom on which the new translation takes each atom, shape (n_atoms,).
        """
        for _ in range(order.bit_length()):
            labels = np.minimum(labels, labels[images])
            images = images[images]
        n_copies = order**3 // determinant(basis)
        sizes = np.bincount(labels, minlength=len(labels))
        if not np.isin(sizes, (0, n_copies)).all():
            return None
        cell = np.array(basis) / order @ atoms.cell
        apart = atoms.positions - atoms.positions[labels]
        scaled = apart @ np.linalg.inv(cell)
        return cls(cell, labels, (scaled - np.round(scaled)) @ cell)

    def means(self) -> NDArray[np.float64]:
        """Return for each first copy the mean offset of its copies in Å, shape (n_atoms, 3)."""
        sums = np.zeros_like(self.offsets)
        np.add.at(sums, self.labels, self.offsets)
        n_copies = np.bincount(self.labels).max()  # the same for all
        return sums * (1 / n_copies)

    def spread(self) -> float:
        """Return the largest distance of an atom to the mean of its copies, in Å."""
        apart = self.offsets - self.means()[self.labels]
        return float(np.linalg.norm(apart, axis=1).max())


def _candidate_translations(atoms: Atoms, order: int, tolerance: float) -> list[list[int]]:
    """Return the shifts that take the first of the rarest atoms onto one of its kind.

    They are in units of the lattice vectors divided by ``order``, and sorted, so that neither the
    order of the atoms nor their noise matters.
    """
    counts = Counter(atoms.numbers.tolist())
    rarest = min(counts, key=lambda number: (counts[number], number))
    scaled = atoms.scaled_positions[atoms.numbers == rarest]
    shifts = scaled[1:] - scaled[0]
    found = set()
    open_ = np.ones(len(shifts), dtype=bool)
    for divisor in (d for d in range(2, order + 1) if order % d == 0):
        # The smallest denominator that fits: a large one would follow the noise.
        whole = np.round(shifts * divisor)
        miss = np.linalg.norm((shifts - whole / divisor) @ atoms.cell, axis=1)
        fits = open_ & (miss <= tolerance)
        open_ &= ~fits
        multiples = (whole[fits].astype(int) * (order // divisor)) % order
        found |= {tuple(row) for row in multiples.tolist()}
    return [list(shift) for shift in sorted(found - {(0, 0, 0)})]


def _images(atoms: Atoms, shift: NDArray[np.float64], tolerance: float) -> NDArray[np.int64] | None:
    """Return the atom on which each atom lands when all move by ``shift`` (scaled), or None."""
    from latticesums.lattice import reduced

    cell = reduced(atoms.cell)
    inverse = np.linalg.inv(cell)
    scaled = atoms.positions @ inverse
    moved = scaled + shift @ atoms.cell @ inverse
    numbers, n_atoms = atoms.numbers, len(atoms.numbers)
    # A few atoms first: most wrong translations fail on them.
    images = _nearest(moved[:4], numbers[:4], scaled, numbers, cell, tolerance)
    if images is None or n_atoms <= 4:
        return images
    if n_atoms <= MANY_ATOMS:
        images = _nearest(moved, numbers, scaled, numbers, cell, tolerance)
    else:
        images = _listed_nearest(moved, scaled, numbers, cell, tolerance)
    return images if images is not None and len(np.unique(images)) == n_atoms else None


def _nearest(
    moved: NDArray,
    moved_numbers: NDArray,
    scaled: NDArray,
    numbers: NDArray,
    cell: NDArray,
    tolerance: float,
) -> NDArray[np.int64] | None:
    """Return the atom of its element within ``tolerance`` of each moved atom, or None."""
    difference = moved[:, None, :] - scaled
    difference -= np.round(difference)
    vectors = difference @ cell
    squares = np.einsum("ijk,ijk->ij", vectors, vectors)
    squares[moved_numbers[:, None] != numbers] = np.inf
    nearest = squares.argmin(1)
    fits = squares[np.arange(len(nearest)), nearest] <= tolerance**2
    return nearest if fits.all() else None


def _listed_nearest(
    moved: NDArray, scaled: NDArray, numbers: NDArray, cell: NDArray, tolerance: float
) -> NDArray[np.int64] | None:
    """Do as :func:`_nearest` in a time proportional to the number of atoms."""
    n_atoms = len(numbers)
    # Atoms are at least twice this cutoff apart, so that each moved one meets at most one.
    pairs = close_pairs(np.concatenate([moved, scaled]), cell, MIN_DISTANCE / 2)
    meets = (pairs[0] < n_atoms) & (pairs[1] >= n_atoms) & (pairs[2] <= tolerance)
    i, j = pairs[0][meets], pairs[1][meets] - n_atoms
    if len(i) < n_atoms or (numbers[i] != numbers[j]).any():
        return None
    images = np.empty(n_atoms, dtype=np.int64)
    images[i] = j
    return images
