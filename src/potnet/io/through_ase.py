"""XSF and the formats that ASE reads for us."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from potnet.crystal import Crystal
from potnet.errors import StructureError
from potnet.io.found import Found

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
