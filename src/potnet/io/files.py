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
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import Any

from potnet.crystal import Crystal
from potnet.errors import Failure, StructureError
from potnet.files import atomic_write
from potnet.io.castep import parse_castep_cell
from potnet.io.cif import format_cif, parse_cif
from potnet.io.extxyz import format_extxyz, parse_extxyz
from potnet.io.found import Found, attempt, walled
from potnet.io.poscar import format_poscar, parse_poscar
from potnet.io.records import dumps, parse_json
from potnet.io.shelx import parse_shelx
from potnet.io.through_ase import format_of, format_xsf, parse_with_ase, refusal_of
from potnet.text import printable

# Bytes of one file, decompressed, by its kind: what a parser can take within its memory and time.
MAX_FILE_BYTES = 256 * 1024**2
MAX_BYTES = {
    "cif": 64 * 1024**2,
    "json": 128 * 1024**2,
    "shelx": 16 * 1024**2,
    "castep": 16 * 1024**2,
}
MAX_LINE_BYTES = {"jsonl": 16 * 1024**2, "extxyz": 1024**2}
HEAD_BYTES = 16 * 1024**2  # of a POSCAR; what follows is a density
MAX_BLANK_LINES = 10_000  # in a row
FEW_BYTES = 2**16  # of one file that is read at once

# Tables, notes and settings that live beside structures; a folder may hold them.
COMPANION_SUFFIXES = frozenset(
    (".csv", ".tsv", ".txt", ".md", ".rst", ".yaml", ".yml", ".toml", ".ini", ".log")
    + (".py", ".sh", ".ipynb", ".pdf", ".png", ".svg", ".html")
)
COMPANION_NAMES = frozenset(("atom_init.json", "README", "LICENSE", "NOTICE", "Makefile"))
_VASP_NAMES = ("POSCAR", "CONTCAR", "CHGCAR", "AECCAR", "LOCPOT", "PARCHG", "ELFCAR")
_KINDS = {
    **dict.fromkeys((".vasp", ".poscar", ".contcar"), "poscar"),
    **dict.fromkeys((".cif", ".mcif"), "cif"),
    **dict.fromkeys((".xyz", ".extxyz"), "extxyz"),
    **dict.fromkeys((".res", ".ins", ".shelx"), "shelx"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    ".json": "json",
    ".cell": "castep",
    ".xsf": "xsf",
}

Source = str | os.PathLike[str]

_OPENERS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}


def read(source: Source, *, species: Sequence[str] = ()) -> list[Crystal]:
    """Return the crystals of a file, a folder or a glob pattern.

    What was read with a change that can be defended (a text block or empty sites left out,
    coordinates put on a special position) is said by the logger ``potnet``.

    Args:
        source: A CIF, POSCAR or CONTCAR, extxyz, SHELX, XSF, JSON or JSON-lines file, or one of the
            formats of ASE that state elements, unit, cell and symmetry; each of them also
            compressed (.gz, .bz2, .xz); a folder of such files; or a pattern such as
            ``"runs/*/CONTCAR"``.
        species: Symbols for the counts of POSCAR files that do not say them (VASP 4).

    Returns:
        All crystals in the order of the files. Their ids are those in the file, if it has some,
        else the file name without its suffix, with ``#`` and the block or number if there are
        several.

    Raises:
        StructureError: If a file or a crystal in it cannot be used. :func:`scan` goes on instead.
    """
    crystals: list[Crystal] = []
    for _, _, found in _walk([source], recursive=False, species=species):
        if isinstance(found, StructureError):
            raise found
        crystals.append(found)
    if not crystals:
        raise _nothing(source)
    return crystals


