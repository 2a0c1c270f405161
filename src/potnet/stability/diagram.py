"""The hull of two or three elements as a picture shows it: phases, and what joins them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from potnet.crystal import NUMBERS
from potnet.errors import StructureError
from potnet.stability.phases import Phase

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from potnet.stability.hull import Hull

_FLAT = 1e-9  # eV/atom: phases that lie so little below a plane are in it
MAX_PHASES = 150  # of a diagram; no system of three elements in the snapshot has as many


@dataclass(frozen=True)
class Diagram:
    """Phases of two or three elements, and which of them coexist.

    Attributes:
        elements: Symbols, in the order of atomic numbers.
        phases: All phases of these elements, the elements first.
        shares: Share of each element in the atoms of each phase, shape (n, n_elements).
        lines: Pairs of phases between which the hull is straight: edges of its faces.
    """

    elements: tuple[str, ...]
    phases: tuple[Phase, ...]
    shares: NDArray[np.float64]
    lines: tuple[tuple[int, int], ...]


def diagram(hull: Hull, elements: tuple[str, ...]) -> Diagram:
    """Return the hull of some elements.

    Args:
        hull: Where the phases come from.
        elements: Two or three symbols.

    Raises:
        StructureError: If there are fewer or more, or so many phases that no picture shows them.
    """
    if not 2 <= len(set(elements)) <= 3:
        raise StructureError(
            f"diagram: `elements` must be two or three, got {', '.join(elements)}. "
            "Ask for the decomposition instead."
        )
    symbols = tuple(sorted(set(elements), key=NUMBERS.__getitem__))
    phases, shares = hull.phases_of(symbols)
    if len(phases) > MAX_PHASES:
        raise StructureError(
            f"diagram: there must be at most {MAX_PHASES} phases, got {len(phases)}. "
            "Ask for the decomposition instead."
        )
    energies = np.array([phase.energy for phase in phases])
    return Diagram(symbols, phases, shares, _edges(shares, energies))


def _edges(
    shares: NDArray[np.float64], energies: NDArray[np.float64]
) -> tuple[tuple[int, int], ...]:
    """Return the edges of all faces under which no phase lies; few phases, so all are tried."""
    n, size = shares.shape
    corners = np.array(list(combinations(range(n), size)))
    solvable = np.abs(np.linalg.det(shares[corners])) > _FLAT
    corners = corners[solvable]
    # What the atoms of each element cost on the plane through the corners, shape (n_faces, size).
    prices = np.linalg.solve(shares[corners], energies[corners][..., None])[..., 0]
    is_face = np.ones(len(corners), dtype=bool)
    for share, energy in zip(shares, energies, strict=True):
        is_face &= prices @ share <= energy + _FLAT
    edges = {pair for face in corners[is_face].tolist() for pair in combinations(face, 2)}
    return tuple(sorted(edges))
