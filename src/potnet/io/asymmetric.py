"""From the listed sites and the operations to all atoms of the cell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from potnet.crystal import MAX_ATOMS
from potnet.crystal.claims import say
from potnet.errors import StructureError
from potnet.io.operations import Group

if TYPE_CHECKING:
    from numpy.typing import NDArray

SITE_TOLERANCE = 0.05  # Å; images of a site closer than this are one atom on a special position
COARSE_TOLERANCE = 0.25  # Å; the same, where the last digit of the coordinates is as coarse
COARSE = 1e-2  # scaled; coordinates of two digits are put on the special position
METRIC_TOLERANCE = 0.02  # relative; of squared lengths, which a symmetry operation must keep
MANY_SITES = 2_000  # nobody lists as many sites twice
_CHUNK = 200_000  # images computed together


@dataclass(frozen=True)
class Sites:
    """The sites that a file lists.

    Attributes:
        labels: Name of each site, n_sites of them.
        numbers: Atomic numbers, shape (n_sites,).
        scaled: Scaled positions, shape (n_sites, 3).
        written: The same as text, three columns of n_sites.
        multiplicities: Stated number of atoms of each site, as text; may be empty.
        is_deuterium: Whether a site is D, shape (n_sites,).
    """

    labels: list[str]
    numbers: NDArray[np.int64]
    scaled: NDArray[np.float64]
    written: Sequence[Sequence[str]]
    multiplicities: list[str]
    is_deuterium: NDArray[np.bool_]

    @cached_property
    def digits(self) -> NDArray[np.float64]:
        """One unit of the last digit of each coordinate, 0 where it has none, (n_sites, 3)."""
        return np.array([[last_digit(text) for text in column] for column in self.written]).T


def cell_of(parameters: list[float], where: str) -> NDArray[np.float64]:
    """Return lattice vectors of lengths in Å and angles in degrees: a along x, b in the xy plane.

    Raises:
        StructureError: If a length is not positive, or the angles span no volume.
    """
    a, b, c, alpha, beta, gamma = parameters
    cos_a, cos_b, cos_g = (0.0 if x == 90 else math.cos(math.radians(x)) for x in parameters[3:])
    square = 1 - cos_a**2 - cos_b**2 - cos_g**2 + 2 * cos_a * cos_b * cos_g
    if not (min(parameters) > 0 and max(parameters[3:]) < 180 and square >= 1e-12):
        raise StructureError(
            f"{where}: the cell angles must span a volume, got {alpha:g}, {beta:g}, {gamma:g} and "
            f"lengths of {a:g}, {b:g}, {c:g} Å. Correct the cell."
        )
    sin_g = math.sqrt(1 - cos_g**2)
    return np.array(
        [
            [a, 0, 0],
            [b * cos_g, b * sin_g, 0],
            [c * cos_b, c * (cos_a - cos_b * cos_g) / sin_g, c * math.sqrt(square) / sin_g],
        ]
    )


@lru_cache(maxsize=2**12)
def last_digit(text: str) -> float:
    """Return one unit of the last digit of a number: 0.01 of ``0.33`` and ``0.5``, 0 of ``1``.

    Two digits at least are taken for stated, as nobody writes 0.50.
    """
    decimals = text.partition(".")[2].partition("(")[0]
    count = len(decimals) if decimals.isdigit() else 0
    return 10.0 ** -max(2, count) if count else 0.0


def misfit(group: Group, cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how much each operation changes squared lengths, relative, (n_operations,).

    In Cartesian coordinates an operation must be orthogonal.
    """
    motions = cell.T @ group.rotations @ np.linalg.inv(cell.T)
    return abs(motions.transpose(0, 2, 1) @ motions - np.eye(3)).max((1, 2))


