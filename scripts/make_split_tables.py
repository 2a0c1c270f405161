"""Make ``src/potnet/sums/split_tables.safetensors``, the constants that ``sums/fast.py`` reads.

Two families of rows, all lengths in units of the real-space cutoff R, all wave numbers t = k R.

``coulomb``: the Kaiser-Bessel split of 1/r. The window is phi(s) = I0(beta sqrt(1 - s^2)) on the
unit ball. By Newton's theorem (1/r) * phi is 1/r outside the ball and an entire function L(r^2)
inside it; its transform is 4 pi / t^2 * G(sqrt(beta^2 - t^2)) / G(beta) with the elementary

    G(z) = (z cosh z - sinh z) / z^3,     G(i s) = (sin s - s cos s) / s^3.

G(sqrt(beta^2 - t^2)) falls for t < beta (G has a power series with positive coefficients), and
|G(i s)| <= min(1/3, sqrt(1 + s^2) / s^3), so the envelope below is proved. Its moments are upper
Riemann sums of a falling function with an analytic tail, so they are proved as well.

``london``: the Gaussian split of r^-6 with x = alpha R: L(r^2) = x^6 h(x^2 r^2),
h(w) = (1 - exp(-w) (1 + w + w^2/2)) / w^3. ``london_recip`` holds, for wave numbers up to
b = k / (2 alpha), the polynomial of F(b) = sqrt(pi) b^3 erfc(b) + (1/2 - b^2) exp(-b^2).

Polynomials are Chebyshev series cut where the rest, stored beside them, is far below the
truncation error of the row, and written as powers of a variable in [-1, 1].

Run: python scripts/make_split_tables.py (about three minutes; needs mpmath).
"""

from pathlib import Path

import mpmath as mp
import numpy as np
from safetensors.numpy import save

TARGET = Path(__file__).parents[1] / "src" / "potnet" / "sums" / "split_tables.safetensors"
WIDTH = 48  # room for the coefficients of one polynomial
STEP = 0.25  # spacing of the rows of the Coulomb table in t
mp.mp.dps = 60


def window(z2):
    """Return G as a function of z^2, for either sign."""
    z2 = mp.mpf(z2)
    if abs(z2) < 1e-8:
        return mp.mpf(1) / 3 + z2 / 30 + z2**2 / 840
    z = mp.sqrt(abs(z2))
    return (z * mp.cosh(z) - mp.sinh(z)) / z**3 if z2 > 0 else (mp.sin(z) - z * mp.cos(z)) / z**3


def envelope(t, beta):
    """Return the falling bound of |transform| of the Coulomb long half, for an array of t."""
    scale = float(window(beta**2) * mp.exp(-beta))  # G(beta) e^-beta, to stay in range
    z = np.sqrt(np.maximum(beta**2 - t**2, 1e-12))
    s = np.sqrt(np.maximum(t**2 - beta**2, 1e-12))
    small = z < 0.05
    inside = ((z - 1) * np.exp(z - beta) + (z + 1) * np.exp(-z - beta)) / (2 * z**3)
    inside = np.where(small, (1 / 3 + z**2 / 29) * np.exp(-beta), inside)
    outside = np.minimum(1 / 3, np.sqrt(1 + s**2) / s**3) * np.exp(-beta)
    return 4 * np.pi / t**2 * np.where(t < beta, inside, outside) / scale * (1 + 1e-9)


def envelope_moments(beta, starts):
    """Return envelope and upper bounds of its integrals times t^0, t^1, t^2 from each start on."""
    last = 2e4
    grid = np.union1d(np.arange(starts[0], beta + 60, 1e-3), np.geomspace(beta + 60, last, 20000))
    grid = np.union1d(grid, starts)
    value = envelope(grid, beta)
    far = envelope(np.array([last]), beta)[0] * last**4 * 1.01  # envelope <= far / t^4 beyond
    out = [envelope(starts, beta)]
    for n in range(3):
        cells = value[:-1] * grid[1:] ** n * np.diff(grid)
        tail = far * last ** (n - 3) / (3 - n)
        sums = np.concatenate([np.cumsum(cells[::-1])[::-1], [0.0]]) + tail
        out.append(sums[np.searchsorted(grid, starts)])
    return np.array(out)


