"""Crystals that are alike: a fingerprint of composition and structure, and its clusters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potnet.crystal import Crystal
from potnet.data.splits.grouped import Groups, numbered

SHELLS = np.arange(0.8, 2.41, 0.1)  # distances in units of (volume / n_atoms)^(1/3)
WIDTH = 0.1
NOBLE = (0, 2, 10, 18, 36, 54, 86, 118)  # atomic numbers that end the periods
N_COLUMNS = 32  # of the long periodic table: 18 groups and 14 columns of the f block
N_STARTS = 4
MAX_ROUNDS = 100


def cluster(crystals: Sequence[Crystal], *, n_clusters: int = 50, seed: int = 123) -> Groups:
    """Return the cluster of each crystal, shape (n,), by k-means of their fingerprints.

    The first centres are drawn with a chance in proportion to the squared distance from the
    nearest earlier one (k-means++, Arthur and Vassilvitskii, 2007); a cluster that loses all its
    crystals disappears. The tightest result of a few starts is returned. It depends on ``seed``
    and on the order of the crystals.
    """
    points = np.array([fingerprint(crystal) for crystal in crystals])
    generator = np.random.default_rng(seed)
    starts = (_k_means(points, n_clusters, generator) for _ in range(N_STARTS))
    return numbered(min(starts, key=lambda found: found[1])[0].tolist())


def fingerprint(crystal: Crystal) -> NDArray[np.float64]:
    """Return numbers that are close for crystals of like composition and structure.

    These are the shares of the periods and of the columns of the periodic table, and the
    distribution of distances up to 2.4 times the edge of the cube that an atom fills, relative to
    one without structure. They do not depend on the cell, its scale or the order of atoms.

    Returns:
        Shape (7 + 32 + 17,); the parts weigh about the same.
    """
    period = np.searchsorted(NOBLE, crystal.numbers) - 1
    column = _column(crystal.numbers, period)
    n = crystal.n_atoms
    periods = np.bincount(period, minlength=7) / n
    columns = np.bincount(column, minlength=N_COLUMNS) / n
    return np.concatenate([periods, columns, _distances(crystal)])


def _column(numbers: NDArray[np.int64], period: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the column in the long form of the table, which elements of one group share."""
    ends = np.array(NOBLE)
    from_left = numbers - ends[period] - 1
    from_right = ends[period + 1] - numbers
    left = (from_left < 2) & (numbers != 2)
    return np.where(left, from_left, N_COLUMNS - 1 - from_right)


def _distances(crystal: Crystal) -> NDArray[np.float64]:
    """Return the density of neighbours at each of ``SHELLS``, relative to a uniform one."""
    from vesin import NeighborList

    unit = (crystal.volume / crystal.n_atoms) ** (1 / 3)
    search = NeighborList(cutoff=(SHELLS[-1] + WIDTH) * unit, full_list=True, n_threads=1)
    (found,) = search.compute(crystal.positions, crystal.cell, crystal.pbc.tolist(), "d")
    apart = (np.sort(found)[:, None] / unit - SHELLS) / WIDTH  # sorted: the sum stays the same
    counts = np.exp(-(apart**2) / 2).sum(0) / (WIDTH * np.sqrt(2 * np.pi)) / crystal.n_atoms
    return np.tanh(counts / (4 * np.pi * SHELLS**2) / 4) / np.sqrt(len(SHELLS))


def _k_means(
    points: NDArray[np.float64], n_clusters: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], float]:
    """Return the cluster of each point, and the sum of their squared distances from the centres."""
    centres = _first_centres(points, n_clusters, generator)
    nearest = _nearest(points, centres)
    for _ in range(MAX_ROUNDS):
        used, nearest = np.unique(nearest, return_inverse=True)
        centres = np.array([points[nearest == k].mean(0) for k in range(len(used))])
        again = _nearest(points, centres)
        if np.array_equal(again, nearest):
            break
        nearest = again
    return nearest, float(((points - centres[nearest]) ** 2).sum())


def _first_centres(
    points: NDArray[np.float64], n_clusters: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return points far from each other, at most ``n_clusters`` of them."""
    chosen = [int(generator.integers(len(points)))]
    squared = ((points - points[chosen[0]]) ** 2).sum(1)
    while len(chosen) < n_clusters and squared.max() > 0:
        chosen.append(int(generator.choice(len(points), p=squared / squared.sum())))
        squared = np.minimum(squared, ((points - points[chosen[-1]]) ** 2).sum(1))
    return points[chosen]


def _nearest(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the nearest centre of each point; |point|^2 is the same for all centres."""
    return ((centres**2).sum(1) - 2 * points @ centres.T).argmin(1)
