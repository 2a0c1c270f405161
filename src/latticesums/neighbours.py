"""The images of atoms within a distance, as vectors that carry derivatives."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latticesums.errors import StructureError
from latticesums.lattice import MAX_VECTORS, bring_near, reduced

Array = NDArray[np.float64]


def near_positions(positions: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return positions from the first atom on, far ones moved by whole lattice vectors."""
    rows, points = cell.detach().cpu().numpy(), positions.detach().cpu().numpy()
    near = bring_near(points, rows[None], np.array([len(points)]))
    if near is not None:
        wraps = torch.from_numpy(near.wraps).to(positions.device)
        moved = positions - wraps @ cell
        positions = moved - moved.detach() + torch.from_numpy(near.positions).to(positions.device)
    return positions - positions[:1].detach(), cell


def images_within(
    positions: Tensor, cell: Tensor, cutoff: float, *, both: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the pair i n_atoms + j, and the vector from i, of every image within the cutoff.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3).
        cell: Lattice vectors as rows in Å, shape (3, 3).
        cutoff: Largest distance in Å.
        both: Whether to list i, j and j, i, or only i <= j.
    """
    given, points = cell.detach().cpu().numpy(), positions.detach().cpu().numpy()
    basis, n = reduced(given), len(points)
    inverse = np.linalg.inv(basis)
    wraps = np.floor(points @ inverse + 0.5)
    apart = points - wraps @ basis
    # wrapped atoms differ by less than a basis vector along each axis
    box = np.floor((cutoff * np.linalg.norm(inverse, axis=0)) + 1 + 1e-9)
    if not n * n * np.prod(2 * box + 1) < 25.0 * MAX_VECTORS:
        raise StructureError(
            f"`cell` must need at most {25 * MAX_VECTORS} images of pairs, got "
            f"{n * n * np.prod(2 * box + 1):.3g}. Give the cell in Å, or a larger tolerance or a "
            "smaller cutoff."
        )
    shifts = np.stack(np.meshgrid(*(np.arange(-b, b + 1) for b in box), indexing="ij"), -1)
    shifts = shifts.reshape(-1, 3)
    longest = 2 * np.sqrt((apart * apart).sum(1).max())
    shifts = shifts[((shifts @ basis) ** 2).sum(1) <= (cutoff + longest) ** 2 * (1 + 1e-9)]
    # Back to the given cell: its integer combinations that lead from i to an image of j.
    back = np.rint(basis @ np.linalg.inv(given))
    pairs, steps = _listed(apart, wraps, shifts, basis, back, cutoff, both)
    pair = torch.from_numpy(pairs).to(positions.device)
    moved = torch.from_numpy(steps).to(cell) @ cell
    return pair, positions[pair % n] - positions[pair // n] + moved


def _listed(
    points: Array, wraps: Array, shifts: Array, basis: Array, back: Array, cutoff: float, both: bool
) -> tuple[NDArray[np.int64], Array]:
    """Return the pairs, and how many given vectors lead to each image, shape (n, 3)."""
    from latticesums.compiled.calls import address
    from latticesums.compiled.machine_code import kernel

    given = [np.array(a, dtype=float, order="C") for a in (points, wraps, shifts @ basis, shifts)]
    given.append(np.array(back, dtype=float, order="C"))
    n, found = len(points), _expected(len(points), basis, cutoff)
    while True:
        room = found
        pairs, steps = np.empty(room, np.int64), np.empty((room, 3))
        found = kernel("list_neighbours")(
            n, len(shifts), both, room, cutoff * cutoff * (1 + 1e-12), *map(address, given),
            address(pairs), address(steps),
        )  # fmt: skip
        if found <= room:
            return pairs[:found], steps[:found]


def _expected(n: int, basis: Array, cutoff: float) -> int:
    """Return how many images there are, rather more than fewer."""
    return int(1.3 * n * n * (4.2 * cutoff**3 / abs(np.linalg.det(basis)) + 1)) + 64
