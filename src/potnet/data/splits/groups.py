"""What crystals have in common: formula, elements, prototype, likeness, time.

Those that are alike are clusters of a fingerprint of composition and structure.
"""

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
from potnet.data.splits.by_group import Groups, numbered
from potnet.errors import DataError

EPOCH = datetime(1970, 1, 1)
PROTOTYPE_TOLERANCE = 0.01  # Å; looser than for sums: relaxed cells keep little numerical noise

# What each way of grouping calls a crystal.
KEYS: dict[str, Callable[[Crystal], str]] = {
    "composition": lambda crystal: crystal.formula,
    "chemical-system": lambda crystal: "-".join(sorted(set(crystal.symbols))),
    "prototype": lambda crystal: prototype(crystal),
}
SHELLS = np.arange(0.8, 2.41, 0.1)  # distances in units of (volume / n_atoms)^(1/3)
SHELL_WIDTH = 0.1
NOBLE = (0, 2, 10, 18, 36, 54, 86, 118)  # atomic numbers that end the periods
N_COLUMNS = 32  # of the long periodic table: 18 groups and 14 columns of the f block
N_STARTS = 4
MAX_ROUNDS = 100


def groups_of(
    crystals: Sequence[Crystal], by: str, *, n_clusters: int = 50, seed: int = 123
) -> Groups:
    """Return the number of the group of each crystal, shape (n,).

    Args:
        crystals: The crystals.
        by: "crystal" (each for itself), "composition" (reduced formula), "chemical-system" (set of
            elements), "prototype" (see :func:`prototype`) or "cluster" (see
            :func:`cluster`).
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


def cluster(crystals: Sequence[Crystal], *, n_clusters: int = 50, seed: int = 123) -> Groups:
    """Return the cluster of each crystal, shape (n,), by k-means of their fingerprints.

    The first centres are drawn with a chance in proportion to the squared distance from the
    nearest earlier one (k-means++, Arthur and Vassilvitskii, 2007); a cluster that loses all its
    crystals disappears. The tightest result of a few starts is returned. It depends on ``seed``
    and on the order of the crystals.
    """
    points = np.array([fingerprint(crystal) for crystal in crystals])
    generator = np.random.default_rng(seed)
    starts = (_k_means(points, n_clusters, generator) for _ in range(N_STARTS))
    return numbered(min(starts, key=lambda found: found[1])[0].tolist())


def fingerprint(crystal: Crystal) -> NDArray[np.float64]:
    """Return numbers that are close for crystals of like composition and structure.

    These are the shares of the periods and of the columns of the periodic table, and the
    distribution of distances up to 2.4 times the edge of the cube that an atom fills, relative to
    one without structure. They do not depend on the cell, its scale or the order of atoms.

    Returns:
        Shape (7 + 32 + 17,); the parts weigh about the same.
    """
    period = np.searchsorted(NOBLE, crystal.numbers) - 1
    column = _column(crystal.numbers, period)
    n = crystal.n_atoms
    periods = np.bincount(period, minlength=7) / n
    columns = np.bincount(column, minlength=N_COLUMNS) / n
    return np.concatenate([periods, columns, _distances(crystal)])


def _column(numbers: NDArray[np.int64], period: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the column in the long form of the table, which elements of one group share."""
    ends = np.array(NOBLE)
    from_left = numbers - ends[period] - 1
    from_right = ends[period + 1] - numbers
    left = (from_left < 2) & (numbers != 2)
    return np.where(left, from_left, N_COLUMNS - 1 - from_right)


def _distances(crystal: Crystal) -> NDArray[np.float64]:
    """Return the density of neighbours at each of ``SHELLS``, relative to a uniform one."""
    from vesin import NeighborList

    unit = (crystal.volume / crystal.n_atoms) ** (1 / 3)
    search = NeighborList(cutoff=(SHELLS[-1] + SHELL_WIDTH) * unit, full_list=True, n_threads=1)
    (found,) = search.compute(crystal.positions, crystal.cell, crystal.pbc.tolist(), "d")
    apart = (
        np.sort(found)[:, None] / unit - SHELLS
    ) / SHELL_WIDTH  # sorted: the sum stays the same
    counts = np.exp(-(apart**2) / 2).sum(0) / (SHELL_WIDTH * np.sqrt(2 * np.pi)) / crystal.n_atoms
    return np.tanh(counts / (4 * np.pi * SHELLS**2) / 4) / np.sqrt(len(SHELLS))


def _k_means(
    points: NDArray[np.float64], n_clusters: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], float]:
    """Return the cluster of each point, and the sum of their squared distances from the centres."""
    centres = _first_centres(points, n_clusters, generator)
    nearest = _nearest(points, centres)
    for _ in range(MAX_ROUNDS):
        used, nearest = np.unique(nearest, return_inverse=True)
        centres = np.array([points[nearest == k].mean(0) for k in range(len(used))])
        again = _nearest(points, centres)
        if np.array_equal(again, nearest):
            break
        nearest = again
    return nearest, float(((points - centres[nearest]) ** 2).sum())


def _first_centres(
    points: NDArray[np.float64], n_clusters: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return points far from each other, at most ``n_clusters`` of them."""
    chosen = [int(generator.integers(len(points)))]
    squared = ((points - points[chosen[0]]) ** 2).sum(1)
    while len(chosen) < n_clusters and squared.max() > 0:
        chosen.append(int(generator.choice(len(points), p=squared / squared.sum())))
        squared = np.minimum(squared, ((points - points[chosen[-1]]) ** 2).sum(1))
    return points[chosen]


def _nearest(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the nearest centre of each point; |point|^2 is the same for all centres."""
    return ((centres**2).sum(1) - 2 * points @ centres.T).argmin(1)
