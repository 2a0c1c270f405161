"""The content of one file, in pieces that any process can read by itself, and in any order."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import itertools
import lzma
import os
import tempfile
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

import numpy as np

from potnet.crystal import Crystal
from potnet.errors import StructureError
from potnet.io.castep import parse_castep_cell
from potnet.io.cif import parse_cif
from potnet.io.espresso import parse_espresso
from potnet.io.extxyz import frames_of, read_frame
from potnet.io.found import Found, attempt, walled
from potnet.io.json_files import parse_json
from potnet.io.lammps import parse_lammps
from potnet.io.parquet import read_row as read_columns
from potnet.io.parquet import rows_of
from potnet.io.poscar import parse_poscar
from potnet.io.shelx import parse_shelx
from potnet.io.through_ase import format_of, parse_with_ase, refusal_of
from potnet.text import printable

# Bytes of one file, decompressed, by its kind: what a parser can take within its memory and time.
MAX_FILE_BYTES = 256 * 1024**2
MAX_BYTES = {
    "cif": 64 * 1024**2,
    "json": 128 * 1024**2,
    "shelx": 16 * 1024**2,
    "castep": 16 * 1024**2,
    "espresso": 16 * 1024**2,
}
MAX_LINE_BYTES = {"jsonl": 16 * 1024**2, "extxyz": 1024**2}
HEAD_BYTES = 16 * 1024**2  # of a POSCAR; what follows is a density
MAX_BLANK_LINES = 10_000  # in a row
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # as Windows marks it
LAMMPS_LINE_BYTES = 2**16
FEW_BYTES = 2**16  # of one file that is read at once

_VASP_NAMES = ("POSCAR", "CONTCAR", "CHGCAR", "AECCAR", "LOCPOT", "PARCHG", "ELFCAR")
_KINDS = {
    **dict.fromkeys((".vasp", ".poscar", ".contcar"), "poscar"),
    **dict.fromkeys((".cif", ".mcif"), "cif"),
    **dict.fromkeys((".xyz", ".extxyz"), "extxyz"),
    **dict.fromkeys((".res", ".ins", ".shelx"), "shelx"),
    **dict.fromkeys((".lammpstrj", ".lammpsdump", ".dump"), "lammps"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    ".json": "json",
    ".cell": "castep",
    ".pwi": "espresso",
    ".parquet": "parquet",
    ".xsf": "xsf",
}

_ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")

_ONE = {"shelx": parse_shelx, "castep": parse_castep_cell, "espresso": parse_espresso}

_OPENERS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}


def plain_name(path: str | os.PathLike[str]) -> str:
    """Return the file name without the suffix of its compression."""
    name = os.path.basename(path)
    stem, suffix = os.path.splitext(name)
    return stem if suffix in _OPENERS else name


def kind_of(name: str) -> str:
    """Return the format that a file name tells, or an empty string."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _KINDS:
        return _KINDS[suffix]
    if name.startswith("dump."):
        return "lammps"
    if name == "CHG":
        return "poscar"
    return "poscar" if any(word in name.upper() for word in _VASP_NAMES) else ""


class Piece(NamedTuple):
    """A part of a source, which any process can read.

    Attributes:
        path: The file that it belongs to, or an empty text.
        read: Function that yields what is found, as :func:`read_file` does.
        given: Its arguments: plain values and arrays.
        name: Of a crystal in a file of many; empty otherwise.
        share: How much of the file has been read with it, by bytes; 1 where nobody knows.
        size: Of what is given, in characters or bytes; 0 for a file that is not read yet.
    """

    path: str
    read: Callable[..., Iterable[Found]]
    given: tuple[Any, ...]
    name: str = ""
    share: float = 1.0
    size: int = 0

    def found(self) -> Iterator[Found]:
        """Yield each crystal in it, or the reason why there is none."""
        for name, found in self.read(*self.given):
            yield printable(name), found

    @staticmethod
    def of(path: str, name: str, found: Crystal | StructureError) -> Piece:
        """Return what has been read already."""
        if isinstance(found, Crystal):
            arrays = found.numbers, found.positions, found.cell, found.pbc
            given = (name, *arrays, found.id, dict(found.info))
            return Piece(path, _restored, given, name, size=found.positions.nbytes)
        return Piece(path, _refused, (name, str(found)), name)

    def digest(self) -> bytes:
        """Return what tells it from others: a file by size and time of change, else its content."""
        whole = hashlib.blake2b(self.read.__name__.encode(), digest_size=16)
        for value in self.given:
            if isinstance(value, Path):
                value = (str(value), _about(value))
            whole.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
        return whole.digest()


