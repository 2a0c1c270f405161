"""CSV: one crystal per row, with its structure, or the path of its file, in a column."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TextIO

from potnet.data.readers.columns import Columns
from potnet.data.readers.rows import RawRecords
from potnet.data.readers.text import MAX_RECORD, lines_of, open_text
from potnet.errors import DataError

_SEPARATORS = (",", ";", "\t", "|")
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}\.\d{3}\s*", re.ASCII)
_DECIMAL = re.compile(r"\s*[+-]?\d*([.,])\d+(?:[eE][+-]?\d+)?\s*", re.ASCII)


def read_csv(path: Path) -> RawRecords:
    """Yield the rows of a table whose header names a column of structures.

    Excel separates by semicolons where the comma is the decimal mark: there, a column of numbers
    may have either mark, but not both.
    """
    with open_text(path) as file:
        cells = csv_cells(file, path)
        header = next(cells, (0, []))[1]
        columns = Columns(header, path)
        for number, row in enumerate(cells, 1):
            yield columns.row(row[1], f"{path.name}, row {number}", number)


def csv_cells(file: TextIO, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of each row that is not empty, whatever separates them."""
    csv.field_size_limit(MAX_RECORD)
    lines = lines_of(file, path.name)
    first = next(lines, "")
    hint = re.fullmatch(r"sep=(.)\s*", first)  # which Excel writes and reads
    first = next(lines, "") if hint else first
    separator = hint[1] if hint else _separator(first)
    marks: dict[int, str] = {}
    reader = csv.reader(
        chain([first], lines), delimiter=separator, skipinitialspace=separator != "\t", strict=True
    )
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                where = f"{path.name}, line {reader.line_num + bool(hint)}"
                yield reader.line_num, _with_points(cells, separator, marks, where)
    except csv.Error as error:
        raise DataError(
            f"{path.name}, line {reader.line_num + bool(hint)}: must be CSV, got '{error}'. "
            "Quote cells that hold commas, quotes or line ends."
        ) from error


def _separator(line: str) -> str:
    """Return what separates the cells of the first line."""

    def merit(separator: str) -> tuple[bool, int]:
        try:
            cells = next(csv.reader([line], delimiter=separator), [])
        except csv.Error:
            cells = []
        return Columns.has_structures(cells), len(cells)

    return max(_SEPARATORS, key=merit)


def _with_points(
    cells: Sequence[str], separator: str, marks: dict[int, str], where: str
) -> list[str]:
    """Return the cells with decimal points for decimal commas.

    Args:
        cells: The cells of a row.
        separator: What separates them; where it is a comma, no number has one.
        marks: The decimal mark of each column so far.
        where: File and line, for messages.
    """
    if separator == ",":
        return list(cells)
    found = list(cells)
    matches = [(column, cell, _DECIMAL.fullmatch(cell)) for column, cell in enumerate(cells)]
    numbers = [(column, cell, match[1]) for column, cell, match in matches if match]
    has_commas = any(mark == "," for *_, mark in numbers) or "," in marks.values()
    for column, cell, mark in numbers:
        if column not in marks and has_commas and _THOUSANDS.fullmatch(cell):
            raise DataError(
                f"{where}: a number must not have a point where others have decimal commas, got "
                f"{cell.strip()!r}, which may be {cell.strip().replace('.', '')}. Write all "
                "numbers alike, without separators of thousands."
            )
        if marks.setdefault(column, mark) != mark:
            raise DataError(
                f"{where}: a column must have one decimal mark, got {cell.strip()!r} below numbers "
                f"with {marks[column]!r}. Write all numbers alike, without separators of thousands."
            )
        found[column] = cell.replace(",", ".")
    return found
