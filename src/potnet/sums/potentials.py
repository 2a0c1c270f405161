"""What V(r) is, how it splits into a short and a long half, and what bounds its halves.

Every potential here is a mixture of Gaussians, V(r) = int_0^inf exp(-r^2 t) dM(t) with M >= 0
(docs/theory.md, eq. 2), or vanishes beyond a cutoff. Cutting the mixture at t = alpha^2 leaves a
short half, summed over lattice vectors, and a long half, summed over wave vectors. The short half
of a lattice vector and the long half of a wave vector both fall off like a Gaussian, which is what
the bounds of :mod:`potnet.sums.plan` rest on.

Formulas in torch are differentiable twice; bounds are plain numpy, one entry per crystal.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potnet.errors import ConfigError

if TYPE_CHECKING:
    from potnet.sums.plan import Lattice

Array = NDArray[np.float64]


class Potential(ABC):
    """A pair potential V(r) that can be summed over a lattice.

    Potentials are immutable and compare by value. ``alpha`` is the inverse width of the Gaussian
    split in 1/Å, one per crystal or one per image, and is never differentiated.
    """

    #: Exponent p of the divergence V ~ r^-p at the origin; 0 if V(0) is finite.
    order: float = 0.0

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name that identifies the potential, for tables and messages."""

    @property
    def can_split(self) -> bool:
        """Whether the potential has a Fourier half."""
        return True

    @abstractmethod
    def value(self, r2: Tensor) -> Tensor:
        """Return V(r) from squared distances ``r2`` in Å^2, any shape."""

    def direct_tail(self, lattice: Lattice, radius: Array) -> Array | None:
        """Bound what lattice vectors beyond ``radius`` (Å) add to a sum without a split.

        Returns:
            One bound per crystal, or None if the sum needs a split.
        """
        return None

    def short(self, r2: Tensor, alpha: Tensor) -> Tensor:
        """Return the short half of V(r) (docs/theory.md, eq. 4), shape of ``r2``."""
        raise NotImplementedError

    def fourier(self, k2: Tensor, alpha: Tensor) -> Tensor:
        """Return the Fourier transform of the long half at squared wave vectors ``k2`` > 0."""
        raise NotImplementedError

    def fourier_at_zero(self, alpha: Tensor) -> Tensor:
        """Return the Fourier transform of the long half at k = 0, after continuation."""
        raise NotImplementedError

    def long_at_zero(self, alpha: Tensor) -> Tensor:
        """Return the long half at r = 0, which an own image must not add."""
        raise NotImplementedError

    def short_bound(self, r: Array, alpha: Array) -> Array:
        """Return numbers not smaller than the short half at distances ``r``."""
        raise NotImplementedError

    def fourier_bound(self, k: Array, alpha: Array) -> Array:
        """Return numbers not smaller than the Fourier transform at wave numbers ``k``."""
        raise NotImplementedError

    def direct_sum(self, lattice: Lattice, radius: Array) -> Array:
        """Bound the sum of V over all lattice vectors beyond ``radius`` (Å); may be infinite."""
        return np.full_like(radius, np.inf)

    def slope_sum(
        self, total: Array, count: Array, shortest: Array, radius: Array, alpha: Array
    ) -> Array:
        """Bound the sum of ``|f'(r)|`` over the images of a pair, for the rounding error.

        Args:
            total: Sum of the short halves over the images.
            count: Number of images.
            shortest: Smallest distance, Å.
            radius: Largest distance, Å.
            alpha: Split width, 0 where there is none.
        """
        return total * (max(self.order, 2.0) / shortest + 2 * alpha**2 * radius + self.decay)

    @property
    def decay(self) -> float:
        """Rate of exponential decay in 1/Å, 0 if there is none."""
        return 0.0


def upper_gamma_bound(s: float, y: Array) -> Array:
    """Return numbers not smaller than the upper incomplete gamma function (s real, y > 0).

    exp(-y) y^(s-1) for s <= 1 and y^s exp(-y) / (y - s + 1) for y > s - 1 > 0 (eq. 15); infinite
    where neither holds.
    """
    if s <= 1:
        return np.exp(-y) * y ** (s - 1)
    gap = y - (s - 1)
    return np.where(gap > 0, np.exp(-y) * y**s / np.where(gap > 0, gap, 1), np.inf)


