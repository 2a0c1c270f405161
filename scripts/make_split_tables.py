"""Make ``src/latticesums/compiled/split_tables.npy``, the constants of the compiled sums.

The Kaiser-Bessel split of r^-p, p = 1 and 6, one table each, one row per cut in wave number. All
lengths are in units of the real-space cutoff R, all wave numbers t = k R.

**The split.** r^-p is harmonic in D = p + 2 dimensions. Its convolution in D dimensions with the
normalised window w(s) = I0(beta sqrt(1 - s^2)) on the unit ball is therefore r^-p itself outside
the ball (Newton's theorem), and inside it, with C = 1 / int_0^1 s^(p+1) w ds,

    L(r) = C [int_r^1 s w ds + r^-p int_0^r s^(p+1) w ds],

entire in r^2. The short half r^-p - L ends at r = 1. With Lambda_n(z^2) = I_n(z) / z^n and N =
1 / Lambda_4(beta^2), the transforms of the long halves in three dimensions are

    p = 1:  4 pi / t^2 G(beta^2 - t^2) / G(beta^2),   G(z^2) = (z cosh z - sinh z) / z^3,
    p = 6:  pi/6 N int_t^inf (s^2 - t^2)^(3/2) s^-1 Lambda_4(beta^2 - s^2) ds.

**The envelopes**, for t > beta, with u^2 = t^2 - beta^2 (p = 1) or s^2 - beta^2 (p = 6).
p = 1: |G| = |sin u - u cos u| / u^3 <= min(1/3, sqrt(1 + u^2) / u^3).
p = 6: (1/s) d/ds Lambda_n = -Lambda_(n+1), so two integrations by parts give

    pi/6 N int_t^inf Lambda_2(beta^2 - s^2) (8 t^4 - 4 t^2 s^2 - s^4) s^-5 (s^2 - t^2)^(-1/2) ds

and |Lambda_2| = |J_2(u)| / u^2 <= min(1/8, sqrt(2/pi) (u^2 - 4)^(-1/4) / u^2), the second for
u > 2 (Watson 13.74: x > n >= 1/2 implies J_n^2 + Y_n^2 < 2 / (pi sqrt(x^2 - n^2))). With s = t v
the bound falls in t for every v, so the integral of its magnitude is a falling envelope; beyond T
it is below (T/t)^3.5 times its value at T, and the one of p = 1 below (T/t)^4 times (1 + 1/u^2).
Moments of the envelopes are upper Riemann sums of a falling function plus these tails: proved but
for rounding and, for p = 6, Gauss-Legendre quadrature, for which 0.2 % is added.

Polynomials are Chebyshev series of L(r^2) and the transform, computed with 60 digits, cut where
the rest, stored beside them, is far below the truncation error of the row, and written as powers
of a variable in [-1, 1].

Run: python scripts/make_split_tables.py (minutes; needs mpmath and scipy).
"""

from functools import cache
from pathlib import Path

import mpmath as mp
import numpy as np
import scipy.special

TARGET = Path(__file__).parents[1] / "src" / "latticesums" / "compiled" / "split_tables.npy"
ROOM = 48  # coefficients of one polynomial
TERMS = 170  # of the power series of the window
NODES = 72  # of the Chebyshev interpolation
CUTS = np.arange(4.0, 45.0, 0.25)
OFFSET = 0.875  # cut - beta; the best one to 2 % at every cut, in a cubic cell of four images
LAST = 2e4  # where the tails of the moments are continued analytically
mp.mp.dps = 60


def window(z2):
    """Return G(z^2) for z^2 of either sign."""
    if abs(z2) < 1e-8:
        return mp.mpf(1) / 3 + z2 / 30 + z2**2 / 840
    z = mp.sqrt(abs(z2))
    return (z * mp.cosh(z) - mp.sinh(z)) / z**3 if z2 > 0 else (mp.sin(z) - z * mp.cos(z)) / z**3


def coulomb_envelope(t, beta):
    """Return the envelope of the transform of 1/r for an array of t > beta."""
    u = np.sqrt(t**2 - beta**2)
    norm = float(window(mp.mpf(beta) ** 2))
    return 4 * np.pi / t**2 * np.minimum(1 / 3, np.sqrt(1 + u**2) / u**3) / norm * (1 + 1e-9)


@cache
def quadrature():
    """Return nodes and weights for q = sqrt(s^2 - t^2) from 0 to far beyond what matters."""
    x, w = np.polynomial.legendre.leggauss(12)
    edges = np.concatenate([np.arange(0, 60, 0.5), np.geomspace(60, 4e6, 80)])
    width = np.diff(edges)[:, None]
    return (edges[:-1, None] + width * (x + 1) / 2).ravel(), (width * w / 2).ravel()


def london_envelope(t, beta):
    """Return the envelope of the transform of r^-6 for an array of t > beta."""
    q, weights = quadrature()
    t2 = t[:, None] ** 2
    s2 = t2 + q * q
    u2 = s2 - beta**2
    with np.errstate(divide="ignore", invalid="ignore"):
        far = np.where(u2 > 4, np.sqrt(2 / np.pi) * (u2 - 4) ** -0.25 / u2, np.inf)
    kernel = np.minimum(1 / 8, far) * np.abs(8 * t2**2 - 4 * t2 * s2 - s2**2) / s2**3
    norm = beta**4 / scipy.special.ive(4, beta) * np.exp(-beta)
    return np.pi / 6 * norm * 1.002 * (kernel @ weights)


