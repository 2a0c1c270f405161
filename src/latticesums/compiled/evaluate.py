"""All pairs of some crystals: what is called from Python, and the order of things."""

import math
from collections.abc import Callable

from latticesums.bounds import most
from latticesums.compiled.images import add_all_short_halves, coincident_pair, sort_by_reach
from latticesums.compiled.jit import part
from latticesums.compiled.lattice import (
    counting,
    inverse_distances,
    other_images,
    place_atoms,
    sort_by_height,
)
from latticesums.compiled.memory import (
    blocks_at,
    floats_at,
    line_at,
    memory_of,
    rows_at,
    used,
    words_at,
)
from latticesums.compiled.plan import (
    G_HEIGHT,
    G_KMAX,
    G_VOLUME,
    G_WRAP,
    ROOM,
    S_ALPHA,
    S_BOUND,
    S_CUTOFF,
    S_KCUT,
    S_ROW,
    plan_crystals,
    room_for_plans,
)
from latticesums.compiled.simd import mirror_one, mirror_three
from latticesums.compiled.support import (
    COINCIDENT,
    COULOMB,
    EXPONENTIAL,
    LONDON,
    SHELL,
    TOO_ROUGH,
)
from latticesums.compiled.waves import block_width, interpolate_long, write_long_halves
from latticesums.compiled.workspace import prepare, workspace

ROUNDOFF = 2.0**-53
TILE = 8  # pairs are mirrored in squares of so many, so that whole cache lines are used


@part
def _choose_rows(first_atom, n_atoms, orbits, n_potentials, work):
    """Choose the atoms that begin pairs and where those that end them add up; return the rows."""
    columns, rows, firsts = work.columns, work.rows, work.firsts
    by_orbit, n_rows = orbits.size > 0, 0
    for i in range(n_atoms if by_orbit else 0):
        if orbits[first_atom + i] == n_rows:
            rows[n_rows] = -1 - i  # the first atom of an orbit, until its place is known
            n_rows += 1
    for place in range(n_atoms):
        atom = work.order[place]
        columns[place] = orbits[first_atom + atom] if by_orbit else atom
        if not by_orbit:
            rows[place], firsts[place] = place, place + 1  # each pair once
        elif rows[columns[place]] == -1 - atom:
            rows[columns[place]], firsts[columns[place]] = place, 0
        work.slots[place] = columns[place] * n_potentials
    return n_rows if by_orbit else n_atoms


@part
def _clear(values, start, n_rows, n_potentials, everywhere):
    """Write zeros where something is added: everywhere, or above the diagonal."""
    for row in range(n_rows):
        begin = 0 if everywhere else (row + 1) * n_potentials
        line = start + row * n_rows * n_potentials
        for place in range(line + begin, line + n_rows * n_potentials):
            values[place] = 0.0


@part
def _join_orbits(start, n_rows, n_atoms, n_potentials, step_c, values, work):
    """Add long halves and constants to the sums of orbits; note the largest short halves."""
    long, columns = work.blocks, work.columns
    for p in range(n_potentials):
        begin, zero = work.sums_at[p], work.zero[p]
        for row in range(n_rows):
            line = start + row * n_rows * n_potentials + p
            for column in range(n_rows):
                at = line + column * n_potentials
                work.largest[p] = max(work.largest[p], values[at])
                if begin >= 0:
                    values[at] += long[begin + row * step_c + column]
            for j in range(n_atoms):
                values[line + columns[j] * n_potentials] += zero
            values[line + row * n_potentials] += work.own[p] + work.itself[p]


@part
def _join_pairs(start, n_atoms, n_potentials, step_c, values, work):
    """Add long halves and constants to the pairs i < j, and copy them to j, i."""
    long, nothing = work.blocks, work.blocks.size - work.atoms.shape[1] ** 2
    step = n_atoms * n_potentials
    for top in range(0, n_atoms, TILE):
        for left in range(top, n_atoms, TILE):
            for i in range(top, min(top + TILE, n_atoms)):
                j = max(left, i + 1)
                n = min(left + TILE, n_atoms) - j
                if n <= 0:
                    continue
                for p in range(n_potentials):
                    begin = work.sums_at[p]
                    work.begins[p] = begin + i * step_c + j if begin >= 0 else nothing
                here = start + i * step + j * n_potentials
                there = start + j * step + i * n_potentials
                p = 0
                while p + 3 <= n_potentials:
                    mirror_three(
                        values, here + p, n_potentials, there + p, step, long, work.begins, p,
                        work.zero, work.largest, n,
                    )  # fmt: skip
                    p += 3
                while p < n_potentials:
                    mirror_one(
                        values, here + p, n_potentials, there + p, step, long, work.begins, p,
                        work.zero, work.largest, n,
                    )  # fmt: skip
                    p += 1


