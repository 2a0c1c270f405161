"""Which element a site is, by its type symbol, or by its label and the formula."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from potnet.crystal import NUMBERS, SYMBOLS, number_of
from potnet.crystal.claims import say
from potnet.errors import StructureError
from potnet.io.cif_block import UNKNOWN

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEW = 5  # labels that a message lists
# Elements whose symbols are also names of sites: of perovskites, of water, of tourmalines.
_SITES = frozenset(NUMBERS[letter] for letter in "BWY")
_DEUTERIUM = re.compile("D(?![a-z])")
_LABEL = re.compile(r"([A-Za-z]*)(.*)", re.ASCII | re.DOTALL)
# Oxygen with something behind it: a bonded hydrogen (O-H), or water (O_W).
_BONDED = re.compile(r"O[^A-Za-z]*[HhWw]|H2O")


def elements_of(
    symbols: list[str], labels: list[str], stated: set[int], where: str
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the atomic number of each site, and whether it is deuterium; shapes (n_sites,).

    Args:
        symbols: Type symbols; empty if the file has none.
        labels: Labels of the sites.
        stated: Elements of the stated formula, which settles a label such as ``SrA`` or ``FeT``.
        where: Name of the file, for messages.

    Raises:
        StructureError: If a site may be more than one element, or none.
    """
    found: dict[tuple[str, bool], tuple[int, bool]] = {}  # by symbol, or label without one
    names: list[tuple[str, bool]] = []
    for symbol, label in zip(symbols or [""] * len(labels), labels, strict=True):
        is_unknown = symbol in UNKNOWN
        name = label if is_unknown else symbol
        names.append((name, is_unknown))
        if names[-1] in found:
            continue
        if is_unknown:
            number = _of_label(label, stated, f"{where}: site {label}")
        else:
            # HO, in capitals, is holmium where the formula has it, and hydroxyl elsewhere.
            capital = symbol.capitalize()
            known = NUMBERS.get(capital if NUMBERS.get(capital) in stated else symbol)
            number = known or number_of(symbol, f"{where}: site {label}")
        found[names[-1]] = number, _DEUTERIUM.match(name) is not None
    numbers, is_deuterium = zip(*(found[name] for name in names), strict=True)
    return np.array(numbers, dtype=np.int64), np.array(is_deuterium)


def _of_label(label: str, stated: set[int], site: str) -> int:
    letters, rest = _LABEL.fullmatch(label[:40]).groups()  # type: ignore[union-attr]
    number = NUMBERS.get(letters, 0)
    if number and (number in stated or not (stated or _BONDED.match(letters + rest))):
        return number
    if letters == "T":
        number_of(letters, site)  # says why not
    # A letter behind the element (SrA, Cb, Ho1): the formula says which element it is.
    two, one = letters[:2].capitalize(), letters[:1].upper()
    found = [NUMBERS[name] for name in (two, one) if NUMBERS.get(name, 0) in stated]
    if not found and number and stated:
        return number  # to be refused with the formula
    if not found:
        raise StructureError(
            f"{site}: the label must begin with an element, as no `_atom_site_type_symbol` is "
            f"given, got {label[:60]!r}. Add the type symbols."
        )
    return found[0]


def say_labels(labels: list[str], numbers: NDArray[np.int64], where: str) -> None:
    """Say which labels name an element that their site is not, by its type.

    A label in capitals, ``CA`` or ``HO1``, may be one element or another; B, W and Y are names of
    sites where the crystal has no such element.
    """
    found = set(numbers.tolist())
    odd = []
    for label, number in zip(labels, numbers.tolist(), strict=True):
        named = _named_by(label[:40])
        if named and number not in named and not named <= _SITES - found:
            odd.append(f"{label} for {SYMBOLS[number]}")
    if odd:
        more = f" and {len(odd) - _FEW} more" if len(odd) > _FEW else ""
        say(
            f"{where}: labels name other elements than the types of their sites, which are taken: "
            f"{', '.join(odd[:_FEW])}{more}."
        )


@lru_cache(maxsize=2**12)  # labels such as O1 are in most files
def _named_by(label: str) -> frozenset[int]:
    """Return the elements that a label may begin with; none if its letters are no symbol."""
    letters = _LABEL.fullmatch(label).groups()[0]  # type: ignore[union-attr]
    if letters in NUMBERS:
        return frozenset((NUMBERS[letters],))
    if len(letters) == 2 and letters.isupper():
        names = (letters.capitalize(), letters[0])
        return frozenset(NUMBERS[name] for name in names if name in NUMBERS)
    return frozenset()
