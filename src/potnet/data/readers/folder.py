"""A folder of structure files, with their targets in ``id_prop.csv`` (CGCNN and ALIGNN) or none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from potnet.data.readers.csv_table import csv_cells
from potnet.data.readers.rows import RawRecord, RawRecords, number, path_within
from potnet.data.readers.text import open_text
from potnet.data.units import unit_in
from potnet.errors import DataError, Failure, StructureError

SUFFIXES = (".cif", ".vasp", ".poscar", ".xyz", ".extxyz", ".json", ".pdb")
TABLE = "id_prop.csv"
_NAMES = re.compile(r"(.*[^a-z])?(id|ids|mpid|jid|name|file|filename|path|cif|structure)", re.I)


def read_folder(folder: Path) -> RawRecords:
    """Yield the rows of ``id_prop.csv``: id or file name, then targets; maybe a header."""
    path = folder / TABLE
    if not path.is_file():
        yield from _files(folder)
        return
    with open_text(path) as file:
        yield from _rows(csv_cells(file, path), folder)


def _files(folder: Path) -> RawRecords:
    """Yield the structure files of a folder without table; they have no targets."""
    from potnet.io import scan

    found = False
    for item in scan([folder]):
        if isinstance(item, Failure):
            nothing = not found and item.id == str(folder)
            if nothing:
                raise DataError(
                    f"{folder}: a dataset folder must hold {TABLE} or structure files, got none. "
                    "Write one line `name,target` per structure file, or give a table."
                )
            yield StructureError(item.reason)
        else:
            found = True
            yield RawRecord(f"{folder.name}/{item.id}", item.id, item)


def _rows(lines: Iterator[tuple[int, list[str]]], folder: Path) -> RawRecords:
    first = next(lines, None)
    if first is None:
        raise DataError(f"{folder / TABLE}: must hold at least one line, got none. Fill it in.")
    cells = [cell.strip() for cell in first[1]]
    words = [cell for cell in cells[1:] if number(cell) is None]
    if len(words) == len(cells) - 1 and _NAMES.fullmatch(cells[0]) and cells[1:]:
        names = cells[1:]
    else:
        width = len(cells)
        names = ["target"] if width == 2 else [f"target{k}" for k in range(1, width)]
        lines = chain([first], lines)
    if len(set(names)) != len(names) or "" in names:
        raise DataError(
            f"{folder / TABLE}: the names of the header must not repeat or be empty, got "
            f"{', '.join(map(repr, names))}. Name each target."
        )
    units = {name: unit for name in names if (unit := unit_in(name))}
    for line, cells in lines:
        place = f"{TABLE}, line {line}"
        if len(cells) not in (1, len(names) + 1):  # An id alone is a crystal without targets.
            yield DataError(
                f"{place}: must have {len(names) + 1} cells, got {len(cells)}. "
                "Leave missing values empty."
            )
            continue
        values = dict(zip(names, cells[1:], strict=False))
        split = values.pop("split", None)
        try:
            structure = _find(folder, cells[0]) or folder / cells[0].strip()
        except DataError as error:
            yield DataError(f"{place}: {error}")
            continue
        yield RawRecord(place, cells[0], structure, values, split, units=units)


def _find(folder: Path, name: str) -> Path | None:
    """Return the structure file of a line, named in full (ALIGNN) or by its id (CGCNN).

    Raises:
        DataError: If the name leads out of the folder, or several files have it.
    """
    path = path_within(folder, name)
    if path.is_file():
        return path
    candidates = [path.with_name(path.name + suffix) for suffix in SUFFIXES]
    found = [path for path in candidates if path.is_file()]
    if len(found) > 1:
        raise DataError(
            f"{name}: one structure file must bear the name, got {found[0].name} and "
            f"{found[1].name}. Give the name in full."
        )
    return found[0] if found else None
