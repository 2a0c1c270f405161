"""Check the certificate of the lattice sums on thousands of random nasty cells.

    python benchmarks/certificate.py --cells 4000

A case is a cell with 1 to 12 atoms, a tolerance between 1e-2 and 1e-12, and a set of potentials.
Its sums are taken by the compiled and by the differentiable path, in float32 for tolerances that
allow it, and with the tolerance for a relative one; potentials that decay with directions of degree
1 and 2, too, and with derivatives by their parameters; and first derivatives by positions and by
strain with their own bounds. All is compared with another evaluation that
shares no code with them: powers by an Ewald sum of another width, with the Fourier half integrated
numerically, and everything that decays or ends by adding up its images. Slabs, wires and clusters
are among the cases; they have no compiled path. Vectors are exact to 64 bits there. What that
evaluation may be off by is granted to the sums as well: 4e-15 of the sum of the magnitudes of its
terms, and 1e-17 for terms left out. On some cells it is itself checked against 25 digits of
``tests/latticesums/oracle.py``.

Held for each potential and path: error <= bound <= tolerance. The only other outcome that counts as
right is the refusal: a ConfigError that says that float64 cannot keep the tolerance, or a
StructureError for atoms on one spot or cells that need too many vectors.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special

import potnet
from latticesums import (
    Buckingham,
    Combination,
    Coulomb,
    Exponential,
    Gaussian,
    InversePower,
    LennardJones,
    London,
    Morse,
    Pauli,
    Potential,
    Shell,
    Yukawa,
    directed_sums,
    pair_sums,
)
from latticesums.compiled.support import supports
from latticesums.errors import ConfigError, StructureError
from latticesums.lattice import reduced
from potnet.files import atomic_write

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "latticesums"))

from oracle import exponential_sum, power_sum  # noqa: E402

RESULT = Path(__file__).parent / "results" / "certificate.json"
Floats = NDArray[np.float64]

#: What the reference may be off by: a share of the sum of magnitudes, and terms left out.
REFERENCE_ERROR, LEFT_OUT = 4e-15, 1e-17
#: The same share for derivatives.
SLOPE_ERROR = 2e-14
#: Terms that a reference takes at most for one potential, over the pairs that it looks at.
MAX_IMAGES = 60_000
#: Pairs of atoms that are compared at most for one potential.
MAX_PAIRS = 16


# ------------------------------------------------------------------------------ cases


@dataclass(frozen=True)
class Case:
    """One cell to sum over.

    Attributes:
        kind: How it was made.
        cell: Lattice vectors as rows, Å.
        positions: Cartesian coordinates, Å.
        tolerance: Absolute error to ask for.
        potentials: What to sum.
        n_periodic: The first lattice vectors along which the cell repeats, 0 to 3 of them.
        on_one_spot: Whether two atoms are the same up to a lattice vector.
    """

    kind: str
    cell: Floats
    positions: Floats
    tolerance: float
    potentials: tuple[Potential, ...]
    n_periodic: int = 3
    on_one_spot: bool = False


def triclinic(rng: np.random.Generator) -> Floats:
    """Return a cell with angles from 20 to 160 degrees and edges that differ by 20 at most."""
    while True:
        a, b, c = np.cos(np.radians(rng.uniform(20, 160, 3)))
        root = 1 - a * a - b * b - c * c + 2 * a * b * c
        if root > 0.003:
            break
    s = math.sqrt(1 - c * c)
    shape = np.array([[1, 0, 0], [c, s, 0], [b, (a - b * c) / s, math.sqrt(root) / s]])
    shape = shape * 20 ** rng.uniform(0, 1, (3, 1))
    volume = 10 ** rng.uniform(1, 3.7)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return shape * (volume / abs(np.linalg.det(shape))) ** (1 / 3) @ turn


def tetragonal(length: float) -> Callable[[np.random.Generator], Floats]:
    return lambda rng: np.diag([3.0, 3.0, length]) * rng.uniform(0.8, 1.3)


def long(rng: np.random.Generator) -> Floats:
    """Return a cell four to seventy times as long as it is wide, skewed, written in any way."""
    cell = np.diag([*rng.uniform(2.6, 3.4, 2), 10 ** rng.uniform(1.1, 2.3)])
    cell += rng.normal(size=(3, 3)) * 0.2
    cell[2, :2] += rng.uniform(-1.5, 1.5, 2)
    steps = np.eye(3) + np.tril(rng.integers(-2, 3, (3, 3)), -1)
    return (steps @ cell)[rng.permutation(3)]


def acute(rng: np.random.Generator) -> Floats:
    """Return a cell with 20 degrees between all edges."""
    c = math.cos(math.radians(20))
    s = math.sqrt(1 - c * c)
    last = [c, c * (1 - c) / s, 0]
    last[2] = math.sqrt(1 - last[0] ** 2 - last[1] ** 2)
    return rng.uniform(4, 12) * np.array([[1, 0, 0], [c, s, 0], last])


def flat(rng: np.random.Generator) -> Floats:
    """Return a cell ten times as wide as it is high."""
    return rng.uniform(6, 40) * np.diag([1.0, rng.uniform(0.8, 1.2), 0.1])


def sheared(rng: np.random.Generator) -> Floats:
    """Return a plain cell written with c + 4a + 4b in place of c."""
    a, b, c = np.diag(rng.uniform(3, 8, 3)) + rng.normal(size=(3, 3)) * 0.4
    return np.stack([a, b, c + 4 * a + 4 * b])


def nearly_singular(rng: np.random.Generator) -> Floats:
    """Return a basis of a plain lattice whose vectors are long and almost in a plane."""
    matrix = np.eye(3)
    for _ in range(7):
        i, j = rng.choice(3, 2, replace=False)
        matrix[i] += rng.integers(-3, 4) * matrix[j]
    return matrix @ (np.diag(rng.uniform(3, 8, 3)) + rng.normal(size=(3, 3)) * 0.3)


def left_handed(rng: np.random.Generator) -> Floats:
    cell = triclinic(rng)
    return cell if np.linalg.det(cell) < 0 else cell * [[-1.0], [1], [1]]


def very_large(rng: np.random.Generator) -> Floats:
    return triclinic(rng) * 10 ** rng.uniform(0.5, 2)


def very_small(rng: np.random.Generator) -> Floats:
    return np.diag(rng.uniform(0.7, 1.6, 3)) + rng.normal(size=(3, 3)) * 0.08


N_PERIODIC = {"slab": 2, "skewed slab": 2, "wire": 1, "cluster": 0}
CELLS: dict[str, Callable[[np.random.Generator], Floats]] = {
    "triclinic": triclinic,
    "3 x 3 x 24": tetragonal(24.0),
    "3 x 3 x 30": tetragonal(30.0),
    "long": long,
    "20 degrees": acute,
    "flat, c/a = 0.1": flat,
    "basis c + 4a + 4b": sheared,
    "nearly singular basis": nearly_singular,
    "left-handed": left_handed,
    "very large": very_large,
    "very small": very_small,
    "slab": triclinic,
    "skewed slab": nearly_singular,
    "wire": triclinic,
    "cluster": triclinic,
    "almost touching atoms": triclinic,
    "coincident images": triclinic,
    "far off": triclinic,
    "needle": lambda rng: np.diag([3.0, 3.0, 10 ** rng.uniform(3, 5)]) * rng.uniform(0.8, 1.3),
}


def make_case(seed: int) -> Case:
    """Return the case of a seed; kinds take turns."""
    rng = np.random.default_rng(seed)
    kind = list(CELLS)[seed % len(CELLS)]
    cell = CELLS[kind](rng)
    n_atoms = int(rng.integers(1, 13))
    basis = reduced(cell)
    positions = _scattered(rng, basis, n_atoms, 0.5 if kind == "very small" else 0.9)
    if kind == "almost touching atoms":
        step = rng.normal(size=3)
        near = positions[0] + step / np.linalg.norm(step) * 10 ** rng.uniform(-3, -0.4)
        positions = np.vstack([positions, near])
    if kind == "coincident images":
        positions = np.vstack([positions, positions[rng.integers(len(positions))]])
    n_periodic = N_PERIODIC.get(kind, 3)
    wraps = rng.integers(-20, 21, positions.shape) * (rng.random() < 0.5)
    wraps[:, n_periodic:] = 0
    if kind == "far off":
        wraps = np.rint(rng.uniform(-1, 1, positions.shape) * 10 ** rng.uniform(5, 13))
    potentials = _draw_potentials(rng, cell[:n_periodic])
    if kind == "needle":  # its waves are too many for the other evaluation
        potentials = tuple(p for p in potentials if not _has_powers(p))
    return Case(
        kind=kind,
        cell=cell,
        positions=positions + wraps @ cell,
        tolerance=10 ** rng.uniform(-12, -2),
        potentials=potentials,
        n_periodic=n_periodic,
        on_one_spot=kind == "coincident images",
    )


def _has_powers(potential: Potential) -> bool:
    return any(isinstance(term, InversePower) for _, term in potential.terms)


def _scattered(rng: np.random.Generator, basis: Floats, n_atoms: int, apart: float) -> Floats:
    """Return up to ``n_atoms`` positions that are ``apart`` (Å), images included."""
    images = (np.array(list(np.ndindex(3, 3, 3))) - 1) @ basis
    positions = np.empty((0, 3))
    for _ in range(20 * n_atoms):
        new = rng.random(3) @ basis
        offsets = positions - new
        offsets -= np.rint(offsets @ np.linalg.inv(basis)) @ basis
        if np.linalg.norm(offsets[:, None] + images, axis=2).min(initial=9.0) > apart:
            positions = np.vstack([positions, new])
        if len(positions) == n_atoms:
            break
    return positions


def _draw_potentials(rng: np.random.Generator, cell: Floats) -> tuple[Potential, ...]:
    """Return the three potentials of the networks and one of each other kind."""
    # A sum that is added up term by term must end within MAX_IMAGES.
    d = len(cell)
    size = math.sqrt(np.linalg.det(cell @ cell.T)) if d else 1.0
    reach = 0.4 * (MAX_IMAGES * size) ** (1 / d) if d else 200.0
    slowest = max(0.3, 50 / reach)
    rates = slowest * (8 / min(slowest, 7)) ** rng.random(3)
    exponent = rng.choice([0.5, 2.0, 2.6, 4.0, 4.7, 5.0, 7.5, 8.0, 9.0, 12.0])
    if exponent == d:  # a pole: what is left without it is a convention
        exponent = 2.3
    cutoff = min(rng.uniform(3, 9), reach)
    shell = Shell(float(rng.uniform(0.5, cutoff)), float(rng.uniform(0.2, 1)), float(cutoff))
    sigma = float(rng.uniform(0.8, 2.5))
    return (
        Coulomb(),
        London(),
        *((Pauli(),) if slowest <= 3 else ()),
        InversePower(float(exponent)),
        Exponential(float(rates[0])),
        Yukawa(float(rates[1])),
        shell,
        Gaussian(float(rng.uniform(0.3, 7 / slowest))),
        LennardJones(float(rng.uniform(0.01, 1)), sigma),
        Morse(float(rng.uniform(0.01, 1)), float(rates[2]), float(rng.uniform(0, 3) / rates[2])),
        Buckingham(float(rng.uniform(0, 50)), float(rates[2]), float(rng.uniform(0, 10))),
    )


# ------------------------------------------------------------------------------ reference


@dataclass(frozen=True)
class Slopes:
    """Derivatives by place, (3,), and strain, (3, 3), and the sums of the sizes of their terms."""

    place: Floats
    strain: Floats
    place_size: float
    strain_size: float

    def plus(self, other: Slopes, times: float = 1.0) -> Slopes:
        return Slopes(
            self.place + times * other.place,
            self.strain + times * other.strain,
            self.place_size + abs(times) * other.place_size,
            self.strain_size + abs(times) * other.strain_size,
        )


def _slopes_of_images(images: Floats, r: Floats, slope: Floats) -> Slopes:
    """Return the derivatives of a sum over images, ``slope`` being those by distance."""
    terms = images * (slope / r)[:, None]
    size = np.abs(slope)
    return Slopes(terms.sum(0), terms.T @ images, float(size.sum()), float((size * r).sum()))


class Reference:
    """Sums over one cell by other means; see the head of this file."""

    def __init__(self, cell: Floats, width: float) -> None:
        """Take periodic vectors, shape (d, 3), and a factor of the usual Ewald width."""
        self.d = len(cell)
        turn = np.rint(_reduced(cell) @ np.linalg.pinv(cell))
        self.basis = turn.astype(np.longdouble) @ cell.astype(np.longdouble)
        self.flat_basis = self.basis.astype(np.float64)
        self.inverse = np.linalg.pinv(self.flat_basis)
        self.size = math.sqrt(np.linalg.det(self.flat_basis @ self.flat_basis.T)) if self.d else 1
        self.alpha = width * math.sqrt(math.pi) / self.size ** (1 / max(self.d, 1))

    def vectors(self, offsets: NDArray[np.longdouble]) -> NDArray[np.longdouble]:
        """Return the pair vectors, wrapped by lattice vectors; exactly where they are long."""
        if np.abs(offsets).max(initial=0) > 1e4:
            return np.array([self._wrapped(row) for row in offsets])
        wraps = np.rint(offsets.astype(np.float64) @ self.inverse)
        return offsets - wraps.astype(np.longdouble) @ self.basis

    def _wrapped(self, offset: NDArray[np.longdouble]) -> NDArray[np.longdouble]:
        place = [_fraction(x) for x in offset]
        rows = [[_fraction(x) for x in row] for row in self.basis]
        while (steps := np.rint([float(x) for x in place] @ self.inverse)).any():
            for step, row in zip(steps.tolist(), rows, strict=True):
                place = [x - int(step) * a for x, a in zip(place, row, strict=True)]
        parts = [(float(x), float(x - Fraction(float(x)))) for x in place]
        return np.array([np.longdouble(a) + np.longdouble(b) for a, b in parts])

    def images(self, vector: NDArray[np.longdouble], radius: float) -> Floats:
        """Return all images of a vector within ``radius`` but a zero one, shape (m, 3)."""
        place = vector.astype(np.float64) @ self.inverse
        reach = radius * np.linalg.norm(self.inverse, axis=0) + 1e-9
        steps = _grid(np.ceil(-place - reach), np.floor(-place + reach))
        found = (vector + steps.astype(np.longdouble) @ self.basis).astype(np.float64)
        squares = (found * found).sum(1)
        return found[(squares > 0) & (squares <= radius * radius)]

    def squares(self, vector: NDArray[np.longdouble], radius: float) -> Floats:
        """Return the squared distances of all images within ``radius`` but the own one."""
        place = vector.astype(np.float64) @ self.inverse
        reach = radius * np.linalg.norm(self.inverse, axis=0) + 1e-9
        steps = _grid(np.ceil(-place - reach), np.floor(-place + reach))
        rough = vector.astype(np.float64) + steps @ self.flat_basis
        steps = steps[np.einsum("ij,ij->i", rough, rough) <= (radius * (1 + 1e-9)) ** 2]
        images = vector + steps.astype(np.longdouble) @ self.basis
        squares = (images * images).sum(1)
        return squares[squares > 0].astype(np.float64)

    def added_up(
        self, vector: NDArray[np.longdouble], value: Callable[[Floats], Floats], radius: float
    ) -> tuple[float, float]:
        """Return the sum of V over the images, and the sum of its magnitudes."""
        r = np.sqrt(self.squares(vector, radius))
        terms = value(r[r <= radius])
        return math.fsum(terms), float(np.abs(terms).sum())

    def power(self, vector: NDArray[np.longdouble], p: float) -> tuple[float, float]:
        """Return the sum of r^-p, and the sum of the magnitudes of its terms.

        The long half of a wave vector k in d dimensions, z beside the lattice, is

            pi^(d/2) / (size Gamma(p/2)) int_0^(alpha^2) t^((p-d)/2-1) exp(-k^2/4t - z^2 t) dt.
        """
        if self.d == 0:
            return self.added_up(vector, lambda r: r**-p, math.inf)
        reach, alpha = 6.9, self.alpha  # exp(-6.9^2) = 2e-21
        squares = self.squares(vector, reach / alpha)
        short = special.gammaincc(p / 2, alpha**2 * squares) * squares ** (-p / 2)
        place = self._fractions(vector)
        beside = vector - place @ self.basis
        z2 = float((beside * beside).sum()) if self.d < 3 else 0.0
        steps, b2 = self.wave_vectors(reach)
        factor = math.pi ** (self.d / 2) / (self.size * math.gamma(p / 2)) * alpha ** (p - self.d)
        coefficients = factor * _mixture(p - self.d, b2, alpha**2 * z2)
        turns = (steps * place).sum(1)
        long = coefficients * np.cos(2 * np.pi * (turns - np.rint(turns)).astype(np.float64))
        constants = [factor * self._without_waves(p, z2)]
        if not vector.any():
            constants.append(-(alpha**p) / math.gamma(p / 2 + 1))
        terms = np.concatenate([short, long, constants])
        size = np.abs(short).sum() + np.abs(coefficients).sum() + np.abs(constants).sum()
        return math.fsum(terms), float(size)

    def power_slopes(self, vector: NDArray[np.longdouble], p: float) -> Slopes:
        """Return the derivatives of the sum of r^-p over a crystal by place and by strain."""
        reach, alpha = 6.9, self.alpha
        images = self.images(vector, reach / alpha)
        r = np.sqrt((images * images).sum(1))
        y = (alpha * r) ** 2
        slope = -p * special.gammaincc(p / 2, y) * r ** (-p - 1)
        slope -= 2 * y ** (p / 2) * np.exp(-y) / math.gamma(p / 2) * r ** (-p - 1)
        short = _slopes_of_images(images, r, slope)
        steps, b2 = self.wave_vectors(reach)
        factor = math.pi**1.5 / (self.size * math.gamma(p / 2)) * alpha ** (p - 3)
        coefficients = factor * _mixture(p - 3, b2, 0.0)
        falls = factor * _mixture(p - 5, b2, 0.0) / (2 * alpha**2)  # times k k
        turns = (steps * self._fractions(vector)).sum(1)
        angles = 2 * np.pi * (turns - np.rint(turns)).astype(np.float64)
        k = steps.astype(np.float64) @ (2 * math.pi * self.inverse.T)
        kk, unit = k[:, :, None] * k[:, None], np.eye(3)
        zero = factor * self._without_waves(p, 0.0)
        cosines = np.cos(angles)[:, None, None]
        squeezed = falls[:, None, None] * kk - coefficients[:, None, None] * unit
        sizes = falls[:, None, None] * np.abs(kk) + coefficients[:, None, None] * unit
        long = Slopes(
            -(coefficients * np.sin(angles)) @ k,
            (squeezed * cosines).sum(0) - zero * unit,
            float((coefficients * np.linalg.norm(k, axis=1)).sum()),
            float(sizes.sum(0).max()) + abs(zero),
        )
        return short.plus(long)

    def slopes_of(self, potential: Potential, vector: NDArray[np.longdouble]) -> Slopes:
        """Return the derivatives of the sum over a crystal by place and by strain."""
        total = Slopes(np.zeros(3), np.zeros((3, 3)), 0.0, 0.0)
        for coefficient, term in potential.terms:
            if isinstance(term, InversePower):
                found = self.power_slopes(vector, float(term.exponent))
            else:
                end = term.cutoff if isinstance(term, Shell) else _decaying(term)[1]
                images = self.images(vector, float(end))
                r = np.linalg.norm(images, axis=1)
                found = _slopes_of_images(images, r, _first_slope(term, r))
            total = total.plus(found, float(coefficient))
        return total

    def _without_waves(self, p: float, z2: float) -> float:
        """Return alpha^(d-p) times the integral at k = 0, continued in p.

        Partial integration lifts s = (p-d)/2 to where int_0^1 t^(s-1) exp(-y t) dt converges. For
        1/r on a line it is the sum within R less 2 log R for each period that has a limit.
        """
        s, y = (p - self.d) / 2, self.alpha**2 * z2
        if s == 0:
            log = math.log(4) + 2 * math.log(self.alpha)
            if y < 1e-300:
                return log + np.euler_gamma
            return log - math.log(y) - float(special.exp1(y))
        if y < 1e-30:
            return 1 / s
        if s < 0:
            return (math.exp(-y) + y * self._unit_mixture(s + 1, y)) / s
        return self._unit_mixture(s, y)

    @staticmethod
    def _unit_mixture(s: float, y: float) -> float:
        """Return int_0^1 t^(s-1) exp(-y t) dt for s > 0."""
        return float(special.gammainc(s, y)) * math.gamma(s) * y**-s

    def _fractions(self, vector: NDArray[np.longdouble]) -> NDArray[np.longdouble]:
        """Return the coordinates of a vector in the reduced basis, to 64 bits."""
        place = (vector.astype(np.float64) @ self.inverse).astype(np.longdouble)
        for _ in range(2):  # iterative refinement
            rest = (vector - place @ self.basis).astype(np.float64)
            place = place + (rest @ self.inverse).astype(np.longdouble)
        return place

    def wave_vectors(self, reach: float) -> tuple[NDArray[np.longdouble], Floats]:
        """Return integers of the wave vectors but 0, and their k^2 / (4 alpha^2)."""
        reciprocal = 2 * math.pi * self.inverse.T
        k_max = 2 * self.alpha * reach
        bound = np.floor(k_max * np.linalg.norm(self.flat_basis, axis=1) / (2 * math.pi))
        steps = _grid(-bound, bound)
        k2 = ((steps @ reciprocal) ** 2).sum(1)
        chosen = (k2 > 0) & (k2 <= k_max**2)
        return steps[chosen].astype(np.longdouble), k2[chosen] / (4 * self.alpha**2)

    def of(self, potential: Potential, vector: NDArray[np.longdouble]) -> tuple[float, float]:
        """Return the sum of a potential over the images of a pair, and the size of its terms."""
        match potential:
            case Combination():
                parts = [(float(c), *self.of(term, vector)) for c, term in potential.terms]
                return (
                    math.fsum(c * total for c, total, _ in parts),
                    sum(abs(c) * size for c, _, size in parts),
                )
            case InversePower(exponent=p):
                return self.power(vector, float(p))
            case Shell(center=c, width=w, cutoff=end):
                return self.added_up(
                    vector,
                    lambda r: np.exp(-(((r - c) / w) ** 2)) * (1 - (r / end) ** 2) ** 3,
                    end,
                )
        value, radius = _decaying(potential)
        return self.added_up(vector, value, radius)

    def cost(self, potential: Potential) -> float:
        """Return about how many terms a sum takes."""
        if isinstance(potential, Combination):
            return sum(self.cost(term) for _, term in potential.terms)
        if isinstance(potential, InversePower):
            return 600.0
        radius = potential.cutoff if isinstance(potential, Shell) else _decaying(potential)[1]
        return 8 * radius**self.d / self.size + 50


def _decaying(potential: Potential) -> tuple[Callable[[Floats], Floats], float]:
    """Return V and the distance at which it has fallen below 2e-21."""
    match potential:
        case Exponential(rate=a):
            return (lambda r: np.exp(-float(a) * r)), 48 / float(a)
        case Yukawa(rate=a):
            return (lambda r: np.exp(-float(a) * r) / r), 48 / float(a)
        case Gaussian(width=w):
            return (lambda r: np.exp(-((r / float(w)) ** 2))), 6.95 * float(w)
    raise TypeError(f"no reference for {potential}")


def _fraction(x: np.longdouble) -> Fraction:
    high = float(x)
    return Fraction(high) + Fraction(float(x - np.longdouble(high)))


_NODES = np.polynomial.legendre.leggauss(16)


def _mixture(power: float, b2: Floats, y: float) -> Floats:
    """Return 2 int_1^inf u^(-power-1) exp(-b2 u^2 - y / u^2) du by Gauss and Legendre in ln u."""
    end = max(0.5, 0.5 * math.log(50 / b2.min())) if len(b2) else 0.5
    n_panels = math.ceil(end / 0.25)
    nodes, weights = _NODES
    edges = np.linspace(0, end, n_panels + 1)
    half = 0.5 * (edges[1] - edges[0])
    w = (edges[:-1, None] + half * (1 + nodes)).ravel()
    weights = np.tile(half * weights, n_panels) * np.exp(-power * w - y * np.exp(-2 * w))
    return 2 * np.exp(-b2[:, None] * np.exp(2 * w)) @ weights


def _grid(low: Floats, high: Floats) -> NDArray[np.int64]:
    """Return all integer vectors between ``low`` and ``high``, shape (n, d)."""
    spans = [np.arange(int(a), int(b) + 1) for a, b in zip(low, high, strict=True)]
    if not spans:
        return np.zeros((1, 0), dtype=np.int64)
    return np.stack(np.meshgrid(*spans, indexing="ij"), -1).reshape(-1, len(spans))


def _reduced(cell: Floats) -> Floats:
    """Return a reduced basis of a lattice of up to three vectors."""
    if len(cell) == 3:
        return reduced(cell)
    if len(cell) < 2:
        return cell
    a, b = cell
    while True:
        if a @ a > b @ b:
            a, b = b, a
        step = round(float(a @ b / (a @ a)))
        if step == 0:
            return np.stack([a, b])
        b = b - step * a


# ------------------------------------------------------------------------------ checks


@dataclass
class Tally:
    """What has been found.

    Attributes:
        sums: Sums compared, by path and potential.
        worst: Largest error over bound, by path and potential.
        refused: Refusals, by path and reason.
        violations: Everything that should not be.
    """

    cases: Counter = field(default_factory=Counter)
    sums: Counter = field(default_factory=Counter)
    worst: defaultdict = field(default_factory=lambda: defaultdict(float))
    refused: Counter = field(default_factory=Counter)
    refused_by_decade: Counter = field(default_factory=Counter)
    kept_by_decade: Counter = field(default_factory=Counter)
    reference_share: list = field(default_factory=list)
    violations: list = field(default_factory=list)


def evaluate(case: Case, path: str, potentials: Sequence[Potential]) -> tuple[Floats, Floats]:
    """Return the sums, (n, n, q), and the bounds by one path."""
    positions = torch.tensor(case.positions, requires_grad=path != "compiled")
    sums = pair_sums(
        positions,
        torch.tensor(case.cell),
        list(potentials),
        tolerance=case.tolerance,
        pbc=np.arange(3) < case.n_periodic,
        relative=path == "relative",
        dtype=torch.float32 if path == "float32" else torch.float64,
    )
    n = len(case.positions)
    return sums.values.detach().double().numpy().reshape(n, n, -1), sums.error_bound.numpy()


def is_compiled(potential: Potential) -> bool:
    """Return whether the compiled path can do a potential."""
    return supports([term for _, term in potential.terms])


def check(case: Case, tally: Tally, seed: int) -> None:
    """Sum a case by both paths and compare."""
    tally.cases[case.kind] += 1
    compiled = [p for p in case.potentials if case.n_periodic == 3 and is_compiled(p)]
    reference = Reference(case.cell[: case.n_periodic], 0.8 + 0.4 * (seed % 7) / 6)
    expected = None
    low = case.potentials if case.tolerance >= 1e-5 else ()
    small = case.potentials if seed // len(CELLS) % 3 == 0 else ()  # they take much longer
    for path, potentials in (
        ("compiled", compiled),
        ("differentiable", case.potentials),
        ("float32", low),
        ("relative", small),
    ):
        found: list[tuple[Potential, Floats, float]] = []
        groups = [list(potentials)] if potentials else []
        while groups:
            group = groups.pop()
            try:
                values, bounds = evaluate(case, path, group)
            except StructureError as error:
                reason = _reason(str(error))
                if reason is None or (reason == "atoms on one spot") != case.on_one_spot:
                    tally.violations.append({"seed": seed, "path": path, "error": str(error)})
                elif len(group) > 1 and not case.on_one_spot:
                    groups = [[p] for p in group]
                    continue
                tally.refused[path, reason] += 1
                continue
            except ConfigError as error:
                if not re.search("float(32|64)", str(error)):
                    tally.violations.append({"seed": seed, "path": path, "error": str(error)})
                if len(group) > 1:  # the others may be within it
                    groups = [[p] for p in group]
                    continue
                tally.refused[path, f"its floats cannot keep it: {_family(group[0])}"] += 1
                tally.refused_by_decade[path, _decade(case.tolerance)] += 1
                continue
            if case.on_one_spot:
                tally.violations.append({"seed": seed, "path": path, "error": "not refused"})
            found.extend((p, values[..., q], float(bounds[q])) for q, p in enumerate(group))
        if case.on_one_spot:
            continue
        if expected is None:
            expected = {p: _expected(case, reference, p) for p in case.potentials}
        for potential, values, bound in found:
            tally.kept_by_decade[path, _decade(case.tolerance)] += 1
            _compare(case, tally, seed, path, potential, values, bound, expected[potential])


def check_bounded_derivatives(case: Case, tally: Tally, seed: int) -> None:
    """Compare first derivatives by positions and strain with their bounds."""
    if case.on_one_spot or case.n_periodic != 3 or seed // len(CELLS) % 3 != 1:
        return
    reference, exact = Reference(case.cell, 1.1), case.positions.astype(np.longdouble)
    j = len(case.positions) - 1
    vector = reference.vectors((exact[j] - exact[0])[None])[0]
    for potential in case.potentials:
        if reference.cost(potential) > MAX_IMAGES:
            continue
        x = torch.tensor(case.positions, requires_grad=True)
        strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
        change = torch.eye(3, dtype=torch.float64) + strain
        try:
            found = pair_sums(
                x @ change, torch.tensor(case.cell) @ change, [potential],
                tolerance=case.tolerance, bound_derivatives=True,
            )  # fmt: skip
        except (ConfigError, StructureError):
            tally.refused["derivatives", _family(potential)] += 1
            continue
        value = found.values[j, 0]
        if not value.requires_grad:  # no image is within reach
            value = value + 0 * (x.sum() + strain.sum())
        place, strained = torch.autograd.grad(
            value, (x, strain), allow_unused=True, materialize_grads=True
        )
        truth, bounds = reference.slopes_of(potential, vector), found.derivative_bounds
        assert bounds is not None
        for name, seen, true, size, bound in (
            ("place", place[j] if j else 0 * place[0], truth.place if j else np.zeros(3),
             truth.place_size, bounds.positions[0, 0]),
            ("strain", strained, truth.strain, truth.strain_size, bounds.strain[0, 0]),
        ):  # fmt: skip
            if name == "strain" and case.kind == "far off":
                continue  # positions that are stretched lose their digits before they are summed
            difference = seen.numpy() - true
            error = np.linalg.norm(difference) if name == "place" else np.abs(difference).max()
            limit = float(bound) + SLOPE_ERROR * size + LEFT_OUT
            key = f"by {name}", _family(potential)
            tally.sums[key] += 1
            tally.worst[key] = max(tally.worst[key], float(error) / limit)
            if not error <= limit:
                tally.violations.append(
                    {"seed": seed, "kind": case.kind, "path": key[0], "potential": potential.name,
                     "error": float(error), "bound": float(bound), "tolerance": case.tolerance}
                )  # fmt: skip


def check_derivatives(case: Case, tally: Tally, seed: int) -> None:
    """Compare directions, and derivatives by parameters, of potentials that decay."""
    if case.on_one_spot or case.kind == "far off" or case.n_periodic == 0:
        return
    periodic, pbc = case.cell[: case.n_periodic], np.arange(3) < case.n_periodic
    reference, exact = Reference(periodic, 1.0), case.positions.astype(np.longdouble)
    j = len(case.positions) - 1
    vector = reference.vectors((exact[j] - exact[0])[None])[0]
    x, cell = torch.tensor(case.positions), torch.tensor(case.cell)
    for potential in case.potentials:
        if not isinstance(potential, Exponential | Yukawa | Gaussian):
            continue
        images = reference.images(vector, _decaying(potential)[1])
        r = np.linalg.norm(images, axis=1)
        first, second, by_parameter = _slopes(potential, r)
        unit = images / r[:, None]
        for degree, slope in ((1, first), (2, second)) if case.n_periodic == 3 else ():
            key = f"directed {degree}", _family(potential)
            terms = slope[:, None] * _harmonics(unit, degree)
            slack = 1e-13 * float(np.abs(terms).sum(0).max()) + LEFT_OUT
            try:
                found = directed_sums(x, cell, [potential], degree=degree, tolerance=case.tolerance)
            except (ConfigError, StructureError) as error:
                tally.refused[key[0], _reason(str(error)) or "its floats cannot keep it"] += 1
                continue
            error = float(np.abs(found.values[j, 0].numpy() - terms.sum(0)).max())
            bound = float(found.error_bound[0])
            tally.sums[key] += 1
            tally.worst[key] = max(tally.worst[key], error / (bound + slack))
            if not (error <= bound + slack and bound <= case.tolerance):
                tally.violations.append(
                    {"seed": seed, "path": key[0], "potential": potential.name, "error": error,
                     "bound": bound, "tolerance": case.tolerance}
                )  # fmt: skip
        name = next(iter(vars(potential)))
        number = torch.tensor(
            float(getattr(potential, name)), dtype=torch.float64, requires_grad=True
        )
        kind = Exponential if isinstance(potential, Exponential) else type(potential)
        tolerance = max(case.tolerance, 1e-9)
        try:
            value = pair_sums(x, cell, [kind(number)], tolerance=tolerance, pbc=pbc).values[j, 0]
        except (ConfigError, StructureError):
            continue
        (slope,) = torch.autograd.grad(value, number)
        key = "by parameter, error over tolerance", _family(potential)  # not bounded, but planned
        noise = 1e-12 * float(np.abs(by_parameter).sum())
        error = max(abs(float(slope) - by_parameter.sum()) - noise, 0.0)
        tally.sums[key] += 1
        tally.worst[key] = max(tally.worst[key], error / tolerance)


def _slopes(potential: Potential, r: Floats) -> tuple[Floats, Floats, Floats]:
    """Return V', V'' - V'/r, and the derivative of V by its parameter."""
    match potential:
        case Exponential(rate=a):
            v = np.exp(-a * r)
            return -a * v, (a * a + a / r) * v, -r * v
        case Yukawa(rate=a):
            v = np.exp(-a * r) / r
            return -(a + 1 / r) * v, (a * a + 3 * a / r + 3 / r**2) * v, -r * v
        case Gaussian(width=w):
            v = np.exp(-((r / w) ** 2))
            return -2 * r / w**2 * v, (2 * r / w**2) ** 2 * v, 2 * r**2 / w**3 * v
    raise TypeError(f"no slopes of {potential}")


def _first_slope(potential: Potential, r: Floats) -> Floats:
    """Return V' of a potential that decays or ends."""
    if isinstance(potential, Shell):
        c, w, end = (float(x) for x in (potential.center, potential.width, potential.cutoff))
        bell, edge = np.exp(-(((r - c) / w) ** 2)), 1 - (r / end) ** 2
        return -bell * edge**2 * (2 * (r - c) / w**2 * edge + 6 * r / end**2)
    return _slopes(potential, r)[0]


