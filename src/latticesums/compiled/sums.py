"""The lattice sums on the CPU without gradients, as fast as the machine allows.

The same sums as ``differentiable.py``, compiled by numba. Per crystal: reduce the lattice, split
each potential into a short half summed over images and a long half summed over wave vectors,
choose both radii from proved bounds for the tolerance, evaluate.

Every long half is an even entire function of r, a polynomial in r^2 inside the cutoff R, so the
short half is V(r) - P(r^2): no special function is left in the inner loops.

* Coulomb and London: the Kaiser-Bessel split. Its short half ends at R exactly, so the bound is on
  wave vectors alone, by a proved envelope of the transform (docs/theory.md, eq. 31). It needs
  half as many terms as the Gaussian split, or fewer.
* Exponential: summed over images alone, or by its Gaussian split when the decay is slow.
* Shell: summed over images, exact.

Proved means up to rounding, for which an allowance is added to the bound that is returned.

One room per matter: ``lattice`` counts points, ``plan`` chooses, ``images`` and ``waves`` are the
two halves, ``simd`` the innermost loops, ``evaluate`` the way through, ``workspace`` what it
writes.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latticesums.compiled import support
from latticesums.compiled.calls import KEPT, address, in_memory
from latticesums.compiled.machine_code import kernel
from latticesums.compiled.support import describe
from latticesums.errors import ConfigError, LatticeSumsError, StructureError
from latticesums.lattice import FAR, MAX_VECTORS, SAME_SPOT, bring_near
from latticesums.potentials import Potential, Shell, resolve
from latticesums.radii import check_tolerance

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@cache
def _tables() -> tuple[Floats, int]:
    """Return the constants of both splits, shape (2, n_lines, n_columns), and where they lie."""
    tables = np.load(Path(__file__).with_name("split_tables.npy"))
    return tables, address(tables)


@dataclass(frozen=True)
class CompiledSums:
    """Sums of many crystals, and what is wrong with those that have none.

    Attributes:
        values: Sums, shape (n_pairs, n_potentials), crystal after crystal, i slow and j fast.
        bounds: Bounds of their errors, shape (n_graphs, n_potentials).
        failures: One row (status, i, j) per crystal, zeros where it is summed.
        cells: The lattice vectors, for messages.
        tolerance: What the sums were held to.
    """

    values: Floats
    bounds: Floats
    failures: Ints
    cells: Floats
    tolerance: float

    def is_too_large(self, crystal: int) -> bool:
        """Return whether a crystal needs a longer list of images than it may have here."""
        return bool(self.failures[crystal, 0] == support.TOO_LARGE)

    def errors(self, names: Sequence[str] = ()) -> Iterator[tuple[int, LatticeSumsError]]:
        """Yield the number of each crystal that could not be summed, and the error it calls for."""
        for crystal in np.flatnonzero(self.failures[:, 0]).tolist():
            where = (names[crystal] if names else "") or f"crystal {crystal}"
            status, i, j = self.failures[crystal].tolist()
            yield crystal, _failure(status, where, self.cells[crystal], self.tolerance, i, j)


def pair_sums(
    positions: Floats,
    cells: Floats,
    counts: Ints,
    potentials: Sequence[Potential],
    *,
    tolerance: float,
    n_threads: int = 1,
) -> tuple[Floats, Floats]:
    """Return the sums of all ordered pairs of each crystal, and the bounds of their errors.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3), crystal after crystal.
        cells: Lattice vectors as rows in Å, shape (n_graphs, 3, 3).
        counts: Number of atoms of each crystal, at least 1, shape (n_graphs,).
        potentials: Coulomb, London, exponentials and shells.
        tolerance: Largest absolute error of a sum.
        n_threads: Threads that share the crystals; the numbers do not depend on it.

    Returns:
        Sums, shape (n_pairs, n_potentials), crystal after crystal, i slow and j fast; and the
        bounds, shape (n_graphs, n_potentials), not above the tolerance.

    Raises:
        StructureError: If a cell cannot be summed over, or two atoms are on one spot.
        ConfigError: If the tolerance is out of range or below what float64 can keep.
    """
    found = all_pair_sums(
        positions, cells, counts, potentials, tolerance=tolerance, n_threads=n_threads
    )
    for _, error in found.errors():
        raise error
    return found.values, found.bounds


def all_pair_sums(
    positions: Floats,
    cells: Floats,
    counts: Ints,
    potentials: Sequence[Potential],
    *,
    tolerance: float,
    n_threads: int = 1,
) -> CompiledSums:
    """Return what :func:`pair_sums` returns, and which crystals could not be summed."""
    no_orbits = np.empty(0, dtype=np.int64)
    return _sums(positions, cells, counts, no_orbits, counts, potentials, tolerance, n_threads)


def orbit_sums(
    positions: Floats,
    cells: Floats,
    counts: Ints,
    orbits: Ints,
    potentials: Sequence[Potential | str],
    *,
    tolerance: float,
    n_threads: int = 1,
    names: Sequence[str] = (),
) -> tuple[Floats, Ints]:
    """Return what :func:`latticesums.orbit_sums` does, for potentials that are compiled."""
    orbits, n_orbits = check_orbits(orbits, counts)
    chosen = resolve(potentials) if potentials else ()
    found = _sums(positions, cells, counts, orbits, n_orbits, chosen, tolerance, n_threads)
    for _, error in found.errors(names):
        raise error
    return found.values, n_orbits


def orbit_shells(
    positions: Floats,
    cells: Floats,
    counts: Ints,
    orbits: Ints,
    shells: Sequence[Shell],
    *,
    degree: int,
    n_threads: int = 1,
    names: Sequence[str] = (),
) -> tuple[Floats, Ints]:
    """Return the sums of orbits over shells times the real spherical harmonics of a direction.

    F[a, b, m, k] is the sum over the atoms j of orbit b and their images of phi_k(r) Y_m(u), with
    the distance r and the direction u from the first atom of a to j. Y is 1; x, y, z; sqrt(3) xy,
    sqrt(3) yz, (3 z^2 - 1) / 2, sqrt(3) xz, sqrt(3) (x^2 - y^2) / 2: in each degree the squares add
    up to 1. The sums are finite, so exact up to rounding.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3), crystal after crystal.
        cells: Lattice vectors as rows in Å, shape (n_graphs, 3, 3).
        counts: Number of atoms of each crystal, at least 1, shape (n_graphs,).
        orbits: Labels of symmetry-equivalent atoms within each crystal, from 0 in the order of
            their first appearance, shape (n_atoms,).
        shells: What to sum.
        degree: Highest degree, 0 to 2; all degrees up to it are returned.
        n_threads: Threads that share the crystals; the numbers do not depend on it.
        names: What messages call each crystal; its number if it has no name.

    Returns:
        Sums, shape (sum of squared orbit counts, (degree + 1)^2, n_shells), crystal after crystal,
        a slow and b fast; and the number of orbits of each crystal, shape (n_graphs,).

    Raises:
        StructureError: If a cell cannot be summed over, or two atoms are on one spot.
        ConfigError: If labels are not in the order of their first appearance, or the degree is
            not 0, 1 or 2.
    """
    if degree not in (0, 1, 2):
        raise ConfigError(
            f"directed shells: `degree` must be 0, 1 or 2, got {degree}. Use another degree."
        )
    positions, rests, cells, counts = _check_crystals(positions, cells, counts)
    orbits, n_orbits = check_orbits(orbits, counts)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    out_offsets = np.concatenate([[0], np.cumsum(n_orbits**2)])
    values = np.zeros((out_offsets[-1], (degree + 1) ** 2, len(shells)))
    if not shells:
        return values, n_orbits
    centers = np.array([shell.center for shell in shells], dtype=float)
    inverse_widths = 1 / np.array([shell.width for shell in shells], dtype=float)
    cutoffs = np.array([shell.cutoff for shell in shells], dtype=float)

    failures = np.zeros((len(counts), 3), np.int64)

    add = kernel("add_directed_shells")
    inverse_squares = cutoffs**-2.0
    arrays = (
        positions, rests, offsets, orbits, out_offsets, cells, centers, inverse_widths,
        inverse_squares, values, failures,
    )  # fmt: skip
    numbers = (len(positions), len(rests), len(shells), int(degree), float(cutoffs.max()))
    places = [address(array) for array in arrays]

    def run(begin: int, end: int) -> None:
        in_memory(add, begin, end, *numbers, *places)

    _in_threads(run, counts, n_threads)
    for _, error in CompiledSums(values, values, failures, cells, 0.0).errors(names):
        raise error
    return values, n_orbits


def check_orbits(orbits: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Return the labels of the orbits, and how many each crystal has."""
    orbits = np.ascontiguousarray(orbits, dtype=np.int64)
    if orbits.shape != (int(counts.sum()),):
        raise ConfigError(
            f"orbit sums: `orbits` must hold one label for each of {counts.sum()} atoms, got shape "
            f"{orbits.shape}. Give the labels crystal after crystal."
        )
    n_orbits, wrong = _count_orbits(orbits, counts)
    if wrong >= 0:
        raise ConfigError(
            "orbit sums: `orbits` must number the orbits of each crystal from 0 in the order of "
            f"their first appearance, got {orbits[wrong]} at atom {wrong}. Renumber the labels."
        )
    return orbits, n_orbits


