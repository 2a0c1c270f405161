"""Long halves: wave vectors, phases of all atoms, and their products.

Atoms stand in blocks of at most twelve, so that a product finds what it needs in one stretch: a
block holds for each wave vector a row of cosines and a row of sines.
"""

import math

import numpy as np

from latticesums.compiled.jit import part
from latticesums.compiled.lattice import PI
from latticesums.compiled.plan import (
    S_ALPHA,
    S_CUTOFF,
    S_KCUT,
    S_ROW,
    T_CUT,
    T_RECIP,
    T_RECIP_DEGREE,
    T_SELF,
    T_ZERO,
    exponential_long,
    exponential_transform,
)
from latticesums.compiled.simd import LANES, polynomial, rotate, scale, tile1, tile2, tile3
from latticesums.compiled.support import COULOMB, EXPONENTIAL, SHELL

PANEL = 128  # rows of a product taken at a time: their tiles stay in the first-level cache
WIDEST = 12  # atoms of a block


@part
def block_width(n_atoms):
    """Return the atoms of a block."""
    return min((n_atoms + LANES - 1) // LANES * LANES, WIDEST)


@part
def _top(cell, i, k_max):
    """Return the largest index along an axis of wave vectors up to k_max."""
    length = math.sqrt(cell[i, 0] ** 2 + cell[i, 1] ** 2 + cell[i, 2] ** 2)
    return int(k_max / (2 * PI) * length + 1e-9)


@part
def list_waves(cell, inverse, splits, k_max, orders, squares, slots, prefix, starts):
    """List half of the wave vectors up to k_max in the order of their indices.

    ``slots`` sorts them so that potential p needs the first ``prefix[p]``: those within its cut.

    Returns:
        Number of wave vectors, and the largest index along each axis.
    """
    n_potentials = splits.shape[0]
    m0, m1, m2 = _top(cell, 0, k_max), _top(cell, 1, k_max), _top(cell, 2, k_max)
    limit = (k_max / (2 * PI)) ** 2
    c0, c1, c2 = inverse[0, 2], inverse[1, 2], inverse[2, 2]
    inverse_cc = 1 / (c0 * c0 + c1 * c1 + c2 * c2)
    for p in range(n_potentials + 2):
        starts[p] = 0
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
            low = int(np.ceil(middle - half))
            if i == 0 and j == 0:
                low = 1
            for l in range(max(low, -m2), min(int(np.floor(middle + half)), m2) + 1):
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


@part
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


@part
def write_phases(
    fractions, n_atoms, width, orders, slots, n_k, n_orders, turns, powers, line, phases
):
    """Write cos and sin of k.r: rows 2 slot and 2 slot + 1 of every block of ``phases``."""
    n_blocks = (n_atoms + width - 1) // width
    for axis in range(3):
        _turns(fractions[axis], n_blocks * width, turns[2 * axis], turns[2 * axis + 1])
    step = 2 * width  # of one order
    stride = step * (n_orders + 1)  # of one axis
    for block in range(n_blocks):
        for axis in range(3):
            start = axis * stride
            for a in range(width):
                powers[start + a], powers[start + width + a] = 1.0, 0.0
            if n_orders > 0:
                for a in range(width):
                    powers[start + step + a] = turns[2 * axis, block * width + a]
                    powers[start + step + width + a] = turns[2 * axis + 1, block * width + a]
            for order in range(2, n_orders + 1):
                place = start + step * order
                rotate(powers, place - step, powers, start + step, 1.0, powers, place, width)
        last_i, last_j = -1, 0
        first = block * n_k * step
        for k in range(n_k):
            i, j, l = orders[0, k], orders[1, k], orders[2, k]
            if i != last_i or j != last_j:
                last_i, last_j = i, j
                sign = 1.0 if j >= 0 else -1.0
                rotate(powers, step * i, powers, stride + step * abs(j), sign, line, 0, width)
            sign = 1.0 if l >= 0 else -1.0
            place = 2 * stride + step * abs(l)
            rotate(line, 0, powers, place, sign, phases, first + step * slots[k], width)


@part
def write_product(a, b, c, n_k, size, n_rows, n_columns, width, step_c, symmetric):
    """Write c = a^T b over the first n_k rows of blocks that are ``size`` numbers apart.

    If symmetric, only the tiles of four rows on and above the diagonal.
    """
    for i in range((n_rows + LANES - 1) // LANES * LANES * step_c):
        c[i] = 0.0
    for first in range(0, n_k, PANEL):
        n = min(PANEL, n_k - first)
        for block in range((n_columns + width - 1) // width):
            begin = block * width
            at_b = block * size + first * width
            used = min(n_columns - begin, width)
            last = min(n_rows, begin + used) if symmetric else n_rows
            for row in range(0, last, LANES):
                skip = max(row - begin, 0) if symmetric else 0
                at_a = row // width * size + first * width + row % width
                at_c = row * step_c + begin + skip
                if used - skip > 2 * LANES:
                    tile3(a, at_a, b, at_b + skip, width, c, at_c, step_c, n)
                elif used - skip > LANES:
                    tile2(a, at_a, b, at_b + skip, width, c, at_c, step_c, n)
                else:
                    tile1(a, at_a, b, at_b + skip, width, c, at_c, step_c, n)


@part
def write_coefficients(
    kind, parameter, split, volume, squares, n_k, tables, work, polynomials, out
):
    """Write twice the transform at each wave vector; return the k = 0 and the self term."""
    if kind == SHELL or split[S_KCUT] == 0:
        return 0.0, 0.0
    cutoff = split[S_CUTOFF]
    if kind == EXPONENTIAL:
        alpha = split[S_ALPHA]
        for k in range(n_k):
            out[k] = 2 * exponential_transform(squares[k], parameter, alpha, volume)
        zero = exponential_transform(0.0, parameter, alpha, volume)
        return zero, -math.erfc(0.5 * parameter / alpha)
    line = int(split[S_ROW])
    row = tables[kind, line]
    at = (kind * tables.shape[1] + line) * tables.shape[2] + T_RECIP
    if kind == COULOMB:
        factor = 2 * (cutoff / row[T_CUT]) ** 2
        for k in range(n_k):
            work[k] = factor * squares[k] - 1
        polynomial(tables, at, int(row[T_RECIP_DEGREE]), work, n_k, polynomials)
        factor = 8 * PI / volume
        for k in range(n_k):
            out[k] = polynomials[k] * (factor / squares[k])
        return row[T_ZERO] * cutoff * cutoff / volume, -row[T_SELF] / cutoff
    factor = 2 * cutoff / row[T_CUT]
    for k in range(n_k):
        work[k] = factor * math.sqrt(squares[k]) - 1
    polynomial(tables, at, int(row[T_RECIP_DEGREE]), work, n_k, polynomials)
    factor = 1 / (volume * cutoff**3)
    for k in range(n_k):
        out[k] = polynomials[k] * (2 * factor)
    return row[T_ZERO] * factor, -row[T_SELF] / cutoff**6


@part
def interpolate_long(decay, alpha, cutoff, degree, work, coefficients):
    """Write the polynomial in u = 2 (r / cutoff)^2 - 1 of an exponential's long half.

    ``work`` has room for four arrays of degree + 2 numbers and one of four times as many.
    """
    n = degree + 1
    values, now, before, cosines = work[0], work[1], work[2], work[3]
    for i in range(4 * n):
        cosines[i] = math.cos(PI * i / (2 * n))
    for i in range(n):
        values[i] = exponential_long(
            cutoff * math.sqrt(0.5 * (cosines[2 * i + 1] + 1)), decay, alpha
        )
        now[i] = before[i] = coefficients[i] = 0.0
    now[n] = before[n] = 0.0
    now[0] = 1.0
    for k in range(n):
        total = 0.0
        for i in range(n):
            total += values[i] * cosines[k * (2 * i + 1) % (4 * n)]
        total *= (1.0 if k == 0 else 2.0) / n
        for i in range(k + 1):
            coefficients[i] += total * now[i]
        factor = 1.0 if k == 0 else 2.0
        previous = 0.0
        for i in range(k + 2):  # T_{k+1} = 2 u T_k - T_{k-1}
            value = factor * previous - before[i]
            previous = before[i] = now[i]
            now[i] = value


@part
def _group_phases(n_atoms, n_k, width, n_rows, work):
    """Add the phases of each orbit up, in the blocks of the products."""
    size, phases, grouped = 2 * n_k * width, work.phases, work.grouped
    for place in range((n_rows + width - 1) // width * size):
        grouped[place] = 0.0
    for j in range(n_atoms):
        at, to = j // width * size + j % width, work.columns[j]
        to = to // width * size + to % width
        for k in range(2 * n_k):
            grouped[to + k * width] += phases[at + k * width]


@part
def _scale_rows(n_needed, width, size, n_rows, by_orbit, work):
    """Write the phases of the atoms that begin pairs, times the coefficients."""
    phases, scaled, coefficients = work.phases, work.scaled, work.coefficients
    if by_orbit:
        for row in range(n_rows):
            at = work.rows[row] // width * size + work.rows[row] % width
            to = row // width * size + row % width
            for k in range(n_needed):
                here, there = at + 2 * k * width, to + 2 * k * width
                scaled[there] = phases[here] * coefficients[k]
                scaled[there + width] = phases[here + width] * coefficients[k]
        return
    for block in range((n_rows + width - 1) // width):
        for k in range(n_needed):
            at = block * size + 2 * k * width
            scale(phases, at, coefficients[k], scaled, at, 2 * width)


@part
def write_long_halves(
    cell, inverse, kinds, parameters, splits, volume, k_max, n_atoms, n_rows, by_orbit, tables,
    work,
):  # fmt: skip
    """Write the sums over waves to blocks, and the constants of each potential.

    Returns:
        Number of wave vectors, one of each pair.
    """
    n_k, width = 0, block_width(n_atoms)
    if k_max > 0:
        n_k, top = list_waves(
            cell, inverse, splits, k_max, work.orders, work.squares, work.wave_slots, work.prefix,
            work.ranks,
        )  # fmt: skip
        write_phases(
            work.atoms, n_atoms, width, work.orders, work.wave_slots, n_k, top, work.turns,
            work.powers, work.line, work.phases,
        )  # fmt: skip
        for k in range(n_k):
            work.sorted_squares[work.wave_slots[k]] = work.squares[k]
        if by_orbit and n_k > 0:
            _group_phases(n_atoms, n_k, width, n_rows, work)
    size, step_c = 2 * n_k * width, (n_rows + width - 1) // width * width
    area, at = work.atoms.shape[1] ** 2, 0
    for p in range(kinds.size):
        n_needed = work.prefix[p] if n_k > 0 else 0
        work.zero[p], work.itself[p] = write_coefficients(
            kinds[p], parameters[p, 0], splits[p], volume, work.sorted_squares, n_needed, tables,
            work.work, work.polynomials, work.coefficients,
        )  # fmt: skip
        work.total[p], work.sums_at[p] = 0.0, -1
        if n_needed == 0:
            continue
        for k in range(n_needed):
            work.total[p] += work.coefficients[k]
        _scale_rows(n_needed, width, size, n_rows, by_orbit, work)
        right = work.grouped if by_orbit else work.phases
        write_product(
            work.scaled, right, work.blocks[at:], 2 * n_needed, size, n_rows, n_rows, width,
            step_c, not by_orbit,
        )  # fmt: skip
        work.sums_at[p] = at
        at += area
    return n_k
