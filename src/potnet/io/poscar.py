"""POSCAR and CONTCAR, the structure files of VASP, and the heads of its densities."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from potnet.crystal import MAX_ATOMS, NUMBERS, Crystal, number_of
from potnet.crystal.claims import check_cartesian, check_scaled, say
from potnet.errors import StructureError
from potnet.io.found import NUMBER, lines_of

# Na, Na1, Na(1), NA01, na; a small letter alone is no element but a letter of Wyckoff.
_LABEL = re.compile(r"([A-Z][a-z]?|[A-Z]{2}|[a-z]{2})(?:[0-9_+.(-][A-Za-z0-9_+.()-]*)?")
_FLAG = re.compile(r"\.?(?:T|F|TRUE|FALSE)\.?", re.I)


def parse_poscar(text: str, source: str, species: Sequence[str] = ()) -> Crystal:
    """Return the crystal of a POSCAR; velocities after the coordinates are not kept.

    Args:
        text: Content of the file.
        source: Name of the file, for messages and as the crystal's id.
        species: Symbols of the counts, for files of VASP 4, which do not say them.

    Raises:
        StructureError: If a line is missing or has another form, the elements are not stated, a
            second structure follows, or the crystal is not valid.
    """
    return _Reader(text, source, species).crystal()


def format_poscar(crystal: Crystal) -> str:
    """Return ``crystal`` as POSCAR in Cartesian coordinates, atoms sorted by element."""
    crystal.require_periodic()
    order = np.argsort(crystal.numbers, kind="stable")
    symbols = [crystal.symbols[k] for k in order]
    species = list(dict.fromkeys(symbols))
    rows = [*crystal.cell.tolist(), *crystal.positions[order].tolist()]
    vectors = [" ".join(f"{x:.16g}" for x in row) for row in rows]
    lines = [
        re.sub(r"\s", " ", crystal.id) or crystal.formula,
        "1.0",
        *vectors[:3],
        " ".join(species),
        " ".join(str(symbols.count(symbol)) for symbol in species),
        "Cartesian",
        *vectors[3:],
    ]
    return "\n".join(lines) + "\n"


class _Reader:
    """The lines of a file, read one after the other; errors know their line."""

    def __init__(self, text: str, source: str, given: Sequence[str]) -> None:
        self.lines = lines_of(text)
        self.given = given
        self.source = source
        self.at = 0

    def error(self, rule: str, advice: str) -> StructureError:
        """Return the error that the line just read breaks ``rule``."""
        got = self.lines[self.at - 1].strip() if self.at <= len(self.lines) else ""
        return StructureError(
            f"{self.source}, line {self.at}: {rule}, got {got[:60] or 'nothing'!r}. {advice}"
        )

    def line(self) -> str:
        self.at += 1
        return self.lines[self.at - 1].strip() if self.at <= len(self.lines) else ""

    def numbers(self, what: str, *counts: int) -> list[float]:
        """Return the leading numbers of the next line, as many as one of ``counts`` (largest)."""
        values = []
        for word in self.line().split()[: max(counts)]:
            if not NUMBER.fullmatch(word):
                break
            values.append(float(re.sub("[dD]", "e", word)))
        if len(values) not in counts:
            number = " or ".join(map(str, sorted(counts)))
            raise self.error(f"{what} must be {number} numbers", "Correct the line.")
        return values

    # What overflows is not finite, and refused as such by ``Crystal``.
    @np.errstate(over="ignore", invalid="ignore")
    def crystal(self) -> Crystal:
        self.line()  # a comment
        scale = np.array(self.numbers("the scale", 1, 3))
        if len(scale) == 3 and (scale <= 0).any() or (scale == 0).any():
            rule = "must not be 0" if (scale == 0).any() else "must be three numbers above 0"
            raise self.error(f"the scale {rule}", "Use 1.0 if the cell is in Å.")
        vectors = np.array([self.numbers("a lattice vector", 3) for _ in range(3)])
        if scale[0] < 0:  # the volume of the cell
            with np.errstate(over="ignore"):  # what has no volume left is refused by Crystal
                volume = abs(np.linalg.det(vectors))
            scale = np.cbrt(-scale / volume) if volume else np.ones(1)
        cell = vectors * scale
        numbers = self.species()
        mode = self.line()
        if mode[:1].lower() == "s":  # selective dynamics
            mode = self.line()
        if not mode[:1].isalpha():
            raise self.error("the mode must be Direct or Cartesian", "Add the line.")
        first = self.at
        rows = np.array([self.site(number) for number in numbers])
        sites = [line.split() for line in self.lines[first : self.at]]
        if all(
            row[0] == str(k) and NUMBER.fullmatch("".join(row[3:4]))
            for k, row in enumerate(sites, 1)
        ):
            raise self.error(
                "a site must be three coordinates, not its number and three", "Remove the numbers."
            )
        rest = self.line().split()
        if len(rest) >= 3 and all(re.fullmatch(r"[-+\d.eEdD]+", word) for word in rest[:3]):
            raise self.error(
                f"there must be {len(numbers)} coordinates, as the counts say", "Mend the counts."
            )
        self.check_end()
        # VASP takes any word but C... and K... as Direct.
        is_cartesian = mode[0] in "cCkK"
        if not is_cartesian:
            check_scaled(rows, cell, self.source)
        positions = rows * scale if is_cartesian else rows @ cell
        crystal = Crystal(numbers, positions, cell, id=self.source)
        if is_cartesian:
            check_cartesian(crystal.numbers, crystal.positions, crystal.cell, self.source)
        return crystal

    def words(self) -> list[str]:
        """Return the words of the next line without the comment behind them."""
        return re.split("[!#]", self.line(), maxsplit=1)[0].split()

    def species(self) -> list[int]:
        """Return the atomic number of each atom, from the lines of symbols and of counts."""
        words = self.words()
        if words and all(map(_is_count, words)):
            symbols = list(self.given) or self.labelled([int(word) for word in words])
            if not symbols:
                raise self.error(
                    "the line of element symbols must come before the counts (VASP 5)",
                    "Add it, or say the symbols with species=; files of VASP 4 do not say them.",
                )
        else:
            symbols, words = words, self.words()
        # VASP 6 may write Na_pv/1a2b3c: the potential and its hash.
        where = f"{self.source}, line {self.at - 1}"
        numbers = [number_of(re.split("[_/]", symbol)[0], where) for symbol in symbols]
        counts = [int(word) for word in words if _is_count(word)]
        if not counts or len(counts) != len(words) or len(counts) != len(numbers):
            raise self.error(f"there must be {len(numbers)} counts of atoms", "Correct the line.")
        if not 1 <= sum(counts) <= MAX_ATOMS:
            raise self.error(f"the counts must add up to 1 to {MAX_ATOMS}", "Correct the line.")
        return [number for number, count in zip(numbers, counts, strict=True) for _ in range(count)]

    def labelled(self, counts: list[int]) -> list[str]:
        """Return the symbol for each of ``counts`` that all its sites have for a label, or none."""
        is_selective = "".join(self.lines[self.at : self.at + 1]).strip().lower().startswith("s")
        first = self.at + 1 + is_selective
        symbols = []
        for count in counts:
            rows = self.lines[first : first + count]
            labels = {tuple(row.split()[3:4]) for row in rows if len(rows) == count}
            label = labels.pop() if len(labels) == 1 else ()
            if not (label and label[0] in NUMBERS) or _FLAG.fullmatch(label[0]):
                return []
            symbols.append(label[0])
            first += count
        say(f"{self.source}: the elements are those of the labels of the sites.")
        return symbols

    def site(self, number: int) -> list[float]:
        """Return the coordinates of a site; labels before or behind its flags must agree."""
        values = self.numbers("a site", 3)
        words = re.split("[!#]", self.lines[self.at - 1], maxsplit=1)[0].split()[3:]
        # Three flags of selective dynamics, with a label before or behind them, or with none.
        for at in (0, len(words) - 3):
            if at >= 0 and len(words) >= 3 and all(map(_FLAG.fullmatch, words[at : at + 3])):
                words = words[:at] + words[at + 3 :]
                break
        for word in words:
            label = _LABEL.fullmatch(word[:20])
            if label and number not in _numbers_of(label[1], number):
                raise self.error("the site must be of the element that the counts say", "Reorder.")
        return values

    def check_end(self) -> None:
        """Raise if a second structure follows, as in files that were joined."""
        for at in range(self.at - 1, len(self.lines)):
            if "configuration=" in self.lines[at]:
                self.at = at + 1
                rule = "a POSCAR must hold one structure, others follow"
                raise self.error(rule, "Name it XDATCAR.")
        for at in range(self.at + 4, len(self.lines) - 1):
            if not self.lines[at].lstrip()[:1].isalpha():
                continue
            words, counts = self.lines[at].split(), self.lines[at + 1].split()
            before = [line.split() for line in self.lines[at - 4 : at]]
            is_cell = all(len(row) == 3 and all(map(NUMBER.fullmatch, row)) for row in before[:3])
            if is_cell and before[3] and all(map(_is_count, before[3])):  # of VASP 4
                self.at = at
                raise self.error(
                    "a POSCAR must hold one structure, a second ends its head here", "Split it."
                )
            are_counts = len(words) == len(counts) and all(map(_is_count, counts))
            if are_counts and all(map(_is_symbol, words)):
                self.at = at + 1
                raise self.error(
                    "a POSCAR must hold one structure, a second begins before", "Split the file."
                )


def _numbers_of(letters: str, number: int) -> set[int]:
    """Return the atomic numbers that a label may mean; ``number`` if it means no element.

    CA, in capitals, is calcium or a carbon atom; Ca is calcium.
    """
    names = {letters} if letters in NUMBERS else {letters.capitalize(), letters[0].upper()}
    return {NUMBERS[name] for name in names if name in NUMBERS} or {number}


def _is_symbol(word: str) -> bool:
    return re.split("[_/]", word)[0] in NUMBERS


def _is_count(word: str) -> bool:
    return re.fullmatch("[0-9]{1,9}", word) is not None
