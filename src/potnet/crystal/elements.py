"""Chemical symbols and atomic numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from potnet.errors import StructureError

_TABLE = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb
Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf
Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
SYMBOLS = ("X", *_TABLE.split())  # by atomic number; X stands for none
NUMBERS: Mapping[str, int] = MappingProxyType(
    # Isotopes of hydrogen have its electrons, hence its potentials and properties.
    {symbol: number for number, symbol in enumerate(SYMBOLS) if number} | {"D": 1, "T": 1}
)


def number_of(symbol: str, where: str) -> int:
    """Return the atomic number of ``symbol``; D and T count as H.

    A charge ("Na+", "O2-", "Fe3+") after the symbol is ignored.

    Raises:
        StructureError: If there is no such element; ``where`` says what has it.
    """
    match = re.fullmatch(r"([A-Za-z]{1,2})(\d*\.?\d*[+-]|[+-]\d*\.?\d*|0\+?)?", str(symbol))
    number = NUMBERS.get(match.group(1).capitalize()) if match else None
    if number is None:
        raise StructureError(
            f"{where}: `element` must be a symbol from H to Og, got {str(symbol)!r}. "
            "Correct the symbol, or remove the site."
        )
    return number
