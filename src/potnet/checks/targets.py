"""One column of targets: what is there, what is missing, what stands out, what cannot be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

# A value is an outlier beyond so many robust standard deviations from the median.
OUTLIER = 12.0
_ROBUST = 1.4826  # standard deviation of a normal distribution in median absolute deviations

# Pattern of the name, unit, least and largest value that is believed, and why.
_MODULUS = r"modul|bulk|shear|young"
_LIMITS = (
    (r"gap", "eV", -1e-6, 20.0, "band gaps lie between 0 and 14 eV (LiF)"),
    (r"hull", "eV/atom", -1e-4, 15.0, "energies above the hull are not negative"),
    (r"form", "eV/atom", -8.0, 15.0, "formation energies lie above -5 eV/atom"),
    (_MODULUS, "GPa", 0.0, 1300.0, "moduli of stable crystals lie between 0 and 1,200 GPa"),
    (_MODULUS + "|log", "log10 GPa", -2.0, 3.2, "moduli of crystals lie below 1,200 GPa"),
    (r"phonon|phdos|freq", "1/cm", 0.0, 5000.0, "phonons lie between 0 and 4,500 1/cm (H2)"),
)


@dataclass(frozen=True)
class TargetSummary:
    """What can be said of one target.

    Attributes:
        name: The target.
        unit: Its unit, "" where unknown.
        values: All values, nan where missing, float64, shape (n,).
        outliers: Rows far from the median, the farthest first.
        impossible: Rows with values that the kind of property does not have.
        impossible_because: The rule that they break, "" if there are none.
        grows_with_cell: Whether a value per atom is in truth proportional to the number of atoms.
    """

    name: str
    unit: str
    values: NDArray[np.float64]
    outliers: tuple[int, ...]
    impossible: tuple[int, ...]
    impossible_because: str
    grows_with_cell: bool

    @staticmethod
    def of(
        name: str, unit: str, values: NDArray[np.float64], n_atoms: NDArray[np.int64]
    ) -> TargetSummary:
        """Return what can be said of ``values`` of crystals with ``n_atoms``, shapes (n,)."""
        impossible, because = _impossible(name, unit, values)
        return TargetSummary(
            name=name,
            unit=unit,
            values=values,
            outliers=_outliers(values),
            impossible=impossible,
            impossible_because=because,
            grows_with_cell="/atom" in unit and _proportional(values, n_atoms),
        )

    @property
    def known(self) -> NDArray[np.float64]:
        """The values that are there."""
        return self.values[np.isfinite(self.values)]

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        return np.unique(self.known, return_counts=True)[1]

    @property
    def n_kinds(self) -> int:
        """How many different values there are."""
        return len(self._counts)

    @property
    def n_rarest(self) -> int:
        """How many crystals have the value that is rarest."""
        return int(self._counts.min())

    @property
    def n_missing(self) -> int:
        return len(self.values) - len(self.known)


def _outliers(values: NDArray[np.float64]) -> tuple[int, ...]:
    known = values[np.isfinite(values)]
    if len(known) < 20:
        return ()
    middle = np.median(known)
    # Half of the values may be equal (gaps of metals): the rest then sets the scale.
    deviation = np.abs(known - middle)
    spread = _ROBUST * np.median(deviation[deviation > 0]) if (deviation > 0).any() else np.inf
    distance = np.where(np.isfinite(values), np.abs(values - middle) / spread, 0)
    far = np.flatnonzero(distance > OUTLIER)
    return tuple(far[np.argsort(-distance[far], kind="stable")].tolist())


def _impossible(name: str, unit: str, values: NDArray[np.float64]) -> tuple[tuple[int, ...], str]:
    for pattern, of_unit, low, high, because in _LIMITS:
        if unit == of_unit and re.search(pattern, name, re.I):
            bad = np.flatnonzero((values < low) | (values > high))  # nan is neither
            return tuple(bad.tolist()), because if len(bad) else ""
    return (), ""


def _proportional(values: NDArray[np.float64], n_atoms: NDArray[np.int64]) -> bool:
    known = np.isfinite(values)
    sizes, values = n_atoms[known].astype(float), values[known]
    if len(values) < 50 or np.ptp(sizes) == 0 or np.ptp(values) == 0:
        return False
    return bool(abs(np.corrcoef(values, sizes)[0, 1]) > 0.9)
