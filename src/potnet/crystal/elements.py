"""Chemical symbols and atomic numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from potnet.errors import StructureError

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
