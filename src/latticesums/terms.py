"""Images and waves of crystals as lists, and potentials on them: values and slopes, without a tape.

The compiled code finds and adds up, torch evaluates: any potential will do, and a function of
numbers has its derivative beside it. The plan is that of :mod:`differentiable`, so both give the
same sums and derivatives but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latticesums.compiled.calls import address, in_memory
from latticesums.compiled.machine_code import kernel
from latticesums.compiled.support import COINCIDENT
from latticesums.errors import StructureError
from latticesums.lattice import SAME_SPOT, bring_near
from latticesums.plan import Plan
from latticesums.potentials.base import Potential

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Terms:
    """Images within the radius and wave vectors of some crystals, crystal after crystal.

    Attributes:
        offsets: Where the atoms of each crystal begin, shape (n_graphs + 1,).
        ends: Where its images end, its waves, how many of its images are own ones of an atom, and
            its highest order, shape (n_graphs, 4).
        codes: Atoms i < j of each image, 2^32 i + j, shape (n_images,).
        vectors: From i to the image of j in Å, shape (3, n_images).
        squares: Their squared lengths.
        orders: One of each pair of wave vectors, as integers in the reduced basis, (3, n_waves).
        waves: The wave vectors in 1/Å, shape (3, n_waves).
        wave_squares: Their squared lengths.
        fractions: Coordinates of the atoms in the reduced basis, wrapped, shape (3, n_atoms).
        volumes: Of the cells, shape (n_graphs,).
    """

    offsets: Indices
    ends: Indices
    codes: Indices
    vectors: Array
    squares: Array
    orders: Indices
    waves: Array
    wave_squares: Array
    fractions: Array
    volumes: Array

    @property
    def image_owner(self) -> Indices:
        """Crystal of each image."""
        return _owners(self.ends[:, 0])

    @property
    def wave_owner(self) -> Indices:
        """Crystal of each wave."""
        return _owners(self.ends[:, 1])


def _owners(ends: Indices) -> Indices:
    return np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))


def list_terms(
    positions: Array, cells: Array, n_atoms: Indices, plan: Plan, references: Array | None = None
) -> Terms:
    """Return the images and waves of crystals that repeat in three directions.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3), crystal after crystal.
        cells: Lattice vectors as rows in Å, shape (n_graphs, 3, 3).
        n_atoms: Atoms of each crystal, shape (n_graphs,).
        plan: Where to stop.
        references: Reduced bases that decide which waves there are; those of the cells by default.

    Raises:
        StructureError: If two atoms are on one spot, or a cell is too long for a list.
    """
    if not plan.can_list:
        raise StructureError(
            "crystal 0: `cell` must not be so much longer than wide, got lengths of "
            f"{np.linalg.norm(plan.basis, axis=2).max():.3g} Å. Sum without a plan."
        )
    n_graphs, offsets = len(cells), np.concatenate([[0], np.cumsum(n_atoms)])
    near = bring_near(positions, cells, n_atoms)
    rests = np.empty((0, 3)) if near is None else near.rests
    given = [_writable(a) for a in (positions if near is None else near.positions, rests)]
    bases = plan.basis if references is None else references
    numbers = [_writable(a) for a in (cells, plan.transform, bases, plan.radius, plan.wave_radius)]
    ends, failures = np.zeros((n_graphs, 4), np.int64), np.zeros((n_graphs, 3), np.int64)
    fractions = np.empty((3, len(positions)))
    room_images, room_waves = plan.expected(n_atoms)
    while True:
        codes, vectors = np.empty(room_images, np.int64), np.empty((3, room_images))
        squares = np.empty(room_images)
        orders, waves = np.empty((3, room_waves), np.int64), np.empty((3, room_waves))
        wave_squares = np.empty(room_waves)
        arrays = (
            *given, offsets, *numbers, codes, vectors, squares, orders, waves, wave_squares, ends,
            fractions, failures,
        )  # fmt: skip
        in_memory(
            kernel("list_terms"), n_graphs, len(positions), len(rests), room_images, room_waves,
            *map(address, arrays),
        )  # fmt: skip
        _check_spots(failures)
        n_images, n_waves = int(ends[-1, 0]), int(ends[-1, 1])
        if n_images <= room_images and n_waves <= room_waves:
            break
        room_images, room_waves = n_images, n_waves
    whole = np.ascontiguousarray
    return Terms(
        offsets=offsets,
        ends=ends,
        codes=codes[:n_images],
        vectors=whole(vectors[:, :n_images]),
        squares=squares[:n_images],
        orders=whole(orders[:, :n_waves]),
        waves=whole(waves[:, :n_waves]),
        wave_squares=wave_squares[:n_waves],
        fractions=fractions,
        volumes=plan.volumes,
    )


def pairs_of_clusters(positions: Array, n_atoms: Indices) -> Terms:
    """Return the pairs i < j of clusters, which have no images and no waves.

    Raises:
        StructureError: If two atoms are on one spot.
    """
    offsets, n_graphs = np.concatenate([[0], np.cumsum(n_atoms)]), len(n_atoms)
    parts = [np.triu_indices(n, 1) for n in n_atoms.tolist()]
    counts = np.array([len(i) for i, _ in parts])
    i, j = (np.concatenate([part[k] for part in parts]).astype(np.int64) for k in range(2))
    first = np.repeat(offsets[:-1], counts)
    vectors = np.ascontiguousarray((positions[first + j] - positions[first + i]).T)
    squares = (vectors * vectors).sum(0)
    ends = np.zeros((n_graphs, 4), np.int64)
    ends[:, 0] = np.cumsum(counts)
    failures = np.zeros((n_graphs, 3), np.int64)
    close = np.flatnonzero(squares < SAME_SPOT**2)
    if len(close):
        graph = int(np.searchsorted(ends[:, 0], close[0], side="right"))
        failures[graph] = COINCIDENT, i[close[0]], j[close[0]]
    _check_spots(failures)
    return Terms(
        offsets=offsets,
        ends=ends,
        codes=(i << 32) | j,
        vectors=vectors,
        squares=squares,
        orders=np.empty((3, 0), np.int64),
        waves=np.empty((3, 0)),
        wave_squares=np.empty(0),
        fractions=np.zeros((3, len(positions))),
        volumes=np.ones(n_graphs),
    )


def _writable(array: Array) -> Array:
    return np.array(array, dtype=np.float64, order="C")


def _check_spots(failures: Indices) -> None:
    bad = np.flatnonzero(failures[:, 0] == COINCIDENT)
    if len(bad):
        graph = int(bad[0])
        i, j = failures[graph, 1:].tolist()
        raise StructureError(
            f"crystal {graph}: atoms {i} and {j} must be {SAME_SPOT:g} Å apart or more, got less "
            "(periodic images included). Remove the duplicate atom."
        )


@dataclass(frozen=True)
class Waves:
    """Potentials on the waves of crystals: what depends on cells, and not on positions.

    Attributes:
        weights: Of each wave: twice the transform over the volume, shape (n_potentials, n_waves);
            ``falls`` their derivatives by squared wave vector.
        zero: The wave 0, and ``itself`` the long half at an atom, shape (n_graphs, n_potentials).
        sizes: Sums of the magnitudes of the weights, same shape.
    """

    weights: Array
    falls: Array
    zero: Array
    itself: Array
    sizes: Array


@dataclass(frozen=True)
class Evaluated:
    """Potentials on the terms of crystals.

    Attributes:
        terms: At each image, shape (n_potentials, n_images); ``slopes`` by squared distance.
        waves: At the waves.
    """

    terms: Array
    slopes: Array
    waves: Waves


def on_waves(potentials: Sequence[Potential], found: Terms, plan: Plan) -> Waves:
    """Return the transforms of potentials that the plan splits, and their slopes."""
    q, n_waves, shape = len(potentials), len(found.wave_squares), plan.alpha.shape
    weights, falls = np.zeros((q, n_waves)), np.zeros((q, n_waves))
    zero, itself = np.zeros(shape), np.zeros(shape)
    squares, owner = torch.from_numpy(found.wave_squares), found.wave_owner
    with torch.no_grad():
        for p, potential in enumerate(potentials):
            alpha = plan.alpha[:, p]
            is_split = alpha > 0
            if not is_split.any():
                continue
            widths = torch.from_numpy(alpha[is_split])
            if len(alpha) == 1:
                _write(weights[p], falls[p], potential.fourier_and_slope(squares, widths))
            else:
                _write_some(
                    weights[p], falls[p], is_split[owner], potential.fourier_and_slope, squares,
                    torch.from_numpy(alpha[owner]),
                )  # fmt: skip
            factor = 2 / (found.volumes[0] if len(alpha) == 1 else found.volumes[owner])
            weights[p] *= factor
            falls[p] *= factor
            zero[is_split, p] = potential.fourier_at_zero(widths).numpy() / found.volumes[is_split]
            itself[is_split, p] = potential.long_at_zero(widths).numpy()
    sizes = [np.bincount(owner, np.abs(row), minlength=len(found.ends)) for row in weights]
    return Waves(weights, falls, zero, itself, np.stack(sizes, 1).astype(np.float64))


def evaluated(
    potentials: Sequence[Potential],
    found: Terms,
    plan: Plan,
    waves: Waves | None = None,
    *,
    ends_smoothly: bool = False,
) -> Evaluated:
    """Return values and slopes of potentials, or of their halves where the plan splits them.

    Args:
        potentials: What is summed.
        found: Images and waves.
        plan: What is split, and how.
        waves: What :func:`on_waves` returned for the same cells.
        ends_smoothly: Whether images enter one crystal's radius with value and slope 0.
    """
    n_images, q = len(found.squares), len(potentials)
    terms, slopes = np.empty((q, n_images)), np.empty((q, n_images))
    squares = torch.from_numpy(found.squares)
    with torch.no_grad():
        for p, potential in enumerate(potentials):
            alpha = plan.alpha[:, p]
            is_split = alpha > 0
            if not is_split.any():
                _write(terms[p], slopes[p], potential.value_and_slope(squares))
            elif len(alpha) == 1:
                widths = torch.from_numpy(alpha)
                _write(terms[p], slopes[p], potential.short_and_slope(squares, widths))
            else:
                owner = found.image_owner
                _write_some(
                    terms[p], slopes[p], ~is_split[owner], potential.value_and_slope, squares
                )
                _write_some(
                    terms[p], slopes[p], is_split[owner], potential.short_and_slope, squares,
                    torch.from_numpy(alpha[owner]),
                )  # fmt: skip
    if ends_smoothly:
        square = float(plan.radius[0]) ** 2
        for p, potential in enumerate(potentials):
            edge, steep = at_radius(potential, float(plan.radius[0]), float(plan.alpha[0, p]))
            terms[p] -= edge + steep * (found.squares - square)
            slopes[p] -= steep
    return Evaluated(terms, slopes, waves or on_waves(potentials, found, plan))


def at_radius(potential: Potential, radius: float, alpha: float) -> tuple[float, float]:
    """Return what a potential, or its short half, is at a radius in Å, and its slope by r^2."""
    square = torch.tensor([radius**2], dtype=torch.float64)
    with torch.no_grad():
        if alpha > 0:
            width = torch.tensor([alpha], dtype=torch.float64)
            found = potential.short_and_slope(square, width)
        else:
            found = potential.value_and_slope(square)
    return float(found[0]), float(found[1])


def _write(value: Array, slope: Array, found: tuple[Tensor, Tensor]) -> None:
    value[:], slope[:] = found[0].numpy(), found[1].numpy()


def _write_some(
    value: Array,
    slope: Array,
    chosen: NDArray[np.bool_],
    function: Callable[..., tuple[Tensor, Tensor]],
    *numbers: Tensor,
) -> None:
    """Write a function of those numbers that are chosen."""
    if chosen.any():
        mask = torch.from_numpy(chosen)
        found = function(*(x[mask] for x in numbers))
        value[chosen], slope[chosen] = found[0].numpy(), found[1].numpy()


def add_pairs(found: Terms, given: Evaluated, n_atoms: Indices) -> tuple[Array, Array]:
    """Return the sums of all ordered pairs, and the largest short halves of each crystal.

    Returns:
        Shapes (n_pairs, n_potentials), i slow and j fast, and (n_graphs, n_potentials).
    """
    waves, n_graphs = given.waves, len(n_atoms)
    q = len(waves.weights)
    starts = np.concatenate([[0], np.cumsum(n_atoms**2)])
    values, largest = np.empty((int(starts[-1]), q)), np.empty((n_graphs, q))
    arrays = (
        found.offsets, starts, found.ends, found.codes, given.terms, waves.weights, found.orders,
        found.fractions, waves.zero, waves.itself, values, largest,
    )  # fmt: skip
    in_memory(
        kernel("add_terms"), n_graphs, int(found.offsets[-1]), len(values), q, len(found.codes),
        len(found.wave_squares), *map(address, arrays),
    )  # fmt: skip
    return values, largest


def pull_pairs(
    found: Terms, given: Evaluated, n_atoms: Indices, loss: Array
) -> tuple[Array, Array]:
    """Return the derivatives of a loss by positions, (n_atoms, 3), and strain, (n_graphs, 3, 3).

    Args:
        found: Images and waves.
        given: Slopes of the potentials.
        n_atoms: Atoms of each crystal.
        loss: Derivatives by the sums, shape (n_pairs, n_potentials).
    """
    waves, n_graphs = given.waves, len(n_atoms)
    q = len(waves.weights)
    starts = np.concatenate([[0], np.cumsum(n_atoms**2)])
    gradient, strain = np.empty((int(found.offsets[-1]), 3)), np.empty((n_graphs, 3, 3))
    arrays = (
        found.offsets, starts, found.ends, found.codes, found.vectors, given.slopes, found.waves,
        waves.weights, waves.falls, found.orders, found.fractions, waves.zero, _writable(loss),
        gradient, strain,
    )  # fmt: skip
    in_memory(
        kernel("pull_terms"), n_graphs, len(gradient), len(loss), q, len(found.codes),
        len(found.wave_squares), *map(address, arrays),
    )  # fmt: skip
    return gradient, strain


def add_charges(
    found: Terms, given: Evaluated, charges: Array
) -> tuple[Array, Array, Array, Array]:
    """Return potentials at charges, and derivatives of half their sum times the charges.

    Args:
        found: Images and waves.
        given: One potential on them.
        charges: Shape (n_atoms,).

    Returns:
        Potentials (n_atoms,), derivatives by positions (n_atoms, 3) and strain (n_graphs, 3, 3),
        and what images add to the energies, all counted as positive, (n_graphs,).
    """
    waves, n_graphs, n = given.waves, len(found.ends), len(charges)
    sites, gradient = np.empty(n), np.empty((n, 3))
    strain, magnitudes = np.empty((n_graphs, 3, 3)), np.empty(n_graphs)
    arrays = (
        found.offsets, found.ends, found.codes, found.vectors, given.terms, given.slopes,
        found.waves, waves.weights, waves.falls, found.orders, found.fractions, waves.zero,
        waves.itself, _writable(charges), sites, gradient, strain, magnitudes,
    )  # fmt: skip
    in_memory(
        kernel("add_charges"), n_graphs, n, len(found.codes), len(found.wave_squares),
        *map(address, arrays),
    )  # fmt: skip
    return sites, gradient, strain, magnitudes