def _count_orbits(orbits: Ints, counts: Ints) -> tuple[Ints, int]:
    """Return the number of orbits of each crystal, and the first wrong label, or -1."""
    starts = np.cumsum(counts) - counts
    # Labels that are met in order exceed all before them by 1 at most.
    highest = orbits + np.repeat(np.arange(len(counts)) * (len(orbits) + 1), counts)
    known = np.maximum.accumulate(highest)
    begins = np.zeros(len(orbits), dtype=bool)
    begins[starts] = True
    allowed = np.where(begins, highest - orbits, np.roll(known, 1) + 1)
    wrong = (orbits < 0) | (highest > allowed)
    n_orbits = np.maximum.reduceat(orbits, starts) + 1
    return n_orbits, int(np.argmax(wrong)) if wrong.any() else -1


def _sums(
    positions: Floats,
    cells: Floats,
    counts: Ints,
    orbits: Ints,
    n_rows: Ints,
    potentials: Sequence[Potential],
    tolerance: float,
    n_threads: int,
) -> CompiledSums:
    tolerance = check_tolerance(tolerance)
    positions, rests, cells, counts = _check_crystals(positions, cells, counts)
    kinds, parameters = describe(tuple(potentials))
    budget = _budget(tolerance)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    out_offsets = np.concatenate([[0], np.cumsum(n_rows**2)])
    values = np.empty((out_offsets[-1], len(kinds)))
    bounds = np.empty((len(counts), len(kinds)))

    failures = np.zeros((len(counts), 3), np.int64)

    evaluate, (tables, _) = kernel("evaluate"), _tables()
    arrays = (
        positions, cells, values, bounds, rests, offsets, orbits, out_offsets, kinds, parameters,
        tables, failures,
    )  # fmt: skip
    numbers = (len(positions), len(rests), len(orbits), len(kinds), *tables.shape[1:])
    places, limits = [address(array) for array in arrays], np.array([tolerance, budget])

    def run(begin: int, end: int) -> None:
        given = np.array([begin, end, *numbers, *places], np.int64)
        in_memory(evaluate, address(given), address(limits))

    _in_threads(run, counts, n_threads)
    return CompiledSums(values, bounds, failures, cells, tolerance)


