"""Groups of symmetry operations, from triplets such as ``-y, x-y, z+1/3``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHIFT_TOLERANCE = 5e-3  # scaled; of the digits of a translation
MAX_OPERATIONS = 192  # of the cubic groups with a face-centred cell
MAX_SHIFTS = 64  # 4 in the standard settings, more in supercells
MAX_TRIPLET = 100  # characters
MAX_FACTOR = 16  # of x, y or z; 1 in the standard settings
MAX_SHIFT = 100  # cells

Operation = tuple[list[list[int]], list[float]]  # rotation and shift

_IDENTITY: Operation = ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [0.0, 0.0, 0.0])
_TERM = re.compile(r"([+-]?)(\d+(?:\.\d*)?|\.\d+)?(?:/([1-9]\d*))?\*?([xyz]?)", re.ASCII)


@dataclass(frozen=True, eq=False)
class Group:
    """Symmetry operations x -> rotations @ x + shifts, in scaled coordinates.

    Attributes:
        rotations: Shape (n_operations, 3, 3).
        shifts: Shape (n_operations, 3).
        products: Index of the product of operations g and h (h first), (n_operations,) * 2.
        kinds: The different rotations, row by row.
    """

    rotations: NDArray[np.float64]
    shifts: NDArray[np.float64]
    products: NDArray[np.int64]
    kinds: Set[tuple[int, ...]]
    _cosets: dict[bytes, NDArray[np.int64]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.rotations)

    @cached_property
    def moves(self) -> NDArray[np.float64]:
        """How far each operation takes coordinates, shape (n_operations, 3, 3)."""
        return abs(self.rotations - np.eye(3))

    def cosets(self, stabiliser: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return one operation for each image of a site, the first of those that make the same.

        Operations g and g S make the same image, if S leaves the site in place.

        Args:
            stabiliser: The operations that leave it in place, ascending, shape (n,).

        Returns:
            Indices, ascending; None if those operations are no group.
        """
        key = stabiliser.tobytes()
        if key not in self._cosets:
            products = self.products[:, stabiliser]
            if not np.isin(products[stabiliser], stabiliser).all():
                return None
            self._cosets[key] = np.flatnonzero(products.min(1) == np.arange(len(self)))
        return self._cosets[key]


@lru_cache(maxsize=256)
def group_of(triplets: tuple[str, ...]) -> Group:
    """Return the group of ``triplets``; ValueError says which is wrong, or what is missing."""
    if len(triplets) > MAX_OPERATIONS:
        raise ValueError(f"{len(triplets)} operations, more than {MAX_OPERATIONS}")
    operations = [_operation(triplet) for triplet in triplets]
    rotations = np.array([rotation for rotation, _ in operations])
    shifts = np.array([shift for _, shift in operations])
    # Operations with the same rotation differ by a centring; in a group, all have equally many.
    kinds, kind = np.unique(rotations.reshape(-1, 9), axis=0, return_inverse=True)
    n_shifts = len(operations) // len(kinds)
    if n_shifts > MAX_SHIFTS:
        raise ValueError(f"{n_shifts} operations that only shift, more than {MAX_SHIFTS}")
    if (np.bincount(kind) != n_shifts).any():
        raise ValueError(f"{len(operations)} that miss some of their products")
    members = kind.argsort(kind="stable").reshape(len(kinds), n_shifts)
    known = {tuple(row): index for index, row in enumerate(kinds.tolist())}
    matrices = kinds.reshape(-1, 3, 3)
    products_of_kinds = np.einsum("gij,hjk->ghik", matrices, matrices).reshape(-1, 9)
    table = np.array([known.get(tuple(row), -1) for row in products_of_kinds.tolist()])
    if (table < 0).any():
        raise ValueError(f"{len(operations)} that miss some of their products")
    candidates = members[table.reshape(len(kinds), -1)[kind[:, None], kind]]
    product_shifts = np.einsum("gij,hj->ghi", rotations, shifts) + shifts[:, None]
    apart = product_shifts[:, :, None] - shifts[candidates]
    apart = abs(apart - np.round(apart)).max(-1)
    best = apart.argmin(-1)[..., None]
    products = np.take_along_axis(candidates, best, -1)[..., 0]
    if (np.sort(products, axis=1) != np.arange(len(operations))).any():
        raise ValueError("the same operation twice")
    if np.take_along_axis(apart, best, -1).max() > SHIFT_TOLERANCE:
        raise ValueError(f"{len(operations)} that miss some of their products")
    return Group(rotations.astype(float), shifts, products, known.keys())