def expand(
    sites: Sites, group: Group, cell: NDArray[np.float64], where: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return of each atom the site, shape (n_atoms,), and the scaled position, (n_atoms, 3).

    Says so if sites of two digits are put on their special position, or if sites are images of
    others, as in files that list whole molecules beside the operations.

    Raises:
        StructureError: If there are too many atoms, a site is neither on a special position nor
            off it, or its multiplicity is not the stated one.
    """
    n_operations = len(group)
    if n_operations == 1:
        _check_listed(sites, where)
        return np.arange(len(sites.scaled)), sites.scaled.copy()
    orbits: list[NDArray[np.float64]] = []
    moved: list[float] = []
    total = 0
    step = max(1, _CHUNK // n_operations)
    for start in range(0, len(sites.scaled), step):
        part = slice(start, start + step)
        in_place = _in_place(sites.scaled[part], sites.digits[part], group, cell)
        for k, fixed in enumerate(in_place, start):
            stabiliser = np.flatnonzero(fixed)
            chosen = group.cosets(stabiliser)
            if chosen is None:
                raise StructureError(
                    f"{where}: site {sites.labels[k]} must lie on a special position or more than "
                    f"{SITE_TOLERANCE} Å from it, got something between. Give more digits."
                )
            position, distance = _settled(sites, k, stabiliser, group, cell)
            moved += [distance] if distance else []
            orbits.append(group.rotations[chosen] @ position + group.shifts[chosen])
            total += len(chosen)
            if total > MAX_ATOMS:
                raise StructureError(
                    f"{where}: the number of atoms must be at most {MAX_ATOMS}, got more than "
                    f"{total - 1}. Use a smaller cell."
                )
    _check_multiplicities(sites, orbits, n_operations, where)
    if moved:
        say(
            f"{where}: {len(moved)} of {len(orbits)} sites, whose coordinates have two digits, are "
            f"put on their special positions, at most {max(moved):.2g} Å away."
        )
    kept = _without_images(sites, orbits, cell, where)
    site = np.repeat(kept, [len(orbits[k]) for k in kept])
    return site, np.concatenate([orbits[k] for k in kept])


def _in_place(
    scaled: NDArray[np.float64],
    digits: NDArray[np.float64],
    group: Group,
    cell: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return which operations leave which site in place, shape (n_sites, n_operations)."""
    images = np.einsum("mij,sj->smi", group.rotations, scaled) + group.shifts
    apart = images - scaled[:, None, :]
    apart -= np.round(apart)
    distances = np.linalg.norm(apart @ cell, axis=2)
    # How far the image can be from the site by the last digits alone.
    reach = np.einsum("mij,sj->smi", group.moves, digits)
    is_rounding = (abs(apart) <= reach + 1e-9).all(2) & (distances <= COARSE_TOLERANCE)
    return (distances <= SITE_TOLERANCE) | is_rounding


def _settled(
    sites: Sites, k: int, stabiliser: NDArray[np.int64], group: Group, cell: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Return the position of site ``k`` and how far it was moved, in Å: 0 unless it is coarse."""
    position = sites.scaled[k]
    if len(stabiliser) == 1 or sites.digits[k].max() < COARSE:
        return position, 0.0
    images = group.rotations[stabiliser] @ position + group.shifts[stabiliser]
    special = (images - np.round(images - position)).mean(0)
    distance = float(np.linalg.norm((special - position) @ cell))
    return (special, distance) if distance > 1e-6 else (position, 0.0)


def _check_listed(sites: Sites, where: str) -> None:
    """Raise if sites without symmetry are said to be several atoms, unless so many are listed."""
    if not sites.multiplicities:
        return
    stated = Counter(int(text) for text in sites.multiplicities if text.isdigit())
    for multiplicity, count in stated.items():
        if multiplicity > 1 and count % multiplicity:
            raise StructureError(
                f"{where}: a site must be one atom where no symmetry is stated, got a "
                f"multiplicity of {multiplicity} for {count} of the sites. "
                "List the symmetry operations, or all atoms with multiplicity 1."
            )


def _check_multiplicities(
    sites: Sites, orbits: list[NDArray[np.float64]], n_operations: int, where: str
) -> None:
    for label, orbit, text in zip(sites.labels, orbits, sites.multiplicities, strict=False):
        count = len(orbit)
        stated = float(text) if text.isdigit() else math.nan
        # Some programs state the order of the site's symmetry instead of its multiplicity.
        if math.isfinite(stated) and stated not in (count, n_operations / count):
            raise StructureError(
                f"{where}: the multiplicity of site {label} must agree with the symmetry, got "
                f"{text} stated and {count} found. Correct the coordinates or the space group."
            )


def _without_images(
    sites: Sites, orbits: list[NDArray[np.float64]], cell: NDArray[np.float64], where: str
) -> list[int]:
    """Return the sites that are no image of an earlier one of their element.

    A site that is listed twice in the same place is no image: the check of distances names it.
    """
    if len(orbits) > MANY_SITES:
        return list(range(len(orbits)))
    kept: list[int] = []
    images: dict[int, NDArray[np.float64]] = {}  # of all kept sites, by element
    for k, orbit in enumerate(orbits):
        number = int(sites.numbers[k])
        others = images.get(number, np.empty((0, 3)))
        tolerance = COARSE_TOLERANCE if sites.digits[k].max() >= COARSE else SITE_TOLERANCE
        if len(others) and _nearest(sites.scaled[k], others, cell) <= tolerance:
            listed = sites.scaled[[i for i in kept if sites.numbers[i] == number]]
            if _nearest(sites.scaled[k], listed, cell) > tolerance:
                continue
        kept.append(k)
        images[number] = np.concatenate([others, orbit])
    if len(kept) < len(orbits):
        say(
            f"{where}: {len(orbits) - len(kept)} of {len(orbits)} sites are images of others by "
            "the symmetry, and counted once."
        )
    return kept


def _nearest(
    position: NDArray[np.float64], others: NDArray[np.float64], cell: NDArray[np.float64]
) -> float:
    """Return the distance to the nearest of ``others`` in Å, right where it is short."""
    apart = others - position
    apart -= np.round(apart)
    return float(np.linalg.norm(apart @ cell, axis=1).min())
