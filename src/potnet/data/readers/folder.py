"""A folder of structure files with their targets in ``id_prop.csv`` (CGCNN and ALIGNN)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from potnet.data.readers.rows import Row, Rows, number, path_within
from potnet.data.readers.text import lines_of, open_text
from potnet.errors import DataError

SUFFIXES = (".cif", ".vasp", ".poscar", ".xyz", ".extxyz", ".json", ".pdb")
TABLE = "id_prop.csv"


def read_folder(folder: Path) -> Rows:
    """Yield the rows of ``id_prop.csv``: id or file name, then targets; maybe a header."""
    path = folder / TABLE
    if not path.is_file():
        raise DataError(
            f"{folder}: a dataset folder must hold {TABLE}, got none. Write one line "
            "`name,target` per structure file, or give a table."
        )
    with open_text(path) as file:
        reader = csv.reader(lines_of(file, path.name), skipinitialspace=True, strict=True)
        try:
            yield from _rows((row for row in reader if any(row)), folder)
        except csv.Error as error:
            raise DataError(
                f"{path}, line {reader.line_num}: must be CSV, got '{error}'. "
                "Quote cells that hold commas, quotes or line ends."
            ) from error


def _rows(lines: Iterator[list[str]], folder: Path) -> Rows:
    first = next(lines, None)
    if first is None:
        raise DataError(f"{folder / TABLE}: must hold at least one line, got none. Fill it in.")
    is_header = not _find(folder, first[0]) and all(number(cell) is None for cell in first[1:])
    if is_header and len(first) > 1:
        names, numbered = [name.strip() for name in first[1:]], enumerate(lines, 2)
    else:
        width = len(first)
        names = ["target"] if width == 2 else [f"target{k}" for k in range(1, width)]
        numbered = enumerate(chain([first], lines), 1)
    for line, cells in numbered:
        place = f"{TABLE}, row {line}"
        if len(cells) not in (1, len(names) + 1):  # An id alone is a crystal without targets.
            yield DataError(
                f"{place}: must have {len(names) + 1} cells, got {len(cells)}. "
                "Leave missing values empty."
            )
            continue
        values = dict(zip(names, cells[1:], strict=False))
        split = values.pop("split", None)
        try:
            structure = _find(folder, cells[0]) or path_within(folder, cells[0])
        except DataError as error:
            yield DataError(f"{place}: {error}")
            continue
        yield Row(place, cells[0], structure, values, split)


def _find(folder: Path, name: str) -> Path | None:
    """Return the structure file of a line, named in full (ALIGNN) or by its id (CGCNN)."""
    try:
        path = path_within(folder, name)
    except DataError:
        return None
    candidates = (path.with_name(path.name + suffix) for suffix in ("", *SUFFIXES))
    return next((path for path in candidates if path.is_file()), None)
