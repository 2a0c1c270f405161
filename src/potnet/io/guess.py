"""Which format a text has whose name says nothing."""

from __future__ import annotations

import zlib


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
    words = [line.split() for line in text.splitlines() if line.strip()]
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
