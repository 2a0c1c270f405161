"""The lattice sums on the CPU without gradients, as fast as the machine allows.

The same sums as ``ewald.py``, compiled by numba. Per crystal: reduce the lattice, split each
potential into a short half summed over images and a long half summed over wave vectors, choose
both radii from proved bounds for the tolerance, evaluate.

Every long half is an even entire function of r, a polynomial in r^2 inside the cutoff R, so the
short half is V(r) - P(r^2): no special function is left in the inner loops.

* Coulomb and London: the Kaiser-Bessel split. Its short half ends at R exactly, so the bound is on
  wave vectors alone, by a proved envelope of the transform (docs/theory.md, eq. 25). It needs
  half as many terms as the Gaussian split, or fewer.
* Exponential: summed over images alone, or by its Gaussian split when the decay is slow.
* Shell: summed over images, exact.

The bound of a sum that runs over |y| > r only uses the number of lattice points in a ball,

    Vol(B(r - mu)) / V <= N(r) <= [V + 2 r (l1 l2 + l1 l3 + l2 l3) + pi r^2 (l1 + l2 + l3)
                                   + 4 pi r^3 / 3] / V,

l the Gram-Schmidt lengths and mu = |l| / 2 (the centred Gram-Schmidt box tiles space; Steiner).
Proved means up to rounding, for which an allowance is added to the bound that is returned.

All compiled code stays in this file: numba's cache does not see changes in other files.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray
from safetensors.numpy import load_file

from potnet.errors import ConfigError, StructureError
from potnet.sums.plan import MAX_VECTORS, SAME_SPOT, TOLERANCE_RANGE
from potnet.sums.potentials import Exponential, InversePower, Potential, Shell

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# No "reassoc" and no "nnan": sums keep their order, so every run gives the same bits.
_jit = nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})

COULOMB, LONDON, EXPONENTIAL, SHELL = range(4)
SINGULAR, TOO_SMALL, OUT_OF_REACH, TOO_LARGE, COINCIDENT, TOO_ROUGH = range(1, 7)

ROOM = 48  # coefficients of one polynomial in the tables
ROUNDOFF = 2.0**-53
PI = math.pi

# Columns of the tables.
T_BETA, T_CUT, T_ENVELOPE, T_J0, T_J1, T_J2, T_ZERO, T_REAL_REST, T_RECIP_REST = range(9)
T_REAL_DEGREE, T_RECIP_DEGREE, T_SELF, T_REAL, T_RECIP = 9, 10, 11, 12, 12 + ROOM

# Columns of a plan: one row per crystal, and one row per crystal and potential.
G_VOLUME, G_CUTOFF, G_REACH, G_SHELL_REACH, G_WRAP, G_KMAX, G_WIDTH = range(7)
S_CUTOFF, S_KCUT, S_ALPHA, S_ROW, S_BOUND, S_WIDTH = range(6)


CHUNK = 1024  # distances evaluated at a time: their arrays stay in the first-level cache
PANEL = 128  # rows of a product taken at a time: their tiles stay in the first-level cache
BINS = 64  # images are sorted by squared length into so many bins


# ---------------------------------------------------------------------------- lattice


@_jit
def _reduce(cell, transform):
    """Make the rows of ``cell`` a Minkowski-reduced basis, in place (Semaev 2001).

    Writes the integers that take the given cell to the reduced one.
    """
    for i in range(3):
        for k in range(3):
            transform[i, k] = 1.0 if i == k else 0.0
    for _ in range(1000):
        for _ in range(2):
            for i in range(2):
                if (
                    cell[i, 0] ** 2 + cell[i, 1] ** 2 + cell[i, 2] ** 2
                    > cell[i + 1, 0] ** 2 + cell[i + 1, 1] ** 2 + cell[i + 1, 2] ** 2
                ):
                    for k in range(3):
                        cell[i, k], cell[i + 1, k] = cell[i + 1, k], cell[i, k]
                        old, new = transform[i + 1, k], transform[i, k]
                        transform[i, k], transform[i + 1, k] = old, new
        aa = bb = cc = ab = ac = bc = 0.0
        for k in range(3):
            aa += cell[0, k] * cell[0, k]
            ab += cell[0, k] * cell[1, k]
        m = np.floor(ab / aa + 0.5)
        if abs(ab) > 0.5 * aa * (1 + 1e-12):
            for k in range(3):
                cell[1, k] -= m * cell[0, k]
                transform[1, k] -= m * transform[0, k]
            continue
        for k in range(3):
            bb += cell[1, k] * cell[1, k]
            cc += cell[2, k] * cell[2, k]
            ac += cell[0, k] * cell[2, k]
            bc += cell[1, k] * cell[2, k]
        det = aa * bb - ab * ab
        first = np.floor((ac * bb - bc * ab) / det + 0.5)
        second = np.floor((bc * aa - ac * ab) / det + 0.5)
        best, best_i, best_j = cc * (1 - 1e-12), 0.0, 0.0
        for di in range(-1, 2):
            for dj in range(-1, 2):
                i, j = first + di, second + dj
                length = cc + i * i * aa + j * j * bb - 2 * (i * ac + j * bc - i * j * ab)
                if length < best:
                    best, best_i, best_j = length, i, j
        if best_i == 0 and best_j == 0:
            return
        for k in range(3):
            cell[2, k] -= best_i * cell[0, k] + best_j * cell[1, k]
            transform[2, k] -= best_i * transform[0, k] + best_j * transform[1, k]


@_jit
def _grid(size):
    """Return a power of two on whose multiples sums of numbers up to ``size`` are exact."""
    return 2.0 ** (math.ceil(math.log2(size)) - 52)


@_jit
def _split_basis(given, transform, grid, high, low):
    """Write the reduced basis, ``transform @ given``, as multiples of the grid and a small rest."""
    for i in range(3):
        for k in range(3):
            high[i, k] = low[i, k] = 0.0
            for j in range(3):
                part = np.floor(given[j, k] / grid + 0.5) * grid
                high[i, k] += transform[i, j] * part
                low[i, k] += transform[i, j] * (given[j, k] - part)


@_jit
def _skew(given, transform):
    """Return a bound of all numbers that are met when the reduced basis is formed."""
    most = 0.0
    for i in range(3):
        for j in range(3):
            for k in range(3):
                most = max(most, abs(transform[i, j] * given[j, k]))
    return 4 * most


@_jit
def _invert(cell, inverse):
    """Write the inverse of a 3x3 matrix and return its determinant."""
    for i in range(3):
        a, b = (i + 1) % 3, (i + 2) % 3
        for j in range(3):
            c, d = (j + 1) % 3, (j + 2) % 3
            inverse[j, i] = cell[a, c] * cell[b, d] - cell[a, d] * cell[b, c]
    det = 0.0
    for k in range(3):
        det += cell[0, k] * inverse[k, 0]
    for i in range(3):
        for j in range(3):
            inverse[i, j] /= det
    return det


@_jit
def _counting(cell, inverse, volume):
    """Return (A1, A2, mu, V, shortest) of the lattice and of its reciprocal, for the bounds.

    No vector is shorter than the last: k b_i / (2 pi) is an integer, and not 0 for all three i.
    """
    aa = cc = dd = 0.0
    for k in range(3):
        aa += cell[0, k] * cell[0, k]
        cc += inverse[k, 2] * inverse[k, 2]
        dd += cell[2, k] * cell[2, k]
    l1, l3 = math.sqrt(aa), 1 / math.sqrt(cc)
    shortest = 2 * PI / math.sqrt(dd)
    l2 = volume / (l1 * l3)
    mu = 0.5 * math.sqrt(l1 * l1 + l2 * l2 + l3 * l3)
    real = (PI * (l1 + l2 + l3), 2 * (l1 * l2 + l1 * l3 + l2 * l3), mu, volume, l1)
    l1, l2, l3 = 2 * PI / l1, 2 * PI / l2, 2 * PI / l3
    mu = 0.5 * math.sqrt(l1 * l1 + l2 * l2 + l3 * l3)
    recip = (PI * (l1 + l2 + l3), 2 * (l1 * l2 + l1 * l3 + l2 * l3), mu, l1 * l2 * l3, shortest)
    return real, recip


@_jit
def _most(count, r):
    """Return the largest possible number of lattice points in a ball of radius r."""
    a1, a2, _, volume, _ = count
    return 1 + r * (a2 + r * (a1 + r * (4 * PI / 3))) / volume


@_jit
def _at_edge(count, r):
    """Return how many points may lie on the edge, for all that is known: most minus least."""
    inner = max(r - count[2], 0.0)
    return _most(count, r) - 4 * PI / 3 * inner**3 / count[3]


@_jit
def _gaussian_tail(count, r, rate):
    """Return the bound of sum_{|y|>r} f(|y|) / f(r) if f falls like exp(-rate (y^2 - r^2))."""
    a1, a2, _, volume, _ = count
    half = 0.5 / rate
    integral = a2 * half / r + 2 * a1 * half + 4 * PI * (r * half + half * half / r)
    return _at_edge(count, r) + integral / volume


@_jit
def _exponential_tail(count, r, a):
    """Return the bound of sum_{|y|>r} exp(-a |y|)."""
    a1, a2, _, volume, _ = count
    b = 1 / a
    integral = b * (a2 + 2 * a1 * (r + b) + 4 * PI * (r * r + 2 * b * (r + b)))
    return math.exp(-a * r) * (_at_edge(count, r) + integral / volume)


@_jit
def _other_images(cell, inverse, volume):
    """Bound the images of a wrapped vector: all but the vector itself, for the rounding error.

    An image differs from it by an integer in a fractional coordinate, which the wrap has brought
    to 1/2 at most.

    Returns:
        The smallest distance they can have, and the largest sum of r^-6 (docs/theory.md, eq. 22).
    """
    steepest = 0.0
    for k in range(3):
        square = inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2
        steepest = max(steepest, square)
    r = 0.5 / math.sqrt(steepest)
    real, _ = _counting(cell, inverse, volume)
    a1, a2, _, _, _ = real
    integral = a2 / 5 + r * (a1 / 2 + r * (4 * PI / 3))
    return r, (_most(real, r) / r + integral / volume) / r**5


# ---------------------------------------------------------------------------- plan


@_jit
def _power_bound(row, exponent, cutoff, real, recip):
    """Return the bound of the error of a Kaiser-Bessel split with one row of its table."""
    a1, a2, _, cell, shortest = recip
    inv = 1 / cutoff
    k = row[T_CUT] * inv
    edge = row[T_ENVELOPE] * _at_edge(recip, k)
    moments = a2 * row[T_J0] + 2 * a1 * inv * row[T_J1] + 4 * PI * inv * inv * row[T_J2]
    bound = edge + inv / cell * moments
    if exponent == 1:  # the table holds t^2 / (4 pi) times the transform
        inverse_squares = a2 * (2 / shortest - 1 / k) + a1 * (1 + 2 * math.log(k / shortest))
        inverse_squares += 4 * PI * (k - 2 / 3 * shortest)  # sum of k^-2, from the counting bound
        bound += row[T_RECIP_REST] * 4 * PI * inv * inv * max(inverse_squares, 0.0) / cell
    else:
        bound += row[T_RECIP_REST] * _most(recip, k)
    scale = cutoff**3 / real[3]
    return (scale * bound + (_most(real, cutoff) + 1) * row[T_REAL_REST]) * inv**exponent


@_jit
def _plan_power(exponent, cutoff, real, recip, tolerance, table, split):
    low, high = 0, table.shape[0]
    while low < high:
        middle = (low + high) // 2
        if _power_bound(table[middle], exponent, cutoff, real, recip) > tolerance:
            low = middle + 1
        else:
            high = middle
    if high == table.shape[0]:
        return OUT_OF_REACH
    row = table[high]
    split[S_CUTOFF], split[S_KCUT], split[S_ROW] = cutoff, row[T_CUT] / cutoff, high
    split[S_BOUND] = _power_bound(row, exponent, cutoff, real, recip)
    return 0


@_jit
def _exponential_reach(real, decay, tolerance):
    """Return the radius beyond which exp(-decay r) sums to less than the tolerance."""
    low, high = 0.0, (math.log(1 / tolerance) + 2) / decay
    while _exponential_tail(real, high, decay) > tolerance:
        low, high = high, 1.5 * high
    for _ in range(60):
        if high - low < 0.01 * high:
            break
        middle = 0.5 * (low + high)
        if _exponential_tail(real, middle, decay) > tolerance:
            low = middle
        else:
            high = middle
    return high


@_jit
def _exponential_short(r, decay, alpha):
    """Return the short half of exp(-decay r) in the Gaussian split."""
    x, c = alpha * r, 0.5 * decay / alpha
    near = math.exp(-decay * r) * math.erfc(x - c)
    return 0.5 * (near - math.exp(decay * r) * math.erfc(x + c))


@_jit
def _exponential_long(r, decay, alpha):
    """Return the long half of exp(-decay r): even and entire in r, and free of cancellation."""
    x, c = alpha * r, 0.5 * decay / alpha
    far = math.exp(decay * r) * math.erfc(c + x)
    return 0.5 * (math.exp(-decay * r) * math.erfc(c - x) + far)


@_jit
def _exponential_transform(k2, decay, alpha, volume):
    s = decay * decay + k2
    q = 0.25 * s / (alpha * alpha)
    return 8 * PI * decay / (volume * s * s) * (1 + q) * math.exp(-q)


@_jit
def _long_rest(x, degree):
    """Return the interpolation error of a Gaussian mixture of unit weight at this degree.

    The k-th Chebyshev coefficient of exp(-t (1 + u) / 2) is 2 e^(-t/2) I_k(t/2) in size, which is
    below 2 (t/4)^k / k!; t <= x^2. Interpolation at most doubles the sum of those left out.
    """
    z, term, total = 0.25 * x * x, 1.0, 0.0
    for k in range(1, degree + 60):
        term *= z / k
        if k > degree:
            total += term
    return 4 * total


@_jit
def _plan_exponential(decay, cutoff, real, recip, tolerance, split):
    reach = split[S_CUTOFF]  # without a split
    split[S_KCUT], split[S_ALPHA] = 0.0, 0.0
    split[S_BOUND] = _exponential_tail(real, reach, decay)
    if reach <= cutoff:
        return 0
    low, high = 0.2, 12.0  # alpha * cutoff
    for _ in range(30):
        x = 0.5 * (low + high)
        alpha = x / cutoff
        short = _exponential_short(cutoff, decay, alpha)
        if short * _gaussian_tail(real, cutoff, alpha**2) > 0.4 * tolerance:
            low = x
        else:
            high = x
    alpha = high / cutoff
    bound = _exponential_short(cutoff, decay, alpha) * _gaussian_tail(real, cutoff, alpha**2)
    degree = 2
    while degree < ROOM - 1 and _long_rest(high, degree) * (_most(real, cutoff) + 1) > (
        0.02 * tolerance
    ):
        degree += 1
    bound += _long_rest(high, degree) * (_most(real, cutoff) + 1)
    low, high = 0.05 * alpha, 14 * alpha
    for _ in range(40):
        k = 0.5 * (low + high)
        tail = _gaussian_tail(recip, k, 0.25 / alpha**2)
        if _exponential_transform(k * k, decay, alpha, real[3]) * tail > tolerance - bound:
            low = k
        else:
            high = k
    bound += _exponential_transform(high * high, decay, alpha, real[3]) * _gaussian_tail(
        recip, high, 0.25 / alpha**2
    )
    if not bound <= tolerance:
        return 0 if reach < 6 * cutoff else OUT_OF_REACH
    split[S_CUTOFF], split[S_KCUT], split[S_ALPHA] = cutoff, high, alpha
    split[S_ROW], split[S_BOUND] = degree, bound
    return 0


@_jit
def _plan_one(
    given, cell, transform, inverse, n_atoms, kinds, parameters, tolerance, coulomb, london,
    geometry, splits,
):  # fmt: skip
    """Write the reduced cell, choose all radii, and return a status."""
    cell[:] = given
    sizes = 1.0
    for i in range(3):
        sizes *= math.sqrt(cell[i, 0] ** 2 + cell[i, 1] ** 2 + cell[i, 2] ** 2)
    if not abs(_invert(cell, inverse)) > 1e-10 * sizes:
        return SINGULAR
    _reduce(cell, transform)
    _split_basis(given, transform, _grid(_skew(given, transform)), cell, inverse)
    for i in range(3):
        for k in range(3):
            cell[i, k] += inverse[i, k]
    volume = abs(_invert(cell, inverse))
    if cell[0, 0] ** 2 + cell[0, 1] ** 2 + cell[0, 2] ** 2 < SAME_SPOT**2:
        return TOO_SMALL
    real, recip = _counting(cell, inverse, volume)
    # Images per pair that balance both halves: images times wave vectors is fixed by the tolerance.
    # Times in ns: a pair and wave vector 0.13, an atom and wave vector 1.2, a wave vector 20, an
    # image 10. Images that a fast exponential needs anyway are free.
    n_pairs = 0.5 * n_atoms * (n_atoms - 1) + 1
    product = 5.6 * (0.58 * (math.log(1 / tolerance) + 4) / PI) ** 3
    images = math.sqrt(product * (n_pairs * 0.13 + n_atoms * 1.2 + 20) / (n_pairs * 10))
    balanced = (3 * volume * images / (4 * PI)) ** (1 / 3)
    cutoff = balanced
    for p in range(kinds.size):
        if kinds[p] == EXPONENTIAL:
            alone = _exponential_reach(real, parameters[p, 0], tolerance)
            splits[p, S_CUTOFF] = alone
            if alone < 1.5 * balanced:
                cutoff = max(cutoff, alone)
    reach = shell_reach = k_max = 0.0
    for p in range(kinds.size):
        split = splits[p]
        status = 0
        if kinds[p] == COULOMB:
            status = _plan_power(1, cutoff, real, recip, tolerance, coulomb, split)
        elif kinds[p] == LONDON:
            status = _plan_power(6, cutoff, real, recip, tolerance, london, split)
        elif kinds[p] == EXPONENTIAL:
            status = _plan_exponential(parameters[p, 0], cutoff, real, recip, tolerance, split)
        else:
            split[S_CUTOFF], split[S_KCUT], split[S_BOUND] = parameters[p, 2], 0.0, 0.0
            shell_reach = max(shell_reach, parameters[p, 2])
        if status != 0:
            return status
        if kinds[p] != SHELL:
            reach = max(reach, split[S_CUTOFF])
            k_max = max(k_max, split[S_KCUT])
    wrap = 0.0  # largest |d| when its fractional coordinates lie in [-1/2, 1/2]
    for i in range(-1, 2, 2):
        for j in range(-1, 2, 2):
            square = 0.0
            for k in range(3):
                square += (cell[0, k] + i * cell[1, k] + j * cell[2, k]) ** 2
            wrap = max(wrap, 0.5 * math.sqrt(square))
    geometry[G_VOLUME], geometry[G_CUTOFF], geometry[G_REACH] = volume, cutoff, reach
    geometry[G_SHELL_REACH], geometry[G_WRAP], geometry[G_KMAX] = shell_reach, wrap, k_max
    return 0


@_jit
def _plan(
    given, cells, transforms, inverses, counts, kinds, parameters, tolerance, coulomb, london,
    geometry, splits, sizes,
):  # fmt: skip
    """Plan every crystal; ``sizes`` gets the largest number of images, wave vectors and orders.

    Returns:
        The first crystal that cannot be planned and its status, or (-1, 0).
    """
    for c in range(counts.size):
        status = _plan_one(
            given[c], cells[c], transforms[c], inverses[c], counts[c], kinds, parameters, tolerance,
            coulomb, london, geometry[c], splits[c],
        )  # fmt: skip
        if status != 0:
            return c, status
        real, recip = _counting(cells[c], inverses[c], geometry[c, G_VOLUME])
        far = max(geometry[c, G_REACH], geometry[c, G_SHELL_REACH]) + geometry[c, G_WRAP]
        k_max = geometry[c, G_KMAX]
        n_images, n_waves = _most(real, far * (1 + 1e-9)), _most(recip, k_max * (1 + 1e-9)) / 2
        if not max(n_images, n_waves) < MAX_VECTORS:
            return c, TOO_LARGE
        sizes[0] = max(sizes[0], int(n_images) + 1)
        sizes[1] = max(sizes[1], int(n_waves) + 1)
        for i in range(3):
            order = k_max / (2 * PI) * math.sqrt((cells[c, i] ** 2).sum()) + 1e-9
            sizes[2] = max(sizes[2], int(order))
    return -1, 0


# ---------------------------------------------------------------------------- vectors
#
# The innermost loops are written as LLVM vectors of four: the automatic vectoriser leaves the short
# loops met here to scalar code, and does not keep the sums of a matrix product in registers. LLVM
# maps the vectors to whatever the machine has.

_WORD, _DOUBLE = ir.IntType(64), ir.DoubleType()
_VECTOR = ir.VectorType(_DOUBLE, 4)


class _Rows:
    """A two-dimensional array of doubles, C order, in the code of an intrinsic."""

    def __init__(self, context, builder, kind, value):
        array = context.make_array(kind)(context, builder, value)
        self.builder, self.data = builder, array.data
        self.stride = builder.extract_value(array.shape, kind.ndim - 1)

    def at(self, row, column):
        line = self.builder.add(self.builder.mul(row, self.stride), column)
        return self.builder.gep(self.data, [line])

    def load(self, row, column):
        pointer = self.builder.bitcast(self.at(row, column), _VECTOR.as_pointer())
        return self.builder.load(pointer, align=8)

    def store(self, vector, row, column):
        pointer = self.builder.bitcast(self.at(row, column), _VECTOR.as_pointer())
        self.builder.store(vector, pointer, align=8)


def _word(n):
    return ir.Constant(_WORD, n)


def _splat(builder, scalar):
    """Return a vector of four equal numbers."""
    undefined, lanes = ir.Constant(_VECTOR, ir.Undefined), ir.VectorType(ir.IntType(32), 4)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(lanes, [0] * 4))


def _fma(builder, a, b, c):
    product = builder.fmul(a, b, flags=("contract",))
    return builder.fadd(product, c, flags=("contract",))


def _tile_intrinsic(n_vectors):
    """Make the kernel C[i:i+4, j:j+4 n] += A[k:, i:i+4]^T B[k:, j:j+4 n] for n = 1, 2 or 3.

    The product runs over n_k rows from ``first`` on.
    """

    @intrinsic
    def tile(typing_context, a, b, c, row, column, first, n_k):
        def codegen(context, builder, sig, arguments):
            a, b, c = (
                _Rows(context, builder, kind, value)
                for kind, value in zip(sig.args[:3], arguments[:3], strict=True)
            )
            row, column, first, n_k = arguments[3:]
            zero = ir.Constant(_VECTOR, [0.0] * 4)
            sums = [
                [cgutils.alloca_once_value(builder, zero) for _ in range(n_vectors)]
                for _ in range(4)
            ]
            places = [
                (r, v, builder.add(row, _word(r)), builder.add(column, _word(4 * v)))
                for r in range(4)
                for v in range(n_vectors)
            ]
            for r, v, line, start in places:
                builder.store(c.load(line, start), sums[r][v])
            with cgutils.for_range(builder, n_k) as loop:
                k = builder.add(first, loop.index)
                right = [b.load(k, builder.add(column, _word(4 * v))) for v in range(n_vectors)]
                for r in range(4):
                    left = _splat(builder, builder.load(a.at(k, builder.add(row, _word(r)))))
                    for v in range(n_vectors):
                        total = builder.load(sums[r][v])
                        builder.store(_fma(builder, left, right[v], total), sums[r][v])
            for r, v, line, start in places:
                c.store(builder.load(sums[r][v]), line, start)
            return context.get_dummy_value()

        return types.void(a, b, c, *[types.intp] * 4), codegen

    return tile


_tile1: Any = _tile_intrinsic(1)
_tile2: Any = _tile_intrinsic(2)
_tile3: Any = _tile_intrinsic(3)


@intrinsic
def _rotate_rows(typing_context, a, row_a, b, row_b, sign, out, row_out, n):
    """Write (cos, sin) of the sum of two angles, or of the difference if sign is -1.

    Each array holds cos and sin in two successive rows; n is a multiple of four.
    """

    def codegen(context, builder, sig, arguments):
        a, b, out = (_Rows(context, builder, sig.args[k], arguments[k]) for k in (0, 2, 5))
        _, row_a, _, row_b, sign, _, row_out, n = arguments
        sign = _splat(builder, sign)
        one = _word(1)
        with cgutils.for_range(builder, builder.udiv(n, _word(4))) as loop:
            column = builder.mul(loop.index, _word(4))
            cos_a, sin_a = a.load(row_a, column), a.load(builder.add(row_a, one), column)
            cos_b, sin_b = b.load(row_b, column), b.load(builder.add(row_b, one), column)
            sin_b = builder.fmul(sin_b, sign)
            minus = builder.fneg(builder.fmul(sin_a, sin_b))
            out.store(_fma(builder, cos_a, cos_b, minus), row_out, column)
            product = builder.fmul(sin_a, cos_b)
            out.store(_fma(builder, cos_a, sin_b, product), builder.add(row_out, one), column)
        return context.get_dummy_value()

    n_type = types.intp
    return types.void(a, n_type, b, n_type, types.float64, out, n_type, n_type), codegen


@intrinsic
def _scale_rows(typing_context, a, row, factor, out, n):
    """Write rows ``row`` and ``row`` + 1 of ``a`` times a factor; n is a multiple of four."""

    def codegen(context, builder, sig, arguments):
        a, out = (_Rows(context, builder, sig.args[k], arguments[k]) for k in (0, 3))
        _, row, factor, _, n = arguments
        factor = _splat(builder, factor)
        following = builder.add(row, _word(1))
        with cgutils.for_range(builder, builder.udiv(n, _word(4))) as loop:
            column = builder.mul(loop.index, _word(4))
            for line in (row, following):
                out.store(builder.fmul(a.load(line, column), factor), line, column)
        return context.get_dummy_value()

    return types.void(a, types.intp, types.float64, out, types.intp), codegen


@intrinsic
def _gather_near(typing_context, x, y, z, limit, images, count, squares, n):
    """Append |(x, y, z) + image|^2 to ``squares`` where it is below the limit; return the new n.

    Looks at the first ``count`` images, a multiple of four; branch-free.
    """

    def codegen(context, builder, sig, arguments):
        x, y, z, limit, images, count, squares, n = arguments
        images = _Rows(context, builder, sig.args[4], images)
        squares = context.make_array(sig.args[6])(context, builder, squares).data
        vectors = [_splat(builder, value) for value in (x, y, z)]
        limit = _splat(builder, limit)
        place = cgutils.alloca_once_value(builder, n)
        builder.store(n, place)
        with cgutils.for_range(builder, builder.udiv(count, _word(4))) as loop:
            column = builder.mul(loop.index, _word(4))
            total = None
            for axis, vector in enumerate(vectors):
                step = builder.fadd(vector, images.load(_word(axis), column))
                square = builder.fmul(step, step, flags=("contract",))
                total = (
                    square if total is None else builder.fadd(total, square, flags=("contract",))
                )
            near = builder.fcmp_ordered("<", total, limit)
            mask = builder.zext(builder.bitcast(near, ir.IntType(4)), _WORD)
            n = builder.load(place)
            for lane in range(4):  # goes where the near ones before it leave off
                before = builder.ctpop(builder.and_(mask, _word(2**lane - 1)))
                number = builder.extract_element(total, ir.Constant(ir.IntType(32), lane))
                builder.store(number, builder.gep(squares, [builder.add(n, before)]))
            n = builder.add(n, builder.ctpop(mask))
            builder.store(n, place)
        return builder.load(place)

    double, n_type = types.float64, types.intp
    signature = n_type(double, double, double, double, images, n_type, squares, n_type)
    return signature, codegen


@intrinsic
def _from_bits(typing_context, bits):
    """Return the float64 with these 64 bits."""

    def codegen(context, builder, sig, arguments):
        return builder.bitcast(arguments[0], _DOUBLE)

    return types.float64(types.int64), codegen


rotate_rows: Any = _rotate_rows
scale_rows: Any = _scale_rows
gather_near: Any = _gather_near
from_bits: Any = _from_bits


# ---------------------------------------------------------------------------- arithmetic


@_jit
def _product(a, b, c, n_k, n_rows, n_columns, symmetric):
    """Write c = a[:n_k]^T b[:n_k]; if symmetric, only the blocks of four on and above the diagonal.

    Rows of a, b and c have room for the next multiple of four.
    """
    c[:] = 0.0
    for first in range(0, n_k, PANEL):
        n = min(PANEL, n_k - first)
        for row in range(0, n_rows, 4):
            column = row if symmetric else 0
            while n_columns - column > 8:
                _tile3(a, b, c, row, column, first, n)
                column += 12
            if n_columns - column > 4:
                _tile2(a, b, c, row, column, first, n)
            elif n_columns > column:
                _tile1(a, b, c, row, column, first, n)


@_jit
def _exp(x):
    """Return exp(x) for x <= 0 to 2 ulp, without branches so that loops over it vectorise."""
    x = max(x, -700.0)
    n = np.floor(x * 1.4426950408889634 + 0.5)
    f = x - n * 0.693145751953125
    f = f - n * 1.4286068203094172e-06
    p = 1.0 / 479001600
    p = p * f + 1.0 / 39916800
    p = p * f + 1.0 / 3628800
    p = p * f + 1.0 / 362880
    p = p * f + 1.0 / 40320
    p = p * f + 1.0 / 5040
    p = p * f + 1.0 / 720
    p = p * f + 1.0 / 120
    p = p * f + 1.0 / 24
    p = p * f + 1.0 / 6
    p = p * f + 0.5
    p = p * f + 1.0
    p = p * f + 1.0
    return p * from_bits(np.int64((np.int64(np.int32(n)) + 1023) << 52))


@_jit
def _turns(fraction, n, cosine, sine):
    """Write cos and sin of 2 pi f for f in [-1/2, 1/2], by the series of the half angle."""
    for i in range(n):
        x = PI * fraction[i]
        y = x * x
        s = -1.0 / 51090942171709440000
        s = s * y + 1.0 / 121645100408832000
        s = s * y - 1.0 / 355687428096000
        s = s * y + 1.0 / 1307674368000
        s = s * y - 1.0 / 6227020800
        s = s * y + 1.0 / 39916800
        s = s * y - 1.0 / 362880
        s = s * y + 1.0 / 5040
        s = s * y - 1.0 / 120
        s = s * y + 1.0 / 6
        s = x - x * y * s
        c = 1.0 / 2432902008176640000
        c = c * y - 1.0 / 6402373705728000
        c = c * y + 1.0 / 20922789888000
        c = c * y - 1.0 / 87178291200
        c = c * y + 1.0 / 479001600
        c = c * y - 1.0 / 3628800
        c = c * y + 1.0 / 40320
        c = c * y - 1.0 / 720
        c = c * y + 1.0 / 24
        c = c * y - 0.5
        c = c * y + 1.0
        cosine[i] = 1 - 2 * s * s
        sine[i] = 2 * s * c


@_jit
def _polynomial(coefficients, degree, u, n, out):
    """Write sum_i coefficients[i] u^i for u[:n]; four steps of Horner per pass over memory.

    Coefficients beyond the degree, up to the next multiple of four, must be zero.
    """
    last = degree - degree % 4
    c0, c1 = coefficients[last], coefficients[last + 1]
    c2, c3 = coefficients[last + 2], coefficients[last + 3]
    for i in range(n):
        out[i] = ((c3 * u[i] + c2) * u[i] + c1) * u[i] + c0
    for start in range(last - 4, -1, -4):
        c0, c1 = coefficients[start], coefficients[start + 1]
        c2, c3 = coefficients[start + 2], coefficients[start + 3]
        for i in range(n):
            out[i] = (((out[i] * u[i] + c3) * u[i] + c2) * u[i] + c1) * u[i] + c0


@_jit
def _interpolate_long(decay, alpha, cutoff, degree, coefficients):
    """Write the polynomial in u = 2 (r / cutoff)^2 - 1 of an exponential's long half."""
    n = degree + 1
    values = np.empty(n)
    for i in range(n):
        u = math.cos(PI * (i + 0.5) / n)
        values[i] = _exponential_long(cutoff * math.sqrt(0.5 * (u + 1)), decay, alpha)
    now, before = np.zeros(n + 1), np.zeros(n + 1)
    now[0] = 1.0
    coefficients[:] = 0.0
    for k in range(n):
        total = 0.0
        for i in range(n):
            total += values[i] * math.cos(PI * k * (i + 0.5) / n)
        total *= (1.0 if k == 0 else 2.0) / n
        for i in range(k + 1):
            coefficients[i] += total * now[i]
        factor = 1.0 if k == 0 else 2.0
        previous = 0.0
        for i in range(k + 2):  # T_{k+1} = 2 u T_k - T_{k-1}
            value = factor * previous - before[i]
            previous = now[i]
            before[i] = now[i]
            now[i] = value


