"""The graph and the sums of the published PotNet, as its code builds them.

They depend on how a crystal is written down; :mod:`potnet.features.potnet` says how, and mends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from vesin import NeighborList

from potnet.crystal import Crystal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    # Receiving atoms, sending atoms, what each pair carries.
    Rows = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

CUTOFF = 4.0  # Å
PAULI_RATE = 3.0


def bonds(crystal: Crystal, n_neighbors: int) -> Rows:
    """Return the directed bonds of ``crystal``.

    If an atom has fewer than ``n_neighbors`` within the cutoff, the cutoff grows for all: to the
    longest lattice vector, or else to its double. Of those found, an atom takes all that are not
    farther than the ``n_neighbors``-th, and each becomes a bond in both directions. So mutual
    neighbours are bound twice.

    Returns:
        Receiving atoms, sending atoms, and distances in Å, each of shape (n_bonds,).
    """
    longest = float(np.linalg.norm(crystal.cell, axis=1).max())
    cutoff = CUTOFF
    while True:
        i, j, distance = _neighbors(crystal, cutoff)
        degrees = np.bincount(i, minlength=crystal.n_atoms)
        if degrees.min() >= n_neighbors:
            break
        cutoff = longest if cutoff < longest else 2 * cutoff
    starts = np.cumsum(degrees) - degrees
    last = distance[starts + n_neighbors - 1]
    keep = distance <= last[i]
    i, j, distance = i[keep], j[keep], distance[keep]
    return np.concatenate([i, j]), np.concatenate([j, i]), np.tile(distance, 2)


def sums(crystals: Sequence[Crystal], tolerance: float) -> Rows:
    """Return the complete sums of all pairs of each of ``crystals``.

    Returns:
        Atoms i and j, counted over all crystals, and the sums of r^-1, r^-6 and exp(-a r) with
        a = 3 / sqrt(V^(1/3)) for a cell of volume V, in which an atom counts itself; shapes
        (n_pairs,), (n_pairs,) and (n_pairs, 3).
    """
    from latticesums import Coulomb, Exponential, London
    from potnet.sums import pair_sums

    found, start = [], 0
    for crystal in crystals:
        potentials = [Coulomb(), London(), Exponential(PAULI_RATE * crystal.volume ** (-1 / 6))]
        positions, cell = torch.tensor(crystal.positions), torch.tensor(crystal.cell)
        pairs = pair_sums(positions, cell, potentials, tolerance=tolerance)
        i, j, values = pairs.i.numpy(), pairs.j.numpy(), pairs.values.numpy().copy()
        values[i == j, 2] += 1.0
        found.append((i + start, j + start, values))
        start += crystal.n_atoms
    i, j, values = (np.concatenate(column) for column in zip(*found, strict=True))
    return i, j, values


def _neighbors(crystal: Crystal, cutoff: float) -> Rows:
    """Return all pairs within ``cutoff``, atom by atom, the nearest first.

    The distances are rounded as the published code rounds them, because equal ones that differ in
    the last digit decide which bonds there are: image shift plus sending atom, minus receiving
    atom, in Cartesian coordinates. That is so for atoms inside the cell; the published code moves
    others there first.
    """
    search = NeighborList(cutoff=cutoff * (1 + 1e-9), full_list=True, n_threads=1)
    i, j, shifts = search.compute(crystal.positions, crystal.cell, True, "ijS")
    i, j = i.astype(np.int64), j.astype(np.int64)
    senders = shifts @ crystal.cell + crystal.positions[j]
    distance = np.sqrt(np.square(senders - crystal.positions[i]).sum(axis=1))
    order = np.lexsort((distance, i))
    order = order[distance[order] <= cutoff]
    return i[order], j[order], distance[order]
