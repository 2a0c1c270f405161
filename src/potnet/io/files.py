"""Find structure files, read them by their format, and write them whole or not at all."""

from __future__ import annotations

import bz2
import glob
import gzip
import itertools
import lzma
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import StringIO
from pathlib import Path
from stat import S_ISREG
from typing import Any

from potnet.crystal import Crystal
from potnet.errors import Failure, StructureError
from potnet.files import atomic_write
from potnet.io.cif import format_cif, parse_cif
from potnet.io.extxyz import format_extxyz, parse_extxyz
from potnet.io.found import Found
from potnet.io.poscar import format_poscar, parse_poscar
from potnet.io.records import dumps, parse_json
from potnet.io.through_ase import format_xsf, parse_with_ase

MAX_FILE_BYTES = 256 * 1024**2  # of one file, or one line of a .jsonl file, decompressed
FEW_BYTES = 2**16  # of one file that is read at once

# Tables, notes and settings that live beside structures; a folder may hold them.
COMPANION_SUFFIXES = frozenset(
    (".csv", ".tsv", ".txt", ".md", ".rst", ".yaml", ".yml", ".toml", ".ini", ".log")
    + (".py", ".sh", ".ipynb", ".pdf", ".png", ".svg", ".html")
)
COMPANION_NAMES = frozenset(("atom_init.json", "README", "LICENSE", "NOTICE", "Makefile"))
_VASP_NAMES = ("POSCAR", "CONTCAR")

Source = str | os.PathLike[str]

_OPENERS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}


def read(source: Source) -> list[Crystal]:
    """Return the crystals of a file, a folder or a glob pattern.

    Args:
        source: A CIF, POSCAR or CONTCAR, extxyz, XSF, JSON or JSON-lines file, any other that ASE
            recognises, each of them also compressed (.gz, .bz2, .xz); a folder of such files; or
            a pattern such as ``"runs/*/CONTCAR"``.

    Returns:
        All crystals in the order of the files. Their ids are those in the file, if it has some,
        else the file name without its suffix, with ``#`` and the block or number if there are
        several.

    Raises:
        StructureError: If a file or a crystal in it cannot be used. :func:`scan` goes on instead.
    """
    crystals: list[Crystal] = []
    for _, _, found in _walk([source], recursive=False):
        if isinstance(found, StructureError):
            raise found
        crystals.append(found)
    if not crystals:
        raise _nothing(source)
    return crystals


def scan(
    sources: Source | Iterable[Source], *, recursive: bool = False
) -> Iterator[Crystal | Failure]:
    """Yield every crystal of ``sources``, and for each one that cannot be used the reason.

    Nothing is left out without a word, except in folders: hidden files, and files that cannot be
    structures by their name (``COMPANION_SUFFIXES`` and ``COMPANION_NAMES``).

    Args:
        sources: Files, folders and patterns, as in :func:`read`; one or many.
        recursive: Whether to enter the folders inside folders.

    Yields:
        Crystals with unique ids, or a ``Failure`` of stage "read". A second crystal of the same
        id gets its path for an id.
    """
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    seen: set[str] = set()
    for path, name, found in _walk(sources, recursive=recursive):
        if isinstance(found, StructureError):
            yield Failure(name, "read", str(found))
            continue
        if name in seen:
            part = name.partition("#")[2]
            name = f"{path}#{part}" if part else path
        if name in seen:
            reason = f"{path}: `id` must be unique, got {found.id!r} again. Give each file once."
            yield Failure(name, "read", reason)
            continue
        seen.add(name)
        yield found if name == found.id else found.replace(id=name)


def write(crystals: Crystal | Iterable[Crystal], path: Source) -> None:
    """Write crystals to a file that appears whole or not at all.

    Args:
        crystals: One or many; POSCAR and XSF hold only one.
        path: The suffix says the format: .cif, .vasp or .poscar or a name with POSCAR or CONTCAR,
            .extxyz or .xyz, .xsf, .json, .jsonl; with .gz after it, compressed. Only .json, .jsonl
            and .extxyz keep ``info``; .cif does not keep the orientation of the cell.

    Raises:
        StructureError: If the format is another, or cannot hold the crystals.
    """
    path = Path(path)
    many = [crystals] if isinstance(crystals, Crystal) else list(crystals)
    kind = _kind(path.name.removesuffix(".gz"))
    formats: dict[str, Callable[[list[Crystal]], str]] = {
        "cif": format_cif,
        "poscar": lambda one: format_poscar(one[0]),
        "extxyz": format_extxyz,
        "xsf": lambda one: format_xsf(one[0]),
        "json": lambda crystals: dumps([c.as_dict() for c in crystals]) + "\n",
        "jsonl": lambda crystals: "".join(dumps(c.as_dict()) + "\n" for c in crystals),
    }
    if kind not in formats:
        raise StructureError(
            f"{path}: the suffix must be one of .cif, .vasp, .extxyz, .xsf, .json, .jsonl, got "
            f"{path.suffix!r}. Choose one of these formats."
        )
    if not many or (len(many) > 1 and kind in ("poscar", "xsf")):
        raise StructureError(
            f"{path}: the file must hold {'one crystal' if many else 'a crystal'}, got {len(many)}."
            " Write each to its own file, or several as .cif, .extxyz or .jsonl."
        )
    content = formats[kind](many).encode()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    with atomic_write(path, "wb") as file:
        file.write(content)


