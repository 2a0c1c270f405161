"""What a crystal must be: shapes, limits and distances, each refusal with its sentence."""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from potnet.crystal.distances import MANY_ATOMS, close_pairs, closest_pair
from potnet.crystal.elements import SYMBOLS
from potnet.errors import StructureError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MIN_DISTANCE = 0.5  # Å; the shortest bond known, H-H, is 0.74 Å
MAX_ATOMS = 20_000
MAX_LENGTH = 1_000.0  # Å, of a lattice vector
MAX_COORDINATE = 1e5  # Å; beyond it float64 no longer resolves 1e-11 Å
SYMMETRY_TOLERANCE = 1e-3  # Å


def check_tolerance(tolerance: float, id: str) -> None:
    """Raise unless ``tolerance``, in Å, is too short to join two atoms into one."""
    is_number = isinstance(tolerance, float | int | np.floating | np.integer)
    if not (is_number and 0 < tolerance < MIN_DISTANCE / 2):
        raise StructureError(
            f"{id or 'crystal'}: `tolerance` must lie between 0 and {MIN_DISTANCE / 2} Å, got "
            f"{tolerance}. Use the default, {SYMMETRY_TOLERANCE}."
        )


def as_numbers(values: ArrayLike, where: str) -> NDArray[np.int64]:
    """Return ``values`` as the atomic numbers of a crystal, shape (n_atoms,)."""
    try:
        numbers = np.array(values)
    except ValueError as error:
        raise StructureError(
            f"{where}: `numbers` must be a list of integers, got '{error}'. "
            "Give the atomic number of each atom."
        ) from error
    if numbers.ndim == 1 and isinstance(values, list) and any(v is True for v in values):
        numbers = numbers.astype(bool)  # true among the numbers, which numpy takes for 1
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise StructureError(
            f"{where}: `numbers` must be a list of integers, got {numbers.dtype} of shape "
            f"{numbers.shape}. Give the atomic number of each atom."
        )
    if not 1 <= len(numbers) <= MAX_ATOMS:
        advice = "Use a smaller cell" if len(numbers) else "Check that the source lists its sites"
        raise StructureError(
            f"{where}: the number of atoms must lie between 1 and {MAX_ATOMS}, got "
            f"{len(numbers)}. {advice}."
        )
    if numbers.min() < 1 or numbers.max() >= len(SYMBOLS):
        bad = np.argmax((numbers < 1) | (numbers >= len(SYMBOLS)))
        raise StructureError(
            f"{where}: `numbers[{bad}]` must be an atomic number from 1 to "
            f"{len(SYMBOLS) - 1}, got {numbers[bad]}. Correct the element."
        )
    return numbers.astype(np.int64)


def as_floats(
    values: ArrayLike, name: str, shape: tuple[int, int], where: str
) -> NDArray[np.float64]:
    """Return ``values`` as finite numbers of the given shape."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise StructureError(
            f"{where}: `{name}` must be numbers of shape {shape}, got '{error}'. "
            "Give a rectangular array."
        ) from error
    other = _no_number(values if array.ndim else [values])
    if other is not None:
        raise StructureError(
            f"{where}: `{name}` must be numbers, got {type(other).__name__} {str(other)[:60]!r}. "
            "Write them without quotes."
        )
    if array.shape != shape:
        raise StructureError(
            f"{where}: `{name}` must have shape {shape}, got {array.shape}. "
            "Give three numbers in each row."
        )
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise StructureError(
            f"{where}: `{name}[{row}, {column}]` must be finite, got {array[row, column]}. "
            "Correct or remove the entry."
        )
    return array


def _no_number(values: Any) -> object | None:
    """Return the first word or truth value among ``values``, which numpy takes for numbers."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf":
        return None
    are_lists = isinstance(values, list) and all(type(row) is list for row in values)
    if are_lists and {float, int}.issuperset(map(type, chain.from_iterable(values))):
        return None  # like nearly all others, in a tenth of the time that the search takes
    rows = values if isinstance(values, (list, tuple)) else np.asarray(values, dtype=object)
    items = (item for row in rows for item in (row if isinstance(row, (list, tuple)) else [row]))
    items = (i for item in items for i in (item.flat if isinstance(item, np.ndarray) else [item]))
    return next((item for item in items if isinstance(item, (str, bytes, bool, np.bool_))), None)