class Described:
    """Potentials as the compiled sums take them: their kinds and parameters, and where they lie."""

    def __init__(self, potentials: tuple[Potential, ...]) -> None:
        self.kinds, self.parameters = describe(potentials)
        self.n_potentials = len(self.kinds)
        self.kinds_at, self.parameters_at = address(self.kinds), address(self.parameters)


def sums_of_one(
    positions: ArrayLike, cell: ArrayLike, described: Described, tolerance: float
) -> tuple[Floats, Floats] | None:
    """Return the sums of one crystal and their bounds as fast as they can be called.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3).
        cell: Lattice vectors as rows in Å, shape (3, 3).
        described: What is summed.
        tolerance: Largest absolute error of a sum.

    Returns:
        Shapes (n_atoms, n_atoms, n_potentials) and (n_potentials,); None if something is wrong.
    """
    points, rows = np.asarray(positions, np.float64), np.asarray(cell, np.float64)
    n, n_potentials = len(points), described.n_potentials
    if not n or points.shape != (n, 3) or rows.shape != (3, 3):
        return None
    try:
        places = address(points), address(rows)
    except TypeError:  # read-only, or in another order
        return sums_of_one(
            np.array(points, order="C"), np.array(rows, order="C"), described, tolerance
        )
    if not np.vdot(points, points) <= FAR**2:
        return None
    size = n * n * n_potentials
    numbers = np.empty(size + n_potentials)  # values, and bounds behind them
    found, own = address(numbers), KEPT.room
    if own.told != (described, n, tolerance):
        _tell(own.bytes, own.place, described, n, tolerance)
        own.told = described, n, tolerance
    _PLACES.pack_into(own.bytes, _CALL + 64, *places, found, found + 8 * size)
    in_memory(kernel("evaluate"), own.place + _CALL, own.place + _LIMITS)
    if own.integers[4]:
        own.told = None
        return None
    return numbers[:size].reshape(n, n, n_potentials), numbers[size:]