def chebyshev(function, target, n=72):
    """Return (powers of u, rest) of a function on u in [-1, 1], rest being the cut tail."""
    nodes = [mp.cos(mp.pi * (i + mp.mpf(1) / 2) / n) for i in range(n)]
    values = [function(u) for u in nodes]
    angles = [mp.pi * (i + mp.mpf(1) / 2) / n for i in range(n)]
    series = [
        2 * mp.fsum(v * mp.cos(k * a) for v, a in zip(values, angles, strict=True)) / n
        for k in range(n)
    ]
    series[0] /= 2
    tails = [mp.fsum(abs(c) for c in series[k + 1 :]) for k in range(n)]
    rounding = 2e-16 * max(abs(v) for v in values)
    target = max(target, rounding)
    degree = next(k for k in range(2, n) if tails[k] < target)
    if degree >= WIDTH:
        raise ValueError(f"make_split_tables: degree must be below {WIDTH}, got {degree}.")
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
    return np.array([float(c) for c in powers]), float(2 * (tails[degree] + rounding))


def padded(powers):
    return np.concatenate([powers, np.zeros(WIDTH - len(powers))])


def best_windows(starts):
    """Return for each cut t the beta with the smallest bound in a cubic cell of four images."""
    edge = 2 * np.pi / (4 * np.pi / 12) ** (1 / 3)  # reciprocal cell edge in units of 1/R
    volume, mu = edge**3, np.sqrt(3) / 2 * edge
    betas = np.arange(2.0, 48.0, 0.125)
    bounds = []
    for beta in betas:
        f, j0, j1, j2 = envelope_moments(beta, starts)
        ball = 4 * np.pi / 3 * (starts**3 - np.maximum(starts - mu, 0) ** 3)
        shell = volume + 6 * edge**2 * starts + 3 * np.pi * edge * starts**2 + ball
        bounds.append(f * shell + 6 * edge**2 * j0 + 6 * np.pi * edge * j1 + 4 * np.pi * j2)
    return betas[np.argmin(bounds, axis=0)]


def coulomb_row(cut, beta):
    """Return one row: beta, cut, envelope, 3 moments, k = 0 term, rests, degrees, polynomials."""
    beta = mp.mpf(float(beta))
    norm = window(beta**2)
    moments = envelope_moments(float(beta), np.array([cut]))[:, 0]
    series = [(-beta / 2) ** n * mp.besseli(n, beta) / mp.factorial(n) for n in range(160)]

    def long_half(u):
        y = (u + 1) / 2
        return (
            mp.fsum(
                a * ((1 - y ** (n + 1)) / (2 * n + 2) + y ** (n + 1) / (2 * n + 3))
                for n, a in enumerate(series)
            )
            / norm
        )

    def transform(u):
        return window(beta**2 - mp.mpf(cut) ** 2 * (u + 1) / 2) / norm

    level = float(mp.exp(-beta))
    real, real_rest = chebyshev(long_half, level * 0.03)
    recip, recip_rest = chebyshev(transform, level * 0.03)
    background = 4 * mp.pi * -mp.diff(window, beta**2) / norm
    head = [
        float(beta),
        cut,
        *moments,
        float(background),
        real_rest,
        recip_rest,
        len(real) - 1,
        len(recip) - 1,
        float(long_half(mp.mpf(-1))),
    ]
    return np.concatenate([head, padded(real), padded(recip)])


def london_row(x):
    """Return one row: x, real kernel at R, rest, degree, polynomial of the long half."""
    w = mp.mpf(x) ** 2
    at_cutoff = mp.exp(-w) * (1 + w + w**2 / 2)

    def long_half(u):
        v = w * (u + 1) / 2
        return w**3 * mp.exp(-v) * mp.fsum(v**n / mp.factorial(n + 3) for n in range(200))

    real, rest = chebyshev(long_half, float(at_cutoff) * 1e-3)
    return np.concatenate([[x, float(at_cutoff), rest, len(real) - 1], padded(real)])


def london_recip_row(b):
    """Return one row: b, F(b), rest, degree, polynomial of F on [0, b]."""

    def bracket(q):
        return mp.sqrt(mp.pi) * q**3 * mp.erfc(q) + (mp.mpf(1) / 2 - q * q) * mp.exp(-q * q)

    at_cut = bracket(mp.mpf(b))
    fit, rest = chebyshev(lambda u: bracket(b * (u + 1) / 2), float(at_cut) * 3e-3)
    return np.concatenate([[b, float(at_cut), rest, len(fit) - 1], padded(fit)])


def main():
    cuts = np.arange(5.0, 45.0, STEP)
    tables = {
        "coulomb": np.array(
            [coulomb_row(*pair) for pair in zip(cuts, best_windows(cuts), strict=True)]
        ),
        "london": np.array([london_row(x) for x in np.arange(0.5, 7.01, 0.0625)]),
        "london_recip": np.array([london_recip_row(b) for b in np.arange(0.25, 7.26, 0.125)]),
    }
    TARGET.write_bytes(save(tables, {"generator": "scripts/make_split_tables.py"}))


if __name__ == "__main__":
    main()
