"""Which atoms are near each other: all pairs for small crystals, a cell list for large ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MANY_ATOMS = 300  # from here on a cell list is faster than all pairs
_CROWD = 200  # no crystal has as many points in three boxes of a short cutoff


def closest_pair(scaled: NDArray, cell: NDArray) -> tuple[int, int, float]:
    """Return the closest pair, exact below half of the smallest height of ``cell``.

    Two images nearer than half a height differ by less than 1/2 in every scaled coordinate, so
    rounding the difference finds them.
    """
    difference = scaled[:, None] - scaled
    difference -= np.rint(difference)
    vectors = difference @ cell
    squares = np.einsum("ijk,ijk->ij", vectors, vectors)
    squares.flat[:: len(squares) + 1] = np.inf  # the diagonal
    i, j = divmod(int(squares.argmin()), len(squares))
    return i, j, math.sqrt(squares[i, j])


def close_pairs(
    scaled: NDArray, cell: NDArray, cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return indices and distances of all ordered pairs of different atoms within ``cutoff``.

    A cell list, for short cutoffs: time and memory are proportional to the number of atoms,
    whatever the shape of the cell. Of crowds no crystal can have, only the first are listed.

    Args:
        scaled: Scaled coordinates, shape (n_atoms, 3).
        cell: Reduced lattice vectors, shape (3, 3), Å.
        cutoff: Largest distance in Å.
    """
    home, index = scaled - np.floor(scaled), np.arange(len(scaled))
    points, atoms = home, index
    reach = cutoff * np.sqrt((np.linalg.inv(cell) ** 2).sum(0))
    for axis in range(3):  # images as far as ``reach`` outside of the cell
        steps = np.arange(-math.ceil(reach[axis]), math.ceil(reach[axis]) + 1)
        shifts = np.repeat(steps, len(points))[:, None] * np.eye(3)[axis]
        points, atoms = np.tile(points, (len(steps), 1)) + shifts, np.tile(atoms, len(steps))
        near = abs(points[:, axis] - 0.5) <= 0.5 + reach[axis]
        points, atoms = points[near], atoms[near]
    points, home = points @ cell, home @ cell
    low = points.min(0) - cutoff
    sizes = ((points.max(0) - low) // cutoff).astype(np.int64) + 2
    strides = np.array([sizes[1] * sizes[2], sizes[2], 1])
    keys = ((points - low) // cutoff).astype(np.int64) @ strides
    order = keys.argsort()
    keys, points, atoms = keys[order], points[order], atoms[order]
    found = []
    for row in [[x, y, 0] for x in (-1, 0, 1) for y in (-1, 0, 1)]:
        bins = (((home - low) // cutoff).astype(np.int64) + row) @ strides
        start = np.searchsorted(keys, bins - 1, "left")  # three bins along z are neighbours
        stop = np.searchsorted(keys, bins + 1, "right")
        for step in range(min(int((stop - start).max()), _CROWD)):
            i = np.flatnonzero(start + step < stop)
            k = start[i] + step
            distances = np.sqrt(((points[k] - home[i]) ** 2).sum(1))
            close = (distances <= cutoff) & (atoms[k] != i)
            found.append((i[close], atoms[k[close]], distances[close]))
    if not found:
        return index[:0], index[:0], np.zeros(0)
    i, j, distances = (np.concatenate(column) for column in zip(*found, strict=True))
    return i, j, distances
