"""Where a sum may stop: radii and widths of a split that keep what is left out within a budget.

Arrays hold one entry per crystal, and no entry depends on another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesums.bounds import Lattice
from latticesums.errors import ConfigError
from latticesums.potentials.base import Potential

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Absolute tolerances a sum can be asked for.
TOLERANCE_RANGE = (1e-12, 1e-2)
# Measured times in ns of both halves in sums over charges, an image of a pair, a wave of an atom.
_IMAGE_OF_PAIR, _WAVE_OF_ATOM = 45.0, 5.0
_FARTHEST = 1e6  # Å; a potential that reaches farther is not summed directly


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
class Halves:
    """Where both halves of each potential end, and what is left out beyond.

    Attributes:
        radius: Images are summed up to this distance, Å, shape (n_graphs,).
        wave_radius: Wave vectors are summed up to this length, 1/Å; 0 where nothing is split.
        alpha: Inverse widths of the split, 1/Å, 0 where a potential is summed directly, shape
            (n_graphs, n_potentials).
        quadrature: Nodes of the long half of wires and slabs; None for others.
        truncation: Proven bounds of what is left out, shape (n_graphs, n_potentials).
    """

    radius: Array
    wave_radius: Array
    alpha: Array
    quadrature: Quadrature | None
    truncation: Array


def check_tolerance(tolerance: float) -> float:
    """Return the tolerance as a number, or raise unless a sum can be asked for with it."""
    low, high = TOLERANCE_RANGE
    try:
        number = float(tolerance)
    except (TypeError, ValueError, RuntimeError):  # not a number, or more than one
        number = math.nan
    if not low <= number <= high:
        raise ConfigError(
            f"lattice sums: `tolerance` must lie between {low:g} and {high:g}, got {tolerance}. "
            "Give an absolute error in that range, for example 1e-8."
        )
    return number


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


def balanced_radius_of_charges(cells: Array, n_atoms: NDArray[np.int64], tolerance: float) -> Array:
    """Return the radius (Å) at which images of pairs and waves of atoms cost the same (eq. 22)."""
    product = 8.75 * (math.log(1 / tolerance) + 1) ** 3 / math.pi**3
    images = np.sqrt(product * _WAVE_OF_ATOM * n_atoms / (_IMAGE_OF_PAIR * 0.5 * n_atoms**2))
    volume = np.abs(np.linalg.det(cells))
    return (3 * volume * np.clip(images, 0.02, 200) / (4 * math.pi)) ** (1 / 3)


def share_of_charges(charges: Array, tolerance: float) -> tuple[float, float]:
    """Return the tolerance of a sum of a pair, and how much its error counts in the energy."""
    weight = 0.5 * float(np.abs(charges).sum()) ** 2
    share = min(tolerance / max(weight, 1e-300), TOLERANCE_RANGE[1])
    if not share >= TOLERANCE_RANGE[0]:
        raise ConfigError(
            f"`tolerance` must be at least {weight * TOLERANCE_RANGE[0]:.1e} for these charges, "
            f"got {tolerance:g}. Give a larger tolerance."
        )
    return share, weight


def direct_radius(potential: Potential, lattice: Lattice, budget: Array) -> Array:
    """Return the radius that sums ``potential`` without a split; infinite if none does."""

    def tail(radius: Array) -> Array:
        bound = potential.direct_tail(lattice, radius)
        return np.full_like(radius, np.inf) if bound is None else bound

    low, high = np.zeros_like(lattice.volume), np.ones_like(lattice.volume)
    while (short := ~(tail(high) <= budget) & (high < _FARTHEST)).any():
        low, high = np.where(short, high, low), np.where(short, 2 * high, high)
    never = ~(tail(high) <= budget)
    for _ in range(12):
        middle = 0.5 * (low + high)
        enough = tail(middle) <= budget
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(never, np.inf, high)


def short_tail(potential: Potential, lattice: Lattice, radius: Array, alpha: Array) -> Array:
    """Bound what images beyond ``radius`` add (eq. 19)."""
    return lattice.gaussian_tail(potential.short_bound(radius, alpha), radius, alpha**2)


def wave_tail(
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


def solve_wave_radius(
    potential: Potential, lattice: Lattice, waves: Lattice, alpha: Array, budget: Array
) -> Array:
    """Return a small wave number beyond which wave vectors add at most ``budget``."""
    y = solve_gaussian(
        lambda y: wave_tail(potential, lattice, waves, 2 * alpha * np.sqrt(y), alpha), budget
    )
    return 2 * alpha * np.sqrt(y)


def solve_gaussian(tail: Callable[[Array], Array], budget: Array) -> Array:
    """Return y with ``tail(y) <= budget``, about as small as possible, for tails ~ exp(-y)."""
    y = np.maximum(np.log(1 / budget) + 2, 0.5)
    for _ in range(4):
        # The prefactors shrink with y too, so this step lands a little beyond the solution.
        y = np.maximum(y + np.log(np.maximum(tail(y) / budget, 1e-9)), 0.5)
    while (short := tail(y) > budget).any():
        y = np.where(short, y * 1.01 + 0.02, y)
    return y