@part
def _join_sorted(start, n_atoms, n_potentials, step_c, values, work):
    """Do what :func:`_join_pairs` does for atoms that are sorted; all diagonals are alike."""
    long, order = work.blocks, work.order
    for p in range(n_potentials):
        begin, zero, largest = work.sums_at[p], work.zero[p], work.largest[p]
        for i in range(n_atoms):
            line = start + order[i] * n_atoms * n_potentials + p
            column = start + order[i] * n_potentials + p
            for j in range(i + 1, n_atoms):
                at = line + order[j] * n_potentials
                largest = max(largest, values[at])
                added = long[begin + i * step_c + j] if begin >= 0 else 0.0
                values[at] = values[at] + added + zero
                values[column + order[j] * n_atoms * n_potentials] = values[at]
        work.largest[p] = largest


@part
def _write_diagonal(start, n_atoms, n_potentials, values, work):
    """Write the sums of an atom with its own images, the same for all atoms."""
    for p in range(n_potentials):
        diagonal = work.own[p] + work.total[p] + work.zero[p] + work.itself[p]
        for i in range(n_atoms):
            values[start + i * (n_atoms + 1) * n_potentials + p] = diagonal


@part
def _rounding(
    kind, decay, width, cutoff, k_cut, real, wrap, apart, crowd, n_needed, largest, total, own,
    zero,
):  # fmt: skip
    """Return the rounding error of one potential in units of the last place (docs/theory.md).

    Of terms and their sums, of vectors to images, of phases. The slope of a short half f is at most
    p / r (f + |own|) for a power, and at most the power's own; for an exponential decay (f + |own|)
    (eq. 37).
    """
    count = 1 + most(real, cutoff)
    if kind == SHELL:
        slopes = count * (0.86 / width + 6 / cutoff)
    else:
        slopes = decay * (largest + count * abs(own))
        if kind in (LONDON, COULOMB):
            steep = largest / apart + abs(own) * inverse_distances(real, apart, cutoff)
            slopes += steep if kind == COULOMB else 6 * min(steep, crowd / apart)
    rounding = (30 + 3 * math.sqrt(count)) * (largest + abs(own)) + 2 * wrap * slopes
    rounding += 4 * decay * cutoff * largest + 4 * count * abs(own) + 30 * abs(zero)
    return rounding + (min(2 * n_needed, 512) + 30 + 16 * wrap * k_cut) * abs(total)


@part
def _certify(cell, inverse, kinds, parameters, splits, geometry, n_waves, tolerance, work, bounds):
    """Write the bound of each potential; return the first above the tolerance, or -1."""
    real, _, _ = counting(cell, inverse, geometry[G_VOLUME])
    apart, crowd = other_images(inverse, real)
    for p in range(kinds.size):
        split = splits[p]
        rounding = _rounding(
            kinds[p], parameters[p, 0], parameters[p, 1], split[S_CUTOFF], split[S_KCUT],
            real, geometry[G_WRAP], apart, crowd, work.prefix[p] if n_waves > 0 else 0,
            work.largest[p], work.total[p], work.itself[p], work.zero[p],
        )  # fmt: skip
        bounds[p] = split[S_BOUND] + ROUNDOFF * rounding
        if not bounds[p] <= tolerance:
            return p
    return -1


@part
def _sum_crystal(
    given, cell, transform, inverse, geometry, splits, positions, rests, first_atom, n_atoms,
    orbits, kinds, parameters, tolerance, tables, start, values, bounds, failure, work,
):  # fmt: skip
    """Write the sums of one crystal from ``start`` on, and its bounds or how it failed."""
    n_potentials, by_orbit = kinds.size, orbits.size > 0
    is_long = geometry[G_HEIGHT] > 0
    reach = sort_by_reach(kinds, splits, geometry, work)
    place_atoms(
        given, transform, inverse, positions, rests, first_atom, n_atoms,
        reach + 2 * geometry[G_WRAP], work,
    )  # fmt: skip
    for i in range(n_atoms):
        work.order[i] = i
    if is_long:
        sort_by_height(n_atoms, work.atoms, work.order, work.vectors[0])
    n_rows = _choose_rows(first_atom, n_atoms, orbits, n_potentials, work)
    _clear(values, start, n_rows, n_potentials, by_orbit or is_long)
    for p in range(n_potentials):
        if kinds[p] == EXPONENTIAL and splits[p, S_ALPHA] > 0:
            interpolate_long(
                parameters[p, 0], splits[p, S_ALPHA], splits[p, S_CUTOFF], int(splits[p, S_ROW]),
                work.interpolation, work.long_halves[p * ROOM :],
            )  # fmt: skip
    if not add_all_short_halves(
        cell, inverse, geometry, kinds, parameters, splits, tables, reach, n_rows, n_atoms, start,
        values, work,
    ):  # fmt: skip
        i, j = coincident_pair(n_atoms, work.atoms, work.basis)
        i, j = work.order[i], work.order[j]
        failure[0], failure[1], failure[2] = COINCIDENT, min(i, j), max(i, j)
        return
    n_waves = write_long_halves(
        cell, inverse, kinds, parameters, splits, geometry[G_VOLUME], geometry[G_KMAX], n_atoms,
        n_rows, by_orbit, tables, work,
    )  # fmt: skip
    width = block_width(n_atoms)
    step_c = (n_rows + width - 1) // width * width
    for p in range(n_potentials):
        work.largest[p] = work.own[p]
    if by_orbit:
        _join_orbits(start, n_rows, n_atoms, n_potentials, step_c, values, work)
    else:
        if is_long:
            _join_sorted(start, n_atoms, n_potentials, step_c, values, work)
        else:
            _join_pairs(start, n_atoms, n_potentials, step_c, values, work)
        _write_diagonal(start, n_atoms, n_potentials, values, work)
    rough = _certify(
        cell, inverse, kinds, parameters, splits, geometry, n_waves, tolerance, work, bounds
    )
    if rough >= 0:
        failure[0], failure[1] = TOO_ROUGH, rough


