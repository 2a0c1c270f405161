"""All pairs of all crystals: what is called from Python, and the order of things."""

import math
from collections.abc import Callable

import numpy as np

from latticesums.compiled.images import (
    CHUNK,
    add_short_halves,
    coincident_pair,
    list_images,
)
from latticesums.compiled.jit import entry, part, sources
from latticesums.compiled.lattice import (
    PI,
    grid,
    other_images,
    skew,
    split_basis,
    wrap_positions,
)
from latticesums.compiled.plan import (
    COINCIDENT,
    COULOMB,
    EXPONENTIAL,
    G_CUTOFF,
    G_FAR,
    G_KMAX,
    G_SHELL_REACH,
    G_VOLUME,
    G_WIDTH,
    G_WRAP,
    LONDON,
    ROOM,
    S_ALPHA,
    S_BOUND,
    S_CUTOFF,
    S_KCUT,
    S_ROW,
    S_WIDTH,
    SHELL,
    TOO_ROUGH,
    plan_crystal,
)
from latticesums.compiled.simd import BINS, GROUP, LANES, mirror, scale
from latticesums.compiled.waves import (
    WIDEST,
    block_width,
    interpolate_long,
    list_waves,
    write_coefficients,
    write_phases,
    write_product,
)

ROUNDOFF = 2.0**-53
TILE = 8  # pairs are mirrored in squares of so many, so that whole cache lines are used


@part
def _choose(kinds, splits, cutoff, near, far, shells):
    """Sort the potentials by how far their images are summed; return numbers and the near reach."""
    n_near = n_far = n_shells = 0
    reach = 0.0
    for p in range(kinds.size):
        if kinds[p] == SHELL:
            shells[n_shells] = p
            n_shells += 1
        elif splits[p, S_CUTOFF] > cutoff:
            far[n_far] = p
            n_far += 1
        else:
            near[n_near] = p
            n_near += 1
            reach = max(reach, splits[p, S_CUTOFF])
    return n_near, n_far, n_shells, reach


@part
def _rounding(
    kind, decay, width, cutoff, k_cut, volume, wrap, apart, crowd, n_needed, largest, total, own,
    zero,
):  # fmt: skip
    """Return the rounding error of one potential in units of the last place (docs/theory.md).

    Of terms and their sums, of vectors to images, of phases.
    """
    count = 31 + 4 * PI / 3 * cutoff**3 / volume
    if kind == SHELL:
        slopes = count * (0.86 / width + 6 / cutoff)
    else:
        slopes = (decay + 2 / cutoff) * largest
        if kind == LONDON:
            slopes += 6 / apart * min(largest, crowd)
        elif kind == COULOMB:
            slopes += largest / apart
    rounding = (30 + 3 * math.sqrt(count)) * (largest + abs(own)) + 2 * wrap * slopes
    rounding += 4 * decay * cutoff * largest + 4 * count * abs(own) + 30 * abs(zero)
    return rounding + (min(2 * n_needed, 512) + 30 + 16 * wrap * k_cut) * abs(total)


