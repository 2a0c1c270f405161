"""How to sum: a reduced cell, the width of the split, the two radii, and the certificate.

A plan holds one row per crystal and needs nothing but cells, numbers of atoms, potentials and the
tolerance, so it is worked out in numpy on the CPU and never differentiated. Equation numbers are
those of docs/theory.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticesums.errors import ConfigError, StructureError
from latticesums.potentials import Potential

Array = NDArray[np.float64]

#: Absolute tolerances a sum can be asked for.
TOLERANCE_RANGE = (1e-12, 1e-2)
#: Atoms, or an atom and a periodic image, closer than this (Å) are on one spot.
SAME_SPOT = 1e-6
#: Lattice vectors that one crystal may need; beyond it the cell is absurdly thin.
MAX_VECTORS = 4_000_000

_UNIT_ROUNDOFF = 2.0**-53
_COUNTS = (
    "no vector",
    "a vector of some length",
    "two independent periodic vectors",
    "three independent vectors",
)


@dataclass(frozen=True)
class Lattice:
    """Numbers of lattice points in balls, from the Gram-Schmidt lengths of a reduced basis.

    The box spanned by the Gram-Schmidt vectors tiles space under the lattice, so a ball of radius
    r about any point holds between (4 pi / 3) (r - covering)^3 / volume lattice points and the
    volume of the box swollen by r (Steiner's formula) over the volume of the cell
    (docs/theory.md, eqs. 16 and 17). A lattice of fewer vectors is one with endless ones beside
    them: the same formulas with 1 / l = 0, volume standing for area or length, and no least
    number, since the centre may lie away from the lattice (eq. 23).

    Attributes:
        volume: Volume of the cell, shape (n_graphs,).
        faces: 2 (l1 l2 + l1 l3 + l2 l3), shape (n_graphs,).
        edges: pi (l1 + l2 + l3), shape (n_graphs,).
        solid: 4 pi / 3, shape (n_graphs,).
        covering: Half the diagonal of the box, not smaller than the covering radius.
        dimension: Number of lattice vectors, 0 to 3.
    """

    volume: Array
    faces: Array
    edges: Array
    solid: Array
    covering: Array
    dimension: int

    @staticmethod
    def from_lengths(lengths: Array) -> Lattice:
        """Return the counts of lattices with Gram-Schmidt ``lengths``, shape (n_graphs, 0 to 3)."""
        volume = lengths.prod(1)
        inverse = np.zeros((len(lengths), 3))
        inverse[:, : lengths.shape[1]] = 1 / lengths
        a, b, c = inverse.T
        return Lattice(
            volume=volume,
            faces=2 * volume * (a + b + c),
            edges=np.pi * volume * (a * b + a * c + b * c),
            solid=4 * np.pi / 3 * volume * (a * b * c),
            covering=0.5 * np.sqrt((lengths * lengths).sum(1)),
            dimension=lengths.shape[1],
        )

    def most(self, r: Array) -> Array:
        """Return the largest number of points in a ball of radius ``r`` about any centre."""
        return 1 + r * (self.faces + r * (self.edges + r * self.solid)) / self.volume

    def least(self, r: Array) -> Array:
        """Return the smallest number of points in a ball of radius ``r`` about any centre."""
        return self.solid * np.maximum(r - self.covering, 0) ** 3 / self.volume

    def gaussian_tail(self, edge: Array, r: Array, b: Array) -> Array:
        """Bound the sum beyond ``r`` of f with f(s) <= edge exp(-b (s^2 - r^2)) (eq. 19)."""
        outside = (
            self.faces / (2 * b * r)
            + self.edges / b
            + 3 * self.solid * (r / (2 * b) + 1 / (4 * b * b * r))
        )
        return edge * (self.most(r) - self.least(r) + outside / self.volume)

    def exponential_tail(self, r: Array, a: float) -> Array:
        """Bound the sum of exp(-a s) over the points at s > ``r`` (eq. 20)."""
        outside = (
            self.faces / a
            + 2 * self.edges * (r / a + 1 / a**2)
            + 3 * self.solid * (r * r / a + 2 * r / a**2 + 2 / a**3)
        )
        return np.exp(-a * r) * (self.most(r) - self.least(r) + outside / self.volume)


@dataclass(frozen=True)
class Quadrature:
    """Nodes of the integral over u = log(alpha^2 / t) in the long half of wires and slabs.

    Attributes:
        length: The integral runs from 0 to this u, shape (n_graphs,).
        count: Number of nodes, shape (n_graphs,).
    """

    length: Array
    count: NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """What the differentiable path needs to know of each crystal, periodic in d directions.

    Attributes:
        transform: Integer matrices; ``transform @ cell`` is the reduced basis, shape
            (n_graphs, d, d).
        basis: Reduced bases, rows from short to long, shape (n_graphs, d, 3).
        scale: Largest length met while ``basis`` is formed, Å, shape (n_graphs,); larger than the
            basis where the cell is skewed.
        covering: Largest length of a wrapped pair vector along the lattice, Å, shape (n_graphs,).
        reach: Largest length of a wrapped pair vector, Å, shape (n_graphs,).
        radius: Images are summed up to this distance, Å, shape (n_graphs,).
        wave_radius: Wave vectors are summed up to this length, 1/Å; 0 where nothing is split.
        alpha: Inverse widths of the split, 1/Å, 0 where a potential is summed directly, shape
            (n_graphs, n_potentials).
        quadrature: Nodes of the long half of wires and slabs; None for others.
        truncation: Proven bounds of what is left out, shape (n_graphs, n_potentials).
        tolerance: Absolute errors that may be made, shape (n_graphs, n_potentials).
    """

    transform: Array
    basis: Array
    scale: Array
    covering: Array
    reach: Array
    radius: Array
    wave_radius: Array
    alpha: Array
    quadrature: Quadrature | None
    truncation: Array
    tolerance: Array

    @property
    def n_images(self) -> Array:
        """Expected number of lattice vectors to look at for a pair, shape (n_graphs,)."""
        return Lattice.from_lengths(gram_schmidt_lengths(self.basis)).most(self.radius)

    @property
    def n_waves(self) -> Array:
        """Expected number of wave vectors, one of each pair +k and -k, shape (n_graphs,)."""
        d = self.basis.shape[1]
        ball = (1.0, 2.0, np.pi, 4 * np.pi / 3)[d]
        measure = gram_schmidt_lengths(self.basis).prod(1)
        return 0.5 * ball * measure * (self.wave_radius / (2 * np.pi)) ** d


def reduce_cells(cells: Array) -> tuple[Array, Array]:
    """Return Minkowski-reduced bases of the lattices, shortest vector first.

    Greedy reduction (Semaev 2001): each vector is made as short as integer multiples of the
    shorter ones can make it, until nothing changes. In three dimensions the result is
    Minkowski-reduced.

    Args:
        cells: Lattice vectors as rows in Å, shape (n_graphs, d, 3), d at most 3.

    Returns:
        Integer transforms, shape (n_graphs, d, d), and bases ``transform @ cell``.
    """
    d = cells.shape[1]
    if d < 3:  # long vectors across the others stay what and where they are
        transform = reduce_cells(_completed(cells))[0][:, :d, :d]
        return transform, transform @ cells
    transform = np.broadcast_to(np.eye(3), cells.shape).copy()
    basis = cells.copy()
    steps = np.array([(i, j) for i in (0, -1, 1) for j in (0, -1, 1)], dtype=float)
    rows = np.arange(len(cells))
    for _ in range(200):
        order = np.argsort(np.einsum("gij,gij->gi", basis, basis), axis=1, kind="stable")
        basis = np.take_along_axis(basis, order[..., None], 1)
        transform = np.take_along_axis(transform, order[..., None], 1)
        gram = basis @ basis.transpose(0, 2, 1)
        first = np.rint(gram[:, 0, 1] / gram[:, 0, 0])
        gain = first * (2 * gram[:, 0, 1] - first * gram[:, 0, 0])
        first = np.where(gain > 1e-12 * gram[:, 1, 1], first, 0.0)
        basis[:, 1] -= first[:, None] * basis[:, 0]
        transform[:, 1] -= first[:, None] * transform[:, 0]

        # closest vector of the plane spanned by the two shorter ones to the third
        gram = basis @ basis.transpose(0, 2, 1)
        aa, bb, ab = gram[:, 0, 0], gram[:, 1, 1], gram[:, 0, 1]
        ac, bc = gram[:, 0, 2], gram[:, 1, 2]
        det = aa * bb - ab * ab
        nearest = np.stack([ac * bb - bc * ab, bc * aa - ac * ab], 1) / det[:, None]
        tried = np.rint(nearest)[:, None] + steps
        x, y = tried[..., 0], tried[..., 1]
        aa, bb, ab, ac, bc = (v[:, None] for v in (aa, bb, ab, ac, bc))
        gain = 2 * (x * ac + y * bc) - x * x * aa - y * y * bb - 2 * x * y * ab
        best = gain.argmax(1)
        better = gain[rows, best] > 1e-12 * gram[:, 2, 2]
        second = np.where(better[:, None], tried[rows, best], 0.0)
        basis[:, 2] -= np.einsum("gi,gij->gj", second, basis[:, :2])
        transform[:, 2] -= np.einsum("gi,gij->gj", second, transform[:, :2])
        if not (first.any() or second.any()):
            break
    return transform, transform @ cells


def largest_lengths(transform: Array, cells: Array) -> Array:
    """Return the largest lengths met in ``transform @ cells``, Å, shape (n_graphs,)."""
    sizes = np.einsum("gij,gj->gi", np.abs(transform), np.linalg.norm(cells, axis=2))
    return sizes.max(1, initial=0)


def gram_schmidt_lengths(basis: Array) -> Array:
    """Return the lengths of the Gram-Schmidt vectors of each basis, shape (n_graphs, d)."""
    d = basis.shape[1]
    measures = np.ones((len(basis), d + 1))
    if d > 0:
        measures[:, 1] = np.linalg.norm(basis[:, 0], axis=1)
    if d > 1:
        measures[:, 2] = np.linalg.norm(np.cross(basis[:, 0], basis[:, 1]), axis=1)
    if d > 2:
        measures[:, 3] = np.abs(np.linalg.det(basis))
    return measures[:, 1:] / measures[:, :-1]


def _completed(cells: Array) -> Array:
    """Return cells with orthogonal vectors added, longer than all that belong to the lattice."""
    d = cells.shape[1]
    full = np.zeros((len(cells), 3, 3))
    full[:, :d] = cells
    normals = np.linalg.svd(full)[2][:, d:]  # rows that belong to the singular values 0
    full[:, d:] = normals * (4 * np.linalg.norm(cells, axis=2).sum(1) + 1)[:, None, None]
    return full


def make_plan(
    cells: Array,
    n_atoms: NDArray[np.int64],
    potentials: Sequence[Potential],
    tolerance: float,
    share: Array | float = 1.0,
) -> Plan:
    """Return how to sum ``potentials`` over each crystal within ``tolerance``.

    Args:
        cells: Lattice vectors as rows in Å, shape (n_graphs, 3, 3).
        n_atoms: Number of atoms of each crystal, shape (n_graphs,); decides the balance of the
            two halves of the split, not the result.
        potentials: What to sum.
        tolerance: Largest absolute error of a sum.
        share: Multiplies the tolerance, shape (n_potentials,) or (n_graphs, n_potentials).

    Raises:
        ConfigError: If the tolerance is out of range.
        StructureError: If a cell is not finite, singular, or too thin to be summed.
    """
    check_tolerance(tolerance)
    check_cells(cells)
    transform, basis = reduce_cells(cells)
    lengths = gram_schmidt_lengths(basis)
    check_lengths(basis, lengths)
    lattice = Lattice.from_lengths(lengths)
    waves = Lattice.from_lengths(2 * np.pi / lengths)

    shape = (len(cells), len(potentials))
    tolerances = shared_tolerances(tolerance, share, shape)
    budget = truncation_budget(tolerances)
    balanced = balanced_radius(lattice.volume, n_atoms, tolerances.min(1))
    truncation, alpha = np.zeros(shape), np.zeros(shape)
    split = np.zeros(shape, dtype=bool)
    radius = np.zeros(len(cells))
    for p, potential in enumerate(potentials):
        direct = direct_radius(potential, lattice, budget[:, p])
        split[:, p] = potential.can_split & (direct > 1.4 * balanced)
        radius = np.maximum(radius, np.where(split[:, p], balanced, direct))
    wave_radius = np.zeros(len(cells))
    for p, potential in enumerate(potentials):
        if split[:, p].any():
            half = 0.5 * budget[:, p]
            alpha[:, p] = solve_alpha(potential, lattice, radius, half)
            wave = _solve_wave_radius(potential, lattice, waves, alpha[:, p], half)
            alpha[:, p] = np.where(split[:, p], alpha[:, p], 0)
            wave_radius = np.maximum(wave_radius, np.where(split[:, p], wave, 0))
    for p, potential in enumerate(potentials):
        direct = potential.direct_tail(lattice, radius)
        if direct is not None:
            truncation[:, p] = direct
        if split[:, p].any():
            a = np.where(split[:, p], alpha[:, p], 1)
            total = short_tail(potential, lattice, radius, a)
            k = np.where(split[:, p], wave_radius, 1)
            total += _wave_tail(potential, lattice, waves, k, a)
            truncation[:, p] = np.where(split[:, p], total, truncation[:, p])
    plan = Plan(
        transform=transform,
        basis=basis,
        scale=largest_lengths(transform, cells),
        covering=lattice.covering,
        reach=lattice.covering,
        radius=radius,
        wave_radius=wave_radius,
        alpha=alpha,
        quadrature=None,
        truncation=truncation,
        tolerance=tolerances,
    )
    check_effort(plan)
    return plan


def shared_tolerances(tolerance: float, share: Array | float, shape: tuple[int, int]) -> Array:
    """Return the error that each crystal and potential may make, shape (n_graphs, n_potentials)."""
    return np.broadcast_to(np.minimum(tolerance * np.asarray(share), TOLERANCE_RANGE[1]), shape)


def truncation_budget(tolerance: Array) -> Array:
    """Return the part of a tolerance that truncation may use.

    The rest is for rounding: half of it near the end of double precision.
    """
    return np.maximum(0.5 * tolerance, 0.98 * tolerance - 5e-11)


def balanced_radius(volume: Array, n_atoms: NDArray[np.int64], tolerance: float | Array) -> Array:
    """Return the real-space radius (Å) that makes the two halves cost the same (eq. 22).

    The number of images per pair times the number of wave vectors depends on the tolerance
    alone; the weights are measured costs of the steps in ns.
    """
    product = 8.75 * (np.log(1 / tolerance) + 1) ** 3 / np.pi**3
    pairs = 0.5 * n_atoms * (n_atoms - 1) + 1
    per_wave = 0.6 * pairs + 25.0 * n_atoms + 150
    per_image = 60.0 * pairs + 600
    images = np.clip(np.sqrt(product * per_wave / per_image), 1.0, 200.0)
    return (3 * volume * images / (4 * np.pi)) ** (1 / 3)


def direct_radius(potential: Potential, lattice: Lattice, budget: Array) -> Array:
    """Return the radius that sums ``potential`` without a split; infinite if none does."""
    low, high = np.zeros_like(lattice.volume), np.full_like(lattice.volume, 1.0)
    tail = potential.direct_tail(lattice, high)
    if tail is None:
        return np.full_like(high, np.inf)
    while (short := tail > budget).any():
        low, high = np.where(short, high, low), np.where(short, 2 * high, high)
        tail = potential.direct_tail(lattice, high)
        if tail is None or high.max() > 1e6:
            return np.where(short, np.inf, high)
    for _ in range(12):
        middle = 0.5 * (low + high)
        tail = potential.direct_tail(lattice, middle)
        enough = tail <= budget if tail is not None else False
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


def short_tail(potential: Potential, lattice: Lattice, radius: Array, alpha: Array) -> Array:
    """Bound what images beyond ``radius`` add (eq. 19)."""
    return lattice.gaussian_tail(potential.short_bound(radius, alpha), radius, alpha**2)


def _wave_tail(
    potential: Potential, lattice: Lattice, waves: Lattice, k: Array, alpha: Array
) -> Array:
    """Bound what wave vectors beyond ``k`` add (eq. 19 in the reciprocal lattice)."""
    edge = potential.fourier_bound(k, alpha) / lattice.volume
    return waves.gaussian_tail(edge, k, 1 / (4 * alpha**2))


def solve_alpha(potential: Potential, lattice: Lattice, radius: Array, budget: Array) -> Array:
    """Return a small alpha whose images beyond ``radius`` add at most ``budget``."""
    y = solve_gaussian(
        lambda y: short_tail(potential, lattice, radius, np.sqrt(y) / radius), budget
    )
    return np.maximum(np.sqrt(y) / radius, potential.least_alpha)


def _solve_wave_radius(
    potential: Potential, lattice: Lattice, waves: Lattice, alpha: Array, budget: Array
) -> Array:
    """Return a small wave number beyond which wave vectors add at most ``budget``."""
    y = solve_gaussian(
        lambda y: _wave_tail(potential, lattice, waves, 2 * alpha * np.sqrt(y), alpha), budget
    )
    return 2 * alpha * np.sqrt(y)


def solve_gaussian(tail, budget: Array) -> Array:
    """Return y with ``tail(y) <= budget``, about as small as possible, for tails ~ exp(-y)."""
    y = np.maximum(np.log(1 / budget) + 2, 0.5)
    for _ in range(4):
        # The prefactors shrink with y too, so this step lands a little beyond the solution.
        y = np.maximum(y + np.log(np.maximum(tail(y) / budget, 1e-9)), 0.5)
    while (short := tail(y) > budget).any():
        y = np.where(short, y * 1.01 + 0.02, y)
    return y


def rounding_bounds(
    plan: Plan,
    potentials: Sequence[Potential],
    *,
    short_sums: Array,
    wave_sums: Array,
    constants: Array,
    graph: NDArray[np.int64] | slice = slice(None),
    single: bool = False,
) -> Array:
    """Bound the rounding errors of the sums, to first order in the unit roundoff (eq. 35).

    Args:
        plan: The plan that was followed.
        potentials: What was summed.
        short_sums: Sums of short halves, the largest of each crystal or those of each pair, shape
            (n_rows, n_potentials).
        wave_sums: Sum of the Fourier coefficients, shape (n_graphs, n_potentials).
        constants: Sum of the magnitudes of the k = 0 and self terms, same shape.
        graph: Crystal of each row of ``short_sums``, where the rows are not the crystals.
        single: Whether terms and waves were computed in float32 (eq. 36).

    Returns:
        One bound per row and potential, shape (n_rows, n_potentials).
    """
    lengths = gram_schmidt_lengths(plan.basis)
    lattice = Lattice.from_lengths(lengths)
    count = 1 + lattice.most(plan.radius)
    n_waves = Lattice.from_lengths(2 * np.pi / lengths).most(plan.wave_radius)
    # distance of the images other than the wrapped vector itself; a cluster has none
    apart = 0.5 * lengths.min(1, initial=1e6)
    shift = 2 * (plan.reach + plan.radius)  # error of their vectors in units of roundoff
    bounds = np.zeros_like(short_sums)
    for p, potential in enumerate(potentials):
        total, alpha = short_sums[:, p], plan.alpha[:, p]
        others = np.minimum(total, potential.direct_sum(lattice, apart)[graph])
        sizes = (count[graph], apart[graph], plan.radius[graph], alpha[graph])
        slopes = potential.slope_sum(others, *sizes)
        order = max(potential.order, 2.0)
        real = (10 + 4 * order + 5 * np.sqrt(sizes[0])) * total + shift[graph] * slopes
        wave = (10 + 5 * np.sqrt(n_waves) + 16 * plan.reach * plan.wave_radius) * wave_sums[:, p]
        slope = 4 * alpha * plan.reach if lattice.dimension < 3 else 0  # of the background
        rest = (10 + 4 * order + slope) * constants[:, p]
        bounds[:, p] = _UNIT_ROUNDOFF * (real + (wave + rest)[graph])
        if single:
            low = np.where(alpha > 0, potential.in_float32(True), potential.in_float32(False))
            real = low[graph] * ((10 + 4 * order) * total + sizes[2] * slopes)
            wave = (10 + 5 * np.sqrt(n_waves)) * wave_sums[:, p] * (lattice.dimension == 3)
            bounds[:, p] += 2.0**-24 * (real + wave[graph])
    return bounds


def check_tolerance(tolerance: float) -> None:
    """Raise unless a sum can be asked for with this absolute error."""
    low, high = TOLERANCE_RANGE
    if not low <= tolerance <= high:
        raise ConfigError(
            f"lattice sums: `tolerance` must lie between {low:g} and {high:g}, got {tolerance}. "
            "Give an absolute error in that range, for example 1e-8."
        )


def check_cells(cells: Array) -> None:
    """Raise unless the lattice vectors, (n_graphs, d, 3), are finite and independent."""
    finite = np.isfinite(cells).all((1, 2))
    if not finite.all():
        graph = int(np.argmin(finite))
        raise StructureError(
            f"crystal {graph}: `cell` must hold finite numbers, got {cells[graph].tolist()}. "
            "Give lattice vectors in Å."
        )
    sizes = np.linalg.norm(cells, axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        flat = ~(gram_schmidt_lengths(cells).prod(1) > 1e-10 * sizes.prod(1))
    if flat.any():
        graph = int(np.argmax(flat))
        raise StructureError(
            f"crystal {graph}: `cell` must hold {_COUNTS[cells.shape[1]]}, got "
            f"{cells[graph].tolist()}. Give a cell with a volume."
        )


def check_lengths(basis: Array, lengths: Array) -> None:
    """Raise unless an atom and its images are apart."""
    if lengths.size == 0:
        return
    shortest = np.linalg.norm(basis[:, 0], axis=1)
    if (shortest < SAME_SPOT).any():
        graph = int(np.argmin(shortest))
        raise StructureError(
            f"crystal {graph}: `cell` must keep an atom and its images {SAME_SPOT:g} Å apart or "
            f"more, got {shortest[graph]:.3g} Å. Give the lattice vectors in Å."
        )


def check_effort(plan: Plan) -> None:
    """Raise if a crystal needs absurdly many vectors."""
    effort = np.maximum(plan.n_images, plan.n_waves)
    if (effort > MAX_VECTORS).any():
        graph = int(np.argmax(effort))
        raise StructureError(
            f"crystal {graph}: `cell` must need at most {MAX_VECTORS} lattice vectors, got about "
            f"{effort[graph]:.3g} at this tolerance and cutoff. Give the cell in Å, or a larger "
            "tolerance or a smaller cutoff."
        )
