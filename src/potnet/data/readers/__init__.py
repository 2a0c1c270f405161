"""The formats of datasets: one small reader each, and one way through all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from potnet.data.readers.ase import read_ase_db, read_extxyz
from potnet.data.readers.csv_table import read_csv
from potnet.data.readers.excel import read_excel
from potnet.data.readers.folder import TABLE, read_folder
from potnet.data.readers.json_tables import read_json, read_json_lines
from potnet.data.readers.parquet import read_parquet
from potnet.data.readers.rows import RawRecords
from potnet.data.readers.text import COMPRESSED, plain_name
from potnet.errors import DataError

FORMATS: dict[str, Callable[[Path], RawRecords]] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".txt": read_csv,  # as Excel names its Unicode text
    ".xlsx": read_excel,
    ".parquet": read_parquet,
    ".db": read_ase_db,
    ".extxyz": read_extxyz,
    ".xyz": read_extxyz,
}

_WHOLE = (read_excel, read_parquet, read_ase_db)  # compressed inside


def rows_of(path: Path) -> RawRecords:
    """Return the rows of a file or folder, one after the other; those that are bad as errors.

    Raises:
        DataError: If there is no reader for it.
    """
    if path.is_dir():
        return read_folder(path)
    if path.name == TABLE:
        return read_folder(path.parent)
    reader = FORMATS.get(Path(plain_name(path)).suffix.lower())
    if reader is None:
        raise DataError(
            f"{path}: the name of a dataset must end in {', '.join(FORMATS)} (or these with "
            f"{', '.join(COMPRESSED)}), got {path.name!r}. Convert it, or name a folder with an "
            f"{TABLE}."
        )
    if reader in _WHOLE and plain_name(path) != path.name:
        raise DataError(f"{path}: the file must be unpacked, got {path.suffix!r}. Unpack it.")
    return reader(path)


def stem_of(path: Path) -> str:
    """Return the name of a file without the suffixes of its format and compression."""
    name = plain_name(path)
    return Path(name).stem if Path(name).suffix.lower() in FORMATS else name


__all__ = ["FORMATS", "TABLE", "rows_of", "stem_of"]
