"""Phases that compete: the bundled snapshot of known ones, and the user's own."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from potnet.crystal.formula import parse_formula, reduced_formula
from potnet.errors import DataError, StructureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SNAPSHOT = Path(__file__).parent / "mp2019.npz"
SNAPSHOT_NAME = (
    "hull of MP 2019.04, same corrections as the model; not comparable with today's "
    "Materials Project"
)
ENERGIES = (
    "formation_energy_per_atom",
    "formation_energy_peratom",
    "formation_energy",
    "e_form",
)
"""Names of the column with the energy in a file of phases, the first that is there."""
_STEP = 1e-4  # eV/atom, of the energies in the snapshot


@dataclass(frozen=True)
class Phase:
    """A compound that others may decompose into.

    Attributes:
        formula: Reduced formula.
        energy: Formation energy in eV per atom.
        id: Where it comes from; empty for phases of the snapshot.
        amounts: Amount of each element by atomic number.
    """

    formula: str
    energy: float
    id: str = ""
    amounts: Mapping[int, float] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, formula: str, energy: float, id: str = "", where: str = "phase") -> Phase:
        """Return the phase of a formula as people write it.

        Raises:
            StructureError: If this is no formula, or the energy is not a finite number.
        """
        amounts = parse_formula(formula, where)
        if not math.isfinite(energy):
            raise StructureError(
                f"{where}: the formation energy of {formula} must be finite, got {energy}. "
                "Give it in eV per atom."
            )
        return cls(reduced_formula(amounts), float(energy), id, amounts)


class PhaseTable:
    """Many phases in arrays.

    Args:
        elements: Atomic numbers of each phase, 0 where it has fewer, shape (n, k).
        amounts: Amount of each, 0 where there is none, shape (n, k).
        energies: Formation energies in eV per atom, shape (n,).
        ids: Where each comes from, length n; all empty if not given.
    """

    def __init__(
        self,
        elements: NDArray[np.uint8],
        amounts: NDArray[np.float64],
        energies: NDArray[np.float64],
        ids: tuple[str, ...] = (),
    ) -> None:
        self.elements, self.amounts, self.energies = elements, amounts, energies
        self.ids = ids

    def __len__(self) -> int:
        return len(self.energies)

    def __getitem__(self, k: int) -> Phase:
        amounts = {
            int(number): float(n)
            for number, n in zip(self.elements[k], self.amounts[k], strict=True)
            if number
        }
        energy = float(self.energies[k])
        return Phase(reduced_formula(amounts), energy, self.ids[k] if self.ids else "", amounts)

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """Share of each element in the atoms of each phase, shape (n, k)."""
        return self.amounts / self.amounts.sum(1, keepdims=True)

    @cached_property
    def _sets(self) -> NDArray[np.uint64]:
        """The elements of each phase, one bit each in two words, shape (2, n)."""
        elements = self.elements.astype(np.uint64)
        bits = np.where(elements, np.uint64(1) << elements % np.uint64(64), np.uint64(0))
        words = [np.where(elements // np.uint64(64) == word, bits, 0) for word in range(2)]
        return np.bitwise_or.reduce(words, axis=2)

    def within(self, numbers: Iterable[int]) -> NDArray[np.int64]:
        """Return the phases that have no other elements than these, in order."""
        whole = sum(1 << number for number in numbers)
        others = [np.uint64(~(whole >> shift) & 2**64 - 1) for shift in (0, 64)]
        low, high = self._sets
        return np.flatnonzero((low & others[0] | high & others[1]) == 0)

    @classmethod
    def of(cls, phases: Iterable[Phase]) -> PhaseTable:
        """Return the table of ``phases``."""
        phases = tuple(phases)
        width = max((len(phase.amounts) for phase in phases), default=1)
        elements = np.zeros((len(phases), width), dtype=np.uint8)
        amounts = np.zeros((len(phases), width))
        for k, phase in enumerate(phases):
            elements[k, : len(phase.amounts)] = list(phase.amounts)
            amounts[k, : len(phase.amounts)] = list(phase.amounts.values())
        energies = np.array([phase.energy for phase in phases], dtype=np.float64)
        ids = tuple(phase.id for phase in phases)
        return cls(elements, amounts, energies, ids if any(ids) else ())

    def joined(self, other: PhaseTable) -> PhaseTable:
        """Return the table with the phases of ``other`` after its own."""
        width = max(self.elements.shape[1], other.elements.shape[1])

        def widened(array: NDArray) -> NDArray:
            missing = width - array.shape[1]
            return np.hstack([array, np.zeros((len(array), missing), array.dtype)])

        ids = ()
        if self.ids or other.ids:
            ids = tuple(id for table in (self, other) for id in table.ids or ("",) * len(table))
        return PhaseTable(
            np.concatenate([widened(self.elements), widened(other.elements)]),
            np.concatenate([widened(self.amounts), widened(other.amounts)]),
            np.concatenate([self.energies, other.energies]),
            ids,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str] = SNAPSHOT) -> PhaseTable:
        """Return the phases of a file of :meth:`save`."""
        with np.load(path, allow_pickle=False) as file:
            sizes, numbers, counts = (file[key] for key in ("sizes", "elements", "counts"))
            energies = file["energies"] * -_STEP
        filled = np.arange(sizes.max()) < sizes[:, None]
        elements = np.zeros(filled.shape, dtype=np.uint8)
        amounts = np.zeros(filled.shape)
        elements[filled], amounts[filled] = numbers, counts
        return cls(elements, amounts, energies)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write phases with whole amounts and energies of at most 0, rounded to 0.1 meV/atom."""
        filled = self.elements > 0
        counts, steps = self.amounts[filled], np.round(self.energies / -_STEP)
        if not (counts == np.round(counts)).all() or counts.max() > 255 or steps.min() < 0:
            raise ValueError("a snapshot has whole amounts up to 255 and energies of at most 0")
        np.savez_compressed(
            path,
            sizes=filled.sum(1).astype(np.uint8),
            elements=self.elements[filled],
            counts=counts.astype(np.uint8),
            energies=steps.astype(np.uint16),
        )


