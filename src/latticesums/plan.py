"""How to sum: a reduced cell, where both halves of each potential end, and the certificate.

A plan holds one row per crystal and needs nothing but cells, numbers of atoms, potentials and the
tolerance, so it is worked out in numpy on the CPU and never differentiated. Equation numbers are
those of docs/theory.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from latticesums.bounds import Lattice
from latticesums.errors import StructureError
from latticesums.lattice import (
    MAX_VECTORS,
    check_cells,
    check_lengths,
    gram_schmidt_lengths,
    largest_lengths,
    reduce_cells,
)
from latticesums.potentials.base import Potential
from latticesums.radii import (
    Halves,
    balanced_radius,
    check_tolerance,
    direct_radius,
    shared_tolerances,
    short_tail,
    solve_alpha,
    solve_wave_radius,
    truncation_budget,
    wave_tail,
)
from latticesums.slabs_and_wires import balance_lower

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Phases, waves times atoms, that one crystal may need: what they take must fit in memory.
MAX_PHASES = 100_000_000
#: Lattice vectors that may be looked at for a pair; longer cells go by other ways than a list.
_MOST_LISTED = 200_000


@dataclass(frozen=True)
class Plan(Halves):
    """What the differentiable path needs to know of each crystal, periodic in d directions.

    Attributes:
        transform: Integer matrices; ``transform @ cell`` is the reduced basis, shape
            (n_graphs, d, d).
        basis: Reduced bases, rows from short to long, shape (n_graphs, d, 3).
        scale: Largest length met while ``basis`` is formed, Å, shape (n_graphs,); larger than the
            basis where the cell is skewed.
        lattice: Counts of its points.
        waves: Counts of the points of its reciprocal lattice.
        reach: Largest length of a wrapped pair vector, Å, shape (n_graphs,).
        tolerance: Absolute errors that may be made, shape (n_graphs, n_potentials).
    """

    transform: Array
    basis: Array
    scale: Array
    lattice: Lattice
    waves: Lattice
    reach: Array
    tolerance: Array

    @cached_property
    def volumes(self) -> Array:
        """Volumes of the cells in Å^3, shape (n_graphs,).

        Of the reduced basis: in a nearly singular one, rounding takes digits of the volume.
        """
        return np.abs(np.linalg.det(self.basis))

    @cached_property
    def apart(self) -> Array:
        """Half the shortest Gram-Schmidt length in Å: images other than a wrapped one are as far.

        A cluster has none. Shape (n_graphs,).
        """
        return 0.5 * gram_schmidt_lengths(self.basis).min(1, initial=1e6)

    @cached_property
    def most_images(self) -> Array:
        """Largest number of images that a pair may have within the radius, shape (n_graphs,)."""
        return 1 + self.lattice.most(self.radius)

    @cached_property
    def most_waves(self) -> Array:
        """Largest number of wave vectors there may be, shape (n_graphs,)."""
        return self.waves.most(self.wave_radius)

    @cached_property
    def can_list(self) -> bool:
        """Whether images can be listed: not of needles, with one list for all.

        Vectors of pairs are wrapped, and so as long as half a cell.
        """
        longest = 0.5 * np.linalg.norm(self.basis, axis=2).sum(1)
        return bool((self.lattice.most(self.radius + longest) < _MOST_LISTED).all())

    def expected(self, n_atoms: NDArray[np.int64]) -> tuple[int, int]:
        """Return how many images and waves there are, rather more than fewer."""
        images, waves = self._expected
        pairs = 0.5 * n_atoms * (n_atoms - 1) + 1
        return int((pairs * images).sum()) + 200, waves

    @cached_property
    def _expected(self) -> tuple[Array, int]:
        """Images of a pair in each crystal, and all waves."""
        images = 1.1 * 4.19 * self.radius**3 / self.lattice.volume
        return images, int((1.2 * self.n_waves).sum()) + 200

    @property
    def n_images(self) -> Array:
        """Expected number of lattice vectors to look at for a pair, shape (n_graphs,)."""
        return self.lattice.most(self.radius)

    @property
    def n_waves(self) -> Array:
        """Expected number of wave vectors, one of each pair +k and -k, shape (n_graphs,)."""
        d = self.lattice.dimension
        ball = (1.0, 2.0, np.pi, 4 * np.pi / 3)[d]
        return 0.5 * ball * self.lattice.volume * (self.wave_radius / (2 * np.pi)) ** d


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # no bound, which is refused
def make_plan(
    cells: Array,
    n_atoms: NDArray[np.int64],
    potentials: Sequence[Potential],
    tolerance: float,
    share: Array | float = 1.0,
    *,
    heights: Array | float = 0.0,
    balance: Array | None = None,
) -> Plan:
    """Return how to sum ``potentials`` over each crystal within ``tolerance``.

    Args:
        cells: Lattice vectors as rows in Å, shape (n_graphs, d, 3), d from 0 to 3.
        n_atoms: Number of atoms of each crystal, shape (n_graphs,); decides the balance of the
            two halves of the split, not the result.
        potentials: What to sum.
        tolerance: Largest absolute error of a sum.
        share: Multiplies the tolerance, shape (n_potentials,) or (n_graphs, n_potentials).
        heights: Bounds of the distance of two atoms across the lattice in Å, shape (n_graphs,).
        balance: Radius in Å at which both halves of a split cost the same, shape (n_graphs,); that
            of sums of all pairs by default.

    Raises:
        ConfigError: If the tolerance is out of range.
        StructureError: If a cell is not finite, singular, or too thin to be summed.
    """
    check_tolerance(tolerance)
    check_cells(cells)
    transform, basis = reduce_cells(cells)
    check_lengths(basis)
    lengths = gram_schmidt_lengths(basis)
    lattice = Lattice.from_lengths(lengths)
    waves = Lattice.from_lengths(2 * np.pi / lengths)
    shape = (len(cells), len(potentials))
    tolerances = shared_tolerances(tolerance, share, shape)
    planned = tolerances / _parameter_growth(potentials, lattice, n_atoms, tolerances)
    if lattice.dimension == 3:
        halves = _balance(potentials, lattice, waves, n_atoms, planned, balance)
    elif lattice.dimension:
        budget = truncation_budget(planned)
        halves = balance_lower(potentials, lattice, waves, 2 * np.pi / lengths.max(1), budget)
    else:  # nothing repeats: a sum is the one term of its pair
        nothing = np.zeros(len(cells))
        halves = Halves(nothing + heights, nothing, np.zeros(shape), None, np.zeros(shape))
    plan = Plan(
        **vars(halves),
        transform=transform,
        basis=basis,
        scale=largest_lengths(transform, cells),
        lattice=lattice,
        waves=waves,
        reach=np.hypot(lattice.covering, heights),
        tolerance=tolerances,
    )
    _check_effort(plan, n_atoms)
    return plan


def _parameter_growth(
    potentials: Sequence[Potential],
    lattice: Lattice,
    n_atoms: NDArray[np.int64],
    tolerances: Array,
) -> Array:
    """Return how much larger than V its derivatives by parameters are where a sum would end.

    Sums whose parameters are differentiated go on until these derivatives keep the tolerance, too.
    """
    growth = np.ones(tolerances.shape)
    balanced = balanced_radius(lattice.volume, n_atoms, tolerances.min(1))
    for p, potential in enumerate(potentials):
        if lattice.dimension and potential.tensors:
            end = direct_radius(potential, lattice, truncation_budget(tolerances[:, p]))
            if potential.can_split and not potential.least_alpha:
                end = np.minimum(end, 1.4 * balanced)
            growth[:, p] = np.maximum(potential.parameter_slope(np.minimum(end, 1e6)), 1.0)
            mixed = potential.mixture and potential.mixture.as_numbers
            if lattice.dimension < 3 and mixed and mixed.rate:
                # of the widest Gaussian whose waves are integrated, exp(-rate^2 / 4 t)
                widest = 4 * np.log(1 / tolerances[:, p]) / float(mixed.rate)
                growth[:, p] = np.maximum(growth[:, p], widest)
    return growth


def _balance(
    potentials: Sequence[Potential],
    lattice: Lattice,
    waves: Lattice,
    n_atoms: NDArray[np.int64],
    tolerances: Array,
    balanced: Array | None,
) -> Halves:
    """Return where the halves end in crystals: half of the budget for each."""
    budget = truncation_budget(tolerances)
    if balanced is None:
        balanced = balanced_radius(lattice.volume, n_atoms, tolerances.min(1))
    split = np.zeros(tolerances.shape, dtype=bool)
    radius, wave_radius = np.zeros_like(balanced), np.zeros_like(balanced)
    alpha, truncation = np.zeros(tolerances.shape), np.zeros(tolerances.shape)
    for p, potential in enumerate(potentials):
        direct = direct_radius(potential, lattice, budget[:, p])
        split[:, p] = potential.can_split & (direct > 1.4 * balanced)
        radius = np.maximum(radius, np.where(split[:, p], balanced, direct))
    for p, potential in enumerate(potentials):
        if split[:, p].any():
            half = 0.5 * budget[:, p]
            alpha[:, p] = solve_alpha(potential, lattice, radius, half)
            wave = solve_wave_radius(potential, lattice, waves, alpha[:, p], half)
            alpha[:, p] = np.where(split[:, p], alpha[:, p], 0)
            wave_radius = np.maximum(wave_radius, np.where(split[:, p], wave, 0))
    for p, potential in enumerate(potentials):
        direct = potential.direct_tail(lattice, radius)
        if direct is not None:
            truncation[:, p] = direct
        if split[:, p].any():
            a = np.where(split[:, p], alpha[:, p], 1)
            k = np.where(split[:, p], wave_radius, 1)
            total = short_tail(potential, lattice, radius, a)
            total = total + wave_tail(potential, lattice, waves, k, a)
            truncation[:, p] = np.where(split[:, p], total, truncation[:, p])
    return Halves(radius, wave_radius, alpha, None, truncation)


def _check_effort(plan: Plan, n_atoms: NDArray[np.int64]) -> None:
    """Raise if a crystal needs absurdly many vectors."""
    effort = np.maximum(plan.n_images, plan.n_waves)
    if (effort > MAX_VECTORS).any():
        graph = int(np.argmax(effort))
        raise StructureError(
            f"crystal {graph}: `cell` must need at most {MAX_VECTORS} lattice vectors, got about "
            f"{effort[graph]:.3g} at this tolerance and cutoff. Give the cell in Å, or a larger "
            "tolerance or a smaller cutoff."
        )
    phases = plan.n_waves * n_atoms
    if (phases > MAX_PHASES).any():
        graph = int(np.argmax(phases))
        raise StructureError(
            f"crystal {graph}: `positions` and `cell` must need at most {MAX_PHASES} phases of "
            f"waves, got about {phases[graph]:.3g} for {n_atoms[graph]} atoms. Use a particle-mesh "
            "library for so many atoms, or a larger tolerance."
        )
