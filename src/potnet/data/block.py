"""Many records as flat arrays, in memory or in one safetensors file that is mapped into it.

A file is an ordinary safetensors file: any reader of that format opens it. Ragged columns lie one
after the other with the offsets beside them, so that a record is a handful of slices. Its header
carries the SHA-256 of everything in it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potnet.crystal import Crystal
from potnet.data.on_disk import Arrays, File, Place, map_file
from potnet.data.record import Record, words_of
from potnet.errors import DataError, Failure
from potnet.files import atomic_write
from potnet.io.records import dumps

FORMAT = 1

# Each ragged column and the column of its offsets, shape (n + 1,).
RAGGED = {"numbers": "atom_offsets", "positions": "atom_offsets", "ids": "id_offsets"}
RAGGED |= {"info": "info_offsets"}
_TYPES = {"F64": np.float64, "I64": np.int64, "U8": np.uint8}


@dataclass(frozen=True, eq=False)
class Block:
    """Records, what failed between them, and where they come from.

    Attributes:
        arrays: ``numbers`` (n_atoms,), ``positions`` (n_atoms, 3) in Å, ``cells`` (n, 3, 3) in Å,
            ``pbc`` (n, 3), ``targets`` (n, n_targets) with nan where missing, ``splits``
            (n, n_splits) as places in ``labels``, ``ids`` and ``info`` as UTF-8, and offsets.
        targets: Names of the targets.
        units: Their units, as far as they are known.
        splits: Names of the splits: that of a target, or "" for all targets.
        labels: Labels of the splits; the first is "", for a record without one.
        words: Columns of ``info``: a target of the same name is no number somewhere.
        failures: What could not become a record.
        parts: Rows of sources that the block holds: [source, first row, row after the last].
        first: Records in the store before this block.
        digest: SHA-256 of the content, once it has been on disk.
        file: The file that the block was read from.
    """

    arrays: Arrays
    targets: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    splits: tuple[str, ...] = ()
    labels: tuple[str, ...] = ("",)
    words: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    parts: tuple[tuple[str, int, int], ...] = ()
    first: int = 0
    digest: str = ""
    file: File | None = None

    def __len__(self) -> int:
        return len(self.arrays["cells"])

    @cached_property
    def n_bytes(self) -> int:
        """Size of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    # ------------------------------------------------------------------------------- making

    @staticmethod
    def of(items: Iterable[Record | Failure], parts: Sequence[tuple[str, int, int]] = ()) -> Block:
        """Return ``items`` as a block.

        Raises:
            DataError: If a target has two units, or information of a record is not plain data.
        """
        items = list(items)
        records = [item for item in items if isinstance(item, Record)]
        targets = tuple(dict.fromkeys(name for e in records for name in e.targets))
        splits = [_labels(record) for record in records]
        names = tuple(dict.fromkeys(name for labels in splits for name in labels))
        labels = ("", *sorted({v for one in splits for v in one.values()} - {""}))
        place = {label: k for k, label in enumerate(labels)}
        crystals = [record.crystal for record in records]
        ids = [record.id.encode() for record in records]
        info = [_info(record) for record in records]
        arrays: Arrays = {
            "atom_offsets": _offsets([crystal.n_atoms for crystal in crystals]),
            "numbers": _joined([c.numbers for c in crystals], np.uint8),
            "positions": _joined([c.positions for c in crystals], np.float64, (3,)),
            "cells": np.array([c.cell for c in crystals], np.float64).reshape(-1, 3, 3),
            "pbc": np.array([c.pbc for c in crystals], np.uint8).reshape(-1, 3),
            "id_offsets": _offsets([len(id) for id in ids]),
            "ids": np.frombuffer(b"".join(ids), np.uint8),
            "info_offsets": _offsets([len(text) for text in info]),
            "info": np.frombuffer(b"".join(info), np.uint8),
            "targets": np.array(
                [[record.targets.get(name, np.nan) for name in targets] for record in records],
                np.float64,
            ).reshape(len(records), len(targets)),
            "splits": np.array(
                [[place[one.get(name, "")] for name in names] for one in splits], np.uint8
            ).reshape(len(records), len(names)),
        }
        failures = tuple(item for item in items if isinstance(item, Failure))
        units = merged_units(record.units for record in records)
        words = tuple(sorted({name for record in records for name in record.info}))
        return Block(arrays, targets, units, names, labels, words, failures, tuple(parts))

    @staticmethod
    def cat(blocks: Sequence[Block]) -> Block:
        """Return the records of ``blocks`` one after the other."""
        if len(blocks) == 1:
            return blocks[0]
        targets = tuple(dict.fromkeys(name for b in blocks for name in b.targets))
        splits = tuple(dict.fromkeys(name for b in blocks for name in b.splits))
        labels = ("", *sorted({label for b in blocks for label in b.labels} - {""}))
        code = {label: k for k, label in enumerate(labels)}
        arrays: Arrays = {}
        for key in blocks[0].arrays:
            if key in RAGGED.values():
                arrays[key] = _offsets(np.concatenate([np.diff(b.arrays[key]) for b in blocks]))
            elif key not in ("targets", "splits"):
                arrays[key] = np.concatenate([b.arrays[key] for b in blocks])
        n = sum(map(len, blocks))
        arrays["targets"] = np.full((n, len(targets)), np.nan)
        arrays["splits"] = np.zeros((n, len(splits)), np.uint8)
        start = 0
        for block in blocks:
            rows = slice(start, start + len(block))
            for k, name in enumerate(block.targets):
                arrays["targets"][rows, targets.index(name)] = block.arrays["targets"][:, k]
            codes = np.array([code[label] for label in block.labels], np.uint8)
            for k, name in enumerate(block.splits):
                arrays["splits"][rows, splits.index(name)] = codes[block.arrays["splits"][:, k]]
            start += len(block)
        return Block(
            arrays,
            targets,
            merged_units(b.units for b in blocks),
            splits,
            labels,
            tuple(sorted({word for b in blocks for word in b.words})),
            tuple(failure for b in blocks for failure in b.failures),
            _joined_parts(part for b in blocks for part in b.parts),
            blocks[0].first,
        )

    def without(self, rows: Mapping[int, Failure]) -> Block:
        """Return the block without the records at ``rows``, which are failures instead."""
        if not rows:
            return self
        keep = np.ones(len(self), bool)
        keep[list(rows)] = False
        arrays: Arrays = {}
        for key, array in self.arrays.items():
            if key in RAGGED.values():
                arrays[key] = _offsets(np.diff(array)[keep])
            elif key in RAGGED:
                arrays[key] = array[np.repeat(keep, np.diff(self.arrays[RAGGED[key]]))]
            else:
                arrays[key] = array[keep]
        return replace(self, arrays=arrays, failures=(*self.failures, *rows.values()))

    def summary(self) -> Block:
        """Return the block without its arrays, but for its length: what a store remembers."""
        return replace(self, arrays={"cells": np.broadcast_to(np.float64(0), (len(self),))})

    def head(self, n: int) -> Block:
        """Return the first ``n`` records."""
        if n == len(self):
            return self
        arrays: Arrays = {}
        for key, array in self.arrays.items():
            if key in RAGGED.values():
                arrays[key] = array[: n + 1]
            elif key in RAGGED:
                arrays[key] = array[: self.arrays[RAGGED[key]][n]]
            else:
                arrays[key] = array[:n]
        return replace(self, arrays=arrays)

    # ------------------------------------------------------------------------------ reading

    def crystal(self, row: int) -> Crystal:
        """Return the crystal of record ``row`` with the words of its row, as datasets have it.

        Its arrays are views into the block.
        """
        info = self._info(row)
        return self._crystal(row, info.get("crystal", {}) | words_of(info.get("record", {})))

    def record(self, row: int) -> Record:
        """Return record ``row``."""
        arrays, info = self.arrays, self._info(row)
        values = zip(self.targets, arrays["targets"][row].tolist(), strict=True)
        labels = {
            name: self.labels[code]
            for name, code in zip(self.splits, arrays["splits"][row].tolist(), strict=True)
            if code
        }
        crystal = self._crystal(row, info.get("crystal"))
        return Record(
            crystal.id,
            crystal,
            {name: value for name, value in values if value == value},
            labels[""] if list(labels) == [""] else (labels or None),
            info.get("record", {}),
            {name: self.units[name] for name in self.targets if name in self.units},
        )

    def ids(self) -> list[str]:
        """Return the ids of all records."""
        text, ends = self.arrays["ids"].tobytes(), self.arrays["id_offsets"].tolist()
        return [text[a:b].decode() for a, b in zip(ends, ends[1:], strict=False)]

    def target(self, name: str) -> NDArray[np.float64]:
        """Return the values of a target, nan where there are none, shape (n,)."""
        if name not in self.targets:
            return np.full(len(self), np.nan)
        return self.arrays["targets"][:, self.targets.index(name)]

    def split(self, name: str) -> list[str]:
        """Return the labels of a split, "" where there are none, n of them."""
        if name not in self.splits:
            return [""] * len(self)
        codes = self.arrays["splits"][:, self.splits.index(name)]
        return [self.labels[code] for code in codes.tolist()]

    def _crystal(self, row: int, info: Mapping[str, Any] | None) -> Crystal:
        arrays = self.arrays
        start, stop = arrays["atom_offsets"][row : row + 2].tolist()
        return Crystal.restored(
            arrays["numbers"][start:stop].astype(np.int64),
            arrays["positions"][start:stop],
            arrays["cells"][row],
            arrays["pbc"][row].astype(bool),
            self._text("ids", row).decode(),
            info,
        )

    def _info(self, row: int) -> dict[str, Any]:
        text = self._text("info", row)
        return json.loads(text) if text else {}

    def _text(self, key: str, row: int) -> bytes:
        start, stop = self.arrays[RAGGED[key]][row : row + 2].tolist()
        return self.arrays[key][start:stop].tobytes()

    # ------------------------------------------------------------------------------ on disk

    def save(self, path: Path) -> Block:
        """Write the block to ``path``, whole or not at all; return it with its digest."""
        from safetensors.numpy import save

        content = {
            "format": FORMAT,
            "targets": self.targets,
            "units": dict(self.units),
            "splits": self.splits,
            "labels": self.labels,
            "words": self.words,
            "failures": [[f.id, f.stage, f.reason] for f in self.failures],
            "parts": self.parts,
            "first": self.first,
        }
        arrays = {key: np.ascontiguousarray(array) for key, array in self.arrays.items()}
        text = json.dumps(content)
        digest = _digest(arrays, text)
        # One key, because safetensors writes several in any order.
        stored = {"about": text, "about_sha256": _sha256(text), "sha256": digest}
        with atomic_write(path, "wb") as file:
            file.write(save(arrays, {"potnet": json.dumps(stored)}))
        return replace(self, digest=digest)

    @staticmethod
    def load(path: Path, *, check: bool = True) -> Block:
        """Return the block in the file ``path``, mapped; what it holds is read when it is used.

        Args:
            path: The file.
            check: Read everything once and compare its digest.

        Raises:
            DataError: If the file is not whole, of another format, or not what was written.
        """
        try:
            data, stamp = map_file(path)
            start = 8 + int.from_bytes(data[:8], "little")
            header = json.loads(data[8:start])
            stored = json.loads(header.pop("__metadata__")["potnet"])
            text, digest = stored["about"], stored["sha256"]
            if _sha256(text) != stored["about_sha256"]:
                raise _damaged(path, "changed bytes in its header")
            content = json.loads(text)
            end = start + max(about["data_offsets"][1] for about in header.values())
            if len(data) != end:
                raise _damaged(path, f"{len(data)} bytes instead of {end}")
            places = {key: _place(start, about) for key, about in header.items()}
            file = File(path, stamp, places)
            arrays = {key: place.mapped(data) for key, place in places.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise _damaged(path, "a header that cannot be read") from None
        if content["format"] != FORMAT:
            raise DataError(
                f"{path}: format must be {FORMAT}, got {content['format']}. Read it with the "
                "version of potnet that wrote it, or build the store again."
            )
        if check and _digest(arrays, text) != digest:
            raise _damaged(path, "changed bytes")
        return Block(
            arrays,
            tuple(content["targets"]),
            content["units"],
            tuple(content["splits"]),
            tuple(content["labels"]),
            tuple(content["words"]),
            tuple(Failure(*failure) for failure in content["failures"]),
            tuple((source, a, b) for source, a, b in content["parts"]),
            content["first"],
            digest,
            file,
        )

    def mapped_again(self) -> Block | None:
        """Return the summary of a file with its arrays; None if the file is another one by now."""
        arrays = self.file.mapped() if self.file else None
        return None if arrays is None else replace(self, arrays=arrays)

    def opened(self) -> Block | None:
        """Do as :meth:`mapped_again`; single records are read from the file when asked for."""
        arrays = self.file.opened() if self.file else None
        return None if arrays is None else replace(self, arrays=arrays)


def merged_units(found: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the units of all of ``found``.

    Raises:
        DataError: If two of them differ about a target.
    """
    units: dict[str, str] = {}
    for one in found:
        for name, unit in one.items():
            if unit and units.setdefault(name, unit) != unit:
                raise DataError(
                    f"store: target {name!r} must have one unit, got {units[name]!r} and "
                    f"{unit!r}. Convert the values, or rename one of the columns."
                )
    return units


def _labels(record: Record) -> Mapping[str, str]:
    split = record.split
    return split if isinstance(split, Mapping) else {"": split} if split else {}


def _info(record: Record) -> bytes:
    parts = {"record": dict(record.info), "crystal": dict(record.crystal.info)}
    parts = {key: value for key, value in parts.items() if value}
    return dumps(parts).encode() if parts else b""


def _offsets(lengths: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _joined(arrays: Sequence[NDArray], kind: Any, shape: tuple[int, ...] = ()) -> NDArray[Any]:
    return np.concatenate([np.empty((0, *shape)), *arrays]).astype(kind)


def _joined_parts(parts: Iterable[tuple[str, int, int]]) -> tuple[tuple[str, int, int], ...]:
    joined: list[tuple[str, int, int]] = []
    for source, start, stop in parts:
        if joined and joined[-1][0] == source and joined[-1][2] == start:
            joined[-1] = (source, joined[-1][1], stop)
        else:
            joined.append((source, start, stop))
    return tuple(joined)


def _damaged(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: a shard must be as it was written, got {what}. "
        "Restore the file from a copy, or build the store again."
    )


def _place(start: int, about: Mapping[str, Any]) -> Place:
    shape = about["shape"]
    return Place(_TYPES[about["dtype"]], shape, math.prod(shape), start + about["data_offsets"][0])


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(arrays: Arrays, text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for key in sorted(arrays):
        digest.update(f"\0{key}\0{arrays[key].dtype.str}\0{arrays[key].shape}\0".encode())
        digest.update(arrays[key].data)
    return digest.hexdigest()
