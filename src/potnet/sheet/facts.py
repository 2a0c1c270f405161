"""What a crystal is before anything is predicted: formula, space group, density."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from potnet.errors import StructureError

if TYPE_CHECKING:
    from potnet.crystal import Crystal

SYMMETRY_TOLERANCE = 0.01  # Å: what is deposited or relaxed is rarely more symmetric than that
_GRAMS = 1.66053906660  # of a dalton per Å^3, in g/cm^3


@dataclass(frozen=True)
class Facts:
    """What is read off a crystal.

    Attributes:
        formula: Reduced formula, the electropositive element first.
        n_atoms: Atoms of the cell as it was read.
        space_group: Symbol and number; empty if none was found.
        density: In g/cm^3; standard atomic weights.
    """

    formula: str
    n_atoms: int
    space_group: str
    density: float


def facts_of(crystal: Crystal) -> Facts:
    """Return what is read off a crystal.

    >>> import numpy as np
    >>> from potnet import Crystal
    >>> facts_of(Crystal([11, 17], [[0, 0, 0], [2.82] * 3], 2.82 * (1 - np.eye(3)))).space_group
    'Fm-3m (225)'
    """
    weight = sum(n * _weight(number) for number, n in crystal.composition.items())
    density = weight * _GRAMS / crystal.volume
    return Facts(crystal.formula, crystal.n_atoms, space_group(crystal), density)


@lru_cache
def _weight(number: int) -> float:
    import gemmi

    return gemmi.Element(number).weight


def space_group(crystal: Crystal, tolerance: float = SYMMETRY_TOLERANCE) -> str:
    """Return symbol and number of the space group, empty if none is found or there is none."""
    if not crystal.is_periodic:
        return ""
    try:
        number, setting = crystal.group_within(tolerance)
    except StructureError:
        return ""
    return f"{_symbol(setting)} ({number})"


@lru_cache(maxsize=600)  # there are 530
def _symbol(setting: int) -> str:
    import moyopy

    return moyopy.HallSymbolEntry(setting).hm_short.replace(" ", "")
