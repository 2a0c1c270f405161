"""Groups of symmetry operations: from triplets such as ``-y, x-y, z+1/3``, or by their symbol."""

from __future__ import annotations

import re
from collections.abc import Set
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import gemmi
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHIFT_TOLERANCE = 5e-3  # scaled; of the digits of a translation
MAX_OPERATIONS = 192  # of the cubic groups with a face-centred cell
MAX_SHIFTS = 64  # 4 in the standard settings, more in supercells


class Group(NamedTuple):
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


@lru_cache(maxsize=256)
def settings(number: int) -> tuple[gemmi.SpaceGroup, ...]:
    """Return the settings of a space group: choices of axes and origin."""
    return tuple(setting for setting in gemmi.spacegroup_table() if setting.number == number)


def settings_of(number: str) -> tuple[gemmi.SpaceGroup, ...]:
    """Return the settings of the group of a number as a file states it, or none."""
    return settings(int(number)) if re.fullmatch("[0-9]{1,3}", number) else ()


@lru_cache(maxsize=256)
def hall_operations(hall: str) -> tuple[str, ...]:
    """Return the operations of a Hall symbol as triplets."""
    return tuple(op.triplet() for op in gemmi.symops_from_hall(hall))


@lru_cache(maxsize=256)
def named_kinds(name: str, number: str) -> list[tuple[Set[tuple[int, ...]], int]]:
    """Return different rotations and number of operations of the groups of a symbol and number.

    What names no group is left out.
    """
    named = [gemmi.find_spacegroup_by_name(name)] if name else []
    found = []
    for group in (group for group in (*named, *settings_of(number)[:1]) if group):
        operations = group.operations()
        kinds = {tuple(x // op.DEN for row in op.rot for x in row) for op in operations.sym_ops}
        found.append((kinds, len(kinds) * len(operations.cen_ops)))
    return found


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


def _operation(triplet: str) -> tuple[list[list[int]], list[float]]:
    """Return rotation and shift of a triplet such as ``-y, x-y, z+1/3``.

    Any shift is taken: programs that keep the origin of their input write ``x+185/562``.
    """
    rotation, shift = [], []
    for part in triplet.lower().replace(" ", "").split(","):
        row, offset = [0.0, 0.0, 0.0], 0.0
        for term in re.split("(?<=.)(?=[+-])", part):
            match = re.fullmatch(r"([+-]?)(\d+\.?\d*|\.\d+)?(?:/([1-9]\d*))?\*?([xyz]?)", term)
            if match is None or not (match[2] or match[4]):
                raise ValueError(f"'{triplet}'")
            value = float(match[1] + (match[2] or "1")) / int(match[3] or 1)
            if match[4]:
                row["xyz".index(match[4])] += value
            else:
                offset += value
        rotation.append(row)
        shift.append(offset)
    whole = np.round(rotation).astype(int)
    if whole.shape != (3, 3) or (whole != rotation).any() or abs(round(np.linalg.det(whole))) != 1:
        raise ValueError(f"'{triplet}', no motion of a lattice")
    return whole.tolist(), shift
