"""A dataset on disk, larger than memory, that survives whatever happens to its writer.

A store is a folder: ``store.json`` and shards ``000000.safetensors``, ``000001.safetensors`` and
so on (:mod:`potnet.data.block`). A shard appears whole or not at all, shards appear in order, and
only the last one is ever replaced, by one that begins with all that it held. So at any moment,
also after a crash, the shards that are there are a prefix of what was written; a reader needs no
lock and sees a store that only grows. One process writes at a time.
"""

from __future__ import annotations

import csv
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
from numpy.typing import ArrayLike, NDArray

from potnet.crystal import Crystal
from potnet.data.block import FORMAT, Block, merged_units
from potnet.data.dataset import Dataset, LazyCrystals
from potnet.data.record import Record, official_folds
from potnet.data.units import Units
from potnet.errors import DataError, Failure
from potnet.files import atomic_write, exclusive, remove_leftovers

MANIFEST = "store.json"
LOCK = "write.lock"
SHARD_BYTES = 8 * 2**20
SHARD_ENTRIES = 8192
CHUNK = 512  # records that are encoded at a time
MAPPED_BYTES = 512 * 2**20  # what one process keeps mapped
MAPPED_SHARDS = 128  # each of which holds an open file
OPEN_SHARDS = 128  # of those that are not mapped
RECENT_IDS = 2**16

_log = logging.getLogger(__name__)


