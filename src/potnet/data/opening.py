"""Reading datasets: row by row, or whole into memory."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from potnet.data.dataset import Dataset
from potnet.data.origins import Source, name_of, origin_of
from potnet.data.parquet_folder import ParquetFolder
from potnet.data.readers import rows_of
from potnet.data.readers.rows import RawRecord, record_of, walled, with_words_apart
from potnet.data.record import Record, official_folds, word
from potnet.data.units import Units
from potnet.errors import DataError, Failure, PotNetError
from potnet.text import printable

_log = logging.getLogger(__name__)

MOST_KINDS = 50  # words of a column that was not asked for


def iter_records(
    source: Source,
    *,
    targets: str | Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    source_units: Mapping[str, str] | None = None,
) -> Iterator[Record | Failure]:
    """Yield the crystals of a dataset one by one, and for each row that cannot be used the reason.

    Memory does not grow with the number of rows; of a JSON table by columns, and of a JSON table
    whose rows come before their names, all rows are held at once.

    Args:
        source: As in :func:`open`.
        targets: Columns that must be numbers; None takes every number for a target.
        units: As in :func:`open`.
        source_units: As in :func:`open`.

    Yields:
        Records in the order of the source, and a ``Failure`` of stage "read" for each row that
        cannot be used; a source that breaks off ends with one. Ids may repeat: nothing but the row
        is kept in memory.

    Raises:
        DataError: If the source is unknown, a unit cannot be had, or no row has a target that was
            asked for.
    """
    wanted, asked = _listed(targets), Units(units or {}, source_units or {})
    if ParquetFolder.exists(source):
        yield from _stored(ParquetFolder(source), wanted, asked)
        return
    for item in _walk(source, wanted, asked):
        yield item if isinstance(item, Record) else item.failure


def open(  # noqa: A001  (potnet.data.open reads like gzip.open)
    source: Source,
    *,
    targets: str | Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    source_units: Mapping[str, str] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> Dataset:
    """Return a dataset.

    Args:
        source: The name of an embedded dataset (see :func:`named_datasets`), or one of these, also
            compressed (.gz, .bz2, .xz, or .zip with one file in it):

            - a folder of structure files, with targets in ``id_prop.csv`` (CGCNN and ALIGNN
              layouts, header or not) or without targets;
            - a table with a column of structures (CIF or POSCAR text, dictionaries of pymatgen,
              JARVIS or ASE, or paths of files): CSV with any separator, Excel (.xlsx), Parquet;
            - JSON Lines or JSON with records ``{id, lattice, species, frac_coords, targets,
              split}`` or with a column of structures, as JARVIS, MatBench and pandas write it;
              responses of OPTIMADE servers;
            - extended XYZ with targets among the keys of the comment;
            - a database of ASE (.db or .json);
            - a folder that :func:`build` made (:class:`ParquetFolder`): its crystals stay on disk.
        targets: Columns to keep, in this order; None keeps all that hold numbers and nothing else.
        units: Unit to have a target in, such as ``{"energy": "eV/atom"}``. Values are converted
            where the source names another unit; where it names none, this is taken to be it.
        source_units: Unit that a target has in the source, where the source does not say, or says
            something else.
        on_error: "raise" stops at the first row that cannot be used; "skip" leaves such rows out
            and lists them in ``failures`` of the dataset.

    Returns:
        Crystals, targets (nan where missing), units and the source's own split if it has one.

    Raises:
        DataError: If the source is unknown, empty or malformed, a target is not in it, or a unit
            cannot be had.
        StructureError: If a crystal cannot be used and ``on_error`` is "raise".

    Warns:
        UserWarning: If a column that was not asked for is mostly, but not always, numbers.
    """
    wanted = _listed(targets)
    if ParquetFolder.exists(source):
        return ParquetFolder(source).dataset(wanted, units=units, source_units=source_units)
    records: dict[str, Record] = {}
    failures: list[Failure] = []
    for item in _walk(source, wanted, Units(units or {}, source_units or {})):
        if isinstance(item, Record) and item.id in records:
            item = Refused(item.id, DataError(_twice(source, item.id)))
        if isinstance(item, Record):
            records[item.id] = item
        elif on_error == "raise":
            raise item.error
        else:
            failures.append(item.failure)
    return _collect(list(records.values()), failures, source, wanted, units or {})


def _stored(
    folder: ParquetFolder, wanted: Sequence[str], units: Units
) -> Iterator[Record | Failure]:
    """Yield what a folder holds, its failures last."""
    folder.require_targets(wanted)
    for record in folder:
        kept = {k: v for k, v in record.targets.items() if k in (wanted or record.targets)}
        values, names = units.of(record.units).applied(kept, record.crystal.n_atoms)
        yield replace(record, targets=values, units=names)
    yield from folder.failures


def _twice(source: Source, id: str) -> str:
    return f"{source}: ids must not repeat, got {id!r} twice. Rename or remove one of the two."


@dataclass(frozen=True)
class Refused:
    """A row that cannot be used."""

    id: str
    error: PotNetError

    @property
    def failure(self) -> Failure:
        """What lists of failures say."""
        return Failure(printable(self.id), "read", str(self.error))


def _listed(targets: str | Sequence[str] | None) -> list[str]:
    found = [targets] if isinstance(targets, str) else targets or ()
    return list(dict.fromkeys(map(printable, found)))


def _walk(source: Source, wanted: Sequence[str], units: Units) -> Iterator[Record | Refused]:
    """Yield the records of a source and what was refused; a broken file ends with its error."""
    units = units.of(origin_of(source).units)
    silent = {name: unit for name, unit in units.wanted.items() if not units.has(name)}
    for row in rows_before_crystals(source, wanted):
        for name in row.units if silent and isinstance(row, RawRecord) else ():
            silent.pop(name, None)
        yield used(row, wanted, units)
    for name, unit in silent.items():
        _log.warning("%s: names no unit of %r, its values are taken to be %s.", source, name, unit)


def rows_before_crystals(source: Source, wanted: Sequence[str]) -> Iterator[RawRecord | Refused]:
    """Yield the rows of a source whose crystals are still to be built, which takes longest.

    Raises:
        DataError: If the source is unknown, or no row has a target that was asked for.
    """
    unseen, columns = set(wanted), {}
    origin = origin_of(source)
    rows = _until_it_breaks(origin.rows(wanted) if origin.rows else rows_of(origin.path), source)
    for row in with_words_apart(rows, wanted):
        if isinstance(row, RawRecord):
            found = dict.fromkeys((*row.values, *(k for k in wanted if k in row.info)))
            unseen -= found.keys()
            columns |= found
            yield row
        elif isinstance(row, _Broken):  # the source is at its end, wanted or not
            yield Refused(printable(source), row.error)
            return
        else:
            yield Refused(_place(row), row)
    if unseen and columns:
        absent = next(name for name in wanted if name in unseen)
        raise DataError(
            f"{source}: targets must be columns of the data ({', '.join(columns) or 'it has none'})"
            f", got {absent!r}. Correct the name."
        )


class _Broken(DataError):
    """The end of a source that cannot be read on."""

    def __init__(self, error: PotNetError) -> None:
        super().__init__(str(error))
        self.error = error


def _until_it_breaks(
    rows: Iterator[RawRecord | PotNetError], source: Source
) -> Iterator[RawRecord | PotNetError]:
    while True:
        step = walled(lambda: (next(rows, None),), printable(source))
        if isinstance(step, PotNetError):
            yield _Broken(step)
            return
        if step[0] is None:
            return
        yield step[0]


def used(row: RawRecord | Refused, wanted: Sequence[str], units: Units) -> Record | Refused:
    """Return the record of a row, in the units asked for.

    Raises:
        DataError: If the units that the row names cannot be converted.
    """
    if isinstance(row, Refused):
        return row
    found = walled(partial(_used, row, wanted, units.of(row.units)), row.place)
    return Refused(_name(row), found) if isinstance(found, PotNetError) else found


def _used(row: RawRecord, wanted: Sequence[str], units: Units) -> Record:
    record = record_of(row, wanted)
    try:
        targets, names = units.applied(record.targets, record.crystal.n_atoms)
    except DataError as error:
        raise DataError(f"{row.place}: {record.id}: {error}") from error
    return replace(record, targets=targets, units=names)


def _name(row: RawRecord) -> str:
    """Return the id of a row that was refused, or its place if it has none."""
    text = str(row.id).strip()
    return text if text.isprintable() and 0 < len(text) <= 100 else row.place


def _place(error: PotNetError) -> str:
    return str(error).partition(":")[0]


def _collect(
    records: Sequence[Record],
    failures: Sequence[Failure],
    source: Source,
    wanted: Sequence[str],
    units: Mapping[str, str],
) -> Dataset:
    """Return the dataset of ``records``."""
    origin, name = origin_of(source), name_of(source)
    if not records:
        reason = f"; first: {failures[0].reason}" if failures else ". Check the file."
        raise DataError(f"{name}: must hold at least one usable crystal, got none{reason}")
    words = _words(records, wanted)
    columns = _columns(records, [k for k in wanted if k not in words] if wanted else None)
    unknown = [key for key in units if key not in columns] if not wanted else []
    if unknown:
        raise DataError(
            f"{name}: `units` must name targets ({', '.join(columns)}), got {unknown[0]!r}. "
            "Correct the name."
        )
    folds = official_folds([str(record.split or "") for record in records])
    known = {name: unit for record in records for name, unit in record.units.items() if unit}
    return Dataset(
        ids=tuple(record.id for record in records),
        crystals=tuple(record.described for record in records),
        targets=columns,
        units={key: unit for key, unit in known.items() if key in columns},
        words=words,
        splits={} if folds is not None else _splits(records, list(columns)),
        folds=folds,
        name=name,
        source=origin.source,
        licence=origin.licence,
        failures=tuple(failures),
    )


def _words(records: Sequence[Record], wanted: Sequence[str]) -> dict[str, NDArray[np.str_]]:
    """Return the columns of words that were asked for, or those whose words repeat."""
    names = dict.fromkeys(chain.from_iterable(record.info for record in records))
    found = {}
    for name in (k for k in names if k in wanted or not wanted):
        column, kinds = [], set()
        for record in records:
            is_number = record.targets.get(name, np.nan) == record.targets.get(name)
            text = word(record.info.get(name))
            if is_number or text is None or (not wanted and len(kinds) > MOST_KINDS):
                break
            column.append(text)
            kinds.add(text)
        if len(column) == len(records) and (wanted or 2 * len(kinds - {""}) <= len(records)):
            found[name] = np.array(column, dtype=str)
    return {name: column for name, column in found.items() if wanted or (column != "").any()}


def _columns(
    records: Sequence[Record], wanted: Sequence[str] | None
) -> dict[str, NDArray[np.float64]]:
    """Return the columns asked for, or those that hold numbers and nothing else."""
    found = dict.fromkeys(chain.from_iterable(record.targets for record in records))
    words = Counter(chain.from_iterable(record.info for record in records))
    numbers = Counter(k for e in records for k, value in e.targets.items() if value == value)
    for name in (name for name in words if wanted is None and numbers[name] > words[name]):
        odd = next(record for record in records if name in record.info)
        warnings.warn(
            f"{odd.id}: column {name!r} has {numbers[name]} numbers and {words[name]} words, such "
            f"as {str(odd.info[name])[:60]!r}, and is no target. Name it as a target to have the "
            "rows with words refused.",
            stacklevel=4,
        )
    columns = {}
    for name in (name for name in found if name not in words) if wanted is None else wanted:
        column = np.array([record.targets.get(name, np.nan) for record in records])
        if wanted is not None or not np.isnan(column).all():
            columns[name] = column
    return columns


def _splits(records: Sequence[Record], targets: Sequence[str]) -> dict[str, NDArray[np.str_]]:
    """Return the labels for all targets, or by target where the records say so."""
    if all(record.split is None for record in records):
        return {}
    if not any(isinstance(record.split, Mapping) for record in records):
        return {"": np.array([str(record.split or "") for record in records])}
    maps = [record.split if isinstance(record.split, Mapping) else {} for record in records]
    named = [target for target in targets if any(target in labels for labels in maps)]
    return {t: np.array([labels.get(t) or "" for labels in maps]) for t in named}
