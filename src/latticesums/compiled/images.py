"""Short halves: the images within reach of each pair, and what they add."""

import math

import numpy as np

from latticesums.compiled.jit import part
from latticesums.compiled.lattice import layer_sizes
from latticesums.compiled.layers import gather_layers, list_layers
from latticesums.compiled.plan import (
    G_CUTOFF,
    G_FAR,
    G_HEIGHT,
    G_SHELL_REACH,
    G_WRAP,
    ROOM,
    S_ALPHA,
    S_CUTOFF,
    S_ROW,
    T_REAL,
    T_REAL_DEGREE,
)
from latticesums.compiled.simd import (
    BINS,
    LANES,
    add_one,
    add_three,
    exponentials,
    gather,
    polynomial,
)
from latticesums.compiled.support import COULOMB, EXPONENTIAL, SHELL
from latticesums.lattice import SAME_SPOT

CHUNK = 384  # distances evaluated at a time: their arrays stay in the first-level cache
NOWHERE = 1e18  # Å^2; a square that no vector has


@part
def sort_by_reach(kinds, splits, geometry, work):
    """Sort the potentials by how far their images are summed; return the farthest."""
    counts, cutoff = work.counts, geometry[G_CUTOFF]
    counts[0] = counts[1] = counts[2] = 0
    reach = max(geometry[G_FAR], geometry[G_SHELL_REACH])
    for p in range(kinds.size):
        if kinds[p] == SHELL:
            work.shells[counts[2]] = p
            counts[2] += 1
        elif splits[p, S_CUTOFF] > cutoff:
            work.far[counts[1]] = p
            counts[1] += 1
        else:
            work.near[counts[0]] = p
            counts[0] += 1
            reach = max(reach, splits[p, S_CUTOFF])
    return reach


@part
def list_images(basis, inverse, reach, images, unsorted, bins, starts):
    """List the lattice vectors up to a length, the zero vector first, in bins of squared length.

    Parts of the basis on the grid add up without rounding, so that each vector is rounded once.

    Returns:
        Bins per Å^2. ``starts[b]`` is the number of vectors in the bins before b.
    """
    high, low, limit = basis[0], basis[1], reach * reach
    per_square = (BINS - 2) / limit
    for b in range(BINS):
        starts[b] = 0
    b0, b1, b2 = inverse[0, 1], inverse[1, 1], inverse[2, 1]
    c0, c1, c2 = inverse[0, 2], inverse[1, 2], inverse[2, 2]
    m2 = int(reach * math.sqrt(c0 * c0 + c1 * c1 + c2 * c2) + 1e-9)
    m1 = int(reach * math.sqrt(b0 * b0 + b1 * b1 + b2 * b2) + 1e-9)
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
            begin = int(np.ceil(middle - half))
            if i == 0 and j == 0:
                begin = 1
            for l in range(begin, int(np.floor(middle + half)) + 1):
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
    return per_square


@part
def _evaluate(
    n, cutoff, kinds, parameters, splits, chosen, tables, long_halves, squares, distances,
    inverses, scaled, long, terms,
):  # fmt: skip
    """Write V - P of the chosen potentials at n squared distances, a row of ``terms`` each."""
    scale = 2 / (cutoff * cutoff)
    for i in range(n):
        distance = math.sqrt(squares[i])
        distances[i] = distance
        inverses[i] = 1.0 / distance
        scaled[i] = scale * squares[i] - 1
    for q in range(chosen.size):
        p = chosen[q]
        kind, term, line = kinds[p], terms[q], int(splits[p, S_ROW])
        if kind == SHELL:
            center, inverse_width = parameters[p, 0], 1 / parameters[p, 1]
            inverse_limit = 1 / parameters[p, 2] ** 2
            for i in range(n):
                x = (distances[i] - center) * inverse_width
                term[i] = -x * x
            exponentials(term, n, term)
            for i in range(n):
                edge = max(1 - squares[i] * inverse_limit, 0.0)
                term[i] *= edge * edge * edge
        elif kind == EXPONENTIAL:
            decay = parameters[p, 0]
            for i in range(n):
                term[i] = -decay * distances[i]
            exponentials(term, n, term)
            if splits[p, S_ALPHA] > 0:
                polynomial(long_halves, p * ROOM, line, scaled, n, long)
                for i in range(n):
                    term[i] -= long[i]
        else:
            at = (kind * tables.shape[1] + line) * tables.shape[2] + T_REAL
            degree = int(tables[kind, line, T_REAL_DEGREE])
            polynomial(tables, at, degree, scaled, n, long)
            if kind == COULOMB:
                factor = 1 / cutoff
                for i in range(n):
                    term[i] = inverses[i] - factor * long[i]
            else:
                factor = 1 / cutoff**6
                for i in range(n):
                    square = inverses[i] * inverses[i]
                    term[i] = square * square * square - factor * long[i]


@part
def _add_chunk(
    n, n_own, reach, kinds, parameters, splits, chosen, tables, long_halves, buffers, codes, terms,
    values, own,
):  # fmt: skip
    """Evaluate n squared distances and add them up: the first to ``own``, the others to values."""
    squares, distances, inverses = buffers[0], buffers[1], buffers[2]
    scaled, long = buffers[3], buffers[4]
    _evaluate(
        n, reach, kinds, parameters, splits, chosen, tables, long_halves, squares, distances,
        inverses, scaled, long, terms,
    )  # fmt: skip
    step = terms.shape[1]
    for q in range(chosen.size):
        for i in range(n_own):
            own[chosen[q]] += terms[q, i]
    q = 0
    while q + 3 <= chosen.size:
        add_three(values, chosen, q, codes, terms, step, n_own, n)
        q += 3
    while q < chosen.size:
        add_one(values, chosen, q, codes, terms, step, n_own, n)
        q += 1


