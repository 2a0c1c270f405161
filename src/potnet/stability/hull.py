"""The convex hull of formation energies: what a crystal decomposes into, and what it gains."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from potnet.crystal import SYMBOLS, Crystal, number_of
from potnet.crystal.formula import parse_formula, reduced_formula
from potnet.errors import StructureError
from potnet.stability.phases import SNAPSHOT_NAME, Phase, PhaseTable
from potnet.stability.simplex import cheapest_mixture

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ELEMENTS = tuple(enumerate(SYMBOLS))[1:]
SYSTEMS = 256  # sets of elements whose phases are kept at hand
COMPOSITIONS = 4096  # whose mixtures are kept: many structures of one are screened


@dataclass(frozen=True)
class Decomposition:
    """The mixture of phases of lowest energy with a given composition.

    Attributes:
        formula: The composition.
        energy: Energy of the mixture, the hull at this composition, in eV per atom.
        phases: The phases with their shares of the atoms, the largest first.
        unknown: Elements of which the hull has no phase: only they themselves compete.
        snapshot: Where the phases come from.
    """

    formula: str
    energy: float
    phases: tuple[tuple[Phase, float], ...]
    unknown: tuple[str, ...]
    snapshot: str

    def __str__(self) -> str:
        """Return the mixture with shares of the atoms: ``0.714 Al2O3 + 0.286 MgO``."""
        if len(self.phases) == 1:
            return self.phases[0][0].formula
        return " + ".join(f"{share:.3g} {phase.formula}" for phase, share in self.phases)


@dataclass(frozen=True)
class Stability:
    """How far a crystal lies above the hull.

    Attributes:
        energy_above_hull: Its formation energy less the hull's, in eV per atom. Below zero: more
            stable than every mixture of the known phases.
        lower, upper: The same for the ends of the interval of its formation energy. The error of
            the hull itself is not in it.
        decomposition: What it would decompose into.
    """

    energy_above_hull: float
    lower: float
    upper: float
    decomposition: Decomposition


class Hull:
    """The lower convex hull of the formation energies of phases.

    The elements are part of it, with energy zero.

    Args:
        phases: What competes.
        snapshot: Where the phases come from, for whoever reads the results.

    >>> hull = Hull([Phase.of("MgO", -3.0), Phase.of("Al2O3", -3.4), Phase.of("MgAl2O4", -3.3)])
    >>> str(hull.decompose("MgAl2O4", own_composition=False))
    '0.714 Al2O3 + 0.286 MgO'
    >>> round(hull.above("MgAl2O4", -3.25).energy_above_hull, 6)
    0.05
    """

    def __init__(self, phases: Iterable[Phase] | PhaseTable, snapshot: str = "own phases") -> None:
        table = phases if isinstance(phases, PhaseTable) else PhaseTable.of(phases)
        elements = PhaseTable.of(Phase(symbol, 0.0, amounts={n: 1.0}) for n, symbol in _ELEMENTS)
        self._phases = table
        self._table = elements.joined(table)
        self._known = frozenset(np.flatnonzero(np.bincount(table.elements.ravel())).tolist())
        self.snapshot = snapshot
        self._system = lru_cache(SYSTEMS)(self._find_system)
        self._decomposition = lru_cache(COMPOSITIONS)(self._find_decomposition)

    def __len__(self) -> int:
        return len(self._phases)

    def __repr__(self) -> str:
        return f"<Hull: {len(self):,} phases; {self.snapshot}>"

    @property
    def checksum(self) -> int:
        """A number that changes with the phases."""
        table = self._phases
        return zlib.crc32(table.energies.tobytes(), zlib.crc32(table.amounts.tobytes()))

    def with_phases(self, phases: Iterable[Phase]) -> Hull:
        """Return the hull with more phases, whose energies must be made in the same way."""
        more = PhaseTable.of(phases)
        return Hull(self._phases.joined(more), f"{self.snapshot}; with {len(more)} own phases")

    def decompose(
        self, composition: str | Crystal | Mapping[str, float], *, own_composition: bool = True
    ) -> Decomposition:
        """Return the mixture of lowest energy with the composition of a crystal.

        Args:
            composition: A formula, a crystal, or amounts by symbol.
            own_composition: Whether phases of this very composition compete. Without them the
                energy says by how much a known phase is stable, and what a phase that nobody
                knows yet is up against.

        Raises:
            StructureError: If this is no composition.
        """
        is_text = isinstance(composition, str)
        amounts = _of_formula(composition) if is_text else _ordered(_amounts(composition))
        return self._decomposition(amounts, own_composition)

    def _find_decomposition(
        self, composition: tuple[tuple[int, float], ...], own_composition: bool
    ) -> Decomposition:
        amounts = dict(composition)
        numbers = tuple(amounts)
        target = np.array([amounts[number] for number in numbers], dtype=np.float64)
        target /= target.sum()
        indices, shares, costs = self._system(numbers)
        if not own_composition:
            kept = abs(shares - target[:, None]).max(0) > 1e-9
            kept[: len(numbers)] = True  # an element is its own reference
            indices, shares, costs = indices[kept], shares[:, kept], costs[kept]
        found, parts, energy = cheapest_mixture(costs, shares, target)
        phases = [
            (self._table[row], part)
            for row, part in zip(indices[found].tolist(), parts.tolist(), strict=True)
        ]
        phases.sort(key=lambda item: (-item[1], item[0].formula))
        unknown = tuple(SYMBOLS[number] for number in numbers if number not in self._known)
        formula = reduced_formula(amounts)
        return Decomposition(formula, energy, tuple(phases), unknown, self.snapshot)

    def above(
        self,
        composition: str | Crystal | Mapping[str, float],
        energy: float,
        lower: float = float("nan"),
        upper: float = float("nan"),
        *,
        own_composition: bool = True,
    ) -> Stability:
        """Return how far a formation energy lies above the hull, with its interval.

        Args:
            composition: As in :meth:`decompose`.
            energy: Formation energy in eV per atom.
            lower, upper: Interval of the formation energy, if there is one.
            own_composition: As in :meth:`decompose`.

        Raises:
            StructureError: If this is no composition.
        """
        found = self.decompose(composition, own_composition=own_composition)
        hull = found.energy
        return Stability(energy - hull, lower - hull, upper - hull, found)

    def phases_of(self, elements: Sequence[str]) -> tuple[tuple[Phase, ...], NDArray[np.float64]]:
        """Return the phases of some elements and their shares, the elements themselves first.

        Args:
            elements: Symbols.

        Returns:
            n phases, and the share of each element, in the order of atomic numbers, in the atoms
            of each, shape (n, n_elements).

        Raises:
            StructureError: If a symbol is not one of an element.
        """
        numbers = tuple(sorted({number_of(symbol, "elements") for symbol in elements}))
        rows, shares, _ = self._system(numbers)
        return tuple(self._table[row] for row in rows.tolist()), shares.T

    def _find_system(
        self, numbers: tuple[int, ...]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the phases of a set of elements: row, shares and energy, the elements first."""
        place = np.full(len(SYMBOLS), -1)
        place[list(numbers)] = np.arange(len(numbers))
        rows = self._table.within(numbers)
        shares = np.zeros((len(numbers), len(rows)))
        elements = self._table.elements[rows]
        k, slot = np.nonzero(elements)
        shares[place[elements[k, slot]], k] = self._table.shares[rows[k], slot]
        return rows, shares, self._table.energies[rows]


@lru_cache(1)
def load_hull() -> Hull:
    """Return the hull of the bundled snapshot: 35,408 stable phases of the Materials Project."""
    return Hull(PhaseTable.load(), SNAPSHOT_NAME)


@lru_cache(COMPOSITIONS)
def _of_formula(text: str) -> tuple[tuple[int, float], ...]:
    """Return the amounts of a formula by atomic number, in its order."""
    return _ordered(parse_formula(text))


def _ordered(amounts: Mapping[int, float]) -> tuple[tuple[int, float], ...]:
    return tuple(sorted(amounts.items()))


def _amounts(composition: Crystal | Mapping[str, float]) -> dict[int, float]:
    """Return the amount of each element by atomic number."""
    if isinstance(composition, Crystal):
        return dict(composition.composition)
    amounts: dict[int, float] = {}
    for symbol, amount in composition.items():
        number = number_of(symbol, "composition")
        amounts[number] = amounts.get(number, 0.0) + amount
    if not amounts or not all(0 < n < math.inf for n in amounts.values()):
        raise StructureError(
            f"composition: the amounts must be positive and finite, got {dict(composition)}. "
            "Leave out elements that are not there."
        )
    return amounts
