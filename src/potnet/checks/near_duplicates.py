"""The same crystal under several ids, found without comparing all pairs.

A crystal is described by its reduced formula and by complete sums, averaged over its atoms for
each ordered pair of elements: numbers that know nothing of the cell, its orientation or the order
of the atoms. A sum S of r^-6 or exp(-a r) over all images is turned into a length, S^(-1/6) or
-ln(S) / a: the distance at which one neighbour would give as much. So two descriptions differ by
lengths, and a tolerance is one in Å. Mirror images have the same description.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potnet.crystal import Crystal

#: Radii of the shells and their width, Å.
RADII = (2.6, 3.2, 3.8, 4.4, 5.0, 5.6, 6.2, 6.8)
WIDTH = 0.3
_CUTOFF = 8.0
_TOLERANCE = 1e-11


def fingerprint(crystal: Crystal) -> NDArray[np.float32]:
    """Return lengths in Å that are equal for the same crystal however it is written down.

    The first is the edge of the cube that an atom fills; nine follow for each ordered pair of
    elements, in the order of their atomic numbers.

    Raises:
        StructureError: If the crystal cannot be summed over.
    """
    from latticesums import London, Shell
    from potnet.sums import lattice_sums

    potentials = (London(), *(Shell(radius, WIDTH, _CUTOFF) for radius in RADII))
    sums = lattice_sums(crystal, potentials, tolerance=_TOLERANCE).values
    elements, place, counts = np.unique(crystal.numbers, return_inverse=True, return_counts=True)
    belongs = np.eye(len(elements))[place]
    means = np.einsum("ia,ijp,jb->abp", belongs / counts, sums, belongs)
    density = counts / crystal.volume
    shells = 4 * np.pi**1.5 * WIDTH * np.array(RADII) ** 2
    lengths = WIDTH * means[..., 1:] / (1 + density[None, :, None] * shells)
    far = np.maximum(means[..., :1], _TOLERANCE) ** (-1 / 6)
    edge = (crystal.volume / crystal.n_atoms) ** (1 / 3)
    return np.append(edge, np.concatenate([far, lengths], -1).ravel()).astype(np.float32)


def duplicate_groups(
    formulas: Sequence[str], fingerprints: Sequence[NDArray[np.float32]], tolerance: float
) -> list[list[int]]:
    """Return groups of crystals that are linked by descriptions within ``tolerance``.

    Crystals of one formula are sorted by the first number, and each is compared with those whose
    first number is near; the time hardly grows faster than the number of crystals.

    Args:
        formulas: Reduced formulas, length n.
        fingerprints: What :func:`fingerprint` returns for each, length n.
        tolerance: Largest difference of any number, in Å.

    Returns:
        The groups of two and more, each in ascending order, ordered by their first members.
    """
    by_formula: defaultdict[str, list[int]] = defaultdict(list)
    for k, formula in enumerate(formulas):
        by_formula[formula].append(k)
    parent = list(range(len(formulas)))
    for members in by_formula.values():
        if len(members) > 1:
            for a, b in _near(members, np.stack([fingerprints[k] for k in members]), tolerance):
                parent[_root(parent, max(a, b))] = _root(parent, min(a, b))
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for k in range(len(parent)):
        groups[_root(parent, k)].append(k)
    return sorted(group for group in groups.values() if len(group) > 1)


def _near(
    members: Sequence[int], points: NDArray[np.float32], tolerance: float
) -> list[tuple[int, int]]:
    """Return the pairs of ``members`` whose ``points`` differ by at most ``tolerance``."""
    order = np.argsort(points[:, 0], kind="stable")
    points = points[order]
    ends = np.searchsorted(points[:, 0], points[:, 0] + np.float32(tolerance), side="right")
    found = []
    for k, end in enumerate(ends):
        near = np.abs(points[k + 1 : end] - points[k]).max(1, initial=0) <= tolerance
        found += [(members[order[k]], members[order[k + 1 + m]]) for m in np.flatnonzero(near)]
    return found


def _root(parent: list[int], k: int) -> int:
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k
