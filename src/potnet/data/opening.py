"""Reading datasets: row by row, or whole into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from potnet.data.dataset import Dataset
from potnet.data.elastic import LICENCE as ELASTIC_LICENCE
from potnet.data.elastic import SOURCE as ELASTIC_SOURCE
from potnet.data.entry import Entry
from potnet.data.readers import rows_of, stem_of
from potnet.data.readers.rows import Row, entry_of
from potnet.errors import DataError, Failure, PotNetError

EMBEDDED_FOLDER = Path(__file__).parent / "embedded"

Source = str | os.PathLike[str]


@dataclass(frozen=True)
class Origin:
    """Where a named dataset lies, and what its file does not say."""

    path: Path
    about: str
    units: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    licence: str = ""


ORIGINS = {
    "elastic": Origin(
        EMBEDDED_FOLDER / "elastic.jsonl.gz",
        "1,181 inorganic crystals with bulk and shear modulus (VRH, GPa)",
        {"bulk_modulus": "GPa", "shear_modulus": "GPa"},
        ELASTIC_SOURCE,
        ELASTIC_LICENCE,
    )
}


def available() -> dict[str, str]:
    """Return the datasets that come with the package: name and one line about it."""
    return {name: origin.about for name, origin in ORIGINS.items()}


def scan(
    source: Source,
    *,
    targets: str | Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
) -> Iterator[Entry | Failure]:
    """Yield the crystals of a dataset one by one, and for each row that cannot be used the reason.

    Memory does not grow with the number of rows of JSON Lines, JSON lists, CSV and folders.

    Args:
        source: As in :func:`open`.
        targets: Columns that must be numbers; None takes every number for a target.
        units: Unit of each target, where the source does not say.

    Yields:
        Entries in the order of the source, and a ``Failure`` of stage "read" for each row that
        cannot be used; a source that breaks off ends with one. Ids may repeat: nothing but the row
        is kept in memory.

    Raises:
        DataError: If the source is unknown, or no row has a target that was asked for.
    """
    for item in _walk(source, _listed(targets), units or {}):
        yield item if isinstance(item, Entry) else Failure(item.id, "read", str(item.error))


def open(  # noqa: A001  (potnet.data.open reads like gzip.open)
    source: Source,
    *,
    targets: str | Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> Dataset:
    """Return a dataset.

    Args:
        source: The name of an embedded dataset (see :func:`available`); a folder with an
            ``id_prop.csv`` beside structure files (CGCNN and ALIGNN layouts, header or not); or a
            table, also gzipped: JSON Lines or JSON with records ``{id, lattice, species,
            frac_coords, targets, split}`` or with a structure column (JARVIS, MatBench, pymatgen
            dictionaries); CSV with a column of structures (CIF or POSCAR text, JSON, or paths);
            extended XYZ with targets among the comment's keys.
        targets: Columns to keep, in this order; None keeps all columns of numbers.
        units: Unit of each target, where the source does not say.
        on_error: "raise" stops at the first row that cannot be used; "skip" leaves such rows out
            and lists them in ``failures`` of the dataset.

    Returns:
        Crystals, targets (nan where missing), units and the source's own split if it has one.

    Raises:
        DataError: If the source is unknown, empty or malformed, or a target is not in it.
        StructureError: If a crystal cannot be used and ``on_error`` is "raise".
    """
    wanted = _listed(targets)
    entries: dict[str, Entry] = {}
    failures: list[Failure] = []
    for item in _walk(source, wanted, units or {}):
        if isinstance(item, Entry) and item.id in entries:
            item = _Refused(item.id, DataError(_twice(source, item.id)))
        if isinstance(item, Entry):
            entries[item.id] = item
        elif on_error == "raise":
            raise item.error
        else:
            failures.append(Failure(item.id, "read", str(item.error)))
    return _collect(list(entries.values()), failures, source, wanted, units or {})


def _twice(source: Source, id: str) -> str:
    return f"{source}: ids must not repeat, got {id!r} twice. Rename or remove one of the two."


@dataclass(frozen=True)
class _Refused:
    """A row that cannot be used."""

    id: str
    error: PotNetError


def _listed(targets: str | Sequence[str] | None) -> list[str]:
    return [targets] if isinstance(targets, str) else list(targets or ())


def _origin(source: Source) -> Origin:
    """Return where a source lies: a name, or a path."""
    if str(source) in ORIGINS:
        return ORIGINS[str(source)]
    path = Path(source)
    if not path.exists():
        raise DataError(
            f"{source}: a dataset must be one of {', '.join(ORIGINS)} or an existing file or "
            "folder, got neither. Check the path."
        )
    return Origin(path, "", source=path.name)


def _walk(
    source: Source, wanted: Sequence[str], units: Mapping[str, str]
) -> Iterator[Entry | _Refused]:
    """Yield the entries of a source and what was refused; a broken file ends with its error."""
    origin = _origin(source)
    units = {**origin.units, **units}
    unseen, columns = set(wanted), {}
    rows = rows_of(origin.path)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            break
        except PotNetError as error:  # the source is at its end, wanted or not
            yield _Refused(str(source), error)
            return
        if isinstance(row, PotNetError):
            yield _Refused(_place(row), row)
            continue
        unseen -= row.values.keys()
        columns |= dict.fromkeys(row.values)
        try:
            entry = entry_of(row, wanted)
        except PotNetError as error:
            yield _Refused(_name(row), error)
            continue
        known = {**row.units, **units}
        yield _with_units(entry, {name: known.get(name, "") for name in entry.targets})
    if unseen and columns:
        absent = next(name for name in wanted if name in unseen)
        raise DataError(
            f"{source}: targets must be columns of the data ({', '.join(columns) or 'it has none'})"
            f", got {absent!r}. Correct the name."
        )


def _with_units(entry: Entry, units: Mapping[str, str]) -> Entry:
    return Entry(entry.id, entry.crystal, entry.targets, entry.split, entry.info, units)


def _name(row: Row) -> str:
    """Return the id of a row that was refused, or its place if it has none."""
    text = str(row.id).strip()
    return text if text.isprintable() and 0 < len(text) <= 100 else row.place


def _place(error: PotNetError) -> str:
    return str(error).partition(":")[0]


def _collect(
    entries: Sequence[Entry],
    failures: Sequence[Failure],
    source: Source,
    wanted: Sequence[str],
    units: Mapping[str, str],
) -> Dataset:
    """Return the dataset of ``entries``."""
    origin = _origin(source)
    name = str(source) if str(source) in ORIGINS else stem_of(origin.path)
    if not entries:
        reason = f"; first: {failures[0].reason}" if failures else ""
        raise DataError(f"{name}: must hold at least one usable crystal, got none{reason}")
    columns = _columns(entries, wanted)
    unknown = [key for key in units if key not in columns] if not wanted else []
    if unknown:
        raise DataError(
            f"{name}: `units` must name targets ({', '.join(columns)}), got {unknown[0]!r}. "
            "Correct the name."
        )
    known = {name: unit for entry in entries for name, unit in entry.units.items() if unit}
    return Dataset(
        ids=tuple(entry.id for entry in entries),
        crystals=tuple(entry.crystal for entry in entries),
        targets=columns,
        units={key: unit for key, unit in known.items() if key in columns},
        splits=_splits(entries, list(columns)),
        name=name,
        source=origin.source,
        licence=origin.licence,
        failures=tuple(failures),
    )


def _columns(entries: Sequence[Entry], wanted: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return the columns asked for, or those that hold numbers and nothing else."""
    found = dict.fromkeys(chain.from_iterable(entry.targets for entry in entries))
    words = set(chain.from_iterable(entry.info for entry in entries))
    columns = {}
    for name in wanted or (name for name in found if name not in words):
        column = np.array([entry.targets.get(name, np.nan) for entry in entries])
        if wanted or not np.isnan(column).all():
            columns[name] = column
    return columns


def _splits(entries: Sequence[Entry], targets: Sequence[str]) -> dict[str, NDArray[np.str_]]:
    """Return the labels for all targets, or by target where the entries say so."""
    if all(entry.split is None for entry in entries):
        return {}
    if not any(isinstance(entry.split, Mapping) for entry in entries):
        return {"": np.array([str(entry.split or "") for entry in entries])}
    maps = [entry.split if isinstance(entry.split, Mapping) else {} for entry in entries]
    named = [target for target in targets if any(target in labels for labels in maps)]
    return {t: np.array([labels.get(t) or "" for labels in maps]) for t in named}
