"""What crystals have in common: formula, elements, prototype, likeness, time."""

from __future__ import annotations

import logging
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potnet.crystal import Crystal
from potnet.crystal.elements import number_of
from potnet.data.dataset import Dataset
from potnet.data.splits.clusters import cluster
from potnet.data.splits.grouped import Groups, numbered
from potnet.errors import DataError

EPOCH = datetime(1970, 1, 1)
PROTOTYPE_TOLERANCE = 0.01  # Å; looser than for sums: relaxed cells keep little numerical noise

# What each way of grouping calls a crystal.
KEYS: dict[str, Callable[[Crystal], str]] = {
    "composition": lambda crystal: crystal.formula,
    "chemical-system": lambda crystal: "-".join(sorted(set(crystal.symbols))),
    "prototype": lambda crystal: prototype(crystal),
}


def groups_of(
    crystals: Sequence[Crystal], by: str, *, n_clusters: int = 50, seed: int = 123
) -> Groups:
    """Return the number of the group of each crystal, shape (n,).

    Args:
        crystals: The crystals.
        by: "crystal" (each for itself), "composition" (reduced formula), "chemical-system" (set of
            elements), "prototype" (see :func:`prototype`) or "cluster" (see
            :func:`potnet.data.splits.clusters.cluster`).
        n_clusters: How many clusters; at most the number of crystals.
        seed: Seed of the clusters.
    """
    if by == "crystal":
        return np.arange(len(crystals))
    if by == "cluster":
        return cluster(crystals, n_clusters=n_clusters, seed=seed)
    return numbered([KEYS[by](crystal) for crystal in crystals])


def prototype(crystal: Crystal, *, tolerance: float = PROTOTYPE_TOLERANCE) -> str:
    """Return the arrangement of a crystal without its elements: ``AB 225 1:m-3m 1:m-3m``.

    That is the anonymous reduced formula, the number of the space group, and for each element the
    orbits of its atoms by size in the primitive cell and site symmetry. Site symmetries stand for
    the letters of the Wyckoff positions, because these depend on the choice of the origin. Where
    no group is found within ``tolerance`` (Å), the formula alone remains, with a "?".
    """
    import moyopy

    log = logging.getLogger("moyo")
    if log.level == logging.NOTSET:
        log.setLevel(logging.ERROR)
    formula = anonymous_formula(crystal)
    scaled = crystal.scaled_positions.tolist()
    cell = moyopy.Cell(crystal.cell.tolist(), scaled, crystal.numbers.tolist())
    try:
        found = moyopy.MoyoDataset(cell, symprec=tolerance)
    except ValueError:
        return f"{formula} ?"
    n_copies = len(crystal) / len(set(found.mapping_std_prim))
    orbits: defaultdict[int, list[int]] = defaultdict(list)
    for atom, orbit in enumerate(found.orbits):
        orbits[orbit].append(atom)
    by_element: defaultdict[int, list[str]] = defaultdict(list)
    for first, atoms in orbits.items():
        size = round(len(atoms) / n_copies)
        symmetry = found.site_symmetry_symbols[first].replace(".", "")
        by_element[int(crystal.numbers[first])].append(f"{size}:{symmetry}")
    counts = {number: int((crystal.numbers == number).sum()) for number in by_element}
    sites = sorted((counts[number], ",".join(sorted(of))) for number, of in by_element.items())
    return " ".join([formula, str(found.number), *(text for _, text in sites)])


def anonymous_formula(crystal: Crystal) -> str:
    """Return the reduced formula with A, B, C... for the elements, the rarest first: ``AB2``."""
    _, counts = np.unique(crystal.numbers, return_counts=True)
    shares = sorted((counts // np.gcd.reduce(counts)).tolist())
    letters = (chr(ord("A") + k % 26) + "'" * (k // 26) for k in range(len(shares)))
    return "".join(f"{a}{n if n > 1 else ''}" for a, n in zip(letters, shares, strict=True))


def with_elements(crystals: Iterable[Crystal], elements: Sequence[str]) -> NDArray[np.bool_]:
    """Return whether each crystal has one of ``elements`` (symbols), shape (n,)."""
    numbers = [number_of(symbol, "split") for symbol in elements]
    found = np.array([bool(np.isin(crystal.numbers, numbers).any()) for crystal in crystals])
    if not found.any():
        raise DataError(
            f"split: a crystal must have {' or '.join(elements)}, got none. Name other elements."
        )
    return found


def times_of(dataset: Dataset, column: str) -> NDArray[np.float64]:
    """Return when each crystal became known, shape (n,); the larger the later.

    Args:
        dataset: The crystals.
        column: A column of years or other numbers, or of dates (2018-06-01); "" takes the number
            at the end of each id, which databases count up.

    Raises:
        DataError: If a crystal has no such number or date.
    """
    if not column:
        found = [re.search(r"(\d+)\D*$", id) for id in dataset.ids]
        values: list[Any] = [match.group(1) if match else None for match in found]
    elif column in dataset.targets:
        values = dataset.targets[column].tolist()
    else:
        values = [crystal.info.get(column) for crystal in dataset.crystals]
    times = np.array([_number(value) for value in values])
    if np.isnan(times).all():
        times = np.array([_date(value) for value in values])
    unknown = np.flatnonzero(~np.isfinite(times))
    if len(unknown):
        name = f"column {column!r}" if column else "the number in the id"
        raise DataError(
            f"split: {name} must be a number or a date (2018-06-01) for each crystal, got "
            f"{values[unknown[0]]!r} for {dataset.ids[unknown[0]]!r}. "
            "Name another column, or leave such crystals out."
        )
    return times


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _date(value: Any) -> float:
    """Return an ISO date as seconds since 1970, nan for what is none."""
    try:
        return (datetime.fromisoformat(str(value)).replace(tzinfo=None) - EPOCH).total_seconds()
    except ValueError:
        return math.nan
