"""Bonds to the nearest atoms and complete sums of every pair, as PotNet reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from vesin import NeighborList

from potnet.crystal import SYMBOLS, SYMMETRY_TOLERANCE, Crystal
from potnet.errors import StructureError
from potnet.features import published as published_form
from potnet.features.batch import Batch, Pairs
from potnet.features.contract import Features

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from potnet.features.published import Rows

N_DESCRIBED = 100  # The descriptors of the elements end at fermium.
ROUNDING = 1e-6  # Å; above the differences that rounding makes between equal distances

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class PotNetFeatures(Features):
    """Bonds and complete potentials of each crystal.

    Calling the settings with crystals gives a :class:`Batch` with two sets of pairs. ``"local"``
    carries (distance in Å, multiplicity): the ``n_neighbors`` nearest neighbours of each atom and
    whoever shares a shell with the last of them. ``"complete"`` carries (sum of r^-1, of r^-6, of
    exp(-3 r), multiplicity): every pair with all its periodic images.

    Equal pairs are merged and counted by their multiplicity. Atoms that a symmetry of the crystal
    maps onto each other have equal states in every network that reads these pairs; they share one
    node, which receives what the first of them receives.

    The published form depends on rounding and on the choice of the cell. It takes the cell as it
    is given; ends the last shell by an exact comparison of distances, which noise of 1e-16
    decides; binds mutual neighbours twice and others once in each direction; lets the exponential
    fall off by the rate 3 / sqrt(V^(1/3)) for a cell of volume V, and counts an atom itself, r = 0,
    with it. ``shell_gap``, ``primitive``, ``merge_orbits``, ``symmetry_tolerance`` and
    ``merge_tolerance`` have no effect on it.

    Attributes:
        version: Raised when the meaning of the numbers changes.
        published: Build the published form.
        n_neighbors: Nearest neighbours that an atom has at least.
        shell_gap: A shell ends where the next neighbour is farther by more than this, in Å.
        tolerance: Largest absolute error of a complete sum.
        primitive: Reduce each crystal to its primitive cell first.
        merge_orbits: Let symmetry-equivalent atoms share a node.
        symmetry_tolerance: Largest displacement in Å at which atoms count as equivalent.
        merge_tolerance: Numbers of a pair (in Å, 1/Å, ...) that agree to about this count as equal
            and are replaced by their mean, which changes results in second order only.
    """

    version: Literal[1] = 1
    published: bool = False
    n_neighbors: Annotated[int, Field(ge=1)] = 16
    # With a wider gap the shells of a disordered crystal would run into each other without end.
    shell_gap: Annotated[float, Field(gt=0, le=0.05)] = 0.01
    tolerance: Positive = 1e-7
    primitive: bool = True
    merge_orbits: bool = True
    symmetry_tolerance: Positive = SYMMETRY_TOLERANCE
    merge_tolerance: Positive = 1e-4

    def __call__(self, crystals: Sequence[Crystal]) -> Batch:
        """Return the features of ``crystals``.

        Raises:
            StructureError: If a crystal is not periodic in three directions, its symmetry cannot
                be found, or an element has no descriptors (the published form describes elements
                beyond fermium as fermium).
        """
        cells = [self._prepared(crystal) for crystal in crystals]
        nodes = _Nodes([self._orbits(cell) for cell in cells])
        bonds = nodes.gather([self._bonds(cell) for cell in cells])
        sums = published_form.sums if self.published else _sums
        step = ROUNDING if self.published else self.merge_tolerance
        numbers = np.concatenate([cell.numbers for cell in cells])
        return Batch(
            torch.from_numpy(numbers[nodes.first]),
            torch.from_numpy(nodes.weights.astype(np.float32)),
            torch.from_numpy(nodes.counts),
            torch.from_numpy(nodes.atom_counts),
            {
                "local": nodes.merge(*bonds, step),
                "complete": nodes.merge(*sums(cells, self.tolerance), step),
            },
            features=self,
        )

    def _prepared(self, crystal: Crystal) -> Crystal:
        crystal.require_periodic()
        if self.published:
            return crystal
        last = int(crystal.numbers.max())
        if last > N_DESCRIBED:
            raise StructureError(
                f"{crystal.id or 'crystal'}: elements must have descriptors, which end at "
                f"{SYMBOLS[N_DESCRIBED]} (Z = {N_DESCRIBED}), got {SYMBOLS[last]} (Z = {last}). "
                "Leave this crystal out."
            )
        return crystal.primitive(self.symmetry_tolerance) if self.primitive else crystal

    def _orbits(self, crystal: Crystal) -> NDArray[np.int64]:
        if self.merge_orbits and not self.published:
            return crystal.orbits(self.symmetry_tolerance)
        return np.arange(crystal.n_atoms)

    def _bonds(self, crystal: Crystal) -> Rows:
        if self.published:
            return published_form.bonds(crystal, self.n_neighbors)
        return _bonds(crystal, self.n_neighbors, self.shell_gap)


class _Nodes:
    """Nodes that stand for symmetry-equivalent atoms, counted over all crystals.

    Args:
        orbits: For each crystal, the first equivalent of each atom, shape (n_atoms,).

    Attributes:
        first: First atom of each node, shape (n_nodes,).
        weights: Share of each node in the atoms of its crystal, shape (n_nodes,).
        counts: Nodes of each crystal, shape (n_graphs,).
        atom_counts: Atoms of each crystal, shape (n_graphs,).
    """

    def __init__(self, orbits: Sequence[NDArray[np.int64]]) -> None:
        self.atom_counts = np.array([len(labels) for labels in orbits])
        self._starts = np.cumsum(self.atom_counts) - self.atom_counts
        labels = np.concatenate(orbits) + np.repeat(self._starts, self.atom_counts)
        self.first, self._node, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        self._is_first = labels == np.arange(len(labels))
        n_graphs = len(self.atom_counts)
        self._graph = np.repeat(np.arange(n_graphs), self.atom_counts)[self.first]
        self.counts = np.bincount(self._graph, minlength=n_graphs)
        self.weights = sizes / self.atom_counts[self._graph]

    def gather(self, pairs: Sequence[Rows]) -> Rows:
        """Return the (i, j, values) of each crystal in one, counted over all crystals."""
        i = np.concatenate(
            [pair[0] + start for pair, start in zip(pairs, self._starts, strict=True)]
        )
        j = np.concatenate(
            [pair[1] + start for pair, start in zip(pairs, self._starts, strict=True)]
        )
        return i, j, np.concatenate([pair[2] for pair in pairs])

    def merge(
        self, i: NDArray[np.int64], j: NDArray[np.int64], values: NDArray[np.float64], step: float
    ) -> Pairs:
        """Return pairs of nodes with the mean of their values and their multiplicity.

        Args:
            i: Receiving atoms, counted over all crystals, shape (n_pairs,).
            j: Sending atoms, shape (n_pairs,).
            values: What they carry, shape (n_pairs,) or (n_pairs, n_values).
            step: Values are equal if they round to the same multiple of this.
        """
        keep = self._is_first[i]
        ends = self._node[np.stack([i[keep], j[keep]], axis=1)]
        values = values[keep].reshape(len(ends), -1)
        keys = np.concatenate([ends, np.rint(values / step).astype(np.int64)], axis=1)
        order = np.lexsort(keys.T[::-1])
        keys, values = keys[order], values[order]
        is_new = np.ones(len(keys), dtype=bool)
        is_new[1:] = (keys[1:] != keys[:-1]).any(axis=1)
        starts = np.flatnonzero(is_new)
        multiplicity = np.diff(starts, append=len(keys))[:, None]
        means = np.add.reduceat(values, starts) / multiplicity
        ends = keys[starts, :2]
        graph = self._graph[ends[:, 0]]
        ends -= (np.cumsum(self.counts) - self.counts)[graph][:, None]
        carried = np.concatenate([means, multiplicity], axis=1).astype(np.float32)
        return Pairs(
            torch.from_numpy(ends[:, 0].copy()),
            torch.from_numpy(ends[:, 1].copy()),
            torch.from_numpy(carried),
            torch.from_numpy(np.bincount(graph, minlength=len(self.counts))),
        )


def _bonds(crystal: Crystal, n_neighbors: int, shell_gap: float) -> Rows:
    """Return the nearest neighbours of each atom, up to the end of the last one's shell.

    Returns:
        Receiving atoms, sending atoms, and distances in Å, each of shape (n_bonds,).
    """
    # The ball that holds twice as many atoms as are asked for, at the density of the crystal.
    cutoff = (1.5 * n_neighbors * crystal.volume / (np.pi * crystal.n_atoms)) ** (1 / 3)
    while True:
        search = NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
        i, j, distance = search.compute(crystal.positions, crystal.cell, True, "ijd")
        order = np.lexsort((distance, i))
        i, j, distance = i[order].astype(np.int64), j[order].astype(np.int64), distance[order]
        is_in_shell = _within_shell(i, distance, n_neighbors, shell_gap)
        # Only a neighbour beyond the shell proves that the shell has been found to its end.
        if len(np.unique(i[~is_in_shell])) == crystal.n_atoms:
            return i[is_in_shell], j[is_in_shell], distance[is_in_shell]
        cutoff *= 1.25


def _within_shell(
    i: NDArray[np.int64], distance: NDArray[np.float64], n_neighbors: int, shell_gap: float
) -> NDArray[np.bool_]:
    """Return which neighbours come before the first gap after the ``n_neighbors``-th.

    Args:
        i: Atom whose neighbour it is, ascending, shape (n,).
        distance: Distance in Å, ascending for each atom, shape (n,).
        n_neighbors: Neighbours that are taken in any case.
        shell_gap: What counts as a gap, in Å.
    """
    starts = np.searchsorted(i, i)
    rank = np.arange(len(i)) - starts
    is_after_gap = np.diff(distance, prepend=0.0) > shell_gap
    gaps = np.cumsum(is_after_gap & (rank >= n_neighbors))
    return gaps == gaps[starts]


def _sums(crystals: Sequence[Crystal], tolerance: float) -> Rows:
    """Return atoms i and j, counted over all crystals, and the three sums of every pair."""
    from potnet.sums import pair_sums

    counts = torch.tensor([crystal.n_atoms for crystal in crystals])
    pairs = pair_sums(
        torch.from_numpy(np.concatenate([crystal.positions for crystal in crystals])),
        torch.from_numpy(np.stack([crystal.cell for crystal in crystals])),
        ("coulomb", "london", "pauli"),
        tolerance=tolerance,
        graph_index=torch.repeat_interleave(torch.arange(len(crystals)), counts),
    )
    return pairs.i.numpy(), pairs.j.numpy(), pairs.values.numpy()
