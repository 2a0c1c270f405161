"""Inverse powers of the distance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from latticesums.errors import ConfigError
from latticesums.potentials.base import Array, Mixture, Potential, require_positive

if TYPE_CHECKING:
    from latticesums.bounds import Lattice


def upper_gamma_bound(s: float, y: Array) -> Array:
    """Return numbers not smaller than the upper incomplete gamma function (s real, y > 0).

    exp(-y) y^(s-1) for s <= 1 and y^s exp(-y) / (y - s + 1) for y > s - 1 > 0 (eq. 21); infinite
    where neither holds.
    """
    if s <= 1:
        return np.exp(-y) * y ** (s - 1)
    gap = y - (s - 1)
    return np.where(gap > 0, np.exp(-y) * y**s / np.where(gap > 0, gap, 1), np.inf)


class _ExponentialIntegral(torch.autograd.Function):
    """E_n(y) for real n from 0.5 to 1.5; its derivative follows from its recursion in n."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, n: float) -> Tensor:
        # Below 2: Gamma(-d) y^d - sum over k of (-y)^k / (k! (k - d)), n = 1 + d, where the terms
        # with 1/d are joined to -(exp(d z) - 1) / d  (after eq. 8)
        d = n - 1
        low = y.clamp(max=2.0)
        z = low.log() + _log_gamma_slope(d)
        series = -torch.expm1(d * z) / d if d else -z
        term = torch.ones_like(low)
        for k in range(1, 31):  # 2^30 / 30! / 30 < 2e-25
            term = term * (-low / k)
            series = series - term * (1 / (k - d) if d else 1 / k)
        # above: Legendre's continued fraction, from its tail
        high = y.clamp(min=2.0)
        fraction = torch.zeros_like(high)
        for k in range(80, 0, -1):
            fraction = k * (n - 1 + k) / (high + (n + 2 * k) - fraction)
        ctx.save_for_backward(y)
        ctx.n = n
        return torch.where(y < 2, series, (-high).exp() / (high + n - fraction))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        before = (-y).exp()  # y E_(n-1)(y), to the next line
        if ctx.n != 1:
            before = before - (ctx.n - 1) * exponential_integral(y, ctx.n)
        return -grad_outputs[0] * before / y, None


def _log_gamma_slope(d: float) -> float:
    """Return log(Gamma(1 - d)) / d for |d| <= 0.5, also at and near 0."""
    powers = torch.arange(2, 64, dtype=torch.float64)
    zeta = torch.special.zeta(powers, torch.ones_like(powers))
    return np.euler_gamma + float((zeta * d ** (powers - 1) / powers).sum())


def exponential_integral(y: Tensor, n: float = 1.0) -> Tensor:
    """Return E_n(y), the integral of exp(-y t) t^-n over t > 1, for 0.5 <= n <= 1.5 and y > 0."""
    return _ExponentialIntegral.apply(y, n)  # pyright: ignore[reportReturnType]


def _is_integer(x: float) -> bool:
    return x == int(x)


#: Powers beyond this are summed directly: few images count, and split halves would overflow.
_LARGEST_SPLIT = 30


def _power(r2: Tensor, p: float) -> Tensor:
    """Return r^-p from r^2, by multiplications where p is a small integer."""
    if not _is_integer(p) or p > 16:
        return r2 ** (-0.5 * p)
    half, odd = divmod(int(p), 2)
    if odd:
        root = r2.rsqrt()
        return root if half == 0 else root * r2.reciprocal() ** half
    return r2.reciprocal() ** half


