"""CIF: what a file says, expanded by its symmetry, or one sentence on why it cannot be used."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import gemmi
import numpy as np
from gemmi import cif

from potnet.crystal import MAX_ATOMS, NUMBERS, SYMBOLS, Crystal, number_of
from potnet.errors import StructureError
from potnet.io.groups import Group, group_of, hall_operations, named_kinds, settings, settings_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

SITE_TOLERANCE = 0.05  # Å; images of a site closer than this are one atom on a special position
METRIC_TOLERANCE = 0.02  # relative; of squared lengths, which a symmetry operation must keep
OCCUPANCY_TOLERANCE = 1e-3
MAX_SCALED = 100  # beyond it a fractional coordinate is a misprint, or Cartesian
FORMULA_TOLERANCE = 0.01
VOLUME_TOLERANCE = 0.01  # relative

_CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
_MAGNETIC = (
    "_atom_site_moment",
    "_atom_site_rotation",
    "_space_group_magn",
    "_space_group_symop_magn",
    "_parent_space_group",
)
_MODULATED = ("_atom_site_fourier", "_cell_modulation", "_cell_subsystem", "_space_group_ssg")
_HERMANN_MAUGUIN = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m_full",
)
_GROUP_NUMBER = ("_space_group_it_number", "_symmetry_int_tables_number")
_SITE = ("fract_x", "fract_y", "fract_z", "label", "type_symbol")
_ORDER = ("occupancy", "disorder_group", "calc_flag")
_FORMULA_PART = re.compile(r"([A-Z][a-z]?)(\d{1,6}(?:\.\d*)?|\.\d+|)", re.ASCII)
_UNKNOWN = ("", ".", "?")


class NoStructure(StructureError):
    """A data block that holds text only, such as the publication block of a paper."""


def parse_cif(text: str, source: str, id: str) -> Iterator[tuple[str, Crystal | StructureError]]:
    """Yield id and crystal, or the reason why there is none, of each data block of ``text``.

    Args:
        text: Content of the file.
        source: Name of the file, for messages.
        id: Name of the crystal if the file holds one; ``id#block`` if it holds several.
    """
    try:
        blocks = cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        yield id, StructureError(f"{source}: the file must be valid CIF, got '{error}'. Mend it.")
        return
    if not len(blocks):
        yield id, StructureError(f"{source}: the file must hold a data block, got none. Check it.")
    for block in blocks:
        one = len(blocks) == 1
        name = id if one else f"{id}#{block.name}"
        where = source if one else f"{source}, block {block.name!r}"
        try:
            yield name, _read_block(_Block(block), where).replace(id=name)
        except StructureError as error:
            yield name, error


def format_cif(crystals: Iterable[Crystal]) -> str:
    """Return ``crystals`` as CIF, one data block each, every atom listed (space group P 1)."""
    names: set[str] = set()
    blocks = []
    for index, crystal in enumerate(crystals):
        name = re.sub(r"[^!-~]", "_", crystal.id) or f"crystal_{index}"
        name = name if name.lower() not in names else f"{name}_{index}"
        names.add(name.lower())
        blocks.append(_format_block(crystal, name))
    return "\n".join(blocks)


def _format_block(crystal: Crystal, name: str) -> str:
    crystal.require_periodic()
    cell = crystal.cell
    lengths = np.linalg.norm(cell, axis=1)
    cosines = [cell[i] @ cell[j] / (lengths[i] * lengths[j]) for i, j in ((1, 2), (0, 2), (0, 1))]
    values = [*lengths, *np.degrees(np.arccos(cosines))]
    counts = Counter(crystal.symbols)
    lines = [
        f"data_{name}",
        *(f"_cell_{tag} {value:.15g}" for tag, value in zip(_CELL, values, strict=True)),
        f"_chemical_formula_sum '{' '.join(f'{s}{n}' for s, n in sorted(counts.items()))}'",
        "_space_group_name_H-M_alt 'P 1'",
        "_space_group_IT_number 1",
        "loop_\n_space_group_symop_operation_xyz\n'x, y, z'",
        "loop_\n_atom_site_label\n_atom_site_type_symbol",
        "_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n_atom_site_occupancy",
    ]
    for index, (symbol, xyz) in enumerate(
        zip(crystal.symbols, crystal.scaled_positions.tolist(), strict=True), start=1
    ):
        lines.append(f"{symbol}{index} {symbol} {' '.join(f'{x:.15f}' for x in xyz)} 1")
    return "\n".join(lines) + "\n"


def _read_block(block: _Block, where: str) -> Crystal:
    if not block.has(("_cell_length", "_atom_site")):
        raise NoStructure(
            f"{where}: the data block must list a cell and atoms, got neither. "
            "Leave it out if it is only text."
        )
    if tag := block.has(_MAGNETIC + _MODULATED):
        kind = "magnetic" if tag.startswith(_MAGNETIC) else "modulated"
        raise StructureError(
            f"{where}: the structure must be an ordinary three-dimensional one, got a {kind} one "
            f"(`{tag}`). Give the nuclear or average structure without these tags."
        )
    cell = _read_cell(block, where)
    _check_volume(block, cell, where)
    sites = _read_sites(block, where)
    group = _read_group(block, cell, where)
    site, scaled = _expand(sites, group, cell, where)
    numbers = sites.numbers[site]
    is_counted = _check_formula(block, numbers, where)
    if not is_counted:
        _check_named_group(block, group, where)
    # Into the cell; the last digits of -1e-17 must not become 1.
    scaled -= np.floor(scaled + 1e-12)
    return Crystal(numbers, scaled @ cell, cell, id=where)


class _Block:
    """The values of a data block by tag, in lower case and with ``_`` for the newer ``.``."""

    def __init__(self, block: cif.Block) -> None:
        self._columns: dict[str, list[str]] = {}  # as written, with their quotes
        for item in block:
            pair: Any = item.pair
            if pair is not None:
                self._columns[_plain(pair[0])] = [pair[1]]
            elif (loop := item.loop) is not None:
                tags, values = loop.tags, loop.values
                for k, tag in enumerate(tags):
                    self._columns[_plain(tag)] = values[k :: len(tags)]

    def has(self, prefixes: tuple[str, ...]) -> str:
        """Return the first tag that starts with one of ``prefixes``, or an empty string."""
        return next((tag for tag in self._columns if tag.startswith(prefixes)), "")

    def column(self, *tags: str) -> list[str]:
        """Return the values of the first of ``tags`` that the block has, in loop or pair."""
        for tag in tags:
            if tag in self._columns:
                return [cif.as_string(value).strip() for value in self._columns[tag]]
        return []

    def first(self, *tags: str) -> str:
        """Return the first known value among ``tags``, or an empty string."""
        values = (cif.as_string(v).strip() for tag in tags for v in self._columns.get(tag, [])[:1])
        return next((value for value in values if value not in _UNKNOWN), "")


def _plain(tag: str) -> str:
    return tag.lower().replace(".", "_")


def _number(text: str) -> float:
    """Return the number, without the uncertainty in brackets; nan if there is none."""
    return cif.as_number(text)


def _read_cell(block: _Block, where: str) -> NDArray[np.float64]:
    parameters = []
    for item in _CELL:
        values = block.column(f"_cell_{item}")
        value = _number(values[0]) if values else math.nan
        highest = math.inf if item.startswith("length") else 180.0
        if not 0 < value < highest:
            rule = "be positive" if highest == math.inf else "lie between 0 and 180 degrees"
            raise StructureError(
                f"{where}: `_cell_{item}` must {rule}, got {values[0] if values else 'nothing'}. "
                "Give all six cell parameters."
            )
        parameters.append(value)
    a, b, c, alpha, beta, gamma = parameters
    cos_a, cos_b, cos_g = (0.0 if x == 90 else math.cos(math.radians(x)) for x in parameters[3:])
    square = 1 - cos_a**2 - cos_b**2 - cos_g**2 + 2 * cos_a * cos_b * cos_g
    if square < 1e-12:
        raise StructureError(
            f"{where}: the cell angles must span a volume, got {alpha:g}, {beta:g}, {gamma:g}. "
            "Correct the angles."
        )
    sin_g = math.sqrt(1 - cos_g**2)
    return np.array(
        [
            [a, 0, 0],
            [b * cos_g, b * sin_g, 0],
            [c * cos_b, c * (cos_a - cos_b * cos_g) / sin_g, c * math.sqrt(square) / sin_g],
        ]
    )


def _check_volume(block: _Block, cell: NDArray[np.float64], where: str) -> None:
    """Raise if the block states another volume than that of its cell parameters."""
    stated = _number(block.first("_cell_volume"))
    volume = math.prod(cell.diagonal().tolist())  # the cell is lower triangular
    if math.isfinite(stated) and abs(stated - volume) > VOLUME_TOLERANCE * volume:
        raise StructureError(
            f"{where}: `_cell_volume` must be that of the cell parameters, got {stated:g} for "
            f"{volume:.6g} Å^3. Correct the one or the other."
        )


class _Sites(NamedTuple):
    """The listed sites: labels, atomic numbers (n_sites,), scaled positions (n_sites, 3)."""

    labels: list[str]
    numbers: NDArray[np.int64]
    scaled: NDArray[np.float64]
    multiplicities: list[str]


def _read_sites(block: _Block, where: str) -> _Sites:
    columns = {name: block.column(f"_atom_site_{name}") for name in _SITE + _ORDER}
    *xyz, labels, symbols = (columns[name] for name in _SITE)
    n_sites = len(xyz[0])
    if not all(xyz):
        cartesian = block.column("_atom_site_cartn_x")
        raise StructureError(
            f"{where}: `_atom_site_fract_x`, `_y`, `_z` must list the atoms, got "
            f"{'only Cartesian coordinates' if cartesian else 'none'}. "
            "Give fractional coordinates of every site."
        )
    labels = labels or symbols
    if not labels or n_sites > MAX_ATOMS:
        raise StructureError(
            f"{where}: `_atom_site` must name at most {MAX_ATOMS} sites, got {n_sites} "
            f"{'sites' if labels else 'without label'}. Add labels, or use a smaller cell."
        )
    for name, column in columns.items():
        if len(column) not in (0, n_sites):
            raise StructureError(
                f"{where}: `_atom_site_{name}` must have a value for each of {n_sites} sites, got "
                f"{len(column)}. Put all columns of the sites into one loop."
            )
    _check_order(columns, labels, where)
    numbers = [
        _element(symbol, label, where)
        for symbol, label in zip(symbols or [""] * n_sites, labels, strict=True)
    ]
    scaled = np.array([[_number(value) for value in column] for column in xyz]).T
    if not abs(scaled).max() <= MAX_SCALED:
        _refuse_coordinates(scaled, xyz, labels, where)
    tags = ("_atom_site_site_symmetry_multiplicity", "_atom_site_symmetry_multiplicity")
    return _Sites(labels, np.array(numbers), scaled, block.column(*tags))


def _refuse_coordinates(
    scaled: NDArray[np.float64], xyz: list[list[str]], labels: list[str], where: str
) -> None:
    """Raise for the first coordinate that is not finite, or else the first that is too far."""
    for site, axis in np.argwhere(~np.isfinite(scaled)):
        raise StructureError(
            f"{where}: `_atom_site_fract_{'xyz'[axis]}` of site {labels[site]} must be a finite "
            f"number, got {xyz[axis][site]}. Give the coordinate, or remove the site."
        )
    for site, axis in np.argwhere(abs(scaled) > MAX_SCALED):
        raise StructureError(
            f"{where}: `_atom_site_fract_{'xyz'[axis]}` of site {labels[site]} must lie within "
            f"{MAX_SCALED} cells of the origin, got {xyz[axis][site]}. Correct the coordinate."
        )


def _element(symbol: str, label: str, where: str) -> int:
    """Return the atomic number of a site, from its type symbol or else from its label."""
    if symbol in NUMBERS:
        return NUMBERS[symbol]
    site = f"{where}: site {label}"
    if symbol not in _UNKNOWN:
        return number_of(symbol, site)
    match = re.fullmatch(r"([A-Z][a-z]?)(?:[^A-Za-z].*)?", label)
    if match is None or match.group(1) not in NUMBERS:
        raise StructureError(
            f"{site}: the label must begin with an element, as no `_atom_site_type_symbol` is "
            f"given, got {label!r}. Add the type symbols."
        )
    return NUMBERS[match.group(1)]


def _check_order(columns: dict[str, list[str]], labels: list[str], where: str) -> None:
    """Raise if a site is partly occupied, one of several alternatives, or a dummy."""
    for label, text in zip(labels, columns["occupancy"], strict=False):
        occupancy = 1.0 if text in _UNKNOWN else _number(text)
        if not abs(occupancy - 1) <= OCCUPANCY_TOLERANCE:
            raise StructureError(
                f"{where}: `_atom_site_occupancy` of site {label} must be 1, got {text}. "
                "Replace the disordered sites by an ordered model."
            )
    groups = [g for g in columns["disorder_group"] if g not in _UNKNOWN]
    if len(set(groups)) > 1 or any(group.startswith("-") for group in groups):
        raise StructureError(
            f"{where}: `_atom_site_disorder_group` must not offer alternatives, got groups "
            f"{', '.join(sorted(set(groups)))}. Keep the sites of one alternative."
        )
    for label, flag in zip(labels, columns["calc_flag"], strict=False):
        if flag.lower() == "dum":
            raise StructureError(
                f"{where}: site {label} must be an atom, got a dummy site "
                "(`_atom_site_calc_flag` dum). Remove the site."
            )


def _read_group(block: _Block, cell: NDArray[np.float64], where: str) -> Group:
    """Return the operations: as listed, or else of the named group, or else the identity."""
    listed = block.column("_space_group_symop_operation_xyz")
    listed = listed or block.column("_symmetry_equiv_pos_as_xyz")
    listed = [triplet for triplet in listed if triplet not in _UNKNOWN]
    triplets = tuple(listed) or _named_operations(block, cell, where)
    try:
        group = group_of(triplets)
    except ValueError as error:
        raise StructureError(
            f"{where}: the symmetry operations must be valid and form a group, got {error}. "
            "Correct the list, or list all atoms with 'x, y, z' alone."
        ) from error
    if len(triplets) == 1:
        return group  # the identity, which fits any cell
    # In Cartesian coordinates an operation must be orthogonal.
    motions = cell.T @ group.rotations @ np.linalg.inv(cell.T)
    misfit = abs(motions.transpose(0, 2, 1) @ motions - np.eye(3)).max((1, 2))
    if misfit.max() > METRIC_TOLERANCE:
        raise StructureError(
            f"{where}: the symmetry operations must fit the cell, got "
            f"'{triplets[int(misfit.argmax())]}', which distorts it. "
            "Correct the space group or the cell parameters."
        )
    return group


def _check_named_group(block: _Block, group: Group, where: str) -> None:
    """Raise if operations are listed and are not those of the group that the block names.

    A list that was cut, or the group of a file whose atoms were expanded, is not told from the
    other by anything but the number of atoms; where that is not known, neither is believed. Axes
    and origin may differ: only the operations without their shifts are counted.
    """
    name, number = block.first(*_HERMANN_MAUGUIN), block.first(*_GROUP_NUMBER)
    for expected, n_expected in named_kinds(name, number):
        is_cut = group.kinds == expected and len(group.rotations) < n_expected  # without centring
        if len(group.kinds) != len(expected) or is_cut:
            raise StructureError(
                f"{where}: the symmetry operations must be those of the space group "
                f"{name or number!r}, got {len(group.rotations)} where it has {n_expected}. "
                "Complete the list; or name P 1 if it is all atoms that are listed."
            )


def _named_operations(block: _Block, cell: NDArray[np.float64], where: str) -> tuple[str, ...]:
    """Return the triplets of the group that the block names by Hall or H-M symbol or number."""
    hall = block.first("_space_group_name_hall", "_symmetry_space_group_name_hall")
    if hall:
        try:
            return hall_operations(hall)
        except (ValueError, RuntimeError) as error:
            raise StructureError(
                f"{where}: the Hall symbol must be valid, got {hall!r}. "
                "Correct it, or list the symmetry operations."
            ) from error
    name = block.first(*_HERMANN_MAUGUIN)
    number = block.first(*_GROUP_NUMBER)
    if not (name or number):
        return ("x,y,z",)  # the file lists atoms in a cell and no symmetry: that is P 1
    if name:
        angles = np.degrees(np.arccos([_cosine(cell[1], cell[2]), _cosine(cell[0], cell[1])]))
        found = gemmi.find_spacegroup_by_name(name, *angles.tolist())
        others = settings(found.number) if found else ()
        others = [s for s in others if s.hm == found.hm and s.ext in ("1", "2")]
    else:
        others = settings_of(number)
        found = others[0] if others else None
    if found is None:
        raise StructureError(
            f"{where}: the space group must be one of the International Tables, got "
            f"{name or number!r}. Correct it, or list the symmetry operations."
        )
    if len(others) > 1 and ":" not in name:
        raise StructureError(
            f"{where}: the setting of space group {name or number!r} must be known, got a choice "
            f"of {', '.join(s.xhm() for s in others[:6])}. List the symmetry operations."
        )
    return hall_operations(found.hall)


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def _expand(
    sites: _Sites, group: Group, cell: NDArray[np.float64], where: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return of each atom the site, shape (n_atoms,), and the scaled position, (n_atoms, 3)."""
    n_operations = len(group.rotations)
    images = np.einsum("mij,sj->smi", group.rotations, sites.scaled) + group.shifts
    if n_operations == 1:
        site, scaled = np.arange(len(images)), images[:, 0]
    else:
        chosen = _choose(images, sites, group, cell, where)
        site, scaled = np.nonzero(chosen)[0], images[chosen]
    if len(site) > MAX_ATOMS:
        raise StructureError(
            f"{where}: the number of atoms must be at most {MAX_ATOMS}, got {len(site)}. "
            "Use a smaller cell."
        )
    counts = np.bincount(site)
    for label, count, text in zip(sites.labels, counts, sites.multiplicities, strict=False):
        stated = _number(text)
        # Some programs state the order of the site's symmetry instead of its multiplicity.
        if math.isfinite(stated) and stated not in (count, n_operations / count):
            raise StructureError(
                f"{where}: the multiplicity of site {label} must agree with the symmetry, got "
                f"{text} stated and {count} found. Correct the coordinates or the space group."
            )
    return site, scaled


