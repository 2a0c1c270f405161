"""How to sum one crystal: the reduced cell, the split of each potential, the radii, the bounds."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticesums.bounds import at_edge, exponential_tail, gaussian_tail, most
from latticesums.compiled.jit import part
from latticesums.compiled.lattice import (
    PI,
    counting,
    grid,
    invert,
    layer_height,
    layer_sizes,
    skew,
    split_basis,
    wrapped_length,
)
from latticesums.compiled.memory import blocks_of, fill_rows, integers, rows_of
from latticesums.compiled.support import (
    COULOMB,
    EXPONENTIAL,
    OUT_OF_REACH,
    SHELL,
    SINGULAR,
    TOO_LARGE,
    TOO_SMALL,
)
from latticesums.lattice import MAX_VECTORS, SAME_SPOT, reduce_in_place

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROOM = 48  # coefficients of one polynomial

# Columns of the tables, of Coulomb and of London; the first is the shape of the window.
T_CUT, T_ENVELOPE, T_J0, T_J1, T_J2, T_ZERO, T_REAL_REST, T_RECIP_REST = range(1, 9)
T_REAL_DEGREE, T_RECIP_DEGREE, T_SELF, T_REAL, T_RECIP = 9, 10, 11, 12, 12 + ROOM

# Columns of a plan: one row per crystal, and one row per crystal and potential.
G_VOLUME, G_CUTOFF, G_FAR, G_SHELL_REACH, G_WRAP, G_KMAX, G_HEIGHT, G_WIDTH = range(8)
S_CUTOFF, S_KCUT, S_ALPHA, S_ROW, S_BOUND, S_WIDTH = range(6)

# The largest numbers that crystals of a span have of something.
N_IMAGES, N_WAVES, N_ORDERS, N_ATOMS, N_SPLIT, N_LAYERS, N_SIZES = range(7)

# Measured times in ns, which decide between both halves of a split.
PAIR_WAVE, ATOM_WAVE, WAVE, PAIR_IMAGE = 0.11, 1.0, 20.0, 6.0
SPLIT_EXPONENTIAL = 8000.0  # to plan it and to interpolate its long half


@part
def power_bound(table, line, exponent, cutoff, real, recip, shortest):
    """Return the bound of the error of a Kaiser-Bessel split with one line of its table."""
    row = table[line]
    a1, a2, cell = recip.edges, recip.faces, recip.volume
    inv = 1 / cutoff
    k = row[T_CUT] * inv
    edge = row[T_ENVELOPE] * at_edge(recip, k)
    moments = a2 * row[T_J0] + 2 * a1 * inv * row[T_J1] + 4 * PI * inv * inv * row[T_J2]
    bound = edge + inv / cell * moments
    if exponent == 1:  # the table holds t^2 / (4 pi) times the transform
        inverse_squares = a2 * (2 / shortest - 1 / k) + a1 * (1 + 2 * math.log(k / shortest))
        inverse_squares += 4 * PI * (k - 2 / 3 * shortest)  # sum of k^-2, from the counting bound
        bound += row[T_RECIP_REST] * 4 * PI * inv * inv * max(inverse_squares, 0.0) / cell
    else:
        bound += row[T_RECIP_REST] * most(recip, k)
    scale = cutoff**3 / real.volume
    return (scale * bound + (most(real, cutoff) + 1) * row[T_REAL_REST]) * inv**exponent


@part
def plan_power(exponent, cutoff, real, recip, shortest, tolerance, table, split):
    """Choose the line of the table with the fewest wave vectors, and return a status."""
    low, high = 0, table.shape[0]
    while low < high:
        middle = (low + high) // 2
        if power_bound(table, middle, exponent, cutoff, real, recip, shortest) > tolerance:
            low = middle + 1
        else:
            high = middle
    if high == table.shape[0]:
        return OUT_OF_REACH
    split[S_CUTOFF], split[S_KCUT], split[S_ROW] = cutoff, table[high, T_CUT] / cutoff, high
    split[S_BOUND] = power_bound(table, high, exponent, cutoff, real, recip, shortest)
    return 0


@part
def exponential_reach(real, decay, tolerance):
    """Return the radius beyond which exp(-decay r) sums to less than the tolerance."""
    low, high = 0.0, (math.log(1 / tolerance) + 2) / decay
    while exponential_tail(real, high, decay) > tolerance:
        low, high = high, 1.5 * high
    while high - low > 0.01 * high:
        middle = 0.5 * (low + high)
        if exponential_tail(real, middle, decay) > tolerance:
            low = middle
        else:
            high = middle
    return high


@part
def exponential_short(r, decay, alpha):
    """Return the short half of exp(-decay r) in the Gaussian split."""
    x, c = alpha * r, 0.5 * decay / alpha
    near = math.exp(-decay * r) * math.erfc(x - c)
    return 0.5 * (near - math.exp(decay * r) * math.erfc(x + c))


@part
def exponential_long(r, decay, alpha):
    """Return the long half of exp(-decay r): even and entire in r, and free of cancellation."""
    x, c = alpha * r, 0.5 * decay / alpha
    far = math.exp(decay * r) * math.erfc(c + x)
    return 0.5 * (math.exp(-decay * r) * math.erfc(c - x) + far)


@part
def exponential_transform(k2, decay, alpha, volume):
    s = decay * decay + k2
    q = 0.25 * s / (alpha * alpha)
    return 8 * PI * decay / (volume * s * s) * (1 + q) * math.exp(-q)


@part
def long_rest(x, degree):
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


@part
def _shortest_alpha(decay, cutoff, real, tolerance):
    """Return the slowest split whose short half is below the tolerance beyond the cutoff."""
    low, high = 0.2, 12.0  # times the cutoff
    while high - low > 0.01:
        x = 0.5 * (low + high)
        alpha = x / cutoff
        short = exponential_short(cutoff, decay, alpha)
        if short * gaussian_tail(real, cutoff, alpha**2) > tolerance:
            low = x
        else:
            high = x
    return high / cutoff


@part
def _exponential_wave_bound(k, decay, alpha, real, recip):
    tail = gaussian_tail(recip, k, 0.25 / alpha**2)
    return exponential_transform(k * k, decay, alpha, real.volume) * tail


@part
def plan_exponential(decay, cutoff, n_pairs, real, recip, tolerance, split):
    """Sum over images alone, which ``split`` holds already, or split; return a status."""
    reach = split[S_CUTOFF]
    split[S_KCUT], split[S_ALPHA] = 0.0, 0.0
    split[S_BOUND] = exponential_tail(real, reach, decay)
    images = n_pairs * (4 * PI / 3) * reach**3 / real.volume
    if reach <= cutoff or images * PAIR_IMAGE < SPLIT_EXPONENTIAL:
        return 0
    alpha = _shortest_alpha(decay, cutoff, real, 0.4 * tolerance)
    bound = exponential_short(cutoff, decay, alpha) * gaussian_tail(real, cutoff, alpha**2)
    degree, weight = 2, most(real, cutoff) + 1
    rest = long_rest(alpha * cutoff, degree) * weight
    while degree < ROOM - 1 and rest > 0.02 * tolerance:
        degree += 1
        rest = long_rest(alpha * cutoff, degree) * weight
    bound += rest
    low, high = 0.05 * alpha, 14 * alpha
    while high - low > 0.002 * high:
        k = 0.5 * (low + high)
        if _exponential_wave_bound(k, decay, alpha, real, recip) > tolerance - bound:
            low = k
        else:
            high = k
    bound += _exponential_wave_bound(high, decay, alpha, real, recip)
    if not bound <= tolerance:
        return 0 if reach < 6 * cutoff else OUT_OF_REACH
    split[S_CUTOFF], split[S_KCUT], split[S_ALPHA] = cutoff, high, alpha
    split[S_ROW], split[S_BOUND] = degree, bound
    return 0


@part
def reduce_cell(given, cell, transform, inverse):
    """Write the reduced cell, how it follows from the given one, and its inverse; return a status.

    The reduced cell is rounded once, whatever numbers are met on the way.
    """
    extent = 1.0
    for i in range(3):
        square = 0.0
        for k in range(3):
            cell[i, k] = given[i, k]
            square += given[i, k] ** 2
        extent *= math.sqrt(square)
    if not abs(invert(cell, inverse)) > 1e-10 * extent:
        return SINGULAR
    reduce_in_place(cell, transform)
    split_basis(given, transform, grid(skew(given, transform)), cell, inverse)
    for i in range(3):
        for k in range(3):
            cell[i, k] += inverse[i, k]
    if cell[0, 0] ** 2 + cell[0, 1] ** 2 + cell[0, 2] ** 2 < SAME_SPOT**2:
        return TOO_SMALL
    return 0


@part
def _balanced_cutoff(n_pairs, n_atoms, kinds, parameters, tolerance, volume, real, splits):
    """Return the cutoff that balances both halves, and write how far exponentials reach alone.

    Images times wave vectors is fixed by the tolerance. Images that a fast exponential needs
    anyway are free.
    """
    product = 5.6 * (0.58 * (math.log(1 / tolerance) + 4) / PI) ** 3
    waves_ns = n_pairs * PAIR_WAVE + n_atoms * ATOM_WAVE + WAVE
    images = math.sqrt(product * waves_ns / (n_pairs * PAIR_IMAGE))
    balanced = (3 * volume * images / (4 * PI)) ** (1 / 3)
    cutoff = balanced
    for p in range(kinds.size):
        if kinds[p] == EXPONENTIAL:
            alone = exponential_reach(real, parameters[p, 0], tolerance)
            splits[p, S_CUTOFF] = alone
            if alone < 1.5 * balanced:
                cutoff = max(cutoff, alone)
    return cutoff


@part
def _plan_potentials(
    n_pairs, cutoff, kinds, parameters, real, recip, shortest, tolerance, tables, geometry, splits
):
    """Choose the radii of each potential, and return a status."""
    far = shell_reach = k_max = 0.0
    for p in range(kinds.size):
        split = splits[p]
        status = 0
        if kinds[p] == EXPONENTIAL:
            status = plan_exponential(
                parameters[p, 0], cutoff, n_pairs, real, recip, tolerance, split
            )
            if split[S_CUTOFF] > cutoff:
                far = max(far, split[S_CUTOFF])
        elif kinds[p] == SHELL:
            split[S_CUTOFF], split[S_KCUT], split[S_BOUND] = parameters[p, 2], 0.0, 0.0
            shell_reach = max(shell_reach, parameters[p, 2])
        else:
            exponent = 1.0 if kinds[p] == COULOMB else 6.0
            table = tables[kinds[p]]
            status = plan_power(exponent, cutoff, real, recip, shortest, tolerance, table, split)
        if status != 0:
            return status
        k_max = max(k_max, split[S_KCUT])
    geometry[G_CUTOFF], geometry[G_FAR] = cutoff, far
    geometry[G_SHELL_REACH], geometry[G_KMAX] = shell_reach, k_max
    return 0


@part
def _plan_crystal(
    given, cell, transform, inverse, n_atoms, kinds, parameters, tolerance, tables, geometry,
    splits, sizes,
):  # fmt: skip
    """Write the reduced cell, choose all radii, keep the largest sizes, and return a status."""
    status = reduce_cell(given, cell, transform, inverse)
    if status != 0:
        return status
    volume = abs(invert(cell, inverse))
    real, recip, shortest = counting(cell, inverse, volume)
    n_pairs = 0.5 * n_atoms * (n_atoms - 1) + 1
    cutoff = _balanced_cutoff(n_pairs, n_atoms, kinds, parameters, tolerance, volume, real, splits)
    status = _plan_potentials(
        n_pairs, cutoff, kinds, parameters, real, recip, shortest, tolerance, tables, geometry,
        splits,
    )  # fmt: skip
    if status != 0:
        return status
    wrap, k_max = wrapped_length(cell), geometry[G_KMAX]
    geometry[G_VOLUME], geometry[G_WRAP] = volume, wrap
    reach = max(cutoff, geometry[G_FAR], geometry[G_SHELL_REACH])
    geometry[G_HEIGHT] = layer_height(cell, inverse, cutoff)
    if geometry[G_HEIGHT] > 0:
        n_layers, _, in_layer = layer_sizes(cell, inverse, geometry[G_HEIGHT], reach)
        n_images = n_layers * in_layer
    else:
        n_layers, n_images = 1.0, most(real, (reach + wrap) * (1 + 1e-9))
    n_waves = most(recip, k_max * (1 + 1e-9)) / 2
    if not max(n_images, n_waves) < MAX_VECTORS:
        return TOO_LARGE
    sizes[N_IMAGES] = max(sizes[N_IMAGES], int(n_images) + 1)
    sizes[N_LAYERS] = max(sizes[N_LAYERS], int(n_layers))
    sizes[N_WAVES] = max(sizes[N_WAVES], int(n_waves) + 1)
    sizes[N_ATOMS] = max(sizes[N_ATOMS], n_atoms)
    for i in range(3):
        length = math.sqrt(cell[i, 0] ** 2 + cell[i, 1] ** 2 + cell[i, 2] ** 2)
        sizes[N_ORDERS] = max(sizes[N_ORDERS], int(k_max / (2 * PI) * length + 1e-9))
    return 0


class Plans(NamedTuple):
    """Plans of some crystals, and the sizes of the largest.

    Attributes:
        cells: Reduced cells, (n, 3, 3); ``inverses`` and ``transforms`` likewise.
        geometries: Columns G_, (n, G_WIDTH).
        splits: Columns S_ of each potential, (n, n_potentials, S_WIDTH).
        sizes: Columns N_, (N_SIZES,).
    """

    cells: Floats
    transforms: Floats
    inverses: Floats
    geometries: Floats
    splits: Floats
    sizes: Ints


@part
def room_for_plans(memory, n, n_potentials):
    """Return room for the plans of n crystals."""
    return Plans(
        cells=blocks_of(memory, n, 3, 3),
        transforms=blocks_of(memory, n, 3, 3),
        inverses=blocks_of(memory, n, 3, 3),
        geometries=rows_of(memory, n, G_WIDTH),
        splits=blocks_of(memory, n, n_potentials, S_WIDTH),
        sizes=integers(memory, N_SIZES),
    )


@part
def plan_crystals(begin, end, offsets, cells, kinds, parameters, budget, tables, failures, plans):
    """Write the plans of crystals begin..end-1, and the sizes of the largest.

    Where there is no plan, its status is written to ``failures``.
    """
    sizes = plans.sizes
    for k in range(N_SIZES):
        sizes[k] = 0
    for c in range(begin, end):
        b = c - begin
        fill_rows(plans.splits[b], 0.0)
        failures[c, 0] = _plan_crystal(
            cells[c], plans.cells[b], plans.transforms[b], plans.inverses[b],
            offsets[c + 1] - offsets[c], kinds, parameters, budget, tables, plans.geometries[b],
            plans.splits[b], sizes,
        )  # fmt: skip
    for p in range(kinds.size):
        sizes[N_SPLIT] += kinds[p] != SHELL