def read_phases(path: str | os.PathLike[str]) -> list[Phase]:
    """Return the phases of a CSV or JSON file.

    A row, or an object of a list, has ``formula``, one of ``ENERGIES`` in eV per atom, and ``id``
    if wanted. The energies must be made as those that they are compared with: same functional,
    same references and corrections.

    Raises:
        DataError: If the file cannot be read so; the message says where.
    """
    path = Path(path)
    phases = []
    for place, row in _rows(path):
        where = f"{path}: {place}"
        key = next((name for name in ENERGIES if row.get(name) not in (None, "")), None)
        if key is None or not row.get("formula"):
            raise DataError(
                f"{where}: an entry must have `formula` and `{ENERGIES[0]}`, got "
                f"{', '.join(map(str, row)) or 'nothing'}. Name the columns so."
            )
        try:
            phase = Phase.of(row["formula"], float(row[key]), str(row.get("id") or ""), where)
        except (TypeError, ValueError) as error:
            reason = str(error) if isinstance(error, StructureError) else ""
            raise DataError(
                reason or f"{where}: `{key}` must be a number, got {row[key]!r}. Give eV per atom."
            ) from error
        phases.append(phase)
    if not phases:
        raise DataError(f"{path}: the file must have entries, got none. Add a row.")
    return phases


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows of a file, each with its place in words."""
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".json"):
        raise DataError(
            f"{path}: a file of phases must be .csv or .json, got {suffix or 'no ending'!r}. "
            "Save it as one of them."
        )
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the file must be text that can be read, got {error}.") from error
    if suffix == ".csv":
        for number, row in enumerate(csv.DictReader(text.splitlines()), 2):
            yield f"row {number}", row
        return
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: the file must be JSON, got {error}. Correct it.") from error
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise DataError(
            f"{path}: the file must be a list of objects with `formula` and `{ENERGIES[0]}`, got "
            f"{type(found).__name__}. Write it so."
        )
    for number, row in enumerate(found):
        yield f"entry {number}", row
