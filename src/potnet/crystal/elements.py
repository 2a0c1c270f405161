"""Chemical symbols, atomic numbers and covalent radii."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from potnet.errors import StructureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TABLE = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb
Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf
Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
SYMBOLS = ("X", *_TABLE.split())  # by atomic number; X stands for none
LAST_NATURAL = 94  # plutonium
MAX_SYMBOL = 20  # characters of a symbol with its charge
NUMBERS: Mapping[str, int] = MappingProxyType(
    # Deuterium has the electrons of hydrogen, hence its potentials and properties.
    {symbol: number for number, symbol in enumerate(SYMBOLS) if number} | {"D": 1}
)
# Å, from H to Cm (Cordero et al., Dalton Trans. 2832 (2008)); what comes after has no measured one
# and is taken as the last.
_RADII_TABLE = """
0.31 0.28 1.28 0.96 0.84 0.76 0.71 0.66 0.57 0.58 1.66 1.41 1.21 1.11 1.07 1.05 1.02 1.06 2.03 1.76
1.70 1.60 1.53 1.39 1.39 1.32 1.26 1.24 1.32 1.22 1.22 1.20 1.19 1.20 1.20 1.16 2.20 1.95 1.90 1.75
1.64 1.54 1.47 1.46 1.42 1.39 1.45 1.44 1.42 1.39 1.39 1.38 1.39 1.40 2.44 2.15 2.07 2.04 2.03 2.01
1.99 1.98 1.98 1.96 1.94 1.92 1.92 1.89 1.90 1.87 1.87 1.75 1.70 1.62 1.51 1.44 1.41 1.36 1.36 1.32
1.45 1.46 1.48 1.40 1.50 1.50 2.60 2.21 2.15 2.06 2.00 1.96 1.90 1.87 1.80 1.69
"""
_RADII = np.array([float(radius) for radius in _RADII_TABLE.split()])


def number_of(symbol: str, where: str) -> int:
    """Return the atomic number of ``symbol``; D counts as H.

    A charge ("Na+", "O2-", "Fe3+") after the symbol is ignored.

    Raises:
        StructureError: If there is no such element; ``where`` says what has it.
    """
    number = _number_of(symbol) if isinstance(symbol, str) else None
    if isinstance(symbol, str) and symbol[:1] == "T" and not symbol[1:2].isalpha():
        raise StructureError(
            f"{where}: `element` must be a symbol from H to Og, got {symbol[:60]!r}, which may be "
            "tritium or the tetrahedral site of a zeolite. Write H, Si or Al."
        )
    if number is None:
        raise StructureError(
            f"{where}: `element` must be a symbol from H to Og, got {str(symbol)[:60]!r}. "
            "Correct the symbol, or remove the site."
        )
    return number


@lru_cache(maxsize=1024)
def _number_of(symbol: str) -> int | None:
    if len(symbol) > MAX_SYMBOL:  # the pattern takes quadratic time
        return None
    match = re.fullmatch(r"([A-Za-z]{1,2})(\d*\.?\d*[+-]|[+-]\d*\.?\d*|0\+?)?", symbol, re.ASCII)
    if match is None:
        return None
    number = NUMBERS.get(match[1].capitalize(), 0)
    # NO and CN are groups, and neither nobelium nor copernicium; HO is rather hydroxyl.
    is_group = (number > LAST_NATURAL or match[1] == "HO") and match[1] != SYMBOLS[number]
    return number if number and not is_group else None


def covalent_radii(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the covalent radii of elements in Å."""
    return _RADII[np.minimum(numbers, len(_RADII)) - 1]
