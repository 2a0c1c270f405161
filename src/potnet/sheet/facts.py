"""What a crystal is before anything is predicted: formula, space group, density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from potnet.crystal.formula import reduced_formula
from potnet.crystal.symmetry import search
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

    >>> from potnet import Crystal
    >>> facts_of(Crystal([11, 17], [[0, 0, 0], [2.82] * 3], 2.82 * (1 - np.eye(3)))).space_group
    'Fm-3m (225)'
    """
    import gemmi

    numbers, counts = np.unique(crystal.numbers, return_counts=True)
    amounts = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    weight = sum(n * gemmi.Element(number).weight for number, n in amounts.items())
    density = weight * _GRAMS / crystal.volume
    return Facts(reduced_formula(amounts), crystal.n_atoms, space_group(crystal), density)


def space_group(crystal: Crystal, tolerance: float = SYMMETRY_TOLERANCE) -> str:
    """Return symbol and number of the space group, empty if none is found or there is none."""
    import moyopy

    if not crystal.pbc.all():
        return ""
    try:
        found = search(
            crystal.numbers, crystal.scaled_positions, crystal.cell, tolerance, crystal.id
        )
    except StructureError:
        return ""
    symbol = moyopy.HallSymbolEntry(found.hall_number).hm_short.replace(" ", "")
    return f"{symbol} ({found.number})"
