"""Where a composition stands in the periodic table, as a few numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from potnet.crystal.elements import covalent_radii

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NOBLE = (2, 10, 18, 36, 54, 86, 118)


def chemistry(elements: NDArray, counts: NDArray, starts: NDArray) -> NDArray[np.float64]:
    """Return mean and spread of group, period and covalent radius over the atoms, (n, 6).

    Args:
        elements: Atomic numbers, one composition after the other.
        counts: How many atoms of each.
        starts: Where each composition starts, shape (n,).
    """
    values = _TABLE[elements]
    weights = counts / np.repeat(
        np.add.reduceat(counts, starts), np.diff([*starts.tolist(), len(counts)])
    )
    means = np.add.reduceat(values * weights[:, None], starts)
    squares = np.add.reduceat(values**2 * weights[:, None], starts)
    return np.hstack([means, np.sqrt(np.maximum(squares - means**2, 0))])


def _places() -> NDArray[np.float64]:
    """Return group, period and radius by atomic number, (119, 3); the f block is group 3."""
    rows = [(0.0, 0.0)]
    for z in range(1, 119):
        period = 1 + sum(z > last for last in _NOBLE)
        first = (0, *_NOBLE)[period - 1]
        place, length = z - first, _NOBLE[period - 1] - first
        if place <= 2 and z != 2:
            group = place
        else:  # what is missing of 18 lies before the p block, what is too much is the f block
            group = max(3, 18 - (length - place)) if length != 32 or place > 16 else 3
        rows.append((group, period))
    radii = covalent_radii(np.arange(1, 119))
    return np.column_stack([np.array(rows), np.append(0.0, radii)])


_TABLE = _places()