class _ExponentialIntegral(torch.autograd.Function):
    """E1(y) for y > 0; its derivative -exp(-y)/y is elementary, so any order works."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        low = y.clamp(max=2.0)
        series = -low.log() - np.euler_gamma
        term = torch.ones_like(low)
        for n in range(1, 31):  # 2^30 / 30! / 30 < 2e-25
            term = term * (-low / n)
            series = series - term / n
        high = y.clamp(min=2.0)
        fraction = torch.zeros_like(high)
        for n in range(80, 0, -1):  # Legendre's continued fraction, from its tail
            fraction = n * n / (high + 2 * n + 1 - fraction)
        return torch.where(y < 2, series, (-high).exp() / (high + 1 - fraction))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return -grad_outputs[0] * (-y).exp() / y


def exponential_integral(y: Tensor) -> Tensor:
    """Return E1(y), the integral of exp(-t)/t from y > 0 to infinity, shape of ``y``."""
    return _ExponentialIntegral.apply(y)  # pyright: ignore[reportReturnType]


def _is_integer(x: float) -> bool:
    return x == int(x)


def _power(r2: Tensor, p: float) -> Tensor:
    """Return r^-p from r^2, by multiplications where p is a small integer."""
    if not _is_integer(p) or p > 16:
        return r2 ** (-0.5 * p)
    half, odd = divmod(int(p), 2)
    if odd:
        root = r2.rsqrt()
        return root if half == 0 else root * r2.reciprocal() ** half
    return r2.reciprocal() ** half


@dataclass(frozen=True)
class InversePower(Potential):
    """V(r) = r^-exponent, in Å^-exponent, for every real exponent > 0 except 3.

    Below 3 the sum is its analytic continuation in the exponent, which for 1 equals the potential
    of unit charges in a uniform neutralising background. At 3 the continuation has a pole.

    Args:
        exponent: Power of the distance, between 0.1 and 30.

    Raises:
        ConfigError: If ``exponent`` is 3, too near to an odd integer from 3 on to be computed
            accurately, or out of range.
    """

    exponent: float

    def __post_init__(self) -> None:
        p = self.exponent
        if not 0.1 <= p <= 30:
            raise ConfigError(
                f"InversePower: `exponent` must lie between 0.1 and 30, got {p}. "
                "Use an exponent in that range."
            )
        if p == 3:
            raise ConfigError(
                "InversePower: `exponent` must not be 3, where the sum over a three-dimensional "
                "lattice has a pole, got 3. Use another exponent."
            )
        odd = max(3, 2 * round((p - 1) / 2) + 1)
        if p != odd and abs(p - odd) < 1e-3:
            raise ConfigError(
                f"InversePower: `exponent` must be {odd} or differ from it by 0.001 or more, "
                f"got {p}. Use an exponent further from {odd}."
            )

    @property
    def name(self) -> str:
        return f"r^-{self.exponent:g}"

    @property
    def order(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.exponent

    def value(self, r2: Tensor) -> Tensor:
        return _power(r2, self.exponent)

    def direct_sum(self, lattice: Lattice, radius: Array) -> Array:
        p = self.exponent
        if p <= 3:
            return np.full_like(radius, np.inf)
        volume, faces, edges = lattice.volume, lattice.faces, lattice.edges
        integral = faces / (p - 1) + radius * 2 * edges / (p - 2)
        integral += radius * radius * 4 * np.pi / (p - 3)
        # eq. 22
        return (lattice.most(radius) / radius + integral / volume) * radius ** (1 - p)

    def short(self, r2: Tensor, alpha: Tensor) -> Tensor:
        # Q(p/2, x^2) / r^p, with Q(s+1, y) = Q(s, y) + y^s exp(-y) / Gamma(s+1)  (eq. 5)
        p = self.exponent
        y = alpha * alpha * r2
        if not _is_integer(p):
            return torch.special.gammaincc(torch.full_like(y, p / 2), y) * _power(r2, p)
        if p == 1:
            r = r2.sqrt()
            return torch.special.erfc(alpha * r) / r
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
        # G_p(b) = b^(p-3) Gamma((3-p)/2, b^2) obeys G_p = 2 (exp(-b^2) - b^2 G_(p-2)) / (p-3),
        # a recursion whose terms are all bounded  (eqs. 6 and 7)
        p = self.exponent
        y = k2 / (4 * alpha * alpha)
        gauss = (-y).exp()
        start, g = self._first_g(p, y, gauss)
        while start < p - 1:
            start += 2
            g = 2 / (start - 3) * (gauss - y * g)
        return math.pi**1.5 / math.gamma(p / 2) * alpha ** (p - 3) * g

    @staticmethod
    def _first_g(p: float, y: Tensor, gauss: Tensor) -> tuple[float, Tensor]:
        """Return where the recursion for G_p starts, and its value there."""
        if _is_integer(p) and int(p) % 2:
            return (1, gauss / y) if p == 1 else (3, exponential_integral(y))
        if _is_integer(p):
            b = y.sqrt()
            return 2, math.sqrt(math.pi) * torch.special.erfc(b) / b
        start = p if p < 3 else p - 2 * math.floor((p - 1) / 2)
        s = (3 - start) / 2
        q = torch.special.gammaincc(torch.full_like(y, s), y)
        return start, math.gamma(s) * q * y**-s

    def fourier_at_zero(self, alpha: Tensor) -> Tensor:
        p = self.exponent  # eq. 8
        return 2 * math.pi**1.5 / (math.gamma(p / 2) * (p - 3)) * alpha ** (p - 3)

    def long_at_zero(self, alpha: Tensor) -> Tensor:
        return alpha**self.exponent / math.gamma(self.exponent / 2 + 1)  # eq. 9

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


@dataclass(frozen=True)
class Exponential(Potential):
    """V(r) = exp(-rate r), without unit.

    Summed directly where it falls off within a few images, split like the powers where not.

    Args:
        rate: Decay in 1/Å, larger than 0.

    Raises:
        ConfigError: If ``rate`` is not a positive number.
    """

    rate: float

    def __post_init__(self) -> None:
        _require_positive("Exponential", "rate", self.rate)

    @property
    def name(self) -> str:
        return f"exp(-{self.rate:g} r)"

    @property
    def decay(self) -> float:
        return self.rate

    def value(self, r2: Tensor) -> Tensor:
        return (-self.rate * r2.sqrt()).exp()

    def direct_tail(self, lattice: Lattice, radius: Array) -> Array:
        return lattice.exponential_tail(radius, self.rate)

    def short(self, r2: Tensor, alpha: Tensor) -> Tensor:
        x = alpha * r2.sqrt()
        h = self.rate / (2 * alpha)
        difference = torch.special.erfcx(x - h) - torch.special.erfcx(x + h)
        return 0.5 * (-(alpha * alpha * r2) - h * h).exp() * difference  # eq. 16

    def fourier(self, k2: Tensor, alpha: Tensor) -> Tensor:
        s = self.rate**2 + k2
        q = s / (4 * alpha * alpha)
        return 8 * math.pi * self.rate * (1 + q) * (-q).exp() / (s * s)  # eq. 17

    def fourier_at_zero(self, alpha: Tensor) -> Tensor:
        return self.fourier(torch.zeros_like(alpha), alpha)

    def long_at_zero(self, alpha: Tensor) -> Tensor:
        return torch.special.erfc(self.rate / (2 * alpha))

    def short_bound(self, r: Array, alpha: Array) -> Array:
        # half exp(-a r) erfc(z), z = x - h, and erfc(z) <= exp(-z^2) min(1, 1 / (z sqrt(pi)))
        z = alpha * r - self.rate / (2 * alpha)
        positive = np.maximum(z, 1e-300)
        erfc = np.exp(-(positive**2)) * np.minimum(1, 1 / (positive * math.sqrt(math.pi)))
        return np.exp(-self.rate * r) * np.where(z > 0, 0.5 * erfc, 1.0)

    def fourier_bound(self, k: Array, alpha: Array) -> Array:
        s = self.rate**2 + k**2
        q = s / (4 * alpha * alpha)
        return 8 * math.pi * self.rate * (1 + q) * np.exp(-q) / (s * s)


class Pauli(Exponential):
    """V(r) = exp(-3 r / Å), without unit: the overlap of closed shells."""

    def __init__(self) -> None:
        super().__init__(3.0)

    @property
    def name(self) -> str:
        return "pauli"


@dataclass(frozen=True)
class Yukawa(Potential):
    """V(r) = exp(-rate r) / r in 1/Å: a screened charge. Needs no background.

    Args:
        rate: Decay in 1/Å, larger than 0.

    Raises:
        ConfigError: If ``rate`` is not a positive number.
    """

    rate: float

    order = 1.0

    def __post_init__(self) -> None:
        _require_positive("Yukawa", "rate", self.rate)

    @property
    def name(self) -> str:
        return f"exp(-{self.rate:g} r)/r"

    @property
    def decay(self) -> float:
        return self.rate

    def value(self, r2: Tensor) -> Tensor:
        r = r2.sqrt()
        return (-self.rate * r).exp() / r

    def direct_tail(self, lattice: Lattice, radius: Array) -> Array:
        return lattice.exponential_tail(radius, self.rate) / radius

    def short(self, r2: Tensor, alpha: Tensor) -> Tensor:
        r = r2.sqrt()
        x = alpha * r
        h = self.rate / (2 * alpha)
        total = torch.special.erfcx(x - h) + torch.special.erfcx(x + h)
        return 0.5 * (-x * x - h * h).exp() * total / r  # eq. 20

    def fourier(self, k2: Tensor, alpha: Tensor) -> Tensor:
        s = self.rate**2 + k2
        return 4 * math.pi * (-s / (4 * alpha * alpha)).exp() / s  # eq. 21

    def fourier_at_zero(self, alpha: Tensor) -> Tensor:
        return self.fourier(torch.zeros_like(alpha), alpha)

    def long_at_zero(self, alpha: Tensor) -> Tensor:
        h = self.rate / (2 * alpha)
        gauss = 2 / math.sqrt(math.pi) * alpha * (-h * h).exp()
        return gauss - self.rate * torch.special.erfc(h)

    def short_bound(self, r: Array, alpha: Array) -> Array:
        # erfc(x + h) exp(a r) <= exp(-x^2 - h^2) <= the Gaussian factor of the lemma
        x, h = alpha * r, self.rate / (2 * alpha)
        half = Exponential(self.rate).short_bound(r, alpha)
        return (half + 0.5 * np.exp(-(x**2) - h**2)) / r

    def fourier_bound(self, k: Array, alpha: Array) -> Array:
        s = self.rate**2 + k**2
        return 4 * math.pi * np.exp(-s / (4 * alpha * alpha)) / s


@dataclass(frozen=True)
class Shell(Potential):
    """V(r) = exp(-((r - center) / width)^2) (1 - (r / cutoff)^2)^3 within ``cutoff``, else 0.

    A soft count of neighbours at a distance; twice continuously differentiable, no tail at all.

    Args:
        center: Distance of the largest weight, Å, not negative.
        width: Width of the Gaussian, Å, larger than 0.
        cutoff: Distance from which the potential is 0, Å, larger than 0.

    Raises:
        ConfigError: If a number is out of range.
    """

    center: float
    width: float
    cutoff: float

    def __post_init__(self) -> None:
        if not 0 <= self.center < math.inf:
            raise ConfigError(
                f"Shell: `center` must be a number that is not negative, got {self.center}. "
                "Give a distance in Å."
            )
        _require_positive("Shell", "width", self.width)
        _require_positive("Shell", "cutoff", self.cutoff)

    @property
    def name(self) -> str:
        return f"shell({self.center:g}, {self.width:g}, {self.cutoff:g})"

    @property
    def can_split(self) -> bool:
        return False

    def value(self, r2: Tensor) -> Tensor:
        envelope = (1 - r2 / self.cutoff**2).clamp(min=0)
        offset = (r2.sqrt() - self.center) / self.width
        return (-offset * offset).exp() * (envelope * envelope * envelope)

    def direct_tail(self, lattice: Lattice, radius: Array) -> Array:
        return np.where(radius >= self.cutoff, 0.0, np.inf)

    def slope_sum(
        self, total: Array, count: Array, shortest: Array, radius: Array, alpha: Array
    ) -> Array:
        # |d/ds exp(-s^2)| < 0.86 and the envelope's slope is at most 6 / cutoff
        return count * (0.86 / self.width + 6 / self.cutoff)


def _require_positive(where: str, name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ConfigError(
            f"{where}: `{name}` must be a number larger than 0, got {value}. Give one in Å units."
        )


_NAMED: dict[str, type[Potential]] = {"coulomb": Coulomb, "london": London, "pauli": Pauli}


def resolve(potentials: Sequence[Potential | str]) -> tuple[Potential, ...]:
    """Return potentials for a list of potentials and names.

    Raises:
        ConfigError: If the list is empty, or an item is neither a potential nor a known name.
    """
    if isinstance(potentials, str | Potential):
        potentials = (potentials,)
    if len(potentials) == 0:
        raise ConfigError(
            "lattice sums: `potentials` must hold at least one potential, got none. "
            'Name one, for example "coulomb".'
        )
    found: list[Potential] = []
    for item in potentials:
        if isinstance(item, Potential):
            found.append(item)
        elif isinstance(item, str) and item.lower() in _NAMED:
            found.append(_NAMED[item.lower()]())
        else:
            names = ", ".join(f'"{name}"' for name in _NAMED)
            raise ConfigError(
                f"lattice sums: `potentials` must hold potentials or the names {names}, "
                f"got {item!r}. Use one of those names, or a potential such as InversePower(4)."
            )
    return tuple(found)
