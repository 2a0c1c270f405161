"""Sums with a direction: weighted with the real spherical harmonics of degree 1 and 2.

A potential V(r) = F(r^2) has, with R_l the solid harmonics and grad the gradient (Hobson),

    R_l(grad) V(|r|) = 2^l F^(l)(r^2) R_l(r),        R_l(grad) cos(k r) = Re[i^l R_l(k) e^(i k r)],

so the gradient (l = 1) and the traceless part of the Hessian (l = 2) of a lattice sum split as the
sum itself. If V is a mixture of Gaussians, so is (-2)^l F^(l), and the bounds of docs/theory.md
hold for both halves with a factor r^l or k^l.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from vesin import NeighborList

from latticesums.errors import ConfigError, StructureError
from latticesums.lattice import reduced
from latticesums.pairs import PairSums, checked_batch, ordered_pairs
from latticesums.plan import (
    SAME_SPOT,
    TOLERANCE_RANGE,
    Lattice,
    balanced_radius,
    gram_schmidt_lengths,
)
from latticesums.potentials import Potential, Shell, resolve

if TYPE_CHECKING:
    from latticesums.plan import Array

_ROUNDOFF = 2.0**-53


def directed_sums(
    positions: Tensor,
    cell: Tensor,
    potentials: Sequence[Potential | str],
    *,
    degree: int,
    tolerance: float = 1e-8,
    graph_index: Tensor | None = None,
) -> PairSums:
    """Return sums over all images with the real spherical harmonics of one degree.

    For a :class:`Shell` phi it is the sum of ``phi(r) Y(r / |r|)``, r = r_j + L - r_i. For any
    other potential it is the gradient (degree 1) of its lattice sum with respect to r_j, or the
    traceless part of the Hessian (degree 2): the sums of V'(r) Y and of (V''(r) - V'(r) / r) Y.
    Components of degree 1 are x, y, z; those of degree 2 are sqrt(3) xy, sqrt(3) yz, (3 z^2 - 1) /
    2, sqrt(3) xz and sqrt(3) (x^2 - y^2) / 2, whose squares add up to 1. Computed in float64 and
    differentiable in ``positions`` and ``cell``.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3).
        cell: Lattice vectors as rows in Å, shape (n_graphs, 3, 3), or (3, 3) for one crystal.
        potentials: Shells, and potentials with a Fourier half, or their names.
        degree: 1 or 2.
        tolerance: Largest absolute error of a component, in the unit of the potential over
            Å^degree (no unit for shells), 1e-12 to 1e-2.
        graph_index: Crystal of each atom, ascending, shape (n_atoms,); not needed for one crystal.

    Returns:
        Pairs, values of shape (n_pairs, n_potentials, 2 degree + 1) and a bound of their error.

    Raises:
        StructureError: If a number is not finite, a cell is singular, a crystal has no atom, or
            two atoms are on one spot.
        ConfigError: If shapes do not fit, the degree is not 1 or 2, a potential has no Fourier
            half, or the tolerance is out of range or cannot be kept in float64.

    References:
        Hobson, Proc. London Math. Soc. 24, 55 (1892), for the derivatives.
    """
    chosen = tuple(p.prepared(positions.device) for p in resolve(potentials))
    _check(chosen, degree, tolerance)
    positions, cells, n_atoms = checked_batch(positions, cell, graph_index)
    i, j = ordered_pairs(n_atoms, positions.device)
    values, bounds = [], []
    start = 0
    for graph, n in enumerate(n_atoms.tolist()):
        own = slice(start, start + n)
        start += n
        try:
            found, bound = _crystal_sums(positions[own], cells[graph], chosen, degree, tolerance)
        except (ConfigError, StructureError) as error:
            raise type(error)(f"crystal {graph}: {error}") from None
        values.append(found)
        bounds.append(bound)
    shape = (0, len(chosen), 2 * degree + 1)
    total = torch.cat([positions.new_zeros(shape), *values])
    largest = torch.stack([positions.new_zeros(len(chosen)), *bounds]).amax(0)
    return PairSums(i, j, total, largest)


def directed_shells(
    positions: Tensor, cell: Tensor, shells: Sequence[Shell], *, degree: int
) -> Tensor:
    """Return shells times all harmonics up to a degree of all pairs of one crystal.

    The differentiable sibling of :func:`orbit_shells`, each atom an orbit of its own: any
    number of derivatives with respect to positions and cell.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3).
        cell: Lattice vectors as rows in Å, shape (3, 3).
        shells: What to sum.
        degree: Highest degree, 0 to 2.

    Returns:
        Shape (n_atoms^2, (degree + 1)^2, n_shells), i slow and j fast.
    """
    n_atoms = len(positions)
    if not shells:
        return positions.new_zeros(n_atoms * n_atoms, (degree + 1) ** 2, 0)
    cutoffs = [shell.cutoff for shell in shells]
    pair, vectors = _images(positions, cell, max(float(cutoff) for cutoff in cutoffs))
    r = vectors.norm(dim=1)[:, None]
    centers, widths, ends = (
        torch.stack(
            [torch.as_tensor(number, dtype=torch.float64).to(positions) for number in numbers]
        )
        for numbers in ([s.center for s in shells], [s.width for s in shells], cutoffs)
    )
    envelope = (1 - (r / ends) ** 2).clamp(min=0) ** 3
    weights = torch.exp(-(((r - centers) / widths) ** 2)) * envelope
    unit = vectors / r
    harmonics = torch.cat([_solid(unit, d) for d in range(degree + 1)], 1)
    values = harmonics[:, :, None] * weights[:, None]
    return values.new_zeros(n_atoms * n_atoms, *values.shape[1:]).index_add(0, pair, values)


def _check(potentials: Sequence[Potential], degree: int, tolerance: float) -> None:
    if degree not in (1, 2):
        raise ConfigError(
            f"directed_sums: `degree` must be 1 or 2, got {degree}. Use pair_sums for degree 0."
        )
    low, high = TOLERANCE_RANGE
    if not low <= tolerance <= high:
        raise ConfigError(
            f"directed_sums: `tolerance` must lie between {low:g} and {high:g}, got {tolerance}. "
            "Give an absolute error in that range, for example 1e-8."
        )
    for potential in potentials:
        if not isinstance(potential, Shell) and not (
            potential.can_split and len(potential.terms) == 1
        ):
            raise ConfigError(
                "directed_sums: `potentials` must be shells or have a Fourier half of their own, "
                f"got {potential.name}. Sum the terms of a combination one by one."
            )


def _solid(r: Tensor, degree: int) -> Tensor:
    """Return the solid harmonics of a degree at ``r``, shape (n, 3), as (n, 2 degree + 1)."""
    x, y, z = r.unbind(1)
    if degree == 0:
        return torch.ones_like(x)[:, None]
    if degree == 1:
        return r
    root = math.sqrt(3)
    square = 0.5 * root * (x * x - y * y)
    along = z * z - 0.5 * (x * x + y * y)
    return torch.stack([root * x * y, root * y * z, along, root * x * z, square], 1)


def _images(positions: Tensor, cell: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Return the pair i n_atoms + j, and the vector, of every image within the cutoff."""
    given = cell.detach().cpu().numpy()
    basis = reduced(given)
    points = positions.detach().cpu().numpy()
    shifts = np.floor(points @ np.linalg.inv(basis))
    search = NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
    i, j, images = search.compute(points - shifts @ basis, basis, True, "ijS")
    i, j = i.astype(np.int64), j.astype(np.int64)
    # Back to the given cell: its integer combinations that lead from i to this image of j.
    images = np.rint((images - shifts[j] + shifts[i]) @ basis @ np.linalg.inv(given))
    first, second, steps = (torch.from_numpy(a).to(positions.device) for a in (i, j, images))
    vectors = positions[second] - positions[first] + steps.to(cell) @ cell
    return first * len(positions) + second, vectors