@lru_cache(maxsize=64)
def closed(triplets: tuple[str, ...]) -> tuple[str, ...]:
    """Return all products of the operations ``triplets``.

    Raises:
        ValueError: If an operation is not valid, or there are more than ``MAX_OPERATIONS``.
    """
    operations = [_IDENTITY, *map(_operation, triplets)]
    rotations = np.array([rotation for rotation, _ in operations])
    shifts = np.array([shift for _, shift in operations])
    n_before = 0
    while len(rotations) != n_before:
        if len(rotations) > MAX_OPERATIONS:
            raise ValueError(f"generators of more than {MAX_OPERATIONS} operations")
        n_before = len(rotations)
        products = np.einsum("gij,hjk->ghik", rotations, rotations).reshape(-1, 3, 3)
        moves = (np.einsum("gij,hj->ghi", rotations, shifts) + shifts[:, None]).reshape(-1, 3)
        moves -= np.floor(moves + SHIFT_TOLERANCE)
        # The same for operations that differ by a lattice vector or by rounding.
        steps = np.round(moves / SHIFT_TOLERANCE) % round(1 / SHIFT_TOLERANCE)
        keys = np.concatenate([products.reshape(-1, 9), steps], axis=1)
        first = np.unique(keys, axis=0, return_index=True)[1]
        rotations, shifts = products[np.sort(first)], moves[np.sort(first)]
    return tuple(map(_triplet, zip(rotations.tolist(), shifts.tolist(), strict=True)))


def magnetic(operations: Iterable[str], centrings: Iterable[str]) -> tuple[str, ...]:
    """Return what magnetic operations (``x,y,z,+1``) and centrings do to the atoms, each once."""
    motions, shifts = (
        [_operation(",".join(triplet.split(",")[:3])) for triplet in triplets]
        for triplets in (operations, centrings)
    )
    found = (_product(shift, motion) for motion in motions for shift in shifts or [_IDENTITY])
    return tuple(_triplet(operation) for operation in {_key(o): o for o in found}.values())


def _product(one: Operation, other: Operation) -> Operation:
    """Return the operation that does ``other`` first, shifted into the cell."""
    rotation = np.array(one[0]) @ np.array(other[0])
    shift = np.array(one[0]) @ np.array(other[1]) + np.array(one[1])
    return rotation.tolist(), (shift - np.floor(shift + SHIFT_TOLERANCE)).tolist()


def _key(operation: Operation) -> tuple:
    """Return what is the same for operations that differ by a lattice vector or by rounding."""
    steps = 1 / SHIFT_TOLERANCE
    return str(operation[0]), *(round(x * steps) % round(steps) for x in operation[1])


def _triplet(operation: Operation) -> str:
    rows = []
    for row, shift in zip(*operation, strict=True):
        terms = [f"{factor:+d}*{axis}" for factor, axis in zip(row, "xyz", strict=True) if factor]
        rows.append("".join(terms) + (f"{shift:+.12f}" if shift else ""))
    return ",".join(rows)


def _operation(triplet: str) -> Operation:
    """Return rotation and shift of a triplet such as ``-y, x-y, z+1/3``.

    Any shift is taken: programs that keep the origin of their input write ``x+185/562``.
    """
    rotation, shift = [], []
    if len(triplet) > MAX_TRIPLET:
        raise ValueError(f"'{triplet[:40]}...', longer than {MAX_TRIPLET} characters")
    for part in "".join(triplet.lower().replace("\u2212", "-").split()).split(","):
        row, offset = [0.0, 0.0, 0.0], 0.0
        for term in re.split("(?<=.)(?=[+-])", part):
            match = _TERM.fullmatch(term)
            if match is None or not (match[2] or match[4]):
                raise ValueError(f"'{triplet}'")
            value = float(match[1] + (match[2] or "1")) / int(match[3] or 1)
            if match[4]:
                row["xyz".index(match[4])] += value
            else:
                offset += value
        rotation.append(row)
        shift.append(offset)
    if len(rotation) != 3 or np.abs(rotation).max() > MAX_FACTOR or np.abs(shift).max() > MAX_SHIFT:
        raise ValueError(f"'{triplet}'")
    whole = np.round(rotation).astype(int)
    if (whole != rotation).any() or abs(round(np.linalg.det(whole))) != 1:
        raise ValueError(f"'{triplet}', no motion of a lattice")
    return whole.tolist(), shift