# ---------------------------------------------------------------------------- images


@_jit
def _images(high, low, inverse, reach, images, unsorted, bins, starts):
    """List the lattice vectors up to a length, the zero vector first, in bins of squared length.

    Vectors far away fill the list up to a multiple of four. Parts of the basis on the grid add up
    without rounding, so that each vector is rounded once.

    Returns:
        Bins per Å^2. ``starts[b]`` is the number of vectors in the bins before b.
    """
    limit = reach * reach
    per_square = (BINS - 2) / limit
    starts[:] = 0
    m2 = int(reach * math.sqrt((inverse[:, 2] ** 2).sum()) + 1e-9)
    m1 = int(reach * math.sqrt((inverse[:, 1] ** 2).sum()) + 1e-9)
    a0, a1, a2 = high[0, 0], high[0, 1], high[0, 2]
    d0, d1, d2 = low[0, 0], low[0, 1], low[0, 2]
    inverse_aa = 1 / (a0 * a0 + a1 * a1 + a2 * a2)
    unsorted[0, 0] = unsorted[1, 0] = unsorted[2, 0] = 0.0
    bins[0] = 0
    starts[1] = 1
    n = 1
    for i in range(m2 + 1):  # one of each pair of opposite vectors, and then the other
        for j in range(-m1 if i > 0 else 0, m1 + 1):
            x, dx = i * high[2, 0] + j * high[1, 0], i * low[2, 0] + j * low[1, 0]
            y, dy = i * high[2, 1] + j * high[1, 1], i * low[2, 1] + j * low[1, 1]
            z, dz = i * high[2, 2] + j * high[1, 2], i * low[2, 2] + j * low[1, 2]
            middle = -(x * a0 + y * a1 + z * a2) * inverse_aa
            room = (limit - (x * x + y * y + z * z)) * inverse_aa + middle * middle
            if room < 0:
                continue
            half = math.sqrt(room) + 1e-9
            begin = int(math.ceil(middle - half))
            if i == 0 and j == 0:
                begin = 1
            for l in range(begin, int(math.floor(middle + half)) + 1):
                u, v, w = x + l * a0, y + l * a1, z + l * a2
                u, v, w = u + (dx + l * d0), v + (dy + l * d1), w + (dz + l * d2)
                square = u * u + v * v + w * w
                if square > limit:
                    continue
                b = min(int(square * per_square), BINS - 2)
                unsorted[0, n], unsorted[1, n], unsorted[2, n] = u, v, w
                bins[n] = b
                starts[b + 1] += 2
                n += 1
    for b in range(BINS - 1):
        starts[b + 1] += starts[b]
    for i in range(n - 1, -1, -1):  # fill each bin from its end, then take its end back
        b = bins[i]
        slot = starts[b + 1] - 1
        for k in range(3):
            images[k, slot] = unsorted[k, i]
        if i > 0:
            slot -= 1
            for k in range(3):
                images[k, slot] = -unsorted[k, i]
        starts[b + 1] = slot
    for b in range(1, BINS - 1):
        starts[b] = starts[b + 1]
    starts[BINS - 1] = 2 * n - 1
    for i in range(2 * n - 1, 2 * n + 2):
        images[:, i] = 1e9
    return per_square


