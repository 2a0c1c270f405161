"""The space group of a crystal, and which of its atoms are equivalent."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from potnet.errors import StructureError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class SpaceGroup(NamedTuple):
    """A space group: its number and short symbol in the International Tables."""

    number: int
    symbol: str

    def __str__(self) -> str:
        return f"{self.symbol} ({self.number})"


def search(
    numbers: NDArray[np.int64],
    scaled: NDArray[np.float64],
    cell: NDArray[np.float64],
    tolerance: float,
    where: str,
) -> Any:
    """Return what moyopy finds of the symmetry within ``tolerance``, in Å.

    Args:
        numbers: Atomic numbers, shape (n_atoms,).
        scaled: Scaled positions, shape (n_atoms, 3).
        cell: Lattice vectors as rows in Å, shape (3, 3).
        tolerance: Largest distance between an atom and the image of its equivalent, in Å.
        where: Name of the crystal, for messages.

    Raises:
        StructureError: If the search finds no consistent group.
    """
    import moyopy

    _quieten()
    crystal = moyopy.Cell(cell.tolist(), scaled.tolist(), numbers.tolist())
    try:
        return moyopy.MoyoDataset(crystal, symprec=tolerance)
    except ValueError as error:
        raise StructureError(
            f"{where}: the symmetry search must find one group within "
            f"tolerance {tolerance} Å, got '{error}'. Use another tolerance."
        ) from error


@lru_cache(1)
def _quieten() -> None:
    """Let moyo say errors only: it warns of its symmetrised cell, which is not used here."""
    log = logging.getLogger("moyo")
    if log.level == logging.NOTSET:
        log.setLevel(logging.ERROR)


def first_of_each_orbit(dataset: Any) -> NDArray[np.int64]:
    """Return for each atom the first that is equivalent to it, shape (n_atoms,)."""
    orbits = np.array(dataset.orbits, dtype=np.int64)
    first = np.full(len(orbits), len(orbits))
    np.minimum.at(first, orbits, np.arange(len(orbits)))
    return first[orbits]


def space_group(dataset: Any) -> SpaceGroup:
    """Return the space group that was found."""
    import moyopy

    return SpaceGroup(dataset.number, moyopy.SpaceGroupType(dataset.number).hm_short)
