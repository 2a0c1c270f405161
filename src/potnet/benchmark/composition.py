"""What a composition alone says: shares of the elements and statistics of their properties."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potnet.crystal import Crystal
from potnet.models.elements import MAX_NUMBER, element_table


def composition_table(crystals: Sequence[Crystal]) -> NDArray[np.float64]:
    """Return one row per crystal that depends on nothing but its reduced composition.

    The row holds the share of each element, then mean, standard deviation, least and largest
    value over the atoms of: atomic number, row and column of the periodic table, and the bins of
    electronegativity, radius, valence, ionisation energy, electron affinity and volume; and how
    many elements there are.

    Args:
        crystals: The crystals.

    Returns:
        Shape (n, n_columns), float64.
    """
    properties = _element_properties()
    rows = []
    for crystal in crystals:
        shares = np.bincount(crystal.numbers, minlength=MAX_NUMBER + 1) / crystal.n_atoms
        present = np.flatnonzero(shares)
        weights, values = shares[present, None], properties[present]
        mean = (weights * values).sum(0)
        spread = np.sqrt((weights * (values - mean) ** 2).sum(0))
        parts = (shares[1:], mean, spread, values.min(0), values.max(0), [len(present)])
        rows.append(np.concatenate(parts))
    return np.array(rows)


# Where the bins of each property begin in the table of zeros and ones: group, period,
# electronegativity, radius, valence electrons, ionisation energy, electron affinity, block, volume.
_STARTS = (0, 19, 26, 36, 46, 58, 68, 78, 82, 92)


def _element_properties() -> NDArray[np.float64]:
    """Return, for each atomic number, itself and the bin of each property, shape (119, 10)."""
    table = element_table().numpy()
    columns = [np.arange(len(table), dtype=np.float64)]
    for start, stop in zip(_STARTS, _STARTS[1:], strict=False):
        bins = table[:, start:stop]
        columns.append(np.where(bins.any(1), bins.argmax(1), -1.0))
    return np.stack(columns, axis=1)
