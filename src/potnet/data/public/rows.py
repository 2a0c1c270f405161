"""Rows of a public dataset with its ids and its official split."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from potnet.data.public.catalogue import PublicDataset
from potnet.data.public.official import Labels
from potnet.data.public.pickled import plain_data
from potnet.data.readers import rows_of
from potnet.data.readers.rows import RawRecord, RawRecords, number, row_of_object, walled
from potnet.errors import DataError, PotNetError


def public_rows(
    dataset: PublicDataset, paths: Sequence[Path], wanted: Sequence[str] = ()
) -> RawRecords:
    """Yield the rows of a public dataset, with official labels as their split.

    The files are read twice: the labels depend on the values of all rows, and crystals do not fit
    into memory everywhere.

    Args:
        dataset: What is read.
        paths: Its files, in their order.
        wanted: Columns to keep; none for all targets of the dataset.

    Raises:
        DataError: If the number of rows is not that of the dataset.
    """
    columns = tuple(wanted) or tuple(dataset.targets)
    values: dict[str, list[float]] = {name: [] for name in columns}
    files: list[int] = []
    ids: Counter[Any] = Counter()
    for file, row in _all(paths):
        files.append(file)
        found = row.values if isinstance(row, RawRecord) else {}
        for name in columns:
            value = number(_plain(found.get(name)))
            values[name].append(np.nan if value is None else value)
    _check_count(dataset, len(files), paths)
    labels = _labels(dataset, values, files)
    for k, (_, row) in enumerate(_all(paths)):
        if not isinstance(row, RawRecord):
            yield row
            continue
        ids[row.id] += 1
        yield dataclasses.replace(
            row,
            id=_id(dataset, row.id, k, len(files), ids[row.id]),
            values={name: _plain(row.values[name]) for name in columns if name in row.values},
            split=_at(labels, k),
            units={name: dataset.targets.get(name, "") for name in columns},
        )


def _all(paths: Sequence[Path]) -> Iterator[tuple[int, RawRecord | PotNetError]]:
    """Yield the rows of all files, each with the number of its file."""
    for file, path in enumerate(paths):
        rows = _pickled_rows(path) if path.suffix == ".pkl" else rows_of(path)
        for row in rows:
            yield file, row


def _pickled_rows(path: Path) -> RawRecords:
    records = plain_data(path)
    if not isinstance(records, list):
        raise DataError(
            f"{path}: must hold a list of records, got {type(records).__name__}. Fetch it again."
        )
    for count, record in enumerate(records, 1):
        place = f"{path.name}, record {count}"
        yield walled(partial(row_of_object, record, place, count), place)


def _plain(value: Any) -> Any:
    """Return a class of two, such as metal or not, as 1 or 0; anything else as it is."""
    return float(value) if isinstance(value, bool) else value


def _id(dataset: PublicDataset, id: Any, k: int, n: int, times: int) -> Any:
    """Return the id of row ``k`` of ``n``, which has had this id ``times`` times."""
    if dataset.ids:
        return f"{dataset.ids}{k + 1:0{len(str(n))}d}"
    return id if times == 1 else f"{id}#{times}"


def _labels(
    dataset: PublicDataset, values: Mapping[str, Sequence[float]], files: Sequence[int]
) -> Labels | None:
    if dataset.official is None:
        return None
    columns = {name: np.array(column) for name, column in values.items()}
    return dataset.official.labels(columns, np.array(files))


def _at(labels: Labels | None, k: int) -> str | dict[str, str] | None:
    if isinstance(labels, dict):
        return {name: str(column[k]) for name, column in labels.items()}
    return None if labels is None else str(labels[k])


def _check_count(dataset: PublicDataset, n: int, paths: Sequence[Path]) -> None:
    if dataset.counts and n not in dataset.counts:
        raise DataError(
            f"{dataset.name}: must have {dataset.counts[-1]} rows, got {n} in "
            f"{', '.join(path.name for path in paths)}. It is another version: results would not "
            "compare."
        )
