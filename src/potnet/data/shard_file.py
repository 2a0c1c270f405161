"""The Parquet file of a shard: what it says before it is read, and whether it is as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from potnet.data.shard import About, Shard, columns_of
from potnet.errors import DataError

Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class ShardFile:
    """A file of a folder, so that its footer need be read only once.

    Attributes:
        path: Where it is.
        metadata: Its footer.
        names: Its columns.
        about: What it says beside its columns.
        digest: Its SHA-256, once it has been compared.
        stamp: Device, number, size and time of change then: another content has another stamp.
    """

    path: Path
    metadata: parquet.FileMetaData
    names: frozenset[str]
    about: About
    digest: str = ""
    stamp: Stamp | None = None

    @staticmethod
    def opened(path: Path) -> ShardFile:
        """Return the file ``path``; nothing but its footer is read.

        Raises:
            DataError: If it is not one that potnet wrote.
        """
        with _reading(path):
            metadata = parquet.read_metadata(path)
            schema = metadata.schema.to_arrow_schema()
            about = About.loads((schema.metadata or {})[b"potnet"])
            for name, kind in columns_of(about).items():
                if schema.field(name).type != kind:
                    raise DataError(
                        f"column {name!r} must be {kind}, got {schema.field(name).type}. "
                        "Build the folder again."
                    )
            sizes = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
            same = len(set(sizes[:-1])) <= 1 and sizes[-1:] <= sizes[:1]
            if not same or sum(sizes) != metadata.num_rows:
                raise ValueError("row groups of other sizes")
        return ShardFile(path, metadata, frozenset(schema.names), about)

    def __len__(self) -> int:
        return self.metadata.num_rows

    @cached_property
    def group_size(self) -> int:
        """Records in each row group but the last, which may have fewer."""
        return self.metadata.row_group(0).num_rows

    @property
    def is_checked(self) -> bool:
        """Whether the file has been compared, and is the same since."""
        return bool(self.digest) and _stamp(self.path) == self.stamp

    def sha256(self) -> str:
        """Return the SHA-256 of the file as it is now."""
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def checked(self, digest: str, known: Sequence[str]) -> ShardFile:
        """Return the file with its ``digest``, if that is one of those that were written.

        Raises:
            DataError: If it is not, or not that of an earlier look.
        """
        if digest not in known or (self.digest and digest != self.digest):
            raise _damaged(self.path, "changed bytes")
        return replace(self, digest=digest, stamp=_stamp(self.path))

    def unchecked(self) -> ShardFile:
        """Return the file as if it had never been looked at."""
        return replace(self, digest="", stamp=None)

    def group(self, k: int) -> Shard:
        """Return the records of a row group, under what is known of the whole file.

        Raises:
            DataError: If it cannot be read, or holds no crystals.
        """
        with _reading(self.path):
            table = self._reader().read_row_group(k, use_threads=False).combine_chunks()
            shard = Shard(table, self.about, str(self.path))
            shard.require_crystals()
        return shard

    def group_bytes(self, k: int) -> int:
        """Return about how much memory a row group takes."""
        return self.metadata.row_group(k).total_byte_size

    def whole(self) -> Shard:
        """Return all of it.

        Raises:
            DataError: As :meth:`group`.
        """
        with _reading(self.path):
            table = self._reader().read(use_threads=False).combine_chunks()
            shard = Shard(table, self.about, str(self.path))
            shard.require_crystals()
        return shard

    def groups(self) -> Iterator[Shard]:
        """Yield all row groups."""
        for k in range(self.metadata.num_row_groups):
            yield self.group(k)

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Return those of the columns that are there, or that of the ids."""
        with _reading(self.path):
            there = [name for name in names if name in self.names]
            return self._reader().read(columns=there or ["id"], use_threads=False)

    def _reader(self) -> parquet.ParquetFile:
        return parquet.ParquetFile(self.path, metadata=self.metadata, memory_map=True)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tell of whatever goes wrong inside that the file is not what potnet wrote."""
    try:
        yield
    except DataError as error:
        text = str(error)
        raise DataError(text if text.startswith(f"{path}: ") else f"{path}: {text}") from None
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        pa.ArrowException,
    ):
        raise _damaged(path, "content that cannot be read") from None


def _stamp(path: Path) -> Stamp:
    about = path.stat()
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def _damaged(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: must be as it was written, got {what}. "
        "Restore the file from a copy, or build the folder again."
    )
