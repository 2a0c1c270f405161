"""Which column of a table with a header is what; CSV, Excel and Parquet share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from potnet.data.readers.rows import (
    ID_COLUMNS,
    STRUCTURE_COLUMNS,
    RawRecord,
    structure_of_cell,
    walled,
)
from potnet.data.units import unit_in
from potnet.errors import DataError, PotNetError

EXCEL_CELL = 32_767  # characters, to which Excel cuts what is longer without a word


class Columns:
    """The columns of a table.

    Args:
        header: Names; an empty one at the front is the index that pandas writes, empty ones at the
            end have no content.
        path: The table, in whose folder structure files lie.
        index: The name of the column that was the index of a table of pandas, if that is known.

    Raises:
        DataError: If no column holds structures, or two have the same name.
    """

    def __init__(self, header: Sequence[str], path: Path, index: str = "") -> None:
        self._header = [name.strip() for name in header]
        self._folder = path.parent
        units = {name: unit_in(name) for name in self._header}
        self._units = {name: unit for name, unit in units.items() if unit}
        lower = [name.lower() for name in self._header]
        structure = next((lower.index(k) for k in STRUCTURE_COLUMNS if k in lower), None)
        if structure is None:
            raise DataError(
                f"{path}: the header must name a column of structures "
                f"({', '.join(STRUCTURE_COLUMNS)}), got {', '.join(header)[:200] or 'nothing'}. "
                "Rename it, or put id_prop.csv beside structure files."
            )
        seen: set[str] = set()
        twice = next((name for name in lower if name and (name in seen or seen.add(name))), None)
        if twice is not None:
            raise DataError(
                f"{path}: the names of the header must not repeat, got {twice[:60]!r} twice. "
                "Rename or remove a column."
            )
        place = next((k for k, name in enumerate(self._header) if name and name == index), None)
        place = 0 if place is None and not lower[0] else place
        self._structure = structure
        self._id = next((lower.index(k) for k in ID_COLUMNS if k in lower), place)
        self._split = lower.index("split") if "split" in lower else None
        taken = {structure, self._id, self._split, place}
        others = {k for k, name in enumerate(lower) if name in STRUCTURE_COLUMNS + ID_COLUMNS}
        self._info = sorted(others - taken)
        self._values = [k for k in range(len(lower)) if k not in taken | others]

    @staticmethod
    def has_structures(header: Sequence[str]) -> bool:
        """Return whether a header names a column of structures."""
        return any(name.strip().lower() in STRUCTURE_COLUMNS for name in header)

    def row(self, cells: Sequence[Any], place: str, number: int) -> RawRecord | PotNetError:
        """Return the row of ``cells``, or the reason why there is none."""
        return walled(lambda: self.built(cells, place, number), place)

    def built(self, cells: Sequence[Any], place: str, number: int) -> RawRecord:
        """Return the row of ``cells``.

        Raises:
            DataError: If there is none in them.
        """
        header = self._header
        if len(cells) != len(header):
            raise DataError(
                f"{place}: must have {len(header)} cells, got {len(cells)}. "
                "Leave missing values empty."
            )
        nameless = next((k for k in self._values if not header[k] and cells[k]), None)
        if nameless is not None:
            raise DataError(
                f"{place}: a cell must stand under a name, got {str(cells[nameless])[:60]!r} in "
                f"column {nameless + 1}. Name the column in the header."
            )
        structure = cells[self._structure]
        if isinstance(structure, bytes):
            structure = structure.decode("utf-8", errors="replace")
        if isinstance(structure, str):
            if len(structure) == EXCEL_CELL:
                raise DataError(
                    f"{place}: the structure must be whole, got the {EXCEL_CELL} characters to "
                    "which Excel cuts a cell. Put structures into files and their paths here."
                )
            try:
                structure = structure_of_cell(structure, self._folder)
            except DataError as error:
                raise DataError(f"{place}: {error}") from None
        values = {header[k]: cells[k] for k in self._values if header[k]}
        nested = [name for name in ("targets", "info") if isinstance(values.get(name), Mapping)]
        for name in nested:
            values |= values.pop(name)
        return RawRecord(
            place,
            number if self._id is None else cells[self._id],
            structure,
            values,
            None if self._split is None else cells[self._split],
            {header[k]: cells[k] for k in self._info},
            self._units,
        )
