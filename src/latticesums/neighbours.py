"""The images of atoms within a distance, as vectors that carry derivatives."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from latticesums.errors import StructureError
from latticesums.lattice import MAX_VECTORS, bring_near, reduced

#: Couples of a pair and an image looked at together while images are searched.
_COUPLES = 1 << 20


def near_positions(positions: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return positions from the first atom on, far ones moved by whole lattice vectors."""
    rows, points = cell.detach().cpu().numpy(), positions.detach().cpu().numpy()
    near = bring_near(points, rows[None], np.array([len(points)]))
    if near is not None:
        wraps = torch.from_numpy(near.wraps).to(positions.device)
        moved = positions - wraps @ cell
        positions = moved - moved.detach() + torch.from_numpy(near.positions).to(positions.device)
    return positions - positions[:1].detach(), cell


def images_within(positions: Tensor, cell: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Return the pair i n_atoms + j, and the vector, of every image within the cutoff."""
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
    lattice = shifts @ basis
    found = []
    step = max(1, _COUPLES // (n * len(shifts)))
    for start in range(0, n, step):
        vectors = apart - apart[start : start + step, None]
        squares = ((vectors[:, :, None] + lattice) ** 2).sum(-1)
        i, j, image = np.nonzero(squares < cutoff * cutoff * (1 + 1e-12))
        found.append(np.stack([i + start, j, image]))
    i, j, image = np.concatenate(found, 1)
    foreign = (i != j) | shifts[image].any(1)
    i, j, image = i[foreign], j[foreign], image[foreign]
    # Back to the given cell: its integer combinations that lead from i to this image of j.
    steps = np.rint((shifts[image] - wraps[j] + wraps[i]) @ basis @ np.linalg.inv(given))
    first, second, steps = (torch.from_numpy(a).to(positions.device) for a in (i, j, steps))
    vectors = positions[second] - positions[first] + steps.to(cell) @ cell
    return first * n + second, vectors
