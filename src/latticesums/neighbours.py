"""The images of atoms within a distance, as vectors that carry derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latticesums.errors import ConfigError, StructureError
from latticesums.inputs import are_finite
from latticesums.lattice import MAX_VECTORS, bring_near, check_cells, reduced

Array = NDArray[np.float64]

_FEW = 10_000  # shifts that are kept


def images(positions: Tensor, cell: Tensor, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the atoms i <= j and the shift of every image within the cutoff.

    The vector from i to the image of j is ``positions[j] - positions[i] + shift @ cell``. An atom's
    own images are listed there and back, those of others once.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3).
        cell: Lattice vectors as rows in Å, shape (3, 3).
        cutoff: Largest distance in Å.

    Returns:
        i and j, shape (n_images,), and shifts, float64, shape (n_images, 3).

    Raises:
        StructureError: If positions or cell are not finite tensors of these shapes, if the cell is
            singular, or if there are too many images.
        ConfigError: If the cutoff is not a finite number from 0 on.
    """
    _check("positions", positions, ("n_atoms", 3))
    _check("cell", cell, (3, 3))
    if isinstance(cutoff, bool) or not isinstance(cutoff, (int, float)) or not 0 <= cutoff < inf:
        raise ConfigError(
            f"images: `cutoff` must be a finite number from 0 on, got {cutoff!r}. Give it in Å."
        )
    pair, shifts = _shifted(positions, cell, cutoff, both=False)
    return pair // len(positions), pair % len(positions), shifts


def _check(name: str, given: Tensor, shape: tuple[str | int, int]) -> None:
    """Raise unless ``given`` is a finite tensor of a shape; a word stands for any number."""
    if not isinstance(given, Tensor) or given.ndim != 2 or not given.is_floating_point():
        got = type(given).__name__
    elif any(n != m for n, m in zip(given.shape, shape, strict=True) if not isinstance(m, str)):
        got = f"shape {tuple(given.shape)}"
    elif not len(given):
        got = "no atoms"
    elif not are_finite(given):
        got = "some that are not finite"
    else:
        return
    wanted = f"({shape[0]}, {shape[1]})"
    raise StructureError(
        f"images: `{name}` must be a tensor of finite numbers of shape {wanted}, got {got}. "
        "Give Cartesian coordinates in Å."
    )


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
    pair, shifts = _shifted(positions, cell, cutoff, both=both)
    n, moved = len(positions), shifts.to(cell) @ cell
    return pair, positions[pair % n] - positions[pair // n] + moved


def _shifted(
    positions: Tensor, cell: Tensor, cutoff: float, *, both: bool
) -> tuple[Tensor, Tensor]:
    """Return the pair i n_atoms + j and the shift of every image within the cutoff."""
    points, n = positions.detach().cpu().numpy(), len(positions)
    rows = np.asarray(cell.detach().cpu().numpy(), np.float64)
    lattice = _lattice(rows.tobytes(), cutoff)
    if not n * n * lattice.n_shifts < 25.0 * MAX_VECTORS:
        raise StructureError(
            f"`cell` must need at most {25 * MAX_VECTORS} images of pairs, got "
            f"{n * n * lattice.n_shifts:.3g}. Give the cell in Å, or a larger tolerance or a "
            "smaller cutoff."
        )
    pairs, steps = _listed(points, lattice, cutoff, both)
    return torch.from_numpy(pairs).to(positions.device), torch.from_numpy(steps).to(cell.device)


@dataclass(frozen=True)
class _Lattice:
    """A lattice in which images are looked for.

    Attributes:
        basis: Reduced basis, and its ``inverse``, (3, 3).
        back: Integer combinations of the rows of the cell that its rows are, (3, 3).
        box: Shifts along each of its vectors that lead to wrapped atoms within the cutoff.
    """

    basis: Array
    inverse: Array
    back: Array
    box: Array

    @property
    def n_shifts(self) -> float:
        """How many shifts there are in the box."""
        return float(np.prod(2 * self.box + 1))

    def within(self, radius: float) -> tuple[Array, Array]:
        """Return those that are no longer than a radius, and the vectors that they are, (n, 3)."""
        shifts, vectors, squares = self._kept if self.n_shifts <= _FEW else self._all()
        near = squares <= radius**2 * (1 + 1e-9)
        return shifts[near], vectors[near]

    @cached_property
    def _kept(self) -> tuple[Array, Array, Array]:
        return self._all()

    def _all(self) -> tuple[Array, Array, Array]:
        """Return the shifts, the vectors that they are, and their squared lengths."""
        ranges = (np.arange(-b, b + 1) for b in self.box)
        shifts = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 3)
        vectors = shifts @ self.basis
        return shifts, vectors, (vectors**2).sum(1)


@lru_cache(maxsize=16)  # where atoms move in one cell, it stays as it is
def _lattice(cell: bytes, cutoff: float) -> _Lattice:
    given = np.frombuffer(cell).reshape(3, 3)
    check_cells(given[None], "images")
    basis = reduced(given)
    inverse: Array = np.linalg.inv(basis).astype(np.float64)
    # wrapped atoms differ by less than a basis vector along each axis
    box = np.floor((cutoff * np.linalg.norm(inverse, axis=0)) + 1 + 1e-9)
    return _Lattice(basis, inverse, np.rint(basis @ np.linalg.inv(given)), box)


def _listed(
    positions: Array, lattice: _Lattice, cutoff: float, both: bool
) -> tuple[NDArray[np.int64], Array]:
    """Return the pairs, and how many given vectors lead to each image, shape (n, 3)."""
    from latticesums.compiled.calls import address
    from latticesums.compiled.machine_code import kernel

    basis = lattice.basis
    wraps = np.floor(positions @ lattice.inverse + 0.5)
    points = positions - wraps @ basis
    longest = 2 * np.sqrt((points * points).sum(1).max())
    shifts, vectors = lattice.within(cutoff + longest)
    given = points, wraps, vectors, shifts, lattice.back
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