@_jit
def _evaluate_chunk(
    squares, n, ends, begin, end, kinds, parameters, splits, chosen, coulomb, london, long_halves,
    distances, inverses, work, terms, out,
):  # fmt: skip
    """Add up V - P over one chunk of squared distances, pair by pair."""
    for i in range(n):
        distances[i] = math.sqrt(squares[i])
        inverses[i] = 1.0 / distances[i]
    for p in chosen:
        kind, cutoff, term = kinds[p], splits[p, S_CUTOFF], terms[p]
        limit = cutoff * cutoff
        if kind == SHELL:
            center, inverse_width = parameters[p, 0], 1 / parameters[p, 1]
            for i in range(n):
                x = (distances[i] - center) * inverse_width
                edge = max(1 - squares[i] / limit, 0.0)
                term[i] = _exp(-x * x) * (edge * edge * edge)
            continue
        for i in range(n):
            work[i] = 2 / limit * squares[i] - 1
        if kind == EXPONENTIAL:
            decay = parameters[p, 0]
            if splits[p, S_ALPHA] > 0:
                _polynomial(long_halves[p], int(splits[p, S_ROW]), work, n, term)
                for i in range(n):
                    value = _exp(-decay * distances[i]) - term[i]
                    term[i] = value if squares[i] < limit else 0.0
            else:
                for i in range(n):
                    value = _exp(-decay * distances[i])
                    term[i] = value if squares[i] < limit else 0.0
        elif kind == COULOMB:
            row = coulomb[int(splits[p, S_ROW])]
            _polynomial(row[T_REAL:], int(row[T_REAL_DEGREE]), work, n, term)
            scale = 1 / cutoff
            for i in range(n):
                value = inverses[i] - scale * term[i]
                term[i] = value if squares[i] < limit else 0.0
        else:
            row = london[int(splits[p, S_ROW])]
            _polynomial(row[T_REAL:], int(row[T_REAL_DEGREE]), work, n, term)
            scale = 1 / cutoff**6
            for i in range(n):
                square = inverses[i] * inverses[i]
                value = square * square * square - scale * term[i]
                term[i] = value if squares[i] < limit else 0.0
    shift = ends[begin - 1] if begin > 0 else 0
    last = chosen.size - 1
    for p in range(0, last + 1, 4):  # four at a time: loops this short cost by their number
        p0, p1 = chosen[p], chosen[min(p + 1, last)]
        p2, p3 = chosen[min(p + 2, last)], chosen[min(p + 3, last)]
        t0, t1, t2, t3 = terms[p0], terms[p1], terms[p2], terms[p3]
        start = shift
        for pair in range(begin, end):
            s0 = s1 = s2 = s3 = 0.0
            for i in range(start - shift, ends[pair] - shift):
                s0 += t0[i]
                s1 += t1[i]
                s2 += t2[i]
                s3 += t3[i]
            start = ends[pair]
            out[p0, pair], out[p1, pair], out[p2, pair], out[p3, pair] = s0, s1, s2, s3


