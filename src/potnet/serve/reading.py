"""From texts that a client sent to crystals. Names in them are names, never paths."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from potnet.crystal import Crystal
from potnet.errors import ConfigError, Failure, StructureError
from potnet.io import scan
from potnet.io.files import suffix_of
from potnet.io.per_atom import atom_values
from potnet.text import file_name


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for.

    Attributes:
        body: Bytes of a request.
        structures: Crystals of a request.
        atoms: Atoms of a crystal.
        seconds: Until a request, or the next line of a stream, is given up.
        waiting: Requests that compute or wait for it; more are sent away.
        held: Bytes of all requests that are here at the same time; more are sent away.
    """

    body: int = 32 * 1024**2
    structures: int = 1000
    atoms: int = 1000
    seconds: float = 120.0
    waiting: int = 256
    held: int = 256 * 1024**2


SUFFIXES = (".cif", ".vasp", ".poscar", ".extxyz", ".xyz", ".xsf", ".json", ".jsonl")


@dataclass(frozen=True)
class Read:
    """One structure that a text holds.

    Attributes:
        item: The crystal, or why there is none.
        warnings: What was read with a change that the user should know.
        values: Numbers of atoms that the text states beside the structure, by name.
    """

    item: Crystal | Failure
    warnings: tuple[str, ...] = ()
    values: Mapping[str, list[float]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Its name, once in a request."""
        return self.item.id

    def told(self) -> dict[str, Any]:
        """Return what reading has to say beside the crystal, as a record has it."""
        values = [{"name": name, "values": found} for name, found in self.values.items()]
        return {"warnings": list(self.warnings), "atom_values": values}


def read_texts(texts: Sequence[tuple[str, str]], limits: Limits) -> list[Read]:
    """Return the crystals in named texts, and why others are none.

    Args:
        texts: Name and content of each file. The name says the format where it has one of the
            usual suffixes.
        limits: How much one request may hold.

    Raises:
        ConfigError: If they are more than the limit.
    """
    found: list[Read] = []
    with tempfile.TemporaryDirectory(prefix="potnet-") as folder:
        for name, content in texts:
            path = _written(Path(folder), name, content.encode("utf-8", "replace"))
            first = len(found)
            with _heard() as warnings:
                for item in scan(path):
                    if isinstance(item, Failure):  # names no folder of this machine
                        item = replace(item, reason=item.reason.replace(f"{folder}{os.sep}", ""))
                    found.append(Read(_within(item, limits)))
                    if len(found) > limits.structures:
                        raise ConfigError(
                            f"structures: must be at most {limits.structures} a request, got "
                            "more. Send them in parts."
                        )
            values = atom_values(path, [read.item for read in found[first:]])
            path.unlink()
            said = tuple(warning.replace(f"{folder}{os.sep}", "") for warning in warnings)
            found[first:] = [
                replace(read, warnings=said, values=more)
                for read, more in zip(found[first:], values, strict=True)
            ]
    return _unique(found)


def one_crystal(name: str, content: str, limits: Limits) -> Crystal:
    """Return the first crystal of a text.

    Raises:
        StructureError: If it holds none.
    """
    reads = read_texts([(name, content)], limits)
    if not reads:
        raise StructureError("content: must hold a structure, got none. Send one.")
    item = reads[0].item
    if isinstance(item, Failure):
        raise StructureError(item.reason)
    return item


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Collect what reading says to the user in this thread."""
    thread, said = threading.get_ident(), list[str]()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                said.append(record.getMessage())

    log, listener = logging.getLogger("potnet"), Listener(logging.WARNING)
    log.addHandler(listener)
    try:
        yield said
    finally:
        log.removeHandler(listener)


def _within(item: Crystal | Failure, limits: Limits) -> Crystal | Failure:
    if isinstance(item, Failure) or item.n_atoms <= limits.atoms:
        return item
    return Failure(
        item.id,
        "read",
        f"{item.id}: a crystal must have at most {limits.atoms} atoms here, got {item.n_atoms}. "
        "Use potnet predict.",
    )


def _written(folder: Path, name: str, content: bytes) -> Path:
    """Write a text to a file in ``folder``, named so that its format is told."""
    plain = file_name(name or "structure")
    is_vasp = plain.startswith(("POSCAR", "CONTCAR"))
    if not is_vasp and Path(plain).suffix.lower() not in SUFFIXES:
        plain = f"{plain}{suffix_of(content)}"
    path = folder / plain
    path.write_bytes(content)
    return path


def _unique(reads: Sequence[Read]) -> list[Read]:
    """Number the ids that come twice."""
    counts: dict[str, int] = {}
    seen: set[str] = set()
    found: list[Read] = []
    for read in reads:
        item, id = read.item, read.id
        while id in seen:
            counts[item.id] = counts.get(item.id, 1) + 1
            id = f"{item.id} ({counts[item.id]})"
        seen.add(id)
        if id != item.id:
            item = replace(item, id=id) if isinstance(item, Failure) else item.replace(id=id)
        found.append(replace(read, item=item))
    return found