def _about(path: Path) -> tuple[int, int] | None:
    """Return size and time of change of a file, None if there is none."""
    try:
        about = path.stat()
    except (OSError, ValueError):
        return None
    return about.st_size, about.st_mtime_ns


def _restored(name: str, *fields: Any) -> Iterator[Found]:
    yield name, Crystal.restored(*fields)


def _refused(name: str, reason: str) -> Iterator[Found]:
    yield name, StructureError(reason)


def read_file(path: Path, is_named: bool, species: Sequence[str] = ()) -> Iterator[Found]:
    """Yield each crystal of a file, or the reason why there is none.

    Args:
        path: The file.
        is_named: Whether it was asked for: ASE may then tell the format by the content.
        species: Symbols for the counts of a POSCAR that does not say them.
    """
    for item in _items(path, is_named, species):
        if isinstance(item, Piece):
            yield from item.found()
        else:
            yield item


def pieces_of(path: Path, is_named: bool, species: Sequence[str] = ()) -> Iterator[Piece]:
    """Yield the parts of a file: itself if it is small, else the frames or crystals in it.

    Arguments are those of :func:`read_file`.
    """
    if _is_one_piece(path):
        yield Piece(printable(path), read_file, (path, is_named, tuple(species)))
        return
    for item in _items(path, is_named, species):
        yield item if isinstance(item, Piece) else Piece.of(printable(path), *item)


def _is_one_piece(path: Path) -> bool:
    """Return whether reading the whole file gives few crystals."""
    kind = kind_of(plain_name(path))
    if kind == "poscar" or kind in _ONE:
        return True
    if kind == "parquet":
        return False  # a few bytes may be thousands of rows
    limit = 2**13 if kind in ("jsonl", "extxyz", "json") or path.suffix in _OPENERS else 2**16
    try:
        return path.stat().st_size <= limit
    except OSError:
        return True  # which reading it will tell


def _items(path: Path, is_named: bool, species: Sequence[str]) -> Iterator[Found | Piece]:
    name = plain_name(path)
    kind = kind_of(name)
    stem = path.stem if name == path.name else Path(name).stem
    id = name if kind == "poscar" and not _has_suffix(name) else stem
    yield from walled(_parse(path, name, kind, id, is_named, species), id, path.name)


def _has_suffix(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _KINDS


def _parse(
    path: Path, name: str, kind: str, id: str, is_named: bool, species: Sequence[str]
) -> Iterator[Found | Piece]:
    """Yield the frames and lines of texts of many crystals, and what is found in other files."""
    try:
        if not S_ISREG(path.stat().st_mode):  # a pipe or device could keep a reader waiting
            raise StructureError(f"{path}: must be a file, got something else. Check the name.")
        if kind in MAX_LINE_BYTES:
            with _open(path) as file, _text(file) as text:
                lines = _lines(text, path.name, MAX_LINE_BYTES[kind])
                split, read = (frames_of, read_frame) if kind == "extxyz" else (_rows, _read_row)
                on_disk, size = getattr(file, "fileobj", file), path.stat().st_size or 1
                for given in split(lines):
                    share = on_disk.tell() / size
                    name = f"{id}#{given[1]}"
                    part = given[0] if isinstance(given[0], str) else "".join(given[0].atoms)
                    arguments = (*given, path.name, id)
                    yield Piece(printable(path), read, arguments, name, share, len(part))
        elif kind == "parquet" and name == path.name:
            for row, number, share in rows_of(path):
                given, size = (row, number, path.name, id), 24 * len(row["positions"] or ())
                name = str(row.get("id") or f"{id}#{number}")
                yield Piece(printable(path), read_columns, given, name, share, size)
        elif kind == "lammps":
            with _open(path) as file, _text(file) as text:
                lines = _lines(text, path.name, LAMMPS_LINE_BYTES)
                yield from parse_lammps(lines, path.name, id)
        elif kind == "poscar":
            text = _decode(_content(path, HEAD_BYTES, is_head=True), path.name)
            yield attempt(
                id, path.name, lambda: parse_poscar(text, path.name, species).replace(id=id)
            )
        elif kind in MAX_BYTES:
            text = _decode(_content(path, MAX_BYTES[kind]), path.name)
            if kind in _ONE:
                read_one = partial(_ONE[kind], text, path.name)
                yield attempt(id, path.name, lambda: read_one().replace(id=id))
            else:
                yield from (parse_cif if kind == "cif" else parse_json)(text, path.name, id)
        else:
            yield from _parse_with_ase(path, name, id, is_named)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = StructureError(
            f"{path}: the file must be readable, got {type(error).__name__} ({error}). "
            "Check that it exists and is complete."
        )
        yield id, reason


def _parse_with_ase(path: Path, name: str, id: str, is_named: bool) -> Iterator[Found]:
    """Yield what ASE finds, if the format is one that says enough."""
    if name.lower().endswith(_ARCHIVES):
        raise StructureError(
            f"{path.name}: the file must be a structure, got an archive of files. Unpack it."
        )
    if reason := refusal_of(name):
        raise StructureError(
            f"{path.name}: the format must state elements, unit, cell and symmetry, but {reason}. "
            "Convert it to CIF, POSCAR or extxyz with the program that wrote it."
        )
    if not (is_named or format_of(name)):
        raise StructureError(
            f"{path.name}: the name must tell a format that potnet reads, got another one. "
            "Move the file, or give it alone to have its content looked at."
        )
    if name == path.name:
        _check_size(path.stat().st_size, path.name, MAX_FILE_BYTES)
        yield from parse_with_ase(path, path.name, id)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, name)
        copy.write_bytes(_content(path, MAX_FILE_BYTES))
        yield from parse_with_ase(copy, path.name, id)