@_jit
def _real_half(
    rows, firsts, n_rows, n_atoms, fractions, places, high, low, inverse, reach, wrap, kinds,
    parameters, splits, chosen, coulomb, london, long_halves, images, unsorted, bins, starts,
    differences, ends, buffers, terms, out,
):  # fmt: skip
    """Sum the short halves of the chosen potentials over all images of each pair within the reach.

    Pairs are rows[k] with all atoms from firsts[k] on, row after row.

    Returns:
        The number of the first pair on one spot, or -1, and the shortest distance met.
    """
    per_square = _images(
        high, low, inverse, (reach + wrap) * (1 + 1e-12), images, unsorted, bins, starts
    )
    squares, distances, inverses, work = buffers
    limit = reach * reach
    bits = squares.view(np.int64)  # positive numbers are in the order of their bits
    shortest = np.int64(0x7FE0000000000000)
    dx, dy, dz, far = differences[0], differences[1], differences[2], differences[3]
    n, total, begin, pair = 0, 0, 0, 0
    for row in range(n_rows):
        atom, first = rows[row], firsts[row]
        n_columns = n_atoms - first
        fa, fb, fc = fractions[0, atom], fractions[1, atom], fractions[2, atom]
        ga, gb, gc = fractions[0, first:], fractions[1, first:], fractions[2, first:]
        for axis in range(3):
            a0, b0, c0 = high[0, axis], high[1, axis], high[2, axis]
            a1, b1, c1 = low[0, axis], low[1, axis], low[2, axis]
            here, rest_here = places[axis, atom], places[axis + 3, atom]
            there, rest_there = places[axis, first:], places[axis + 3, first:]
            difference = differences[axis]
            for j in range(n_columns):
                a, b = np.floor(ga[j] - fa + 0.5), np.floor(gb[j] - fb + 0.5)
                c = np.floor(gc[j] - fc + 0.5)
                on_grid = there[j] - here - (a * a0 + b * b0 + c * c0)
                rest = rest_there[j] - rest_here - (a * a1 + b * b1 + c * c1)
                difference[j] = on_grid + rest
        for j in range(n_columns):
            distance = math.sqrt(dx[j] * dx[j] + dy[j] * dy[j] + dz[j] * dz[j])
            far[j] = per_square * (reach + distance) ** 2
        for j in range(n_columns):
            count = starts[min(int(far[j]) + 1, BINS - 1)]
            before = n
            n = gather_near(dx[j], dy[j], dz[j], limit, images, (count + 3) & -4, squares, n)
            if first + j == atom:  # leave out the own image, the first in the list
                n -= 1
                squares[before] = squares[n]
            total += n - before
            ends[pair] = total
            pair += 1
            if n > CHUNK or (row == n_rows - 1 and j == n_columns - 1):
                for i in range(n):
                    shortest = min(shortest, bits[i])
                closest = math.sqrt(from_bits(shortest))
                if closest < SAME_SPOT:
                    place, done = 0, ends[begin - 1] if begin > 0 else 0
                    while bits[place] != shortest:
                        place += 1
                    while ends[begin] - done <= place:
                        begin += 1
                    return begin, closest
                _evaluate_chunk(
                    squares, n, ends, begin, pair, kinds, parameters, splits, chosen,
                    coulomb, london, long_halves, distances, inverses, work, terms, out,
                )  # fmt: skip
                begin, n = pair, 0
    return -1, math.sqrt(from_bits(shortest))


