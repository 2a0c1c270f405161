"""Input files of pw.x of Quantum ESPRESSO: lattice by `ibrav` or by vectors, atoms in any unit."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import gemmi
import numpy as np

from potnet.crystal import MAX_ATOMS, NUMBERS, SYMBOLS, Crystal
from potnet.crystal.claims import check_scaled
from potnet.errors import StructureError
from potnet.io.asymmetric import cell_of
from potnet.io.found import NUMBER, lines_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

BOHR = 0.529177210903  # Å (CODATA 2018)
_CARDS = (
    "ATOMIC_SPECIES|ATOMIC_POSITIONS|K_POINTS|ADDITIONAL_K_POINTS|CELL_PARAMETERS|CONSTRAINTS|"
    "OCCUPATIONS|ATOMIC_VELOCITIES|ATOMIC_FORCES|SOLVENTS|HUBBARD"
)
_CARD = re.compile(rf"({_CARDS})\b\s*[{{(]?\s*(\w*)", re.I)
_ITEM = re.compile(r"(\w+(?:\(\s*\d+\s*\))?)\s*=\s*('[^']*'|\"[^\"]*\"|[^\s,]+)")
_FRACTION = re.compile(r"([+-]?\d+)/(\d+)")
MASS_TOLERANCE = 0.2  # relative; of isotopes
SMALLEST_MASS = 2.5  # of masses that mean something: 1.0 is written where they do not matter


def parse_espresso(text: str, source: str) -> Crystal:
    """Return the crystal of an input file of pw.x.

    The lattice is that of ``ibrav`` in the manual of pw.x, or of CELL_PARAMETERS. The element of a
    label (``Fe1``, ``C-h``, ``Oa``) is the one that fits the mass and the potential.

    Raises:
        StructureError: If something is missing or given twice, the file lists a part of the cell
            (``space_group``), or a label, its mass and its potential are of several elements.
    """
    return _Reader(text, source).crystal()


class _Reader:
    """The items of &SYSTEM by name, and the lines of the cards."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.items: dict[str, str] = {}
        self.cards: dict[str, tuple[str, list[list[str]]]] = {}
        namelist, rows = "", None
        for raw in lines_of(text):
            line = re.split("[!#]", raw, maxsplit=1)[0].strip()
            if line.startswith("&"):
                namelist, rows = line[1:].split()[0].lower() if line[1:].split() else "?", None
                line = line[1 + len(namelist) :]
            if namelist:
                if namelist == "system":
                    self.items |= {
                        re.sub(r"\s", "", key.lower()): value.strip("'\"")
                        for key, value in _ITEM.findall(line.rstrip("/"))
                    }
                namelist = "" if line.endswith("/") or line.lower() == "&end" else namelist
            elif card := _CARD.match(line):
                name = card[1].upper()
                if name in self.cards:
                    raise self.error(f"{name} must be given once", "it twice", "Split the file.")
                rows = self.cards.setdefault(name, (card[2].lower(), []))[1]
            elif line and rows is not None:
                rows.append(line.split())

    def error(self, rule: str, got: object, advice: str) -> StructureError:
        return StructureError(f"{self.source}: {rule}, got {str(got)[:80]!r}. {advice}")

    def number(self, name: str) -> float:
        """Return a number of &SYSTEM; nan if it is not there."""
        return self.floats([self.items[name]])[0] if name in self.items else math.nan

    def floats(self, words: list[str]) -> list[float]:
        values = []
        for word in words:
            fraction = _FRACTION.fullmatch(word)
            if not (fraction or NUMBER.fullmatch(word)):
                raise self.error("values must be numbers", word, "Write the number.")
            top, below = fraction.groups() if fraction else (re.sub("[dD]", "e", word), "1")
            values.append(float(top) / (float(below) or math.nan))
        return values

    def crystal(self) -> Crystal:
        if "space_group" in self.items:
            got = "`space_group`: a part of the cell"
            raise self.error("all atoms must be listed", got, "Convert it to CIF.")
        alat, cell = self.lattice()
        unit, rows = self.cards.get("ATOMIC_POSITIONS", ("", []))
        count = self.items.get("nat", "")
        if not 1 <= len(rows) <= MAX_ATOMS or count != str(len(rows)):
            rule = f"`nat` must be the number of lines of ATOMIC_POSITIONS, 1 to {MAX_ATOMS}"
            raise self.error(rule, f"{count or 'none'} for {len(rows)}", "Correct it.")
        if any(len(row) not in (4, 7) for row in rows):
            row = next(row for row in rows if len(row) not in (4, 7))
            raise self.error("an atom must be a label and three numbers", " ".join(row), "Mend it.")
        positions = self.positions(rows, unit, alat, cell)
        elements = self.elements()
        unknown = next((row[0] for row in rows if row[0] not in elements), None)
        if unknown is not None:
            raise self.error("ATOMIC_SPECIES must list each label", unknown, "Add it.")
        return Crystal([elements[row[0]] for row in rows], positions, cell, id=self.source)

    def positions(
        self, rows: list[list[str]], unit: str, alat: float, cell: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return Cartesian positions in Å of the rows of ATOMIC_POSITIONS."""
        places = np.array([self.floats(row[1:4]) for row in rows])
        scales = {"": alat, "alat": alat, "bohr": BOHR, "angstrom": 1.0}
        if unit in scales:
            return places * scales[unit]
        if unit != "crystal":
            names = ", ".join([*scales, "crystal"])[2:]
            raise self.error(f"the unit must be one of {names}", unit, "Convert.")
        if self.items.get("ibrav") == "-13":
            rule = "positions beside ibrav=-13 must be Cartesian, as pw.x 6.4.1 and older order its"
            raise self.error(f"{rule} vectors otherwise", unit, "Convert them.")
        check_scaled(places, cell, self.source)
        return places @ cell

    def lattice(self) -> tuple[float, NDArray[np.float64]]:
        """Return the length ``alat`` and the lattice vectors in Å."""
        is_bohr, is_angstrom = "celldm(1)" in self.items, "a" in self.items
        if is_bohr and is_angstrom:
            raise self.error("the lattice must be given once", "celldm and A", "Remove one.")
        alat = self.number("celldm(1)") * BOHR if is_bohr else self.number("a")
        ibrav = self.items.get("ibrav", "nothing")
        if ibrav == "0":
            return self.vectors(alat)
        if "CELL_PARAMETERS" in self.cards:
            raise self.error("CELL_PARAMETERS go with ibrav=0", f"ibrav={ibrav}", "Remove one.")
        names = ("b", "c", "cosab", "cosac", "cosbc")
        b, c, cos_ab, cos_ac, cos_bc = (self.number(name) for name in names)
        if is_bohr:
            b, c, four, five, six = (
                self.number(f"celldm({k})") * (alat if k < 4 else 1) for k in range(2, 7)
            )
            # The fourth is the cosine of a and b, but of b and c where the cell is triclinic.
            cos_ab, cos_ac, cos_bc = (six, five, four) if ibrav == "14" else (four, five, six)
        cell = _bravais(ibrav, (alat, b, c), (cos_bc, cos_ac, cos_ab), self.source)
        if cell is None or not np.isfinite(cell).all():
            rule = "`ibrav` must be one of the manual of pw.x, with all its parameters"
            raise self.error(rule, f"ibrav={ibrav}, {self.items}", "Give CELL_PARAMETERS instead.")
        return alat, cell

    def vectors(self, alat: float) -> tuple[float, NDArray[np.float64]]:
        unit, rows = self.cards.get("CELL_PARAMETERS", ("", []))
        if len(rows) != 3 or any(len(row) != 3 for row in rows):
            raise self.error("CELL_PARAMETERS must be three rows", rows, "Give them, or ibrav.")
        vectors = np.array([self.floats(row) for row in rows])
        if unit in ("bohr", "angstrom") and math.isfinite(alat):
            raise self.error("the lattice must be given once", f"it in {unit} too", "Remove one.")
        if unit == "" and not math.isfinite(alat):
            unit = "bohr"
        scales = {"": alat, "alat": alat, "bohr": BOHR, "angstrom": 1.0}
        if not math.isfinite(scales.get(unit, math.nan)):
            raise self.error("CELL_PARAMETERS must have a unit that is known", unit, "Convert.")
        cell = vectors * scales[unit]
        return alat if math.isfinite(alat) else float(np.linalg.norm(cell[0])), cell

    def elements(self) -> dict[str, int]:
        """Return the atomic number of each label of ATOMIC_SPECIES."""
        found = {}
        for row in self.cards.get("ATOMIC_SPECIES", ("", []))[1]:
            if len(row) < 3:
                rule = "a species must have label, mass and potential"
                raise self.error(rule, " ".join(row), "Complete the line.")
            found[row[0]] = self.element(row[0], self.floats(row[1:2])[0], row[2])
        return found

    def element(self, label: str, mass: float, potential: str) -> int:
        """Return the one element that label, mass and name of the potential allow."""
        letters = re.match("[A-Za-z]{1,2}", label)
        names = [letters[0].capitalize(), letters[0][0].upper()] if letters else []
        named = re.match(r"([A-Za-z]{1,2})[._-]", potential)
        of_potential = NUMBERS.get(named[1].capitalize(), 0) if named else 0
        for number in (NUMBERS[name] for name in names if name in NUMBERS):
            weight = gemmi.Element(number).weight
            fits = mass < SMALLEST_MASS or abs(mass / weight - 1) <= MASS_TOLERANCE
            if fits and of_potential in (0, number):
                return number
        got = f"{label} {mass:g} {potential}"
        rule = "label, mass and potential of a species must be of one element"
        other = f" ({SYMBOLS[of_potential]} by its potential)" if of_potential else ""
        raise self.error(rule, got + other, "Correct the line.")


def _bravais(
    ibrav: str,
    lengths: tuple[float, float, float],
    cosines: tuple[float, float, float],
    source: str,
) -> NDArray[np.float64] | None:
    """Return the lattice vectors of ``ibrav`` in the manual of pw.x; None if it has none.

    Args:
        ibrav: Its value.
        lengths: a, b and c in Å; nan where not given.
        cosines: Of the angles between b and c, a and c, a and b; nan where not given.
        source: Name of the file, for messages.
    """
    a, b, c = lengths
    cos_bc, cos_ac, cos_ab = cosines
    plain = {  # lengths, and cosines of the angles opposite to them
        "1": (a, a, a, 0.0, 0.0, 0.0),
        "4": (a, a, c, 0.0, 0.0, -0.5),
        "6": (a, a, c, 0.0, 0.0, 0.0),
        "8": (a, b, c, 0.0, 0.0, 0.0),
        "12": (a, b, c, 0.0, 0.0, cos_ab),
        "-12": (a, b, c, 0.0, cos_ac, 0.0),
        "14": (a, b, c, cos_bc, cos_ac, cos_ab),
    }
    if ibrav in plain:
        values = plain[ibrav]
        if not (np.isfinite(values).all() and max(map(abs, values[3:])) < 1):
            return None
        angles = [90.0 if x == 0 else math.degrees(math.acos(x)) for x in values[3:]]
        return cell_of([*values[:3], *angles], source)
    tx, ty, tz = np.sqrt(
        np.maximum(0, [3 * (1 - cos_ab) / 6, (1 - cos_ab) / 6, 1 / 3 + cos_ab / 1.5])
    )
    u, v = (tz - math.sqrt(8) * ty) / math.sqrt(3), (tz + math.sqrt(2) * ty) / math.sqrt(3)
    centred = {  # twice the vectors
        "2": ((-a, 0, a), (0, a, a), (-a, a, 0)),
        "3": ((a, a, a), (-a, a, a), (-a, -a, a)),
        "-3": ((-a, a, a), (a, -a, a), (a, a, -a)),
        "5": (
            (2 * a * tx, -2 * a * ty, 2 * a * tz),
            (0, 4 * a * ty, 2 * a * tz),
            (-2 * a * tx, -2 * a * ty, 2 * a * tz),
        ),
        "-5": 2 * a * np.array([(u, v, v), (v, u, v), (v, v, u)]),
        "7": ((a, -a, c), (a, a, c), (-a, -a, c)),
        "9": ((a, b, 0), (-a, b, 0), (0, 0, 2 * c)),
        "-9": ((a, -b, 0), (a, b, 0), (0, 0, 2 * c)),
        "91": ((2 * a, 0, 0), (0, b, -c), (0, b, c)),
        "10": ((a, 0, c), (a, b, 0), (0, b, c)),
        "11": ((a, b, c), (-a, b, c), (-a, -b, c)),
        "13": (
            (a, 0, -c),
            (2 * b * cos_ab, 2 * b * math.sqrt(max(0.0, 1 - cos_ab**2)), 0),
            (a, 0, c),
        ),
        "-13": (
            (a, b, 0),
            (-a, b, 0),
            (2 * c * cos_ac, 0, 2 * c * math.sqrt(max(0.0, 1 - cos_ac**2))),
        ),
    }
    return np.array(centred[ibrav]) / 2 if ibrav in centred else None
