"""Numbers that tell one crystal structure from another, however it is written down.

They count neighbours: a soft histogram of all distances, averaged over the atoms, in a crystal
that is scaled to ``EDGE``**3 per atom. Nothing in them knows of the cell, its orientation, the
order of the atoms or their total number. The windows are cubic B-splines of the distance: they
end, so that the sums over images are finite and exact, and have bounded slopes, so that small
changes of positions are small changes of the numbers. Mirror images have the same numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from potnet.crystal import Crystal

EDGE = 2.5  # Å, of the cube that an atom fills after scaling
SPACING = 0.6  # Å, of the windows
N_WINDOWS = 11
CUTOFF = SPACING * (N_WINDOWS + 2)
SIZE = 2 * N_WINDOWS


def fingerprint(crystal: Crystal) -> NDArray[np.float64]:
    """Return the fingerprint of a crystal, shape (SIZE,).

    The first half counts all neighbours, the second half tells which of them: there a pair counts
    by the product of its elements' marks, numbers from low to high atomic number with mean 0 and
    variance 1 over the atoms. Each is in units of what atoms without order would give.

    Raises:
        StructureError: If the crystal is not periodic in all three directions.
    """
    from vesin import NeighborList

    crystal.require_periodic()
    scale = EDGE * (crystal.n_atoms / crystal.volume) ** (1 / 3)
    search = NeighborList(cutoff=CUTOFF, full_list=False)
    i, j, distances = search.compute(
        crystal.positions * scale, crystal.cell * scale, True, quantities="ijd"
    )
    marks = np.searchsorted(np.unique(crystal.numbers), crystal.numbers).astype(np.float64)
    marks -= marks.mean()
    if marks.any():
        marks /= marks.std()
    place = np.asarray(distances) / SPACING
    first = np.floor(place).astype(np.int64) - 1  # the first of four windows, from 0.6 Å on
    weights = _splines(place - np.floor(place))
    sums = np.zeros((2, N_WINDOWS))
    products = marks[np.asarray(i, dtype=np.int64)] * marks[np.asarray(j, dtype=np.int64)]
    for k in range(4):
        window = first - 1 + k
        inside = (window >= 0) & (window < N_WINDOWS)
        at, weight = window[inside], weights[k][inside]
        sums[0] += np.bincount(at, weight, N_WINDOWS)
        sums[1] += np.bincount(at, weight * products[inside], N_WINDOWS)
    centres = SPACING * np.arange(1, N_WINDOWS + 1)
    expected = 4 * np.pi * SPACING * (centres**2 + SPACING**2 / 3) / EDGE**3
    return (2 * sums / (crystal.n_atoms * expected)).ravel()  # each pair stands once in the list


def _splines(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the four cubic B-splines over a knot interval, at ``t`` of its length, (4, n)."""
    s = 1 - t
    middle = [(3 * x - 6) * x * x + 4 for x in (t, s)]
    return np.array([s * s * s, *middle, t * t * t]) / 6