# ---------------------------------------------------------------------------- wave vectors


@_jit
def _wave_vectors(cell, inverse, splits, k_max, orders, squares, slots, prefix, starts):
    """List half of the wave vectors up to k_max in the order of their indices.

    ``slots`` sorts them so that potential p needs the first ``prefix[p]``: those within its cut.

    Returns:
        Number of wave vectors, and the largest index along each axis.
    """
    n_potentials = splits.shape[0]
    m0 = int(k_max / (2 * PI) * math.sqrt((cell[0] ** 2).sum()) + 1e-9)
    m1 = int(k_max / (2 * PI) * math.sqrt((cell[1] ** 2).sum()) + 1e-9)
    m2 = int(k_max / (2 * PI) * math.sqrt((cell[2] ** 2).sum()) + 1e-9)
    limit = (k_max / (2 * PI)) ** 2
    c0, c1, c2 = inverse[0, 2], inverse[1, 2], inverse[2, 2]
    inverse_cc = 1 / (c0 * c0 + c1 * c1 + c2 * c2)
    starts[: n_potentials + 2] = 0
    n = 0
    for i in range(m0 + 1):
        for j in range(-m1 if i > 0 else 0, m1 + 1):
            x = i * inverse[0, 0] + j * inverse[0, 1]
            y = i * inverse[1, 0] + j * inverse[1, 1]
            z = i * inverse[2, 0] + j * inverse[2, 1]
            middle = -(x * c0 + y * c1 + z * c2) * inverse_cc
            room = (limit - (x * x + y * y + z * z)) * inverse_cc + middle * middle
            if room < 0:
                continue
            half = math.sqrt(room) + 1e-9
            low = int(math.ceil(middle - half))
            if i == 0 and j == 0:
                low = 1
            for l in range(max(low, -m2), min(int(math.floor(middle + half)), m2) + 1):
                u, v, w = x + l * c0, y + l * c1, z + l * c2
                square = u * u + v * v + w * w
                if square > limit:
                    continue
                square *= 4 * PI * PI
                rank = n_potentials  # fewer than so many potentials need it
                for p in range(n_potentials):
                    rank -= square <= splits[p, S_KCUT] ** 2
                orders[0, n], orders[1, n], orders[2, n] = i, j, l
                squares[n], slots[n] = square, rank
                starts[rank + 1] += 1
                n += 1
    for p in range(n_potentials + 1):
        starts[p + 1] += starts[p]
    for p in range(n_potentials):
        wider = 0  # potentials with a cut at least as wide
        for q in range(n_potentials):
            wider += splits[q, S_KCUT] >= splits[p, S_KCUT]
        prefix[p] = starts[n_potentials - wider + 1] if splits[p, S_KCUT] > 0 else 0
    for k in range(n):
        rank = slots[k]
        slots[k] = starts[rank]
        starts[rank] += 1
    return n, max(m0, m1, m2)


