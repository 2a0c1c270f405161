"""Tables as CSV, JSON, Parquet and Excel files, written record by record."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Protocol

from potnet.errors import ConfigError
from potnet.files import atomic_write
from potnet.text import csv_cell, printable

_NEEDS = {".parquet": ("pyarrow", "parquet"), ".xlsx": ("openpyxl", "excel")}
_GROUP = 10_000  # rows of Parquet that are written together


class Table(Protocol):
    """A file that takes one record after the other; all have the same keys."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record."""
        ...

    def close(self) -> None:
        """Write what is left, and what ends the file."""
        ...


def check_format(path: str | os.PathLike[str]) -> str:
    """Return the ending of a file that can be written.

    Raises:
        ConfigError: If the name ends otherwise, or the library for the format is missing.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _TABLES:
        raise ConfigError(
            f"output: the name must end in {', '.join(_TABLES)}, got {Path(path).name!r}. "
            "Choose one of these formats."
        )
    library, extra = _NEEDS.get(suffix, ("json", ""))
    if find_spec(library) is None:
        raise ConfigError(
            f"output: {library} must be installed to write {suffix}, got none. "
            f"pip install 'potnet[{extra}]'."
        )
    return suffix


@contextmanager
def open_table(path: str | os.PathLike[str], columns: Sequence[str] = ()) -> Iterator[Table]:
    """Open a table that takes its place under ``path`` when it is complete.

    Args:
        path: The file; its ending is the format.
        columns: Keys of the records. If they are not given, the first record says them.

    Raises:
        ConfigError: As :func:`check_format`.
    """
    kind = _TABLES[check_format(path)]
    with atomic_write(path, kind.mode) as file:
        table = kind(file, columns)
        yield table
        table.close()


def text_of(value: Any, digits: int = 7) -> str:
    """Return a value as tables of text hold it."""
    if value is None:
        return ""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


class CsvTable:
    """A table as CSV, into any text stream."""

    mode = "w"

    def __init__(self, file: IO[str], columns: Sequence[str]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._keys: list[str] = []
        if columns:
            self._begin(columns)

    def _begin(self, keys: Iterable[str]) -> None:
        self._keys = list(keys)
        self._writer.writerow(self._keys)

    def write(self, record: Mapping[str, Any]) -> None:
        if not self._keys:
            self._begin(record)
        self._writer.writerow(
            [csv_cell(v) if isinstance(v := record[key], str) else text_of(v) for key in self._keys]
        )

    def close(self) -> None:
        pass


class _Json:
    mode = "w"

    def __init__(self, file: IO[str], columns: Sequence[str]) -> None:
        self._file, self._lead = file, "[\n"

    def write(self, record: Mapping[str, Any]) -> None:
        self._file.write(self._lead + json.dumps(record, ensure_ascii=False, allow_nan=False))
        self._lead = ",\n"

    def close(self) -> None:
        self._file.write("[]\n" if self._lead == "[\n" else "\n]\n")


class _Parquet:
    mode = "wb"

    def __init__(self, file: IO[bytes], columns: Sequence[str]) -> None:
        self._file, self._keys, self._writer = file, list(columns), None
        self._records: list[Mapping[str, Any]] = []

    def write(self, record: Mapping[str, Any]) -> None:
        self._records.append(record)
        if len(self._records) == _GROUP:
            self._flush()

    def close(self) -> None:
        if self._records or self._writer is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        import pyarrow
        from pyarrow import parquet

        if self._writer is None:
            keys = self._keys or (list(self._records[0]) if self._records else [])
            self._writer = parquet.ParquetWriter(self._file, arrow_schema(keys))
        self._writer.write_table(pyarrow.Table.from_pylist(self._records, self._writer.schema))
        self._records = []


class _Excel:
    mode = "wb"

    def __init__(self, file: IO[bytes], columns: Sequence[str]) -> None:
        from openpyxl import Workbook

        self._file, self._book = file, Workbook(write_only=True)
        self._sheet = self._book.create_sheet("potnet")
        self._keys: list[str] = []
        if columns:
            self._begin(columns)

    def _begin(self, keys: Iterable[str]) -> None:
        self._keys = list(keys)
        self._sheet.append(self._keys)

    def write(self, record: Mapping[str, Any]) -> None:
        from openpyxl.cell import WriteOnlyCell

        if not self._keys:
            self._begin(record)
        cells = []
        for key in self._keys:
            value = record[key]
            is_text = isinstance(value, str)
            cell = WriteOnlyCell(self._sheet, value=printable(value) if is_text else value)
            if is_text:
                cell.data_type = "s"  # a text that begins with = is no formula
            cells.append(cell)
        self._sheet.append(cells)

    def close(self) -> None:
        self._book.save(self._file)


_TABLES: dict[str, Any] = {".csv": CsvTable, ".json": _Json, ".parquet": _Parquet, ".xlsx": _Excel}
_TEXTS = {"id", "formula", "space_group", "property", "unit", "level_of_theory", "model"}
_TEXTS |= {"flags", "note", "notes", "kind", "name", "channel", "distance", "failure"}


def arrow_schema(keys: Iterable[str]) -> Any:
    """Return the columns of a table of Arrow."""
    import pyarrow

    return pyarrow.schema([(key, _kind(key)) for key in keys])


def _kind(key: str) -> Any:
    import pyarrow

    if key in _TEXTS:
        return pyarrow.string()
    return pyarrow.int64() if key == "n_atoms" else pyarrow.float64()
