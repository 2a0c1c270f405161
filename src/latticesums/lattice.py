"""Lattices: what has one, reduced bases, and what makes a basis unusable.

numpy alone is needed here, so that whoever wants a reduced cell waits for nothing else. The one
reduction is written for single numbers in nested sequences: Python runs it on lists, and
:mod:`latticesums.compiled` compiles it for arrays.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from latticesums.errors import StructureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Atoms farther than this (Å) from the origin are brought near it before anything else.
FAR = 1e6
#: Atoms, or an atom and a periodic image, closer than this (Å) are on one spot.
SAME_SPOT = 1e-6

#: Lattice vectors that one crystal may need; beyond it the cell is absurdly thin.
MAX_VECTORS = 4_000_000

_COUNTS = (
    "no vector",
    "a vector of some length",
    "two independent periodic vectors",
    "three independent vectors",
)


class Crystal(Protocol):
    """Anything with atoms in a cell that repeats: arrays under these names are all it takes."""

    @property
    def positions(self) -> NDArray[np.float64]:
        """Cartesian coordinates in Å, shape (n_atoms, 3)."""
        ...

    @property
    def cell(self) -> NDArray[np.float64]:
        """Lattice vectors as rows in Å, shape (3, 3)."""
        ...

    @property
    def pbc(self) -> NDArray[np.bool_]:
        """Periodic directions, shape (3,)."""
        ...


class Atoms(NamedTuple):
    """Atoms in a cell that repeats, from arrays: the plainest :class:`Crystal`.

    Attributes:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3).
        cell: Lattice vectors as rows in Å, shape (3, 3).
        pbc: Periodic directions, one bool or three.
    """

    positions: Any
    cell: Any
    pbc: Any = True


def reduce_in_place(cell: Any, transform: Any) -> None:
    """Make the rows of ``cell`` a Minkowski-reduced basis, shortest first, in place.

    Greedy reduction: each vector is made as short as integer multiples of the shorter ones can
    make it, until nothing changes (Semaev 2001).

    Args:
        cell: Lattice vectors as three rows of three numbers.
        transform: As much room, for the integers that take the given cell to the reduced one.
    """
    for i in range(3):
        for k in range(3):
            transform[i][k] = 1.0 if i == k else 0.0
    for _ in range(1000):
        for _ in range(2):
            for i in range(2):
                if (
                    cell[i][0] ** 2 + cell[i][1] ** 2 + cell[i][2] ** 2
                    > cell[i + 1][0] ** 2 + cell[i + 1][1] ** 2 + cell[i + 1][2] ** 2
                ):
                    for k in range(3):
                        cell[i][k], cell[i + 1][k] = cell[i + 1][k], cell[i][k]
                        old, new = transform[i + 1][k], transform[i][k]
                        transform[i][k], transform[i + 1][k] = old, new
        aa = bb = cc = ab = ac = bc = 0.0
        for k in range(3):
            aa += cell[0][k] * cell[0][k]
            ab += cell[0][k] * cell[1][k]
        if abs(ab) > 0.5 * aa * (1 + 1e-12):
            m = float(math.floor(ab / aa + 0.5))
            for k in range(3):
                cell[1][k] -= m * cell[0][k]
                transform[1][k] -= m * transform[0][k]
            continue
        for k in range(3):
            bb += cell[1][k] * cell[1][k]
            cc += cell[2][k] * cell[2][k]
            ac += cell[0][k] * cell[2][k]
            bc += cell[1][k] * cell[2][k]
        # closest vector of the plane spanned by the two shorter ones to the third
        det = aa * bb - ab * ab
        first = float(math.floor((ac * bb - bc * ab) / det + 0.5))
        second = float(math.floor((bc * aa - ac * ab) / det + 0.5))
        best, best_i, best_j = cc * (1 - 1e-12), 0.0, 0.0
        for di in range(-1, 2):
            for dj in range(-1, 2):
                i, j = first + di, second + dj
                length = cc + i * i * aa + j * j * bb - 2 * (i * ac + j * bc - i * j * ab)
                if length < best:
                    best, best_i, best_j = length, i, j
        if best_i == 0 and best_j == 0:
            return
        for k in range(3):
            cell[2][k] -= best_i * cell[0][k] + best_j * cell[1][k]
            transform[2][k] -= best_i * transform[0][k] + best_j * transform[1][k]


def reduced(cell: Array) -> Array:
    """Return a Minkowski-reduced basis of a lattice, as right- or left-handed as ``cell`` is.

    Args:
        cell: Three independent lattice vectors as rows, shape (3, 3).

    Returns:
        Exact integer combinations of the rows, from short to long, shape (3, 3).
    """
    transform = _transform(cell)
    return (transform if np.linalg.det(transform) > 0 else -transform) @ cell


def reduce_cells(cells: Array) -> tuple[Array, Array]:
    """Return Minkowski-reduced bases of lattices, shortest vector first.

    Args:
        cells: Lattice vectors as rows in Å, shape (n_graphs, d, 3), d at most 3.

    Returns:
        Integer transforms, shape (n_graphs, d, d), and bases ``transform @ cell``.
    """
    d = cells.shape[1]
    full = cells if d == 3 else _completed(cells)
    transform = np.stack([_transform(cell) for cell in full]) if len(full) else np.eye(3)[None][:0]
    transform = transform[:, :d, :d]  # long vectors across the others stay what and where they are
    return transform, transform @ cells


def _transform(cell: Array) -> Array:
    transform = [[0.0] * 3 for _ in range(3)]
    reduce_in_place(cell.tolist(), transform)
    return np.array(transform)


def _completed(cells: Array) -> Array:
    """Return cells with orthogonal vectors added, longer than all that belong to the lattice."""
    d = cells.shape[1]
    full = np.zeros((len(cells), 3, 3))
    full[:, :d] = cells
    normals = np.linalg.svd(full)[2][:, d:]  # rows that belong to the singular values 0
    full[:, d:] = normals * (4 * np.linalg.norm(cells, axis=2).sum(1) + 1)[:, None, None]
    return full


class NearPositions(NamedTuple):
    """Positions that were moved by lattice vectors, as exact sums of two numbers.

    Attributes:
        positions, rests: What adds up to the position of each atom but for a relative error of
            2^-106, shape (n_atoms, 3).
        wraps: Lattice vectors that were taken off, shape (n_atoms, d).
    """

    positions: Array
    rests: Array
    wraps: Array


def bring_near(positions: Array, cells: Array, n_atoms: NDArray[np.int64]) -> NearPositions | None:
    """Return positions near the origin, or None if all atoms are within ``FAR`` of it.

    Whole lattice vectors are taken off in exact arithmetic: the product of a coordinate and the
    number of its cell has more digits than float64 (docs/theory.md, "Rounding").

    Args:
        positions: Cartesian coordinates in Å, finite, shape (n_atoms, 3), crystal after crystal.
        cells: Lattice vectors as rows in Å, shape (n_graphs, d, 3).
        n_atoms: Atoms of each crystal, shape (n_graphs,).
    """
    if len(positions) == 0 or np.abs(positions).max() <= FAR:
        return None
    owner = np.repeat(np.arange(len(cells)), n_atoms)
    near = NearPositions(
        positions.copy(), np.zeros_like(positions), np.zeros((len(positions), cells.shape[1]))
    )
    for atom in np.flatnonzero(np.abs(positions).max(1) > FAR).tolist():
        cell = cells[owner[atom]]
        if not np.isfinite(cell).all():
            continue
        place = [Fraction(x) for x in positions[atom].tolist()]
        rows = [[Fraction(x) for x in row] for row in cell.tolist()]
        inverse = np.linalg.pinv(cell)
        for _ in range(40):  # each leaves a distance 10^10 times smaller, or more
            steps = np.rint(np.array([float(x) for x in place]) @ inverse)
            if not steps.any() or not np.isfinite(steps).all():
                break
            for step, row in zip(steps.tolist(), rows, strict=True):
                place = [x - int(step) * a for x, a in zip(place, row, strict=True)]
            near.wraps[atom] += steps
        near.positions[atom] = [float(x) for x in place]
        near.rests[atom] = [float(x - Fraction(float(x))) for x in place]
    return near


def largest_lengths(transform: Array, cells: Array) -> Array:
    """Return the largest lengths met in ``transform @ cells``, Å, shape (n_graphs,)."""
    sizes = np.einsum("gij,gj->gi", np.abs(transform), np.linalg.norm(cells, axis=2))
    return sizes.max(1, initial=0)


def gram_schmidt_lengths(basis: Array) -> Array:
    """Return the lengths of the Gram-Schmidt vectors of each basis, shape (n_graphs, d)."""
    d = basis.shape[1]
    measures = np.ones((len(basis), d + 1))
    if d > 0:
        measures[:, 1] = np.linalg.norm(basis[:, 0], axis=1)
    if d > 1:
        measures[:, 2] = np.linalg.norm(np.cross(basis[:, 0], basis[:, 1]), axis=1)
    if d > 2:
        measures[:, 3] = np.abs(np.linalg.det(basis))
    return measures[:, 1:] / measures[:, :-1]


def check_cells(cells: Array, where: str = "") -> None:
    """Raise unless the lattice vectors, (n_graphs, d, 3), are finite and independent.

    The message begins with the number of the crystal, or with ``where``.
    """
    finite = np.isfinite(cells).all((1, 2))
    if not finite.all():
        graph = int(np.argmin(finite))
        raise StructureError(
            f"{where or f'crystal {graph}'}: `cell` must hold finite numbers, got "
            f"{cells[graph].tolist()}. Give lattice vectors in Å."
        )
    sizes = np.linalg.norm(cells, axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        flat = ~(gram_schmidt_lengths(cells).prod(1) > 1e-10 * sizes.prod(1))
    if flat.any():
        graph = int(np.argmax(flat))
        raise StructureError(
            f"{where or f'crystal {graph}'}: `cell` must hold {_COUNTS[cells.shape[1]]}, got "
            f"{cells[graph].tolist()}. Give a cell with a volume."
        )


def check_lengths(basis: Array) -> None:
    """Raise unless an atom and its images are apart, by reduced bases, shape (n_graphs, d, 3)."""
    if basis.size == 0:
        return
    shortest = np.linalg.norm(basis[:, 0], axis=1)
    if (shortest < SAME_SPOT).any():
        graph = int(np.argmin(shortest))
        raise StructureError(
            f"crystal {graph}: `cell` must keep an atom and its images {SAME_SPOT:g} Å apart or "
            f"more, got {shortest[graph]:.3g} Å. Give the lattice vectors in Å."
        )
