"""Crystals in a Parquet file, one a row: the columns that ``potnet datasets build`` writes.

``numbers``, ``positions`` (Å, one triple an atom) and ``cell`` (Å, lattice vectors as rows) are
needed; ``id`` and ``pbc`` (periodic unless it says otherwise) are taken where they are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from potnet.crystal import Crystal
from potnet.errors import StructureError
from potnet.io.found import Found, attempt

NEEDED = ("numbers", "positions", "cell")
BATCH = 256  # rows in memory at once
FREE_ROWS = 100_000  # that a file may have whatever its size


def rows_of(path: Path) -> Iterator[tuple[dict[str, Any], int, float]]:
    """Yield the columns of each row, its number from 1 on, and the share of rows that are read.

    Raises:
        StructureError: If it is no Parquet file, or lacks a column.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names, n_rows = file.schema_arrow.names, file.metadata.num_rows
            _check(names, n_rows, path)
            columns = [name for name in ("id", *NEEDED, "pbc") if name in names]
            number = 0
            for batch in file.iter_batches(BATCH, columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield row, number, number / n_rows
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        first = str(error).strip().splitlines() or [""]
        raise StructureError(
            f"{path.name}: the file must be Parquet, got {type(error).__name__}: "
            f"{first[0][:200]}. Write it again."
        ) from error


def read_row(row: dict[str, Any], number: int, source: str, id: str) -> Iterator[Found]:
    """Yield the crystal of a row, or why there is none.

    Args:
        row: Its columns.
        number: Which row it is.
        source: The file, for messages.
        id: Name of the file, for a crystal without one.
    """
    name = str(row.get("id") or f"{id}#{number}")

    def build() -> Crystal:
        absent = [column for column in NEEDED if row[column] is None]
        if absent:
            raise StructureError(
                f"{source}, row {number}: `{absent[0]}` must be there, got none. Fill it in."
            )
        pbc = True if row.get("pbc") is None else row["pbc"]
        try:
            return Crystal(row["numbers"], row["positions"], row["cell"], pbc, id=name)
        except StructureError as error:
            raise StructureError(f"{source}, row {number}: {error}") from error

    yield attempt(name, f"{source}, row {number}", build)


def _check(names: list[str], n_rows: int, path: Path) -> None:
    if absent := [name for name in NEEDED if name not in names]:
        raise StructureError(
            f"{path.name}: a table of crystals must have the columns {', '.join(NEEDED)}, got "
            f"none called {absent[0]!r}. Build one with potnet datasets build."
        )
    size = path.stat().st_size
    if n_rows > max(FREE_ROWS, size):
        raise StructureError(
            f"{path.name}: the file must have no more rows than bytes, got {n_rows} rows in "
            f"{size} bytes. Check where it is from."
        )
