"""Which symmetry a CIF states: by operations, names or numbers, and whether they agree."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import gemmi
import numpy as np

from potnet.crystal import Crystal
from potnet.crystal.claims import say
from potnet.errors import StructureError
from potnet.io.asymmetric import METRIC_TOLERANCE, misfit
from potnet.io.cif_block import UNKNOWN, Block
from potnet.io.operations import Group, closed, group_of, magnetic
from potnet.io.space_groups import (
    MAX_NAME,
    chosen,
    hall_operations,
    kinds_of,
    other_axes,
    settings_of_hall,
    settings_of_name,
    settings_of_number,
    settings_of_schoenflies,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GROUP = "_(?:space_group|symmetry)(?:_space_group)?"
_HERMANN_MAUGUIN = re.compile(
    rf"{_GROUP}(?:_pdbx_full_space_group)?(?:_name|_symbol)?_h[-_]?m"
    "(?:_(?:alt|ref|full|symbol|extended|long))?"
    "|_(?:symmetry_)?space_group_(?:name|symbol)|_symmetry_(?:space_)?group"
)
_HALL = re.compile(rf"{_GROUP}(?:_name|_symbol)?_hall(?:_symbol)?")
_SCHOENFLIES = re.compile(rf"{_GROUP}(?:_name)?_schoenflies")
_NUMBER = re.compile(rf"{_GROUP}(?:_it|_int_tables|_tables)?_(?:number|num|no)")
_SYSTEM = re.compile(rf"(?:{_GROUP})?_(?:crystal_system|cell_setting)")
# What says something of the symmetry in words that are not understood here.
_OTHER = re.compile(
    rf"{_GROUP}(?!.*(?:_id$|_xyz|symop|equiv|magn|cell_setting$|system|details|transform)).+"
)
_MAGNETIC_NAME = re.compile("_space_group_magn_(?:name|number)_(?:bns|og)")
_CODE = "_space_group_it_coordinate_system_code"
_LISTS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_WYCKOFF = ("_atom_site_wyckoff_symbol", "_atom_site_wyckoff_label")
_ORDER = "_atom_site_site_symmetry_order"
_GENERATORS = "_space_group_symop_generator_xyz"
_MAGNETIC = "_space_group_symop_magn_operation_xyz"
_CENTRINGS = "_space_group_symop_magn_centering_xyz"
_IDENTITY = ("x,y,z",)


class Name(NamedTuple):
    """A name or number of the group, and the settings that it may mean."""

    text: str
    settings: tuple[gemmi.SpaceGroup, ...]


class Symmetry(NamedTuple):
    """The readings of what a block states.

    Attributes:
        readings: Operations as triplets: one reading, or one for each choice of origin or axes.
        choices: Names of the readings, where there are several.
        names: What the block calls the group.
        hint: What says that there is more symmetry than none, such as "is cubic"; empty with names.
    """

    readings: tuple[tuple[str, ...], ...]
    choices: tuple[str, ...]
    names: tuple[Name, ...]
    hint: str

    def group(self) -> Group:
        """Return the group of the first reading."""
        return group_of(self.readings[0])

    def choose(self, build: Callable[[Symmetry], Crystal], where: str) -> Crystal:
        """Return the crystal of the one reading that ``build`` can use.

        Raises:
            StructureError: The reason why the only or the first cannot be used, or that several
                can, so that nobody knows which is meant.
        """
        crystals: dict[str, Crystal] = {}
        reasons: list[StructureError] = []
        for index, reading in enumerate(self.readings):
            one = self if len(self.readings) == 1 else self._replace(readings=(reading,))
            try:
                name = self.choices[index] if self.choices else ""
                crystals[name] = build(one)
            except StructureError as error:
                reasons.append(error)
        if len(crystals) > 1:
            raise StructureError(
                f"{where}: the setting of space group {self.names[0].text!r} must be known, got a "
                f"choice of {', '.join(list(crystals)[:6])}. List the symmetry operations."
            )
        if not crystals:
            raise reasons[0]
        ((name, crystal),) = crystals.items()
        if len(self.readings) > 1:
            say(f"{where}: of the settings that the file may mean, only {name} fits its content.")
        return crystal

    def check_complete(self, where: str) -> None:
        """Raise if operations are listed and are not those of the group that the block names.

        A list that was cut, or the group of a file whose atoms were expanded, is not told from the
        other by anything but the number of atoms; where that is not known, neither is believed.
        Axes and origin may differ: only the operations without their shifts are counted.
        """
        n_operations = len(self.readings[0])
        for name in self.names:
            if not name.settings and n_operations > 1:
                continue  # the list says more than an unusual name
            if not _is_whole(self.readings[0], name.settings):
                settings = _alike(self.group(), name.settings)
                count = f"{kinds_of(settings[0].hall)[1]}" if settings else "more"
                raise StructureError(
                    f"{where}: the symmetry operations must be those of the space group "
                    f"{name.text!r}, got {n_operations} where it has {count}. "
                    "Complete the list; or name P 1 if it is all atoms that are listed."
                )
        if n_operations == 1 and self.hint and not self.names:
            raise StructureError(
                f"{where}: the space group must be stated, got none for a structure that "
                f"{self.hint}. List the symmetry operations; or name P 1 if all atoms are listed."
            )
        if n_operations == 1 and not self.names:
            say(f"{where}: no symmetry is stated, the sites are taken for all atoms of the cell.")

    def leaves_free(self, angles: list[int], cell: NDArray[np.float64]) -> bool:
        """Return whether the operations would fit another of the ``angles`` (0 to 2) as well."""
        if len(self.readings[0]) == 1:
            return False  # P 1, written out as a rule
        for angle in angles:
            i, j = [k for k in range(3) if k != angle]
            bent = cell.copy()
            bent[j] += 0.2 * np.linalg.norm(cell[j]) / np.linalg.norm(cell[i]) * cell[i]
            if misfit(self.group(), bent).max() <= METRIC_TOLERANCE:
                return True
        return False


@lru_cache(maxsize=256)
def _is_whole(triplets: tuple[str, ...], settings: tuple[gemmi.SpaceGroup, ...]) -> bool:
    """Return whether the operations are all those of one of the settings, whatever its axes."""
    group = group_of(triplets)
    for kinds, count in (kinds_of(setting.hall) for setting in _alike(group, settings)):
        is_cut = group.kinds == kinds and len(group.rotations) < count  # without centring
        if len(group.kinds) == len(kinds) and not is_cut:
            return True
    return False


def _alike(group: Group, settings: Sequence[gemmi.SpaceGroup]) -> Sequence[gemmi.SpaceGroup]:
    """Return the settings of the very axes of the operations, if there are some, else all.

    A list in hexagonal axes that lacks the centring has as many operations as rhombohedral axes.
    """
    return [s for s in settings if kinds_of(s.hall)[0] == group.kinds] or settings


def symmetry_of(block: Block, cell: NDArray[np.float64], where: str) -> Symmetry:
    """Return the symmetry that ``block`` states.

    Raises:
        StructureError: If operations or names are not valid, contradict each other, or do not fit
            the ``cell``.
    """
    names = _names(block, where)
    hint = "" if names else _hint(block)
    triplets = _listed(block, names, where)
    if triplets:
        _check_fit(triplets, cell, where)
        is_magnetic = bool(block.column(_MAGNETIC)) and not _known(block.column(*_LISTS))
        return Symmetry((triplets,), (), () if is_magnetic else names, hint)
    if not names:
        if magnetic_name := block.matching(_MAGNETIC_NAME):
            names = (Name(magnetic_name[0], ()),)
        return Symmetry((_IDENTITY,), (), names, hint)
    settings = _agreed(names, where)
    if not settings:
        hall = next(iter(block.matching(_HALL)), "")
        if not hall:
            raise StructureError(
                f"{where}: the space group must be one of the International Tables, got "
                f"{names[0].text!r}. Correct it, or list the symmetry operations."
            )
        triplets = hall_operations(hall)
        _check_fit(triplets, cell, where)
        return Symmetry((triplets,), (), names, hint)
    return _named(settings, names, cell, hint, where)


def _hint(block: Block) -> str:
    """Return what says that there is symmetry where none is stated, or an empty string."""
    system = next(iter(block.matching(_SYSTEM)), "").lower()
    if system not in ("", "triclinic", "anorthic"):
        return f"is {system}"
    letters = {letter.lower() for letter in block.column(*_WYCKOFF)} - {*UNKNOWN, "a", "1a", "1"}
    if letters:
        return f"has Wyckoff positions ({', '.join(sorted(letters))[:40]})"
    for text in block.matching(_OTHER):
        if text.lower().replace(" ", "").split(":")[-1] not in ("p1", "1", "c1", "c1^1", "ap", "p"):
            return f"is said to be {text[:40]!r}"
    orders = {order for order in block.column(_ORDER) if order.isdigit()} - {"1"}
    return f"has sites of symmetry of order {min(orders)}" if orders else ""


def _named(
    settings: list[gemmi.SpaceGroup],
    names: tuple[Name, ...],
    cell: NDArray[np.float64],
    hint: str,
    where: str,
) -> Symmetry:
    """Return the readings of a named group: its settings that fit the cell."""
    fits = _fitting(settings, cell)
    if not fits and (fits := _fitting(_by_other_axes(names), cell)):
        say(f"{where}: {names[0].text!r} is taken for {' or '.join(fits.values())}, by the cell.")
    if not fits:
        _check_fit(hall_operations(settings[0].hall), cell, where)
    return Symmetry(tuple(map(hall_operations, fits)), tuple(fits.values()), names, hint)


def _fitting(settings: Sequence[gemmi.SpaceGroup], cell: NDArray[np.float64]) -> dict[str, str]:
    """Return Hall symbols and names of the settings whose operations fit the cell."""
    halls: dict[str, str] = {}
    for setting in settings:
        group = group_of(hall_operations(setting.hall))
        if setting.hall not in halls and misfit(group, cell).max() <= METRIC_TOLERANCE:
            halls[setting.hall] = setting.xhm()
    return halls


def _by_other_axes(names: tuple[Name, ...]) -> list[gemmi.SpaceGroup]:
    """Return the settings that all names allow if any axis may be the unique one."""
    left: dict[str, gemmi.SpaceGroup] | None = None
    for name in names:
        options = {s.hall: s for s in (*name.settings, *other_axes(name.text))}
        left = {h: s for h, s in options.items() if left is None or h in left}
    return list((left or {}).values())


def _check_fit(triplets: tuple[str, ...], cell: NDArray[np.float64], where: str) -> None:
    group = _group_of(triplets, where)
    if len(triplets) == 1:
        return  # the identity, which fits any cell
    change = misfit(group, cell)
    if change.max() > METRIC_TOLERANCE:
        raise StructureError(
            f"{where}: the symmetry operations must fit the cell, got "
            f"'{triplets[int(change.argmax())]}', which distorts it. "
            "Correct the space group or the cell parameters."
        )


def _group_of(triplets: tuple[str, ...], where: str) -> Group:
    try:
        return group_of(triplets)
    except ValueError as error:
        raise StructureError(
            f"{where}: the symmetry operations must be valid and form a group, got {error}. "
            "Correct the list, or list all atoms with 'x, y, z' alone."
        ) from error


def _known(values: list[str]) -> list[str]:
    return [value for value in values if value not in UNKNOWN]


def _listed(block: Block, names: tuple[Name, ...], where: str) -> tuple[str, ...]:
    """Return the operations that the block lists, or generates, or none."""
    lists = [tuple(values) for tag in _LISTS if (values := _known(block.column(tag)))]
    triplets = lists[0] if lists else ()
    if len(lists) > 1 and len(lists[0]) != len(lists[1]):
        raise StructureError(
            f"{where}: the lists of operations must agree, got {len(lists[0])} in `{_LISTS[0]}` "
            f"and {len(lists[1])} in `{_LISTS[1]}`. Remove the wrong one."
        )
    try:
        if triplets and len(triplets) > 1 and names:
            return _completed(triplets, names)
        if triplets:
            return triplets
        if generators := _known(block.column(_GENERATORS)):
            return closed(tuple(generators))
        if operations := _known(block.column(_MAGNETIC)):
            return magnetic(operations, _known(block.column(_CENTRINGS)))
    except ValueError as error:
        raise StructureError(
            f"{where}: the symmetry operations must be valid and form a group, got {error}. "
            "Correct the list, or list all atoms with 'x, y, z' alone."
        ) from error
    return ()


def _completed(triplets: tuple[str, ...], names: tuple[Name, ...]) -> tuple[str, ...]:
    """Return all products of operations that are only generators of the group that is named."""
    try:
        group_of(triplets)
    except ValueError:
        try:
            products = closed(triplets)
            group_of(products)
        except ValueError:
            return triplets  # to be refused as it is
        is_named = all(_is_whole(products, name.settings) for name in names)
        return products if is_named else triplets
    return triplets


def _names(block: Block, where: str) -> tuple[Name, ...]:
    """Return what the block calls its group, Hall symbols first, then names, then numbers."""
    code = block.first(_CODE)
    names = []
    for symbol in block.matching(_HALL):
        try:
            found = settings_of_hall(symbol)
        except (ValueError, RuntimeError) as error:
            if len(_known(block.column(*_LISTS))) > 1:
                say(f"{where}: the Hall symbol {symbol!r} is not valid, the operations are used.")
                continue
            raise StructureError(
                f"{where}: the Hall symbol must be valid, got {symbol!r}. "
                "Correct it, or list the symmetry operations."
            ) from error
        names.append(Name(symbol, tuple(found)))
    for pattern, settings_of in _KINDS:
        for text in dict.fromkeys(block.matching(pattern)):
            named = _named_so if len(text + code) <= MAX_NAME else _named_so.__wrapped__
            names.append(named(settings_of, text, code))
    return tuple(names)


_KINDS = (
    (_HERMANN_MAUGUIN, settings_of_name),
    (_SCHOENFLIES, settings_of_schoenflies),
    (_NUMBER, settings_of_number),
)


@lru_cache(maxsize=1024)
def _named_so(
    settings_of: Callable[[str], Sequence[gemmi.SpaceGroup]], text: str, code: str
) -> Name:
    return Name(text, tuple(chosen(list(settings_of(text)), code)))


def _agreed(names: tuple[Name, ...], where: str) -> list[gemmi.SpaceGroup]:
    """Return the settings that all names allow; names that say nothing are passed over.

    Raises:
        StructureError: If two names are of different groups.
    """
    known = [name for name in names if name.settings]
    if not known:
        return []
    for name in known[1:]:
        if name.settings[0].number != known[0].settings[0].number:
            raise StructureError(
                f"{where}: the names of the space group must agree, got {known[0].text!r} and "
                f"{name.text!r}. Correct one, or list the symmetry operations."
            )
    left = list(known[0].settings)
    for name in known[1:]:
        halls = {setting.hall for setting in name.settings}
        both = [setting for setting in left if setting.hall in halls]
        if not both:
            raise StructureError(
                f"{where}: the settings of the space group must agree, got {known[0].text!r} and "
                f"{name.text!r}. Correct one, or list the symmetry operations."
            )
        left = both
    return left
