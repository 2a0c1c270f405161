"""Read and write crystals in files: CIF, POSCAR, extxyz, XSF, JSON and whatever else ASE reads."""

from potnet.io.files import COMPANION_NAMES, COMPANION_SUFFIXES, read, scan, write

__all__ = ["COMPANION_NAMES", "COMPANION_SUFFIXES", "read", "scan", "write"]