def _make(fingerprint: str) -> Callable:
    """Return the entry, stored on disk under the fingerprint of all sources."""

    @entry
    def evaluate(
        begin, end, positions, offsets, orbits, out_offsets, cells, kinds, parameters, tolerance,
        budget, tables, values, bounds,
    ):  # fmt: skip
        """Evaluate crystals begin..end-1.

        ``orbits`` is empty for all pairs; otherwise rows of representatives and orbit columns.
        Truncation may take the budget, rounding the rest of the tolerance.

        Returns:
            (status, crystal, i, j) of the first failure, or zeros.
        """
        fingerprint  # noqa: B018  # pyright: ignore[reportUnusedExpression]
        n_potentials = kinds.size
        by_orbit = orbits.size > 0
        n_crystals, most_atoms = end - begin, 0
        reduced, inverses = np.empty((n_crystals, 3, 3)), np.empty((n_crystals, 3, 3))
        transforms, geometries = np.empty((n_crystals, 3, 3)), np.empty((n_crystals, G_WIDTH))
        splits, sizes = np.zeros((n_crystals, n_potentials, S_WIDTH)), np.zeros(3, np.int64)
        for c in range(begin, end):
            n_atoms, b = offsets[c + 1] - offsets[c], c - begin
            most_atoms = max(most_atoms, n_atoms)
            status = plan_crystal(
                cells[c], reduced[b], transforms[b], inverses[b], n_atoms, kinds, parameters,
                budget, tables, geometries[b], splits[b], sizes,
            )  # fmt: skip
            if status != 0:
                return status, c, 0, 0

        # Everything that is written below is allocated here, once.
        n_images, n_orders = sizes[0], sizes[2]
        n_waves = (sizes[1] + GROUP) // GROUP * GROUP
        room = (most_atoms + WIDEST) // WIDEST * WIDEST + LANES
        span = (CHUNK + LANES * (n_images + 1) + GROUP) // GROUP * GROUP
        n_split = 0
        for p in range(n_potentials):
            n_split += kinds[p] != SHELL
        near, far = np.empty(n_potentials, np.int64), np.empty(n_potentials, np.int64)
        shells, prefix = np.empty(n_potentials, np.int64), np.empty(n_potentials, np.int64)
        columns, rows = np.empty(most_atoms, np.int64), np.empty(most_atoms, np.int64)
        firsts = np.empty(most_atoms, np.int64)
        slots, vectors, nearest = np.zeros(room, np.int64), np.empty((3, room)), np.empty(LANES)
        atoms, basis = np.zeros((9, room)), np.empty((2, 3, 3))
        images, unsorted = np.empty((3, n_images)), np.empty((3, n_images))
        bins, starts = np.empty(n_images, np.int64), np.empty(BINS, np.int64)
        ranks = np.empty(n_potentials + 2, np.int64)
        buffers = (np.ones(span), np.ones(span), np.ones(span), np.ones(span), np.ones(span))
        codes, terms = np.empty(span, np.int64), np.ones((n_potentials, span))
        orders, wave_slots = np.empty((3, n_waves), np.int64), np.empty(n_waves, np.int64)
        squares, sorted_squares = np.ones(n_waves), np.ones(n_waves)
        work, polynomials, coefficients = np.ones(n_waves), np.ones(n_waves), np.ones(n_waves)
        turns, line = np.empty((6, room)), np.empty(2 * WIDEST)
        powers = np.empty(6 * (n_orders + 1) * WIDEST)
        phases, scaled = np.empty(2 * n_waves * room), np.empty(2 * n_waves * room)
        grouped = np.empty(2 * n_waves * room * by_orbit)
        blocks = np.zeros((n_split + 1, room * room))  # the last stays zero
        long_halves = np.zeros(n_potentials * ROOM)
        interpolation = np.empty((4, 4 * ROOM + 4))
        own, total, zero = np.empty(n_potentials), np.empty(n_potentials), np.empty(n_potentials)
        itself, largest = np.empty(n_potentials), np.empty(n_potentials)
        sums_at = np.empty(n_potentials, np.int64)

        for c in range(begin, end):
            b, first_atom = c - begin, offsets[c]
            n_atoms, start = offsets[c + 1] - first_atom, out_offsets[c] * n_potentials
            cell, inverse, split, geometry = reduced[b], inverses[b], splits[b], geometries[b]
            volume, wrap = geometry[G_VOLUME], geometry[G_WRAP]
            cutoff, k_max = geometry[G_CUTOFF], geometry[G_KMAX]
            n_near, n_far, n_shells, near_reach = _choose(kinds, split, cutoff, near, far, shells)
            reach = max(near_reach, max(geometry[G_FAR], geometry[G_SHELL_REACH]))

            # large enough for all partial sums: a reduced basis is not far from orthogonal
            far_off = 0.0
            for i in range(first_atom, first_atom + n_atoms):
                for k in range(3):
                    far_off = max(far_off, abs(positions[i, k]))
            size = 8 * (2 * far_off + reach + 2 * wrap) + skew(cells[c], transforms[b])
            spacing = grid(size)
            split_basis(cells[c], transforms[b], spacing, basis[0], basis[1])
            wrap_positions(positions, first_atom, n_atoms, basis, inverse, spacing, atoms)
            others, crowd = other_images(cell, inverse, volume)

            n_rows = 0
            for i in range(n_atoms):
                columns[i] = i
                if not by_orbit:  # i < j
                    rows[i], firsts[i] = i, i + 1
                    n_rows += 1
                    continue
                columns[i] = orbits[first_atom + i]
                if columns[i] == n_rows:
                    rows[n_rows], firsts[n_rows] = i, 0
                    n_rows += 1
            for i in range(n_atoms):
                slots[i] = columns[i] * n_potentials
            for row in range(n_rows):  # below the diagonal nothing is read before it is written
                for column in range(0 if by_orbit else row + 1, n_rows):
                    for p in range(n_potentials):
                        values[start + (row * n_rows + column) * n_potentials + p] = 0.0
            for p in range(n_potentials):
                if kinds[p] == EXPONENTIAL and split[p, S_ALPHA] > 0:
                    interpolate_long(
                        parameters[p, 0], split[p, S_ALPHA], split[p, S_CUTOFF],
                        int(split[p, S_ROW]), interpolation, long_halves[p * ROOM :],
                    )  # fmt: skip

            # Short halves.
            per_square = list_images(
                basis, inverse, (reach + wrap) * (1 + 1e-12), images, unsorted, bins, starts
            )
            apart = True
            if n_near > 0:
                apart = add_short_halves(
                    rows, firsts, n_rows, n_atoms, slots, start, near_reach, atoms, basis,
                    kinds, parameters, split, near[:n_near], tables, long_halves, per_square,
                    images, starts, vectors, nearest, buffers, codes, terms, values, own,
                )  # fmt: skip
            if n_far > 0 and apart:
                apart = add_short_halves(
                    rows, firsts, n_rows, n_atoms, slots, start, geometry[G_FAR], atoms, basis,
                    kinds, parameters, split, far[:n_far], tables, long_halves, per_square, images,
                    starts, vectors, nearest, buffers, codes, terms, values, own,
                )  # fmt: skip
            if n_shells > 0 and apart:
                apart = add_short_halves(
                    rows, firsts, n_rows, n_atoms, slots, start, geometry[G_SHELL_REACH],
                    atoms, basis, kinds, parameters, split, shells[:n_shells],
                    tables, long_halves, per_square, images, starts, vectors, nearest, buffers,
                    codes, terms, values, own,
                )  # fmt: skip
            if not apart:
                i, j = coincident_pair(n_atoms, atoms, basis)
                return COINCIDENT, c, i, j

            # Long halves.
            n_k, width = 0, block_width(n_atoms)
            if k_max > 0:
                n_k, top = list_waves(
                    cell, inverse, split, k_max, orders, squares, wave_slots, prefix, ranks
                )
                write_phases(
                    atoms, n_atoms, width, orders, wave_slots, n_k, top, turns, powers, line,
                    phases,
                )  # fmt: skip
                for k in range(n_k):
                    sorted_squares[wave_slots[k]] = squares[k]
            size = 2 * n_k * width
            step_c = (n_rows + width - 1) // width * width
            if by_orbit and n_k > 0:
                for place in range(step_c // width * size):
                    grouped[place] = 0.0
                for j in range(n_atoms):
                    at, to = j // width * size + j % width, columns[j]
                    to = to // width * size + to % width
                    for k in range(2 * n_k):
                        grouped[to + k * width] += phases[at + k * width]
            n_blocks = 0
            for p in range(n_potentials):
                n_needed = prefix[p] if n_k > 0 else 0
                zero[p], itself[p] = write_coefficients(
                    kinds[p], parameters[p, 0], split[p], volume, sorted_squares, n_needed, tables,
                    work, polynomials, coefficients,
                )  # fmt: skip
                total[p], sums_at[p] = 0.0, -1
                if n_needed == 0:
                    continue
                for k in range(n_needed):
                    total[p] += coefficients[k]
                if by_orbit:
                    for row in range(n_rows):
                        at = rows[row] // width * size + rows[row] % width
                        to = row // width * size + row % width
                        for k in range(n_needed):
                            here = at + 2 * k * width
                            there = to + 2 * k * width
                            scaled[there] = phases[here] * coefficients[k]
                            scaled[there + width] = phases[here + width] * coefficients[k]
                else:
                    for block in range(step_c // width):
                        for k in range(n_needed):
                            at = block * size + 2 * k * width
                            scale(phases, at, coefficients[k], scaled, at, 2 * width)
                right = grouped if by_orbit else phases
                write_product(
                    scaled, right, blocks[n_blocks], 2 * n_needed, size, n_rows, n_rows, width,
                    step_c, not by_orbit,
                )  # fmt: skip
                sums_at[p] = n_blocks * blocks.shape[1]
                n_blocks += 1

            # Both halves.
            flat = blocks.reshape(-1)
            for p in range(n_potentials):
                largest[p] = own[p]
            if by_orbit:
                for p in range(n_potentials):
                    for row in range(n_rows):
                        line_start = start + row * n_rows * n_potentials + p
                        for column in range(n_rows):
                            at = line_start + column * n_potentials
                            largest[p] = max(largest[p], values[at])
                            if sums_at[p] >= 0:
                                values[at] += flat[sums_at[p] + row * step_c + column]
                        for j in range(n_atoms):
                            values[line_start + columns[j] * n_potentials] += zero[p]
                        values[line_start + row * n_potentials] += own[p] + itself[p]
            else:
                step = n_atoms * n_potentials
                for top in range(0, n_atoms, TILE):
                    for left in range(top, n_atoms, TILE):
                        for i in range(top, min(top + TILE, n_atoms)):
                            j = max(left, i + 1)
                            n = min(left + TILE, n_atoms) - j
                            if n <= 0:
                                continue
                            for p in range(n_potentials):
                                sums = (blocks.shape[0] - 1) * blocks.shape[1]
                                if sums_at[p] >= 0:
                                    sums = sums_at[p] + i * step_c + j
                                largest[p] = mirror(
                                    values, start + i * step + j * n_potentials + p, n_potentials,
                                    start + j * step + i * n_potentials + p, step, flat, sums,
                                    zero[p], n, largest[p],
                                )  # fmt: skip
                for p in range(n_potentials):
                    diagonal = own[p] + total[p] + zero[p] + itself[p]
                    for i in range(n_atoms):
                        values[start + i * (step + n_potentials) + p] = diagonal

            for p in range(n_potentials):
                n_needed = prefix[p] if n_k > 0 else 0
                rounding = _rounding(
                    kinds[p], parameters[p, 0], parameters[p, 1], split[p, S_CUTOFF],
                    split[p, S_KCUT], volume, wrap, others, crowd, n_needed, largest[p], total[p],
                    itself[p], zero[p],
                )  # fmt: skip
                bounds[c, p] = split[p, S_BOUND] + ROUNDOFF * rounding
                if not bounds[c, p] <= tolerance:
                    return TOO_ROUGH, c, p, 0
        return 0, 0, 0, 0

    return evaluate


evaluate = _make(sources())