@_jit
def _phases(fractions, width, orders, slots, n_k, n_orders, powers, line, phases):
    """Write cos and sin of k.r: rows 2 slot and 2 slot + 1 of ``phases``, a column per atom."""
    stride = 2 * (n_orders + 1)
    for axis in range(3):
        start = axis * stride
        powers[start, :width] = 1.0
        powers[start + 1, :width] = 0.0
        if n_orders > 0:
            _turns(fractions[axis], width, powers[start + 2], powers[start + 3])
        for order in range(2, n_orders + 1):
            place = start + 2 * order
            rotate_rows(powers, place - 2, powers, start + 2, 1.0, powers, place, width)
    last_i, last_j = -1, 0
    for k in range(n_k):
        i, j, l = orders[0, k], orders[1, k], orders[2, k]
        if i != last_i or j != last_j:
            last_i, last_j = i, j
            sign = 1.0 if j >= 0 else -1.0
            rotate_rows(powers, 2 * i, powers, stride + 2 * abs(j), sign, line, 0, width)
        sign = 1.0 if l >= 0 else -1.0
        place = 2 * (stride + abs(l))
        rotate_rows(line, 0, powers, place, sign, phases, 2 * slots[k], width)


@_jit
def _coefficients(kind, parameter, split, volume, squares, n_k, coulomb, london, work, out):
    """Write twice the transform at each wave vector; return the k = 0 and the self term."""
    cutoff, alpha = split[S_CUTOFF], split[S_ALPHA]
    padded = (n_k + 15) & -16  # whole vectors: what is beyond n_k is never read
    if kind == COULOMB:
        row = coulomb[int(split[S_ROW])]
        scale = 2 * (cutoff / row[T_CUT]) ** 2
        for k in range(padded):
            work[k] = scale * squares[k] - 1
        _polynomial(row[T_RECIP:], int(row[T_RECIP_DEGREE]), work, padded, out)
        scale = 8 * PI / volume
        for k in range(padded):
            out[k] *= scale / squares[k]
        return row[T_ZERO] * cutoff * cutoff / volume, -row[T_SELF] / cutoff
    if kind == LONDON:
        row = london[int(split[S_ROW])]
        scale = 2 * cutoff / row[T_CUT]
        for k in range(padded):
            work[k] = scale * math.sqrt(squares[k]) - 1
        _polynomial(row[T_RECIP:], int(row[T_RECIP_DEGREE]), work, padded, out)
        scale = 1 / (volume * cutoff**3)
        for k in range(padded):
            out[k] *= 2 * scale
        return row[T_ZERO] * scale, -row[T_SELF] / cutoff**6
    if alpha > 0:
        for k in range(n_k):
            out[k] = 2 * _exponential_transform(squares[k], parameter, alpha, volume)
        zero = _exponential_transform(0.0, parameter, alpha, volume)
        return zero, -math.erfc(0.5 * parameter / alpha)
    return 0.0, 0.0


# ---------------------------------------------------------------------------- driver


@_jit
def _wrapped(positions, high, low, inverse, grid, places, fractions):
    """Write positions from the first atom as multiples of the grid and rests, wrapped.

    Fractional coordinates then lie in [-1/2, 1/2] but for rounding.
    """
    for i in range(positions.shape[0]):
        for k in range(3):
            part = np.floor(positions[i, k] / grid + 0.5) * grid
            origin = np.floor(positions[0, k] / grid + 0.5) * grid
            places[k, i] = part - origin
            places[k + 3, i] = (positions[i, k] - part) - (positions[0, k] - origin)
        x, y, z = places[0, i], places[1, i], places[2, i]
        a = np.floor(x * inverse[0, 0] + y * inverse[1, 0] + z * inverse[2, 0] + 0.5)
        b = np.floor(x * inverse[0, 1] + y * inverse[1, 1] + z * inverse[2, 1] + 0.5)
        c = np.floor(x * inverse[0, 2] + y * inverse[1, 2] + z * inverse[2, 2] + 0.5)
        for k in range(3):
            places[k, i] = places[k, i] - a * high[0, k] - b * high[1, k] - c * high[2, k]
            rest = places[k + 3, i] - a * low[0, k] - b * low[1, k] - c * low[2, k]
            places[k + 3, i] = rest
        x, y, z = places[0, i], places[1, i], places[2, i]  # rests are far below rounding here
        for k in range(3):
            fractions[k, i] = x * inverse[0, k] + y * inverse[1, k] + z * inverse[2, k]


