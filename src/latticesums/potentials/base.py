"""What V(r) is, how it splits into a short and a long half, and what bounds its halves.

Every potential here is a mixture of Gaussians, V(r) = int_0^inf exp(-r^2 t) dM(t) with M >= 0
(docs/theory.md, eq. 2), or vanishes beyond a cutoff, or is a linear combination of such. Cutting
the mixture at t = alpha^2 leaves a short half, summed over lattice vectors, and a long half, summed
over wave vectors. The short half of a lattice vector and the long half of a wave vector both fall
off like a Gaussian, which is what the bounds of :mod:`latticesums.bounds` rest on.

A new potential is one class: a frozen dataclass of its parameters with ``value``, and

* to be summed directly, ``direct_tail``;
* to be split, ``short``, ``fourier``, ``fourier_at_zero``, ``long_at_zero``, ``short_bound`` and
  ``fourier_bound``, and ``mixture`` if also slabs and wires are to be split, or
* to be combined of others, nothing but ``terms`` (:class:`Combination`).

Formulas in torch are differentiable twice, also in parameters that are tensors; bounds are plain
numpy, one entry per crystal.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latticesums.errors import ConfigError

if TYPE_CHECKING:
    from latticesums.bounds import Lattice

Array = NDArray[np.float64]
#: A parameter: a number, or a tensor without dimensions, in which sums can be differentiated.
Scalar = float | Tensor


#: Lengths, rates and strengths beyond this, or its inverse, are not physics: powers overflow.
_LARGEST = 1e30


@dataclass(frozen=True)
class Mixture:
    """The weight dM / dt = weight t^(power - 1) exp(-rate^2 / 4 t) of exp(-r^2 t) in V(r).

    Powers of the distance, screened or not, and exponentials all are of this form. It is all that
    slabs and wires need to know of the long half (docs/theory.md, eq. 24).
    """

    weight: Scalar
    power: float
    rate: Scalar = 0.0

    @property
    def as_numbers(self) -> Mixture:
        """The same without tensors, for bounds."""
        return Mixture(as_number(self.weight), self.power, as_number(self.rate))


@dataclass(frozen=True, eq=False)
class Potential(ABC):
    """A pair potential V(r) that can be summed over a lattice.

    Potentials are immutable and compare by value, tensors by identity. They can be added,
    subtracted and multiplied by numbers: ``2 * Coulomb() - London()`` is a potential. ``alpha`` is
    the inverse width of the Gaussian split in 1/Å, one per crystal or one per image, and is never
    differentiated.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name that identifies the potential, for tables and messages."""

    @property
    def order(self) -> float:
        """Exponent p of the divergence V ~ r^-p at the origin; 0 if V(0) is finite."""
        return 0.0

    @property
    def can_split(self) -> bool:
        """Whether the potential has a Fourier half."""
        return True

    def in_float32(self, is_split: bool) -> bool:
        """Whether V, or its short half, may be computed in float32 where that is asked for.

        Its relative error must then be that of its argument and a few roundings.
        """
        return not is_split

    @property
    def least_alpha(self) -> float:
        """Smallest width of the split at which the halves are what they say, 1/Å."""
        return 0.0

    @property
    def mixture(self) -> Mixture | None:
        """The Gaussians it is made of, to split it over slabs and wires; None if it is not."""
        return None

    @property
    def terms(self) -> tuple[tuple[Scalar, Potential], ...]:
        """Coefficients and potentials that add up to this one; itself, if it is not combined."""
        return ((1.0, self),)

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

    def value_and_slope(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        """Return V and its derivative by r^2, numbers that carry no derivatives themselves."""
        return with_slope(self.value, r2)

    def short_and_slope(self, r2: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Return the short half and its derivative by r^2, which carry no derivatives."""
        return with_slope(lambda s: self.short(s, alpha), r2)

    def fourier_and_slope(self, k2: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Return the transform of the long half and its derivative by k^2, which carry none."""
        return with_slope(lambda s: self.fourier(s, alpha), k2)

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

    def slope_tails(self, lattice: Lattice, radius: Array) -> tuple[Array, Array]:
        """Bound the sums of ``|V'|`` and of ``r |V'|`` over lattice vectors beyond ``radius`` (Å).

        For derivatives by positions and by strain of a sum without a split; infinite if unknown.
        """
        return np.full_like(radius, np.inf), np.full_like(radius, np.inf)

    def parameter_slope(self, radius: Array) -> Array:
        """Return about how many times larger than V at ``radius`` its parameters' derivatives are.

        In Å per unit of the parameter; 1 where the sum ends by itself.
        """
        return np.ones_like(radius)

    @property
    def underflows(self) -> bool:
        """Whether a value that is not 0 may be too small for float64."""
        return True

    @property
    def decay(self) -> float:
        """Rate of exponential decay in 1/Å, 0 if there is none."""
        return 0.0

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Parameters that are tensors."""
        return tuple(v for v in self._parameters() if isinstance(v, Tensor))

    def prepared(self, device: torch.device) -> Potential:
        """Return the potential to compute with: its tensors in float64 on ``device``.

        A tensor that needs no gradient becomes a number.
        """
        if not self.tensors:
            return self
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: as_float64(v, device) for name, v in values.items()})

    def _parameters(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in _names_of(type(self)))

    def _key(self) -> tuple[object, ...]:
        values = self._parameters()
        return (type(self), *(id(v) if isinstance(v, Tensor) else v for v in values))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Potential) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    __array_ufunc__ = None  # numpy numbers leave the multiplication to the potential

    def __mul__(self, factor: Scalar) -> Potential:
        return Sum(((factor, self),))

    __rmul__ = __mul__

    def __neg__(self) -> Potential:
        return Sum(((-1.0, self),))

    def __add__(self, other: Potential) -> Potential:
        if not isinstance(other, Potential):
            return NotImplemented
        return Sum((*_parts(self), *_parts(other)))

    def __radd__(self, other: object) -> Potential:
        return self if isinstance(other, int) and other == 0 else NotImplemented  # sum() adds to 0

    def __sub__(self, other: Potential) -> Potential:
        return self + -other if isinstance(other, Potential) else NotImplemented