def _content(path: Path, limit: int, *, is_head: bool = False) -> bytes:
    """Return the bytes of a file; of a longer one only those, or an error."""
    limit = min(limit, MAX_FILE_BYTES)
    with _open(path) as file:
        # To get room for the largest file takes longer than to read most.
        content = file.read(FEW_BYTES)
        if len(content) == FEW_BYTES:
            content += file.read(limit)
    if not is_head:
        _check_size(len(content), path.name, limit)
    return content


def _check_size(size: int, source: str, limit: int) -> None:
    if size > limit:
        raise StructureError(
            f"{source}: the file must have at most {limit} bytes, got more. "
            "Split it, or use JSON lines."
        )


def _open(path: Path) -> Any:
    return _OPENERS.get(path.suffix, open)(path, "rb")


def _decode(content: bytes, source: str) -> str:
    """Return the text without byte order mark; Latin-1 where it is not UTF-8 (names in CIF)."""
    if content.startswith(_UTF_16):
        return content.decode("utf-16", errors="replace")
    if b"\0" in content[:4096]:
        raise StructureError(
            f"{source}: the file must be text, got binary data. Check that it is not compressed."
        )
    try:
        return content.removeprefix(BOM_UTF8).decode()  # faster than by "utf-8-sig"
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _text(file: Any) -> io.TextIOWrapper:
    """Return the text of a file with any line ends; as Latin-1, for bytes, if not in UTF-16."""
    is_utf_16 = file.peek(2)[:2] in _UTF_16
    return io.TextIOWrapper(file, "utf-16" if is_utf_16 else "latin-1", errors="replace")


def _lines(text: io.TextIOWrapper, source: str, limit: int) -> Iterator[str]:
    """Yield the lines of a text, without holding the file in memory."""
    blank = 0
    for line_number in itertools.count(1):
        line = text.readline(limit + 1)
        blank = 0 if line.strip() else blank + 1
        if not line:
            return
        if len(line) > limit or blank > MAX_BLANK_LINES:
            raise StructureError(
                f"{source}, line {line_number}: a line must have at most {limit} bytes, and at "
                f"most {MAX_BLANK_LINES} be blank in a row, got more. Check the file."
            )
        where = f"{source}, line {line_number}"
        yield _decode(line.encode("latin-1"), where) if text.encoding == "latin-1" else line


def _rows(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield the lines that are not blank, with their numbers."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield line, number


def _read_row(line: str, number: int, source: str, id: str) -> Iterator[Found]:
    """Yield the crystal of a line."""
    where, name = f"{source}, line {number}", f"{id}#{number}"
    yield from walled(parse_json(line, where, name), name, where)
