"""What ASE writes: databases (.db), and extended XYZ with targets among the keys of the comment.

Databases are read through sqlite alone: nothing is written, locked or executed.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from potnet.crystal import Crystal
from potnet.data.readers.json_stream import parse
from potnet.data.readers.progress import expect
from potnet.data.readers.rows import ID_COLUMNS, RawRecord, RawRecords, walled
from potnet.data.readers.text import lines_of, open_text
from potnet.errors import DataError, StructureError
from potnet.io.extxyz import frames_of, read_frame

_STRUCTURE = ("numbers", "positions", "cell", "pbc")
_RESULTS = ("energy", "free_energy", "magmom")
_PROVENANCE = ("calculator", "calculator_parameters", "unique_id", "username")
SECONDS_PER_ROW = 60.0  # that sqlite may take; counting all rows is one step
UNITS = {"energy": "eV/cell", "free_energy": "eV/cell", "magmom": "mu_B/cell"}


def read_ase_db(path: Path) -> RawRecords:
    """Yield the rows of a database: key-value pairs and energies; arrays and ``data`` are not read.

    Rows are named by a key of ``ID_COLUMNS``, or else by their number in the database.
    """
    columns = ("id", *_STRUCTURE, *_RESULTS, *_PROVENANCE, "key_value_pairs")
    try:
        # Percent signs and question marks mean something in the address of a file.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.text_factory = lambda text: text.decode("utf-8", errors="replace")
            deadline = _limit_time(database)
            kind = database.execute("SELECT type FROM sqlite_master WHERE name = 'systems'")
            if ("view",) in kind:
                raise DataError(
                    f"{path}: `systems` of a database of ASE must be a table, got a view, which "
                    "may never end. Convert it with `ase db`."
                )
            known = {row[1] for row in database.execute("PRAGMA table_info(systems)")}
            absent = [name for name in ("id", *_STRUCTURE, "key_value_pairs") if name not in known]
            if absent:
                raise DataError(
                    f"{path}: the table `systems` of a database of ASE must have the column "
                    f"{absent[0]}, got none. Convert it with `ase db`."
                )
            expect(database.execute("SELECT COUNT(*) FROM systems").fetchone()[0])
            chosen = [name for name in columns if name in known]
            for values in database.execute(f"SELECT {', '.join(chosen)} FROM systems ORDER BY id"):
                deadline[0] = time.monotonic() + SECONDS_PER_ROW
                record = dict(zip(chosen, values, strict=True))
                place = f"{path.name}, row {record['id']}"
                yield walled(partial(_row, record, place), place)
    except (sqlite3.Error, OverflowError) as error:
        raise DataError(
            f"{path}: the file must be a database of ASE, got {type(error).__name__}: {error}. "
            "Copy or write it again."
        ) from error


def _limit_time(database: sqlite3.Connection) -> list[float]:
    """Let the database give up at a moment, which is returned in a list so that it can move."""
    deadline = [time.monotonic() + SECONDS_PER_ROW]
    database.set_progress_handler(lambda: time.monotonic() > deadline[0], 100_000)
    return deadline


def row_of_ase(record: Mapping[str, Any], structure: Any, place: str, number: Any) -> RawRecord:
    """Return the row of a database of ASE, from its columns and its structure."""
    pairs = record.get("key_value_pairs") or {}
    if not isinstance(pairs, Mapping):
        raise DataError(
            f"{place}: `key_value_pairs` must be an object, got {type(pairs).__name__}. "
            "Write the database again."
        )
    key = next((key for key in ID_COLUMNS if pairs.get(key) is not None), None)
    results = {k: record[k] for k in _RESULTS if isinstance(record.get(k), (int, float))}
    info = {k: record[k] for k in _PROVENANCE if record.get(k)}
    values = results | {k: v for k, v in pairs.items() if k not in (key, "split")}
    id = number if key is None else pairs[key]
    return RawRecord(place, id, structure, values, pairs.get("split"), info, UNITS)


def _row(record: dict[str, Any], place: str) -> RawRecord:
    numbers = _array(record["numbers"], "<i4", "numbers", place)
    shape = (len(numbers), 3)
    pbc = record["pbc"]
    if not isinstance(pbc, int) or not 0 <= pbc < 8:
        raise DataError(
            f"{place}: `pbc` must be from 0 to 7, got {pbc!r}. Write the database again."
        )
    structure = {
        "numbers": numbers,
        "positions": _array(record["positions"], "<f8", "positions", place, shape),
        "cell": _array(record["cell"], "<f8", "cell", place, (3, 3)),
        "pbc": [bool(pbc & bit) for bit in (1, 2, 4)],
    }
    text = record["key_value_pairs"]
    record = record | {"key_value_pairs": parse(text, place) if isinstance(text, str) else text}
    return row_of_ase(record, structure, place, record["id"])


def _array(
    blob: Any, dtype: str, name: str, place: str, shape: tuple[int, ...] = (-1,)
) -> np.ndarray:
    """Return the array in a column of bytes."""
    try:
        return np.frombuffer(blob, dtype).reshape(shape)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{place}: `{name}` must be an array of the atoms, got '{error}'. "
            "Write the database again, with a present version of ASE."
        ) from error


def read_extxyz(path: Path) -> RawRecords:
    """Yield the frames of an extended XYZ file."""
    with open_text(path) as file:
        frames = frames_of(lines_of(file, path.name))
        found = chain.from_iterable(read_frame(*given, path.name, "") for given in frames)
        for index, (name, item) in enumerate(found):
            if isinstance(item, StructureError):
                yield item
                continue
            place = f"{path.name}, frame {index}"
            yield walled(partial(_frame_row, item, name, index, place), place)


def _frame_row(crystal: Crystal, name: str, index: int, place: str) -> RawRecord:
    info = crystal.info
    key = next((key for key in ID_COLUMNS if key in info), None)
    id = name.removeprefix("#") or str(index) if key is None else info[key]
    values = {k: v for k, v in info.items() if k not in (key, "split")}
    return RawRecord(place, id, crystal, values, info.get("split"), units=UNITS)
