"""The lattice sums on the CPU without gradients, as fast as the machine allows.

The same sums as ``ewald.py``, compiled by numba. Per crystal: reduce the lattice, split each
potential into a short half summed over images and a long half summed over wave vectors, choose
both radii from proved bounds for the tolerance, evaluate.

Every long half is an even entire function of r, a polynomial in r^2 inside the cutoff R, so the
short half is V(r) - P(r^2): no special function is left in the inner loops.

* Coulomb: the Kaiser-Bessel split. Its short half ends at R exactly; the bound is on wave vectors.
  For the window used here the transform is elementary and its envelope is proved
  (``scripts/make_split_tables.py``).
* London: the Gaussian split, by the lemma of Bernstein functions: both halves fall at least like a
  Gaussian beyond their radius.
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

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import types
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
C_BETA, C_CUT, C_ENVELOPE, C_J0, C_J1, C_J2, C_BACKGROUND, C_REAL_REST, C_RECIP_REST = range(9)
C_REAL_DEGREE, C_RECIP_DEGREE, C_SELF, C_REAL, C_RECIP = 9, 10, 11, 12, 12 + ROOM
L_X, L_VALUE, L_REST, L_DEGREE, L_POLYNOMIAL = range(5)  # both London tables

# Columns of a plan: one row per crystal, and one row per crystal and potential.
G_VOLUME, G_CUTOFF, G_REACH, G_SHELL_REACH, G_WRAP, G_KMAX, G_WIDTH = range(7)
S_CUTOFF, S_KCUT, S_ALPHA, S_ROW, S_ROW2, S_BOUND, S_WIDTH = range(7)

EXACT = 3e-11  # below this tolerance transforms are computed, not taken from polynomials
CHUNK = 1024  # distances evaluated at a time: their arrays stay in the first-level cache
BINS = 64  # images are sorted by length into so many bins


# ---------------------------------------------------------------------------- lattice


@_jit
def _reduce(cell):
    """Make the rows of ``cell`` a Minkowski-reduced basis, in place (Semaev 2001)."""
    for _ in range(1000):
        for _ in range(2):
            for i in range(2):
                if (
                    cell[i, 0] ** 2 + cell[i, 1] ** 2 + cell[i, 2] ** 2
                    > cell[i + 1, 0] ** 2 + cell[i + 1, 1] ** 2 + cell[i + 1, 2] ** 2
                ):
                    for k in range(3):
                        cell[i, k], cell[i + 1, k] = cell[i + 1, k], cell[i, k]
        aa = bb = cc = ab = ac = bc = 0.0
        for k in range(3):
            aa += cell[0, k] * cell[0, k]
            ab += cell[0, k] * cell[1, k]
        m = np.floor(ab / aa + 0.5)
        if abs(ab) > 0.5 * aa * (1 + 1e-12):
            for k in range(3):
                cell[1, k] -= m * cell[0, k]
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
    """Return (A1, A2, mu, V) of the counting bound for the lattice and for its reciprocal."""
    aa = ab = cc = 0.0
    for k in range(3):
        aa += cell[0, k] * cell[0, k]
        ab += cell[0, k] * cell[1, k]
        cc += inverse[k, 2] * inverse[k, 2]
    l1, l3 = math.sqrt(aa), 1 / math.sqrt(cc)
    l2 = volume / (l1 * l3)
    mu = 0.5 * math.sqrt(l1 * l1 + l2 * l2 + l3 * l3)
    real = (PI * (l1 + l2 + l3), 2 * (l1 * l2 + l1 * l3 + l2 * l3), mu, volume)
    l1, l2, l3 = 2 * PI / l1, 2 * PI / l2, 2 * PI / l3
    mu = 0.5 * math.sqrt(l1 * l1 + l2 * l2 + l3 * l3)
    recip = (PI * (l1 + l2 + l3), 2 * (l1 * l2 + l1 * l3 + l2 * l3), mu, l1 * l2 * l3)
    return real, recip


@_jit
def _most(count, r):
    """Return the largest possible number of lattice points in a ball of radius r."""
    a1, a2, _, volume = count
    return 1 + r * (a2 + r * (a1 + r * (4 * PI / 3))) / volume


@_jit
def _at_edge(count, r):
    """Return how many points may lie on the edge, for all that is known: most minus least."""
    inner = max(r - count[2], 0.0)
    return _most(count, r) - 4 * PI / 3 * inner**3 / count[3]


@_jit
def _gaussian_tail(count, r, rate):
    """Return the bound of sum_{|y|>r} f(|y|) / f(r) if f falls like exp(-rate (y^2 - r^2))."""
    a1, a2, _, volume = count
    half = 0.5 / rate
    integral = a2 * half / r + 2 * a1 * half + 4 * PI * (r * half + half * half / r)
    return _at_edge(count, r) + integral / volume


@_jit
def _exponential_tail(count, r, a):
    """Return the bound of sum_{|y|>r} exp(-a |y|)."""
    a1, a2, _, volume = count
    b = 1 / a
    integral = b * (a2 + 2 * a1 * (r + b) + 4 * PI * (r * r + 2 * b * (r + b)))
    return math.exp(-a * r) * (_at_edge(count, r) + integral / volume)


# ---------------------------------------------------------------------------- plan


@_jit
def _coulomb_tail(row, cutoff, recip, volume):
    """Return the bound of the wave vectors left out by one row of the Coulomb table."""
    a1, a2, _, cell = recip
    inv = 1 / cutoff
    edge = row[C_ENVELOPE] * _at_edge(recip, row[C_CUT] * inv)
    moments = a2 * row[C_J0] + 2 * a1 * inv * row[C_J1] + 4 * PI * inv * inv * row[C_J2]
    return cutoff * cutoff / volume * (edge + inv / cell * moments)


@_jit
def _plan_coulomb(cutoff, real, recip, tolerance, table, split):
    low, high = 0, table.shape[0] - 1
    if _coulomb_tail(table[high], cutoff, recip, real[3]) > tolerance:
        return OUT_OF_REACH
    while low < high:
        middle = (low + high) // 2
        if _coulomb_tail(table[middle], cutoff, recip, real[3]) > tolerance:
            low = middle + 1
        else:
            high = middle
    row = table[high]
    split[S_CUTOFF], split[S_KCUT], split[S_ROW] = cutoff, row[C_CUT] / cutoff, high
    split[S_BOUND] = _coulomb_tail(row, cutoff, recip, real[3])
    split[S_BOUND] += (_most(real, cutoff) + 1) * row[C_REAL_REST] / cutoff
    return 0


@_jit
def _plan_london(cutoff, real, recip, tolerance, table, recip_table, split):
    low, high, bound = 0, table.shape[0], 0.0
    while low < high:
        middle = (low + high) // 2
        alpha = table[middle, L_X] / cutoff
        if table[middle, L_VALUE] * _gaussian_tail(real, cutoff, alpha**2) > 0.5 * tolerance * (
            cutoff**6
        ):
            low = middle + 1
        else:
            high = middle
    if high == table.shape[0]:
        return OUT_OF_REACH
    row = table[high]
    alpha = row[L_X] / cutoff
    bound = row[L_VALUE] * _gaussian_tail(real, cutoff, alpha**2)
    bound = (bound + (_most(real, cutoff) + 1) * row[L_REST]) / cutoff**6
    split[S_CUTOFF], split[S_ALPHA], split[S_ROW] = cutoff, alpha, high
    scale = 2 * PI**1.5 * alpha**3 / (3 * real[3])
    left, low, high = tolerance - bound, 0, recip_table.shape[0]
    while low < high:
        middle = (low + high) // 2
        k = 2 * alpha * recip_table[middle, L_X]
        tail = recip_table[middle, L_VALUE] * _gaussian_tail(recip, k, 0.25 / alpha**2)
        rest = _most(recip, k) * recip_table[middle, L_REST] if tolerance > EXACT else 0.0
        if scale * (tail + rest) > left:
            low = middle + 1
        else:
            high = middle
    if high == recip_table.shape[0]:
        return OUT_OF_REACH
    row = recip_table[high]
    k = 2 * alpha * row[L_X]
    split[S_KCUT], split[S_ROW2] = k, high
    tail = row[L_VALUE] * _gaussian_tail(recip, k, 0.25 / alpha**2)
    rest = _most(recip, k) * row[L_REST] if tolerance > EXACT else 0.0
    split[S_BOUND] = bound + scale * (tail + rest)
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
    reach = _exponential_reach(real, decay, tolerance)
    split[S_CUTOFF], split[S_KCUT], split[S_ALPHA] = reach, 0.0, 0.0
    split[S_BOUND] = _exponential_tail(real, reach, decay)
    if reach < 1.5 * cutoff:
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
    cell, inverse, n_atoms, kinds, parameters, tolerance, coulomb, london, london_recip,
    geometry, splits,
):  # fmt: skip
    """Reduce one cell in place, choose all radii, and return a status."""
    sizes = 1.0
    for i in range(3):
        sizes *= math.sqrt(cell[i, 0] ** 2 + cell[i, 1] ** 2 + cell[i, 2] ** 2)
    if not abs(_invert(cell, inverse)) > 1e-10 * sizes:
        return SINGULAR
    _reduce(cell)
    volume = abs(_invert(cell, inverse))
    if cell[0, 0] ** 2 + cell[0, 1] ** 2 + cell[0, 2] ** 2 < SAME_SPOT**2:
        return TOO_SMALL
    real, recip = _counting(cell, inverse, volume)
    # Images per pair that balance both halves: images * wave vectors is fixed by the tolerance.
    n_pairs = 0.5 * n_atoms * (n_atoms - 1) + 1
    product = 8.75 * (0.58 * (math.log(1 / tolerance) + 4) / PI) ** 3
    images = math.sqrt(product * (n_pairs * 0.4 + n_atoms * 2.5 + 20) / (n_pairs * 8.0))
    cutoff = (3 * volume * images / (4 * PI)) ** (1 / 3)
    reach = shell_reach = k_max = 0.0
    for p in range(kinds.size):
        split = splits[p]
        status = 0
        if kinds[p] == COULOMB:
            status = _plan_coulomb(cutoff, real, recip, tolerance, coulomb, split)
        elif kinds[p] == LONDON:
            status = _plan_london(cutoff, real, recip, tolerance, london, london_recip, split)
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
    cells, inverses, counts, kinds, parameters, tolerance, coulomb, london, london_recip,
    geometry, splits, sizes,
):  # fmt: skip
    """Plan every crystal; ``sizes`` gets the largest number of images, wave vectors and orders.

    Returns:
        The first crystal that cannot be planned and its status, or (-1, 0).
    """
    for c in range(counts.size):
        status = _plan_one(
            cells[c], inverses[c], counts[c], kinds, parameters, tolerance,
            coulomb, london, london_recip, geometry[c], splits[c],
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


# ---------------------------------------------------------------------------- arithmetic


def _tile_intrinsic(n_vectors):
    """Make the kernel C[i:i+4, j:j+4 n] = sum_k A[k, i:i+4]^T B[k, j:j+4 n], n = 1, 2 or 3.

    Written as LLVM vectors because the automatic vectoriser does not keep the 4 n sums of four in
    registers; LLVM maps them to whatever the machine has.
    """

    @intrinsic
    def tile(typing_context, a, b, c, row, column, n_k):
        signature = types.void(a, b, c, types.intp, types.intp, types.intp)

        def codegen(context, builder, sig, arguments):
            arrays = [
                context.make_array(kind)(context, builder, value)
                for kind, value in zip(sig.args[:3], arguments[:3], strict=True)
            ]
            row, column, n_k = arguments[3:]
            word, double = ir.IntType(64), ir.DoubleType()
            vector = ir.VectorType(double, 4)
            a, b, c = (array.data for array in arrays)
            lda, ldb, ldc = (builder.extract_value(array.shape, 1) for array in arrays)

            def at(base, index):
                return builder.gep(base, [index])

            def load(base, index):
                pointer = builder.bitcast(at(base, index), vector.as_pointer())
                return builder.load(pointer, align=8)

            entry = builder.block
            loop = builder.append_basic_block("tile_loop")
            done = builder.append_basic_block("tile_done")
            builder.branch(loop)
            builder.position_at_end(loop)
            k = builder.phi(word)
            k.add_incoming(ir.Constant(word, 0), entry)
            zero = ir.Constant(vector, [0.0] * 4)
            sums = [[builder.phi(vector) for _ in range(n_vectors)] for _ in range(4)]
            start_a = builder.add(builder.mul(k, lda), row)
            start_b = builder.add(builder.mul(k, ldb), column)
            right = [
                load(b, builder.add(start_b, ir.Constant(word, 4 * v))) for v in range(n_vectors)
            ]
            undefined = ir.Constant(vector, ir.Undefined)
            lanes = ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4)
            new = []
            for r in range(4):
                scalar = builder.load(at(a, builder.add(start_a, ir.Constant(word, r))))
                left = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
                left = builder.shuffle_vector(left, undefined, lanes)
                new.append([
                    builder.fadd(
                        builder.fmul(left, right[v], flags=("contract",)),
                        sums[r][v],
                        flags=("contract",),
                    )
                    for v in range(n_vectors)
                ])  # fmt: skip
            following = builder.add(k, ir.Constant(word, 1))
            k.add_incoming(following, loop)
            for r in range(4):
                for v in range(n_vectors):
                    sums[r][v].add_incoming(zero, entry)
                    sums[r][v].add_incoming(new[r][v], loop)
            builder.cbranch(builder.icmp_signed("<", following, n_k), loop, done)
            builder.position_at_end(done)
            for r in range(4):
                line = builder.mul(builder.add(row, ir.Constant(word, r)), ldc)
                line = builder.add(line, column)
                for v in range(n_vectors):
                    where = at(c, builder.add(line, ir.Constant(word, 4 * v)))
                    pointer = builder.bitcast(where, vector.as_pointer())
                    builder.store(new[r][v], pointer, align=8)
            return context.get_dummy_value()

        return signature, codegen

    return tile


_tile1, _tile2, _tile3 = _tile_intrinsic(1), _tile_intrinsic(2), _tile_intrinsic(3)


@_jit
def _product(a, b, c, n_k, n_rows, n_columns, symmetric):
    """Write c = a[:n_k]^T b[:n_k]; if symmetric, only the blocks of four on and above the diagonal.

    Rows of a, b and c have room for the next multiple of four; n_k >= 1.
    """
    for row in range(0, n_rows, 4):
        column = row if symmetric else 0
        while n_columns - column > 8:
            _tile3(a, b, c, row, column, n_k)
            column += 12
        if n_columns - column > 4:
            _tile2(a, b, c, row, column, n_k)
        elif n_columns > column:
            _tile1(a, b, c, row, column, n_k)


@intrinsic
def _from_bits(typing_context, bits):
    """Return the float64 with these 64 bits."""

    def codegen(context, builder, sig, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), codegen


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
    return p * _from_bits(np.int64((np.int64(np.int32(n)) + 1023) << 52))


@_jit
def _turns(fraction, n_atoms, cosine, sine):
    """Write cos and sin of 2 pi f for f in [-1/2, 1/2], by the series of the half angle."""
    for i in range(n_atoms):
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
def _images(cell, inverse, reach, images, unsorted, bins, starts):
    """List the lattice vectors up to a length, the zero vector first, in bins of length.

    Returns:
        Bins per Å. ``starts[b]`` is the number of vectors in the bins before b.
    """
    per_length = (BINS - 2) / reach
    starts[:] = 0
    m2 = int(reach * math.sqrt((inverse[:, 2] ** 2).sum()) + 1e-9)
    m1 = int(reach * math.sqrt((inverse[:, 1] ** 2).sum()) + 1e-9)
    aa = (cell[0] ** 2).sum()
    n = 0
    for i in range(-m2, m2 + 1):
        for j in range(-m1, m1 + 1):
            x = i * cell[2, 0] + j * cell[1, 0]
            y = i * cell[2, 1] + j * cell[1, 1]
            z = i * cell[2, 2] + j * cell[1, 2]
            middle = -(x * cell[0, 0] + y * cell[0, 1] + z * cell[0, 2]) / aa
            room = (reach * reach - (x * x + y * y + z * z)) / aa + middle * middle
            if room < 0:
                continue
            half = math.sqrt(room) + 1e-9
            for l in range(int(math.ceil(middle - half)), int(math.floor(middle + half)) + 1):
                u = x + l * cell[0, 0]
                v = y + l * cell[0, 1]
                w = z + l * cell[0, 2]
                length = math.sqrt(u * u + v * v + w * w)
                if length > reach:
                    continue
                b = min(int(length * per_length), BINS - 2)
                unsorted[0, n], unsorted[1, n], unsorted[2, n] = u, v, w
                bins[n] = b
                starts[b + 1] += 1
                n += 1
    for b in range(BINS - 1):
        starts[b + 1] += starts[b]
    for i in range(n - 1, -1, -1):  # fill each bin from its end, then take its end back
        b = bins[i]
        starts[b + 1] -= 1
        slot = starts[b + 1]
        images[0, slot], images[1, slot], images[2, slot] = unsorted[:3, i]
    for b in range(1, BINS - 1):
        starts[b] = starts[b + 1]
    starts[BINS - 1] = n
    for i in range(starts[1]):
        if images[0, i] == 0 and images[1, i] == 0 and images[2, i] == 0:
            for k in range(3):
                images[k, i] = images[k, 0]
                images[k, 0] = 0.0
    return per_length


@_jit
def _evaluate_chunk(
    squares, n, ends, begin, end, kinds, parameters, splits, shells, coulomb, london, long_halves,
    distances, inverses, work, terms, out,
):  # fmt: skip
    """Add up V - P over one chunk of squared distances, pair by pair."""
    for i in range(n):
        distances[i] = math.sqrt(squares[i])
        inverses[i] = 1.0 / distances[i]
    for p in range(kinds.size):
        kind, cutoff = kinds[p], splits[p, S_CUTOFF]
        if (kind == SHELL) != shells:
            continue
        limit = cutoff * cutoff
        if kind == SHELL:
            center, inverse_width = parameters[p, 0], 1 / parameters[p, 1]
            for i in range(n):
                x = (distances[i] - center) * inverse_width
                edge = max(1 - squares[i] / limit, 0.0)
                terms[i] = _exp(-x * x) * (edge * edge * edge)
        elif kind == EXPONENTIAL:
            decay = parameters[p, 0]
            for i in range(n):
                terms[i] = _exp(-decay * distances[i]) if squares[i] < limit else 0.0
            if splits[p, S_ALPHA] > 0:
                for i in range(n):
                    work[i] = 2 / limit * squares[i] - 1
                _polynomial(long_halves[p], int(splits[p, S_ROW]), work, n, inverses)
                for i in range(n):
                    terms[i] -= inverses[i] if squares[i] < limit else 0.0
                for i in range(n):
                    inverses[i] = 1.0 / distances[i]
        else:
            for i in range(n):
                work[i] = 2 / limit * squares[i] - 1
            if kind == COULOMB:
                row = coulomb[int(splits[p, S_ROW])]
                _polynomial(row[C_REAL:], int(row[C_REAL_DEGREE]), work, n, terms)
                scale = 1 / cutoff
                for i in range(n):
                    value = inverses[i] - scale * terms[i]
                    terms[i] = value if squares[i] < limit else 0.0
            else:
                row = london[int(splits[p, S_ROW])]
                _polynomial(row[L_POLYNOMIAL:], int(row[L_DEGREE]), work, n, terms)
                scale = 1 / cutoff**6
                for i in range(n):
                    square = inverses[i] * inverses[i]
                    value = square * square * square - scale * terms[i]
                    terms[i] = value if squares[i] < limit else 0.0
        start = ends[begin - 1] if begin > 0 else 0
        shift = start
        for pair in range(begin, end):
            total = 0.0
            for i in range(start - shift, ends[pair] - shift):
                total += terms[i]
            start = ends[pair]
            out[p, pair] = total


@_jit
def _real_half(
    first, second, n_pairs, fractions, cell, inverse, reach, wrap, kinds, parameters, splits,
    shells, coulomb, london, long_halves, images, unsorted, bins, differences, ends, buffers, out,
):  # fmt: skip
    """Sum the short halves over all images of each pair within the reach.

    Returns:
        The first pair on one spot, or -1, and the shortest distance met.
    """
    starts = np.empty(BINS, np.int64)
    per_length = _images(
        cell, inverse, (reach + wrap) * (1 + 1e-12), images, unsorted, bins, starts
    )
    for p in range(n_pairs):
        i, j = first[p], second[p]
        a = fractions[0, j] - fractions[0, i]
        b = fractions[1, j] - fractions[1, i]
        c = fractions[2, j] - fractions[2, i]
        a, b, c = a - np.floor(a + 0.5), b - np.floor(b + 0.5), c - np.floor(c + 0.5)
        x = a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
        y = a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
        z = a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
        differences[0, p], differences[1, p], differences[2, p] = x, y, z
        differences[3, p] = math.sqrt(x * x + y * y + z * z)
    squares, candidates, distances, inverses, work, terms = buffers
    limit = reach * reach
    bits = squares.view(np.int64)  # positive numbers are in the order of their bits
    shortest = np.int64(0x7FE0000000000000)
    n, total, begin = 0, 0, 0
    for p in range(n_pairs):
        x, y, z = differences[0, p], differences[1, p], differences[2, p]
        farthest = min(int((reach + differences[3, p]) * per_length) + 1, BINS - 1)
        count = starts[farthest]
        skip = 1 if first[p] == second[p] else 0
        for i in range(skip, count):
            u, v, w = x + images[0, i], y + images[1, i], z + images[2, i]
            candidates[i] = u * u + v * v + w * w
        before = n
        for i in range(skip, count):
            squares[n] = candidates[i]
            n += candidates[i] < limit
        total += n - before
        ends[p] = total
        if n > CHUNK or p == n_pairs - 1:
            nearest = shortest
            for i in range(n):
                nearest = min(nearest, bits[i])
            if _from_bits(nearest) < SAME_SPOT**2:
                q = begin
                closest = 0
                while bits[closest] != nearest:
                    closest += 1
                first_distance = ends[begin - 1] if begin > 0 else 0
                while ends[q] - first_distance <= closest:
                    q += 1
                return q, math.sqrt(squares[closest])
            shortest = nearest
            _evaluate_chunk(
                squares, n, ends, begin, p + 1, kinds, parameters, splits, shells,
                coulomb, london, long_halves, distances, inverses, work, terms, out,
            )  # fmt: skip
            begin, n = p + 1, 0
    return -1, math.sqrt(_from_bits(shortest))


# ---------------------------------------------------------------------------- wave vectors


@_jit
def _wave_vectors(cell, inverse, splits, k_max, orders, squares, slots, prefix):
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
    cc = (inverse[:, 2] ** 2).sum()
    n = 0
    for i in range(m0 + 1):
        for j in range(-m1 if i > 0 else 0, m1 + 1):
            x = i * inverse[0, 0] + j * inverse[0, 1]
            y = i * inverse[1, 0] + j * inverse[1, 1]
            z = i * inverse[2, 0] + j * inverse[2, 1]
            middle = -(x * inverse[0, 2] + y * inverse[1, 2] + z * inverse[2, 2]) / cc
            room = (limit - (x * x + y * y + z * z)) / cc + middle * middle
            if room < 0:
                continue
            half = math.sqrt(room) + 1e-9
            low = int(math.ceil(middle - half))
            if i == 0 and j == 0:
                low = 1
            for l in range(max(low, -m2), min(int(math.floor(middle + half)), m2) + 1):
                u = x + l * inverse[0, 2]
                v = y + l * inverse[1, 2]
                w = z + l * inverse[2, 2]
                square = u * u + v * v + w * w
                if square <= limit:
                    orders[0, n], orders[1, n], orders[2, n] = i, j, l
                    squares[n] = 4 * PI * PI * square
                    n += 1
    # Counting sort by the number of potentials that need the vector, most first.
    starts = np.zeros(n_potentials + 2, np.int64)
    for k in range(n):
        needed = 0
        for p in range(n_potentials):
            needed += squares[k] <= splits[p, S_KCUT] ** 2
        slots[k] = needed
        starts[n_potentials - needed + 1] += 1
    for p in range(n_potentials + 1):
        starts[p + 1] += starts[p]
    for p in range(n_potentials):
        wider = 0  # potentials with a cut at least as wide
        for q in range(n_potentials):
            wider += splits[q, S_KCUT] >= splits[p, S_KCUT]
        prefix[p] = starts[n_potentials - wider + 1] if splits[p, S_KCUT] > 0 else 0
    for k in range(n):
        rank = n_potentials - slots[k]
        slots[k] = starts[rank]
        starts[rank] += 1
    return n, max(m0, m1, m2)


@_jit
def _phases(fractions, n_atoms, orders, slots, n_k, n_orders, powers, line, phases):
    """Write cos and sin of k.r: rows 2 slot and 2 slot + 1 of ``phases``, a column per atom."""
    for axis in range(3):
        cosines, sines = powers[2 * axis], powers[2 * axis + 1]
        cosines[0, :n_atoms] = 1.0
        sines[0, :n_atoms] = 0.0
        if n_orders > 0:
            _turns(fractions[axis], n_atoms, cosines[1], sines[1])
        for order in range(2, n_orders + 1):
            for a in range(n_atoms):
                c, s = cosines[order - 1, a], sines[order - 1, a]
                cosines[order, a] = c * cosines[1, a] - s * sines[1, a]
                sines[order, a] = c * sines[1, a] + s * cosines[1, a]
    last_i, last_j = -1, 0
    for k in range(n_k):
        i, j, l = orders[0, k], orders[1, k], orders[2, k]
        if i != last_i or j != last_j:
            last_i, last_j = i, j
            sign = 1.0 if j >= 0 else -1.0
            ca, sa = powers[0, i], powers[1, i]
            cb, sb = powers[2, abs(j)], powers[3, abs(j)]
            for a in range(n_atoms):
                line[0, a] = ca[a] * cb[a] - sa[a] * (sign * sb[a])
                line[1, a] = ca[a] * (sign * sb[a]) + sa[a] * cb[a]
        sign = 1.0 if l >= 0 else -1.0
        cc, sc = powers[4, abs(l)], powers[5, abs(l)]
        even, odd = phases[2 * slots[k]], phases[2 * slots[k] + 1]
        for a in range(n_atoms):
            even[a] = line[0, a] * cc[a] - line[1, a] * (sign * sc[a])
            odd[a] = line[0, a] * (sign * sc[a]) + line[1, a] * cc[a]


@_jit
def _window(z2, beta):
    """Return G(z) / G(beta) of the Kaiser-Bessel window from z^2 of either sign, beta > 2."""
    scale = math.exp(-beta) * beta**3 * 2 / (beta - 1 + (beta + 1) * math.exp(-2 * beta))
    if abs(z2) < 1e-3:
        return scale * (1 / 3 + z2 * (1 / 30 + z2 * (1 / 840 + z2 / 45360)))
    z = math.sqrt(abs(z2))
    if z2 > 0:
        return scale * (z * math.cosh(z) - math.sinh(z)) / z**3
    return scale * (math.sin(z) - z * math.cos(z)) / z**3


@_jit
def _coefficients(
    kind, parameter, split, volume, squares, n_k, is_exact, coulomb, london_recip, work, out
):  # fmt: skip
    """Write twice the transform at each wave vector; return (k = 0 term, self term, bound)."""
    if kind == COULOMB:
        cutoff = split[S_CUTOFF]
        row = coulomb[int(split[S_ROW])]
        scale = 2 * (cutoff / row[C_CUT]) ** 2
        for k in range(n_k):
            work[k] = scale * squares[k] - 1
        if is_exact:
            for k in range(n_k):
                out[k] = _window(row[C_BETA] ** 2 - squares[k] * cutoff**2, row[C_BETA])
        else:
            _polynomial(row[C_RECIP:], int(row[C_RECIP_DEGREE]), work, n_k, out)
        rest = 0.0
        for k in range(n_k):
            work[k] = 8 * PI / (volume * squares[k])
            rest += work[k]
            out[k] *= work[k]
        zero = row[C_BACKGROUND] * cutoff * cutoff / volume
        return zero, -row[C_SELF] / cutoff, 0.0 if is_exact else rest * row[C_RECIP_REST]
    alpha = split[S_ALPHA]
    if kind == LONDON:
        row = london_recip[int(split[S_ROW2])]
        scale = 1 / (alpha * row[L_X])
        for k in range(n_k):
            work[k] = scale * math.sqrt(squares[k]) - 1
        if is_exact:
            for k in range(n_k):
                q = squares[k] / (4 * alpha * alpha)
                edge = math.sqrt(PI * q) * q * math.erfc(math.sqrt(q))
                out[k] = edge + (0.5 - q) * math.exp(-q)
        else:
            _polynomial(row[L_POLYNOMIAL:], int(row[L_DEGREE]), work, n_k, out)
        scale = 2 * PI**1.5 * alpha**3 / (3 * volume)
        for k in range(n_k):
            out[k] *= 2 * scale
        return 0.5 * scale, -(alpha**6) / 6, 0.0
    if alpha > 0:
        for k in range(n_k):
            out[k] = 2 * _exponential_transform(squares[k], parameter, alpha, volume)
        zero = _exponential_transform(0.0, parameter, alpha, volume)
        return zero, -math.erfc(0.5 * parameter / alpha), 0.0
    return 0.0, 0.0, 0.0


# ---------------------------------------------------------------------------- driver


@_jit
def _wrapped(positions, inverse, fractions):
    """Write fractional coordinates in [-1/2, 1/2]; return the largest distance from the first."""
    extent = 0.0
    for i in range(positions.shape[0]):
        x = positions[i, 0] - positions[0, 0]
        y = positions[i, 1] - positions[0, 1]
        z = positions[i, 2] - positions[0, 2]
        extent = max(extent, x * x + y * y + z * z)
        for k in range(3):
            f = x * inverse[0, k] + y * inverse[1, k] + z * inverse[2, k]
            fractions[k, i] = f - np.floor(f + 0.5)
    return math.sqrt(extent)


@_jit
def _evaluate(
    begin, end, positions, offsets, orbits, out_offsets, cells, inverses, geometry, splits,
    kinds, parameters, tolerance, coulomb, london, london_recip, sizes, values, bounds,
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
    room = (most_atoms + 15) // 4 * 4
    n_images, n_waves, n_orders = sizes[0], sizes[1], sizes[2]
    most_pairs = most_atoms * most_atoms if by_orbit else most_atoms * (most_atoms - 1) // 2 + 1
    first, second = np.empty(most_pairs, np.int64), np.empty(most_pairs, np.int64)
    ends, differences = np.empty(most_pairs, np.int64), np.empty((4, most_pairs))
    real = np.empty((n_potentials, most_pairs))
    images, unsorted = np.empty((3, n_images)), np.empty((3, n_images))
    bins = np.empty(n_images, np.int64)
    span = CHUNK + n_images + 8
    buffers = (
        np.empty(span), np.empty(n_images), np.empty(span), np.empty(span), np.empty(span),
        np.empty(span),
    )  # fmt: skip
    orders, slots = np.empty((3, n_waves), np.int64), np.empty(n_waves, np.int64)
    squares, sorted_squares = np.empty(n_waves), np.empty(n_waves)
    work, coefficients = np.empty(n_waves), np.empty(n_waves)
    prefix = np.empty(n_potentials, np.int64)
    powers, line = np.empty((6, n_orders + 1, most_atoms)), np.empty((2, most_atoms))
    flat_phases, flat_scaled = np.zeros(2 * n_waves * room), np.zeros(2 * n_waves * room)
    flat_grouped = np.zeros(2 * n_waves * room if by_orbit else 0)
    block = np.zeros((room, room))
    fractions = np.empty((3, most_atoms))
    long_halves = np.zeros((n_potentials, ROOM + 4))
    representatives = np.empty(most_atoms, np.int64)
    any_shell, any_sum = False, False
    for p in range(n_potentials):
        any_shell |= kinds[p] == SHELL
        any_sum |= kinds[p] != SHELL

    for c in range(begin, end):
        n_atoms = offsets[c + 1] - offsets[c]
        cell, inverse, split = cells[c], inverses[c], splits[c]
        labels = orbits[offsets[c] : offsets[c + 1]] if by_orbit else orbits
        extent = _wrapped(positions[offsets[c] : offsets[c + 1]], inverse, fractions)
        volume, k_max = geometry[c, G_VOLUME], geometry[c, G_KMAX]

        n_rows, n_pairs = n_atoms, 0
        if by_orbit:
            n_rows = 0
            for i in range(n_atoms):
                if labels[i] == n_rows:
                    representatives[n_rows] = i
                    n_rows += 1
            for a in range(n_rows):
                for j in range(n_atoms):
                    first[n_pairs], second[n_pairs] = representatives[a], j
                    n_pairs += 1
        else:
            first[0], second[0], n_pairs = 0, 0, 1
            for i in range(n_atoms):
                for j in range(i + 1, n_atoms):
                    first[n_pairs], second[n_pairs] = i, j
                    n_pairs += 1

        for p in range(n_potentials):
            if kinds[p] == EXPONENTIAL and split[p, S_ALPHA] > 0:
                _interpolate_long(
                    parameters[p, 0], split[p, S_ALPHA], split[p, S_CUTOFF],
                    int(split[p, S_ROW]), long_halves[p],
                )  # fmt: skip
        shortest = np.inf
        for shells in range(2):
            if (shells == 0 and not any_sum) or (shells == 1 and not any_shell):
                continue
            reach = geometry[c, G_REACH] if shells == 0 else geometry[c, G_SHELL_REACH]
            failed, nearest = _real_half(
                first, second, n_pairs, fractions, cell, inverse, reach, geometry[c, G_WRAP],
                kinds, parameters, split, shells == 1, coulomb, london, long_halves,
                images, unsorted, bins, differences, ends, buffers, real,
            )  # fmt: skip
            if failed >= 0:
                return COINCIDENT, c, first[failed], second[failed]
            shortest = min(shortest, nearest)

        width = (n_atoms + 15) // 4 * 4
        phases = flat_phases[: 2 * n_waves * width].reshape(2 * n_waves, width)
        scaled = flat_scaled[: 2 * n_waves * width].reshape(2 * n_waves, width)
        grouped = flat_grouped[: 2 * n_waves * width * by_orbit].reshape(-1, width)
        n_k, top = 0, 0
        if k_max > 0:
            n_k, top = _wave_vectors(cell, inverse, split, k_max, orders, squares, slots, prefix)
            _phases(fractions, n_atoms, orders, slots, n_k, top, powers, line, phases)
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
            zero, own, rest = 0.0, 0.0, 0.0
            if kinds[p] != SHELL:
                zero, own, rest = _coefficients(
                    kinds[p], parameters[p, 0], split[p], volume, sorted_squares, n_needed,
                    tolerance <= EXACT, coulomb, london_recip, work, coefficients,
                )  # fmt: skip
            total = 0.0
            for k in range(n_needed):
                total += coefficients[k]
                factor = coefficients[k]
                if by_orbit:
                    for a in range(n_rows):
                        scaled[2 * k, a] = factor * phases[2 * k, representatives[a]]
                        scaled[2 * k + 1, a] = factor * phases[2 * k + 1, representatives[a]]
                else:
                    for a in range(n_atoms):
                        scaled[2 * k, a] = factor * phases[2 * k, a]
                        scaled[2 * k + 1, a] = factor * phases[2 * k + 1, a]
            if n_needed > 0:
                right = grouped if by_orbit else phases
                _product(scaled, right, block, 2 * n_needed, n_rows, n_rows, not by_orbit)
            else:
                block[:n_rows, :n_rows] = 0.0

            largest = 0.0
            start = out_offsets[c]
            if by_orbit:
                q = 0
                for a in range(n_rows):
                    row = start + a * n_rows
                    for b in range(n_rows):
                        values[row + b, p] = block[a, b]
                    for j in range(n_atoms):
                        largest = max(largest, abs(real[p, q]))
                        values[row + labels[j], p] += real[p, q] + zero
                        q += 1
                    values[row + a, p] += own
            else:
                q = 1
                diagonal = real[p, 0] + total + zero + own
                largest = abs(real[p, 0])
                for i in range(n_atoms):
                    values[start + i * n_atoms + i, p] = diagonal
                    for j in range(i + 1, n_atoms):
                        value = block[i, j] + (real[p, q] + zero)
                        values[start + i * n_atoms + j, p] = value
                        values[start + j * n_atoms + i, p] = value
                        largest = max(largest, abs(real[p, q]))
                        q += 1
            # Rounding to first order: of the terms and their sums, and of pair vectors.
            shift = 4 * (extent + geometry[c, G_REACH] + 2 * geometry[c, G_WRAP])
            cutoff = split[p, S_CUTOFF]
            count = 31 + 4 * PI / 3 * cutoff**3 / volume
            if kinds[p] == SHELL:
                shift = 4 * (extent + cutoff + 2 * geometry[c, G_WRAP])
                slopes = count * (0.86 / parameters[p, 1] + 6 / cutoff)
            else:
                order = 8.0 if kinds[p] == LONDON else 3.0 if kinds[p] == COULOMB else 2.0
                slopes = largest * (order / shortest + parameters[p, 0] + 2 / cutoff)
            rounding = (count + 30) * largest + shift * slopes + 30 * (abs(zero) + abs(own))
            rounding += (min(2 * n_needed, 512) + 30 + shift * split[p, S_KCUT]) * abs(total)
            bounds[c, p] = split[p, S_BOUND] + rest + ROUNDOFF * rounding
            if not bounds[c, p] <= tolerance:
                return TOO_ROUGH, c, p, 0
    return 0, 0, 0, 0


# ---------------------------------------------------------------------------- interface


@cache
def _tables() -> tuple[Floats, Floats, Floats]:
    tables = load_file(Path(__file__).with_name("split_tables.safetensors"))
    return tables["coulomb"], tables["london"], tables["london_recip"]


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
    # The rest of the tolerance is for rounding: half of it near the end of double precision.
    budget = max(0.5 * tolerance, 0.98 * tolerance - 1e-12)
    given = cells.copy()
    crystal, status = _plan(
        cells, inverses, counts, kinds, parameters, budget, *tables, geometry, splits, sizes
    )
    if status:
        raise _failure(status, crystal, given[crystal], tolerance)

    offsets = np.concatenate([[0], np.cumsum(counts)])
    out_offsets = np.concatenate([[0], np.cumsum(n_rows**2)])
    values = np.empty((out_offsets[-1], len(kinds)))
    bounds = np.empty((n_graphs, len(kinds)))

    def evaluate(span: tuple[int, int]) -> tuple[int, int, int, int]:
        return _evaluate(
            *span, positions, offsets, orbits, out_offsets, cells, inverses, geometry, splits,
            kinds, parameters, tolerance, *tables, sizes, values, bounds,
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
