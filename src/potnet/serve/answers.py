"""What is answered: texts of structures in, sheets and what a page draws out."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from potnet.crystal import Crystal
from potnet.errors import ConfigError, Failure, PotNetError
from potnet.io import scan
from potnet.io.guess import suffix_of
from potnet.serve.safety import Limits, Problem
from potnet.text import file_name, printable

if TYPE_CHECKING:
    from potnet.sheet import CrystalSheet, SheetMaker

BOND_SLACK = 1.25  # of the sum of two covalent radii: what is nearer is drawn as a bond
NONMETALS = (1, 2, *range(5, 11), *range(14, 19), *range(32, 37), *range(51, 55))
MAX_DRAWN = 400  # atoms of a cell whose bonds are looked for
SUFFIXES = (".cif", ".vasp", ".poscar", ".extxyz", ".xyz", ".xsf", ".json", ".jsonl")


class Answers:
    """Everything that is computed, one request after the other, with models that are read once."""

    def __init__(self, limits: Limits, models: Sequence[str] = ()) -> None:
        self._limits = limits
        self._models = tuple(models)
        self._turn = threading.Lock()

    @cached_property
    def _maker(self) -> SheetMaker:
        from potnet.sheet import SheetMaker

        return SheetMaker(self._models)

    def read(self, texts: Sequence[tuple[str, str]]) -> list[Crystal | Failure]:
        """Return the crystals in named texts, and why others are none.

        Args:
            texts: Name and content of each file. The name says the format where it has one of the
                usual suffixes; it is a name, never a path.

        Raises:
            Problem: If they are more than the limit.
        """
        found: list[Crystal | Failure] = []
        with tempfile.TemporaryDirectory(prefix="potnet-") as folder:
            for name, content in texts:
                path = _written(Path(folder), name, content.encode("utf-8", "replace"))
                for item in scan(path):
                    found.append(self._within(item))
                    if len(found) > self._limits.structures:
                        raise Problem(
                            HTTPStatus.UNPROCESSABLE_ENTITY,
                            f"structures: must be at most {self._limits.structures} a request, "
                            "got more. Send them in parts.",
                        )
                path.unlink()
        return _unique(found)

    def sheets(self, items: Sequence[Crystal | Failure]) -> Iterator[dict[str, Any]]:
        """Yield a record for each crystal and each failure, in their order."""
        with self._turn:
            stream = self._maker.stream(items)
        end = time.monotonic() + self._limits.seconds
        while True:
            with self._turn:  # not while the client reads what it got
                item = next(stream, None)
            if item is None:
                return
            if time.monotonic() > end:
                raise too_long(self._limits)
            yield failure(item) if isinstance(item, Failure) else sheet(item)

    def checked(self, items: Sequence[Crystal | Failure]) -> Iterator[dict[str, Any]]:
        """Yield what was read, without any prediction."""
        for item in items:
            yield failure(item) if isinstance(item, Failure) else facts(item)

    def sums(
        self, item: Crystal | Failure, potentials: Sequence[str], tolerance: float
    ) -> dict[str, Any]:
        """Return the sums of all pairs of atoms of a crystal.

        Raises:
            Problem: If the crystal or a setting cannot be used.
        """
        from potnet.sums import lattice_sums, parse_potential

        if isinstance(item, Failure):
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, item.reason)
        try:
            chosen = [parse_potential(text) for text in potentials]
            with self._turn:
                found = lattice_sums(item, chosen, tolerance=tolerance)
        except PotNetError as error:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        return {
            "id": item.id,
            "potentials": list(found.potentials),
            "values": found.values.tolist(),
            "error_bound": found.error_bound.tolist(),
        }

    def _within(self, item: Crystal | Failure) -> Crystal | Failure:
        if isinstance(item, Failure) or item.n_atoms <= self._limits.atoms:
            return item
        return Failure(
            item.id,
            "read",
            f"{item.id}: a crystal must have at most {self._limits.atoms} atoms here, got "
            f"{item.n_atoms}. Use potnet predict.",
        )


def too_long(limits: Limits) -> Problem:
    """Return why a request was given up."""
    return Problem(
        HTTPStatus.GATEWAY_TIMEOUT,
        f"The answer took more than {limits.seconds:g} s. Send less at a time.",
    )


def failure(item: Failure) -> dict[str, Any]:
    """Return a failure as a record: ``id``, ``stage``, ``reason``."""
    return {"id": printable(item.id), "stage": item.stage, "reason": printable(item.reason)}


def sheet(found: CrystalSheet) -> dict[str, Any]:
    """Return the sheet of a crystal as a record."""
    return {
        **facts(found.crystal),
        "rows": [row.record() for row in found.rows],
        "known": [printable(known.id) for known in found.known],
    }


def facts(crystal: Crystal) -> dict[str, Any]:
    """Return what was read of a crystal, and what is needed to draw it."""
    from potnet.sheet.facts import facts_of

    read = facts_of(crystal)
    return {
        "id": printable(crystal.id),
        "formula": read.formula,
        "n_atoms": read.n_atoms,
        "space_group": read.space_group,
        "density": read.density,
        "symbols": crystal.symbols,
        "positions": crystal.positions.round(6).tolist(),
        "cell": crystal.cell.round(6).tolist(),
        "pbc": crystal.pbc.tolist(),
        "bonds": bonds(crystal),
    }


def bonds(crystal: Crystal) -> list[list[int]]:
    """Return the bonds that leave each atom: its number, that of the other, and three shifts.

    Two atoms are bonded where they are nearer than the sum of their covalent radii and a little;
    metals are not bonded with each other where there is anything else. Each bond is there once;
    none are looked for in large cells.
    """
    from ase.data import covalent_radii

    if crystal.n_atoms > MAX_DRAWN:
        return []
    radii = covalent_radii[crystal.numbers]
    reach = BOND_SLACK * (radii[:, None] + radii)
    is_metal = ~np.isin(crystal.numbers, NONMETALS)
    if not is_metal.all():
        reach[is_metal[:, None] & is_metal] = 0
    spans = [(-1, 0, 1) if periodic else (0,) for periodic in crystal.pbc]
    shifts = np.stack(np.meshgrid(*spans, indexing="ij"), -1).reshape(-1, 3)
    found = []
    for shift in shifts[np.lexsort(shifts.T)]:
        apart = crystal.positions + shift @ crystal.cell - crystal.positions[:, None]
        near = np.linalg.norm(apart, axis=-1) < reach
        for i, j in np.argwhere(near):
            # Each bond and its reverse are found: the one whose shift is the larger stays.
            if tuple(shift) > (0, 0, 0) or (not shift.any() and i < j):
                found.append([int(i), int(j), *map(int, shift)])
    return found


def _written(folder: Path, name: str, content: bytes) -> Path:
    """Write a text to a file in ``folder``, named so that its format is told."""
    plain = file_name(name or "structure")
    is_vasp = plain.startswith(("POSCAR", "CONTCAR"))
    if not is_vasp and Path(plain).suffix.lower() not in SUFFIXES:
        plain = f"{plain}{suffix_of(content)}"
    path = folder / plain
    path.write_bytes(content)
    return path


def _unique(items: Sequence[Crystal | Failure]) -> list[Crystal | Failure]:
    """Number the ids that come twice."""
    seen: set[str] = set()
    found: list[Crystal | Failure] = []
    for item in items:
        id, number = item.id, 1
        while id in seen:
            number += 1
            id = f"{item.id} ({number})"
        seen.add(id)
        if isinstance(item, Failure):
            found.append(Failure(id, item.stage, item.reason))
        else:
            found.append(item if id == item.id else item.replace(id=id))
    return found


def examples() -> dict[str, str]:
    """Return the example crystals, text by name.

    Raises:
        ConfigError: If the package has none.
    """
    from potnet.demo import examples as folder

    found = {path.name: path.read_text("utf-8") for path in sorted(folder().iterdir())}
    if not found:
        raise ConfigError("serve: the package must hold examples, got none. Install it again.")
    return found