class Combination(Potential):
    """A linear combination of potentials; a subclass states its ``name`` and its ``terms``.

    Each term is summed on its own, to a share of the tolerance that fits its coefficient.
    """

    @property
    @abstractmethod
    def terms(self) -> tuple[tuple[Scalar, Potential], ...]: ...

    @property
    def order(self) -> float:
        return max(term.order for _, term in self.terms)

    def value(self, r2: Tensor) -> Tensor:
        total = torch.zeros_like(r2)
        for coefficient, term in self.terms:
            total = total + coefficient * term.value(r2)
        return total


@dataclass(frozen=True, eq=False)
class Sum(Combination):
    """Coefficients times potentials, as written with ``+``, ``-`` and ``*``.

    Args:
        parts: Pairs of a coefficient and a potential.

    Raises:
        ConfigError: If a coefficient is not a finite number.
    """

    parts: tuple[tuple[Scalar, Potential], ...]

    def __post_init__(self) -> None:
        for coefficient, _ in self.parts:
            require_number("sum of potentials", "coefficient", coefficient)

    @property
    def name(self) -> str:
        words = []
        for coefficient, part in self.parts:
            c = as_number(coefficient)
            name = f"({part.name})" if isinstance(part, Sum) else part.name
            sign = "-" if c < 0 else "+"
            words.append(f"{sign} {name}" if abs(c) == 1 else f"{sign} {abs(c):g} {name}")
        text = " ".join(words)
        return text[2:] if text.startswith("+") else text

    @property
    def terms(self) -> tuple[tuple[Scalar, Potential], ...]:
        return tuple((c * d, term) for c, part in self.parts for d, term in part.terms)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        own = tuple(c for c, _ in self.parts if isinstance(c, Tensor))
        return own + tuple(t for _, part in self.parts for t in part.tensors)

    def prepared(self, device: torch.device) -> Potential:
        return Sum(tuple((as_float64(c, device), p.prepared(device)) for c, p in self.parts))

    def _key(self) -> tuple[object, ...]:
        keys = ((id(c) if isinstance(c, Tensor) else c, part) for c, part in self.parts)
        return (Sum, *keys)


@cache
def _names_of(kind: type[Potential]) -> tuple[str, ...]:
    """Return the names of the parameters of a class."""
    return tuple(f.name for f in fields(kind))


def with_slope(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a function of each of some numbers and its derivative, as autograd finds it."""
    with torch.enable_grad():
        s = x.detach().requires_grad_()
        value = function(s)
        if not value.requires_grad:  # a constant
            return value, torch.zeros_like(x)
        return value.detach(), torch.autograd.grad(value.sum(), s)[0]


def _parts(potential: Potential) -> tuple[tuple[Scalar, Potential], ...]:
    return potential.parts if isinstance(potential, Sum) else ((1.0, potential),)


def as_float64(value: Any, device: torch.device) -> Any:
    """Return a tensor in float64 if it needs a gradient, or its number; others as they are."""
    if not isinstance(value, Tensor):
        return value
    if torch.is_grad_enabled() and value.requires_grad:
        return value.to(device, torch.float64)
    return value.item()


def as_number(value: Any) -> float:
    """Return the number that a parameter holds; infinite if it is larger than any float."""
    try:
        return value.item() if isinstance(value, Tensor) else float(value)
    except OverflowError:
        return math.inf


def require_number(where: str, name: str, value: object, *, least: float = -math.inf) -> float:
    """Return a parameter as a number.

    Raises:
        ConfigError: If it is not one finite number, or below ``least``.
    """
    if isinstance(value, Tensor) and value.ndim:
        raise ConfigError(
            f"{where}: `{name}` must be a number or a tensor without dimensions, got one of shape "
            f"{tuple(value.shape)}. Make one potential for each value."
        )
    number = as_number(value) if isinstance(value, float | int | Tensor | np.number) else math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{where}: `{name}` must be a finite number, got {value}. Give one.")
    if abs(number) > _LARGEST**3:
        raise ConfigError(
            f"{where}: `{name}` must be {_LARGEST**3:g} in size at most, got {number:g}. "
            "Give a smaller one."
        )
    if number < least:
        raise ConfigError(
            f"{where}: `{name}` must be a number not below {least:g}, got {number:g}. "
            "Give one in Å units."
        )
    return number


def require_positive(where: str, name: str, value: object) -> float:
    """Return a parameter as a number larger than 0.

    Raises:
        ConfigError: If it is not one.
    """
    number = require_number(where, name, value)
    if not number > 0:
        raise ConfigError(
            f"{where}: `{name}` must be a number larger than 0, got {number:g}. "
            "Give one in Å units."
        )
    if not 1 / _LARGEST <= number <= _LARGEST:
        raise ConfigError(
            f"{where}: `{name}` must lie between {1 / _LARGEST:g} and {_LARGEST:g}, got "
            f"{number:g}. Give one in Å units."
        )
    return number
