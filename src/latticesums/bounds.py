"""How many lattice points a ball can hold, and what the points beyond it can add to a sum.

The box spanned by the Gram-Schmidt vectors of a basis tiles space under the lattice, so a ball of
radius r about any point holds between (4 pi / 3) (r - covering)^3 / volume lattice points and the
volume of the box swollen by r (Steiner's formula) over the volume of the cell (docs/theory.md,
eqs. 16 and 17). A lattice of fewer vectors is one with endless ones beside them: the same formulas
with 1 / l = 0, volume standing for area or length, and no least number, since the centre may lie
away from the lattice (eq. 23).

The functions take numbers or arrays of them: :mod:`latticesums.compiled` compiles the same ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


class Lattice(NamedTuple):
    """Numbers of lattice points in balls, from the Gram-Schmidt lengths l of a reduced basis.

    Attributes:
        volume: Volume of the cell, shape (n_graphs,).
        faces: 2 (l1 l2 + l1 l3 + l2 l3), shape (n_graphs,).
        edges: pi (l1 + l2 + l3), shape (n_graphs,).
        solid: 4 pi / 3, or 0 where fewer than three vectors repeat, shape (n_graphs,).
        covering: Half the diagonal of the box, not smaller than the covering radius.
        dimension: Number of lattice vectors, 0 to 3.
    """

    volume: Array
    faces: Array
    edges: Array
    solid: Array
    covering: Array
    dimension: int = 3

    @staticmethod
    def from_lengths(lengths: Array) -> Lattice:
        """Return the counts of lattices with Gram-Schmidt ``lengths``, shape (n_graphs, 0 to 3)."""
        d = lengths.shape[1]
        volume = lengths.prod(1)
        inverse = np.zeros((len(lengths), 3))
        inverse[:, :d] = 1 / lengths
        a, b, c = inverse.T
        return Lattice(
            volume=volume,
            faces=2 * volume * (a + b + c),
            edges=np.pi * volume * (a * b + a * c + b * c),
            solid=np.full_like(volume, 4 * np.pi / 3 if d == 3 else 0.0),
            covering=0.5 * np.sqrt((lengths * lengths).sum(1)),
            dimension=d,
        )

    def most(self, r: Array) -> Array:
        """Return the largest number of points in a ball of radius ``r`` about any centre."""
        return most(self, r)

    def least(self, r: Array) -> Array:
        """Return the smallest number of points in a ball of radius ``r`` about any centre."""
        return least(self, r)

    def gaussian_tail(self, edge: Array, r: Array, b: Array) -> Array:
        """Bound the sum beyond ``r`` of f with f(s) <= edge exp(-b (s^2 - r^2)) (eq. 19)."""
        return edge * gaussian_tail(self, r, b)

    def exponential_tail(self, r: Array, a: float) -> Array:
        """Bound the sum of exp(-a s) over the points at s > ``r`` (eq. 20)."""
        return exponential_tail(self, r, a)

    def power_tail(self, r: Array, p: float) -> Array:
        """Bound the sum of s^-p over the points at s > ``r``, p > 3 (eq. 34)."""
        return power_tail(self, r, p)


def most(lattice, r):
    """Return the largest number of points in a ball of radius ``r`` about any centre."""
    return 1 + r * (lattice.faces + r * (lattice.edges + r * lattice.solid)) / lattice.volume


def least(lattice, r):
    """Return the smallest number of points in a ball of radius ``r`` about any centre."""
    inner = np.maximum(r - lattice.covering, 0.0)
    return lattice.solid * inner**3 / lattice.volume


def at_edge(lattice, r):
    """Return how many points may lie on the edge, for all that is known."""
    return most(lattice, r) - least(lattice, r)


def gaussian_tail(lattice, r, b):
    """Bound the sum beyond ``r`` of f(s) / f(r) where f falls like exp(-b (s^2 - r^2)) (eq. 19)."""
    half = 0.5 / b
    integral = lattice.faces * half / r + 2 * lattice.edges * half
    integral += 3 * lattice.solid * (r * half + half * half / r)
    return at_edge(lattice, r) + integral / lattice.volume


def exponential_tail(lattice, r, a):
    """Bound the sum of exp(-a s) over the points at s > ``r`` (eq. 20)."""
    b = 1 / a
    integral = lattice.faces + 2 * lattice.edges * (r + b)
    integral = b * (integral + 3 * lattice.solid * (r * r + 2 * b * (r + b)))
    return np.exp(-a * r) * (at_edge(lattice, r) + integral / lattice.volume)


def power_tail(lattice, r, p):
    """Bound the sum of s^-p over the points at s > ``r``, p > 3 (eq. 34)."""
    integral = lattice.faces / (p - 1)
    integral += r * (2 * lattice.edges / (p - 2) + r * (3 * lattice.solid / (p - 3)))
    return (at_edge(lattice, r) / r + integral / lattice.volume) * r ** (1 - p)
