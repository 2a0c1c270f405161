"""extxyz, XSF and the formats that ASE reads for us."""

from __future__ import annotations

import itertools
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from io import StringIO
from typing import TYPE_CHECKING, Any

from potnet.crystal import MAX_ATOMS, Crystal
from potnet.errors import StructureError

if TYPE_CHECKING:
    from potnet.io.files import Found

# What the readers of ASE, and the decompressors, raise on damaged input.
_READER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    StopIteration,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    zlib.error,
)


def parse_extxyz(text: str, source: str, id: str) -> Iterator[Found]:
    """Yield the crystal of each frame; a bad frame does not hide the others."""
    lines = text.rstrip().splitlines()
    if not lines:
        yield id, StructureError(f"{source}: the file must hold a frame, got none. Check it.")
    at, one = 0, True
    for index in itertools.count():
        if at >= len(lines):
            return
        word = lines[at].strip()
        n_atoms = int(word) if re.fullmatch("[0-9]{1,9}", word) else 0
        stop = at + 2 + n_atoms
        one = one and stop == len(lines)
        name, where = (id, source) if one else (f"{id}#{index}", f"{source}, frame {index}")
        if not 1 <= n_atoms <= MAX_ATOMS or stop > len(lines):
            yield (
                name,
                StructureError(
                    f"{source}, line {at + 1}: a frame must begin with its number of atoms, 1 to "
                    f"{MAX_ATOMS}, and have a line for each, got {word[:60]!r}. Mend the frame."
                ),
            )
            return
        yield from parse_with_ase(StringIO("\n".join(lines[at:stop])), where, name, "extxyz")
        at, one = stop, False


def parse_with_ase(file: Any, source: str, id: str, format: str | None = None) -> Iterator[Found]:
    """Yield each crystal that ASE finds in ``file``, an open text or a path."""
    from ase.io import ParseError, read
    from ase.io.formats import UnknownFileTypeError

    try:
        images = read(file, index=":", format=format, do_not_split_by_at_sign=True)
    except UnknownFileTypeError:
        yield (
            id,
            StructureError(
                f"{source}: the file must be of a format that ASE reads, got an unknown "
                "one. Convert it to CIF, POSCAR or extxyz."
            ),
        )
        return
    except (*_READER_ERRORS, ParseError) as error:
        yield (
            id,
            StructureError(
                f"{source}: the file must be valid {format or 'for ASE'}, got "
                f"{type(error).__name__}: {error}. Mend it, or convert it to CIF."
            ),
        )
        return
    images = images if isinstance(images, list) else [images]
    if not images:
        yield id, StructureError(f"{source}: the file must hold a crystal, got none. Check it.")
    for index, atoms in enumerate(images):
        name = id if len(images) == 1 else f"{id}#{index}"
        try:
            crystal = Crystal.from_ase(atoms, id=source)
            name = str(crystal.info.get("id", "")) or name
            yield name, crystal.replace(id=name)
        except StructureError as error:
            yield name, error


def format_extxyz(crystals: list[Crystal]) -> str:
    """Return one frame of extended XYZ for each crystal, with its ``info``."""
    from ase.io.extxyz import key_val_dict_to_str

    frames = []
    for crystal in crystals:
        info = dict(crystal.info) | ({"id": crystal.id} if crystal.id else {})
        header = [
            f'Lattice="{_join(crystal.cell.ravel())}"',
            "Properties=species:S:1:pos:R:3",
            f'pbc="{" ".join("FT"[int(flag)] for flag in crystal.pbc)}"',
            key_val_dict_to_str(info).replace("\n", " "),
        ]
        atoms = zip(crystal.symbols, crystal.positions, strict=True)
        rows = [f"{symbol} {_join(xyz)}" for symbol, xyz in atoms]
        frames.append("\n".join([str(crystal.n_atoms), " ".join(header).strip(), *rows]))
    return "\n".join(frames) + "\n"


def format_xsf(crystal: Crystal) -> str:
    """Return ``crystal`` as XSF, atoms by number."""
    crystal.require_periodic()
    atoms = zip(crystal.numbers, crystal.positions, strict=True)
    rows = [f"{number} {_join(xyz)}" for number, xyz in atoms]
    vectors = [_join(vector) for vector in crystal.cell]
    lines = ["CRYSTAL", "PRIMVEC", *vectors, "PRIMCOORD", f"{crystal.n_atoms} 1", *rows]
    return "\n".join(lines) + "\n"


def _join(values: Iterable[float]) -> str:
    return " ".join(repr(float(value)) for value in values)
