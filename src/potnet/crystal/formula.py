"""Chemical formulas: text to amounts of elements and back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from potnet.crystal.elements import SYMBOLS, number_of
from potnet.errors import StructureError

_TOKEN = re.compile(r"([A-Z][a-z]?)|([(\[{])|([)\]}])|(\d+\.?\d*|\.\d+)|[\s*]+", re.ASCII)
_CLOSES = {"(": ")", "[": "]", "{": "}"}
_ORDER = """
Og Rn Xe Kr Ar Ne He Fr Cs Rb K Na Li Ra Ba Sr Ca Mg Be Ac La Th Ce Pa Pr U Nd Np Pm Pu Sm Am Eu Cm
Gd Bk Tb Cf Dy Es Ho Fm Er Md Tm No Yb Lr Lu Y Sc Rf Hf Zr Ti Db Ta Nb V Sg W Mo Cr Bh Re Tc Mn Hs
Os Ru Fe Mt Ir Rh Co Ds Pt Pd Ni Rg Au Ag Cu Cn Hg Cd Zn Nh Tl In Ga Al B Fl Pb Sn Ge Si C Mc Bi Sb
As P N H Lv Po Te Se S O Ts At I Br Cl F
"""
_PLACE = {symbol: place for place, symbol in enumerate(_ORDER.split())}
_MAX_LENGTH = 200  # characters; no formula is longer


def parse_formula(text: str, where: str = "formula") -> dict[int, float]:
    """Return the amount of each element in a formula, by atomic number.

    Args:
        text: Symbols with amounts, whole or not, and brackets: "Al2O3", "Ca(OH)2", "Li0.5CoO2".
        where: What has the formula, for messages.

    Raises:
        StructureError: If this is no formula, an element is unknown, or all amounts are zero.

    >>> parse_formula("Ca(OH)2")
    {20: 1.0, 8: 2.0, 1: 2.0}
    """
    if not isinstance(text, str) or not 0 < len(text) <= _MAX_LENGTH:
        raise _no_formula(text, where)
    levels: list[list[dict[int, float]]] = [[]]  # the parts read so far, by depth of brackets
    open_brackets: list[str] = []
    end, is_part = 0, False
    for token in _TOKEN.finditer(text):
        symbol, opening, closing, amount = token.groups()
        if token.start() != end or (amount and not is_part):
            raise _no_formula(text, where)
        end, is_part = token.end(), bool(symbol or closing)
        if symbol:
            levels[-1].append({number_of(symbol, f"{where}: {text}"): 1.0})
        elif opening:
            open_brackets.append(_CLOSES[opening])
            levels.append([])
        elif closing:
            if not open_brackets or open_brackets.pop() != closing:
                raise _no_formula(text, where)
            inner = _total(levels.pop())
            levels[-1].append(inner)
        elif amount:
            part = levels[-1][-1]
            for number in part:
                part[number] *= float(amount)
    counts = {number: n for number, n in _total(levels[0]).items() if n > 0}
    if open_brackets or end != len(text) or not counts:
        raise _no_formula(text, where)
    return counts


def reduced_formula(amounts: Mapping[int, float]) -> str:
    """Return the formula in the order of chemists: the electropositive element first.

    The order is IUPAC's (Red Book 2005, Table VI). Whole numbers lose their common factor; others
    are written as they are.

    >>> reduced_formula({8: 6, 13: 4})
    'Al2O3'
    """
    share = {SYMBOLS[number]: n for number, n in amounts.items()}
    if all(float(n).is_integer() for n in share.values()):
        divisor = math.gcd(*(int(n) for n in share.values()))
        share = {symbol: int(n) // divisor for symbol, n in share.items()}
    order = sorted(share, key=_PLACE.__getitem__)
    return "".join(f"{s}{share[s]:.6g}" if share[s] != 1 else s for s in order)


def _total(parts: list[dict[int, float]]) -> dict[int, float]:
    total: dict[int, float] = {}
    for part in parts:
        for number, n in part.items():
            total[number] = total.get(number, 0.0) + n
    return total


def _no_formula(text: object, where: str) -> StructureError:
    return StructureError(
        f"{where}: `formula` must be symbols with amounts, such as Al2O3 or Ca(OH)2, got "
        f"{str(text)[:60]!r}. Correct it."
    )