class Store:
    """Records on disk, in the order in which they were written.

    ``store[k]`` is an :class:`~potnet.data.Record`. Its crystal was checked when it was written,
    and the SHA-256 of a shard is when it is first used; the arrays of a crystal are views into
    the mapped file.

    Attributes:
        path: Folder of the store.
        manifest: Content of ``store.json``.

    Args:
        path: Folder of the store.

    Raises:
        DataError: If the folder is not a store, or a shard is missing or damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._shards: list[Block] = []  # without their arrays
        self._mapped: dict[int, Block] = {}
        self._opened: OrderedDict[int, Block] = OrderedDict()
        self._sound: set[str] = set()
        self.refresh()

    @staticmethod
    def exists(path: str | os.PathLike[str]) -> bool:
        """Whether ``path`` is the folder of a store."""
        return (Path(path) / MANIFEST).is_file()

    @staticmethod
    def create(
        path: str | os.PathLike[str], *, name: str = "", source: str = "", licence: str = ""
    ) -> Store:
        """Return a new, empty store.

        Args:
            path: Its folder; must be empty or missing.
            name: What the dataset is called; the name of the folder if not given.
            source: Where the data come from.
            licence: What may be done with them.

        Raises:
            DataError: If there are files in the folder.
        """
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        with _writing(path):
            if any(item.name != LOCK for item in path.iterdir()):
                raise DataError(
                    f"{path}: the folder of a new store must be empty, got one with files. "
                    "Choose another folder."
                )
            about = {"name": name or path.name, "source": source, "licence": licence}
            _write_manifest(path, {"format": FORMAT, **about, "records": 0, "sources": {}})
        return Store(path)

    # ------------------------------------------------------------------------------ reading

    def refresh(self) -> None:
        """Take in what was written since the store was opened."""
        with self._lock:
            self.manifest = _read_manifest(self.path)
            paths = sorted(self.path.glob("[0-9]*.safetensors"))
            for k, path in enumerate(paths):
                if path.name != _name(k):
                    raise _incomplete(self.path, f"{path.name} but no {_name(k)}")
            # All but the last of those known are as they were.
            shards = self._shards[: min(len(self._shards) - 1, len(paths))]
            for k, path in enumerate(paths[len(shards) :], len(shards)):
                self._mapped.pop(k, None)
                self._opened.pop(k, None)
                shards.append(Block.load(path, check=False).summary())
            self._starts = np.cumsum([0, *map(len, shards)])
            for k, shard in enumerate(shards):
                if shard.first != self._starts[k]:
                    got = f"{_name(k)} from record {shard.first} on, after {self._starts[k]}"
                    raise _incomplete(self.path, got)
            if self._starts[-1] < self.manifest["records"]:
                got = f"{self._starts[-1]} records of {self.manifest['records']}"
                raise _incomplete(self.path, got)
            self._shards = shards

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, place: int) -> Record:
        block, row = self._find(place)
        return block.record(row)

    def __iter__(self) -> Iterator[Record]:
        for block in self._blocks():
            yield from map(block.record, range(len(block)))

    def __repr__(self) -> str:
        return f"<Store {self.name!r}: {len(self)} records in {len(self._shards)} shards>"

    def crystal(self, place: int) -> Crystal:
        """Return the crystal of record ``place``."""
        block, row = self._find(place)
        return block.crystal(row)

    def place(self, id: str) -> int:
        """Return the place of the record ``id``.

        Raises:
            KeyError: If there is none.
        """
        if getattr(self, "_index", None) is None or self._index.size != len(self):
            self._index = Ids(self._blocks())
        found = self._index.find([id])[0]
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
        return [id for block in self._blocks() for id in block.ids()]

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of all targets."""
        return tuple(dict.fromkeys(name for shard in self._shards for name in shard.targets))

    @property
    def units(self) -> dict[str, str]:
        """Unit of each target, as far as it is known."""
        return merged_units(shard.units for shard in self._shards)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What was in the sources and could not become a record, in their order."""
        return tuple(failure for shard in self._shards for failure in shard.failures)

    @property
    def version(self) -> str:
        """SHA-256 of everything in the store: equal content, written in the same way, is equal."""
        text = json.dumps([FORMAT, *(shard.digest for shard in self._shards)])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def is_complete(self) -> bool:
        """Whether every source that was begun has been read to its end."""
        return all(source["complete"] for source in self.manifest["sources"].values())

    @property
    def atom_counts(self) -> NDArray[np.int64]:
        """Atoms of each crystal, shape (n,)."""
        counts = [np.diff(block.arrays["atom_offsets"]) for block in self._blocks()]
        return np.concatenate([np.empty(0, np.int64), *counts])

    def column(self, target: str) -> NDArray[np.float64]:
        """Return the values of a target, nan where there are none, shape (n,)."""
        columns = [block.target(target) for block in self._blocks()]
        return np.concatenate([np.empty(0), *columns])

    def require_targets(self, targets: Sequence[str]) -> None:
        """Raise ``DataError`` unless all of ``targets`` are in the store."""
        absent = [name for name in targets if name not in self.targets]
        if absent:
            raise DataError(
                f"{self.path}: targets must be columns of the store "
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
        """Return the store as a dataset whose crystals stay on disk.

        Args:
            targets: Columns to keep, in this order; none keeps them all.
            units: Units to have targets in, as :func:`potnet.data.open` takes them.
            source_units: Units of targets in the store, where it does not know them.

        Raises:
            DataError: If a target is not in the store, a unit cannot be had, or the store is empty.
        """
        self.require_targets(targets)
        if not self.is_complete:
            _log.warning("%s: not all of its source is in the store yet.", self.path)
        words = {word for shard in self._shards for word in shard.words}
        columns = {
            name: self.column(name)
            for name in targets or (name for name in self.targets if name not in words)
        }
        asked = Units(units or {}, source_units or {}).of(self.units)
        known = {name: asked.applied({name: np.nan}, 1)[1][name] for name in columns}
        for name in {*(units or ()), *(source_units or ())} & columns.keys():
            rows = zip(columns[name].tolist(), self.atom_counts.tolist(), strict=True)
            columns[name] = np.array([asked.applied({name: x}, n)[0][name] for x, n in rows])
        names = [n for n, column in columns.items() if targets or not np.isnan(column).all()]
        splits = dict.fromkeys(name for shard in self._shards for name in shard.splits)
        labels = {
            name: np.array([label for block in self._blocks() for label in block.split(name)], str)
            for name in splits
            if name == "" or name in names
        }
        folds = official_folds(labels[""].tolist()) if "" in labels else None
        return Dataset(
            ids=tuple(self.ids),
            crystals=StoredCrystals(self, np.arange(len(self))),
            targets={name: columns[name] for name in names},
            units=known,
            splits=labels if folds is None else {},
            folds=folds,
            name=self.name,
            source=self.manifest["source"],
            licence=self.manifest["licence"],
            failures=self.failures,
        )

    def verify(self, progress: Callable[[int, int], None] | None = None) -> list[str]:
        """Return what is wrong with the store, a sentence each; an empty list if it is sound.

        Every byte is read: checksums of all shards, then ids that repeat.

        Args:
            progress: Called with the number of shards read and their total.
        """
        faults = []
        for k in range(len(self._shards)):
            try:
                Block.load(self.path / _name(k))
            except DataError as error:
                faults.append(str(error))
            if progress is not None:
                progress(k + 1, len(self._shards))
        if not faults:
            index = Ids(())
            for block in self._blocks():
                repeated = index.add(block.ids())
                faults += [
                    f"{self.path}: ids must not repeat, got {block.ids()[row]!r} twice. "
                    "Build the store again."
                    for row in repeated
                ]
        return faults

    def _find(self, place: int) -> tuple[Block, int]:
        if not 0 <= place < len(self):
            raise IndexError(f"{self.path}: a place must be below {len(self)}, got {place}.")
        k = int(np.searchsorted(self._starts, place, "right")) - 1
        return self._block(k), place - int(self._starts[k])

    def _block(self, k: int) -> Block:
        """Return shard ``k`` for reading records: mapped, or open if too much would be mapped."""
        with self._lock:
            block = self._mapped.get(k)
            if block is not None:
                return block
            block = self._opened.get(k)
            if block is not None:
                self._opened.move_to_end(k)
                return block
            block = self._load(k)
            n_bytes = block.n_bytes + sum(block.n_bytes for block in self._mapped.values())
            if n_bytes <= MAPPED_BYTES and len(self._mapped) < MAPPED_SHARDS:
                self._mapped[k] = block
                return block
            opened = block.opened()
            self._opened[k] = block = block if opened is None else opened
            if len(self._opened) > OPEN_SHARDS:
                self._opened.popitem(last=False)
            return block

    def _load(self, k: int) -> Block:
        """Return shard ``k``, checked the first time and whenever its file is another one."""
        block = self._shards[k].mapped_again() if self._shards[k].digest in self._sound else None
        if block is None:
            block = Block.load(self.path / _name(k))
            self._sound.add(block.digest)
        return block

    def _blocks(self) -> Iterator[Block]:
        """Yield the shards, no longer than they are now; they do not stay mapped."""
        for k, shard in enumerate(list(self._shards)):
            yield self._load(k).head(len(shard))

    # ------------------------------------------------------------------------------ writing

    def append(
        self, records: Iterable[Record | Failure], *, on_error: Literal["raise", "skip"] = "raise"
    ) -> None:
        """Add ``records`` behind those that are there; when this returns they are on disk.

        Args:
            records: What to add, of any number: no more than a shard of them is in memory.
            on_error: What happens when an id is in the store already: "raise", or "skip" and
                list it in ``failures``.

        Raises:
            DataError: If an id repeats and ``on_error`` is "raise" (the records before it stay),
                or if another process is writing.
        """
        with Writer(self) as writer:
            items = iter(records)
            while chunk := list(itertools.islice(items, CHUNK)):
                writer.add(Block.of(chunk), on_error=on_error)


class Writer:
    """The one process that writes a store, while it does so.

    Args:
        store: The store; it is refreshed when the writer begins and after each shard.

    Raises:
        DataError: On entering, if another process is writing.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._pending: list[Block] = []
        self._stack = ExitStack()

    def __enter__(self) -> Writer:
        self._stack.enter_context(_writing(self.store.path))
        self.store.refresh()
        self._index = Ids(self.store._blocks())
        self._units = self.store.units
        return self

    def __exit__(self, *exception: Any) -> None:
        with self._stack:
            self.flush()
            self._write_manifest(records=len(self.store))
            _write_errors(self.store.path / "errors.csv", self.store.failures)

    def rows_done(self, source: str) -> int:
        """Return how many rows of ``source`` are on disk."""
        parts = (part for shard in self.store._shards for part in shard.parts)
        return max((stop for name, _, stop in parts if name == source), default=0)

    def note_source(self, source: str, **about: Any) -> None:
        """Write down what is known about a source."""
        self._write_manifest(sources={**self.store.manifest["sources"], source: about})

    def add(self, block: Block, *, on_error: Literal["raise", "skip"] = "skip") -> None:
        """Add the records of ``block``; those whose id is taken fail.

        Raises:
            DataError: If a target has another unit than before, or an id is taken and
                ``on_error`` is "raise".
        """
        self._units = merged_units([self._units, block.units])
        ids = block.ids()
        repeated = self._index.add(ids)
        failures = {
            row: Failure(
                ids[row],
                "read",
                f"{ids[row]}: ids must not repeat, got one that is in the store already. "
                "Rename or remove one of the two.",
            )
            for row in repeated
        }
        if failures and on_error == "raise":
            raise DataError(failures[repeated[0]].reason)
        self._pending.append(block.without(failures))
        if is_full([*self._unfilled(), *self._pending]):
            self.flush()

    def flush(self) -> None:
        """Write what is pending into the last shard, if it has room, or into a new one."""
        if not self._pending:
            return
        blocks = [*self._unfilled(), *self._pending]
        k = len(self.store._shards) - (len(blocks) - len(self._pending))
        whole = replace(Block.cat(blocks), first=int(self.store._starts[k]))
        whole.save(self.store.path / _name(k))
        self._pending = []
        self.store.refresh()

    def _unfilled(self) -> list[Block]:
        """Return the last shard if there is room in it."""
        k = len(self.store._shards) - 1
        block = self.store._load(k) if k >= 0 else None
        return [] if block is None or is_full([block]) else [block]

    def _write_manifest(self, **changes: Any) -> None:
        manifest = {**self.store.manifest, **changes}
        if manifest != self.store.manifest:
            _write_manifest(self.store.path, manifest)
            self.store.manifest = manifest