@dataclass(frozen=True, eq=False)
class InversePower(Potential):
    """V(r) = r^-exponent, in Å^-exponent, for every real exponent > 0.

    Below 3 the sum over a crystal is its analytic continuation in the exponent, which for 1 equals
    the potential of unit charges in a uniform neutralising background. At 3 the continuation has a
    pole, and the sum over a crystal is refused; those over slabs, wires and clusters are not.

    Args:
        exponent: Power of the distance. No derivative with respect to it is offered.

    Raises:
        ConfigError: If ``exponent`` is not larger than 0, or a tensor.
    """

    exponent: float

    def __post_init__(self) -> None:
        if isinstance(self.exponent, Tensor):
            raise ConfigError(
                "InversePower: `exponent` must be a number, since no derivative with respect to "
                "it is offered, got a tensor. Give its float."
            )
        require_positive("InversePower", "exponent", self.exponent)

    @property
    def name(self) -> str:
        return f"r^-{self.exponent:g}"

    @property
    def order(self) -> float:
        return self.exponent

    @property
    def can_split(self) -> bool:
        return self.exponent <= _LARGEST_SPLIT

    @property
    def mixture(self) -> Mixture | None:
        half = self.exponent / 2
        return Mixture(1 / math.gamma(half), half) if self.can_split else None

    def in_float32(self, is_split: bool) -> bool:
        return not is_split or _is_integer(self.exponent)

    def value(self, r2: Tensor) -> Tensor:
        return _power(r2, self.exponent)

    def direct_tail(self, lattice: Lattice, radius: Array) -> Array | None:
        return self.direct_sum(lattice, radius) if self.exponent > 3 else None

    def direct_sum(self, lattice: Lattice, radius: Array) -> Array:
        p = self.exponent
        if p <= 3:
            return np.full_like(radius, np.inf)
        return lattice.power_tail(radius, p)

    def slope_tails(self, lattice: Lattice, radius: Array) -> tuple[Array, Array]:
        strain = self.exponent * self.direct_sum(lattice, radius)
        return strain / radius, strain

    def short(self, r2: Tensor, alpha: Tensor) -> Tensor:
        # Q(p/2, x^2) / r^p, with Q(s+1, y) = Q(s, y) + y^s exp(-y) / Gamma(s+1)  (eq. 5)
        p = self.exponent
        if p == 1:
            r = r2.sqrt()
            return torch.special.erfc(alpha * r) / r
        y = alpha * alpha * r2
        if not _is_integer(p):
            return torch.special.gammaincc(torch.full_like(y, p / 2), y) * _power(r2, p)
        if int(p) % 2 == 0:
            n = int(p) // 2
            poly = y / (n - 1) + 1 if n > 1 else torch.ones_like(y)
            for j in range(n - 2, 0, -1):
                poly = poly * (y / j) + 1
            return (-y).exp() * poly * _power(r2, p)
        n = int(p) // 2
        poly = y / (n - 0.5) + 1 if n > 1 else torch.ones_like(y)
        for j in range(n - 2, 0, -1):
            poly = poly * (y / (j + 0.5)) + 1
        x = y.sqrt()
        tail = (2 / math.sqrt(math.pi)) * x * (-y).exp() * poly
        return (torch.special.erfc(x) + tail) * _power(r2, p)

    def fourier(self, k2: Tensor, alpha: Tensor) -> Tensor:
        # pi^(3/2) alpha^(p-3) / Gamma(p/2) * G_p(b), b = k / (2 alpha), where
        # G_p(b) = b^(p-3) Gamma((3-p)/2, b^2) = E_((p-1)/2)(b^2) obeys
        # G_p = 2 (exp(-b^2) - b^2 G_(p-2)) / (p-3), whose terms are all bounded  (eqs. 6 and 7)
        p = self.exponent
        y = k2 / (4 * alpha * alpha)
        gauss = (-y).exp()
        start, g = self._first_g(p, y, gauss)
        while start < p - 1:
            start += 2
            g = 2 / (start - 3) * (gauss - y * g)
        return math.pi**1.5 / math.gamma(p / 2) * alpha ** (p - 3) * g

    def value_and_slope(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        value = self.value(r2)
        return value, (-0.5 * self.exponent) * value / r2

    def short_and_slope(self, r2: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        # the derivative of Q(p/2, y) is -y^(p/2 - 1) exp(-y) / Gamma(p/2)
        p = self.exponent
        short = self.short(r2, alpha)
        edge = ((-(alpha * alpha)) * r2).exp_().mul_(alpha**p / math.gamma(p / 2))
        return short, ((-0.5 * p) * short).sub_(edge).div_(r2)

    def fourier_and_slope(self, k2: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        # the derivative of E_v(y) is -E_(v-1)(y), which is G_(p-2) of eq. 7
        p = self.exponent
        factor = math.pi**1.5 / math.gamma(p / 2) * alpha ** (p - 3)
        fourier = self.fourier(k2, alpha)
        gauss = (-k2).div_(4 * alpha * alpha).exp_().mul_(factor)
        return fourier, (0.5 * (p - 3) * fourier).sub_(gauss).div_(k2)

    @staticmethod
    def _first_g(p: float, y: Tensor, gauss: Tensor) -> tuple[float, Tensor]:
        """Return where the recursion for G_p starts, and its value there."""
        if p == 1:
            return 1, gauss / y
        if p < 2:
            s = (3 - p) / 2
            return p, math.gamma(s) * torch.special.gammaincc(torch.full_like(y, s), y) * y**-s
        start = p - 2 * math.floor((p - 2) / 2)  # between 2 and 4, so that start - 1 is not small
        if start == 2:
            b = y.sqrt()
            return 2, math.sqrt(math.pi) * torch.special.erfc(b) / b
        return start, exponential_integral(y, (start - 1) / 2)

    def fourier_at_zero(self, alpha: Tensor) -> Tensor:
        p = self.exponent  # eq. 9
        if p == 3:
            raise ConfigError(
                "InversePower: `exponent` must not be 3, where the sum over a three-dimensional "
                "lattice has a pole, got 3. Use another exponent."
            )
        return 2 * math.pi**1.5 / (math.gamma(p / 2) * (p - 3)) * alpha ** (p - 3)

    def long_at_zero(self, alpha: Tensor) -> Tensor:
        return alpha**self.exponent / math.gamma(self.exponent / 2 + 1)  # eq. 10

    def short_bound(self, r: Array, alpha: Array) -> Array:
        s = self.exponent / 2
        ratio = upper_gamma_bound(s, (alpha * r) ** 2) / math.gamma(s)
        return np.minimum(ratio, 1.0) * r**-self.exponent

    def fourier_bound(self, k: Array, alpha: Array) -> Array:
        p = self.exponent
        y = (k / (2 * alpha)) ** 2
        factor = math.pi**1.5 / math.gamma(p / 2)
        return factor * (k / 2) ** (p - 3) * upper_gamma_bound((3 - p) / 2, y)


class Coulomb(InversePower):
    """V(r) = 1/r in 1/Å: unit point charges in a uniform neutralising background."""

    def __init__(self) -> None:
        super().__init__(1.0)

    @property
    def name(self) -> str:
        return "coulomb"


class London(InversePower):
    """V(r) = r^-6 in Å^-6: dispersion with unit coefficients."""

    def __init__(self) -> None:
        super().__init__(6.0)

    @property
    def name(self) -> str:
        return "london"
