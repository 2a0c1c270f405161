"""Bounds of the errors of first derivatives, by positions and by strain (docs/theory.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latticesums.bounds import Lattice
from latticesums.errors import ConfigError
from latticesums.inputs import Crystals
from latticesums.neighbours import images_within, near_positions
from latticesums.plan import Plan, make_plan
from latticesums.potentials import Expansion, Potential, Shell

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_ROUNDOFF = 2.0**-53


class DerivativeBounds(NamedTuple):
    """Bounds of the errors of first derivatives of sums in each crystal.

    Attributes:
        positions: Of the gradient of a sum by the position of an atom, its length in 1/Å times the
            unit of the sum, shape (n_graphs, n_potentials).
        strain: Of each component of the derivative by strain, in the unit of the sum.
    """

    positions: Array
    strain: Array


def derivative_bounds(
    crystals: Crystals, potentials: Sequence[Potential], tolerance: float
) -> DerivativeBounds:
    """Return the bounds of what autograd finds of sums that keep ``tolerance``.

    Truncation is proved: what is left out of a derivative are the derivatives of what is left out
    of the sum. Rounding is an allowance, and a generous one.

    Raises:
        ConfigError: If a crystal does not repeat in three directions.
    """
    if not crystals.pbc.all():
        raise ConfigError(
            "pair_sums: `bound_derivatives` must be False unless three directions repeat, got "
            "True. Ask for a smaller tolerance instead."
        )
    expansion = Expansion.of(potentials, crystals.positions.device)
    cells = crystals.cells.detach().cpu().numpy()
    share = expansion.shares(np.ones((len(cells), len(potentials))))
    plan = make_plan(cells, crystals.n_atoms, expansion.terms, tolerance, share)
    closest = _closest(crystals, plan)
    sizes = expansion.coefficients.detach().abs().cpu().numpy()
    gradients, strains = np.zeros(share.shape), np.zeros(share.shape)
    for p, potential in enumerate(expansion.terms):
        cut = _truncation(potential, plan, p)
        noise = _rounding(potential, plan, p, closest)
        gradients[:, p], strains[:, p] = cut[0] + noise[0], cut[1] + noise[1]
    return DerivativeBounds(gradients @ sizes, strains @ sizes)


def _closest(crystals: Crystals, plan: Plan) -> Array:
    """Return the smallest distance of atoms and images within the radius, or it, (n_graphs,)."""
    found, start = [], 0
    for graph, n in enumerate(crystals.n_atoms.tolist()):
        own = crystals.positions[start : start + n].detach()
        start += n
        radius = float(plan.radius[graph])
        _, vectors = images_within(*near_positions(own, crystals.cells[graph].detach()), radius)
        lengths = vectors.norm(dim=1)
        found.append(float(lengths.min()) if len(lengths) else radius)
    return np.array(found)


def _truncation(potential: Potential, plan: Plan, p: int) -> tuple[Array, Array]:
    """Bound what images and waves left out add to both derivatives."""
    radius, k, alpha = plan.radius, plan.wave_radius, plan.alpha[:, p]
    direct = potential.slope_tails(plan.lattice, radius)
    is_split = alpha > 0
    if not is_split.any():
        return direct
    a = np.where(is_split, alpha, 1.0)
    k = np.where(is_split, k, 1.0)
    width = torch.from_numpy(a)
    steep = 2 * radius * np.abs(_slope(lambda s: potential.short(s, width), radius**2))
    gradient = _tail(plan.lattice, steep, radius, a**2 - 0.5 / radius**2)
    strain = _tail(plan.lattice, radius * steep, radius, a**2 - 1 / radius**2)
    rate = 1 / (4 * a**2)
    wave = potential.fourier_bound(k, a) / plan.lattice.volume
    fall = 2 * k**2 * np.abs(_slope(lambda s: potential.fourier(s, width), k**2))
    gradient = gradient + _tail(plan.waves, k * wave, k, rate - 0.5 / k**2)
    strain = strain + _tail(plan.waves, wave, k, rate)
    strain = strain + _tail(plan.waves, fall / plan.lattice.volume, k, rate - 1 / k**2)
    return np.where(is_split, gradient, direct[0]), np.where(is_split, strain, direct[1])


def _slope(function: Callable[[Tensor], Tensor], squares: Array) -> Array:
    """Return the derivative of a function at each of some numbers."""
    with torch.enable_grad():
        s = torch.from_numpy(squares).requires_grad_()
        value = function(s)
        if not value.requires_grad:  # a Gaussian has no short half
            return np.zeros_like(squares)
        return torch.autograd.grad(value.sum(), s)[0].numpy()


def _tail(lattice: Lattice, edge: Array, start: Array, rate: Array) -> Array:
    """Bound a sum of Gaussians that begin at ``edge``; infinite where they do not fall."""
    tail = lattice.gaussian_tail(edge, start, np.where(rate > 0, rate, 1.0))
    return np.where((rate > 0) | (edge == 0), tail, np.inf)


def _rounding(potential: Potential, plan: Plan, p: int, closest: Array) -> tuple[Array, Array]:
    """Return an allowance for rounding in both derivatives, to first order.

    Every image counts as if it were the nearest, and every wave as if it were the shortest.
    """
    alpha, radius, k = plan.alpha[:, p], plan.radius, plan.wave_radius
    nearest = torch.from_numpy(closest**2)
    split = np.where(alpha > 0, alpha, 1.0)
    half = np.where(
        alpha > 0,
        potential.short(nearest, torch.from_numpy(split)).numpy() if potential.can_split else 0.0,
        potential.value(nearest).numpy(),
    )
    if isinstance(potential, Shell):  # it is not the nearest image that counts most
        half = np.ones_like(radius)
    count, n_waves = plan.lattice.most(radius) + 1, plan.waves.most(k)
    steep = (potential.order + 3) / closest + 2 * alpha**2 * radius + potential.decay
    steep = steep + 2 * radius * potential.least_alpha**2
    if isinstance(potential, Shell):
        steep = steep + 2 / float(potential.width) + 6 / float(potential.cutoff)
    total = count * np.abs(half) * steep
    units = 30 + 4 * potential.order + 5 * np.sqrt(count) + 2 * (plan.reach + radius) * steep
    gradient, strain = units * total, units * total * radius
    if potential.can_split and (alpha > 0).any():
        shortest = 2 * np.pi / np.linalg.norm(plan.basis, axis=2).max(1)
        size = potential.fourier_bound(shortest, split) / plan.lattice.volume * n_waves
        size = np.where(alpha > 0, size, 0.0)
        phases = 20 + 5 * np.sqrt(n_waves) + 16 * plan.reach * k
        zero = potential.fourier_at_zero(torch.from_numpy(split)).abs().numpy()
        flat = np.where(alpha > 0, zero / plan.lattice.volume, 0.0)
        gradient = gradient + phases * size * k
        strain = strain + phases * size * (4 + k**2 / (2 * split**2)) + 40 * flat
    return _ROUNDOFF * gradient, _ROUNDOFF * strain
