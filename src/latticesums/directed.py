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
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latticesums.bounds import Lattice
from latticesums.errors import ConfigError, StructureError
from latticesums.inputs import checked_batch
from latticesums.lattice import (
    MAX_VECTORS,
    SAME_SPOT,
    check_cells,
    gram_schmidt_lengths,
    reduced,
)
from latticesums.neighbours import images_within, near_positions
from latticesums.pairs import PairSums
from latticesums.potentials import Expansion, Potential, Shell, resolve
from latticesums.radii import balanced_radius, check_tolerance
from latticesums.shells import solid_harmonics

Array = NDArray[np.float64]

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
        potentials: Shells, potentials with a Fourier half, combinations of them, or names.
        degree: 1 or 2.
        tolerance: Largest absolute error of a component, in the unit of the potential over
            Å^degree (no unit for shells), 1e-12 to 1e-2.
        graph_index: Crystal of each atom, ascending, shape (n_atoms,); not needed for one crystal.

    Returns:
        Pairs, values of shape (n_pairs, n_potentials, 2 degree + 1) and bounds of their errors.

    Raises:
        StructureError: If a number is not finite, a cell is singular, a crystal has no atom, or
            two atoms are on one spot.
        ConfigError: If shapes do not fit, the degree is not 1 or 2, a potential has no Fourier
            half, or the tolerance is out of range or cannot be kept in float64.

    References:
        Hobson, Proc. London Math. Soc. 24, 55 (1892), for the derivatives.
    """
    chosen = tuple(p.prepared(positions.device) for p in resolve(potentials))
    tolerance = check_tolerance(tolerance)
    expansion = Expansion.of(chosen, positions.device)
    _check(expansion.terms, degree)
    positions, cells, n_atoms = checked_batch(positions, cell, graph_index)
    share = expansion.shares(np.ones((1, len(chosen))))[0]
    values, bounds = [], []
    start = 0
    for graph, n in enumerate(n_atoms.tolist()):
        own = slice(start, start + n)
        start += n
        try:
            found, bound = _crystal_sums(
                positions[own], cells[graph], expansion.terms, degree, tolerance * share
            )
            found, bound = _combined(expansion, found, bound)
            _certify(bound, chosen, tolerance)
        except (ConfigError, StructureError) as error:
            message = str(error).removeprefix("crystal 0: ")
            raise type(error)(f"crystal {graph}: {message}") from None
        values.append(found)
        bounds.append(bound)
    shape = (0, len(chosen), 2 * degree + 1)
    total = torch.cat([positions.new_zeros(shape), *values])
    found = torch.stack(bounds) if bounds else positions.new_zeros(0, len(chosen))
    return PairSums(n_atoms, total, found)


def _check(terms: Sequence[Potential], degree: int) -> None:
    if degree not in (1, 2):
        raise ConfigError(
            f"directed_sums: `degree` must be 1 or 2, got {degree}. Use pair_sums for degree 0."
        )
    for potential in terms:
        if not isinstance(potential, Shell) and not potential.can_split:
            raise ConfigError(
                "directed_sums: `potentials` must be shells or have a Fourier half of their own, "
                f"got {potential.name}. Use pair_sums, and differentiate it."
            )


def _combined(expansion: Expansion, found: Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
    """Return sums of the potentials, (n_pairs, q, components), from those of their terms."""
    flat = found.transpose(1, 2).reshape(-1, found.shape[1])
    values, bounds, _ = expansion.combine_all(flat, bound[None], np.array([1]))
    return values.view(found.shape[0], found.shape[2], -1).transpose(1, 2), bounds[0]


def _certify(bounds: Tensor, potentials: Sequence[Potential], tolerance: float) -> None:
    for bound, potential in zip(bounds.tolist(), potentials, strict=True):
        if not bound <= tolerance:
            raise ConfigError(
                f"`tolerance` must be at least {bound:.1e} for {potential.name} to be kept in "
                f"float64, got {tolerance:g}. Give a larger tolerance, or check for atoms that "
                "almost touch."
            )


def _crystal_sums(
    positions: Tensor, cell: Tensor, terms: Sequence[Potential], degree: int, tolerance: Array
) -> tuple[Tensor, Tensor]:
    """Return the sums of all pairs of one crystal, and a bound per term."""
    rows = cell.detach().cpu().numpy()
    check_cells(rows[None])
    positions, cell = near_positions(positions, cell)
    columns: list[Tensor] = []
    bounds: list[float] = []
    searched: dict[float, tuple[Tensor, Tensor]] = {}
    for p, potential in enumerate(terms):
        radii = _Radii.of(rows, len(positions), potential, degree, 0.5 * float(tolerance[p]))
        if radii.radius not in searched:
            searched[radii.radius] = images_within(positions, cell, radii.radius)
        images = searched[radii.radius]
        column, bound = _sums_of(positions, cell, images, potential, degree, radii)
        columns.append(column)
        bounds.append(bound)
    return torch.stack(columns, 1), positions.new_tensor(bounds)


def _sums_of(
    positions: Tensor,
    cell: Tensor,
    images: tuple[Tensor, Tensor],
    potential: Potential,
    degree: int,
    radii: _Radii,
) -> tuple[Tensor, float]:
    """Return the sums of one potential, and a bound of their error."""
    n_atoms = len(positions)
    pair, vectors = images
    squares = (vectors * vectors).sum(1)
    closest = float(squares.detach().min()) if len(squares) else math.inf
    if closest < SAME_SPOT**2:
        at = int(pair[squares.detach().argmin()])
        raise StructureError(
            f"atoms {at // n_atoms} and {at % n_atoms} must be {SAME_SPOT:g} Å apart or more, got "
            "less (periodic images included). Remove the duplicate atom."
        )
    alpha = positions.new_tensor(radii.alpha)
    if isinstance(potential, Shell):
        factors = potential.value(squares) / squares ** (degree / 2)
    elif radii.alpha:
        factors = 2**degree * _slope(lambda s: potential.short(s, alpha), squares, degree)
    else:
        factors = 2**degree * _slope(potential.value, squares, degree)
    terms = factors[:, None] * solid_harmonics(vectors, degree)
    total = terms.new_zeros(n_atoms**2, 2 * degree + 1).index_add(0, pair, terms)
    sizes = (factors.detach() * squares.detach() ** (degree / 2)).abs()
    short = total.detach().new_zeros(n_atoms**2).index_add(0, pair, sizes).max()
    count = float(torch.bincount(pair, minlength=1).max())
    # of the terms of a pair and their vectors (docs/theory.md, "Rounding")
    extent = 2 * float(positions.detach().abs().max()) + radii.radius
    steep = radii.slopes(potential, degree, math.sqrt(closest), float(short), count)
    rounding = (30 + 5 * math.sqrt(count)) * float(short) + 10 * steep * extent
    if radii.wave_radius:
        waves, size = _wave_sums(positions, cell, potential, degree, radii)
        total, rounding = total + waves, rounding + size
    return total, radii.bound + _ROUNDOFF * rounding


def _wave_sums(
    positions: Tensor, cell: Tensor, potential: Potential, degree: int, radii: _Radii
) -> tuple[Tensor, float]:
    """Return the sums over wave vectors, and their rounding error in units of roundoff."""
    alpha, volume = positions.new_tensor(radii.alpha), torch.linalg.det(cell).abs()
    k = 2 * math.pi * torch.from_numpy(radii.waves(cell)).to(cell) @ torch.linalg.inv(cell).T
    weights = 2 / volume * potential.fourier((k * k).sum(1), alpha)
    weights = weights[:, None] * solid_harmonics(k, degree)
    angles = positions @ k.T
    cosines, sines = angles.cos(), angles.sin()
    parts = []
    for weight in weights.T:
        if degree == 1:  # -sin k (r_j - r_i)
            half = (sines * weight) @ cosines.T
            parts.append(half - half.T)
        else:  # -cos k (r_j - r_i)
            parts.append(-((cosines * weight) @ cosines.T + (sines * weight) @ sines.T))
    long = float(weights.detach().abs().sum(0).max())
    extent = 2 * float(positions.detach().abs().max()) + radii.radius
    rounding = (10 + 5 * math.sqrt(len(k)) + 8 * extent * radii.wave_radius) * long
    return torch.stack(parts, -1).reshape(len(positions) ** 2, -1), rounding


def _slope(function: Callable[[Tensor], Tensor], squares: Tensor, degree: int) -> Tensor:
    """Return the ``degree``-th derivative of a function of r^2."""
    outer = torch.is_grad_enabled() and squares.requires_grad
    with torch.enable_grad():
        s = squares if outer else squares.detach().requires_grad_()
        value = function(s)
        for step in range(degree):
            if not value.requires_grad:  # a constant
                return torch.zeros_like(squares)
            keep = outer or step < degree - 1
            (value,) = torch.autograd.grad(value.sum(), s, create_graph=keep)
    return value


class _Radii(NamedTuple):
    """Where both halves of a derivative end, and the proved bound of what they leave out.

    Beyond R, r^l exp(-b (r^2 - R^2)) <= R^l exp(-(b - l / 2 R^2) (r^2 - R^2)): the tail of the sum
    itself (docs/theory.md, eq. 19) with a slower Gaussian. So too for wave vectors.

    Attributes:
        radius: Of the images, Å.
        alpha: Width of the split, 1/Å; 0 if the sum is over images alone.
        wave_radius: Of the wave vectors, 1/Å; 0 if there are none.
        bound: Of what is left out.
    """

    radius: float
    alpha: float
    wave_radius: float
    bound: float

    @classmethod
    def of(
        cls, cell: Array, n_atoms: int, potential: Potential, degree: int, budget: float
    ) -> _Radii:
        """Return the radii at which the sums of a crystal keep within the budget."""
        if isinstance(potential, Shell):
            return cls(float(potential.cutoff), 0.0, 0.0, 0.0)
        lengths = np.sort(gram_schmidt_lengths(reduced(cell)[None]))
        lattice = Lattice.from_lengths(lengths)
        recip = Lattice.from_lengths(2 * np.pi / lengths)
        radius = balanced_radius(lattice.volume, np.array([n_atoms]), budget)
        half = 0.5 * budget

        def short_tail(alpha: Array) -> float:
            a = torch.from_numpy(alpha)
            slope = _slope(lambda s: potential.short(s, a), torch.from_numpy(radius**2), degree)
            rate = alpha**2 - degree / (2 * radius**2)
            edge = 2**degree * np.abs(slope.numpy()) * radius**degree
            return _tail(lattice, edge, radius, rate)

        def wave_tail(k: Array) -> float:
            rate = 1 / (4 * alpha**2) - degree / (2 * k**2)
            edge = potential.fourier_bound(k, alpha) / lattice.volume * k**degree
            return _tail(recip, edge, k, rate)

        def whole_tail(r: Array) -> float:
            slope = _slope(potential.value, torch.from_numpy(r**2), degree)
            rate = potential.least_alpha**2 - degree / (2 * r**2)
            return _tail(lattice, 2**degree * np.abs(slope.numpy()) * r**degree, r, rate)

        if potential.least_alpha:  # one Gaussian, which is summed whole in either space
            far = _least(whole_tail, np.array([1 / potential.least_alpha]), budget)
            if (far < 1.4 * radius).all():
                return cls(float(far[0]), 0.0, 0.0, whole_tail(far))
        # A split much wider than the potential itself would be all underflow.
        least = max(potential.least_alpha, potential.decay / 20)
        alpha = _least(short_tail, np.maximum(1 / radius, least), half)
        k = _least(wave_tail, 2 * alpha, half)
        if not recip.most(k)[0] < MAX_VECTORS:
            raise StructureError(
                f"`cell` must need at most {MAX_VECTORS} wave vectors, got about "
                f"{recip.most(k)[0]:.3g} for {potential.name}. Give the cell in Å, or a larger "
                "tolerance."
            )
        return cls(float(radius[0]), float(alpha[0]), float(k[0]), short_tail(alpha) + wave_tail(k))

    def slopes(
        self, potential: Potential, degree: int, shortest: float, total: float, count: float
    ) -> float:
        """Bound the sum of the magnitudes of the terms' derivatives by r, over images of a pair.

        Args:
            potential: What is summed.
            degree: Of the harmonics.
            shortest: No image is nearer, Å.
            total: Sum of the magnitudes of the terms.
            count: Number of images.
        """
        if isinstance(potential, Shell):  # |d/ds exp(-s^2)| < 0.86, and the envelope's slope
            steepest = 0.86 / float(potential.width) + 6 / float(potential.cutoff)
            return count * steepest + 2 * degree / shortest * total
        near = (potential.order + 3 * degree) / shortest
        alpha = self.alpha or potential.least_alpha
        return (near + potential.decay + 2 * alpha**2 * self.radius) * total

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
