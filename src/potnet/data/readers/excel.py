"""Excel workbooks (.xlsx), through openpyxl, which reads them without Excel and without macros."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from potnet.data.readers.columns import Columns
from potnet.data.readers.rows import RawRecord, RawRecords, walled
from potnet.data.readers.text import MAX_RATIO, UNREADABLE
from potnet.errors import DataError, PotNetError

MAX_BYTES = 256 * 1024**2  # of the unpacked workbook
MAX_GAP = 100_000  # empty rows in a row, which take no bytes in a file but time to pass


def read_excel(path: Path) -> RawRecords:
    """Yield the rows of the one sheet whose header names a column of structures."""
    try:
        import openpyxl
    except ImportError as error:
        raise DataError(
            f"{path}: Excel files need openpyxl, got none. Run pip install 'potnet[excel]', or "
            "save the sheet as CSV."
        ) from error
    try:
        _check_archive(path)
        stored = openpyxl.load_workbook(path, read_only=True, data_only=True)
        written = openpyxl.load_workbook(path, read_only=True)
        try:
            name = _only_sheet(stored, path)
            yield from _rows(stored[name], written[name], path)
        finally:
            stored.close()
            written.close()
    except (*UNREADABLE, ValueError, LookupError, AttributeError, TypeError, SyntaxError) as error:
        if isinstance(error, PotNetError):
            raise
        raise DataError(
            f"{path}: the file must be an Excel workbook, got {type(error).__name__}: "
            f"{str(error)[:200]}. Save the sheet as CSV."
        ) from error


def _check_archive(path: Path) -> None:
    """Raise if the workbook swells, or declares entities of its own, before it is parsed."""
    with zipfile.ZipFile(path) as archive:
        size = sum(info.file_size for info in archive.infolist())
        most = min(MAX_BYTES, max(MAX_BYTES // 8, MAX_RATIO * path.stat().st_size))
        if size > most:
            raise DataError(
                f"{path}: the workbook must unpack to at most {most} bytes, got {size}. "
                "Save the sheet as CSV."
            )
        for info in archive.infolist():
            if info.filename.endswith((".xml", ".rels")) and b"<!DOCTYPE" in archive.read(info):
                raise DataError(
                    f"{path}: the workbook must not define document types, got one in "
                    f"{info.filename}. Save the sheet as CSV."
                )


def _only_sheet(workbook: Any, path: Path) -> str:
    headers = {name: _header(workbook[name]) for name in workbook.sheetnames}
    found = [name for name, header in headers.items() if Columns.has_structures(header)]
    if len(found) > 1:
        raise DataError(
            f"{path}: one sheet must hold structures, got {', '.join(found)}. "
            "Save the one that is meant as CSV."
        )
    if not found:
        Columns(next(iter(headers.values()), []), path)  # refuses, and says which header
    return found[0]


def _header(sheet: Any) -> list[str]:
    first = next(iter(sheet.iter_rows(max_row=1, values_only=True)), ())
    names = ["" if name is None else str(name) for name in first]
    while names and not names[-1]:
        names.pop()
    return names


def _rows(stored: Any, written: Any, path: Path) -> RawRecords:
    columns, width = Columns(_header(stored), path), len(_header(stored))
    last = 1
    for number, (cells, sources) in enumerate(_pairs(stored, written, width), 2):
        place = f"{path.name}, row {number}"
        if number - last > MAX_GAP:
            raise DataError(
                f"{path}: rows must follow each other, got more than {MAX_GAP} empty ones after "
                f"row {last}. Delete the empty rows, or save the sheet as CSV."
            )
        if any(cell is not None for cell in cells):
            last = number
            row = partial(_row, columns, list(cells), list(sources), width, place, number)
            yield walled(row, place)


def _pairs(stored: Any, written: Any, width: int) -> Iterator[tuple[Sequence[Any], Sequence[Any]]]:
    """Yield the values and the formulas of each row, with one cell more than the header has."""
    settings = {"min_row": 2, "max_col": width + 1, "values_only": True}
    rows = (sheet.iter_rows(**settings) for sheet in (stored, written))
    return zip(*rows, strict=True)


def _row(
    columns: Columns, cells: list[Any], sources: list[Any], width: int, place: str, number: int
) -> RawRecord:
    while len(cells) > width and cells[-1] is None:  # formatted, but empty
        cells.pop()
    cells += [None] * (width - len(cells))
    for column, (cell, source) in enumerate(zip(cells, sources, strict=False), 1):
        if cell is None and isinstance(source, str) and source.startswith("="):
            raise DataError(
                f"{place}: a cell must hold a value, got the formula {source[:60]!r} without one "
                f"in column {column}. Open and save the workbook in Excel."
            )
    return columns.built(cells, place, number)
