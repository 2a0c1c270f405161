"""How values of known crystals are distributed: what a predicted one is seen beside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from potnet.known.index import KnownCrystals

BINS = 60
_TAIL = 0.002  # of the crystals at each end lie outside of the picture

UNITS = {
    "formation_energy": "eV/atom",
    "band_gap": "eV",
    "bulk_modulus": "GPa",
    "shear_modulus": "GPa",
    "young_modulus": "GPa",
    "poisson_ratio": "",
    "pugh_ratio": "",
}


@dataclass(frozen=True)
class Distribution:
    """Values of one property of the crystals of an index.

    Attributes:
        unit: Of the values.
        n: How many crystals have one.
        edges: Of the bins, ascending, shape (k + 1,).
        counts: Crystals in each bin, shape (k,); what lies beyond is in the first or last one.
        zeros: Crystals whose value is exactly 0, which are in no bin: metals among gaps.
    """

    unit: str
    n: int
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    zeros: int


def distributions(known: KnownCrystals) -> dict[str, Distribution]:
    """Return the distribution of each property that the index has, by its name in the sheet."""
    gap, energy = known.column("gap"), known.column("formation_energy")
    k, g = known.column("bulk_modulus"), known.column("shear_modulus")
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {
            "formation_energy": energy,
            "band_gap": gap,
            "bulk_modulus": k,
            "shear_modulus": g,
            "young_modulus": 9 * k * g / (3 * k + g),
            "poisson_ratio": (3 * k - 2 * g) / (6 * k + 2 * g),
            "pugh_ratio": k / g,
        }
    return {name: _distribution(found, UNITS[name]) for name, found in values.items()}


def _distribution(values: NDArray[np.float64], unit: str) -> Distribution:
    values = values[np.isfinite(values)]
    others = values[values != 0]
    low, high = np.quantile(others, [_TAIL, 1 - _TAIL])
    counts, edges = np.histogram(others.clip(low, high), bins=BINS, range=(low, high))
    return Distribution(unit, len(values), edges, counts, len(values) - len(others))