def _choose(
    images: NDArray[np.float64],
    sites: _Sites,
    group: Group,
    cell: NDArray[np.float64],
    where: str,
) -> NDArray[np.bool_]:
    """Return which operation makes a new atom of which site, shape (n_sites, n_operations).

    Operations that leave a site in place form its stabiliser S; operations g and g S make the
    same image, so that one of each coset is kept: as many atoms as the multiplicity says.
    """
    apart = images - sites.scaled[:, None, :]
    apart -= np.round(apart)
    in_place = np.linalg.norm(apart @ cell, axis=2) <= SITE_TOLERANCE
    chosen = np.ones_like(in_place)
    for site in np.flatnonzero(in_place.sum(1) > 1):
        stabiliser = np.flatnonzero(in_place[site])
        if not in_place[site][group.products[np.ix_(stabiliser, stabiliser)]].all():
            raise StructureError(
                f"{where}: site {sites.labels[site]} must lie on a special position or more than "
                f"{SITE_TOLERANCE} Å from it, got something between. Give more digits."
            )
        chosen[site] = False
        chosen[site, group.products[:, stabiliser].min(1)] = True
    return chosen


def _check_formula(block: _Block, numbers: NDArray[np.int64], where: str) -> bool:
    """Raise if the sites do not add up to the formula that the block states.

    Returns:
        Whether the block states the number of formulas in the cell too, and that is right.
    """
    formula = block.first("_chemical_formula_sum")
    parts = _FORMULA_PART.findall(formula)
    if not parts or "".join(map("".join, parts)) != "".join(formula.split()):
        return False  # nothing stated, or not in a form that can be compared
    stated: dict[int, float] = {}
    for symbol, count in parts:
        number = NUMBERS.get(symbol, 0)
        stated[number] = stated.get(number, 0) + float(count or 1)
    found = Counter(numbers.tolist())
    scale = found.total() / (sum(stated.values()) or 1)
    for number in stated | found:
        expected = scale * stated.get(number, 0)
        if abs(expected - found[number]) > FORMULA_TOLERANCE * max(expected, 1):
            raise StructureError(
                f"{where}: the sites must add up to `_chemical_formula_sum` {formula!r}, got "
                f"{found[number]} {SYMBOLS[number]} of {found.total()} atoms where it asks for "
                f"{expected:.4g}. Add the missing sites, or correct the formula."
            )
    units = _number(block.first("_cell_formula_units_z"))
    # Some programs state the formula of the cell, and how often the simplest one is in it.
    simplest = scale * math.gcd(*(round(count) for count in stated.values()))
    is_counted = math.isfinite(units)
    right = min(abs(units / n - 1) for n in (scale, simplest or scale)) <= FORMULA_TOLERANCE
    if scale < 1 - FORMULA_TOLERANCE or (is_counted and not right):
        raise StructureError(
            f"{where}: the cell must hold `_chemical_formula_sum` {formula!r} "
            f"{f'{units:g} times' if is_counted else 'at least once'}, got it {scale:.4g} times. "
            "Complete the symmetry operations and the sites, or correct what is stated."
        )
    return is_counted
