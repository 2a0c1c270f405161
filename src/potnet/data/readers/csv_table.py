"""CSV: one crystal per row, with its structure, or the path of its file, in a column."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from potnet.data.readers.rows import ID_COLUMNS, STRUCTURE_COLUMNS, Row, Rows, structure_of_cell
from potnet.data.readers.text import MAX_RECORD, lines_of, open_text
from potnet.errors import DataError, PotNetError


def read_csv(path: Path) -> Rows:
    """Yield the rows of a table whose header names a column of structures."""
    csv.field_size_limit(MAX_RECORD)
    with open_text(path) as file:
        reader = csv.reader(lines_of(file, path.name), skipinitialspace=True, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            columns = _Columns(header, path)
            for number, cells in enumerate(reader, 1):
                if any(cells):
                    yield columns.row(cells, f"{path.name}, row {number}", number)
        except csv.Error as error:
            raise DataError(
                f"{path.name}, line {reader.line_num}: must be CSV, got '{error}'. "
                "Quote cells that hold commas, quotes or line ends."
            ) from error


class _Columns:
    """Which column of a table is what."""

    def __init__(self, header: Sequence[str], path: Path) -> None:
        lower = [name.lower() for name in header]
        structure = next((lower.index(k) for k in STRUCTURE_COLUMNS if k in lower), None)
        if structure is None:
            raise DataError(
                f"{path}: the header must name a column of structures "
                f"({', '.join(STRUCTURE_COLUMNS)}), got {', '.join(header)[:200] or 'nothing'}. "
                "Rename it, or put id_prop.csv beside structure files."
            )
        self.header = header
        self.folder = path.parent
        self.structure = structure
        self.id = next((lower.index(k) for k in ID_COLUMNS if k in lower), None)
        self.split = lower.index("split") if "split" in lower else None

    def row(self, cells: Sequence[str], place: str, number: int) -> Row | PotNetError:
        if len(cells) != len(self.header):
            return DataError(
                f"{place}: must have {len(self.header)} cells, got {len(cells)}. "
                "Leave missing values empty."
            )
        taken = (self.structure, self.id, self.split)
        try:
            structure = structure_of_cell(cells[self.structure], self.folder)
        except DataError as error:
            return DataError(f"{place}: {error}")
        return Row(
            place,
            cells[self.id] if self.id is not None else number,
            structure,
            {name: cells[k] for k, name in enumerate(self.header) if k not in taken},
            cells[self.split] if self.split is not None else None,
        )