def _crystal_sums(
    positions: Tensor, cell: Tensor, potentials: Sequence[Potential], degree: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    """Return the sums of all pairs of one crystal, and a bound per potential."""
    if not bool(torch.linalg.det(cell.detach()).abs() > 1e-10 * cell.detach().norm(dim=1).prod()):
        raise StructureError(
            f"`cell` must hold three independent vectors, got {cell.tolist()}. "
            "Give a cell with a volume."
        )
    columns: list[Tensor] = []
    bounds: list[float] = []
    shells = [p for p in potentials if isinstance(p, Shell)]
    near = directed_shells(positions, cell, shells, degree=degree) if shells else None
    for potential in potentials:
        if near is not None and isinstance(potential, Shell):
            column = near[:, degree**2 :, shells.index(potential)]
            cutoff, width = float(potential.cutoff), float(potential.width)
            count = 4.2 * (cutoff + 2) ** 3 / float(torch.linalg.det(cell.detach()).abs())
            slope = 1 + (cutoff + float(positions.detach().abs().max())) / width
            bound = 10 * _ROUNDOFF * (count + 30) * slope
        else:
            column, bound = _split_sums(positions, cell, potential, degree, tolerance)
        if not bound <= tolerance:
            raise ConfigError(
                f"`tolerance` must be one that float64 can keep for {potential.name}, got "
                f"{tolerance:g}. Give a larger tolerance, or check for atoms that almost touch."
            )
        columns.append(column)
        bounds.append(bound)
    return torch.stack(columns, 1), positions.new_tensor(bounds)


def _split_sums(
    positions: Tensor, cell: Tensor, potential: Potential, degree: int, tolerance: float
) -> tuple[Tensor, float]:
    """Return the sums of one potential from both halves of its Gaussian split."""
    n_atoms, volume = len(positions), torch.linalg.det(cell).abs()
    plan = _Plan(cell.detach().cpu().numpy(), n_atoms, potential, degree, 0.5 * tolerance)
    pair, vectors = _images(positions, cell, plan.radius)
    squares = (vectors * vectors).sum(1)
    if bool((squares.detach() < SAME_SPOT**2).any()):
        at = int(pair[squares.detach().argmin()])
        raise StructureError(
            f"atoms {at // n_atoms} and {at % n_atoms} must be {SAME_SPOT:g} Å apart or more, got "
            "less (periodic images included). Remove the duplicate atom."
        )
    alpha = positions.new_tensor(plan.alpha)
    slopes = _slope(potential, squares, alpha, degree)
    terms = 2**degree * slopes[:, None] * _solid(vectors, degree)
    total = terms.new_zeros(n_atoms**2, 2 * degree + 1).index_add(0, pair, terms)

    waves = plan.waves(cell)
    k = 2 * math.pi * torch.from_numpy(waves).to(cell) @ torch.linalg.inv(cell).T
    weights = 2 / volume * potential.fourier((k * k).sum(1), alpha)
    weights = weights[:, None] * _solid(k, degree)
    angles = positions @ k.T
    cosines, sines = angles.cos(), angles.sin()
    parts = []
    for weight in weights.T:
        if degree == 1:  # -sin k (r_j - r_i)
            half = (sines * weight) @ cosines.T
            parts.append(half - half.T)
        else:  # -cos k (r_j - r_i)
            parts.append(-((cosines * weight) @ cosines.T + (sines * weight) @ sines.T))
    total = total + torch.stack(parts, -1).reshape(n_atoms**2, -1)
    # of the terms of a pair and their vectors, and of the phases (docs/theory.md, "Rounding")
    sizes = terms.detach().abs().new_zeros(n_atoms**2, 2 * degree + 1)
    short = float(sizes.index_add(0, pair, terms.detach().abs()).max())
    long = float(weights.detach().abs().sum(0).max())
    count = len(terms) / n_atoms**2
    extent = float(positions.detach().abs().max()) + plan.radius
    rounding = (30 + 5 * math.sqrt(count) + 10 * plan.slope * extent) * short
    rounding += (10 + 5 * math.sqrt(len(k)) + 4 * extent * plan.wave_radius) * long
    return total, plan.bound + _ROUNDOFF * rounding


def _slope(potential: Potential, squares: Tensor, alpha: Tensor, degree: int) -> Tensor:
    """Return the ``degree``-th derivative of the short half with respect to r^2."""
    outer = torch.is_grad_enabled() and squares.requires_grad
    with torch.enable_grad():
        s = squares if outer else squares.detach().requires_grad_()
        value = potential.short(s, alpha)
        for step in range(degree):
            keep = outer or step < degree - 1
            (value,) = torch.autograd.grad(value.sum(), s, create_graph=keep)
    return value


class _Plan:
    """Radii of both halves of a derivative, and the proved bound of what they leave out.

    Beyond R, r^l exp(-b (r^2 - R^2)) <= R^l exp(-(b - l / 2 R^2) (r^2 - R^2)): the tail of the sum
    itself (docs/theory.md, eq. 19) with a slower Gaussian. So too for wave vectors.
    """

    def __init__(
        self, cell: Array, n_atoms: int, potential: Potential, degree: int, budget: float
    ) -> None:
        basis = reduced(cell)[None]
        lengths = np.sort(gram_schmidt_lengths(basis))
        lattice = Lattice.from_lengths(lengths)
        recip = Lattice.from_lengths(2 * np.pi / lengths)
        counts = np.array([n_atoms])
        radius = balanced_radius(lattice.volume, counts, budget)
        half = 0.5 * budget

        def short_tail(alpha: Array) -> float:
            slope = _slope(potential, torch.from_numpy(radius**2), torch.from_numpy(alpha), degree)
            rate = alpha**2 - degree / (2 * radius**2)
            edge = 2**degree * np.abs(slope.numpy()) * radius**degree
            return _tail(lattice, edge, radius, rate)

        def wave_tail(k: Array) -> float:
            rate = 1 / (4 * alpha**2) - degree / (2 * k**2)
            edge = potential.fourier_bound(k, alpha) / lattice.volume * k**degree
            return _tail(recip, edge, k, rate)

        # A split much wider than the potential itself would be all underflow.
        least = max(potential.least_alpha, potential.decay / 20)
        alpha = _least(short_tail, np.maximum(1 / radius, least), half)
        k = _least(wave_tail, 2 * alpha, half)
        self.radius, self.alpha, self.wave_radius = float(radius[0]), float(alpha[0]), float(k[0])
        self.bound = short_tail(alpha) + wave_tail(k)
        # of the logarithm of a term at distances from 1 Å on
        self.slope = potential.order + degree + potential.decay + 2 * self.alpha**2 * self.radius

    def waves(self, cell: Tensor) -> NDArray[np.float64]:
        """Return one of each pair of wave vectors, as integers in the reciprocal basis."""
        rows = cell.detach().cpu().numpy()
        basis = reduced(rows)
        box = np.floor(self.wave_radius / (2 * np.pi) * np.linalg.norm(basis, axis=1) + 1e-9)
        ranges = [np.arange(-b, b + 1) for b in box]
        grid = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 3)
        grid = grid[len(grid) // 2 + 1 :]  # the later half has the negatives of the former
        k = 2 * np.pi * grid @ np.linalg.inv(basis).T
        near = grid[(k * k).sum(1) <= self.wave_radius**2 * (1 + 1e-12)]
        return np.rint(near @ np.linalg.inv(basis).T @ rows.T)


def _least(tail: Callable[[Array], float], start: Array, budget: float) -> Array:
    """Return a number from ``start`` on, about the smallest, with a tail within the budget."""
    low = high = start
    while tail(high) > budget:
        low, high = high, 1.3 * high
    if high is start:
        return high
    for _ in range(6):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if tail(middle) > budget else (low, middle)
    return high


def _tail(lattice: Lattice, edge: Array, r: Array, rate: Array) -> float:
    """Bound a sum beyond ``r``; infinite while the Gaussian does not fall."""
    if not rate[0] > 0:
        return math.inf
    return float(lattice.gaussian_tail(edge, r, rate)[0])
