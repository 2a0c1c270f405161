"""Building a folder of Parquet files, by several processes, interrupted as often as need be."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from potnet.data.opening import Refused, rows_before_crystals, used
from potnet.data.origins import Source, name_of, origin_of
from potnet.data.parquet_folder import CHUNK, ParquetFolder, Writer
from potnet.data.readers.progress import ReadingProgress
from potnet.data.readers.rows import RawRecord
from potnet.data.record import Record
from potnet.data.shard import Part, Shard
from potnet.data.units import Units
from potnet.errors import DataError
from potnet.parallel import in_order

Rows = list[RawRecord | Refused]


def build(
    source: Source,
    output: str | os.PathLike[str],
    *,
    targets: Sequence[str] = (),
    units: Mapping[str, str] | None = None,
    source_units: Mapping[str, str] | None = None,
    workers: int = 1,
    progress: Callable[[int, int | None], None] | None = None,
) -> ParquetFolder:
    """Return the folder ``output`` with all of ``source`` in it.

    The source is read once, in constant memory. A build that was interrupted, or killed, goes on
    behind the last row that is on disk, and ends with the same bytes as one that was not; one
    that is complete is left alone; another source is appended. What cannot be used is listed in
    ``failures`` of the folder and in its ``_errors.csv``. None of this depends on ``workers``.

    Args:
        source: A dataset by name, a table or a folder, as :func:`potnet.data.open` reads it.
        output: Its folder; made if missing.
        targets: Columns that must be numbers; none takes every number for a target.
        units: Unit to keep a target in, as :func:`potnet.data.open` takes it.
        source_units: Unit of a target in the source, where the source does not say.
        workers: Processes that read crystals.
        progress: Called with the number of rows that have been read and with how many there are:
            exactly, or by the share of the file that was read; None where nothing tells.

    Raises:
        DataError: If the source is unknown or has changed since a build of it began, or another
            process is writing the folder.
    """
    origin = origin_of(source)
    if not ParquetFolder.exists(output):
        about = {"source": origin.source, "licence": origin.licence}
        ParquetFolder.create(output, name=name_of(source), **about)
    folder = ParquetFolder(output)
    asked = Units(units or {}, source_units or {}).of(origin.units)
    key = fingerprint(origin.path, [list(targets), *map(dict, (units or {}, source_units or {}))])
    convert = partial(_shard, wanted=list(targets), units=asked)
    with Writer(folder) as writer, ReadingProgress() as reading:
        _require_same(folder, key, origin.path)
        if folder.manifest["sources"].get(key, {}).get("complete"):
            return folder
        writer.note_source(key, path=str(origin.path), complete=False)
        done = writer.rows_done(key)
        rows = islice(reading.counted(rows_before_crystals(source, targets)), done, None)
        for shard in in_order(convert, _chunks(rows, key, done), workers):
            writer.add(shard)
            if progress is not None:
                progress(shard.about.parts[-1][2], reading.total)
        if progress is not None:
            progress(reading.rows, reading.rows)
        writer.flush()
        writer.note_source(key, path=str(origin.path), complete=True)
    return folder


def fingerprint(path: Path, settings: object) -> str:
    """Return a hash of what a build depends on: the bytes of a file, the files of a folder."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    if path.is_dir():
        for item in sorted(path.iterdir()):
            about = item.stat()
            digest.update(f"{item.name}\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
    else:
        with open(path, "rb") as file:
            while data := file.read(2**20):
                digest.update(data)
    return digest.hexdigest()


def _require_same(folder: ParquetFolder, key: str, path: Path) -> None:
    """Raise if another state of the same source is in the folder."""
    for other, about in folder.manifest["sources"].items():
        if other != key and about["path"] == str(path):
            raise DataError(
                f"{path}: a source, its targets and its units must stay as they were when the "
                f"build of {folder.path} began, got others. Build a new folder."
            )


def _chunks(
    rows: Iterator[RawRecord | Refused], key: str, done: int
) -> Iterator[tuple[Rows, Part]]:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk, (key, done, done + len(chunk))
        done += len(chunk)


def _shard(chunk: tuple[Rows, Part], *, wanted: list[str], units: Units) -> Shard:
    rows, part = chunk
    items = (used(row, wanted, units) for row in rows)
    return Shard.of((x if isinstance(x, Record) else x.failure for x in items), [part])
