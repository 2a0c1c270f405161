"""Structures of any kind, as crystals in batches; what cannot be used keeps its place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from potnet.crystal import Crystal
from potnet.errors import Failure, StructureError

BATCH_SIZE = 64
MAX_PAIRS = 4_000_000
"""Most pairs of atoms in one batch, so that large cells do not fill the memory."""


def is_structure(item: Any) -> bool:
    """Return whether ``item`` is one structure and not a collection of them."""
    if isinstance(item, Crystal | dict):
        return True
    # ASE Atoms, pymatgen Structure and JARVIS Atoms have a cell; lists and tables have none.
    return any(hasattr(item, name) for name in ("get_cell", "lattice", "lattice_mat"))


def as_structures(crystals: Any, where: str) -> Iterable[Any]:
    """Return structures as something to go through, also where it is only one.

    Raises:
        StructureError: If it is neither one nor a collection, such as the name of a file.
    """
    if is_structure(crystals):
        return [crystals]
    if isinstance(crystals, str | bytes | os.PathLike) or not isinstance(crystals, Iterable):
        raise StructureError(
            f"{where}: `crystals` must be structures, got {type(crystals).__name__} "
            f"{str(crystals)[:60]!r}. Read files with potnet.read."
        )
    return crystals


def in_batches(
    items: Iterable[Any], batch_size: int, on_error: Literal["raise", "skip"]
) -> Iterator[list[Crystal | Failure]]:
    """Yield crystals (and failures, in their places) with at most ``MAX_PAIRS`` pairs together."""
    batch: list[Crystal | Failure] = []
    pairs = 0
    for index, item in enumerate(items):
        crystal = _crystal(item, index, on_error)
        size = crystal.n_atoms**2 if isinstance(crystal, Crystal) else 0
        if batch and (len(batch) >= batch_size or pairs + size > MAX_PAIRS):
            yield batch
            batch, pairs = [], 0
        batch.append(crystal)
        pairs += size
    if batch:
        yield batch


def _crystal(item: Any, index: int, on_error: Literal["raise", "skip"]) -> Crystal | Failure:
    if isinstance(item, Failure):
        if on_error == "raise":
            raise StructureError(item.reason)
        return item
    try:
        crystal = Crystal.from_any(item)
    except StructureError as error:
        if on_error == "raise":
            raise
        return Failure(str(index), "read", str(error))
    return crystal if crystal.id else crystal.replace(id=str(index))
