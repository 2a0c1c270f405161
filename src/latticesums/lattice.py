"""Lattices: reduced bases, numbers of points in balls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


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


def reduced(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a Minkowski-reduced basis of the lattice, exact integer combinations of ``cell``."""
    import moyopy

    transformation = moyopy.minkowski_reduce(cell.tolist())[1]
    return np.array(transformation, dtype=np.float64).T @ cell
