"""A dataset: crystals with ids, targets, units and, if it has one, an official split."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from potnet.crystal import Crystal
from potnet.data.record import Labels, Record
from potnet.errors import DataError, Failure
from potnet.files import atomic_write
from potnet.io.json_files import dumps

if TYPE_CHECKING:
    import pandas

PARTS = ("train", "val", "test")


class LazyCrystals(Sequence[Crystal]):
    """Crystals that are read each time they are asked for: a dataset larger than memory."""

    @abstractmethod
    def read(self, row: int) -> Crystal:
        """Return the crystal in place ``row``, from 0."""

    @abstractmethod
    def take(self, rows: ArrayLike) -> LazyCrystals:
        """Return the crystals in the places ``rows``, in that order, without reading them."""

    @overload
    def __getitem__(self, index: int) -> Crystal: ...

    @overload
    def __getitem__(self, index: slice) -> LazyCrystals: ...

    def __getitem__(self, index: int | slice) -> Crystal | LazyCrystals:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        place = int(index) + len(self) * (index < 0)
        if not 0 <= place < len(self):
            raise IndexError(f"crystals: a place must be below {len(self)}, got {index}.")
        return self.read(place)


def take(crystals: Sequence[Crystal], rows: ArrayLike) -> Sequence[Crystal]:
    """Return the crystals in the places ``rows``; those on disk stay there."""
    if isinstance(crystals, LazyCrystals):
        return crystals.take(rows)
    return tuple(crystals[k] for k in np.asarray(rows, dtype=np.int64).tolist())


@dataclass(frozen=True, eq=False)
class Dataset:
    """Crystals with numbers to learn.

    Attributes:
        ids: Name of each crystal; no two are equal.
        crystals: The crystals, in the order of ``ids``: a tuple, or those of a folder on disk.
        targets: Columns of numbers by name, float64, shape (n,); nan where a value is missing.
        units: Unit of each target; "" where it is not known.
        splits: Official labels "train", "val", "test" or "" (in no part), shape (n,): under ""
            those that hold for every target, else under the name of a target.
        folds: Number of the official fold of each crystal from 0, shape (n,), -1 for in none; None
            if there are no official folds.
        name: What the dataset is called.
        source: Where the data come from.
        licence: What may be done with them.
        failures: What was left out when the dataset was read.
        words: Columns of words and of true and false by name, text, shape (n,); "" where missing.
            One that is named as a target is learned as classes.

    Raises:
        DataError: If there is no crystal, ids repeat, or a column does not fit.
    """

    ids: tuple[str, ...]
    crystals: Sequence[Crystal]
    targets: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    folds: NDArray[np.int64] | None = None
    name: str = ""
    source: str = ""
    licence: str = ""
    failures: tuple[Failure, ...] = ()
    words: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        for name in ("ids", "crystals"):
            given = getattr(self, name)
            if not isinstance(given, Iterable) or isinstance(given, str | bytes):
                raise DataError(
                    f"{self._where}: `{name}` must be a list, got {type(given).__name__}. "
                    "Give one for each crystal."
                )
        set_field(self, "ids", tuple(str(id) for id in self.ids))
        if not isinstance(self.crystals, LazyCrystals):
            set_field(self, "crystals", tuple(self.crystals))
            kinds = {type(c).__name__ for c in self.crystals if not isinstance(c, Crystal)}
            if kinds:
                raise DataError(
                    f"{self._where}: `crystals` must be of Crystal, got {min(kinds)}. "
                    "Make them with Crystal.from_any."
                )
        n = len(self.crystals)
        if n == 0:
            raise DataError(f"{self._where}: must hold at least one crystal, got none.")
        if len(self.ids) != n:
            raise DataError(
                f"{self._where}: must have an id for each of {n} crystals, got {len(self.ids)}."
            )
        if len(set(self.ids)) != n:
            seen: set[str] = set()
            twice = next(id for id in self.ids if id in seen or seen.add(id))
            raise DataError(
                f"{self._where}: ids must not repeat, got {twice!r} twice. "
                "Rename or remove one of the two."
            )
        if not isinstance(self.crystals, LazyCrystals):
            named = zip(self.ids, self.crystals, strict=True)
            crystals = tuple(c if c.id == id else c.replace(id=id) for id, c in named)
            set_field(self, "crystals", crystals)
        set_field(self, "targets", {k: self._column(k, v) for k, v in self.targets.items()})
        set_field(self, "units", {k: str(self.units.get(k, "")) for k in self.targets})
        set_field(self, "words", {k: self._texts(k, v) for k, v in self.words.items()})
        set_field(self, "splits", {k: self._labels(v) for k, v in self.splits.items()})
        if self.folds is not None:
            set_field(self, "folds", self._folds(self.folds))

    @property
    def _where(self) -> str:
        return self.name or "dataset"

    def _column(self, name: str, values: ArrayLike) -> NDArray[np.float64]:
        column = np.array(values, dtype=np.float64)
        if column.shape != (len(self.crystals),):
            raise DataError(
                f"{self._where}: target {name!r} must have one number per crystal, shape "
                f"({len(self.crystals)},), got {column.shape}. Mark missing ones as nan."
            )
        infinite = np.flatnonzero(np.isinf(column))
        if len(infinite):
            raise DataError(
                f"{self._where}: target {name!r} must be finite, got {column[infinite[0]]} for "
                f"{self.ids[infinite[0]]!r}. Correct it, or leave it out as missing."
            )
        column.setflags(write=False)
        return column

    def _texts(self, name: str, values: ArrayLike) -> NDArray[np.str_]:
        texts = np.array(values, dtype=str)
        if texts.shape != (len(self.crystals),):
            raise DataError(
                f"{self._where}: column {name!r} must have one word per crystal, shape "
                f"({len(self.crystals)},), got {texts.shape}. Leave missing ones empty."
            )
        texts.setflags(write=False)
        return texts

    def _folds(self, values: ArrayLike) -> NDArray[np.int64]:
        folds = np.array(values)
        if folds.shape != (len(self.crystals),) or folds.dtype.kind != "i" or folds.min() < -1:
            raise DataError(
                f"{self._where}: `folds` must be one whole number from -1 per crystal, got "
                f"{folds.dtype} of shape {folds.shape}. Number the folds from 0."
            )
        folds = folds.astype(np.int64)
        folds.setflags(write=False)
        return folds

    def _labels(self, values: ArrayLike) -> NDArray[np.str_]:
        labels = np.array(values, dtype=str)
        unknown = set(labels.ravel().tolist()) - {*PARTS, ""}
        if labels.shape != (len(self.crystals),) or unknown:
            got = f"{sorted(unknown)[0]!r}" if unknown else f"shape {labels.shape}"
            raise DataError(
                f"{self._where}: split labels must be train, val, test or empty, one per "
                f"crystal, got {got}. Rename the labels."
            )
        labels.setflags(write=False)
        return labels

    def __len__(self) -> int:
        return len(self.crystals)

    def __repr__(self) -> str:
        units = (f"{k} ({unit})" if unit else k for k, unit in self.units.items())
        columns = ", ".join((*units, *self.words)) or "no targets"
        return f"<Dataset {self.name or 'without a name'}: {len(self):,} crystals; {columns}>"

    @overload
    def __getitem__(self, index: str) -> NDArray[Any]: ...

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> Dataset: ...

    def __getitem__(self, index: Any) -> NDArray[Any] | Record | Dataset:
        """Return a column by its name, a row by its place, or the part of a slice, list or mask.

        Raises:
            KeyError: If there is no such column.
            IndexError: If there is no such row.
        """
        if isinstance(index, str):
            columns = {**self.words, **self.targets}
            if index not in columns:
                known = ", ".join(columns) or "it has none"
                raise KeyError(f"{self._where}: a column must be there ({known}), got {index!r}.")
            return columns[index]
        if isinstance(index, int | np.integer):
            return self._record(range(len(self))[index])
        return self.subset(np.arange(len(self))[index])

    def __iter__(self) -> Iterator[Record]:
        return (self._record(k) for k in range(len(self)))

    def _record(self, k: int) -> Record:
        targets = {name: float(column[k]) for name, column in self.targets.items()}
        labels = {name: str(column[k]) for name, column in self.splits.items() if column[k]}
        split: Labels | None = labels.get("") if list(labels) == [""] else labels or None
        if self.folds is not None and self.folds[k] >= 0:
            split = f"fold{self.folds[k]}"
        words = {name: str(column[k]) for name, column in self.words.items() if column[k]}
        known = {name: value for name, value in targets.items() if value == value}
        units = {name: unit for name, unit in self.units.items() if unit}
        return Record(self.ids[k], self.crystals[k], known, split, words, units)

    def to_pandas(self) -> pandas.DataFrame:
        """Return a table (pandas is not installed with potnet): ids, crystals, columns."""
        import pandas

        columns = {"crystal": list(self.crystals), **self.targets, **self.words}
        return pandas.DataFrame(columns, index=pandas.Index(self.ids, name="id"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the dataset as JSON Lines, whole or not at all; :func:`potnet.data.open` reads it.

        Args:
            path: A file name that ends in ``.jsonl``.

        Raises:
            DataError: If the name ends otherwise.
        """
        if not os.fspath(path).endswith(".jsonl"):
            raise DataError(
                f"{path}: a dataset must be written as .jsonl, got another name. Rename it; "
                "folders of Parquet files are built by potnet.data.build."
            )
        with atomic_write(path) as file:
            for record in self:
                values = {**record.targets, **record.info}
                extra = {"targets": values, "units": record.units, "split": record.split}
                kept = {key: value for key, value in extra.items() if value}
                file.write(dumps({**record.crystal.as_dict(), "id": record.id, **kept}) + "\n")

    def split_for(self, targets: Sequence[str]) -> NDArray[np.str_] | None:
        """Return the official labels for learning ``targets`` together, shape (n,), or None.

        Where the targets have splits of their own, a crystal is a test crystal if it is one for
        any of them, and a validation crystal likewise: no label of a held-back crystal is learned.
        """
        own = [self.splits[name] for name in targets if name in self.splits]
        own = own or ([self.splits[""]] if "" in self.splits else [])
        if not own:
            return None
        merged = np.full(len(self), "", dtype="<U5")
        for part in PARTS:  # Later parts win.
            merged[np.any([labels == part for labels in own], axis=0)] = part
        return merged

    def subset(self, indices: ArrayLike) -> Dataset:
        """Return the crystals at ``indices`` (or where a mask is true), in that order."""
        rows = np.asarray(indices)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        return Dataset(
            ids=tuple(self.ids[k] for k in rows),
            crystals=take(self.crystals, rows),
            targets={name: column[rows] for name, column in self.targets.items()},
            units=self.units,
            words={name: column[rows] for name, column in self.words.items()},
            splits={name: labels[rows] for name, labels in self.splits.items()},
            folds=None if self.folds is None else self.folds[rows],
            name=self.name,
            source=self.source,
            licence=self.licence,
        )

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of the ids, the crystals and the targets."""
        digest = hashlib.sha256()
        for id, crystal in zip(self.ids, self.crystals, strict=True):
            digest.update(f"{id}\0{crystal.n_atoms}\0".encode())
            for array in (crystal.numbers, crystal.positions, crystal.cell, crystal.pbc):
                digest.update(array.tobytes())
        for name in sorted(self.targets):
            digest.update(name.encode() + b"\0" + self.targets[name].tobytes())
        return digest.hexdigest()