class StoredCrystals(LazyCrystals):
    """Crystals of a store, read when they are asked for.

    Args:
        store: Where they are.
        rows: Their places, shape (n,).
    """

    def __init__(self, store: Store, rows: NDArray[np.int64]) -> None:
        self.store, self.rows = store, rows

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: ArrayLike) -> StoredCrystals:
        return StoredCrystals(self.store, self.rows[np.asarray(rows, dtype=np.int64)])

    def read(self, row: int) -> Crystal:
        return self.store.crystal(int(self.rows[row]))


class Ids:
    """Which ids there are and where, in 24 bytes each, whatever their length.

    Args:
        blocks: Where they are found.
    """

    def __init__(self, blocks: Iterable[Block]) -> None:
        self.size = 0
        self._recent: dict[bytes, int] = {}
        self._keys, self._places = np.empty(0, "S16"), np.empty(0, np.int64)
        for block in blocks:
            self.add(block.ids())

    def find(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the place of each of ``ids``, -1 for those that are not there."""
        return self._find([_key(id) for id in ids])

    def add(self, ids: Sequence[str]) -> list[int]:
        """Add ``ids`` in the next places; return which of them were there and are left out."""
        keys = [_key(id) for id in ids]
        there = self._find(keys) >= 0
        repeated = []
        for row, key in enumerate(keys):
            if there[row] or key in self._recent:
                repeated.append(row)
            else:
                self._recent[key] = self.size
                self.size += 1
        if len(self._recent) >= RECENT_IDS:
            self._merge()
        return repeated

    def _find(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        found = np.array([self._recent.get(key, -1) for key in keys], np.int64)
        if len(self._keys) and len(keys):
            wanted = _sortable(keys)
            place = np.searchsorted(self._keys, wanted).clip(max=len(self._keys) - 1)
            hit = self._keys[place] == wanted
            found[hit] = self._places[place[hit]]
        return found

    def _merge(self) -> None:
        keys = np.concatenate([self._keys, _sortable(list(self._recent))])
        places = np.concatenate([self._places, np.array(list(self._recent.values()), np.int64)])
        order = np.argsort(keys, kind="stable")
        self._keys, self._places, self._recent = keys[order], places[order], {}


def is_full(blocks: Sequence[Block]) -> bool:
    """Whether ``blocks`` together fill a shard."""
    records = sum(map(len, blocks))
    return records >= SHARD_ENTRIES or sum(block.n_bytes for block in blocks) >= SHARD_BYTES


def _writing(path: Path) -> ExitStack:
    """Return the entered right to write into the folder ``path``.

    Raises:
        DataError: If another process has it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(path / LOCK))
        except BlockingIOError:
            raise DataError(
                f"{path}: only one process may write into a store, got a second one. "
                "Wait until the first has ended."
            ) from None
        remove_leftovers(path)
        return stack.pop_all()


def _name(k: int) -> str:
    return f"{k:06d}.safetensors"


def _key(id: str) -> bytes:
    return hashlib.blake2b(id.encode(), digest_size=16).digest()


def _sortable(keys: Sequence[bytes]) -> NDArray[np.bytes_]:
    return np.array(keys, "S16")


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
        found = manifest["format"]
        if not {"name", "source", "licence", "records", "sources"} <= manifest.keys():
            raise KeyError("name")
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(
            f"{path}: a store must have a readable {MANIFEST}, got none. Check the path, or build "
            "the store again."
        ) from None
    if found != FORMAT:
        raise DataError(
            f"{path}: format must be {FORMAT}, got {found}. Read it with the version of potnet "
            "that wrote it, or build the store again."
        )
    return manifest


def _write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    with atomic_write(path / MANIFEST) as file:
        json.dump(manifest, file, indent=1)


def _write_errors(path: Path, failures: Sequence[Failure]) -> None:
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "stage", "reason"])
        writer.writerows([f.id, f.stage, f.reason] for f in failures)


def _incomplete(path: Path, got: str) -> DataError:
    return DataError(
        f"{path}: all shards of a store must be there, got {got}. "
        "Restore the folder from a copy, or build the store again."
    )