@part
def _add_short_halves(
    chosen, reach, per_square, n_images, inverse, height, kinds, parameters, splits, tables, n_rows,
    n_atoms, start, values, work,
):  # fmt: skip
    """Add the short halves of all images within reach, and write those of an atom with itself.

    Pairs are the atoms at rows[k] with all at j from firsts[k] on. Their sums are added to
    ``values``, at slots[j] of the row of the first, which begins at ``start`` + n_rows n_potentials
    times its column. An atom that meets itself leaves its images out. Images are in layers where
    there is a ``height``.

    Returns:
        Whether no two atoms are on one spot.
    """
    atoms, images, starts = work.atoms, work.images, work.starts
    own, nearest = work.own, work.nearest
    buffers, codes, terms = work.buffers, work.codes, work.terms
    squares, limit = buffers[0], reach * reach
    for q in range(chosen.size):
        own[chosen[q]] = 0.0
    for lane in range(LANES):
        nearest[lane] = NOWHERE
    n, count = 0, n_images
    if height == 0:
        count = starts[min(int(per_square * limit) + 1, BINS - 1)]
    for image in range(1, count):
        x, y, z = images[0, image], images[1, image], images[2, image]
        squares[n] = x * x + y * y + z * z
        n += squares[n] < limit
        if n == CHUNK:
            _add_chunk(
                n, n, reach, kinds, parameters, splits, chosen, tables, work.long_halves, buffers,
                codes, terms, values, own,
            )  # fmt: skip
            n = 0
    n_own = n
    for row in range(n_rows):
        line = start + work.columns[work.rows[row]] * n_rows * own.size
        for column in range(work.firsts[row], n_atoms, LANES):
            if height > 0:
                n = gather_layers(
                    row, column, n_atoms, reach, inverse, height, per_square, line, squares, codes,
                    n, work,
                )  # fmt: skip
            else:
                n = gather(
                    atoms, atoms.shape[1], work.rows[row], column, n_atoms, work.rows[row],
                    work.basis, reach, images, images.shape[1], starts, per_square, work.slots,
                    line, squares, codes, nearest, work.vectors, n,
                )  # fmt: skip
            if n >= CHUNK:
                _add_chunk(
                    n, n_own, reach, kinds, parameters, splits, chosen, tables, work.long_halves,
                    buffers, codes, terms, values, own,
                )  # fmt: skip
                n = n_own = 0
    for lane in range(LANES):
        if nearest[lane] < SAME_SPOT**2:
            return False
    if n > 0:
        _add_chunk(
            n, n_own, reach, kinds, parameters, splits, chosen, tables, work.long_halves, buffers,
            codes, terms, values, own,
        )  # fmt: skip
    return True


@part
def add_all_short_halves(
    cell, inverse, geometry, kinds, parameters, splits, tables, reach, n_rows, n_atoms, start,
    values, work,
):  # fmt: skip
    """Add the short halves of all potentials, those of one reach together.

    Returns:
        Whether no two atoms are on one spot.
    """
    height, n_images = geometry[G_HEIGHT], 0
    if height > 0:
        _, beside, _ = layer_sizes(cell, inverse, height, reach)
        per_square, n_images = list_layers(
            work.basis, inverse, height, reach, beside, work.images, work.unsorted, work.bins,
            work.starts,
        )  # fmt: skip
    else:
        per_square = list_images(
            work.basis, inverse, (reach + geometry[G_WRAP]) * (1 + 1e-12), work.images,
            work.unsorted, work.bins, work.starts,
        )  # fmt: skip
    near = 0.0
    for q in range(work.counts[0]):
        near = max(near, splits[work.near[q], S_CUTOFF])
    for kind in range(3):
        if kind == 0:
            chosen, farthest = work.near[: work.counts[0]], near
        elif kind == 1:
            chosen, farthest = work.far[: work.counts[1]], geometry[G_FAR]
        else:
            chosen, farthest = work.shells[: work.counts[2]], geometry[G_SHELL_REACH]
        if chosen.size > 0 and not _add_short_halves(
            chosen, farthest, per_square, n_images, inverse, height, kinds, parameters, splits,
            tables, n_rows, n_atoms, start, values, work,
        ):  # fmt: skip
            return False
    return True


@part
def coincident_pair(n_atoms, atoms, basis):
    """Return two places i < j of atoms on one spot."""
    for i in range(n_atoms):
        for j in range(i + 1, n_atoms):
            square = 0.0
            for axis in range(3):
                part = 0.0
                for half in range(2):
                    k = 3 + 3 * half + axis
                    part += atoms[k, j] - atoms[k, i]
                    for vector in range(3):
                        wrap = np.floor(atoms[vector, j] - atoms[vector, i] + 0.5)
                        part -= wrap * basis[half, vector, axis]
                square += part * part
            if square < SAME_SPOT**2:
                return i, j
    return 0, 0
