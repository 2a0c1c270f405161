"""Crystal: an immutable, validated cell with atoms, and its primitive form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from potnet.errors import StructureError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MIN_DISTANCE = 0.5
MAX_ATOMS = 20_000
SYMMETRY_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Crystal:
    """A cell that repeats without end.

    Args:
        numbers: Atomic numbers, shape (n_atoms,).
        positions: Cartesian coordinates in Å, shape (n_atoms, 3); they need not lie in the cell.
        cell: Lattice vectors as rows in Å, shape (3, 3); left- or right-handed.
        pbc: Periodic directions, one bool or three.
        id: Name that errors and tables use: a file name or a database id.
        info: Whatever else is known about the crystal (targets, provenance).

    Raises:
        StructureError: If a number is not finite, an element is unknown, the cell is singular, or
            two atoms are closer than ``MIN_DISTANCE``.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_] = True  # type: ignore[assignment]
    id: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
