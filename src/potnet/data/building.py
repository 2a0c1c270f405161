"""Building a store from a source, by several processes, as often interrupted as need be."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TypeVar

from potnet.data.block import Block
from potnet.data.opening import Refused, rows_before_crystals, used
from potnet.data.origins import Source, name_of, origin_of
from potnet.data.readers.progress import ReadingProgress
from potnet.data.readers.rows import Row
from potnet.data.record import Record
from potnet.data.store import CHUNK, Store, Writer
from potnet.data.units import Units
from potnet.errors import DataError

Task = TypeVar("Task")
Result = TypeVar("Result")
Rows = list[Row | Refused]


def build(
    source: Source,
    output: str | os.PathLike[str],
    *,
    targets: Sequence[str] = (),
    units: Mapping[str, str] | None = None,
    source_units: Mapping[str, str] | None = None,
    workers: int = 1,
    progress: Callable[[int, int | None], None] | None = None,
) -> Store:
    """Return the store ``output`` with all of ``source`` in it.

    The source is read once, in constant memory. A build that was interrupted, or killed, goes on
    behind the last row that is on disk, and ends with the same bytes as one that was not; one
    that is complete is left alone; another source is appended. What cannot be used is listed in
    ``failures`` of the store and in its ``errors.csv``. None of this depends on ``workers``.

    Args:
        source: A dataset by name, a table or a folder, as :func:`potnet.data.open` reads it.
        output: Folder of the store; made if missing.
        targets: Columns that must be numbers; none takes every number for a target.
        units: Unit to store a target in, as :func:`potnet.data.open` takes it.
        source_units: Unit of a target in the source, where the source does not say.
        workers: Processes that read crystals.
        progress: Called with the number of rows that have been read and with how many there are:
            exactly, or by the share of the file that was read; None where nothing tells.

    Raises:
        DataError: If the source is unknown or has changed since a build of it began, or another
            process is writing the store.
    """
    origin = origin_of(source)
    if not Store.exists(output):
        about = {"source": origin.source, "licence": origin.licence}
        Store.create(output, name=name_of(source), **about)
    store = Store(output)
    asked = Units(units or {}, source_units or {}).of(origin.units)
    key = fingerprint(origin.path, [list(targets), *map(dict, (units or {}, source_units or {}))])
    convert = partial(_block, wanted=list(targets), units=asked)
    with Writer(store) as writer, ReadingProgress() as gauge:
        _require_same(store, key, origin.path)
        if store.manifest["sources"].get(key, {}).get("complete"):
            return store
        writer.note_source(key, path=str(origin.path), complete=False)
        done = writer.rows_done(key)
        rows = islice(gauge.counted(rows_before_crystals(source, targets)), done, None)
        for block in in_order(convert, _chunks(rows, key, done), workers):
            writer.add(block)
            if progress is not None:
                progress(block.parts[-1][2], gauge.total)
        if progress is not None:
            progress(gauge.rows, gauge.rows)
        writer.flush()
        writer.note_source(key, path=str(origin.path), complete=True)
    return store


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


def _require_same(store: Store, key: str, path: Path) -> None:
    """Raise if another state of the same source is in the store."""
    for other, about in store.manifest["sources"].items():
        if other != key and about["path"] == str(path):
            raise DataError(
                f"{path}: a source, its targets and its units must stay as they were when the "
                f"build of {store.path} began, got others. Build a new store."
            )


def _chunks(
    rows: Iterator[Row | Refused], key: str, done: int
) -> Iterator[tuple[Rows, tuple[str, int, int]]]:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk, (key, done, done + len(chunk))
        done += len(chunk)


def _block(task: tuple[Rows, tuple[str, int, int]], *, wanted: list[str], units: Units) -> Block:
    rows, part = task
    items = (used(row, wanted, units) for row in rows)
    return Block.of((x if isinstance(x, Record) else x.failure for x in items), [part])


def in_order(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Iterator[Result]:
    """Yield ``function`` of each task in order, from ``workers`` processes.

    Few tasks are drawn ahead of the results that are taken, so that neither piles up.
    """
    if workers == 1:
        yield from map(function, tasks)
        return
    waiting: deque[Future[Result]] = deque()
    # Not "fork": it would copy the locks of other threads in whatever state they are.
    with ProcessPoolExecutor(workers, get_context("spawn"), _end_with_parent) as pool:
        for task in tasks:
            waiting.append(pool.submit(function, task))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _end_with_parent() -> None:
    """End this worker when the process that started it is killed; the pool itself would wait."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
