"""Linear combinations that have a name, and how combinations are taken apart to be summed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latticesums.errors import ConfigError
from latticesums.potentials.base import (
    Array,
    Combination,
    Potential,
    Scalar,
    as_number,
    require_number,
    require_positive,
)
from latticesums.potentials.exponentials import Exponential
from latticesums.potentials.powers import InversePower, London


@dataclass(frozen=True, eq=False)
class LennardJones(Combination):
    """V(r) = 4 epsilon ((sigma / r)^12 - (sigma / r)^6), in the unit of epsilon.

    Args:
        epsilon: Depth of the well of a pair, larger than 0.
        sigma: Distance at which V is 0, Å, larger than 0. Both may be tensors to be
            differentiated in.

    Raises:
        ConfigError: If a parameter is not a positive number.
    """

    epsilon: Scalar
    sigma: Scalar

    def __post_init__(self) -> None:
        require_positive("LennardJones", "epsilon", self.epsilon)
        require_positive("LennardJones", "sigma", self.sigma)

    @property
    def name(self) -> str:
        return f"lennard-jones({as_number(self.epsilon):g}, {as_number(self.sigma):g})"

    @property
    def terms(self) -> tuple[tuple[Scalar, Potential], ...]:
        attraction = 4 * self.epsilon * self.sigma**6
        return (attraction * self.sigma**6, InversePower(12)), (-attraction, London())


@dataclass(frozen=True, eq=False)
class Morse(Combination):
    """V(r) = depth (exp(-2 a (r - r0)) - 2 exp(-a (r - r0))), in the unit of depth.

    Zero at infinity, as a sum over all images requires, and -depth at r0.

    Args:
        depth: Depth of the well of a pair, larger than 0.
        a: Inverse width of the well, 1/Å, larger than 0.
        r0: Distance of the minimum, Å, not negative. All three may be tensors to be
            differentiated in.

    Raises:
        ConfigError: If a parameter is out of range.
    """

    depth: Scalar
    a: Scalar
    r0: Scalar

    def __post_init__(self) -> None:
        require_positive("Morse", "depth", self.depth)
        require_positive("Morse", "a", self.a)
        require_number("Morse", "r0", self.r0, least=0)

    @property
    def name(self) -> str:
        return f"morse({as_number(self.depth):g}, {as_number(self.a):g}, {as_number(self.r0):g})"

    @property
    def terms(self) -> tuple[tuple[Scalar, Potential], ...]:
        growth = _exp(self.a * self.r0)
        return (
            (self.depth * growth * growth, Exponential(2 * self.a)),
            (-2 * self.depth * growth, Exponential(self.a)),
        )


@dataclass(frozen=True, eq=False)
class Buckingham(Combination):
    """V(r) = A exp(-B r) - C r^-6, in the unit of A.

    Args:
        A: Strength of the repulsion, not negative.
        B: Decay of the repulsion, 1/Å, larger than 0.
        C: Strength of the attraction, Å^6 times the unit of A, not negative. All three may be
            tensors to be differentiated in.

    Raises:
        ConfigError: If a parameter is out of range.
    """

    A: Scalar
    B: Scalar
    C: Scalar

    def __post_init__(self) -> None:
        require_number("Buckingham", "A", self.A, least=0)
        require_positive("Buckingham", "B", self.B)
        require_number("Buckingham", "C", self.C, least=0)

    @property
    def name(self) -> str:
        return f"buckingham({as_number(self.A):g}, {as_number(self.B):g}, {as_number(self.C):g})"

    @property
    def terms(self) -> tuple[tuple[Scalar, Potential], ...]:
        return (self.A, Exponential(self.B)), (-self.C, London())


def _exp(x: Scalar) -> Scalar:
    return x.exp() if isinstance(x, Tensor) else float(np.exp(x))


@dataclass(frozen=True)
class Expansion:
    """Linear combinations taken apart into the potentials that are summed.

    Attributes:
        terms: The potentials to be summed, each once.
        coefficients: How they add up to the combinations, shape (n_terms, n_potentials), float64.
        parts: Part of the tolerance of each combination that a term may use, so that the errors
            add up to the tolerance, shape (n_terms, n_potentials); infinite where it has no part.
    """

    terms: tuple[Potential, ...]
    coefficients: Tensor
    parts: Array

    @staticmethod
    def of(potentials: Sequence[Potential], device: torch.device) -> Expansion:
        """Return the terms of ``potentials``, which must be prepared."""
        columns: list[dict[Potential, Scalar]] = []
        for potential in potentials:
            column: dict[Potential, Scalar] = {}
            for coefficient, term in _terms(potential):
                column[term] = column[term] + coefficient if term in column else coefficient
            columns.append(column)
        terms = tuple(dict.fromkeys(term for column in columns for term in column))
        zero = torch.zeros((), dtype=torch.float64, device=device)
        rows = [torch.stack([zero + column.get(term, 0.0) for column in columns]) for term in terms]
        coefficients = torch.stack(rows)
        sizes = np.abs(coefficients.detach().cpu().numpy())
        # equal parts, a little less than all of it, which leaves room for the last additions
        with np.errstate(divide="ignore"):
            parts = (1 - 2.0**-10) / (np.maximum((sizes > 0).sum(0), 1) * sizes)
        return Expansion(terms, coefficients, parts)

    def shares(self, scale: Array) -> Array:
        """Return parts of a tolerance for the terms of each crystal, shape (n_graphs, n_terms).

        Args:
            scale: Multiplies the tolerance of the combinations, shape (n_graphs, n_potentials).
        """
        return (scale[:, None] * self.parts).min(2)

    def combine(self, values: Tensor, error_bound: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums of the combinations and the bound of the error of each.

        Args:
            values: Sums of the terms, shape (n_pairs, n_terms).
            error_bound: Bounds of their errors, shape (n_pairs, n_terms).
        """
        sizes = self.coefficients.detach().abs()
        return values @ self.coefficients, (error_bound + self._roundings(values)) @ sizes

    def combine_all(
        self, values: Tensor, bounds: Tensor, n_atoms: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sums of the combinations, and bounds of their errors in each crystal.

        Args:
            values: Sums of the terms, shape (n_pairs, n_terms).
            bounds: Bounds of their errors, shape (n_graphs, n_terms).
            n_atoms: Atoms of each crystal, shape (n_graphs,).

        Returns:
            Sums, bounds, and the part of the bounds that comes from adding the terms up.
        """
        sizes = self.coefficients.detach().abs()
        rounding = largest_of_each(self._roundings(values), n_atoms**2) @ sizes
        return values @ self.coefficients, bounds @ sizes + rounding, rounding

    def _roundings(self, values: Tensor) -> Tensor:
        return values.detach().abs() * ((len(self.terms) + 8) * 2.0**-53)


def _terms(potential: Potential) -> tuple[tuple[Scalar, Potential], ...]:
    """Return the terms of a potential, or raise if its coefficients are not finite numbers."""
    try:
        with np.errstate(over="ignore"):
            terms = potential.terms
    except OverflowError:
        terms = ((np.inf, potential),)
    if not all(np.isfinite(as_number(coefficient)) for coefficient, _ in terms):
        raise ConfigError(
            f"{potential.name}: its parameters must give coefficients that float64 can hold, got "
            "larger ones. Give parameters of a pair of atoms."
        )
    return terms


def largest_of_each(values: Tensor, counts: NDArray[np.int64]) -> Tensor:
    """Return the largest magnitude of each column in stretches of rows, (n_stretches, n_columns).

    Args:
        values: Shape (n_rows, n_columns).
        counts: Rows of each stretch, shape (n_stretches,).
    """
    sizes = values.detach().abs()
    if len(counts) == 1:
        return sizes.amax(0, keepdim=True)
    stretch = torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(values.device)
    largest = sizes.new_zeros(len(counts), sizes.shape[1])
    return largest.scatter_reduce(0, stretch[:, None].expand_as(sizes), sizes, "amax")