def _harmonics(unit: Floats, degree: int) -> Floats:
    x, y, z = unit.T
    if degree == 1:
        return unit
    root = math.sqrt(3)
    parts = (root * x * y, root * y * z, z * z - 0.5 * (x * x + y * y), root * x * z)
    return np.stack([*parts, 0.5 * root * (x * x - y * y)], 1)


def _expected(case: Case, reference: Reference, potential: Potential) -> list[tuple]:
    """Return (i, j, sum, what the sum may be off by) of as many pairs as are affordable."""
    n = len(case.positions)
    pairs = [(0, 0), *((i, j) for i in range(n) for j in range(i + 1, n))]
    affordable = min(max(2, int(MAX_IMAGES / reference.cost(potential))), MAX_PAIRS)
    step = -(-len(pairs) // affordable)
    exact = case.positions.astype(np.longdouble)
    rows = []
    for i, j in pairs[::step]:
        vector = reference.vectors((exact[j] - exact[i])[None])[0]
        total, size = reference.of(potential, vector)
        rows.append((i, j, total, REFERENCE_ERROR * size + LEFT_OUT))
    return rows


def _compare(
    case: Case,
    tally: Tally,
    seed: int,
    path: str,
    potential: Potential,
    values: Floats,
    bound: float,
    expected: list[tuple],
) -> None:
    key = path, _family(potential)
    for i, j, total, slack in expected:
        seen = np.diagonal(values) if i == j else [values[i, j], values[j, i]]
        error = np.abs(np.array(seen) - total).max()
        tally.sums[key] += 1
        limit = (bound * abs(total) if path == "relative" else bound) + slack
        if error:
            tally.worst[key] = max(tally.worst[key], error / limit)
        tally.reference_share.append(slack / case.tolerance)
        if not (error <= limit and bound <= case.tolerance):
            tally.violations.append(
                {
                    "seed": seed, "kind": case.kind, "path": path, "potential": potential.name,
                    "pair": [i, j], "tolerance": case.tolerance, "bound": bound,
                    "error": float(error), "granted": slack,
                }
            )  # fmt: skip


def _reason(message: str) -> str | None:
    known = {
        "apart or more": "atoms on one spot",
        "lattice vectors": "too many vectors",
    }
    return next((name for part, name in known.items() if part in message), None)


def _family(potential: Potential) -> str:
    return type(potential).__name__


def _decade(tolerance: float) -> str:
    return f"1e{math.floor(math.log10(tolerance)):d}"


def check_reference(n_cells: int) -> dict[str, float]:
    """Return how far the reference is from 25 digits, over what was granted to it; 1 is too far."""
    worst: dict[str, float] = defaultdict(float)
    seed = done = 0
    while done < n_cells:
        case, seed = make_case(seed), seed + 1
        plain = case.n_periodic == 3 and not case.on_one_spot
        if not plain or not 5 < abs(np.linalg.det(case.cell)) < 3000:
            continue
        done += 1
        reference = Reference(case.cell, 0.8 + 0.4 * (seed % 7) / 6)
        exact = case.positions.astype(np.longdouble)
        last = len(case.positions) - 1
        cell = reference.flat_basis
        if np.abs(reference.basis - cell).max() > 0:  # the oracle takes float64 vectors
            reference = Reference(cell, 1.1)
        for i, j in {(0, 0), (0, last)}:
            vector = reference.vectors((exact[j] - exact[i])[None])[0]
            rounded = vector.astype(np.float64)
            vector = rounded.astype(np.longdouble)
            for potential in case.potentials[:4]:
                if isinstance(potential, InversePower):
                    truth = power_sum(cell, rounded, potential.exponent, digits=25)
                elif isinstance(potential, Exponential) and potential.rate >= 3:
                    truth = exponential_sum(cell, rounded, potential.rate, digits=25)
                else:
                    continue
                total, size = reference.of(potential, vector)
                error = abs(float(truth - total))
                name = _family(potential)
                worst[name] = max(worst[name], error / (REFERENCE_ERROR * size + LEFT_OUT))
    return dict(worst)


def run(
    seeds: range, progress: Callable[[int], None] = lambda _: None, minutes: float = math.inf
) -> Tally:
    """Return the tally of the cases of ``seeds``, or of those that were begun in time."""
    tally, start = Tally(), time.monotonic()
    for seed in seeds:
        if time.monotonic() - start > 60 * minutes:
            break
        case = make_case(seed)
        check(case, tally, seed)
        check_derivatives(case, tally, seed)
        check_bounded_derivatives(case, tally, seed)
        progress(seed)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=4000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no cell after that")
    parser.add_argument("--oracle", type=int, default=30, help="cells for 25-digit sums")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()

    def progress(seed: int) -> None:
        if (seed + 1) % 50 == 0:
            print(f"{seed + 1} cells, {time.perf_counter() - start:.0f} s", flush=True)

    oracle = check_reference(arguments.oracle)
    seeds = range(arguments.first, arguments.first + arguments.cells)
    tally = run(seeds, progress, arguments.minutes)
    shares = np.array(tally.reference_share)
    result = {
        "version": potnet.__version__,
        "python": platform.python_version(),
        "command": " ".join(["python", *sys.argv]),
        "cells": dict(tally.cases),
        "tolerances": [1e-12, 1e-2],
        "sums": {" ".join(key): n for key, n in sorted(tally.sums.items())},
        "largest_error_over_bound": {" ".join(k): v for k, v in sorted(tally.worst.items())},
        "kept": {" ".join(key): n for key, n in sorted(tally.kept_by_decade.items())},
        "refused_by_tolerance": {
            " ".join(key): n for key, n in sorted(tally.refused_by_decade.items())
        },
        "refused": {": ".join(map(str, key)): n for key, n in sorted(tally.refused.items())},
        "granted_to_reference_over_tolerance": {
            "median": float(np.median(shares)),
            "95 %": float(np.percentile(shares, 95)),
            "largest": float(shares.max()),
        },
        "reference_error_over_granted_against_25_digits": oracle,
        "violations": tally.violations,
    }
    with atomic_write(arguments.output) as file:
        file.write(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "violations"}, indent=1))
    print(f"{sum(tally.sums.values())} sums, {len(tally.violations)} violations")
    for violation in tally.violations[:20]:
        print(violation)
    sys.exit(bool(tally.violations))


if __name__ == "__main__":
    main()
