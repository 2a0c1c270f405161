"""Find structure files, read them by their format, and write them whole or not at all."""

from __future__ import annotations

import glob
import gzip
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from potnet.crystal import Crystal
from potnet.errors import ConfigError, Failure, StructureError
from potnet.files import as_path, atomic_write
from potnet.io.cif import format_cif
from potnet.io.extxyz import format_extxyz
from potnet.io.found import lines_of
from potnet.io.json_files import dumps
from potnet.io.pieces import Piece, kind_of, pieces_of, plain_name
from potnet.io.poscar import format_poscar
from potnet.io.through_ase import format_xsf
from potnet.text import printable

# Tables, notes and settings that live beside structures; a folder may hold them.
COMPANION_SUFFIXES = frozenset(
    (".csv", ".tsv", ".txt", ".md", ".rst", ".yaml", ".yml", ".toml", ".ini", ".log")
    + (".py", ".sh", ".ipynb", ".pdf", ".png", ".svg", ".html")
)
COMPANION_NAMES = frozenset(("atom_init.json", "README", "LICENSE", "NOTICE", "Makefile"))
Source = str | os.PathLike[str]


def read(source: Source, *, species: Sequence[str] = ()) -> list[Crystal]:
    """Return the crystals of a file, a folder or a glob pattern.

    What was read with a change that can be defended (a text block or empty sites left out,
    coordinates put on a special position) is said by the logger ``potnet``.

    Args:
        source: A CIF, POSCAR or CONTCAR, extxyz, SHELX, XSF, JSON or JSON-lines file, a dump of
            LAMMPS with elements, or one of the formats of ASE that state elements, unit, cell and
            symmetry; each of them also compressed (.gz, .bz2, .xz); a folder of such files; or a
            pattern such as ``"runs/*/CONTCAR"``.
        species: Symbols for the counts of POSCAR files that do not say them (VASP 4).

    Returns:
        All crystals in the order of the files. Their ids are those in the file, if it has some,
        else the file name without its suffix, with ``#`` and the block or number if there are
        several.

    Raises:
        StructureError: If a file or a crystal in it cannot be used. :func:`scan` goes on instead.
    """
    crystals: list[Crystal] = []
    for piece in Pieces(source, species=species):
        for _, found in piece.found():
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
    return crystals_in(Pieces(sources, recursive=recursive, species=species))


def crystals_in(pieces: Iterable[Piece]) -> Iterator[Crystal | Failure]:
    """Yield the crystals and failures of ``pieces``, as :func:`scan` does."""
    names = Names()
    for piece in pieces:
        for name, found in piece.found():
            if isinstance(found, StructureError):
                yield Failure(name, "read", str(found))
                continue
            id = names.unique(name, piece.path)
            if isinstance(id, Failure):
                yield id
            else:
                yield found if id == found.id else found.replace(id=id)


