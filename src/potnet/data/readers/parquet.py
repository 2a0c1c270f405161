"""Parquet, through pyarrow: batch by batch, structures as text or nested."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from potnet.data.readers.columns import Columns
from potnet.data.readers.progress import expect
from potnet.data.readers.rows import Row, Rows, row_of_object, structure_keys
from potnet.errors import DataError, PotNetError

BATCH = 256  # rows in memory at once


def read_parquet(path: Path) -> Rows:
    """Yield the rows of a table with a column of structures, or with lattice, species, ..."""
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            expect(file.metadata.num_rows)
            names = file.schema_arrow.names
            nested = bool(structure_keys(dict.fromkeys(names))) and not Columns.has_structures(
                names
            )
            columns = None if nested else Columns(names, path)
            number = 0
            for batch in file.iter_batches(BATCH):
                for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    number += 1
                    place = f"{path.name}, row {number}"
                    plain = [_plain(cell) for cell in cells]
                    if columns is not None:
                        yield columns.row(plain, place, number)
                    else:
                        yield _record(dict(zip(names, plain, strict=True)), place, number)
    except (arrow.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        first = str(error).strip().splitlines() or [""]
        raise DataError(
            f"{path}: the file must be Parquet, got {type(error).__name__}: {first[0][:200]}. "
            "Write it again."
        ) from error


def _record(record: dict[str, Any], place: str, number: int) -> Row | PotNetError:
    try:
        return row_of_object(record, place, number)
    except PotNetError as error:
        return error


def _plain(cell: Any) -> Any:
    return float(cell) if isinstance(cell, Decimal) else cell
