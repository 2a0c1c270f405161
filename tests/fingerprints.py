"""What tells two crystals apart, whatever their cell, orientation and order of atoms."""

from __future__ import annotations

import numpy as np
from vesin import NeighborList

from potnet.crystal import Crystal

CUTOFF = 6.0


def fingerprint(crystal: Crystal) -> np.ndarray:
    """Return a sorted row for each atom that depends on nothing but the geometry around it."""
    neighbours = NeighborList(cutoff=CUTOFF, full_list=True)
    i, j, r = neighbours.compute(crystal.positions, crystal.cell, True, "ijd")
    rows = [crystal.numbers.astype(float)]
    for decay in (0.5, 1.0, 2.0):
        weight = crystal.numbers[j] * np.exp(-decay * r) * (1 - (r / CUTOFF) ** 2) ** 3
        rows.append(np.bincount(i.astype(np.int64), weight, crystal.n_atoms))
    table = np.stack(rows, axis=1)
    return table[np.lexsort(np.round(table, 6).T)]
