"""Radial shells summed over all images, with and without direction.

For Gaussian shells of equal spacing and a smooth envelope,

    phi_k(r) = exp(-((r - c_k) / w)^2) (1 - (r / R)^2)^3 for r < R, else 0,

the sums over images of phi_k(r) and of phi_k(r) r / |r| (the real spherical harmonics l = 0 and
l = 1) are finite sums, exact up to rounding. The shells follow from one another by recurrence, so
an image costs two exponentials whatever their number.

All compiled code stays in this file: numba's cache does not see changes in other files.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numba as nb
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from vesin import NeighborList

from potnet.crystal.lattice import reduced
from potnet.errors import ConfigError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_jit = nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})


@_jit
def _add_images(vector, cell, reach, own, first, spacing, width, cutoff, weights, out):
    """Add the shells of all images of one pair to ``out``, shape (n_shells, 4).

    ``vector`` is the pair vector in the basis of the cell and ``reach`` the cutoff in the
    distances between lattice planes.
    """
    n_shells = out.shape[0]
    square = cutoff * cutoff
    low0, high0 = math.ceil(-reach[0] - vector[0]), math.floor(reach[0] - vector[0])
    low1, high1 = math.ceil(-reach[1] - vector[1]), math.floor(reach[1] - vector[1])
    low2, high2 = math.ceil(-reach[2] - vector[2]), math.floor(reach[2] - vector[2])
    step = 2 * spacing / (width * width)
    decay = math.exp(-step * spacing)
    for p in range(low0, high0 + 1):
        for q in range(low1, high1 + 1):
            for s in range(low2, high2 + 1):
                if own and p == 0 and q == 0 and s == 0:
                    continue
                a, b, c = vector[0] + p, vector[1] + q, vector[2] + s
                x = a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
                y = a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
                z = a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
                r2 = x * x + y * y + z * z
                if r2 >= square:
                    continue
                r = math.sqrt(r2)
                u = (r - first) / width
                envelope = (1 - r2 / square) ** 3
                # exp(-((r - c_k - h) / w)^2) = exp(-((r - c_k) / w)^2) * ratio, and so on.
                value = envelope * math.exp(-u * u)
                ratio = math.exp(step * (r - first) - 0.5 * step * spacing)
                for k in range(n_shells):
                    weights[k] = value
                    value *= ratio
                    ratio *= decay
                x, y, z = x / r, y / r, z / r
                for k in range(n_shells):
                    out[k, 0] += weights[k]
                    out[k, 1] += weights[k] * x
                    out[k, 2] += weights[k] * y
                    out[k, 3] += weights[k] * z


@_jit
def _evaluate(
    begin, end, positions, cells, inverses, offsets, orbits, out_offsets, n_orbits,
    first, spacing, width, cutoff, values,
):  # fmt: skip
    reach, vector, weights = np.empty(3), np.empty(3), np.empty(values.shape[1])
    for c in range(begin, end):
        cell, inverse = cells[c], inverses[c]
        for k in range(3):
            reach[k] = cutoff * math.sqrt(
                inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2
            )
        row = 0
        for i in range(offsets[c], offsets[c + 1]):
            if orbits[i] != row:
                continue
            for j in range(offsets[c], offsets[c + 1]):
                for k in range(3):
                    vector[k] = 0.0
                    for m in range(3):
                        vector[k] += (positions[j, m] - positions[i, m]) * inverse[m, k]
                place = out_offsets[c] + row * n_orbits[c] + orbits[j]
                _add_images(
                    vector, cell, reach, i == j, first, spacing, width, cutoff, weights,
                    values[place],
                )  # fmt: skip
            row += 1


def orbit_shells(
    positions: Floats,
    cells: Floats,
    counts: Ints,
    orbits: Ints,
    *,
    centers: Floats,
    width: float,
    cutoff: float,
    n_threads: int = 1,
) -> Floats:
    """Return the shells from the first atom of each orbit to all atoms of each orbit.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3), crystal after crystal.
        cells: Lattice vectors as rows in Å, shape (n_graphs, 3, 3).
        counts: Number of atoms of each crystal, shape (n_graphs,).
        orbits: Labels of symmetry-equivalent atoms within each crystal, from 0 in the order of
            their first appearance, shape (n_atoms,).
        centers: Radii of the shells in Å, equally spaced, shape (n_shells,).
        width: Width w of every shell in Å.
        cutoff: Radius R in Å at which every shell has ended.
        n_threads: Threads that share the crystals; the numbers do not depend on it.

    Returns:
        For each ordered pair of orbits, crystal after crystal, a slow and b fast: the sum of
        phi_k over the images of the atoms of b, then its three components with direction, from a
        towards b, shape (sum of squared orbit counts, n_shells, 4).

    Raises:
        ConfigError: If the centers are not equally spaced.
    """
    spacing = float(centers[1] - centers[0]) if len(centers) > 1 else width
    if len(centers) > 2 and not np.allclose(np.diff(centers), spacing, rtol=1e-9):
        raise ConfigError(
            f"shells: `centers` must be equally spaced, got {np.asarray(centers).tolist()}. "
            "Use numpy.linspace."
        )
    counts = np.ascontiguousarray(counts, dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    n_orbits = np.maximum.reduceat(orbits, offsets[:-1]) + 1
    out_offsets = np.concatenate([[0], np.cumsum(n_orbits**2)])
    values = np.zeros((out_offsets[-1], len(centers), 4))
    if len(centers) == 0:
        return values
    cells = np.ascontiguousarray(cells, dtype=np.float64)
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    orbits = np.ascontiguousarray(orbits, dtype=np.int64)
    inverses = np.linalg.inv(cells)

    def evaluate(begin: int, end: int) -> None:
        _evaluate(
            begin, end, positions, cells, inverses, offsets, orbits, out_offsets, n_orbits,
            float(centers[0]), spacing, float(width), float(cutoff), values,
        )  # fmt: skip

    if n_threads == 1:
        evaluate(0, len(counts))
    else:
        cuts = np.linspace(0, len(counts), n_threads + 1).astype(int).tolist()
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(evaluate, cuts[:-1], cuts[1:]))
    return values


def pair_shells(
    positions: Tensor, cell: Tensor, *, centers: Floats, width: float, cutoff: float
) -> Tensor:
    """Return the shells of all ordered pairs of one crystal, differentiable.

    The same sums as :func:`orbit_shells` with each atom an orbit of its own, in torch: any number
    of derivatives with respect to positions and cell.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3).
        cell: Lattice vectors as rows in Å, shape (3, 3).
        centers: Radii of the shells in Å, shape (n_shells,).
        width: Width of every shell in Å.
        cutoff: Radius in Å at which every shell has ended.

    Returns:
        Shape (n_atoms^2, n_shells, 4), i slow and j fast.
    """
    n_atoms = len(positions)
    given = cell.detach().cpu().double().numpy()
    basis = reduced(given)
    points = positions.detach().cpu().double().numpy()
    images = np.floor(points @ np.linalg.inv(basis))
    search = NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
    i, j, shifts = search.compute(points - images @ basis, basis, True, "ijS")
    i, j = i.astype(np.int64), j.astype(np.int64)
    # Back to the given cell: its integer combinations that lead from i to this image of j.
    shifts = np.rint((shifts - images[j] + images[i]) @ basis @ np.linalg.inv(given))

    def tensor(array: NDArray) -> Tensor:
        return torch.as_tensor(array, device=positions.device)

    first, second = tensor(i), tensor(j)
    vectors = positions[second] - positions[first] + tensor(shifts).to(cell) @ cell
    r = vectors.norm(dim=1)[:, None]
    envelope = (1 - (r / cutoff) ** 2) ** 3
    weights = torch.exp(-(((r - tensor(centers).to(r)) / width) ** 2)) * envelope
    directed = weights[:, :, None] * (vectors / r)[:, None]
    values = torch.cat([weights[:, :, None], directed], dim=2)
    total = values.new_zeros(n_atoms * n_atoms, *values.shape[1:])
    return total.index_add(0, first * n_atoms + second, values)
