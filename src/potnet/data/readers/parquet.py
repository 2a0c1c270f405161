"""Parquet, through pyarrow: batch by batch, structures as text or nested."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from potnet.data.readers.columns import Columns
from potnet.data.readers.progress import expect
from potnet.data.readers.rows import RawRecord, RawRecords, row_of_object, structure_keys, walled
from potnet.data.readers.text import FREE_BYTES, MAX_RATIO
from potnet.errors import DataError, PotNetError

BATCH = 256  # rows in memory at once
FREE_ROWS = 100_000  # that a file may have whatever its size
COUNT_SECONDS = 60  # for counting the values of a file

_COUNT = """
import sys
from pyarrow.parquet import ParquetFile

with ParquetFile(sys.argv[1]) as file:
    found = file.metadata
    groups = [found.row_group(k) for k in range(found.num_row_groups)]
counts = [sum(g.column(c).num_values for c in range(g.num_columns)) for g in groups]
sys.stdout.write(str(max(counts, default=0)))
"""


def read_parquet(path: Path) -> RawRecords:
    """Yield the rows of a table with a column of structures, or with lattice, species, ..."""
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            _check_size(file.metadata, path)
            texts = _texts(file.metadata.schema)
        with parquet.ParquetFile(path, read_dictionary=texts) as file:
            expect(file.metadata.num_rows)
            names = file.schema_arrow.names
            nested = bool(structure_keys(dict.fromkeys(names))) and not Columns.has_structures(
                names
            )
            columns = None if nested else Columns(names, path, _index_of(file.schema_arrow))
            number = 0
            for batch in file.iter_batches(BATCH):
                if sum(map(_text_bytes, batch.columns)) > FREE_BYTES:
                    raise DataError(
                        f"{path}: {BATCH} rows must hold at most {FREE_BYTES >> 20} MiB of text, "
                        f"got more after row {number}. Check where it is from."
                    )
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


def _index_of(schema: Any) -> str:
    """Return the name of the column in which pandas kept an index of numbers or names, if any."""
    from pyarrow import types

    kept = (schema.pandas_metadata or {}).get("index_columns", [])
    if len(kept) != 1 or kept[0] not in schema.names:
        return ""
    kind = schema.field(kept[0]).type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    is_name = types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)
    return kept[0] if is_name else ""


def _check_size(metadata: Any, path: Path) -> None:
    """Raise if a small file says that it holds very much: repeated values take no room in it."""
    size = path.stat().st_size
    if metadata.num_rows > max(FREE_ROWS, size):
        raise DataError(
            f"{path}: the file must have no more rows than bytes, got {metadata.num_rows} rows in "
            f"{size} bytes. Check where it is from."
        )
    leaves = (metadata.schema.column(k) for k in range(len(metadata.schema)))
    if not any(leaf.max_repetition_level for leaf in leaves):
        return  # without lists there are as many values as rows
    n_values = _most_values(path)
    if 8 * n_values > max(FREE_BYTES, MAX_RATIO * size):
        raise DataError(
            f"{path}: the file must not swell more than {MAX_RATIO} times when it is read, got "
            f"{n_values} values in {size} bytes. Check where it is from."
        )


def _most_values(path: Path) -> int:
    """Return the number of values in the largest group of rows.

    It is read by a process of its own: pyarrow ends the process, without an exception, where the
    statistics of a column are damaged.
    """
    command = [sys.executable, "-P", "-c", _COUNT, str(path)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COUNT_SECONDS,
            check=True,
        )
    except subprocess.SubprocessError as error:
        raise DataError(
            f"{path}: the file must be Parquet whose columns can be counted, got damaged ones. "
            "Write it again."
        ) from error
    return int(done.stdout)


def _texts(schema: Any) -> list[str]:
    """Return the columns of text, also inside lists, which stay as their file stores them."""
    leaves = (schema.column(k) for k in range(len(schema)))
    return [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]


def _text_bytes(array: Any) -> int:
    """Return how long the text of a column is when repeated values are written out."""
    import pyarrow as arrow
    from pyarrow import compute

    kind = array.type
    if arrow.types.is_dictionary(kind):
        lengths = compute.call_function("binary_length", [array.dictionary]).fill_null(0)
        lengths = lengths.to_numpy(zero_copy_only=False)
        places = array.indices.drop_null().to_numpy(zero_copy_only=False)
        return int(lengths[places].sum()) if len(places) else 0
    if arrow.types.is_list(kind) or arrow.types.is_large_list(kind):
        return _text_bytes(array.flatten())
    if arrow.types.is_struct(kind):
        return sum(map(_text_bytes, array.flatten()))
    return 0


def _record(record: dict[str, Any], place: str, number: int) -> RawRecord | PotNetError:
    return walled(lambda: row_of_object(record, place, number), place)


def _plain(cell: Any) -> Any:
    return float(cell) if isinstance(cell, Decimal) else cell
