"""Exponentials of the distance, bare and over the distance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from latticesums.bounds import exponential_tail
from latticesums.potentials.base import (
    Array,
    Mixture,
    Potential,
    Scalar,
    as_number,
    require_positive,
)

if TYPE_CHECKING:
    from latticesums.bounds import Lattice


def _two_tails(rate: Scalar, r2: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return exp(-a r) erfc(x - h), exp(a r) erfc(x + h) and exp(-x^2 - h^2) of eqs. 11 and 13."""
    x = alpha * r2.sqrt()
    h = rate / (2 * alpha)
    gauss = (-(x * x) - h * h).exp()
    return torch.special.erfcx(x - h) * gauss, torch.special.erfcx(x + h) * gauss, gauss


@dataclass(frozen=True, eq=False)
class Exponential(Potential):
    """V(r) = exp(-rate r), without unit.

    Summed directly where it falls off within a few images, split like the powers where not.

    Args:
        rate: Decay in 1/Å, larger than 0; may be a tensor to be differentiated in.

    Raises:
        ConfigError: If ``rate`` is not a positive number.
    """

    rate: Scalar

    def __post_init__(self) -> None:
        require_positive("Exponential", "rate", self.rate)

    @property
    def name(self) -> str:
        return f"exp(-{as_number(self.rate):g} r)"

    @property
    def decay(self) -> float:
        return as_number(self.rate)

    @property
    def mixture(self) -> Mixture:
        return Mixture(self.rate / (2 * math.sqrt(math.pi)), -0.5, self.rate)

    def slope_tails(self, lattice: Lattice, radius: Array) -> tuple[Array, Array]:
        # r exp(-a r) falls from R on like exp(-(a - 1/R) r), or slower if a R <= 1
        slower = self.decay - 1 / radius
        falls = slower > 0
        rate = np.where(falls, slower, 1.0)
        tail = exponential_tail(lattice, radius, rate) * np.exp((rate - self.decay) * radius)
        strain = np.where(falls, self.decay * radius * tail, np.inf)
        return self.decay * lattice.exponential_tail(radius, self.decay), strain

    def parameter_slope(self, radius: Array) -> Array:
        return radius  # d exp(-a r) / da = -r exp(-a r)

    def value(self, r2: Tensor) -> Tensor:
        return (-self.rate * r2.sqrt()).exp()

    def direct_tail(self, lattice: Lattice, radius: Array) -> Array:
        return lattice.exponential_tail(radius, self.decay)

    def short(self, r2: Tensor, alpha: Tensor) -> Tensor:
        x = alpha * r2.sqrt()
        h = self.rate / (2 * alpha)
        difference = torch.special.erfcx(x - h) - torch.special.erfcx(x + h)
        return 0.5 * (-(alpha * alpha * r2) - h * h).exp() * difference  # eq. 11

    def value_and_slope(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        r = r2.sqrt()
        value = (-self.rate * r).exp()
        return value, (-0.5 * self.rate) * value / r

    def short_and_slope(self, r2: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        near, far = _two_tails(self.rate, r2, alpha)[:2]
        return 0.5 * (near - far), (-0.25 * self.rate) * (near + far) / r2.sqrt()

    def fourier_and_slope(self, k2: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        s = self.rate**2 + k2
        q = s / (4 * alpha * alpha)
        common = 8 * math.pi * self.rate * (-q).exp() / (s * s)
        return common * (1 + q), -common * (q * q + 2 * (1 + q)) / s

    def fourier(self, k2: Tensor, alpha: Tensor) -> Tensor:
        s = self.rate**2 + k2
        q = s / (4 * alpha * alpha)
        return 8 * math.pi * self.rate * (1 + q) * (-q).exp() / (s * s)  # eq. 12

    def fourier_at_zero(self, alpha: Tensor) -> Tensor:
        return self.fourier(torch.zeros_like(alpha), alpha)

    def long_at_zero(self, alpha: Tensor) -> Tensor:
        return torch.special.erfc(self.rate / (2 * alpha))

    def short_bound(self, r: Array, alpha: Array) -> Array:
        # half exp(-a r) erfc(z), z = x - h, and erfc(z) <= exp(-z^2) min(1, 1 / (z sqrt(pi)))
        z = alpha * r - self.decay / (2 * alpha)
        positive = np.maximum(z, 1e-300)
        erfc = np.exp(-(positive**2)) * np.minimum(1, 1 / (positive * math.sqrt(math.pi)))
        return np.exp(-self.decay * r) * np.where(z > 0, 0.5 * erfc, 1.0)

    def fourier_bound(self, k: Array, alpha: Array) -> Array:
        s = self.decay**2 + k**2
        q = s / (4 * alpha * alpha)
        return 8 * math.pi * self.decay * (1 + q) * np.exp(-q) / (s * s)


class Pauli(Exponential):
    """V(r) = exp(-3 r / Å), without unit: the overlap of closed shells."""

    def __init__(self) -> None:
        super().__init__(3.0)

    @property
    def name(self) -> str:
        return "pauli"


@dataclass(frozen=True, eq=False)
class Yukawa(Potential):
    """V(r) = exp(-rate r) / r in 1/Å: a screened Coulomb potential. Needs no background.

    Args:
        rate: Decay in 1/Å, larger than 0; may be a tensor to be differentiated in.

    Raises:
        ConfigError: If ``rate`` is not a positive number.
    """

    rate: Scalar

    def __post_init__(self) -> None:
        require_positive("Yukawa", "rate", self.rate)

    @property
    def name(self) -> str:
        return f"exp(-{as_number(self.rate):g} r)/r"

    @property
    def order(self) -> float:
        return 1.0

    @property
    def decay(self) -> float:
        return as_number(self.rate)

    @property
    def mixture(self) -> Mixture:
        return Mixture(1 / math.sqrt(math.pi), 0.5, self.rate)

    def slope_tails(self, lattice: Lattice, radius: Array) -> tuple[Array, Array]:
        steep = (self.decay + 1 / radius) * lattice.exponential_tail(radius, self.decay)
        return steep / radius, steep

    def parameter_slope(self, radius: Array) -> Array:
        return radius  # d exp(-a r) / da = -r exp(-a r)

    def value(self, r2: Tensor) -> Tensor:
        r = r2.sqrt()
        return (-self.rate * r).exp() / r

    def direct_tail(self, lattice: Lattice, radius: Array) -> Array:
        return lattice.exponential_tail(radius, self.decay) / radius

    def short(self, r2: Tensor, alpha: Tensor) -> Tensor:
        r = r2.sqrt()
        x = alpha * r
        h = self.rate / (2 * alpha)
        total = torch.special.erfcx(x - h) + torch.special.erfcx(x + h)
        return 0.5 * (-x * x - h * h).exp() * total / r  # eq. 13

    def value_and_slope(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        r = r2.sqrt()
        value = (-self.rate * r).exp() / r
        return value, -0.5 * value * (self.rate * r + 1) / r2

    def short_and_slope(self, r2: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        near, far, gauss = _two_tails(self.rate, r2, alpha)
        r = r2.sqrt()
        short = 0.5 * (near + far) / r
        steep = self.rate * (near - far) + 4 / math.sqrt(math.pi) * alpha * gauss
        return short, -(0.5 * short + 0.25 * steep) / r2

    def fourier_and_slope(self, k2: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        s = self.rate**2 + k2
        quarter = 1 / (4 * alpha * alpha)
        fourier = 4 * math.pi * (-s * quarter).exp() / s
        return fourier, -fourier * (quarter + 1 / s)

    def fourier(self, k2: Tensor, alpha: Tensor) -> Tensor:
        s = self.rate**2 + k2
        return 4 * math.pi * (-s / (4 * alpha * alpha)).exp() / s  # eq. 14

    def fourier_at_zero(self, alpha: Tensor) -> Tensor:
        return self.fourier(torch.zeros_like(alpha), alpha)

    def long_at_zero(self, alpha: Tensor) -> Tensor:
        h = self.rate / (2 * alpha)
        gauss = 2 / math.sqrt(math.pi) * alpha * (-h * h).exp()
        return gauss - self.rate * torch.special.erfc(h)

    def short_bound(self, r: Array, alpha: Array) -> Array:
        # erfc(x + h) exp(a r) <= exp(-x^2 - h^2) <= the Gaussian factor of the lemma
        x, h = alpha * r, self.decay / (2 * alpha)
        half = Exponential(self.decay).short_bound(r, alpha)
        return (half + 0.5 * np.exp(-(x**2) - h**2)) / r

    def fourier_bound(self, k: Array, alpha: Array) -> Array:
        s = self.decay**2 + k**2
        return 4 * math.pi * np.exp(-s / (4 * alpha * alpha)) / s
