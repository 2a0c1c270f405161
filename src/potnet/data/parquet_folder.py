"""A dataset in a folder of Parquet files, larger than memory, that survives its writer.

The folder holds ``000000.parquet``, ``000001.parquet`` and so on, each a
:class:`~potnet.data.shard.Shard`; pandas, polars and DuckDB read them as one table.
``_potnet.json`` says what the whole is, with the SHA-256 of each file.

A file appears whole or not at all, files appear in order, and only the last one is ever replaced,
by one that begins with all that it held. So at any moment, also after a crash, the files that are
there are a prefix of what was written; a reader needs no lock and sees a folder that only grows.
One process writes at a time. The manifest names a new file's SHA-256 before the file takes its
place, beside that of the file it replaces, so that both are known whenever the writer dies.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from potnet.crystal import Crystal
from potnet.data.dataset import Dataset, LazyCrystals
from potnet.data.ids import Ids
from potnet.data.manifest import (
    LOCK,
    MANIFEST,
    read_manifest,
    write_errors,
    write_manifest,
    writing,
)
from potnet.data.record import Record, official_folds, word
from potnet.data.shard import (
    FORMAT,
    Shard,
    merged_units,
    split_columns,
    split_labels,
    target_column,
)
from potnet.data.shard_file import ShardFile
from potnet.data.units import Units
from potnet.errors import DataError, Failure
from potnet.files import atomic_write

SHARD_BYTES = 32 * 2**20  # in memory; about half of it on disk
SHARD_RECORDS = 2**14
CHUNK = 512  # records that are encoded at a time
CACHE_BYTES = 512 * 2**20  # of row groups that one process keeps

_log = logging.getLogger(__name__)


class ParquetFolder:
    """Records on disk, in the order in which they were written.

    ``folder[k]`` is a :class:`~potnet.data.Record`. Its crystal was checked when it was written,
    and the SHA-256 of a file is when it is first used.

    Attributes:
        path: The folder.
        manifest: Content of its ``_potnet.json``.

    Args:
        path: The folder.

    Raises:
        DataError: If it was not made by potnet, or a file is missing or damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._files: list[ShardFile] = []
        self._groups: OrderedDict[tuple[int, int], Shard] = OrderedDict()
        self._cached = 0  # bytes
        self._ids: Ids | None = None
        self.refresh()

    @staticmethod
    def exists(path: str | os.PathLike[str]) -> bool:
        """Whether ``path`` is such a folder."""
        return (Path(path) / MANIFEST).is_file()

    @staticmethod
    def create(
        path: str | os.PathLike[str], *, name: str = "", source: str = "", licence: str = ""
    ) -> ParquetFolder:
        """Return a new folder without records.

        Args:
            path: The folder; must be empty or missing.
            name: What the dataset is called; the name of the folder if not given.
            source: Where the data come from.
            licence: What may be done with them.

        Raises:
            DataError: If there are files in the folder.
        """
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        with writing(path):
            if any(item.name != LOCK for item in path.iterdir()):
                raise DataError(
                    f"{path}: the folder of a new dataset must be empty, got one with files. "
                    "Choose another folder."
                )
            about = {"name": name or path.name, "source": source, "licence": licence}
            rest = {"records": 0, "sha256": {}, "sources": {}}
            write_manifest(path, {"format": FORMAT, **about, **rest})
        return ParquetFolder(path)

    # ------------------------------------------------------------------------------ reading

    def refresh(self) -> None:
        """Take in what was written since the folder was opened."""
        with self._lock:
            self.manifest = read_manifest(self.path)
            paths = sorted(self.path.glob("[0-9]*.parquet"))
            for k, path in enumerate(paths):
                if path.name != _name(k):
                    raise _incomplete(self.path, f"{path.name} but no {_name(k)}")
            # All but the last of those known are as they were.
            files = self._files[: min(len(self._files) - 1, len(paths))]
            for key in [key for key in self._groups if key[0] >= len(files)]:
                del self._groups[key]
                self._cached -= self._files[key[0]].group_bytes(key[1])
            files += [ShardFile.opened(path) for path in paths[len(files) :]]
            self._starts = np.cumsum([0, *(len(file) for file in files)])
            for file, start in zip(files, self._starts.tolist(), strict=False):
                if file.about.first != start:
                    got = f"{file.path.name} from record {file.about.first} on, after {start}"
                    raise _incomplete(self.path, got)
            if self._starts[-1] < self.manifest["records"]:
                got = f"{self._starts[-1]} records of {self.manifest['records']}"
                raise _incomplete(self.path, got)
            self._files = files

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, place: int) -> Record:
        shard, row = self._find(place)
        return shard.record(row)

    def __iter__(self) -> Iterator[Record]:
        for k in range(len(self._files)):
            for shard in self._checked(k).groups():
                yield from map(shard.record, range(len(shard)))

    def __repr__(self) -> str:
        return f"<ParquetFolder {self.name!r}: {len(self)} records in {len(self._files)} files>"

    def crystal(self, place: int) -> Crystal:
        """Return the crystal of record ``place``."""
        shard, row = self._find(place)
        return shard.crystal(row)

    def place(self, id: str) -> int:
        """Return the place of the record ``id``.

        Raises:
            KeyError: If there is none.
        """
        if self._ids is None or self._ids.size != len(self):
            self._ids = Ids(table["id"].to_pylist() for table in self._tables(["id"]))
        found = self._ids.find([id])[0]
        if found < 0:
            raise KeyError(id)
        return int(found)

    @property
    def name(self) -> str:
        """What the dataset is called."""
        return self.manifest["name"]

    @property
    def ids(self) -> list[str]:
        """Id of each record."""
        return [id for table in self._tables(["id"]) for id in table["id"].to_pylist()]

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of all targets."""
        return tuple(dict.fromkeys(name for file in self._files for name in file.about.units))

    @property
    def units(self) -> dict[str, str]:
        """Unit of each target, as far as it is known."""
        return merged_units(file.about.units for file in self._files)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What was in the sources and could not become a record, in their order."""
        return tuple(failure for file in self._files for failure in file.about.failures)

    @property
    def version(self) -> str:
        """SHA-256 of everything in the folder: equal content, equally written, is equal."""
        digests = [self._checked(k).digest for k in range(len(self._files))]
        return hashlib.sha256(json.dumps([FORMAT, *digests]).encode()).hexdigest()

    @property
    def is_complete(self) -> bool:
        """Whether every source that was begun has been read to its end."""
        return all(source["complete"] for source in self.manifest["sources"].values())

    @property
    def atom_counts(self) -> NDArray[np.int64]:
        """Atoms of each crystal, shape (n,)."""
        lengths = [
            chunk.value_lengths().to_numpy(zero_copy_only=False)
            for table in self._tables(["numbers"])
            for chunk in table["numbers"].chunks
        ]
        return np.concatenate([np.empty(0), *lengths]).astype(np.int64)

    def column(self, target: str) -> NDArray[np.float64]:
        """Return the values of a target, nan where there are none, shape (n,)."""
        name, columns = target_column(target), [np.empty(0)]
        for table in self._tables([name]):
            has = name in table.column_names
            values = table[name].to_numpy() if has else np.full(table.num_rows, np.nan)
            columns.append(values.astype(np.float64))
        return np.concatenate(columns)

    def require_targets(self, targets: Sequence[str]) -> None:
        """Raise ``DataError`` unless all of ``targets`` are there."""
        absent = [name for name in targets if name not in self.targets]
        if absent:
            raise DataError(
                f"{self.path}: targets must be columns of the data "
                f"({', '.join(self.targets) or 'it has none'}), got {absent[0]!r}. "
                "Correct the name."
            )

    def dataset(
        self,
        targets: Sequence[str] = (),
        *,
        units: Mapping[str, str] | None = None,
        source_units: Mapping[str, str] | None = None,
    ) -> Dataset:
        """Return the records as a dataset whose crystals stay on disk.

        Args:
            targets: Columns to keep, in this order; none keeps them all.
            units: Units to have targets in, as :func:`potnet.data.open` takes them.
            source_units: Units of targets in the folder, where it does not know them.

        Raises:
            DataError: If a target or record is not there, or a unit cannot be had.
        """
        is_word = {word for file in self._files for word in file.about.words}
        texts = [name for name in targets if name in is_word and not self._has_numbers(name)]
        asked_for = [name for name in targets if name not in texts]
        self.require_targets(asked_for)
        if not self.is_complete:
            _log.warning("%s: not all of its source is in the folder yet.", self.path)
        plain = [name for name in self.targets if name not in is_word]
        chosen = asked_for if targets else plain
        columns = {name: self.column(name) for name in chosen}
        asked = Units(units or {}, source_units or {}).of(self.units)
        known = {name: asked.applied({name: np.nan}, 1)[1][name] for name in columns}
        for name in {*(units or ()), *(source_units or ())} & columns.keys():
            rows = zip(columns[name].tolist(), self.atom_counts.tolist(), strict=True)
            columns[name] = np.array([asked.applied({name: x}, n)[0][name] for x, n in rows])
        names = [n for n, column in columns.items() if targets or not np.isnan(column).all()]
        labels = self._labels(names)
        folds = official_folds(labels[""].tolist()) if "" in labels else None
        return Dataset(
            ids=tuple(self.ids),
            crystals=StoredCrystals(self, np.arange(len(self))),
            targets={name: columns[name] for name in names},
            units=known,
            words=self._words(texts),
            splits=labels if folds is None else {},
            folds=folds,
            name=self.name,
            source=self.manifest["source"],
            licence=self.manifest["licence"],
            failures=self.failures,
        )

    def _has_numbers(self, name: str) -> bool:
        return name in self.targets and not np.isnan(self.column(name)).all()

    def _words(self, names: Sequence[str]) -> dict[str, NDArray[np.str_]]:
        """Return what the records say in words under ``names``, "" where they say nothing."""
        found: dict[str, list[str]] = {name: [] for name in names}
        for table in self._tables(["info"]) if names else ():
            for text in table["info"].to_pylist():
                info = json.loads(text) if text else {}
                for name, column in found.items():
                    column.append(word(info.get(name)) or "")
        return {name: np.array(column, dtype=str) for name, column in found.items()}

    def _labels(self, targets: Sequence[str]) -> dict[str, NDArray[np.str_]]:
        """Return the labels of the split for all targets and of those for ``targets``."""
        found = dict.fromkeys(name for file in self._files for name in file.about.splits)
        splits = [name for name in found if name == "" or name in targets]
        tables = list(self._tables(split_columns(splits))) if splits else []
        return {
            name: np.array([x for table in tables for x in split_labels(table, name)], str)
            for name in splits
        }

    def verify(self, progress: Callable[[int, int], None] | None = None) -> list[str]:
        """Return what is wrong with the folder, a sentence each; an empty list if it is sound.

        Every byte is read: checksums of all files, then crystals, then ids that repeat.

        Args:
            progress: Called with the number of files read and their total.
        """
        faults, index = [], Ids()
        for k, file in enumerate(self._files):
            try:
                self._files[k] = file.unchecked()
                for shard in self._checked(k).groups():
                    ids = shard.ids
                    faults += [
                        f"{self.path}: ids must not repeat, got {ids[row]!r} twice. "
                        "Build the folder again."
                        for row in index.add(ids)
                    ]
            except DataError as error:
                faults.append(str(error))
            if progress is not None:
                progress(k + 1, len(self._files))
        return faults

    def _find(self, place: int) -> tuple[Shard, int]:
        if not 0 <= place < len(self):
            raise IndexError(f"{self.path}: a place must be below {len(self)}, got {place}.")
        k = int(np.searchsorted(self._starts, place, "right")) - 1
        row = place - int(self._starts[k])
        with self._lock:
            size = self._files[k].group_size
            key = (k, row // size)
            shard = self._groups.get(key)
            if shard is None:
                shard = self._groups[key] = self._checked(k).group(key[1])
                self._cached += self._files[k].group_bytes(key[1])
                while self._cached > CACHE_BYTES and len(self._groups) > 1:
                    (old, group), _ = self._groups.popitem(last=False)
                    self._cached -= self._files[old].group_bytes(group)
            else:
                self._groups.move_to_end(key)
        return shard, row % size

    def _tables(self, columns: list[str]) -> Iterator[pa.Table]:
        """Yield these columns of each file, as far as it has them."""
        for k in range(len(self._files)):
            yield self._checked(k).columns(columns)

    def _checked(self, k: int) -> ShardFile:
        """Return file ``k``, compared with the manifest unless it has been.

        Raises:
            DataError: If it is another one than was written.
        """
        file = self._files[k]
        if not file.is_checked:
            known = self.manifest["sha256"].get(file.path.name, ())
            digest = file.sha256()
            if digest not in known:  # the writer may have gone on
                known = read_manifest(self.path)["sha256"].get(file.path.name, ())
            self._files[k] = file = file.checked(digest, known)
        return file

    # ------------------------------------------------------------------------------ writing

    def append(
        self, records: Iterable[Record | Failure], *, on_error: Literal["raise", "skip"] = "raise"
    ) -> None:
        """Add ``records`` behind those that are there; when this returns they are on disk.

        Args:
            records: What to add, of any number: no more than a file of them is in memory.
            on_error: What happens when an id is in the folder already: "raise", or "skip" and
                list it in ``failures``.

        Raises:
            DataError: If an id repeats and ``on_error`` is "raise" (the records before it stay),
                or if another process is writing.
        """
        with Writer(self) as writer:
            items = iter(records)
            while chunk := list(itertools.islice(items, CHUNK)):
                writer.add(Shard.of(chunk), on_error=on_error)


class StoredCrystals(LazyCrystals):
    """Crystals of a folder, read when they are asked for.

    Args:
        folder: Where they are.
        rows: Their places, shape (n,).
    """

    def __init__(self, folder: ParquetFolder, rows: NDArray[np.int64]) -> None:
        self.folder, self.rows = folder, rows

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: ArrayLike) -> StoredCrystals:
        return StoredCrystals(self.folder, self.rows[np.asarray(rows, dtype=np.int64)])

    def read(self, row: int) -> Crystal:
        return self.folder.crystal(int(self.rows[row]))


