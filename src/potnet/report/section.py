"""Planes through a crystal, and the atoms that lie near them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from potnet.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from potnet.crystal import Crystal

#: A plane holds an atom that is nearer than this, Å.
IN_PLANE = 0.1


@dataclass(frozen=True)
class Section:
    """A plane that cuts a crystal, with two directions to draw it by.

    Attributes:
        origin: A point of the plane, Cartesian, Å, shape (3,).
        across: Unit vector that points to the right, shape (3,).
        up: Unit vector at a right angle to it, shape (3,).
        periods: Vectors of the lattice in the plane, Cartesian, Å, shape (0 to 2, 3); the first
            runs along ``across``.
        steps: The same as integer combinations of the cell, shape (0 to 2, 3).
        name: What the plane is, for a title.
    """

    origin: NDArray[np.float64]
    across: NDArray[np.float64]
    up: NDArray[np.float64]
    periods: NDArray[np.float64]
    steps: NDArray[np.int64]
    name: str

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector at a right angle to the plane, shape (3,)."""
        return np.cross(self.across, self.up)

    def points(self, width: float, n: int) -> NDArray[np.float64]:
        """Return the centres of n x n squares that fill a window, row by row from below.

        Args:
            width: Edge of the window in Å; the origin is in its middle.
            n: Squares along an edge.

        Returns:
            Cartesian coordinates in Å, shape (n * n, 3).
        """
        places = ((np.arange(n) + 0.5) / n - 0.5) * width
        up, across = np.meshgrid(places, places, indexing="ij")
        return self.origin + across.reshape(-1, 1) * self.across + up.reshape(-1, 1) * self.up

    def atoms(
        self, crystal: Crystal, width: float, depth: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the atoms, with all images, within ``depth`` of the plane and near the window.

        Returns:
            Their numbers, shape (n,), and places across, up and along the normal from the
            origin, Å, shape (n, 3).
        """
        axes = np.stack([self.across, self.up, self.normal])
        inverse = np.linalg.inv(crystal.cell)
        half = np.array([width / 2 + depth, width / 2 + depth, depth])
        corners = self.origin + np.array(list(product((-1, 1), repeat=3))) * half @ axes
        places = crystal.positions @ inverse
        low = np.floor((corners @ inverse).min(0) - places.max(0)).astype(int)
        high = np.ceil((corners @ inverse).max(0) - places.min(0)).astype(int)
        spans = [
            np.arange(a, b + 1) if periodic else np.zeros(1, dtype=int)
            for a, b, periodic in zip(low, high, crystal.pbc, strict=True)
        ]
        shifts = np.stack(np.meshgrid(*spans, indexing="ij"), -1).reshape(-1, 3) @ crystal.cell
        images = (crystal.positions[:, None] + shifts - self.origin) @ axes.T
        atom, image = np.nonzero((np.abs(images) <= half).all(2))
        return atom, images[atom, image]


def miller_section(crystal: Crystal, indices: Sequence[int], atom: int = 0) -> Section:
    """Return the plane with Miller ``indices`` through an atom.

    Args:
        crystal: The crystal; indices refer to its cell as it is.
        indices: Three integers, not all 0.
        atom: Number of the atom.

    Raises:
        ConfigError: If the indices are no plane, or there is no such atom.
    """
    _check_atom(crystal, atom)
    h = np.array(indices)
    if h.shape != (3,) or h.dtype.kind != "i" or not h.any() or abs(h).max() > 9:
        raise ConfigError(
            f"section: `plane` must be three integers from -9 to 9 that are not all 0, got "
            f"{list(indices)}. Give Miller indices, for example 1,1,0."
        )
    h //= reduce(gcd, h.tolist())
    normal = np.linalg.inv(crystal.cell) @ h
    normal /= np.linalg.norm(normal)
    steps = _steps_in_plane(crystal, h)
    periods = steps @ crystal.cell
    if len(steps):
        across = periods[0] / np.linalg.norm(periods[0])
    else:
        axis = np.eye(3)[np.abs(normal).argmin()]
        across = np.cross(axis, normal)
        across /= np.linalg.norm(across)
    up = np.cross(normal, across).astype(np.float64)
    if len(steps) == 2 and periods[1] @ up < 0:
        up = -up
    label = f"({_joined(h)}) through {crystal.symbols[atom]}{atom}"
    return Section(crystal.positions[atom].copy(), across, up, periods, steps, label)


def atoms_section(crystal: Crystal, atoms: Sequence[int]) -> Section:
    """Return the plane through three atoms: the first, and the nearest images of two others.

    Raises:
        ConfigError: If there are no such atoms, or they lie on a line.
    """
    if len(atoms) != 3:
        raise ConfigError(
            f"section: `through` must be the numbers of three atoms, got {list(atoms)}. "
            "Give three, for example 0,3,5."
        )
    for atom in atoms:
        _check_atom(crystal, atom)
    first = crystal.positions[atoms[0]]
    a, b = (_nearest_image(crystal, atom, first) - first for atom in atoms[1:])
    normal = np.cross(a, b)
    if np.linalg.norm(normal) < 1e-3 * np.linalg.norm(a) * np.linalg.norm(b) + 1e-12:
        raise ConfigError(
            f"section: `through` must be atoms that are not on a line, got {list(atoms)}. "
            "Give other atoms."
        )
    across = a / np.linalg.norm(a)
    up = np.cross(normal / np.linalg.norm(normal), across).astype(np.float64)
    names = ", ".join(f"{crystal.symbols[k]}{k}" for k in atoms)
    none = np.zeros((0, 3))
    return Section(first + (a + b) / 3, across, up, none, none.astype(int), f"through {names}")


def telling_section(crystal: Crystal) -> Section:
    """Return the plane of low indices that holds most kinds of atoms, then most atoms by area."""
    best, merit = None, (0, 0.0)
    _, kinds = np.unique(crystal.numbers, return_index=True)
    for indices in _low_indices():
        for atom in kinds.tolist():
            section = miller_section(crystal, indices, atom)
            found, places = section.atoms(crystal, 12.0, IN_PLANE)
            inside = (np.abs(places[:, :2]) <= 6.0).all(1)
            numbers = crystal.numbers[found[inside]]
            # equally good planes: the first in the list, by a margin wider than rounding
            density = round(len(numbers) / 144.0, 3)
            if (len(set(numbers.tolist())), density) > merit:
                best, merit = section, (len(set(numbers.tolist())), density)
    return best if best is not None else miller_section(crystal, (0, 0, 1))


def _low_indices() -> list[tuple[int, ...]]:
    """Return the indices of planes from -1 to 1, one of each pair +h and -h, simple ones first."""
    every = [h for h in product((1, 0, -1), repeat=3) if h > (0, 0, 0)]
    return sorted(every, key=lambda h: (sum(map(abs, h)), sum(x < 0 for x in h), h[::-1]))


def _steps_in_plane(crystal: Crystal, h: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return integers of the two shortest lattice vectors in a plane, or fewer if there are."""
    reach = int(abs(h).max()) + 3
    spans = [range(-reach, reach + 1) if periodic else (0,) for periodic in crystal.pbc]
    steps = np.array([n for n in product(*spans) if n > (0, 0, 0)]).reshape(-1, 3)
    steps = steps[steps @ h == 0]
    lengths = np.linalg.norm(steps @ crystal.cell, axis=1)
    steps = steps[np.lexsort((np.abs(steps).sum(1), lengths.round(6)))]
    if len(steps) < 2:
        return steps
    others = steps[np.cross(steps[0], steps).any(1)]
    return np.concatenate([steps[:1], others[:1]])


def _nearest_image(crystal: Crystal, atom: int, point: NDArray) -> NDArray[np.float64]:
    """Return the image of an atom that is nearest to ``point`` but not on it."""
    spans = [(-1, 0, 1) if periodic else (0,) for periodic in crystal.pbc]
    offset = crystal.positions[atom] - point
    wrap = np.rint(offset @ np.linalg.inv(crystal.cell)) * crystal.pbc
    images = offset - wrap @ crystal.cell + np.array(list(product(*spans))) @ crystal.cell
    lengths = np.linalg.norm(images, axis=1)
    return point + images[np.where(lengths < 1e-6, np.inf, lengths).argmin()]


def _check_atom(crystal: Crystal, atom: int) -> None:
    if not 0 <= atom < crystal.n_atoms:
        raise ConfigError(
            f"section: `atom` must lie between 0 and {crystal.n_atoms - 1}, got {atom}. "
            "Count the atoms from 0 in the order of the file."
        )


def _joined(h: Sequence[int] | NDArray[np.int64]) -> str:
    """Return indices as crystallographers write them, a bar over the negative ones."""
    return " ".join(f"{abs(n)}\N{COMBINING OVERLINE}" if n < 0 else str(n) for n in h)


def direction(steps: NDArray[np.int64]) -> str:
    """Return the name of a direction of the lattice."""
    return f"[{_joined(steps)}]"