def as_pbc(values: ArrayLike, where: str, name: str = "pbc") -> NDArray[np.bool_]:
    """Return ``values``, one bool or three, as three."""
    if values is True:
        return np.array([True, True, True])
    try:
        pbc = np.array(values)
    except ValueError:  # not rectangular
        pbc = np.empty(0)
    has_shape = pbc.shape in ((), (3,))
    if not has_shape or not (pbc.dtype == bool or np.isin(pbc, (0, 1)).all()):
        raise StructureError(
            f"{where}: `{name}` must be one bool or three, got {values!r}. Use pbc=True."
        )
    return np.broadcast_to(pbc, 3).astype(bool)


def check_limits(positions: NDArray, cell: NDArray, where: str) -> None:
    """Raise if the crystal is too large, or the cell has no volume."""
    a, b, c = cell.tolist()
    lengths = [math.hypot(*vector) for vector in (a, b, c)]
    if max(lengths) > MAX_LENGTH:
        raise StructureError(
            f"{where}: `cell` vectors must be at most {MAX_LENGTH:g} Å long, got "
            f"{max(lengths):g} Å. Check the unit."
        )
    far = np.abs(positions).max()
    if far > MAX_COORDINATE:
        raise StructureError(
            f"{where}: `positions` must lie within {MAX_COORDINATE:g} Å of the origin, got "
            f"{far:g} Å. Check the unit, or move the atoms into the cell."
        )
    if abs(_dot(a, _cross(b, c))) <= 1e-8 * math.prod(lengths):
        raise StructureError(
            f"{where}: `cell` must have three independent vectors, got {cell.tolist()}. "
            "Give the lattice vectors of a crystal as rows."
        )


def check_distances(
    numbers: NDArray, positions: NDArray, cell: NDArray, pbc: NDArray, where: str
) -> None:
    """Raise unless all atoms and all their images are ``MIN_DISTANCE`` apart."""
    cell = cell if pbc.all() else _closed(positions, cell, pbc)
    if _are_clearly_apart(positions, cell):
        return
    from latticesums.lattice import reduced

    cell = reduced(cell)
    shortest = min(math.hypot(*vector) for vector in cell.tolist())
    if shortest < MIN_DISTANCE:
        raise StructureError(
            f"{where}: `cell` must repeat after at least {MIN_DISTANCE} Å, got a lattice vector "
            f"of {shortest:.4g} Å. Check the unit of the cell."
        )
    if len(numbers) == 1:
        return
    inverse = np.linalg.inv(cell)
    scaled = positions @ inverse
    if len(numbers) <= MANY_ATOMS and _lowest(inverse) > 2 * MIN_DISTANCE:
        i, j, distance = closest_pair(scaled, cell)
    else:
        pairs = close_pairs(scaled, cell, MIN_DISTANCE)
        i, j, distance = min(zip(*pairs, strict=True), key=lambda p: p[2], default=(0, 0, np.inf))
    if distance < MIN_DISTANCE:
        i, j = sorted((int(i), int(j)))
        raise StructureError(
            f"{where}: atoms {i} ({SYMBOLS[numbers[i]]}) and {j} ({SYMBOLS[numbers[j]]}) must be "
            f"at least {MIN_DISTANCE} Å apart, got {round(float(distance), 6):g} Å. "
            "Remove the duplicate site, or correct the coordinates."
        )


def _are_clearly_apart(positions: NDArray, cell: NDArray) -> bool:
    """Return whether a few atoms are found apart without reducing the cell, as most are.

    No lattice vector is shorter than the lowest height of a cell.
    """
    a, b, c = cell.tolist()
    normals = [_cross(b, c), _cross(c, a), _cross(a, b)]
    volume = _dot(a, normals[0])
    lowest = abs(volume) / max(math.hypot(*normal) for normal in normals)
    if len(positions) > MANY_ATOMS or lowest <= 2 * MIN_DISTANCE:
        return False
    inverse = np.array(normals).T / volume  # good enough to tell 0.5 Å; half the time of LAPACK
    return len(positions) == 1 or closest_pair(positions @ inverse, cell)[2] >= MIN_DISTANCE


def _cross(a: list[float], b: list[float]) -> list[float]:
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


def _dot(a: list[float], b: list[float]) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _lowest(inverse: NDArray) -> float:
    """Return the lowest height of the cell with this inverse."""
    return 1 / max(math.hypot(*normal) for normal in inverse.T.tolist())


def _closed(positions: NDArray, cell: NDArray, pbc: NDArray) -> NDArray[np.float64]:
    """Return a cell with room to spare in its open directions, so that all may count as closed."""
    # Rows of the last factor: first what the closed directions span, then what is normal to it.
    normals = np.linalg.svd(np.where(pbc[:, None], cell, 0.0))[2][int(pbc.sum()) :]
    extents = np.ptp(positions @ normals.T, axis=0) + 4 * MIN_DISTANCE
    return np.concatenate([cell[pbc], normals * extents[:, None]])
