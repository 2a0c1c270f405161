"""Opening tables: compressed or not, in any Unicode encoding, without trusting their size."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO

from potnet.data.readers.progress import followed
from potnet.errors import DataError

COMPRESSED = (".gz", ".bz2", ".xz", ".zip")
MAX_RECORD = 64 * 1024**2  # characters of one line, or of one value of a JSON document
MAX_RATIO = 200  # of a large file to its compressed form; tables of crystals reach 20
FREE_BYTES = 256 * 1024**2  # that a small file may swell to in any case

UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    NotImplementedError,  # an unknown compression, or a password, inside a zip archive
    RuntimeError,
)


def plain_name(path: Path) -> str:
    """Return the file name without the suffix of its compression."""
    return path.stem if path.suffix.lower() in COMPRESSED else path.name


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, decompressed; of a zip archive, the one file in it.

    Raises:
        DataError: If the file cannot be opened or read to its end, or swells beyond measure.
    """
    if not path.is_file():  # a pipe or device could keep a reader waiting
        raise DataError(f"{path}: the source must be a file or a folder, got neither. Check it.")
    try:
        with path.open("rb") as raw, followed(raw, path), _decompressed(raw, path) as file:
            if file is raw:
                yield raw
            else:
                yield io.BufferedReader(_Measured(file, path), 1 << 18)
    except UNREADABLE as error:
        if isinstance(error, RecursionError):
            raise
        raise DataError(
            f"{path}: the file must be readable, got {type(error).__name__}: {error}. "
            "Copy or download it again."
        ) from error


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file in UTF-8, or in UTF-16 as Excel writes it; line ends stay as they are."""
    with open_bytes(path) as file:
        start = file.peek(4)[:4] if isinstance(file, io.BufferedReader) else b""
        encoding = "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
        if encoding == "utf-8-sig" and b"\0" in start:
            raise DataError(
                f"{path}: the file must be text, got binary data. Check what it is, and its suffix."
            )
        text = io.TextIOWrapper(file, encoding=encoding, newline="")
        try:
            yield text
        except UnicodeError as error:
            raise DataError(
                f"{path}: the text must be {encoding.removesuffix('-sig').upper()}, got "
                f"{_bytes_of(error)}. Save the file as UTF-8."
            ) from error


def lines_of(file: TextIO, place: str) -> Iterator[str]:
    """Yield the lines of a text with their ends.

    Raises:
        DataError: If a line is longer than ``MAX_RECORD``.
    """
    number = 0
    while line := file.readline(MAX_RECORD + 1):
        number += 1
        if len(line) > MAX_RECORD:
            raise DataError(
                f"{place}, line {number}: a line must have at most {MAX_RECORD} characters, got "
                "more. Write one crystal per line."
            )
        yield line


def _bytes_of(error: UnicodeError) -> str:
    if not isinstance(error, UnicodeDecodeError):
        return str(error)
    return f"byte 0x{error.object[error.start]:02x} ({error.reason})"


@contextmanager
def _decompressed(raw: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    suffix = path.suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(raw) as archive, archive.open(_only_member(archive, path)) as file:
            yield file
        return
    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    if suffix not in openers:
        yield raw
        return
    with openers[suffix](raw, "rb") as file:
        yield file


def _only_member(archive: zipfile.ZipFile, path: Path) -> str:
    """Return the name of the file in an archive, which must be one; the Mac adds hidden ones."""
    names = [
        info.filename
        for info in archive.infolist()
        if not info.is_dir()
        and not info.filename.startswith("__MACOSX/")
        and not Path(info.filename).name.startswith(".")
    ]
    if len(names) != 1:
        raise DataError(
            f"{path}: the archive must hold one table, got {len(names)} files. "
            "Unpack it, and name the table or the folder."
        )
    return names[0]


class _Measured(io.RawIOBase):
    """A decompressed stream that ends in an error when it swells beyond measure."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._path = path
        self._limit = max(FREE_BYTES, MAX_RATIO * path.stat().st_size)
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        self._count += len(content)
        if self._count > self._limit:
            raise DataError(
                f"{self._path}: the file must not swell more than {MAX_RATIO} times when it is "
                f"decompressed, got more than {self._count // 1024**2} MiB. Check where it is from."
            )
        return len(content)
