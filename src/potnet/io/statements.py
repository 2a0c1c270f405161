"""What a CIF says of its content besides the sites: formula, weight, density, electrons, H."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import gemmi
import numpy as np

from potnet.crystal import SYMBOLS
from potnet.crystal.claims import say
from potnet.crystal.formula import parse_formula
from potnet.errors import StructureError
from potnet.io.cif_block import Block

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMULA_TOLERANCE = 0.01
WEIGHT_TOLERANCE = 0.015  # relative
DENSITY_TOLERANCE = 0.03  # relative; of a density that was computed from the cell
MEASURED_TOLERANCE = 0.4  # relative; samples have pores
DALTON = 1.66053906892  # g/cm^3 of one unit of mass in 1 Å^3
DEUTERIUM = 2.01410178  # units of mass, of the atom
MAX_FORMULA = 400  # characters
ELECTRON_TOLERANCE = 0.01  # relative; of F(000), besides 1 for its rounding
# Å: K alpha lines of Ag, Mo, Ga, Cu, Co, Fe and Cr, where a file does not say its own.
_TUBES = (0.56087, 0.71073, 1.34139, 1.54184, 1.79026, 1.93735, 2.29094)
_EV_ANGSTROM = 12398.42  # photon energy times wavelength

_CHARGE = re.compile(r"\s\d{0,2}[+-](?=[\s,)\]]|$)", re.ASCII)
_WATER = re.compile(r"[.\u00b7\u2022*]\s*(\d{0,3})\s*\(?H2\s?O\)?")  # of CaSO4.2H2O
_TIMES = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(?=[(\[])", re.ASCII)  # of 2(H2 O)
_FORMULAS = ("_chemical_formula_sum", "_chemical_formula_moiety")
_OTHER_FORMULAS = ("_chemical_formula_structural", "_chemical_formula_iupac")
_OTHER_FORMULAS += ("_chemical_formula_analytical", "_amcsd_formula_title")
_COMPUTED = ("_exptl_crystal_density_diffrn", "_exptl_crystal_density_calc")
_MEASURED = ("_exptl_crystal_density_meas",)
_DENSITIES = frozenset((*_COMPUTED, *_MEASURED))
_RADIATION = ("_diffrn_radiation_probe", "_diffrn_radiation_type", "_diffrn_source")
_PROBE = re.compile("neutron|^electron")
_ATTACHED = ("_atom_site_attached_hydrogens", "_atom_site_implicit_hydrogens")
_BONDED = "_chemical_conn_atom_nh"  # hydrogen bonded to each atom
_NAMES = ("_chemical_name_systematic", "_chemical_name_common")
_HYDRATE = re.compile(
    r"\b(?:hemi|sesqui|mono|di|tri|tetra|penta|hexa|hepta|octa|nona|deca|dodeca)hydrate\b"
    r"|\bhydroxide\b|\bhydrate\b",
    re.I,
)
_SOME_WATER = re.compile(r"H2\s?O(?![a-z0-9])")  # in formulas that cannot be compared
# Names of sites that stand for a group, by their element: NH4; CH3, CH2A; W1, Aq.
_GROUPS = {6: "CH[1-4]?[A-Z]?", 7: r"N\d?H[1-4]?[A-Z]?", 8: r"[Ww]\d{0,3}[A-Za-z]?|Aq\d{0,2}"}
# O-H, OH1, O(H), OW, O1W, Ow2, Wat1: oxygen of hydroxyl or water.
_WET = re.compile(r"(?:O\d{0,3}[-_ (]?(?:[Hh]|[Ww])|[Ww]at|WAT|H2O)[^A-Za-z]*(?:[A-Za-z]?\)?)?")


@dataclass(frozen=True)
class Content:
    """What was read: atomic numbers of all atoms, which are D, and the volume in Å^3."""

    numbers: NDArray[np.int64]
    is_deuterium: NDArray[np.bool_]
    volume: float

    @cached_property
    def counts(self) -> Counter[int]:
        """How many atoms there are of each element."""
        return Counter(self.numbers.tolist())

    @cached_property
    def mass(self) -> float:
        """Mass of all atoms in units of mass."""
        counts = Counter(self.numbers[~self.is_deuterium].tolist())
        masses = (count * gemmi.Element(number).weight for number, count in counts.items())
        return sum(masses) + DEUTERIUM * int(self.is_deuterium.sum())


@lru_cache(maxsize=256)  # each of the checks asks for those of one block
def parse_moiety(text: str) -> dict[int, float] | None:
    """Return how often each element is in a formula such as ``Ca 2+, O4 S 2-, 2(H2 O)``.

    None if it is not in a form that can be compared, such as ``(Mg,Fe)2 Si O4`` or ``n(C6 H6)``.
    """
    total: dict[int, float] = {}
    if not 0 < len(text) <= MAX_FORMULA:
        return None
    text = _WATER.sub(r", \1(H2O)", text)
    for part in _CHARGE.sub("", text).split(","):
        match = _TIMES.match(part)
        factor, rest = (float(match[1]), part[match.end() :]) if match else (1.0, part.strip())
        try:
            found = parse_formula(rest)
        except StructureError:
            return None
        for number, count in found.items():
            total[number] = total.get(number, 0) + factor * count
    return total


def stated_elements(block: Block) -> set[int]:
    """Return the elements of the formula that a block states; none if it states none."""
    formulas = (parse_moiety(block.first(tag)) for tag in _FORMULAS)
    return set(next((formula for formula in formulas if formula), {}))


def check_statements(
    block: Block, labels: list[str], elements: NDArray[np.int64], content: Content, where: str
) -> bool:
    """Raise if the atoms are not what the block says of them.

    Args:
        block: The block.
        labels: Names of the sites.
        elements: Their atomic numbers, shape (n_sites,).
        content: All atoms of the cell.
        where: Name of the file, for messages.

    Returns:
        Whether the number of atoms in the cell is stated too, and right: by formula and Z, by
        weight and Z, by the density, or by F(000).
    """
    is_settled = _check_formula(block, content, where)
    _check_hydrogen(block, labels, elements, content, where)
    is_counted = is_settled | _check_weight(block, content, where)
    is_counted |= _check_density(block, content, where)
    return is_counted | _check_electrons(block, content, is_settled, where)


def _check_hydrogen(
    block: Block, labels: list[str], elements: NDArray[np.int64], content: Content, where: str
) -> None:
    """Raise if hydrogen is attached to sites, or stated anywhere, and not listed."""
    attached = block.column(*_ATTACHED)
    for label, text in zip(labels, attached, strict=False):
        if gemmi.cif.as_number(text) > 0:
            raise StructureError(
                f"{where}: every hydrogen atom must be a site of its own, got {text} attached to "
                f"{label} (`_atom_site_attached_hydrogens`). List their positions."
            )
    if 1 in content.counts:
        return
    said = [(t, text) for t in (*_FORMULAS, *_OTHER_FORMULAS) if (text := block.first(t))]
    formulas = [(tag, text, parse_moiety(text)) for tag, text in said]
    wet = [
        (tag, text)
        for tag, text, formula in formulas
        if (1 in formula if formula else _SOME_WATER.search(text[:MAX_FORMULA]))
    ]
    wet += [(_BONDED, text) for text in block.column(_BONDED) if gemmi.cif.as_number(text) > 0]
    wet += [
        (tag, text) for tag in _NAMES if _HYDRATE.search(text := block.first(tag)[:MAX_FORMULA])
    ]
    is_stated = any(formula for tag, _, formula in formulas if tag in _FORMULAS)
    if not wet and not is_stated:  # a formula without hydrogen settles what a label hints at
        wet = [
            ("_atom_site_label", label)
            for label, number in zip(labels, elements.tolist(), strict=True)
            if _WET.fullmatch(label[:20]) or re.fullmatch(_GROUPS.get(number, "(?!)"), label[:20])
        ]
    for tag, text in wet[:1]:
        raise StructureError(
            f"{where}: every hydrogen atom must be a site, got none where `{tag}` {text[:80]!r} "
            "has some. Add their positions."
        )


def _check_formula(block: Block, content: Content, where: str) -> bool:
    """Raise if the atoms do not add up to the formula; return whether Z is right too."""
    said = ((tag, block.first(tag)) for tag in _FORMULAS)
    read = ((tag, text, parse_moiety(text)) for tag, text in said)
    tag, formula, stated = next((item for item in read if item[2]), ("", "", None))
    found, n_atoms = content.counts, len(content.numbers)
    units = gemmi.cif.as_number(block.first("_cell_formula_units_z"))
    if n_atoms < units:
        raise StructureError(
            f"{where}: the cell must hold `_cell_formula_units_Z` {units:g} formulas, got "
            f"{n_atoms} atoms. Complete the symmetry operations and the sites, or correct Z."
        )
    if stated is None:  # nothing stated, or not in a form that can be compared
        _say_other_formulas(block, set(found), where)
        return False
    scale = n_atoms / (sum(stated.values()) or 1)
    for number in dict.fromkeys([*stated, *found]):
        expected = scale * stated.get(number, 0)
        if abs(expected - found[number]) > FORMULA_TOLERANCE * max(expected, 1):
            raise StructureError(
                f"{where}: the sites must add up to `{tag}` {formula!r}, got "
                f"{found[number]} {SYMBOLS[number]} of {n_atoms} atoms where it asks for "
                f"{expected:.4g}. Add the missing sites, or correct the formula."
            )
    # Some programs state the formula of the cell, and how often the simplest one is in it.
    simplest = scale * math.gcd(*(round(count) for count in stated.values()))
    is_counted = math.isfinite(units)
    right = min(abs(units / n - 1) for n in (scale, simplest or scale)) <= FORMULA_TOLERANCE
    if scale < 1 - FORMULA_TOLERANCE or (is_counted and not right):
        raise StructureError(
            f"{where}: the cell must hold `{tag}` {formula!r} "
            f"{f'{units:g} times' if is_counted else 'at least once'}, got it {scale:.4g} times. "
            "Complete the symmetry operations and the sites, or correct what is stated."
        )
    return is_counted


def _say_other_formulas(block: Block, found: set[int], where: str) -> None:
    """Say if a formula that nothing can be counted by has other elements than the atoms."""
    for tag in _OTHER_FORMULAS:
        text = block.first(tag)
        stated = parse_moiety(text)
        if stated and set(stated) - {1} != found - {1}:  # of hydrogen there is a rule
            elements = ", ".join(SYMBOLS[number] for number in sorted(found))
            say(f"{where}: `{tag}` is {text[:80]!r}, but the atoms are of {elements}.")


def _check_weight(block: Block, content: Content, where: str) -> bool:
    """Raise if the mass of the cell is no multiple of the formula weight, or not Z of them."""
    weight = gemmi.cif.as_number(block.first("_chemical_formula_weight"))
    if not 1 <= weight <= 1e6:  # nan, or a misprint
        return False
    units = gemmi.cif.as_number(block.first("_cell_formula_units_z"))
    times = content.mass / weight
    is_counted = math.isfinite(units) and units > 0
    # Beside a formula, which is compared with Z, the weight may be that of the whole cell.
    is_of_cell = abs(times - 1) <= WEIGHT_TOLERANCE and bool(stated_elements(block))
    nearest = units if is_counted and not is_of_cell else max(1, round(times))
    if abs(times - nearest) > WEIGHT_TOLERANCE * nearest:
        raise StructureError(
            f"{where}: the cell must weigh {f'{units:g} times' if is_counted else 'a multiple of'} "
            f"`_chemical_formula_weight` {weight:g}, got {times:.4g} times. "
            "Complete the sites and the symmetry operations, or correct what is stated."
        )
    return is_counted


def _check_density(block: Block, content: Content, where: str) -> bool:
    """Raise if the density of what was read is not the stated one; return whether it is."""
    is_counted = False
    if not block.has_any(_DENSITIES):
        return is_counted
    density = DALTON * content.mass / content.volume
    for tags, tolerance in ((_COMPUTED, DENSITY_TOLERANCE), (_MEASURED, MEASURED_TOLERANCE)):
        text = block.first(*tags)
        stated = gemmi.cif.as_number(text)
        if not stated > 0:
            continue
        if stated > 100 and abs(density / stated - 1) > tolerance:
            stated /= 1000  # kg/m^3
        decimals = text.partition(".")[2].partition("(")[0]
        rounding = 0.6 * 10.0 ** -len(decimals) / stated
        if abs(density / stated - 1) > tolerance + rounding:
            raise StructureError(
                f"{where}: the density must be `{tags[0]}` {text}, got {density:.4g} g/cm^3 of the "
                "sites and operations. Complete them, or correct what is stated."
            )
        is_counted |= tags is _COMPUTED
    return is_counted


def _check_electrons(block: Block, content: Content, is_settled: bool, where: str) -> bool:
    """Raise if the electrons of the cell are not F(000); return whether they are.

    Where formula and Z are right, which say more, a wrong F(000) is only said.
    """
    text = block.first("_exptl_crystal_f_000")
    if not text:
        return False
    stated = gemmi.cif.as_number(text)
    is_other = any(_PROBE.search(block.first(tag).lower()) for tag in _RADIATION)
    if not stated > 1 or is_other:  # of which it is no count
        return False
    wavelength = gemmi.cif.as_number(block.first("_diffrn_radiation_wavelength"))
    lowest, highest = _electrons(content.counts, wavelength)
    slack = 1 + ELECTRON_TOLERANCE * highest
    if lowest - slack <= stated <= highest + slack:
        return True
    found = int(content.numbers.sum())
    if not is_settled:
        raise StructureError(
            f"{where}: the cell must have `_exptl_crystal_F_000` {text} electrons, got {found} of "
            "the sites and operations. Complete them, or correct what is stated."
        )
    say(
        f"{where}: `_exptl_crystal_F_000` is {text}, the atoms have {found} electrons, and are "
        "those of formula and Z."
    )
    return False


def _electrons(counts: Mapping[int, int], wavelength: float) -> tuple[float, float]:
    """Return the least and the most that programs may call F(000) of atoms.

    That is the number of electrons, the sum with the real part of the dispersion (as SHELXL
    has it), or the modulus with both parts (as the dictionary of CIF core has it).
    """
    plain = float(sum(z * n for z, n in counts.items()))
    found = [plain]
    for length in (wavelength,) if 0.1 < wavelength < 5 else _TUBES:
        parts = [(n, gemmi.cromer_liberman(z, _EV_ANGSTROM / length)) for z, n in counts.items()]
        real = plain + sum(n * part[0] for n, part in parts)
        found += [real, math.hypot(real, sum(n * part[1] for n, part in parts))]
    return min(found), max(found)
