"""SHELX files (.res, .ins), also those of AIRSS: cell, operations and sites."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from potnet.crystal import NUMBERS, SYMBOLS, Crystal, number_of
from potnet.crystal.claims import check_scaled
from potnet.errors import StructureError
from potnet.io.asymmetric import METRIC_TOLERANCE, Sites, cell_of, expand, misfit
from potnet.io.found import NUMBER, lines_of
from potnet.io.operations import Group, closed, group_of
from potnet.io.site_elements import say_labels

_CENTRINGS = {
    1: (),
    2: ("x+1/2,y+1/2,z+1/2",),
    3: ("x+2/3,y+1/3,z+1/3",),
    4: ("x,y+1/2,z+1/2", "x+1/2,y,z+1/2"),
    5: ("x,y+1/2,z+1/2",),
    6: ("x+1/2,y,z+1/2",),
    7: ("x+1/2,y+1/2,z",),
}
_OCCUPANCY_TOLERANCE = 0.01
_END = ("HKLF", "END")
_INSTRUCTIONS = re.compile(
    "ABIN|ACTA|AFIX|ANIS|ANSC|ANSR|BASF|BIND|BLOC|BOND|BUMP|CELL|CGLS|CHIV|CONF|CONN|DAMP|DANG|DEFS"
    "|DELU|DFIX|DISP|EADP|EQIV|EXTI|EXYZ|FEND|FLAT|FMAP|FRAG|FREE|FVAR|GRID|HFIX|HTAB|ISOR|L.S."
    "|LATT|LAUE|LIST|MERG|MOLE|MORE|MOVE|MPLA|NCSY|NEUT|OMIT|PART|PLAN|PRIG|REM|RESI|RIGU|RTAB"
    "|SADI|SAME|SFAC|SHEL|SIMU|SIZE|SPEC|STIR|SUMP|SWAT|SYMM|TEMP|TITL|TWIN|TWST|UNIT|WGHT|WIGL"
    "|WPDB|XNPD|ZERR"
)


def parse_shelx(text: str, source: str) -> Crystal:
    """Return the crystal of a SHELX file, all atoms of its cell.

    Raises:
        StructureError: If a line has another form, sites are partly occupied or refined by free
            variables, or the atoms do not add up to UNIT.
    """
    return _Reader(text, source).crystal()


class _Reader:
    """The instructions of a file by name, and its atoms."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.atoms: list[list[str]] = []
        self.instructions: dict[str, list[list[str]]] = {}
        self.elements: list[str] = []
        is_over = False
        for words in _lines(text):
            name = words[0].upper()[:4]
            if name == "CELL" and "CELL" in self.instructions:
                raise self.error("a file must hold one structure", "a second `CELL`", "Split it.")
            is_over |= name in _END
            if is_over and name != "CELL":
                continue
            if name == "SFAC":
                self._add_elements(words[1:])
            elif not _INSTRUCTIONS.fullmatch(name) and self._is_atom(words):
                self.atoms.append(words)
            else:
                self.instructions.setdefault(name, []).append(words[1:])

    def _add_elements(self, words: list[str]) -> None:
        """Add those of SFAC: a list of elements, or one with its scattering factors."""
        has_factors = len(words) > 1 and NUMBER.fullmatch(words[1])
        self.elements += words[:1] if has_factors else words

    def _is_atom(self, words: list[str]) -> bool:
        is_listed = len(words) >= 5 and re.fullmatch("[0-9]{1,3}", words[1]) is not None
        numbers = all(map(NUMBER.fullmatch, words[2:5]))
        return is_listed and numbers and 1 <= int(words[1]) <= len(self.elements)

    def error(self, rule: str, got: object, advice: str) -> StructureError:
        return StructureError(f"{self.source}: {rule}, got {str(got)[:80]!r}. {advice}")

    def numbers(self, name: str, count: int) -> list[float]:
        """Return the numbers of an instruction that must be there."""
        words = self.instructions.get(name, [[]])[-1]
        if len(words) < count or not all(map(NUMBER.fullmatch, words[:count])):
            rule = f"`{name}` must have {count} numbers"
            raise self.error(rule, " ".join(words) or "nothing", "Correct the line.")
        return [float(word) for word in words[:count]]

    def group(self) -> Group:
        (lattice,) = self.numbers("LATT", 1)
        if abs(lattice) not in _CENTRINGS:
            raise self.error("`LATT` must be 1 to 7, or -1 to -7", lattice, "Correct the line.")
        generators = [" ".join(words) for words in self.instructions.get("SYMM", [])]
        generators += [*_CENTRINGS[int(abs(lattice))], "x,y,z"]
        generators += ["-x,-y,-z"] if lattice > 0 else []
        try:
            return group_of(closed(tuple(generators)))
        except ValueError as error:
            rule = "`LATT` and `SYMM` must be operations that form a group"
            raise self.error(rule, error, "Correct the lines.") from error

    def crystal(self) -> Crystal:
        cell = cell_of(self.numbers("CELL", 7)[1:], self.source)
        group = self.group()
        if len(group.rotations) > 1 and misfit(group, cell).max() > METRIC_TOLERANCE:
            rule = "`LATT` and `SYMM` must fit the cell"
            raise self.error(rule, self.instructions["CELL"][-1], "Correct the one or the other.")
        for name in ("MOVE", "FRAG"):
            if name in self.instructions:
                rule = f"the atoms must stand where they are listed, without `{name}`"
                raise self.error(rule, self.instructions[name][0], "Write the file again.")
        if not self.atoms:
            raise self.error("the file must list atoms", "none", "Check that SFAC comes first.")
        if any(words[:1] not in ([], ["0"]) for words in self.instructions.get("PART", [])):
            rule = "`PART` must not offer alternatives"
            raise self.error(rule, self.instructions["PART"], "Keep the atoms of one.")
        sites = self.sites()
        check_scaled(sites.scaled, cell, self.source)
        site, scaled = expand(sites, group, cell, self.source)
        self.check_occupancies(np.bincount(site, minlength=len(sites.labels)), group)
        self.check_content(sites.numbers[site])
        scaled -= np.floor(scaled + 1e-12)
        return Crystal(sites.numbers[site], scaled @ cell, cell, id=self.source)

    def sites(self) -> Sites:
        labels = [words[0] for words in self.atoms]
        for label in labels:
            if re.match("Q[0-9]", label):
                raise self.error(
                    "an atom must be no peak", label, "Remove it, or name its element."
                )
        symbols = [self.elements[int(words[1]) - 1].lstrip("$") for words in self.atoms]
        numbers = [
            NUMBERS.get(symbol.capitalize()) or number_of(symbol, f"{self.source}: site {label}")
            for symbol, label in zip(symbols, labels, strict=True)
        ]
        say_labels(labels, np.array(numbers), self.source)
        scaled = [[self.refined(word, words[0]) for word in words[2:5]] for words in self.atoms]
        written = list(zip(*(words[2:5] for words in self.atoms), strict=True))
        is_deuterium = np.array([symbol.upper() == "D" for symbol in symbols])
        return Sites(labels, np.array(numbers), np.array(scaled), written, [], is_deuterium)

    def refined(self, word: str, label: str) -> float:
        """Return a parameter: 10 more says that it is held, more that it is a free variable."""
        value = float(word)
        if not abs(value) < 15:
            rule = f"the parameters of {label} must be numbers and no free variables"
            raise self.error(rule, word, "Write the refined values.")
        return value - math.copysign(10, value) if abs(value) > 5 else value

    def check_occupancies(self, counts: np.ndarray, group: Group) -> None:
        """Raise unless each atom is there wholly: 1, or the share of a special position."""
        for words, count in zip(self.atoms, counts.tolist(), strict=True):
            if len(words) < 6 or count == 0 or not NUMBER.fullmatch(words[5]):
                continue
            share = self.refined(words[5], words[0])
            if (
                min(abs(share - 1), abs(share - count / len(group.rotations)))
                > _OCCUPANCY_TOLERANCE
            ):
                rule = f"the occupancy of {words[0]} must be 1"
                raise self.error(rule, words[5], "Replace the disorder by an ordered model.")

    def check_content(self, numbers: np.ndarray) -> None:
        """Raise unless the atoms of the cell are those of UNIT."""
        words = self.instructions.get("UNIT", [[]])[-1]
        if len(words) != len(self.elements) or not all(map(NUMBER.fullmatch, words)):
            return
        stated: Counter[int] = Counter()
        for symbol, word in zip(self.elements, words, strict=True):
            stated[NUMBERS.get(symbol.lstrip("$").capitalize(), 0)] += round(float(word))
        found = Counter(numbers.tolist())
        for number in stated | found:
            if stated[number] != found[number]:
                rule = f"the cell must hold what `UNIT` says, {stated[number]} {SYMBOLS[number]}"
                raise self.error(rule, found[number], "Add the missing atoms, or correct UNIT.")


def _lines(text: str) -> Iterator[list[str]]:
    """Yield the words of each instruction; ``=`` at its end goes on in the next line."""
    before: list[str] = []
    for line in lines_of(text):
        words = before + line.partition("!")[0].split()
        before = []
        if words and words[-1] == "=" and len(words) < 100:
            before = words[:-1]
        elif words and words[0].upper()[:3] != "REM":
            yield words
