"""The arrays of a file: mapped into memory, or read where they are asked for.

Mapped arrays are the fastest, but every page that was touched stays in memory until the whole file
is let go, and mapping a file again costs more than ten readings. So a store maps what it may and
reads the rest in place.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, Any]
Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class Place:
    """Where an array lies in a file.

    Attributes:
        kind: Type of its items.
        shape: Its shape.
        n_items: Their number.
        offset: Bytes of the file before it.
    """

    kind: Any
    shape: Sequence[int]
    n_items: int
    offset: int

    def mapped(self, data: mmap.mmap) -> NDArray[Any]:
        """Return the array as a view into the mapped file."""
        if self.n_items == 0:
            return np.zeros(self.shape, self.kind)
        return np.frombuffer(data, self.kind, self.n_items, self.offset).reshape(self.shape)


@dataclass(frozen=True)
class File:
    """A file of arrays, so that its header need be read only once.

    Attributes:
        path: Where it is.
        stamp: Device, number, size and time of change: another content has another stamp.
        places: Where its arrays are.
    """

    path: Path
    stamp: Stamp
    places: Mapping[str, Place]

    def mapped(self) -> Arrays | None:
        """Return the arrays, mapped; None if the file is another one by now."""
        data, stamp = map_file(self.path)
        if stamp != self.stamp:
            return None
        return {key: place.mapped(data) for key, place in self.places.items()}

    def opened(self) -> Arrays | None:
        """Return the arrays as columns that read their rows; None as in :meth:`mapped`."""
        source = Source(self.path)
        if source.stamp != self.stamp:
            return None
        return {key: Column(place, source) for key, place in self.places.items()}


class Source:
    """A file that is open as long as someone reads from it."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self._lock = threading.Lock()
        self.stamp = _stamp(self._file)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def read(self, n_bytes: int, offset: int) -> bytes:
        """Return ``n_bytes`` bytes from ``offset`` on."""
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), n_bytes, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(n_bytes)


class Column:
    """An array that reads one row, or a run of rows, whenever it is asked for them."""

    __slots__ = ("_source", "_kind", "_shape", "_length", "_offset", "_row_bytes", "nbytes")

    def __init__(self, place: Place, source: Source) -> None:
        self._source, self._kind, self._offset = source, place.kind, place.offset
        self._length, *self._shape = place.shape
        self.nbytes = place.n_items * np.dtype(place.kind).itemsize
        self._row_bytes = self.nbytes // max(self._length, 1)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, rows: int | slice) -> NDArray[Any]:
        is_run = isinstance(rows, slice)
        start, stop = (rows.start, rows.stop) if is_run else (rows, rows + 1)
        size = self._row_bytes
        data = self._source.read((stop - start) * size, self._offset + start * size)
        shape = [stop - start, *self._shape] if is_run else self._shape
        return np.frombuffer(data, self._kind).reshape(shape)


def map_file(path: Path) -> tuple[mmap.mmap, Stamp]:
    """Return a file, mapped, and its stamp."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), _stamp(file)


def _stamp(file: IO[bytes]) -> Stamp:
    about = os.fstat(file.fileno())
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
