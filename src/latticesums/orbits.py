"""Sums over symmetry orbits: a row for the first atom of each, a column for all atoms of each."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from latticesums.compiled.support import supports
from latticesums.errors import LatticeSumsError
from latticesums.pairs import pair_sums
from latticesums.potentials import Potential, resolve

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def orbit_sums(
    positions: Floats,
    cells: Floats,
    counts: Ints,
    orbits: Ints,
    potentials: Sequence[Potential | str],
    *,
    tolerance: float,
    n_threads: int = 1,
    names: Sequence[str] = (),
) -> tuple[Floats, Ints]:
    """Return F[a, b] = sum of S(i, j) over the atoms j of orbit b, i being the first atom of a.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3), crystal after crystal.
        cells: Lattice vectors as rows in Å, shape (n_graphs, 3, 3).
        counts: Number of atoms of each crystal, at least 1, shape (n_graphs,).
        orbits: Labels of symmetry-equivalent atoms within each crystal, from 0 in the order of
            their first appearance, shape (n_atoms,).
        potentials: Potentials or their names; fastest if all are Coulomb, London, exponentials or
            shells.
        tolerance: Largest absolute error of each S(i, j).
        n_threads: Threads that share the crystals; the numbers do not depend on it.
        names: What messages call each crystal; its number if it has no name.

    Returns:
        Sums, shape (sum of squared orbit counts, n_potentials), crystal after crystal, a slow and
        b fast; and the number of orbits of each crystal, shape (n_graphs,).

    Raises:
        StructureError: If a cell cannot be summed over, or two atoms are on one spot.
        ConfigError: If the tolerance is out of range or below what float64 can keep, or labels
            are not in the order of their first appearance.
    """
    from latticesums.compiled import sums as compiled  # numba is imported where it is needed

    chosen = resolve(potentials) if len(potentials) else ()
    if supports(chosen):
        return compiled.orbit_sums(
            positions,
            cells,
            counts,
            orbits,
            chosen,
            tolerance=tolerance,
            n_threads=n_threads,
            names=names,
        )
    orbits, n_orbits = compiled.check_orbits(orbits, counts)
    graph_index = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
    atoms, lattices = torch.from_numpy(positions), torch.from_numpy(cells)
    try:
        with torch.no_grad():
            pairs = pair_sums(
                atoms, lattices, chosen, tolerance=tolerance, graph_index=graph_index
            ).values.numpy()
    except LatticeSumsError as error:
        number = re.match(r"crystal (\d+): ", str(error))
        if number is None or not names or not names[int(number[1])]:
            raise
        raise type(error)(f"{names[int(number[1])]}: {str(error)[number.end() :]}") from None
    found = []
    ends, pair_ends = np.cumsum(counts), np.cumsum(counts**2)
    for n, end, pair_end in zip(counts, ends, pair_ends, strict=True):
        labels = orbits[end - n : end]
        first = np.unique(labels, return_index=True)[1]
        rows = pairs[pair_end - n * n : pair_end].reshape(n, n, -1)[first]
        columns = np.eye(len(first))[labels]
        found.append(np.einsum("ajk,jb->abk", rows, columns).reshape(-1, pairs.shape[1]))
    return np.concatenate(found), n_orbits
