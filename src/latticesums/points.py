"""The sums at points where no atom is: the potential that all atoms of a crystal make there.

A point is a site of its own in the machinery of pairs, so it gets the same certificate. Points
that are far enough apart, periodic images included, share a crystal, because the work for a crystal
(its plan, its lattice and wave vectors) does not depend on how many sites it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from latticesums.errors import ConfigError
from latticesums.inputs import require_crystal
from latticesums.lattice import Atoms, Crystal, reduced
from latticesums.pairs import DEFAULT_POTENTIALS, pair_sums
from latticesums.potentials import Potential, resolve

#: Points of one crystal are this far apart or more, Å: nearer ones would cost digits.
APART = 0.5
#: Pairs evaluated at a time; sets the working memory, 50 bytes or so per pair.
CHUNK = 1 << 20

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class PointSums:
    """Potentials of a whole crystal at points.

    Attributes:
        values: Sum over atoms and their images, float64, shape (n_points, n_potentials).
        error_bound: Bound of the absolute error, not above the tolerance, float64, shape
            (n_potentials,).
        potentials: Names of the potentials.
    """

    values: Floats
    error_bound: Floats
    potentials: tuple[str, ...]


def point_sums(
    crystal: Crystal,
    points: Floats,
    potentials: Sequence[Potential | str] = DEFAULT_POTENTIALS,
    *,
    weights: Floats | None = None,
    tolerance: float = 1e-6,
) -> PointSums:
    """Return the sum over atoms j and lattice vectors L of ``w_j V(|r_j + L - point|)``.

    Args:
        crystal: The crystal.
        points: Cartesian coordinates in Å, anywhere but on atoms, shape (n_points, 3).
        potentials: Potentials or their names.
        weights: Factor of each atom, such as its charge, shape (n_atoms,), or (n_atoms,
            n_potentials) for factors that differ between potentials; 1 if not given.
        tolerance: Largest absolute error of a value.

    Raises:
        StructureError: If a point is on an atom.
        ConfigError: If a shape does not fit, or the tolerance cannot be kept: the sums over single
            atoms need the tolerance divided by the sum of the weights' magnitudes.

    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> salt = SimpleNamespace(
    ...     positions=np.array([[0.0, 0, 0], [3, 0, 0]]),
    ...     cell=np.array([[0.0, 3, 3], [3, 0, 3], [3, 3, 0]]),
    ...     pbc=np.ones(3, dtype=bool),
    ... )
    >>> middle = np.array([[1.5, 1.5, 1.5]])
    >>> sums = point_sums(salt, middle, ["coulomb"], weights=np.array([1.0, -1.0]))
    >>> bool(abs(sums.values[0, 0]) < 1e-6)  # as far from either ion
    True
    """
    require_crystal("point_sums", crystal)
    crystal = Atoms(
        np.asarray(crystal.positions, dtype=np.float64),
        np.asarray(crystal.cell, dtype=np.float64),
        np.broadcast_to(np.asarray(crystal.pbc), 3),
    )
    chosen, n_atoms = resolve(potentials), len(crystal.positions)
    try:
        points = np.ascontiguousarray(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"point_sums: `points` must be numbers, got '{error}'. "
            "Give one row of Cartesian coordinates per point."
        ) from error
    if points.ndim != 2 or points.shape[1] != 3:
        raise ConfigError(
            f"point_sums: `points` must have shape (n_points, 3), got {points.shape}. "
            "Give one row of Cartesian coordinates per point."
        )
    factors = np.ones(n_atoms) if weights is None else np.asarray(weights, dtype=float)
    if factors.ndim == 1 and len(factors) == n_atoms:
        factors = np.repeat(factors[:, None], len(chosen), 1)
    if factors.shape != (n_atoms, len(chosen)):
        raise ConfigError(
            f"point_sums: `weights` must hold a number for each of {n_atoms} atoms, got "
            f"shape {factors.shape}. Give one weight per atom."
        )
    total = np.abs(factors).sum(0)
    values = np.zeros((len(points), len(chosen)))
    bound = np.zeros(len(chosen))
    for blocks in _blocks(points, crystal):
        sums, error = _sum_blocks(
            crystal, points[blocks], chosen, factors, tolerance / max(float(total.max()), 1.0)
        )
        values[blocks] = sums
        bound = np.maximum(bound, error * total)
    return PointSums(values, bound, tuple(potential.name for potential in chosen))


@torch.no_grad()
def _sum_blocks(
    crystal: Crystal,
    points: Floats,
    potentials: Sequence[Potential],
    factors: Floats,
    tolerance: float,
) -> tuple[Floats, Floats]:
    """Return the sums at ``points``, (n_blocks, size, 3), and the bound for a single atom."""
    n_blocks, size, _ = points.shape
    n = size + len(crystal.positions)
    atoms = np.broadcast_to(crystal.positions, (n_blocks, len(crystal.positions), 3))
    sites = np.concatenate([points, atoms], 1).reshape(-1, 3)
    sums = pair_sums(
        torch.from_numpy(sites),
        torch.from_numpy(np.tile(crystal.cell, (n_blocks, 1, 1))),
        potentials,
        tolerance=tolerance,
        graph_index=torch.arange(n_blocks).repeat_interleave(n),
        pbc=crystal.pbc,
    )
    square = sums.values.numpy().reshape(n_blocks, n, n, len(potentials))
    return np.einsum("gpaq,aq->gpq", square[:, :size, size:], factors), sums.error_bound.numpy()


def _blocks(points: Floats, crystal: Crystal) -> Iterator[Indices]:
    """Yield numbers of points that can be summed together, shape (n_blocks, size).

    Space is cut into boxes whose heights are ``APART`` or more, an even number of them along a
    period, and every second box along each axis is taken: points of different such boxes are apart.
    """
    cell = reduced(crystal.cell) if crystal.pbc.all() else crystal.cell
    inverse = np.linalg.inv(cell)
    heights = 1 / np.linalg.norm(inverse, axis=0)
    n_boxes = 2 * np.maximum(heights // (2 * APART), 0.5)  # 1 where no two fit
    n_boxes = np.where(crystal.pbc, n_boxes, heights / APART)
    places = points @ inverse
    places -= np.where(crystal.pbc, np.floor(places), 0)
    boxes = np.floor(places * n_boxes).astype(np.int64)
    boxes = np.where(crystal.pbc, np.minimum(boxes, n_boxes - 1), boxes).astype(np.int64)
    _, box = np.unique(boxes, axis=0, return_inverse=True)
    parity = (boxes % 2) @ np.array([4, 2, 1])

    layer = _count_up(box.reshape(-1))  # the first points of all boxes, the second ones, ...
    _, group = np.unique(parity * (len(points) + 1) + layer, return_inverse=True)
    place = _count_up(group)
    size = max(8, len(crystal.positions))
    _, block = np.unique(group * (len(points) + 1) + place // size, return_inverse=True)
    order = np.argsort(block, kind="stable")
    lengths = np.bincount(block)
    starts = np.cumsum(lengths) - lengths
    for length in np.unique(lengths):
        first = starts[lengths == length]
        step = max(1, CHUNK // (length + len(crystal.positions)) ** 2)
        for begin in range(0, len(first), step):
            yield order[first[begin : begin + step, None] + np.arange(length)]


def _count_up(labels: Indices) -> Indices:
    """Return for each item how many items before it have the same label."""
    order = np.argsort(labels, kind="stable")
    lengths = np.bincount(labels)
    counts = np.arange(len(labels)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    result = np.empty_like(labels)
    result[order] = counts
    return result
