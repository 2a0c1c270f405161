"""Names of space groups, in every style that files use, and the settings that they may mean."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Set
from functools import lru_cache

import gemmi

MAX_NAME = 80  # characters; no name of a group is as long

# Schoenflies: the point groups in the order of the International Tables, and how many space
# groups each has; the superscript counts them.
_SCHOENFLIES = re.findall(
    "([A-Z][a-z0-9]*) ([0-9]+)",
    "C1 1 Ci 1 C2 3 Cs 4 C2h 6 D2 9 C2v 22 D2h 28 C4 6 S4 2 C4h 6 D4 10 C4v 12 D2d 12 D4h 20 C3 4 "
    "C3i 2 D3 7 C3v 6 D3d 6 C6 6 C3h 1 C6h 2 D6 6 C6v 4 D3h 4 D6h 4 T 5 Th 7 O 8 Td 6 Oh 10",
)
_POINT_GROUPS = {"s2": "ci", "s1": "cs", "c1h": "cs", "s6": "c3i", "v": "d2", "vh": "d2h"}
_POINT_GROUPS |= {"vd": "d2d", "c1v": "cs"}

_CHOICE = re.compile(
    r"""\s*(?:
    [:(]\s*(?:origin|cell|setting)?\s*(?:choice|at)?\s*(?P<stated>[12]|[hrsz]|rs|hr|hs|-?[abc][1-9]?|[-abc]{3,6})\s*\)?
    |[:({]?\s*(?P<axes>h(?=ex)|r(?=hom))(?:ex|exagonal|homb|hombohedral)(?:\s+(?:axes|cell|setting))?\s*[)}]?
    |[(,]?\s*(?:origin|setting)\s*(?:choice)?\s*:?\s*(?P<origin>[12])\s*\)?
    |(?P<mark>rs|hr|hs|[hrsz]))$""",
    re.VERBOSE,
)
# The number of the group behind its symbol: (No. 14), #14, (14); (2) is a subscript.
_WITH_NUMBER = re.compile(
    r"[,;]?\s*[(\[]?\s*(?:\bno\.?|\bnumber|\bnr\.?|\bsg|#)\s*(\d{1,3})\s*[)\]]?"
    r"|\s*[(\[](\d{2,3})[)\]]",
    re.I | re.ASCII,
)
_ORIGINS = {"s": "1", "z": "2"}  # the marks of ICSD; Z has the inversion centre at the origin


def settings_of_number(number: str) -> list[gemmi.SpaceGroup]:
    """Return the settings (choices of axes and origin) of the group of ``number``, or none."""
    return list(_settings(int(number))) if re.fullmatch("[0-9]{1,3}", number) else []


@lru_cache(maxsize=256)
def _settings(number: int) -> tuple[gemmi.SpaceGroup, ...]:
    return tuple(setting for setting in gemmi.spacegroup_table() if setting.number == number)


def settings_of_schoenflies(symbol: str) -> list[gemmi.SpaceGroup]:
    """Return the settings of the group of a symbol such as ``D4h^17``, or none."""
    match = re.fullmatch(r"([cdsotv][1-6]?[ivhsd]?)[\^.\-]?([0-9]{1,2})\^?", _plain_key(symbol))
    if match is None:
        return []
    name, place = _POINT_GROUPS.get(match[1], match[1]), int(match[2])
    before = 0  # space groups of the point groups before
    for point_group, count in _SCHOENFLIES:
        if point_group.lower() == name and 1 <= place <= int(count):
            return list(_settings(before + place))
        before += int(count)
    return []


def settings_of_hall(symbol: str) -> list[gemmi.SpaceGroup]:
    """Return the settings that have the operations of a Hall symbol; none if it is unusual.

    Raises:
        ValueError or RuntimeError: If the symbol is not valid.
    """
    operations = gemmi.symops_from_hall(symbol)
    found = gemmi.find_spacegroup_by_ops(operations)
    return [found] if found else []


@lru_cache(maxsize=1024)
def settings_of_name(name: str) -> tuple[gemmi.SpaceGroup, ...]:
    """Return the settings that a Hermann-Mauguin symbol may mean, or none.

    Short, full and extended symbols, with or without spaces, subscripts marked or not (``P 2_1/c``,
    ``P2(1)/c``, ``P 2~1~/c``), before and after 1992; a choice behind it (``:2``, ``:H``, ``S``,
    ``Z``, ``RS``, ``(origin choice 1)``). Without a choice, all settings that have the name.
    """
    if not 0 < len(name) <= MAX_NAME:
        return ()
    number = _WITH_NUMBER.search(name)
    text = unicodedata.normalize("NFKC", _WITH_NUMBER.sub("", name).lower()).strip(" *'\"")
    found = _index().get(_plain_key(text), [])
    if not found and (match := _CHOICE.search(text)):
        choice = match["stated"] or match["origin"] or match["axes"] or match["mark"]
        found = chosen(_named(text[: match.start()]), choice)
    found = found or _named(text)
    stated = int(number[1] or number[2]) if number else 0
    return tuple(found) if not stated or {s.number for s in found} == {stated} else ()


def chosen(settings: list[gemmi.SpaceGroup], choice: str) -> list[gemmi.SpaceGroup]:
    """Return those of ``settings`` that a choice of origin, axes or cell leaves.

    Args:
        settings: Of one group.
        choice: ``1``, ``2``, ``h``, ``r``, ``b1``, ``cab``, ``1cab``, a mark of ICSD or COD; one
            that says nothing here leaves all, as the cell decides between the axes of R groups.
    """
    choice = _ORIGINS.get(choice.lower(), choice.lower())
    match = re.fullmatch(r"([12hr]?)(-?[abc][1-9]?|[-abc]{3,6})?", choice)
    if not choice or match is None:
        return settings
    origin, axes = match[1].upper(), "" if match[2] in (None, "abc") else match[2]
    by_origin = [s for s in settings if s.ext == origin] if origin else settings
    left = by_origin or [s for s in settings if s.ext not in ("1", "2", "H", "R")]
    if match[2] is None:
        return [s for s in left if s.ext in ("1", "2") and not s.qualifier] or left
    # Of the groups with one axis, b stands for b1.
    exact = [s for s in left if s.qualifier == axes]
    return exact or [s for s in left if s.qualifier == f"{axes}1"]


def _named(text: str) -> list[gemmi.SpaceGroup]:
    key = _plain_key(text)
    is_hexagonal = key.startswith("h")  # H 3 2: an R group in its hexagonal cell, as in the PDB
    key = f"r{key[1:]}" if is_hexagonal else key
    short = _shortened(key)
    found = _index().get(key) or _index().get(short) or _of_gemmi(text) or _of_gemmi(short)
    found = found or other_axes(text)
    return [s for s in found if s.ext == "H"] if is_hexagonal else list(found)


def _plain_key(text: str) -> str:
    """Return a symbol without what only marks its subscripts and bars."""
    text = text.lower()
    text = re.sub(r"\\(?:bar|overline)\s*\{?\s*([1346])", r"-\1", text.translate(_DASHES))
    text = re.sub(r"<[^<>]{1,5}>|[~_{}$\\]|\s+", "", text)
    text = re.sub(r"([2346])[\u0304\u0305]|([1346])bar", r"-\1\2", text)
    return re.sub(r"\(([1-6])\)", r"\1", text)


_DASHES = {ord(dash): "-" for dash in "\u2010\u2011\u2012\u2013\u2014\u2212\u00af"}


@lru_cache(maxsize=1)
def _index() -> dict[str, list[gemmi.SpaceGroup]]:
    """Return the settings by their symbols, long (``p121/c1``) and short (``p21/c``)."""
    index: dict[str, list[gemmi.SpaceGroup]] = {}
    for setting in gemmi.spacegroup_table():
        # The short name of R groups begins with H, which is no symbol of the Tables.
        names = (setting.hm, setting.short_name())
        for key in dict.fromkeys(name.lower().replace(" ", "") for name in names):
            if not key.startswith("h"):
                index.setdefault(key, []).append(setting)
    return index


def other_axes(name: str) -> list[gemmi.SpaceGroup]:
    """Return the monoclinic settings whose symbol is ``name`` if the 1 of two axes are left out.

    ``P 21/b`` for ``P 1 1 21/b``, as before the International Tables of 1983.
    """
    return _monoclinic().get(_plain_key(name), [])


@lru_cache(maxsize=1)
def _monoclinic() -> dict[str, list[gemmi.SpaceGroup]]:
    index: dict[str, list[gemmi.SpaceGroup]] = {}
    for setting in gemmi.spacegroup_table():
        if setting.crystal_system() == gemmi.CrystalSystem.Monoclinic:
            words = [word for word in setting.hm.lower().split() if word != "1"]
            index.setdefault("".join(words), []).append(setting)
    return index


def _of_gemmi(text: str) -> list[gemmi.SpaceGroup]:
    """Return the settings of a symbol that gemmi knows besides (``C m c e``, ``F m 3 m``)."""
    found = gemmi.find_spacegroup_by_name(text)
    if found is None:
        return []
    return [s for s in _settings(found.number) if s.hm == found.hm]


def _shortened(key: str) -> str:
    """Return the short symbol of a full one: ``f4/m-32/m`` to ``fm-3m``, ``p21/n21/m21/a``."""
    if key.count("/") < 2 and "-3" not in key:
        return key  # p 1 2/m 1 is the only full symbol of its group
    key = re.sub(r"(?<![\d])21?/([abcdemn])|(?<=-3|31)21?/([abcdemn])", r"\1\2", key)
    return re.sub(r"^([pfi])4[1-3]?/([abcdemn])(?=-3)", r"\1\2", key)


@lru_cache(maxsize=256)
def hall_operations(hall: str) -> tuple[str, ...]:
    """Return the operations of a Hall symbol as triplets."""
    return tuple(op.triplet() for op in gemmi.symops_from_hall(hall))


@lru_cache(maxsize=1024)
def kinds_of(hall: str) -> tuple[Set[tuple[int, ...]], int]:
    """Return the different rotations of a group, row by row, and the number of its operations."""
    operations = gemmi.symops_from_hall(hall)
    kinds = {tuple(x // op.DEN for row in op.rot for x in row) for op in operations.sym_ops}
    return kinds, len(kinds) * len(operations.cen_ops)