@part
def _evaluate_crystals(
    begin, end, positions, rests, offsets, orbits, out_offsets, cells, kinds, parameters,
    tolerance, budget, tables, values, bounds, failures, memory, room,
):  # fmt: skip
    """Evaluate crystals begin..end-1; return 0, or the room that is needed to do so.

    ``orbits`` is empty for all pairs; otherwise rows of representatives and orbit columns.
    ``rests`` is empty, or what positions lack to be exact. Truncation may take the budget,
    rounding the rest of the tolerance. A row of ``failures`` is (status, i, j), zeros where
    the crystal is summed.
    """
    n_potentials = kinds.size
    plans = room_for_plans(memory, end - begin, n_potentials)
    if used(memory) > room:
        return used(memory)
    plan_crystals(begin, end, offsets, cells, kinds, parameters, budget, tables, failures, plans)
    work = workspace(memory, plans.sizes, n_potentials, orbits.size > 0)
    if used(memory) > room:
        return used(memory)
    prepare(work)
    for c in range(begin, end):
        if failures[c, 0] != 0:
            continue
        b = c - begin
        _sum_crystal(
            cells[c], plans.cells[b], plans.transforms[b], plans.inverses[b],
            plans.geometries[b], plans.splits[b], positions, rests, offsets[c],
            offsets[c + 1] - offsets[c], orbits, kinds, parameters, tolerance, tables,
            out_offsets[c] * n_potentials, values, bounds[c], failures[c], work,
        )  # fmt: skip
    return 0


def kernel(fingerprint: str) -> Callable[..., int]:
    """Return what Python calls, stored on disk under the fingerprint of all sources."""

    def evaluate(given, limits, floats, words, room):
        """Evaluate crystals begin..end-1; return 0, or the room that is needed to do so.

        ``given`` are begin, end, the numbers of atoms, rests, labels of orbits, potentials, lines
        and columns of tables, and the addresses of positions, cells, values, bounds, rests,
        offsets, orbits, offsets of values, kinds, parameters, tables and failures; ``limits`` are
        the tolerance and the part of it for truncation. One by one, they take as long to hand over
        as a small crystal to sum.
        """
        fingerprint  # noqa: B018  # pyright: ignore[reportUnusedExpression]
        begin, end, n_atoms, n_rests, n_orbits = given[0], given[1], given[2], given[3], given[4]
        n_potentials, n_lines, n_columns = given[5], given[6], given[7]
        out_offsets = line_at(words_at(given[15]), end + 1)
        n_values = out_offsets[end] * n_potentials
        return _evaluate_crystals(
            begin, end, rows_at(floats_at(given[8]), n_atoms, 3),
            rows_at(floats_at(given[12]), n_rests, 3), line_at(words_at(given[13]), end + 1),
            line_at(words_at(given[14]), n_orbits), out_offsets,
            blocks_at(floats_at(given[9]), end, 3, 3), line_at(words_at(given[16]), n_potentials),
            rows_at(floats_at(given[17]), n_potentials, 3), limits[0], limits[1],
            blocks_at(floats_at(given[18]), 2, n_lines, n_columns),
            line_at(floats_at(given[10]), n_values),
            rows_at(floats_at(given[11]), end, n_potentials),
            rows_at(words_at(given[19]), end, 3), memory_of(floats, words), room,
        )  # fmt: skip

    return evaluate