def moments(envelope, power, cut, beta):
    """Return the envelope at the cut and bounds of its integrals times t^0, t^1, t^2 beyond.

    ``power``: the envelope falls at least like t^-power, nearly, beyond ``LAST``.
    """
    grid = np.concatenate([np.arange(cut, cut + 8, 0.01), np.geomspace(cut + 8, LAST, 600)])
    value = np.concatenate([envelope(part, beta) for part in np.array_split(grid, 16)])
    out = [value[0]]
    for n in range(3):
        upper = np.sum(value[:-1] * grid[1:] ** n * np.diff(grid))
        out.append(upper + 1.001 * value[-1] * LAST ** (n + 1) / (power - n - 1))
    return out


def long_half(p, beta):
    """Return (function of y = r^2, its moments int_0^1 r^(2m+2) L dr for the transform).

    The window is sum_n a_n s^(2n), a_n = (-beta/2)^n I_n(beta) / n!.
    """
    series = [(-beta / 2) ** n * mp.besseli(n, beta) / mp.factorial(n) for n in range(TERMS)]
    norm = mp.fsum(a / (2 * n + p + 2) for n, a in enumerate(series))
    constant = mp.fsum(a / (2 * n + 2) for n, a in enumerate(series)) / norm
    powers = [
        a / norm * (mp.mpf(1) / (2 * n + p + 2) - mp.mpf(1) / (2 * n + 2))
        for n, a in enumerate(series)
    ]
    descending = [*reversed(powers), constant]
    inner = [
        constant / (2 * m + 3) + mp.fsum(c / (2 * m + 2 * n + 5) for n, c in enumerate(powers))
        for m in range(TERMS)
    ]
    return lambda y: mp.polyval(descending, y), inner


def london_transform(t, inner):
    """Return 4 pi / t (int_0^1 r sin(t r) L dr + int_1^inf r^-5 sin(t r) dr)."""
    inside = mp.fsum(
        (-1) ** m * t ** (2 * m) / mp.factorial(2 * m + 1) * value for m, value in enumerate(inner)
    )
    sine, cosine = mp.pi / 2 - mp.si(t), -mp.ci(t)  # int_1^inf of sin(t r) / r^n and cos, n = 1
    for n in range(1, 5):
        sine, cosine = (mp.sin(t) + t * cosine) / n, (mp.cos(t) - t * sine) / n
    return 4 * mp.pi * (inside + sine / t)


def chebyshev(function, target):
    """Return (powers of u, rest) of a function on u in [-1, 1], rest being the cut tail."""
    angles = [mp.pi * (i + mp.mpf(1) / 2) / NODES for i in range(NODES)]
    values = [function(mp.cos(a)) for a in angles]
    table = [mp.cos(mp.pi * i / (2 * NODES)) for i in range(4 * NODES)]
    series = [
        2 * mp.fsum(v * table[k * (2 * i + 1) % (4 * NODES)] for i, v in enumerate(values)) / NODES
        for k in range(NODES)
    ]
    series[0] /= 2
    tails = [mp.fsum(abs(c) for c in series[k + 1 :]) for k in range(NODES)]
    rounding = 2e-16 * max(abs(v) for v in values)
    degree = next(k for k in range(2, NODES) if tails[k] < max(target, rounding))
    if degree >= ROOM:
        raise ValueError(f"make_split_tables: degree must be below {ROOM}, got {degree}.")
    now, before = [mp.mpf(1)], []
    powers = [mp.mpf(0)] * (degree + 1)
    for k in range(degree + 1):
        for i, c in enumerate(now):
            powers[i] += series[k] * c
        shifted = [mp.mpf(0)] + [(1 if k == 0 else 2) * c for c in now]
        now, before = (
            [s - (before[i] if i < len(before) else 0) for i, s in enumerate(shifted)],
            now,
        )
    padding = [0.0] * (ROOM - len(powers))
    return [float(c) for c in powers] + padding, degree, float(2 * (tails[degree] + rounding))


def row(p, cut):
    """Return one row: beta, cut, envelope, moments, k = 0 term, rests, degrees, L(0), powers."""
    beta = mp.mpf(cut - OFFSET)
    inside, inner = long_half(p, beta)
    envelope, power = (coulomb_envelope, 4) if p == 1 else (london_envelope, 3.5)
    bounds = moments(envelope, power, cut, float(beta))
    norm = window(beta**2)
    if p == 1:  # polynomial in t^2 of t^2 / (4 pi) times the transform
        zero = -4 * mp.pi * mp.diff(window, beta**2) / norm
        at_cut = bounds[0] * cut**2 / (4 * mp.pi)

        def transform(u):
            return window(beta**2 - mp.mpf(cut) ** 2 * (u + 1) / 2) / norm
    else:  # polynomial in t
        zero = 4 * mp.pi * (inner[0] + mp.mpf(1) / (p - 3))
        at_cut = bounds[0]

        def transform(u):
            return london_transform(mp.mpf(cut) * (u + 1) / 2, inner)

    # In real space and in wave space a rest of this size is small beside the bound of the row.
    real, real_degree, real_rest = chebyshev(lambda u: inside((u + 1) / 2), 0.02 * float(at_cut))
    recip, recip_degree, recip_rest = chebyshev(transform, 0.02 * float(at_cut))
    head = [float(beta), cut, *bounds, float(zero), real_rest, recip_rest]
    return [*head, real_degree, recip_degree, float(inside(mp.mpf(0))), *real, *recip]


def main():
    np.save(TARGET, np.array([[row(p, cut) for cut in CUTS] for p in (1, 6)]))


if __name__ == "__main__":
    main()