# What a call of one crystal is told: seven numbers of it, the arguments of the kernel, two limits.
_GIVEN, _PLACES = struct.Struct("=27q2d"), struct.Struct("=4q")
_CALL, _LIMITS = 8 * 7, 8 * 27


def _tell(room: bytearray, place: int, described: Described, n: int, tolerance: float) -> None:
    """Write what a kernel is told of a crystal of n atoms but where its arrays are."""
    tables, table = _tables()
    _GIVEN.pack_into(
        room, 0,
        0, n, 0, n * n, 0, 0, 0,  # where atoms and pairs begin and end; what is wrong
        0, 1, n, 0, 0, described.n_potentials, tables.shape[1], tables.shape[2],
        0, 0, 0, 0, 0, place, 0, place + 16, described.kinds_at, described.parameters_at, table,
        place + 32, tolerance, _budget(tolerance),
    )  # fmt: skip


def _budget(tolerance: float) -> float:
    """Return what truncation may take; the rest is for rounding: half of it from 4e-11 on."""
    return max(0.5 * tolerance, 0.98 * tolerance - 2e-11)


def _check_crystals(
    positions: Floats, cells: Floats, counts: Ints
) -> tuple[Floats, Floats, Floats, Ints]:
    """Return positions, what they lack, cells and counts as the compiled code takes them.

    All are writable copies: arrays that are not would have the code compiled once more.
    """
    counts = np.array(counts, dtype=np.int64, order="C")
    positions = np.array(positions, dtype=np.float64, order="C")
    cells = np.array(cells, dtype=np.float64, order="C")
    n_graphs, n_atoms = len(counts), int(counts.sum())
    if cells.shape != (n_graphs, 3, 3) or positions.shape != (n_atoms, 3):
        raise ConfigError(
            f"lattice sums: `positions` and `cells` must have shapes ({n_atoms}, 3) and "
            f"({n_graphs}, 3, 3), got {positions.shape} and {cells.shape}. Give one cell per "
            "crystal and one position per atom."
        )
    farthest = np.abs(positions).max(initial=0.0)
    if not farthest < np.inf:
        atom = int(np.argmin(np.isfinite(positions).all(1)))
        raise StructureError(
            f"lattice sums: `positions` must be finite, got {positions[atom].tolist()} for atom "
            f"{atom}. Give coordinates in Å."
        )
    near = bring_near(positions, cells, counts) if farthest > FAR else None
    if near is None:
        return positions, np.empty((0, 3)), cells, counts
    return near.positions, near.rests, cells, counts


def _in_threads(run: Callable[[int, int], None], counts: Ints, n_threads: int) -> None:
    """Call ``run(begin, end)`` for spans of crystals that cover them all."""
    if n_threads == 1 or len(counts) < 2:
        return run(0, len(counts))
    work = np.cumsum(counts**2)
    cuts = np.searchsorted(work, np.linspace(0, work[-1], 4 * n_threads + 1))
    cuts[-1] = len(counts)
    spans = [(int(a), int(b)) for a, b in pairwise(cuts) if b > a]
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(lambda span: run(*span), spans))
    return None


def _failure(
    status: int, where: str, cell: Floats, tolerance: float, i: int = 0, j: int = 0
) -> LatticeSumsError:
    """Return the exception for a status of the compiled code."""
    got = f"got {cell.tolist()}"
    match status:
        case _ if not np.isfinite(cell).all():
            return StructureError(
                f"{where}: `cell` must hold finite numbers, {got}. Give three lattice vectors in Å."
            )
        case support.SINGULAR:
            return StructureError(
                f"{where}: `cell` must hold three independent vectors, {got}. "
                "Give a cell with a volume."
            )
        case support.TOO_SMALL:
            return StructureError(
                f"{where}: `cell` must keep an atom and its images {SAME_SPOT:g} Å apart or more, "
                f"{got}. Give the lattice vectors in Å."
            )
        case support.TOO_LARGE:
            return StructureError(
                f"{where}: `cell` must need at most {MAX_VECTORS} lattice vectors, {got} at this "
                "tolerance and cutoff. Give the cell in Å, or a larger tolerance or a smaller "
                "cutoff."
            )
        case support.COINCIDENT:
            return StructureError(
                f"{where}: atoms {i} and {j} must be {SAME_SPOT:g} Å apart or more, got less "
                "(periodic images included). Remove the duplicate atom."
            )
        case _:  # OUT_OF_REACH, TOO_ROUGH
            return ConfigError(
                f"{where}: `tolerance` must be one that float64 can keep for every potential, got "
                f"{tolerance:g}. Give a larger tolerance, or check for atoms that almost touch."
            )