class Names:
    """The ids that crystals of many files have had."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def unique(self, name: str, path: str) -> str | Failure:
        """Return ``name``, or the path of the file if somebody else is called so.

        Args:
            name: Id of the crystal in its file.
            path: The file.

        Returns:
            The id, or why there is none: the file was read before.
        """
        if self.take(name):
            return name
        part = name.partition("#")[2]
        other = f"{path}#{part}" if part else path
        if self.take(other):
            return other
        reason = f"{path}: `id` must be unique, got {name!r} again. Give each file once."
        return Failure(other, "read", reason)

    def take(self, name: str) -> bool:
        """Give out ``name``; return whether nobody has it already."""
        before = len(self._seen)
        self._seen.add(name)
        return len(self._seen) > before


class Pieces:
    """All parts of sources, one after the other, and how many there may be.

    Args:
        sources: As for :func:`scan`; so are the others.
        recursive: Whether to enter the folders inside folders.
        species: Symbols for the counts of POSCAR files that do not say them.
        without: Files, and folders of files, that are passed over in a folder, since they are
            written meanwhile, or were by the same command before.

    Raises:
        ConfigError: On iterating, if one of these files may be a structure, which would be lost.
    """

    def __init__(
        self,
        sources: Source | Iterable[Source],
        *,
        recursive: bool = False,
        species: Sequence[str] = (),
        without: Iterable[Path] = (),
    ) -> None:
        anything: Any = sources  # a caller may give what it likes
        is_many = isinstance(anything, Iterable) and not isinstance(anything, str | bytes)
        given: list[Any] = [*anything] if is_many else [anything]
        self._sources = [as_path(source, "source") for source in given]
        self._recursive, self._species = recursive, species
        self._without = {os.path.realpath(path) for path in without}
        self._drawn = self._files = self._all_files = 0
        self._share = 0.0  # of the file that is being read

    def __iter__(self) -> Iterator[Piece]:
        found = [(source, *self._names(source)) for source in self._sources]
        self._all_files = sum(len(names) for *_, names in found)
        for source, folder, names in found:
            if not names:
                yield Piece.of(printable(source), printable(source), _nothing(source))
            for name in names:
                path = folder / name
                # Only a file that is asked for by its name is looked into to tell its format.
                for piece in pieces_of(path, path == source, self._species):
                    self._drawn, self._share = self._drawn + 1, piece.share
                    yield piece
                self._files, self._share = self._files + 1, 0.0

    def _names(self, source: Path) -> tuple[Path, list[str]]:
        """Return a folder and the names of the files in it that are to be read."""
        folder, names = _names(source, self._recursive)
        if not self._without or source.is_file():
            return folder, names
        real = os.path.realpath(folder)
        folders = tuple(os.path.join(path, "") for path in self._without)
        others = []
        for name in names:
            place = os.path.join(real, name)
            if place in self._without and kind_of(plain_name(name)):
                raise ConfigError(
                    f"the output must not be what is read, got {folder / name} for both. "
                    "Choose another name, or another folder."
                )
            if not (place in self._without or place.startswith(folders)):
                others.append(name)
        return folder, others

    @property
    def total(self) -> int | None:
        """About how many parts there will be, by the files that are done; None at first."""
        if not self._sources:
            return 0
        done = self._files + self._share
        return round(self._drawn * max(1.0, self._all_files / done)) if done else None


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
    path = as_path(path, "path")
    many = _listed(crystals, path)
    kind = kind_of(path.name.removesuffix(".gz"))
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


def _nothing(source: object) -> StructureError:
    is_folder = isinstance(source, str | os.PathLike) and Path(source).is_dir()
    return StructureError(
        f"{source}: the source must be a file, or a folder or pattern with structure files, got "
        f"{'a folder without any' if is_folder else 'none'}. Check the path."
    )


def _names(source: Path, recursive: bool) -> tuple[Path, list[str]]:
    """Return a folder and the names in it of the files that ``source`` stands for, sorted.

    Names take a quarter of the memory of paths, and there may be millions.
    """
    if source.is_dir():
        if not recursive:
            found = sorted(os.listdir(source))
        else:
            found = [str(path.relative_to(source)) for path in sorted(source.rglob("*"))]
        return source, [name for name in found if _may_be_structure(name, source)]
    if source.is_file():  # not a pipe or device, which could keep a reader waiting
        return source.parent, [source.name]
    paths = sorted(p for p in map(Path, glob.glob(str(source), recursive=True)) if p.is_file())
    return Path(), [str(path) for path in paths]


def _may_be_structure(path: str, folder: Path) -> bool:
    """Return whether a file of a folder, by its path from there, is not to be passed over."""
    name = plain_name(path)
    hidden = path.startswith(".") or f"{os.sep}." in path
    companion = os.path.splitext(name)[1] in COMPANION_SUFFIXES
    if hidden or companion or os.path.basename(path) in COMPANION_NAMES:
        return False
    # A folder or a broken link with the name of a structure file is not passed over.
    return bool(kind_of(name)) or (folder / path).is_file()


def _listed(crystals: Any, path: Path) -> list[Crystal]:
    """Return one crystal or several as a list; raise if they are none."""
    is_many = isinstance(crystals, Iterable) and not isinstance(crystals, str | bytes | Mapping)
    found: list[Crystal] = []
    for item in crystals if is_many else [crystals]:
        if not isinstance(item, Crystal):
            raise StructureError(
                f"{path}: `crystals` must be one Crystal or several, got {type(item).__name__}. "
                "Make them with Crystal.from_any, or read files with potnet.read."
            )
        found.append(item)
    return found


def suffix_of(content: bytes) -> str:
    """Return the suffix for ``content`` by what it begins with.

    CIF, JSON, XSF, extxyz or a table with commas, else POSCAR; ``.gz`` after it if compressed.

    >>> suffix_of(b"data_salt"), suffix_of(b"NaCl\\n1.0\\n")
    ('.cif', '.vasp')
    """
    if content.startswith(b"\x1f\x8b"):
        head = zlib.decompressobj(wbits=31).decompress(content, 4096)
        return f"{suffix_of(head)}.gz"
    text = content[:4096].decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    words = [line.split() for line in lines_of(text) if line.strip()]
    first = words[0] if words else [""]
    if first[0].lower().startswith("data_") or "_cell_length_a" in text:
        return ".cif"
    if text.startswith(("{", "[")):
        return ".json"
    if any(line[0] in ("CRYSTAL", "PRIMVEC", "SLAB", "POLYMER") for line in words[:20]):
        return ".xsf"
    if len(first) == 1 and first[0].isdecimal():
        return ".extxyz"
    return ".csv" if "," in text.partition("\n")[0] else ".vasp"
