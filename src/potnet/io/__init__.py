"""Read and write crystals in files: CIF, POSCAR, extxyz, XSF, JSON and whatever else ASE reads."""

from potnet.io.files import (
    COMPANION_NAMES,
    COMPANION_SUFFIXES,
    Names,
    Pieces,
    crystals_in,
    read,
    scan,
    write,
)
from potnet.io.pieces import Piece, kind_of, pieces_of, plain_name

__all__ = [
    "COMPANION_NAMES",
    "COMPANION_SUFFIXES",
    "Names",
    "Piece",
    "Pieces",
    "crystals_in",
    "kind_of",
    "pieces_of",
    "plain_name",
    "read",
    "scan",
    "write",
]
