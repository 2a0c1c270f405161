"""The index of known crystals: which of them is this one, and which are near."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from potnet.crystal import Crystal
from potnet.crystal.formula import reduced_formula
from potnet.crystal.layers import bonding, stretched
from potnet.errors import StructureError
from potnet.known.chemistry import chemistry
from potnet.known.fingerprint import SIZE, fingerprint

if TYPE_CHECKING:
    from numpy.typing import NDArray

INDEX = Path(__file__).parent / "crystals.npz"
SOURCE = (
    "Materials Project of 2018 and 2019 through MatBench 0.1 (PBE; CC BY 4.0; "
    "Jain et al., APL Materials 1, 011002 (2013))"
)
SAME_STRUCTURE = 0.08
SAME_VOLUME = 0.08
"""A crystal is known if no number of the fingerprint and no logarithm of the volume differs more.

Measured cells and those of PBE differ by less, as a rule."""
AS_GOOD = 2.0  # what is farther than so many times the best is another structure, unless it is
VERY_GOOD = 0.025  # so near that rounding and relaxation explain it
EXACT = 0.0125  # so near that rounding alone explains it
# How many times as far apart layers may be in PBE, which lacks the attraction between them.
STRETCHES = [float(f) for f in np.exp(np.arange(-5, 11) * 0.03) if f != 1]
_LOG_STRETCHES = np.array([np.log(factor) for factor in STRETCHES])
SYMMETRY = (0.01, 0.05)  # Å, within which a crystal has the space group of a known one
N_NEAREST = 5
N_MORE = 20

# How each column is stored: type, steps per unit, and what stands for nothing.
_CODES: dict[str, tuple[str, float, int | None]] = {
    "id": ("<i4", 1, None),
    "space_group": ("u1", 1, None),
    "n_atoms": ("<u2", 1, None),
    "gap": ("<u2", 1_000, 65_535),
    "is_metal": ("u1", 1, None),
    "formation_energy": ("<i2", 1_000, -32_768),
    "bulk_modulus": ("<u2", 10, 65_535),
    "shear_modulus": ("<u2", 10, 65_535),
}
# What a unit of the logarithm of the volume, and of group, period and radius in Å, counts beside
# one of the fingerprint: so that values of the nearest crystal of another formula are the likest.
_VOLUME = 4.0
_CHEMISTRY = np.array([0.8, 0.8, 3.2])
_PRINT_STEP = 0.015
_PRINT_ZERO = np.repeat([0, 128], SIZE // 2)  # the second half has both signs
_VOLUME_STEP = 1 / 6_000  # of the logarithm


@dataclass(frozen=True)
class KnownCrystal:
    """A crystal of the index; nan where a value is not known.

    Attributes:
        id: Its id in the Materials Project, or its row in MatBench's mp_gap where that is not
            certain.
        formula: Reduced formula.
        n_atoms: Atoms of the cell in the source.
        space_group: Its number, 0 if not known.
        volume: Volume per atom in Å^3.
        distance: How far it is from the crystal that was asked about; 0 for the same.
        gap: PBE band gap in eV.
        is_metal: Whether the source calls it a metal.
        formation_energy: In eV per atom, corrections of 2019.
        bulk_modulus, shear_modulus: Voigt-Reuss-Hill averages in GPa.
        stretch: How many times as far apart its layers are as those of the crystal that was asked
            about; 1 unless they had to be moved to be the same.
    """

    id: str
    formula: str
    n_atoms: int
    space_group: int
    volume: float
    distance: float
    gap: float
    is_metal: bool
    formation_energy: float
    bulk_modulus: float
    shear_modulus: float
    stretch: float = 1.0


class KnownCrystals:
    """Many crystals with reference values, found by structure.

    Args:
        table: Columns, of which rows are crystals: those of ``_CODES``, ``volume`` per atom in
            Å^3, ``print`` (n, SIZE), and the compositions: ``sizes`` (n,) elements of each, whose
            ``elements`` and ``counts`` stand one crystal after the other.
    """

    def __init__(self, table: Mapping[str, NDArray]) -> None:
        self._table = table
        self._starts = np.concatenate([[0], np.cumsum(table["sizes"], dtype=np.int64)])
        keys = _keys(table["elements"], table["counts"], self._starts[:-1])
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def __len__(self) -> int:
        return len(self._table["id"])

    def __repr__(self) -> str:
        return f"<KnownCrystals: {len(self):,}>"

    def column(self, name: str) -> NDArray[np.float64]:
        """Return a value of all crystals, nan where it is not known, shape (n,).

        Args:
            name: A field of :class:`KnownCrystal` that is a number.
        """
        return self._table[name].astype(np.float64)

    def formulas(self) -> list[str]:
        """Return the reduced formulas of all crystals."""
        elements, counts = self._table["elements"].tolist(), self._table["counts"].tolist()
        spans = zip(self._starts[:-1].tolist(), self._starts[1:].tolist(), strict=True)
        return [
            reduced_formula(dict(zip(elements[a:b], counts[a:b], strict=True))) for a, b in spans
        ]

    def match(self, crystal: Crystal) -> list[KnownCrystal]:
        """Return the known crystals that are this one, the likest first.

        The same are crystals of one reduced formula whose fingerprints differ by at most
        ``SAME_STRUCTURE`` and whose volumes per atom by at most a share of ``SAME_VOLUME``,
        whatever their cells. Where one fits well, those that fit much worse are others: polytypes
        are alike. So are those of another space group, unless the crystal has none to speak of,
        as after noise, or hardly differs: tilts and other distortions are small, but not random.
        Mirror images are the same. A layered crystal for which nothing else is found is the known
        one with the same layers, of the same space group, that are farther apart or closer.

        Raises:
            StructureError: If the crystal is not periodic in all three directions.
        """
        crystal.require_periodic()
        if not len(self._of_composition(crystal)):  # as of most new crystals
            return []
        rows, strain = self._of_volume(crystal)
        alike, apart = self._alike(crystal, rows, strain, SAME_STRUCTURE, SAME_VOLUME)
        found = [self._known(row, 0.0) for row in self.same(crystal, alike, apart)]
        return found or self._same_layers(crystal, rows, strain)

    def _same_layers(
        self, crystal: Crystal, rows: NDArray[np.int64], strain: NDArray[np.float64]
    ) -> list[KnownCrystal]:
        """Return the known crystals that have the layers of a crystal at another distance.

        Args:
            crystal: The crystal.
            rows: Those of its composition, shape (n,).
            strain: Logarithms of their volumes per atom in units of its own, shape (n,).
        """
        near = np.abs(strain - _LOG_STRETCHES[:, None]) <= SAME_VOLUME
        if not near.any():
            return []
        bonded = bonding(crystal)
        if not bonded.is_layered:
            return []
        apart, stretch = np.full(len(rows), np.inf), np.ones(len(rows))
        for factor, inside in zip(STRETCHES, near, strict=True):
            if inside.any():
                now = self._apart(stretched(crystal, bonded, factor), rows[inside])
                is_better = now < apart[inside]
                stretch[inside] = np.where(is_better, factor, stretch[inside])
                apart[inside] = np.minimum(now, apart[inside])
        likest = np.argsort(apart, kind="stable")
        likest = likest[apart[likest] <= SAME_STRUCTURE]
        factors = dict(zip(rows.tolist(), stretch.tolist(), strict=True))
        # Stackings differ little: of layers that are moved anyway, the space group decides.
        same = self.same(crystal, rows[likest], apart[likest], exact=0.0)
        return [replace(self._known(row, 0.0), stretch=factors[row]) for row in same]

    def same(
        self,
        crystal: Crystal,
        rows: NDArray[np.int64],
        apart: NDArray[np.float64],
        *,
        exact: float = EXACT,
    ) -> list[int]:
        """Return which of some rows that are alike are the crystal, those of its group first.

        Args:
            crystal: The crystal.
            rows: Alike by structure and volume, the likest first, shape (n,).
            apart: How their structures differ, shape (n,).
            exact: Up to which difference another space group does not matter, if no row of its own
                group is very like it.
        """
        if not len(rows):
            return []
        own = self._table["space_group"][rows]
        groups = _groups(crystal, own)
        has_group = np.isin(own, groups)
        if groups and groups[0] > _INVERSION:
            possible = has_group
            if not (has_group & (apart <= VERY_GOOD)).any():
                possible = has_group | (apart <= exact) | ((own == 0) & (exact > 0))
            rows, apart, has_group = rows[possible], apart[possible], has_group[possible]
        as_good = apart <= max(VERY_GOOD, AS_GOOD * apart.min(initial=np.inf))
        order = np.argsort(~has_group[as_good], kind="stable")
        return rows[as_good][order].tolist()

    def nearest(self, crystal: Crystal, n: int = N_NEAREST) -> list[KnownCrystal]:
        """Return the ``n`` nearest crystals, by structure and by chemistry.

        Raises:
            StructureError: If the crystal is not periodic in all three directions.
        """
        numbers, counts = _composition(crystal)
        volume = np.array([crystal.volume / crystal.n_atoms])
        prints = fingerprint(crystal)[None]
        point = _points(prints, volume, numbers, counts, np.array([0]))[0]
        points, squares = self._located
        # In single precision, which is twice as fast and may confuse those that are equally far:
        # hence a few more, of which the distance is found again.
        about = squares - 2 * (points @ point.astype(np.float32))
        n_rough = min(n + N_MORE, len(self))
        rows = np.argpartition(about, n_rough - 1)[:n_rough]
        distances = np.linalg.norm(points[rows] - point, axis=1)
        order = np.lexsort((rows, distances))[:n]
        return [self._known(int(rows[k]), float(distances[k])) for k in order]

    def alike(self, crystal: Crystal, structure: float, volume: float) -> list[tuple[int, float]]:
        """Return rows within both tolerances and how their structures differ, the likest first."""
        crystal.require_periodic()
        rows, apart = self._alike(crystal, *self._of_volume(crystal), structure, volume)
        return list(zip(rows.tolist(), apart.tolist(), strict=True))

    def _of_volume(self, crystal: Crystal) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the rows of a composition, and the logarithms of their relative volumes."""
        rows = self._of_composition(crystal)
        return rows, np.log(self._table["volume"][rows] * crystal.n_atoms / crystal.volume)

    def _alike(
        self,
        crystal: Crystal,
        rows: NDArray[np.int64],
        strain: NDArray[np.float64],
        structure: float,
        volume: float,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return rows within both tolerances, the likest first, and how their structures differ."""
        near = np.abs(strain) <= volume
        rows, strain = rows[near], strain[near]
        if not len(rows):  # as of most new crystals, which need no fingerprint then
            return rows, strain
        apart = self._apart(crystal, rows)
        likest = np.argsort(apart / structure + np.abs(strain) / volume, kind="stable")
        kept = likest[(apart <= structure)[likest]]
        return rows[kept], apart[kept]

    def _of_composition(self, crystal: Crystal) -> NDArray[np.int64]:
        divisor = math.gcd(*crystal.composition.values())
        parts = (_part(n, count // divisor) for n, count in crystal.composition.items())
        key = np.uint64(sum(parts) & _64_BITS)
        return self._order[slice(*(self._keys.searchsorted(key, side) for side in _SIDES))]

    def _apart(self, crystal: Crystal, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return how structures differ, shape (n,)."""
        differences: NDArray[np.float64] = self._table["print"][rows] - fingerprint(crystal)
        return np.abs(differences).max(1)

    @cached_property
    def _located(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where each crystal lies, and the square of its distance from the origin."""
        table = self._table
        compositions = (table["elements"], table["counts"], self._starts[:-1])
        points = _points(table["print"], table["volume"], *compositions).astype(np.float32)
        return points, np.einsum("nk,nk->n", points, points)

    def _known(self, row: int, distance: float) -> KnownCrystal:
        table, span = self._table, slice(self._starts[row], self._starts[row + 1])
        amounts = zip(table["elements"][span].tolist(), table["counts"][span].tolist(), strict=True)
        number = int(table["id"][row])
        values = {name: float(table[name][row]) for name in _CODES if name not in _WHOLE}
        return KnownCrystal(
            id=f"mp-{number}" if number > 0 else f"matbench_mp_gap:{-number}",
            formula=reduced_formula(dict(amounts)),
            n_atoms=int(table["n_atoms"][row]),
            space_group=int(table["space_group"][row]),
            volume=float(table["volume"][row]),
            distance=distance,
            is_metal=bool(table["is_metal"][row]),
            **values,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str] = INDEX) -> KnownCrystals:
        """Return the crystals of a file of :meth:`save`."""
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        table: dict[str, NDArray] = {k: stored[k] for k in ("sizes", "elements", "counts")}
        for name, (_, steps, missing) in _CODES.items():
            column = stored[name]
            if name not in _WHOLE:
                values = column / np.float32(steps)
                column = values if missing is None else np.where(column == missing, np.nan, values)
            table[name] = column
        table["volume"] = np.exp(stored["volume"] * np.float32(_VOLUME_STEP))
        table["print"] = (stored["print"].T - _PRINT_ZERO) * np.float32(_PRINT_STEP)
        return cls(table)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the crystals, values rounded to the steps of ``_CODES``."""
        stored = {name: self._table[name].astype("u1") for name in ("sizes", "elements")} | {
            "counts": self._table["counts"].astype("<u2")
        }
        for name, (kind, steps, missing) in _CODES.items():
            values = np.round(self._table[name] * steps)
            if missing is not None:
                values = np.where(np.isnan(values), missing, values)
            if not (values.astype(kind) == values).all():
                raise ValueError(f"{name} does not fit into {kind}")
            stored[name] = values.astype(kind)
        stored["volume"] = np.round(np.log(self._table["volume"]) / _VOLUME_STEP).astype("<u2")
        prints = np.round(self._table["print"] / _PRINT_STEP) + _PRINT_ZERO
        stored["print"] = prints.clip(0, 255).astype("u1").T.copy()  # columns pack better
        np.savez_compressed(path, allow_pickle=False, **stored)


_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_64_BITS = 2**64 - 1
_SIDES = ("left", "right")
_INVERSION = 2  # the number of P-1: no higher group is there by chance
_WHOLE = ("id", "space_group", "n_atoms", "is_metal")


@lru_cache(1)
def load_known() -> KnownCrystals:
    """Return the bundled index: 106,113 crystals of the Materials Project of 2018 and 2019."""
    return KnownCrystals.load()


def composition(crystal: Crystal) -> tuple[tuple[int, int], ...]:
    """Return the elements by atomic number with their amounts, without a common factor."""
    return tuple(zip(*(array.tolist() for array in _composition(crystal)), strict=True))


def _groups(crystal: Crystal, likely: NDArray[np.int64]) -> list[int]:
    """Return the space groups of a crystal within ``SYMMETRY``, where one is found.

    Args:
        crystal: The crystal.
        likely: The groups that matter; once all of them are found, no other is looked for.
    """
    found: list[int] = []
    for tolerance in SYMMETRY:
        if found and np.isin(likely, found).all():
            break
        try:
            found.append(crystal.group_within(tolerance)[0])
        except StructureError:
            continue
    return found


def _composition(crystal: Crystal) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    numbers, counts = (np.array([*part]) for part in zip(*crystal.composition.items(), strict=True))
    return numbers, counts // np.gcd.reduce(counts)


def _keys(elements: NDArray, counts: NDArray, starts: NDArray) -> NDArray[np.uint64]:
    """Return a number for each composition, by which it is found (splitmix64 of its parts)."""
    x = elements.astype(np.uint64) << np.uint64(32) | counts.astype(np.uint64)
    for shift, factor in _MIX:
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return np.add.reduceat(x ^ (x >> np.uint64(31)), starts)


@lru_cache(maxsize=2**14)
def _part(element: int, count: int) -> int:
    """Return what an element adds to the number of a composition, modulo 2^64."""
    x = element << 32 | count
    for shift, factor in _MIX:
        x = (x ^ (x >> shift)) * factor & _64_BITS
    return x ^ (x >> 31)


def _points(
    prints: NDArray, volume: NDArray, elements: NDArray, counts: NDArray, starts: NDArray
) -> NDArray:
    """Return where crystals lie, so that distances say how different they are, (n, k)."""
    places = chemistry(elements, counts, starts) * np.tile(_CHEMISTRY, 2)
    return np.hstack([prints, _VOLUME * np.log(volume)[:, None], places])
