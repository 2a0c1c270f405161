"""CIF: what a file says, expanded by its symmetry, or one sentence on why it cannot be used."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from gemmi import cif

from potnet.crystal import Crystal
from potnet.crystal.claims import MAX_SCALED, USUAL, check_scaled, say
from potnet.errors import StructureError
from potnet.io.asymmetric import Sites, cell_of, expand
from potnet.io.cif_block import UNKNOWN, Block
from potnet.io.found import Found, NoStructure, attempt
from potnet.io.site_elements import elements_of, say_labels
from potnet.io.statements import Content, check_statements, stated_elements
from potnet.io.symmetry import Symmetry, symmetry_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

OCCUPANCY_TOLERANCE = 1e-3
VOLUME_TOLERANCE = 0.01  # relative
MAX_CIF = 16 * 1024**2  # characters, without long text fields; the parser needs 20 times as much
LONG_TEXT = 2**16  # characters; of a text field, such as the reflections of SHELXL

_number = cif.as_number  # without the uncertainty in brackets; nan if there is none
_PLACE = re.compile(r"string:(\d+):(\d+)\(\d+\): ")  # in messages of the parser
_CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
_CELL_TAGS = [f"_cell_{item}" for item in _CELL]
_MODULATED = (
    "_atom_site_fourier",
    "_cell_modulation",
    "_cell_subsystem",
    "_space_group_ssg",
    "_space_group_magn_ssg",
    "_space_group_symop_magn_ssg",
    "_cell_wave_vector",
    "_atom_site_occ_special",
    "_atom_site_occ_fourier",
    "_atom_site_displace_special",
    "_atom_site_displace_fourier",
    "_atom_site_u_fourier",
    "_atom_site_rot_fourier",
)
_MASKED = ("_platon_squeeze_void_count", "_smtbx_masks_void_count", "_shelx_fab_file")
_SITE = ("fract_x", "fract_y", "fract_z", "label", "type_symbol")
_OCCUPANCIES = ("_atom_site_occ", "_atom_site_occupation", "_atom_site_occup", "_atom_site_sof")
_ORDER = ("occupancy", "disorder_group", "calc_flag", "label_alt_id", "pdbx_pdb_model_num")
_SITE_TAGS = {name: f"_atom_site_{name}" for name in _SITE + _ORDER}


def parse_cif(text: str, source: str, id: str) -> Iterator[Found]:
    """Yield id and crystal, or the reason why there is none, of each data block of ``text``.

    Blocks of text only, beside one with a crystal, are left out and said.

    Args:
        text: Content of the file.
        source: Name of the file, for messages.
        id: Name of the crystal if the file holds one; ``id#block`` if it holds several.
    """
    try:
        if "\n" not in text:
            text = text.replace("\r", "\n")  # lines of the old Mac
        blocks = cif.read_string(_without_long_texts(text.rstrip("\x1a\0"), source), 0)
    except (ValueError, RuntimeError) as error:
        place = _PLACE.match(str(error))
        where = f"{source}, line {place[1]}" if place else source
        got = f"column {place[2]}: {str(error)[place.end() :]}" if place else error
        yield id, StructureError(f"{where}: the file must be valid CIF, got '{got}'. Mend it.")
        return
    if not len(blocks):
        yield id, StructureError(f"{source}: the file must hold a data block, got none. Check it.")
    one = len(blocks) == 1
    names: Counter[str] = Counter()
    text_only: list[Found] = []
    has_crystals = False
    for block in blocks:
        names[block.name] += 1  # files that were joined may have equal names
        title = block.name if names[block.name] == 1 else f"{block.name}_{names[block.name]}"
        where = source if one else f"{source}, block {title!r}"
        name = id if one else f"{id}#{title}"
        found = attempt(name, where, lambda b=block, w=where: _read_block(b, w).replace(id=""))
        if isinstance(found[1], NoStructure):
            text_only.append(found)
            continue
        has_crystals = True
        yield found
    for name, reason in text_only:
        if has_crystals:
            say(f"{reason}")
        else:
            yield name, reason


def _without_long_texts(text: str, source: str) -> str:
    """Return the text without what need not be parsed; refuse what is too much to parse."""
    if len(text) > MAX_CIF:
        parts = text.split("\n;")  # every second one is a text field
        parts[1::2] = [part if len(part) < LONG_TEXT else "" for part in parts[1::2]]
        text = "\n;".join(parts)
    if len(text) > MAX_CIF:
        raise StructureError(
            f"{source}: a CIF must have at most {MAX_CIF} characters besides its text, got "
            f"{len(text)}. Split it, or leave out what is no structure."
        )
    return text


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
    scaled = crystal.scaled_positions
    if scaled.min() < USUAL[0] or scaled.max() > USUAL[1]:  # valid, but doubtful when it is read
        scaled = scaled - np.floor(scaled)
    for index, (symbol, xyz) in enumerate(
        zip(crystal.symbols, scaled.tolist(), strict=True), start=1
    ):
        lines.append(f"{symbol}{index} {symbol} {' '.join(f'{x:.15f}' for x in xyz)} 1")
    return "\n".join(lines) + "\n"


def _read_block(content: cif.Block, where: str) -> Crystal:
    block = Block(content, where)
    if not block.has(("_atom_site_",)):  # text, or reflections, which repeat the cell
        got = "none" if block.has(("_cell_length",)) else "neither"
        raise NoStructure(
            f"{where}: the data block must list {'the' if got == 'none' else 'a cell and'} atoms, "
            f"got {got}. Leave it out if it holds no structure."
        )
    if tag := block.has(_MODULATED):
        raise StructureError(
            f"{where}: the structure must be an ordinary three-dimensional one, got a modulated "
            f"one (`{tag}`). Give the average structure without these tags."
        )
    if block.has(("_atom_site_moment", "_space_group_symop_magn", "_space_group_magn")):
        say(f"{where}: the magnetic moments are not kept, only the atoms.")
    if tag := block.has(_MASKED):
        say(f"{where}: what was masked (`{tag}`), such as solvent, is not among the atoms.")
    cell, assumed = _read_cell(block, where)
    _check_volume(block, cell, where)
    sites = _read_sites(block, where)
    check_scaled(sites.scaled, cell, where)
    symmetry = symmetry_of(block, cell, where)
    if assumed:
        _check_assumed(block, symmetry, cell, assumed, where)
    return symmetry.choose(lambda one: _crystal(block, sites, one, cell, where), where)


def _crystal(
    block: Block, sites: Sites, symmetry: Symmetry, cell: NDArray[np.float64], where: str
) -> Crystal:
    """Return the crystal that one reading of the symmetry gives."""
    site, scaled = expand(sites, symmetry.group(), cell, where)
    numbers = sites.numbers[site]
    content = Content(numbers, sites.is_deuterium[site], _volume(cell))
    listed = list(dict.fromkeys(site.tolist()))
    labels = [sites.labels[k] for k in listed]
    is_counted = check_statements(block, labels, sites.numbers[listed], content, where)
    if not is_counted:
        symmetry.check_complete(where)
    # Into the cell; the last digits of -1e-17 must not become 1.
    scaled -= np.floor(scaled + 1e-12)
    return Crystal(numbers, scaled @ cell, cell, id=where)


def _volume(cell: NDArray[np.float64]) -> float:
    """Return the volume of a cell as :func:`cell_of` makes it, lower triangular, in Å^3."""
    return math.prod(cell.diagonal().tolist())


def _read_cell(block: Block, where: str) -> tuple[NDArray[np.float64], list[str]]:
    """Return the lattice vectors, and which angles are not stated: 90 by the dictionary."""
    parameters, assumed = [], []
    for item, tag in zip(_CELL, _CELL_TAGS, strict=True):
        values = block.column(tag)
        if item.startswith("angle") and values in ([], ["."]):
            assumed.append(item)
            values = ["90"]
        value = _number(values[0]) if values else math.nan
        highest = math.inf if item.startswith("length") else 180.0
        if not 0 < value < highest:
            rule = "be positive" if highest == math.inf else "lie between 0 and 180 degrees"
            raise StructureError(
                f"{where}: `{tag}` must {rule}, got {values[0] if values else 'nothing'}. "
                "Give all six cell parameters."
            )
        parameters.append(value)
    return cell_of(parameters, where), assumed


def _check_volume(block: Block, cell: NDArray[np.float64], where: str) -> None:
    """Raise if the block states another volume than that of its cell parameters."""
    stated = _number(block.first("_cell_volume"))
    volume = _volume(cell)
    if math.isfinite(stated) and abs(stated - volume) > VOLUME_TOLERANCE * volume:
        raise StructureError(
            f"{where}: `_cell_volume` must be that of the cell parameters, got {stated:g} for "
            f"{volume:.6g} Å^3. Correct the one or the other."
        )


def _check_assumed(
    block: Block,
    symmetry: Symmetry,
    cell: NDArray[np.float64],
    assumed: list[str],
    where: str,
) -> None:
    """Say which angles were taken for 90; raise where symmetry leaves them free to be others."""
    angles = ", ".join(f"`_cell_{item}`" for item in assumed)
    is_free = symmetry.leaves_free([_CELL.index(item) - 3 for item in assumed], cell)
    if is_free and not block.first("_cell_volume"):
        raise StructureError(
            f"{where}: the angles that the space group leaves free must be stated, got none for "
            f"{angles}. Give them."
        )
    say(f"{where}: {angles} not stated, taken for 90 as the CIF dictionary says.")


def _read_sites(block: Block, where: str) -> Sites:
    columns = {name: block.column(tag) for name, tag in _SITE_TAGS.items()}
    columns["occupancy"] = columns["occupancy"] or block.column(*_OCCUPANCIES)
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
    if not labels:
        raise StructureError(
            f"{where}: `_atom_site` must name its sites, got {n_sites} sites without label. "
            "Add labels."
        )
    for name, column in columns.items():
        if len(column) not in (0, n_sites):
            raise StructureError(
                f"{where}: `_atom_site_{name}` must have a value for each of {n_sites} sites, got "
                f"{len(column)}. Put all columns of the sites into one loop."
            )
    is_empty = _check_order(columns, labels, where)
    tags = ("_atom_site_site_symmetry_multiplicity", "_atom_site_symmetry_multiplicity")
    multiplicities = block.column(*tags)
    if any(is_empty):
        *xyz, labels, symbols, multiplicities = (
            [text for text, out in zip(column, is_empty, strict=True) if not out]
            if len(column) == n_sites
            else column
            for column in (*xyz, labels, symbols, multiplicities)
        )
    numbers, is_deuterium = elements_of(symbols, labels, stated_elements(block), where)
    if symbols:
        say_labels(labels, numbers, where)
    columns_of_numbers = [[*map(_number, column)] for column in xyz]
    scaled = np.array(columns_of_numbers).T
    if not all(abs(x) <= MAX_SCALED for column in columns_of_numbers for x in column):
        _refuse_coordinates(scaled, xyz, labels, where)
    return Sites(labels, numbers, scaled, xyz, multiplicities, is_deuterium)


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
            f"{MAX_SCALED:g} cells of the origin, got {xyz[axis][site]}. Correct the coordinate."
        )


def _empty(occupancies: list[str], labels: list[str], where: str) -> list[bool]:
    """Return whether each site is empty; raise if one is occupied in part, or all are empty."""
    shares = {text: 1.0 if text in UNKNOWN else _number(text) for text in set(occupancies)}
    if all(abs(share - 1) <= OCCUPANCY_TOLERANCE for share in shares.values()):
        return [False] * len(labels)
    for label, text in zip(labels, occupancies, strict=True):
        if not min(abs(shares[text]), abs(shares[text] - 1)) <= OCCUPANCY_TOLERANCE:
            raise StructureError(
                f"{where}: `_atom_site_occupancy` of site {label} must be 1, got {text}. "
                "Replace the disordered sites by an ordered model."
            )
    is_empty = [abs(shares[text]) <= OCCUPANCY_TOLERANCE for text in occupancies]
    if all(is_empty):
        raise StructureError(
            f"{where}: a site must be occupied, got `_atom_site_occupancy` 0 for all. "
            "Correct the occupancies."
        )
    empty = ", ".join(label for label, out in zip(labels, is_empty, strict=True) if out)
    say(f"{where}: sites of occupancy 0 are left out: {empty[:200]}.")
    return is_empty


def _check_order(columns: dict[str, list[str]], labels: list[str], where: str) -> list[bool]:
    """Raise if a site is partly occupied, one of several alternatives, or a dummy.

    Returns:
        Whether each site is empty: of occupancy 0.
    """
    is_empty = _empty(columns["occupancy"], labels, where)
    groups = [
        group
        for group, out in zip(columns["disorder_group"], is_empty, strict=False)
        if group not in UNKNOWN and not out
    ]
    if len(set(groups)) > 1 or any(group.startswith("-") for group in groups):
        raise StructureError(
            f"{where}: `_atom_site_disorder_group` must not offer alternatives, got groups "
            f"{', '.join(sorted(set(groups)))}. Keep the sites of one alternative."
        )
    for name in ("label_alt_id", "pdbx_pdb_model_num"):
        found = {value for value in columns[name] if value not in UNKNOWN}
        if len(found) > 1:
            raise StructureError(
                f"{where}: `_atom_site_{name}` must not offer alternatives, got "
                f"{', '.join(sorted(found)[:6])}. Keep the sites of one."
            )
    for label, flag in zip(labels, columns["calc_flag"], strict=False):
        if flag.lower() == "dum":
            raise StructureError(
                f"{where}: site {label} must be an atom, got a dummy site "
                "(`_atom_site_calc_flag` dum). Remove the site."
            )
    return is_empty
