"""Cell files of CASTEP (.cell): all atoms of the cell, with units."""

from __future__ import annotations

import re

import numpy as np

from potnet.crystal import MAX_ATOMS, SYMBOLS, Crystal, number_of
from potnet.crystal.claims import check_scaled
from potnet.errors import StructureError
from potnet.io.asymmetric import cell_of
from potnet.io.found import NUMBER, lines_of

# Å; a0 is CASTEP's own name of the Bohr radius (CODATA 2018).
_UNITS = {"ang": 1.0, "bohr": 0.529177210903, "a0": 0.529177210903}
_UNITS |= {"nm": 10.0, "pm": 0.01, "cm": 1e8, "m": 1e10}
_BLOCK = re.compile(r"%(block|endblock)\s+(\w+)", re.I)


def parse_castep_cell(text: str, source: str) -> Crystal:
    """Return the crystal of a CASTEP cell file; spins and constraints are not kept.

    Raises:
        StructureError: If cell or positions are not given, given twice, mixed, or in another form.
    """
    blocks = _blocks(text, source)
    cell = _cell(blocks, source)
    (name,) = _one(blocks, ("positions_frac", "positions_abs"), source)
    rows, scale = _scaled(blocks[name], source)
    if not 1 <= len(rows) <= MAX_ATOMS:
        raise _wrong(source, f"`{name}` must list 1 to {MAX_ATOMS} atoms", len(rows))
    numbers, places = [], []
    for row in rows:
        if len(row) < 4 or not all(map(NUMBER.fullmatch, row[1:4])):
            raise _wrong(source, "an atom must be a symbol and three numbers", " ".join(row))
        if any("mixture" in word.lower() for word in row[4:]):
            raise _wrong(source, "a site must hold one element", " ".join(row))
        symbol = row[0].partition(":")[0]
        is_number = symbol.isdigit() and 1 <= int(symbol[:4]) < len(SYMBOLS)
        numbers.append(int(symbol) if is_number else number_of(symbol, source))
        places.append([float(re.sub("[dD]", "e", word)) for word in row[1:4]])
    positions = np.array(places)
    if name == "positions_frac":
        check_scaled(positions, cell, source)
    positions = positions @ cell if name == "positions_frac" else positions * scale
    return Crystal(numbers, positions, cell, id=source)


def _blocks(text: str, source: str) -> dict[str, list[list[str]]]:
    """Return the words of the lines of each block, without comments."""
    blocks: dict[str, list[list[str]]] = {}
    name = ""
    for line in lines_of(text):
        words = re.split("[!#;]", line, maxsplit=1)[0].split()
        mark = _BLOCK.match(" ".join(words[:2]))
        if mark:
            name = mark[2].lower() if mark[1].lower() == "block" else ""
            if name in blocks:
                raise _wrong(source, "a block must be given once", f"{name} twice")
            blocks |= {name: []} if name else {}
        elif name and words:
            blocks[name].append(words)
    return blocks


def _cell(blocks: dict[str, list[list[str]]], source: str) -> np.ndarray:
    (name,) = _one(blocks, ("lattice_cart", "lattice_abc"), source)
    rows, scale = _scaled(blocks[name], source)
    n_rows = 3 if name == "lattice_cart" else 2
    words = [word for row in rows for word in row[:3]]
    if len(rows) != n_rows or len(words) != 3 * n_rows or not all(map(NUMBER.fullmatch, words)):
        raise _wrong(source, f"`{name}` must be {n_rows} rows of three numbers", " ".join(words))
    values = [float(re.sub("[dD]", "e", word)) for word in words]
    if name == "lattice_cart":
        return np.array(values).reshape(3, 3) * scale
    return cell_of([*(scale * value for value in values[:3]), *values[3:]], source)


def _scaled(rows: list[list[str]], source: str) -> tuple[list[list[str]], float]:
    """Return the rows behind the unit that the first may be, and that unit in Å."""
    if not rows or len(rows[0]) != 1:
        return rows, 1.0
    unit = rows[0][0].lower()
    if unit not in _UNITS:
        raise _wrong(source, f"the unit must be one of {', '.join(_UNITS)}", unit)
    return rows[1:], _UNITS[unit]


def _one(blocks: dict[str, list[list[str]]], names: tuple[str, str], source: str) -> list[str]:
    found = [name for name in names if name in blocks]
    if len(found) != 1:
        rule = f"one block of {' or '.join(names)} must be given"
        raise _wrong(source, rule, "both" if found else "neither")
    return found


def _wrong(source: str, rule: str, got: object) -> StructureError:
    return StructureError(f"{source}: {rule}, got {str(got)[:80]!r}. Correct the file.")
