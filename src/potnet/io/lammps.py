"""Dumps of LAMMPS that have a column of elements, frame by frame."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from potnet.crystal import MAX_ATOMS, SYMBOLS, Crystal, number_of
from potnet.crystal.claims import check_scaled, say
from potnet.errors import StructureError
from potnet.io.found import NUMBER, Found, attempt

# Å; of the styles of units that have a length. "metal" and "real" are what dumps are made with.
_UNITS = {"metal": 1.0, "real": 1.0, "electron": 0.529177210903}
_UNITS |= {"si": 1e10, "cgs": 1e8, "micro": 1e4, "nano": 10.0}
_COORDINATES = (("x", "y", "z"), ("xu", "yu", "zu"), ("xs", "ys", "zs"), ("xsu", "ysu", "zsu"))
_SINGLE = ("TIMESTEP", "TIME", "UNITS", "NUMBER OF ATOMS")  # items of one line
_CARBON = 6  # what LAMMPS writes for every type until ``dump_modify element`` says more


class _Frame(NamedTuple):
    """The text of a frame: what stands behind each item, the rows of box and atoms, the line."""

    items: dict[str, str]
    box: list[str]
    atoms: list[str]
    line: int
    reason: str = ""


def parse_lammps(lines: Iterable[str], source: str, id: str) -> Iterator[Found]:
    """Yield id and crystal of each frame of a dump.

    What is said, once for a file: that lengths are taken for Å where no unit is stated, and that
    all atoms are carbon, which is what LAMMPS writes unless it is told the elements.

    Args:
        lines: The text, line by line.
        source: Name of the file, for messages.
        id: Name of the crystal, with ``#`` and the number of the frame if there are several.
    """
    frames = _frames(iter(lines))
    frame, index, is_said = next(frames, None), 0, False
    if frame is None:
        yield id, StructureError(f"{source}: the file must hold a frame, got none. Check it.")
    while frame is not None:
        following = next(frames, None)
        is_only = index == 0 and following is None
        where = source if is_only else f"{source}, frame {index}"
        reader = _Reader(frame, where, f"{source}, line {frame.line}")
        found = attempt(id if is_only else f"{id}#{index}", where, reader.crystal)
        if isinstance(found[1], Crystal) and not is_said:
            is_said = True
            reader.say_what_was_assumed(found[1])
        yield found
        frame, index = following, index + 1


def _frames(lines: Iterator[str]) -> Iterator[_Frame]:
    """Yield the frames; one that lacks lines is the last, as nobody knows where another begins."""
    items: dict[str, str] = {}
    box: list[str] = []
    at = 0
    for line in lines:
        at += 1
        text = line.strip()
        if not text:
            continue
        if not text.startswith("ITEM:"):
            yield _Frame(items, box, [], at, text)
            return
        item = text.removeprefix("ITEM:").strip()
        if item in _SINGLE:
            items[item] = next(lines, "").strip()
            at += 1
        elif item.startswith("BOX BOUNDS"):
            items["BOX"], box = item.removeprefix("BOX BOUNDS"), list(islice(lines, 3))
            at += 3
        elif item.startswith("ATOMS"):
            items["ATOMS"] = item.removeprefix("ATOMS")
            count = items.get("NUMBER OF ATOMS", "")
            n_atoms = int(count) if re.fullmatch("[0-9]{1,9}", count) else 0
            if not 1 <= n_atoms <= MAX_ATOMS:
                yield _Frame(items, box, [], at, f"{count or 'no'} atoms")
                return
            atoms = list(islice(lines, n_atoms))
            got = f"{len(atoms)} lines for {n_atoms} atoms"
            yield _Frame(items, box, atoms, at, got if len(atoms) < n_atoms else "")
            at += len(atoms)
            items = {key: text for key, text in items.items() if key == "UNITS"}  # stated once


class _Reader:
    """One frame; ``where`` is the place of the frame, ``line`` that of its list of atoms."""

    def __init__(self, frame: _Frame, where: str, line: str) -> None:
        self.frame, self.where, self.line = frame, where, line
        self.columns = frame.items.get("ATOMS", "").split()

    def error(self, rule: str, got: object, advice: str) -> StructureError:
        return StructureError(f"{self.line}: {rule}, got {str(got)[:80]!r}. {advice}")

    def crystal(self) -> Crystal:
        if self.frame.reason:
            rule = f"a frame must have items, and a line for each of 1 to {MAX_ATOMS} atoms"
            raise self.error(rule, self.frame.reason.strip(), "Mend or remove the frame.")
        if "element" not in self.columns:
            raise self.error(
                "the dump must have a column `element`, as LAMMPS numbers the types of atoms",
                " ".join(self.columns),
                "Write it with `dump custom` and `dump_modify element`.",
            )
        rows = [line.split() for line in self.frame.atoms]
        short = next((row for row in rows if len(row) != len(self.columns)), None)
        if short is not None:
            rule = f"an atom must have {len(self.columns)} columns"
            raise self.error(rule, " ".join(short), "Correct the line.")
        cell, origin, pbc = self.box()
        positions, is_scaled = self.coordinates(rows)
        if is_scaled and "xs" in self.columns:  # xsu may be anywhere
            check_scaled(positions, cell * self.scale(), self.where)
        positions = positions @ cell if is_scaled else positions - origin
        scale = self.scale()
        return Crystal(self.numbers(rows), positions * scale, cell * scale, pbc, id=self.where)

    def scale(self) -> float:
        """Return the unit in Å, which is assumed where none is stated."""
        unit = self.frame.items.get("UNITS", "metal").lower()
        if unit not in _UNITS:
            rule = f"the units must be one of {', '.join(_UNITS)}"
            raise self.error(rule, unit, "Convert the lengths to Å.")
        return _UNITS[unit]

    def floats(self, words: list[str]) -> list[float]:
        if not all(map(NUMBER.fullmatch, words)):
            raise self.error("box and coordinates must be numbers", " ".join(words), "Mend them.")
        return [float(re.sub("[dD]", "e", word)) for word in words]

    def box(self) -> tuple[NDArray[np.float64], NDArray[np.float64], list[bool]]:
        """Return lattice vectors, origin and periodicity, in the unit of the file."""
        words = self.frame.items.get("BOX", "").split()
        style = next((s for s in ("abc origin", "xy xz yz") if " ".join(words).startswith(s)), "")
        pbc = words[len(style.split()) :]
        width = {"abc origin": 4, "xy xz yz": 3, "": 2}[style]
        rows = [self.floats(line.split()) for line in self.frame.box]
        if [len(row) for row in rows] != [width] * 3 or len(pbc) not in (0, 3):
            rule = f"`BOX BOUNDS` must have three lines of {width} numbers"
            raise self.error(rule, " ".join([*words, *self.frame.box]), "Correct them.")
        flags = [flag == "pp" for flag in pbc] or [True] * 3
        bounds = np.array(rows)
        if style == "abc origin":
            return bounds[:, :3], bounds[:, 3], flags
        xy, xz, yz = bounds[:, 2] if style else (0.0, 0.0, 0.0)
        low = bounds[:, 0] - [min(0, xy, xz, xy + xz), min(0, yz), 0]
        high = bounds[:, 1] - [max(0, xy, xz, xy + xz), max(0, yz), 0]
        lx, ly, lz = high - low
        return np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]]), low, flags

    def coordinates(self, rows: list[list[str]]) -> tuple[NDArray[np.float64], bool]:
        for names in _COORDINATES:
            if set(names) <= set(self.columns):
                at = [self.columns.index(name) for name in names]
                values = [self.floats([row[k] for k in at]) for row in rows]
                return np.array(values), "s" in names[0]
        rule = "the dump must have coordinates, such as x y z or xs ys zs"
        raise self.error(rule, " ".join(self.columns), "Add them.")

    def numbers(self, rows: list[list[str]]) -> list[int]:
        """Return the atomic numbers; one type must be one element."""
        at = self.columns.index("element")
        numbers = [number_of(row[at], self.line) for row in rows]
        if "type" not in self.columns:
            return numbers
        types = [row[self.columns.index("type")] for row in rows]
        pairs = set(zip(types, numbers, strict=True))
        if len(pairs) > len(set(types)):
            rule = "each type must be one element"
            got = ", ".join(f"{t} {SYMBOLS[n]}" for t, n in sorted(pairs)[:8])
            raise self.error(rule, got, "Correct the columns.")
        if len(pairs) > 1 and set(numbers) == {_CARBON}:
            raise self.error(
                "the elements must be stated",
                f"C for all of {len(pairs)} types, as LAMMPS writes if it is not told",
                "Use `dump_modify element`.",
            )
        return numbers

    def say_what_was_assumed(self, crystal: Crystal) -> None:
        if "UNITS" not in self.frame.items:
            say(f"{self.where}: no unit is stated, lengths are taken for Å (units metal or real).")
        if not self.frame.items["BOX"].split("xy xz yz")[-1].split("abc origin")[-1].strip():
            say(f"{self.where}: periodicity is not stated, taken for periodic in all directions.")
        if set(crystal.numbers.tolist()) == {_CARBON}:
            say(f"{self.where}: all atoms are C, which LAMMPS also writes if not told the element.")
