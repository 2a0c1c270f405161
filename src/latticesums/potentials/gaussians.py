"""Potentials of a width of their own: a Gaussian about the atom, and a shell around it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from latticesums.potentials.base import (
    Array,
    Potential,
    Scalar,
    as_number,
    require_number,
    require_positive,
)

if TYPE_CHECKING:
    from latticesums.bounds import Lattice


@dataclass(frozen=True, eq=False)
class Gaussian(Potential):
    """V(r) = exp(-(r / width)^2), without unit.

    A single Gaussian has no halves: it is summed whole, over lattice vectors where it is narrow
    and over wave vectors, where it is a Gaussian too, where it is wide.

    Args:
        width: Distance at which it is 1/e, Å, larger than 0; may be a tensor to be
            differentiated in.

    Raises:
        ConfigError: If ``width`` is not a positive number.
    """

    width: Scalar

    def __post_init__(self) -> None:
        require_positive("Gaussian", "width", self.width)

    @property
    def name(self) -> str:
        return f"gaussian({as_number(self.width):g})"

    @property
    def least_alpha(self) -> float:
        return 1 / as_number(self.width)

    def slope_tails(self, lattice: Lattice, radius: Array) -> tuple[Array, Array]:
        b = self.least_alpha**2
        steep = 2 * b * radius * np.exp(-b * radius**2)
        found = []
        for edge, slower in ((steep, 0.5), (steep * radius, 1.0)):  # (eq. 33)
            rate = b - slower / radius**2
            tail = lattice.gaussian_tail(edge, radius, np.where(rate > 0, rate, 1.0))
            found.append(np.where(rate > 0, tail, np.inf))
        return found[0], found[1]

    def parameter_slope(self, radius: Array) -> Array:
        return 2 * radius**2 / as_number(self.width) ** 3

    def value(self, r2: Tensor) -> Tensor:
        return (-r2 / (self.width * self.width)).exp()

    def direct_tail(self, lattice: Lattice, radius: Array) -> Array:
        b = np.full_like(radius, as_number(self.width) ** -2)
        return lattice.gaussian_tail(np.exp(-b * radius**2), radius, b)

    def short(self, r2: Tensor, alpha: Tensor) -> Tensor:
        return torch.zeros_like(r2)

    def fourier(self, k2: Tensor, alpha: Tensor) -> Tensor:
        square = self.width * self.width
        return math.pi**1.5 * square * self.width * (-k2 * square / 4).exp()  # eq. 15

    def value_and_slope(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        value = self.value(r2)
        return value, value * (-1 / (self.width * self.width))

    def fourier_and_slope(self, k2: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        fourier = self.fourier(k2, alpha)
        return fourier, fourier * (-0.25 * self.width * self.width)

    def fourier_at_zero(self, alpha: Tensor) -> Tensor:
        return self.fourier(torch.zeros_like(alpha), alpha)

    def long_at_zero(self, alpha: Tensor) -> Tensor:
        return torch.ones_like(alpha)

    def short_bound(self, r: Array, alpha: Array) -> Array:
        return np.zeros_like(r)

    def fourier_bound(self, k: Array, alpha: Array) -> Array:
        width = as_number(self.width)
        return math.pi**1.5 * width**3 * np.exp(-((k * width / 2) ** 2))

    def slope_sum(
        self, total: Array, count: Array, shortest: Array, radius: Array, alpha: Array
    ) -> Array:
        return total * 2 * radius / as_number(self.width) ** 2


@dataclass(frozen=True, eq=False)
class Shell(Potential):
    """V(r) = exp(-((r - center) / width)^2) (1 - (r / cutoff)^2)^3 within ``cutoff``, else 0.

    A soft count of neighbours at a distance; twice continuously differentiable, no tail at all.

    Args:
        center: Distance of the largest weight, Å, not negative.
        width: Width of the Gaussian, Å, larger than 0.
        cutoff: Distance from which the potential is 0, Å, larger than 0. All three may be tensors
            to be differentiated in.

    Raises:
        ConfigError: If a number is out of range.
    """

    center: Scalar
    width: Scalar
    cutoff: Scalar

    def __post_init__(self) -> None:
        require_number("Shell", "center", self.center, least=0)
        require_positive("Shell", "width", self.width)
        require_positive("Shell", "cutoff", self.cutoff)

    @property
    def name(self) -> str:
        center, width, cutoff = (
            as_number(self.center),
            as_number(self.width),
            as_number(self.cutoff),
        )
        return f"shell({center:g}, {width:g}, {cutoff:g})"

    @property
    def can_split(self) -> bool:
        return False

    def in_float32(self, is_split: bool) -> bool:
        return False

    @property
    def underflows(self) -> bool:
        center, width, cutoff = (as_number(x) for x in (self.center, self.width, self.cutoff))
        return max(center, cutoff - center) > 24 * width  # exp(-24^2) 1e-47 is large enough

    def value(self, r2: Tensor) -> Tensor:
        envelope = (1 - r2 / self.cutoff**2).clamp(min=0)
        offset = (r2.sqrt() - self.center) / self.width
        return (-offset * offset).exp() * (envelope * envelope * envelope)

    def value_and_slope(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        inverse = 1 / self.cutoff**2
        envelope = (1 - r2 * inverse).clamp(min=0)
        r = r2.sqrt()
        offset = (r - self.center) / self.width
        part = (-offset * offset).exp() * (envelope * envelope)
        value = part * envelope
        return value, -value * offset / (self.width * r) - 3 * inverse * part

    def direct_tail(self, lattice: Lattice, radius: Array) -> Array:
        return np.where(radius >= as_number(self.cutoff), 0.0, np.inf)

    def slope_tails(self, lattice: Lattice, radius: Array) -> tuple[Array, Array]:
        tail = self.direct_tail(lattice, radius)
        return tail, tail

    def slope_sum(
        self, total: Array, count: Array, shortest: Array, radius: Array, alpha: Array
    ) -> Array:
        # |d/ds exp(-s^2)| < 0.86 and the envelope's slope is at most 6 / cutoff
        return count * (0.86 / as_number(self.width) + 6 / as_number(self.cutoff))


@dataclass(frozen=True, eq=False)
class CutOff(Potential):
    """V(r) (1 - (r / cutoff)^2)^3 within ``cutoff``, else 0: a potential without its tail.

    What a sum over all images is to be compared with: the same potential near by, nothing far off.

    Args:
        potential: The potential V(r), no combination.
        cutoff: Distance from which it is 0, Å, larger than 0.

    Raises:
        ConfigError: If the cutoff is out of range.
    """

    potential: Potential
    cutoff: float

    def __post_init__(self) -> None:
        require_positive("CutOff", "cutoff", self.cutoff)

    @property
    def name(self) -> str:
        return f"{self.potential.name} to {self.cutoff:g}"

    @property
    def order(self) -> float:
        return self.potential.order

    @property
    def can_split(self) -> bool:
        return False

    def value(self, r2: Tensor) -> Tensor:
        envelope = (1 - r2 / self.cutoff**2).clamp(min=0)
        return self.potential.value(r2) * (envelope * envelope * envelope)

    def direct_tail(self, lattice: Lattice, radius: Array) -> Array:
        return np.where(radius >= self.cutoff, 0.0, np.inf)

    def slope_tails(self, lattice: Lattice, radius: Array) -> tuple[Array, Array]:
        tail = self.direct_tail(lattice, radius)
        return tail, tail

    def slope_sum(
        self, total: Array, count: Array, shortest: Array, radius: Array, alpha: Array
    ) -> Array:
        # |(V e)'| <= |V'| + 6 V / cutoff: the envelope's slope is at most 6 / cutoff
        near = self.potential.value(torch.as_tensor(shortest) ** 2).numpy()
        slope = max(self.order, 1.0) / shortest + self.potential.decay + 6 / self.cutoff
        return count * near * slope