def scan(
    sources: Source | Iterable[Source], *, recursive: bool = False, species: Sequence[str] = ()
) -> Iterator[Crystal | Failure]:
    """Yield every crystal of ``sources``, and for each one that cannot be used the reason.

    Nothing is left out without a word, except in folders: hidden files, and files that cannot be
    structures by their name (``COMPANION_SUFFIXES`` and ``COMPANION_NAMES``).

    Args:
        sources: Files, folders and patterns, as in :func:`read`; one or many.
        recursive: Whether to enter the folders inside folders.
        species: Symbols for the counts of POSCAR files that do not say them (VASP 4).

    Yields:
        Crystals with unique ids, or a ``Failure`` of stage "read". A second crystal of the same
        id gets its path for an id.
    """
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    seen: set[str] = set()
    for path, name, found in _walk(sources, recursive=recursive, species=species):
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
    sources: Iterable[Source], *, recursive: bool, species: Sequence[str]
) -> Iterator[tuple[str, str, Crystal | StructureError]]:
    """Yield path, id and content of each structure, or the reason why there is none."""
    for source in sources:
        paths = _paths(Path(source), recursive)
        if not paths:
            yield printable(source), printable(source), _nothing(source)
        for path in paths:
            # Only a file that is asked for by its name is looked into to tell its format.
            for name, found in read_file(path, is_named=path == Path(source), species=species):
                yield printable(path), printable(name), found


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
    if suffix in _KINDS:
        return _KINDS[suffix]
    return "poscar" if any(word in name.upper() for word in _VASP_NAMES) else ""


def read_file(path: Path, *, is_named: bool, species: Sequence[str] = ()) -> Iterator[Found]:
    """Yield each crystal of a file, or the reason why there is none.

    Args:
        path: The file.
        is_named: Whether it was asked for: ASE may then tell the format by the content.
        species: Symbols for the counts of a POSCAR that does not say them.
    """
    name = _plain(path)
    id = name if _kind(name) == "poscar" and not _has_suffix(name) else Path(name).stem
    yield from walled(_parse(path, name, id, is_named, species), id, path.name)


def _has_suffix(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _KINDS


def _parse(
    path: Path, name: str, id: str, is_named: bool, species: Sequence[str]
) -> Iterator[Found]:
    kind = _kind(name)
    try:
        if not S_ISREG(path.stat().st_mode):  # a pipe or device could keep a reader waiting
            raise StructureError(f"{path}: must be a file, got something else. Check the name.")
        if kind in MAX_LINE_BYTES:
            with _open(path) as file:
                lines = _lines(file, path.name, MAX_LINE_BYTES[kind])
                parse = parse_extxyz if kind == "extxyz" else _parse_jsonl
                yield from parse(lines, path.name, id)
        elif kind == "poscar":
            text = _decode(_content(path, HEAD_BYTES, is_head=True), path.name)
            yield attempt(
                id, path.name, lambda: parse_poscar(text, path.name, species).replace(id=id)
            )
        elif kind in MAX_BYTES:
            text = _decode(_content(path, MAX_BYTES[kind]), path.name)
            one = {"shelx": parse_shelx, "castep": parse_castep_cell}
            if kind in one:
                read_one = partial(one[kind], text, path.name)
                yield attempt(id, path.name, lambda: read_one().replace(id=id))
            else:
                yield from (parse_cif if kind == "cif" else parse_json)(text, path.name, id)
        else:
            yield from _parse_with_ase(path, name, id, is_named)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = StructureError(
            f"{path}: the file must be readable, got {type(error).__name__}: {error}. "
            "Check that it exists and is complete."
        )
        yield id, reason


def _parse_with_ase(path: Path, name: str, id: str, is_named: bool) -> Iterator[Found]:
    """Yield what ASE finds, if the format is one that says enough."""
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


def _lines(file: Any, source: str, limit: int) -> Iterator[str]:
    """Yield the lines of a text, without holding the file in memory."""
    blank = 0
    for line_number in itertools.count(1):
        line = file.readline(limit + 1)
        blank = 0 if line.strip() else blank + 1
        if not line:
            return
        if len(line) > limit or blank > MAX_BLANK_LINES:
            raise StructureError(
                f"{source}, line {line_number}: a line must have at most {limit} bytes, and at "
                f"most {MAX_BLANK_LINES} be blank in a row, got more. Check the file."
            )
        yield _decode(line, f"{source}, line {line_number}")


def _parse_jsonl(lines: Iterable[str], source: str, id: str) -> Iterator[Found]:
    """Yield the crystal of each line."""
    for line_number, line in enumerate(lines, 1):
        if line.strip():
            where, name = f"{source}, line {line_number}", f"{id}#{line_number}"
            yield from walled(parse_json(line, where, name), name, where)
