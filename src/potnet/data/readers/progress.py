"""How far the reading of a source has come, for those who wait for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any, TypeVar

Item = TypeVar("Item")


class ReadingProgress:
    """Counts rows, and says how many there will be.

    What is read while the progress is entered reports to it: a reader that knows its number of rows
    by :func:`expect`, any other file by its place in the bytes on disk, compressed or not.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._expected: int | None = None
        self._file: IO[bytes] | None = None
        self._size = 0

    def __enter__(self) -> ReadingProgress:
        self._token = _progress.set(self)
        return self

    def __exit__(self, *exception: Any) -> None:
        _progress.reset(self._token)

    def counted(self, rows: Iterable[Item]) -> Iterator[Item]:
        """Yield ``rows`` and count them."""
        for row in rows:
            self.rows += 1
            yield row
        self._expected = self.rows

    @property
    def total(self) -> int | None:
        """Rows that the source has: exact, or by the share of its bytes that the rows took.

        None where nobody knows, as in a folder of files, or of a file so short that all of it is
        read before its first row.
        """
        if self._expected is not None:
            return max(self._expected, self.rows)
        at = 0 if self._file is None else self._file.tell()
        return round(self.rows * self._size / at) if 0 < at < self._size else None


_progress: ContextVar[ReadingProgress | None] = ContextVar("progress", default=None)


def expect(rows: int) -> None:
    """Tell whoever waits that the source has so many rows."""
    progress = _progress.get()
    if progress is not None:
        progress._expected = rows


@contextmanager
def followed(file: IO[bytes], path: Path) -> Iterator[None]:
    """Let whoever waits follow ``file``, as it lies on disk, unless it belongs to another file."""
    progress = _progress.get()
    if progress is None or progress._file is not None:
        yield
        return
    progress._file, progress._size = file, path.stat().st_size
    try:
        yield
    finally:
        progress._file = None