def _walk(
    sources: Iterable[Source], *, recursive: bool
) -> Iterator[tuple[str, str, Crystal | StructureError]]:
    """Yield path, id and content of each structure, or the reason why there is none."""
    for source in sources:
        paths = _paths(Path(source), recursive)
        if not paths:
            yield str(source), str(source), _nothing(source)
        for path in paths:
            for name, found in _read_file(path):
                yield str(path), name, found


def _nothing(source: Source) -> StructureError:
    return StructureError(
        f"{source}: the source must be a file, or a folder or pattern with structure files, got "
        f"{'a folder without any' if Path(source).is_dir() else 'none'}. Check the path."
    )


def _paths(source: Path, recursive: bool) -> list[Path]:
    """Return the files that ``source`` stands for, sorted."""
    if source.is_dir():
        found = source.rglob("*") if recursive else source.glob("*")
        return sorted(path for path in found if _may_be_structure(path, source))
    if source.is_file():  # not a pipe or device, which could keep a reader waiting
        return [source]
    return sorted(p for p in map(Path, glob.glob(str(source), recursive=True)) if p.is_file())


def _may_be_structure(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts[len(folder.parts) :])
    name = _plain(path)
    companion = path.name in COMPANION_NAMES or os.path.splitext(name)[1] in COMPANION_SUFFIXES
    # A folder or a broken link with the name of a structure file is not passed over.
    return not hidden and not companion and bool(_kind(name) or path.is_file())


def _plain(path: Path) -> str:
    """Return the file name without the suffix of its compression."""
    return path.stem if path.suffix in _OPENERS else path.name


def _kind(name: str) -> str:
    """Return the format that a file name tells, or an empty string."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in (".vasp", ".poscar", ".contcar") or name.startswith(_VASP_NAMES):
        return "poscar"
    if suffix in (".cif", ".mcif"):
        return "cif"
    if suffix in (".xyz", ".extxyz"):
        return "extxyz"
    if suffix in (".xsf", ".json", ".jsonl", ".ndjson"):
        return {".ndjson": "jsonl"}.get(suffix, suffix[1:])
    return ""


def _read_file(path: Path) -> Iterator[Found]:
    """Yield each crystal of a file, or the reason why there is none."""
    name = _plain(path)
    kind = _kind(name)
    id = name if name.startswith(_VASP_NAMES) else Path(name).stem
    try:
        if not S_ISREG(path.stat().st_mode):  # a pipe or device could keep a reader waiting
            raise StructureError(f"{path}: must be a file, got something else. Check the name.")
        if kind == "jsonl":
            with _open(path) as file:
                yield from _parse_jsonl(file, path.name, id)
        elif kind == "extxyz":
            with _open(path) as file:
                yield from parse_extxyz(_lines(file, path.name), path.name, id)
        elif kind:
            text = _decode(_content(path), path.name)
            yield from _parse_text(text, kind, path.name, id)
        elif name == path.name:
            _check_size(path.stat().st_size, path.name)
            yield from parse_with_ase(str(path), path.name, id)
        else:
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder, name)
                copy.write_bytes(_content(path))
                yield from parse_with_ase(str(copy), path.name, id)
    except StructureError as error:
        yield id, error
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = StructureError(
            f"{path}: the file must be readable, got {type(error).__name__}: {error}. "
            "Check that it exists and is complete."
        )
        yield id, reason


def _parse_text(text: str, kind: str, source: str, id: str) -> Iterator[Found]:
    if kind == "poscar":
        yield id, parse_poscar(text, source).replace(id=id)
    elif kind == "cif":
        yield from parse_cif(text, source, id)
    elif kind == "json":
        yield from parse_json(text, source, id)
    else:
        yield from parse_with_ase(StringIO(text), source, id, kind)


def _content(path: Path) -> bytes:
    with _open(path) as file:
        # To get room for the largest file takes longer than to read most.
        content = file.read(FEW_BYTES)
        if len(content) == FEW_BYTES:
            content += file.read(MAX_FILE_BYTES)
    _check_size(len(content), path.name)
    return content


def _check_size(size: int, source: str) -> None:
    if size > MAX_FILE_BYTES:
        raise StructureError(
            f"{source}: the file must have at most {MAX_FILE_BYTES} bytes, got more. "
            "Split it, or use JSON lines."
        )


def _open(path: Path) -> Any:
    return _OPENERS.get(path.suffix, open)(path, "rb")


def _decode(content: bytes, source: str) -> str:
    """Return the text without byte order mark; Latin-1 where it is not UTF-8 (names in CIF)."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    if b"\0" in content[:4096]:
        raise StructureError(
            f"{source}: the file must be text, got binary data. Check that it is not compressed."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _lines(file: Any, source: str) -> Iterator[str]:
    """Yield the lines of a text, without holding the file in memory."""
    for line_number in itertools.count(1):
        line = file.readline(MAX_FILE_BYTES)
        if not line:
            return
        yield _decode(line, f"{source}, line {line_number}")


def _parse_jsonl(file: Any, source: str, id: str) -> Iterator[Found]:
    """Yield the crystal of each line."""
    for line_number, line in enumerate(_lines(file, source), 1):
        if line.strip():
            yield from parse_json(line, f"{source}, line {line_number}", f"{id}#{line_number}")