@_jit
def _write_square(real, n, out):
    """Write pairs (own pair, then i < j) as the rows of a symmetric matrix of all pairs.

    Below the diagonal in blocks of eight, so that whole cache lines are read and written.
    """
    n_potentials = out.shape[1]
    start = 1
    for i in range(n):
        line = out[i * n + i :]
        for p in range(n_potentials):
            line[0, p] = real[p, 0]
            part = real[p, start:]
            for j in range(n - i - 1):
                line[j + 1, p] = part[j]
        start += n - i - 1
    for first in range(0, n, 8):
        for second in range(first, n, 8):
            for j in range(second, min(second + 8, n)):
                last = min(first + 8, j)
                for p in range(n_potentials):
                    for i in range(first, last):
                        out[j * n + i, p] = real[p, i * n - i * (i + 3) // 2 + j]


@_jit
def _evaluate(
    begin, end, positions, offsets, orbits, out_offsets, given, transforms, cells, inverses,
    geometry, splits, kinds, parameters, tolerance, coulomb, london, sizes, values, bounds,
):  # fmt: skip
    """Evaluate crystals begin..end-1.

    ``orbits`` is empty for all pairs; otherwise rows of representatives and orbit columns.

    Returns:
        (status, crystal, i, j) of the first failure, or zeros.
    """
    most_atoms = 0
    for c in range(begin, end):
        most_atoms = max(most_atoms, offsets[c + 1] - offsets[c])
    by_orbit = orbits.size > 0
    n_potentials = kinds.size
    n_images, n_waves, n_orders = sizes[0] + 4, sizes[1] + 16, sizes[2]
    room = (most_atoms + 3) & -4
    most_pairs = most_atoms * most_atoms if by_orbit else most_atoms * (most_atoms - 1) // 2 + 1
    # Everything that is written below is allocated here, once.
    rows, firsts = np.empty(most_atoms, np.int64), np.empty(most_atoms, np.int64)
    ends, differences = np.empty(most_pairs, np.int64), np.empty((4, most_atoms))
    real = np.empty((n_potentials, most_pairs))
    bits = real.view(np.int64)  # positive numbers are in the order of their bits
    images, unsorted = np.empty((3, n_images)), np.empty((3, n_images))
    bins = np.empty(n_images, np.int64)
    starts = np.empty(max(BINS, n_potentials + 2), np.int64)
    span = CHUNK + n_images + 8
    buffers = (np.empty(span), np.empty(span), np.empty(span), np.empty(span))
    terms = np.empty((n_potentials, span))
    orders, slots = np.empty((3, n_waves), np.int64), np.empty(n_waves, np.int64)
    squares, sorted_squares = np.empty(n_waves), np.ones(n_waves)
    work, coefficients = np.empty(n_waves), np.empty(n_waves)
    prefix = np.empty(n_potentials, np.int64)
    flat_phases, flat_scaled = np.zeros(2 * n_waves * room), np.zeros(2 * n_waves * room)
    flat_grouped = np.zeros(2 * n_waves * room if by_orbit else 0)
    flat_block, powers = np.zeros(room * room), np.zeros((6 * (n_orders + 1), room))
    line, fractions, places = np.zeros((2, room)), np.zeros((3, room)), np.empty((6, room))
    high, low = np.empty((3, 3)), np.empty((3, 3))
    long_halves = np.zeros((n_potentials, ROOM + 4))
    sums = np.array([p for p in range(n_potentials) if kinds[p] != SHELL], dtype=np.int64)
    shells = np.array([p for p in range(n_potentials) if kinds[p] == SHELL], dtype=np.int64)

    for c in range(begin, end):
        n_atoms = offsets[c + 1] - offsets[c]
        cell, inverse, split = cells[c], inverses[c], splits[c]
        labels = orbits[offsets[c] : offsets[c + 1]] if by_orbit else orbits
        own_positions = positions[offsets[c] : offsets[c + 1]]
        # large enough for all partial sums: a reduced basis is not far from orthogonal
        wrap = geometry[c, G_WRAP]
        reach = max(geometry[c, G_REACH], geometry[c, G_SHELL_REACH]) + 2 * wrap
        far_off = 0.0
        for i in range(n_atoms):
            for k in range(3):
                far_off = max(far_off, abs(own_positions[i, k]))
        grid = _grid(8 * (2 * far_off + reach) + _skew(given[c], transforms[c]))
        _split_basis(given[c], transforms[c], grid, high, low)
        _wrapped(own_positions, high, low, inverse, grid, places, fractions)
        volume, k_max = geometry[c, G_VOLUME], geometry[c, G_KMAX]
        apart, crowd = _other_images(cell, inverse, volume)

        n_rows = 0
        for i in range(n_atoms):
            if not by_orbit:  # i < j, and one pair of an atom with itself, in front
                rows[i], firsts[i] = i, i + 1 if i > 0 else 0
                n_rows += 1
            elif labels[i] == n_rows:
                rows[n_rows], firsts[n_rows] = i, 0
                n_rows += 1

        for p in range(n_potentials):
            if kinds[p] == EXPONENTIAL and split[p, S_ALPHA] > 0:
                _interpolate_long(
                    parameters[p, 0], split[p, S_ALPHA], split[p, S_CUTOFF],
                    int(split[p, S_ROW]), long_halves[p],
                )  # fmt: skip
        n_pairs, start = n_atoms * (n_atoms - 1) // 2 + 1, out_offsets[c]
        if by_orbit:
            n_pairs = n_rows * n_atoms
        shortest = np.inf
        for chosen, reach in (
            (sums, geometry[c, G_REACH]),
            (shells, geometry[c, G_SHELL_REACH]),
        ):
            if chosen.size == 0:
                continue
            n_used = n_rows - 1 if not by_orbit and n_rows > 1 else n_rows  # the last is empty
            failed, nearest = _real_half(
                rows, firsts, n_used, n_atoms, fractions, places, high, low, inverse, reach, wrap,
                kinds, parameters, split, chosen, coulomb, london,
                long_halves, images, unsorted, bins, starts, differences, ends, buffers, terms,
                real,
            )  # fmt: skip
            if failed >= 0:
                row = 0
                while failed >= n_atoms - firsts[row]:
                    failed -= n_atoms - firsts[row]
                    row += 1
                return COINCIDENT, c, rows[row], firsts[row] + failed
            shortest = min(shortest, nearest)

        width = (n_atoms + 3) & -4
        phases = flat_phases[: 2 * n_waves * width].reshape(2 * n_waves, width)
        scaled = flat_scaled[: 2 * n_waves * width].reshape(2 * n_waves, width)
        grouped = flat_grouped[: 2 * n_waves * width * by_orbit].reshape(-1, width)
        block = flat_block[: width * width].reshape(width, width)
        n_k = 0
        if k_max > 0:
            n_k, top = _wave_vectors(
                cell, inverse, split, k_max, orders, squares, slots, prefix, starts
            )
            _phases(fractions, width, orders, slots, n_k, top, powers, line, phases)
            for k in range(n_k):
                sorted_squares[slots[k]] = squares[k]
            if by_orbit:
                for k in range(2 * n_k):
                    for b in range(n_rows):
                        grouped[k, b] = 0.0
                    for j in range(n_atoms):
                        grouped[k, labels[j]] += phases[k, j]

        for p in range(n_potentials):
            n_needed = prefix[p] if n_k > 0 else 0
            zero, own = 0.0, 0.0
            if kinds[p] != SHELL:
                zero, own = _coefficients(
                    kinds[p], parameters[p, 0], split[p], volume, sorted_squares, n_needed,
                    coulomb, london, work, coefficients,
                )  # fmt: skip
            total = 0.0
            for k in range(n_needed):
                factor = coefficients[k]
                total += factor
                if by_orbit:
                    for a in range(n_rows):
                        scaled[2 * k, a] = factor * phases[2 * k, rows[a]]
                        scaled[2 * k + 1, a] = factor * phases[2 * k + 1, rows[a]]
                else:
                    scale_rows(phases, 2 * k, factor, scaled, width)
            if n_needed > 0:
                right = grouped if by_orbit else phases
                _product(scaled, right, block, 2 * n_needed, n_rows, n_rows, not by_orbit)

            elif zero != 0:
                block[:] = 0.0
            highest, real_bits = np.int64(0), bits[p]
            for pair in range(n_pairs):
                highest = max(highest, real_bits[pair])
            largest = from_bits(highest)
            own_real, pair = real[p], 1
            if by_orbit:
                for a in range(n_rows):
                    row = start + a * n_rows
                    for b in range(n_rows):
                        values[row + b, p] = block[a, b] if n_needed > 0 else 0.0
                    for j in range(n_atoms):
                        values[row + labels[j], p] += own_real[a * n_atoms + j] + zero
                    values[row + a, p] += own
            elif zero != 0:
                for i in range(n_atoms - 1):
                    line_real, line_block = own_real[pair:], block[i, i + 1 :]
                    for j in range(n_atoms - i - 1):
                        line_real[j] += line_block[j] + zero
                    pair += n_atoms - i - 1
                own_real[0] += total + zero + own
            # Rounding (docs/theory.md): of terms and their sums, of vectors to images, of phases.
            cutoff, decay = split[p, S_CUTOFF], parameters[p, 0]
            count = 31 + 4 * PI / 3 * cutoff**3 / volume
            if kinds[p] == SHELL:
                slopes = count * (0.86 / parameters[p, 1] + 6 / cutoff)
            else:
                slopes = (decay + 2 / cutoff) * largest
                if kinds[p] == LONDON:
                    slopes += 6 / apart * min(largest, crowd)
                elif kinds[p] == COULOMB:
                    slopes += largest / apart
            rounding = (30 + 3 * math.sqrt(count)) * (largest + abs(own)) + 2 * wrap * slopes
            rounding += 4 * decay * cutoff * largest + 4 * count * abs(own) + 30 * abs(zero)
            rounding += (min(2 * n_needed, 512) + 30 + 16 * wrap * split[p, S_KCUT]) * abs(total)
            bounds[c, p] = split[p, S_BOUND] + ROUNDOFF * rounding
            if not bounds[c, p] <= tolerance:
                return TOO_ROUGH, c, p, 0

        if not by_orbit:
            _write_square(real, n_atoms, values[start : start + n_atoms * n_atoms])
    return 0, 0, 0, 0


# ---------------------------------------------------------------------------- interface


@cache
def _tables() -> tuple[Floats, Floats]:
    tables = load_file(Path(__file__).with_name("split_tables.safetensors"))
    return tables["coulomb"], tables["london"]


def supports(potentials: Sequence[Potential]) -> bool:
    """Return whether this module can sum all of the potentials."""
    return all(
        isinstance(potential, Exponential | Shell)
        or (isinstance(potential, InversePower) and potential.exponent in (1, 6))
        for potential in potentials
    )


def pair_sums(
    positions: Floats,
    cells: Floats,
    counts: Ints,
    potentials: Sequence[Potential],
    *,
    tolerance: float,
    n_threads: int = 1,
) -> tuple[Floats, Floats]:
    """Return the sums of all ordered pairs of each crystal, and the bounds of their errors.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3), crystal after crystal.
        cells: Lattice vectors as rows in Å, shape (n_graphs, 3, 3).
        counts: Number of atoms of each crystal, at least 1, shape (n_graphs,).
        potentials: What to sum; ``supports(potentials)`` must hold.
        tolerance: Largest absolute error of a sum.
        n_threads: Threads that share the crystals; the numbers do not depend on it.

    Returns:
        Sums, shape (n_pairs, n_potentials), crystal after crystal, i slow and j fast; and the
        bounds, shape (n_graphs, n_potentials), not above the tolerance.

    Raises:
        StructureError: If a cell cannot be summed over, or two atoms are on one spot.
        ConfigError: If the tolerance is out of range or below what float64 can keep.
    """
    counts = np.ascontiguousarray(counts, dtype=np.int64)
    no_orbits = np.empty(0, dtype=np.int64)
    return _sums(positions, cells, counts, no_orbits, counts, potentials, tolerance, n_threads)


def orbit_sums(
    positions: Floats,
    cells: Floats,
    counts: Ints,
    orbits: Ints,
    potentials: Sequence[Potential],
    *,
    tolerance: float,
    n_threads: int = 1,
) -> tuple[Floats, Ints]:
    """Return F[a, b] = sum of S(i, j) over the atoms j of orbit b, i being the first atom of a.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3), crystal after crystal.
        cells: Lattice vectors as rows in Å, shape (n_graphs, 3, 3).
        counts: Number of atoms of each crystal, at least 1, shape (n_graphs,).
        orbits: Labels of symmetry-equivalent atoms within each crystal, from 0 in the order of
            their first appearance, shape (n_atoms,).
        potentials: What to sum; ``supports(potentials)`` must hold.
        tolerance: Largest absolute error of each S(i, j).
        n_threads: Threads that share the crystals; the numbers do not depend on it.

    Returns:
        Sums, shape (sum of squared orbit counts, n_potentials), crystal after crystal, a slow and
        b fast; and the number of orbits of each crystal, shape (n_graphs,).

    Raises:
        StructureError: If a cell cannot be summed over, or two atoms are on one spot.
        ConfigError: If the tolerance is out of range or below what float64 can keep, or labels
            are not in the order of their first appearance.
    """
    counts = np.ascontiguousarray(counts, dtype=np.int64)
    orbits = np.ascontiguousarray(orbits, dtype=np.int64)
    if orbits.shape != (int(counts.sum()),):
        raise ConfigError(
            f"orbit sums: `orbits` must hold one label for each of {counts.sum()} atoms, got shape "
            f"{orbits.shape}. Give the labels crystal after crystal."
        )
    n_orbits = np.empty_like(counts)
    wrong = _count_orbits(orbits, counts, n_orbits)
    if wrong >= 0:
        raise ConfigError(
            "orbit sums: `orbits` must number the orbits of each crystal from 0 in the order of "
            f"their first appearance, got {orbits[wrong]} at atom {wrong}. Renumber the labels."
        )
    values, _ = _sums(positions, cells, counts, orbits, n_orbits, potentials, tolerance, n_threads)
    return values, n_orbits


@_jit
def _count_orbits(orbits, counts, n_orbits):
    """Write the number of orbits of each crystal; return the first wrong label, or -1."""
    atom = 0
    for c in range(counts.size):
        n_orbits[c] = 0
        for _ in range(counts[c]):
            if orbits[atom] < 0 or orbits[atom] > n_orbits[c]:
                return atom
            n_orbits[c] = max(n_orbits[c], orbits[atom] + 1)
            atom += 1
    return -1


def _describe(potentials: Sequence[Potential]) -> tuple[Ints, Floats]:
    """Return the kinds of the potentials, and their parameters, shape (n_potentials, 3)."""
    kinds, parameters = [], []
    for potential in potentials:
        if isinstance(potential, Exponential):
            kinds.append(EXPONENTIAL)
            parameters.append((potential.rate, 0.0, 0.0))
        elif isinstance(potential, Shell):
            kinds.append(SHELL)
            parameters.append((potential.center, potential.width, potential.cutoff))
        elif isinstance(potential, InversePower) and potential.exponent in (1, 6):
            kinds.append(COULOMB if potential.exponent == 1 else LONDON)
            parameters.append((0.0, 0.0, 0.0))
        else:
            raise ConfigError(
                "fast sums: `potentials` must be Coulomb, London, exponentials or shells, got "
                f"{potential}. Use potnet.sums.pair_sums for other potentials."
            )
    return np.array(kinds, dtype=np.int64), np.array(parameters, dtype=np.float64).reshape(-1, 3)


def _sums(
    positions: Floats,
    cells: Floats,
    counts: Ints,
    orbits: Ints,
    n_rows: Ints,
    potentials: Sequence[Potential],
    tolerance: float,
    n_threads: int,
) -> tuple[Floats, Floats]:
    low, high = TOLERANCE_RANGE
    if not low <= tolerance <= high:
        raise ConfigError(
            f"lattice sums: `tolerance` must lie between {low:g} and {high:g}, got {tolerance}. "
            "Give an absolute error in that range, for example 1e-8."
        )
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    cells = np.array(cells, dtype=np.float64, order="C")
    n_graphs = len(counts)
    if cells.shape != (n_graphs, 3, 3) or positions.shape != (int(counts.sum()), 3):
        raise ConfigError(
            f"lattice sums: `positions` and `cells` must have shapes ({counts.sum()}, 3) and "
            f"({n_graphs}, 3, 3), got {positions.shape} and {cells.shape}. Give one cell per "
            "crystal and one position per atom."
        )
    finite = np.isfinite(positions).all(1)
    if not finite.all():
        atom = int(np.argmin(finite))
        raise StructureError(
            f"lattice sums: `positions` must be finite, got {positions[atom].tolist()} for atom "
            f"{atom}. Give coordinates in Å."
        )
    kinds, parameters = _describe(potentials)
    tables = _tables()
    inverses = np.empty_like(cells)
    geometry = np.zeros((n_graphs, G_WIDTH))
    splits = np.zeros((n_graphs, len(kinds), S_WIDTH))
    sizes = np.zeros(3, dtype=np.int64)
    # The rest of the tolerance is for rounding: half of it from 4e-11 on.
    budget = max(0.5 * tolerance, 0.98 * tolerance - 2e-11)
    given, transforms = cells.copy(), np.empty_like(cells)
    crystal, status = _plan(
        given,
        cells,
        transforms,
        inverses,
        counts,
        kinds,
        parameters,
        budget,
        *tables,
        geometry,
        splits,
        sizes,
    )
    if status:
        raise _failure(status, crystal, given[crystal], tolerance)

    offsets = np.concatenate([[0], np.cumsum(counts)])
    out_offsets = np.concatenate([[0], np.cumsum(n_rows**2)])
    values = np.empty((out_offsets[-1], len(kinds)))
    bounds = np.empty((n_graphs, len(kinds)))

    def evaluate(span: tuple[int, int]) -> tuple[int, int, int, int]:
        return _evaluate(
            *span, positions, offsets, orbits, out_offsets, given, transforms, cells, inverses,
            geometry, splits, kinds, parameters, tolerance, *tables, sizes, values, bounds,
        )  # fmt: skip

    if n_threads > 1 and n_graphs > 1:
        cuts = np.searchsorted(
            np.cumsum(counts**2), np.linspace(0, np.sum(counts**2), 4 * n_threads + 1)
        )
        cuts[-1] = n_graphs
        spans = [(int(a), int(b)) for a, b in zip(cuts[:-1], cuts[1:], strict=True) if b > a]
        with ThreadPoolExecutor(n_threads) as pool:
            outcomes = list(pool.map(evaluate, spans))
    else:
        outcomes = [evaluate((0, n_graphs))]
    for status, crystal, i, j in outcomes:
        if status:
            raise _failure(status, crystal, given[crystal], tolerance, i, j)
    return values, bounds


def _failure(
    status: int, crystal: int, cell: Floats, tolerance: float, i: int = 0, j: int = 0
) -> Exception:
    """Return the exception for a status of the compiled code."""
    where, got = f"crystal {crystal}", f"got {cell.tolist()}"
    match status:
        case _ if not np.isfinite(cell).all():
            return StructureError(
                f"{where}: `cell` must hold finite numbers, {got}. Give three lattice vectors in Å."
            )
        case 1:  # SINGULAR
            return StructureError(
                f"{where}: `cell` must hold three independent vectors, {got}. "
                "Give a cell with a volume."
            )
        case 2:  # TOO_SMALL
            return StructureError(
                f"{where}: `cell` must keep an atom and its images {SAME_SPOT:g} Å apart or more, "
                f"{got}. Give the lattice vectors in Å."
            )
        case 4:  # TOO_LARGE
            return StructureError(
                f"{where}: `cell` must need at most {MAX_VECTORS} lattice vectors, {got} at this "
                "tolerance and cutoff. Give the cell in Å, or a larger tolerance or a smaller "
                "cutoff."
            )
        case 5:  # COINCIDENT
            return StructureError(
                f"{where}: atoms {i} and {j} must be {SAME_SPOT:g} Å apart or more, got less "
                "(periodic images included). Remove the duplicate atom."
            )
        case _:  # OUT_OF_REACH, TOO_ROUGH
            return ConfigError(
                f"{where}: `tolerance` must be one that float64 can keep for every potential, got "
                f"{tolerance:g}. Give a larger tolerance, or check for atoms that almost touch."
            )