class Writer:
    """The one process that writes a folder, while it does so.

    Args:
        folder: The folder; it is refreshed when the writer begins and after each file.

    Raises:
        DataError: On entering, if another process is writing.
    """

    def __init__(self, folder: ParquetFolder) -> None:
        self.folder = folder
        self._pending: list[Shard] = []
        self._stack = ExitStack()

    def __enter__(self) -> Writer:
        folder = self.folder
        self._stack.enter_context(writing(folder.path))
        folder.refresh()
        self._ids = Ids(table["id"].to_pylist() for table in folder._tables(["id"]))
        self._units = folder.units
        self._take_last()
        return self

    def __exit__(self, *exception: Any) -> None:
        with self._stack:
            self.flush()
            self._update(records=len(self.folder))
            write_errors(self.folder.path, self.folder.failures)

    def rows_done(self, source: str) -> int:
        """Return how many rows of ``source`` are on disk."""
        parts = (part for file in self.folder._files for part in file.about.parts)
        return max((stop for name, _, stop in parts if name == source), default=0)

    def note_source(self, source: str, **about: Any) -> None:
        """Write down what is known about a source."""
        self._update(sources={**self.folder.manifest["sources"], source: about})

    def add(self, shard: Shard, *, on_error: Literal["raise", "skip"] = "skip") -> None:
        """Add the records of ``shard``; those whose id is taken fail.

        Raises:
            DataError: If a target has another unit than before, or an id is taken and
                ``on_error`` is "raise".
        """
        self._units = merged_units([self._units, shard.about.units])
        ids = shard.ids
        repeated = self._ids.add(ids)
        failures = {
            row: Failure(
                ids[row],
                "read",
                f"{ids[row]}: ids must not repeat, got one that is in the folder already. "
                "Rename or remove one of the two.",
            )
            for row in repeated
        }
        if failures and on_error == "raise":
            raise DataError(failures[repeated[0]].reason)
        self._pending.append(shard.without(failures))
        if is_full([*self._last, *self._pending]):
            self.flush()

    def flush(self) -> None:
        """Write what is pending into the last file, if it has room, or into a new one."""
        if not self._pending:
            return
        folder, shards = self.folder, [*self._last, *self._pending]
        k = len(folder._files) - len(self._last)
        whole = Shard.cat(shards)
        whole = replace(whole, about=replace(whole.about, first=int(folder._starts[k])))
        name, content = _name(k), whole.as_parquet()
        digests = folder.manifest["sha256"]
        before = [folder._checked(k).digest] if self._last else []
        digest = hashlib.sha256(content).hexdigest()
        self._update(sha256={**digests, name: [*before, digest]})
        with atomic_write(folder.path / name, "wb") as file:
            file.write(content)
        self._pending = []
        folder.refresh()
        self._update(sha256={**digests, name: [digest]})
        self._take_last()

    def _take_last(self) -> None:
        """Keep the last file at hand if there is room in it."""
        k = len(self.folder._files) - 1
        shards = [] if k < 0 else [self.folder._checked(k).whole()]
        self._last = [] if is_full(shards) else shards

    def _update(self, **changes: Any) -> None:
        manifest = {**self.folder.manifest, **changes}
        if manifest != self.folder.manifest:
            write_manifest(self.folder.path, manifest)
            self.folder.manifest = manifest


def is_full(shards: Sequence[Shard]) -> bool:
    """Whether ``shards`` together fill a file."""
    size = sum(shard.n_bytes for shard in shards)
    return sum(map(len, shards)) >= SHARD_RECORDS or size >= SHARD_BYTES


def _name(k: int) -> str:
    return f"{k:06d}.parquet"


def _incomplete(path: Path, got: str) -> DataError:
    return DataError(
        f"{path}: all files of a dataset must be there, got {got}. "
        "Restore the folder from a copy, or build it again."
    )
