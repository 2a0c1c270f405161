"""The sums done the slow and obvious way, in high precision, to test latticesums against.

Needs mpmath, which is a dependency of the tests only. Nothing here reduces a tolerance to radii by
the bounds of :mod:`latticesums.bounds`: terms are added until they are below 10^-digits.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Array = NDArray[np.float64]


def power_sum(cell: Array, vector: Array, exponent: float, *, digits: int = 25) -> Any:
    """Return the sum of |vector + L|^-exponent over the lattice, continued below exponent 3.

    Ewald's formula with incomplete gamma functions throughout (docs/theory.md, eqs. 3 to 10). A
    zero ``vector`` means an atom and its own images.

    Args:
        cell: Lattice vectors as rows in Å, shape (3, 3); should not be very skewed.
        vector: r_j - r_i in Å, shape (3,).
        exponent: Any real number above 0 except 3.
        digits: Correct decimal digits, about.

    Returns:
        An mpmath number.
    """
    import mpmath as mp

    with mp.workdps(digits + 15):
        rows = mp.matrix(cell.tolist())
        volume = abs(mp.det(rows))
        alpha = mp.sqrt(mp.pi) / mp.cbrt(volume)
        p, half = mp.mpf(exponent), mp.mpf(exponent) / 2
        reach = math.sqrt(digits * math.log(10)) + 1  # exp(-reach^2) < 10^-digits
        total = mp.mpf(0)
        for r2 in _squares(rows, vector, reach / float(alpha)):
            total += mp.gammainc(half, alpha**2 * r2, regularized=True) / r2**half
        reciprocal = 2 * mp.pi * (rows**-1).T
        factor = mp.pi ** mp.mpf(1.5) / (volume * mp.gamma(half))
        for k in _vectors(reciprocal, np.zeros(3), 2 * float(alpha) * reach):
            k2 = _square(k)
            if k2 == 0:
                continue
            angle = mp.fsum(a * mp.mpf(float(b)) for a, b in zip(k, vector, strict=True))
            long = (k2 / 4) ** ((p - 3) / 2) * mp.gammainc((3 - p) / 2, k2 / (4 * alpha**2))
            total += factor * long * mp.cos(angle)
        total += factor * 2 * alpha ** (p - 3) / (p - 3)
        if not np.any(vector):
            total -= alpha**p / mp.gamma(half + 1)
        return total


def lower_power_sum(cell: Array, vector: Array, exponent: float, *, digits: int = 18) -> Any:
    """Return the sum of |vector + L|^-exponent over a lattice of two vectors, one, or none.

    The long half is integrated over the widths of its Gaussians by mpmath, after Poisson's formula
    under the integral (docs/theory.md, eq. 24); its wave k = 0 is a confluent hypergeometric
    function. At the pole, exponent d, the mean of two nearby exponents leaves the finite part.

    Args:
        cell: Lattice vectors as rows in Å, shape (d, 3); should not be very skewed.
        vector: r_j - r_i in Å, shape (3,); zero means an atom and its own images.
        exponent: Any real number above 0.
        digits: Correct decimal digits, about.

    Returns:
        An mpmath number.
    """
    import mpmath as mp

    d = len(cell)
    if d == 0:
        return (
            mp.mpf(0)
            if not np.any(vector)
            else _square(list(map(mp.mpf, vector))) ** (-mp.mpf(exponent) / 2)
        )
    with mp.workdps(2 * digits + 20 if exponent == d else digits + 10):
        if exponent == d:
            step = mp.mpf(10) ** (-digits // 2 - 2)
            return (
                _lower_power_sum(cell, vector, exponent + step, digits)
                + _lower_power_sum(cell, vector, exponent - step, digits)
            ) / 2
        return _lower_power_sum(cell, vector, mp.mpf(exponent), digits)


def _lower_power_sum(cell: Array, vector: Array, p: Any, digits: int) -> Any:
    import mpmath as mp

    rows = mp.matrix(cell.tolist())
    d, half = len(cell), p / 2
    gram = rows * rows.T
    measure = mp.sqrt(mp.det(gram))
    alpha = mp.sqrt(mp.pi) / measure ** (mp.mpf(1) / d)
    reach = math.sqrt(digits * math.log(10)) + 1  # exp(-reach^2) < 10^-digits
    total = mp.mpf(0)
    for r2 in _squares(rows, vector, reach / float(alpha)):
        total += mp.gammainc(half, alpha**2 * r2, regularized=True) / r2**half
    inverse = gram**-1
    shift = mp.matrix([mp.mpf(float(x)) for x in vector])
    place = inverse * rows * shift  # coordinates along the lattice
    across = shift - rows.T * place
    h2 = _square(list(across))
    waves = []
    for k in _vectors(2 * mp.pi * inverse * rows, np.zeros(3), 2 * float(alpha) * reach):
        if k2 := _square(k):
            waves.append((k2 / 4, mp.cos(mp.fdot(k, shift))))

    def gaussians(t: Any) -> Any:
        theta = mp.fsum(c * mp.exp(-q / t) for q, c in waves)
        return t ** (half - mp.mpf(d) / 2 - 1) * mp.exp(-t * h2) * theta

    s = half - mp.mpf(d) / 2
    factor = mp.pi ** (mp.mpf(d) / 2) / (measure * mp.gamma(half))
    ends = [0, alpha**2 / 16, alpha**2 / 4, alpha**2]
    flat = alpha ** (2 * s) / s * mp.hyp1f1(s, s + 1, -(alpha**2) * h2)
    total += factor * (mp.quad(gaussians, ends) + flat)
    if not np.any(vector):
        total -= alpha**p / mp.gamma(half + 1)
    return total


def brute_force_sum(
    cell: Array, vector: Array, potential: Callable[[Array], Array], radius: float
) -> float:
    """Return the sum of ``potential(r)`` over all images within ``radius``, term by term.

    Args:
        cell: Lattice vectors as rows in Å, shape (d, 3), d from 0 to 3.
        vector: r_j - r_i in Å, shape (3,); zero leaves out the own image.
        potential: V of an array of distances in Å.
        radius: Images farther than this are left out, Å.
    """
    bounds = _index_bounds(cell, vector, radius)
    integers = list(itertools.product(*(range(a, b + 1) for a, b in bounds)))
    images = vector + np.reshape(integers, (len(integers), len(cell))) @ cell
    r = np.sqrt((images * images).sum(1))
    return math.fsum(potential(np.sort(r[(r <= radius) & (r > 0)])))


def exponential_sum(cell: Array, vector: Array, rate: float, *, digits: int = 25) -> Any:
    """Return the sum of exp(-rate |vector + L|) over the lattice, as an mpmath number.

    Args:
        cell: Lattice vectors as rows in Å, shape (3, 3).
        vector: r_j - r_i in Å, shape (3,); zero leaves out the own image.
        rate: Decay in 1/Å.
        digits: Correct decimal digits, about.
    """
    import mpmath as mp

    with mp.workdps(digits + 15):
        rows = mp.matrix(cell.tolist())
        # Beyond the radius lie about (4 pi / V) r^2 / rate exp(-rate r); six digits cover r^2.
        radius = (digits + 6) * math.log(10) / rate
        squares = _squares(rows, vector, radius)
        return mp.fsum(mp.exp(-mp.mpf(rate) * mp.sqrt(r2)) for r2 in squares)


def _index_bounds(cell: Array, vector: Array, radius: float) -> list[tuple[int, int]]:
    """Return the integers that a lattice vector within ``radius`` of -vector can have."""
    inverse = np.linalg.pinv(cell)
    centre = -vector @ inverse
    extent = radius * np.linalg.norm(inverse, axis=0) + 1e-9
    return [(math.ceil(c - e), math.floor(c + e)) for c, e in zip(centre, extent, strict=True)]


def _vectors(rows: Any, vector: Array, radius: float) -> Iterator[list[Any]]:
    """Yield vector + L, in high precision, for all of them within ``radius``."""
    import mpmath as mp

    cell = np.array(rows.tolist(), dtype=float)
    start = [mp.mpf(float(x)) for x in vector]
    ranges = [range(a, b + 1) for a, b in _index_bounds(cell, vector, radius)]
    for n in itertools.product(*ranges):
        if np.linalg.norm(vector + np.array(n) @ cell) <= radius:
            yield [start[a] + mp.fdot(n, rows[:, a]) for a in range(3)]


def _squares(rows: Any, vector: Array, radius: float) -> Iterator[Any]:
    """Yield the squared lengths of vector + L within ``radius``, without a zero."""
    for image in _vectors(rows, vector, radius):
        square = _square(image)
        if square:
            yield square


def _square(vector: list[Any]) -> Any:
    return vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2
