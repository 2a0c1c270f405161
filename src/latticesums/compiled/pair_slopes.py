"""Derivatives of sums of all pairs, from slopes of potentials at images and at waves.

A loss with the gradient G by the sums is moved by moving the images, whose vectors point from i to
j, the phases of atoms, the wave vectors and the volume: a derivative by the position of each atom,
and one by strain, which takes positions and cell along.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticesums.compiled.jit import part
from latticesums.compiled.memory import (
    blocks_at,
    fill,
    line_at,
    memory_of,
    numbers,
    rows_at,
    rows_of,
    used,
)
from latticesums.compiled.phases import (
    largest_sizes,
    room_for_phases,
    take_orders,
    whole_blocks,
    write_phases_of,
)
from latticesums.compiled.terms import E_IMAGES, E_ORDER, E_OWN, E_WAVES, E_WIDTH
from latticesums.compiled.waves import WIDEST, write_product

Floats = NDArray[np.float64]


class _Room(NamedTuple):
    """What is written for one crystal at a time.

    Attributes:
        both: G plus its transpose, in blocks of columns.
        columns: Phases with a row for each atom, cosines before sines, in blocks of columns.
        rows: The same in whole rows.
        turned: Their product with ``both``.
        pulls: Derivatives by the phases of an atom.
        seen: Derivatives by the weights of waves.
    """

    both: Floats
    columns: Floats
    rows: Floats
    turned: Floats
    pulls: Floats
    seen: Floats


@part
def _pull_images(
    codes, vectors, slopes, begin, own_end, end, first, n_atoms, loss, start, gradient, strain
):
    """Add the derivatives by the vectors to images; slopes are those by squared length."""
    for t in range(begin, end):
        factor = 0.0
        if t < own_end:
            for p in range(slopes.shape[0]):
                total = 0.0
                for i in range(n_atoms):
                    total += loss[start + i * (n_atoms + 1), p]
                factor += slopes[p, t] * total
            i = j = 0
        else:
            i, j = codes[t] >> 32, codes[t] & 0xFFFFFFFF
            there, back = start + i * n_atoms + j, start + j * n_atoms + i
            for p in range(slopes.shape[0]):
                factor += slopes[p, t] * (loss[there, p] + loss[back, p])
        for k in range(3):
            pull = 2 * factor * vectors[k, t]
            gradient[first + j, k] += pull
            gradient[first + i, k] -= pull
            for l in range(3):
                strain[k, l] += pull * vectors[l, t]


@part
def _take_both(loss, start, p, n_atoms, room):
    """Write G plus its transpose for one potential in blocks of columns."""
    size = n_atoms * WIDEST
    for i in range(n_atoms):
        for j in range(n_atoms):
            at = j // WIDEST * size + i * WIDEST + j % WIDEST
            there, back = start + i * n_atoms + j, start + j * n_atoms + i
            room.both[at] = loss[there, p] + loss[back, p]


@part
def _turn_around(phases, n_atoms, n_waves, room):
    """Write phases with a row for each atom, in blocks of columns and in whole rows."""
    size = n_atoms * WIDEST
    for i in range(n_atoms):
        at = i // WIDEST * 2 * n_waves * WIDEST + i % WIDEST
        for k in range(n_waves):
            for half in range(2):
                column, phase = half * n_waves + k, phases[at + (2 * k + half) * WIDEST]
                room.rows[i, column] = phase
                place = column // WIDEST * size + i * WIDEST + column % WIDEST
                room.columns[place] = phase


@part
def _pull_phases(weights, p, begin, n_atoms, n_waves, room):
    """Add the derivatives by phases of one potential, and write those by the weights of waves."""
    step = whole_blocks(2 * n_waves)
    write_product(
        room.both, room.columns, room.turned, n_atoms, n_atoms * WIDEST, n_atoms, 2 * n_waves,
        WIDEST, step, False,
    )  # fmt: skip
    fill(room.seen, 0.0)
    for i in range(n_atoms):
        row = i * step
        for k in range(n_waves):
            cosine, sine = room.rows[i, k], room.rows[i, n_waves + k]
            even, odd = room.turned[row + k], room.turned[row + n_waves + k]
            room.pulls[i, k] += weights[p, begin + k] * (cosine * odd - sine * even)
            room.seen[k] += 0.5 * (cosine * even + sine * odd)


@part
def _strain_waves(weights, falls, p, begin, n_waves, waves, seen, strain):
    """Add what strain does to the waves of one potential: to their volume and to their length."""
    for k in range(n_waves):
        size, fall = weights[p, begin + k] * seen[k], 2 * falls[p, begin + k] * seen[k]
        for axis in range(3):
            strain[axis, axis] -= size
            for other in range(3):
                strain[axis, other] -= fall * waves[axis, begin + k] * waves[other, begin + k]


@part
def _pull_crystal(
    first, n_atoms, start, begin, n_waves, top, waves, weights, falls, orders, fractions, loss,
    gradient, strain, phases, room,
):  # fmt: skip
    """Add the derivatives of the waves of a crystal."""
    take_orders(orders, begin, n_waves, phases)
    write_phases_of(fractions, first, n_atoms, n_waves, top, phases)
    _turn_around(phases.phases, n_atoms, n_waves, room)
    for i in range(n_atoms):
        for k in range(n_waves):
            room.pulls[i, k] = 0.0
    for p in range(weights.shape[0]):
        total = 0.0
        for k in range(begin, begin + n_waves):
            total += weights[p, k]
        if total == 0.0:
            continue
        _take_both(loss, start, p, n_atoms, room)
        _pull_phases(weights, p, begin, n_atoms, n_waves, room)
        _strain_waves(weights, falls, p, begin, n_waves, waves, room.seen, strain)
    for i in range(n_atoms):
        x = y = z = 0.0
        for k in range(n_waves):
            pull = room.pulls[i, k]
            x += pull * waves[0, begin + k]
            y += pull * waves[1, begin + k]
            z += pull * waves[2, begin + k]
        gradient[first + i, 0] += x
        gradient[first + i, 1] += y
        gradient[first + i, 2] += z


@part
def _pull_crystals(
    n_graphs, offsets, out_offsets, ends, codes, vectors, slopes, waves, weights, falls, orders,
    fractions, zero, loss, gradient, strain, memory, size,
):  # fmt: skip
    """Write the derivatives of all crystals; return 0, or the room that is needed."""
    most_atoms, _, most_waves, top = largest_sizes(ends, offsets, n_graphs)
    phases = room_for_phases(memory, most_atoms, most_waves, top)
    block, wide = whole_blocks(most_atoms), whole_blocks(2 * most_waves)
    room = _Room(
        both=numbers(memory, block * block),
        columns=numbers(memory, block * wide),
        rows=rows_of(memory, most_atoms, 2 * most_waves),
        turned=numbers(memory, block * wide),
        pulls=rows_of(memory, most_atoms, most_waves),
        seen=numbers(memory, most_waves),
    )
    if used(memory) > size:
        return used(memory)
    image = wave = 0
    for c in range(n_graphs):
        n_atoms = offsets[c + 1] - offsets[c]
        for i in range(offsets[c], offsets[c + 1]):
            for k in range(3):
                gradient[i, k] = 0.0
        for k in range(3):
            for l in range(3):
                strain[c, k, l] = 0.0
        _pull_images(
            codes, vectors, slopes, image, image + ends[c, E_OWN], ends[c, E_IMAGES], offsets[c],
            n_atoms, loss, out_offsets[c], gradient, strain[c],
        )  # fmt: skip
        if ends[c, E_WAVES] > wave:
            fill(phases.phases, 0.0)
            fill(room.both, 0.0)
            fill(room.columns, 0.0)
            _pull_crystal(
                offsets[c], n_atoms, out_offsets[c], wave, ends[c, E_WAVES] - wave,
                ends[c, E_ORDER], waves, weights, falls, orders, fractions, loss, gradient,
                strain[c], phases, room,
            )  # fmt: skip
        for p in range(zero.shape[1]):
            total = 0.0
            for row in range(out_offsets[c], out_offsets[c + 1]):
                total += loss[row, p]
            for axis in range(3):
                strain[c, axis, axis] -= zero[c, p] * total
        image, wave = ends[c, E_IMAGES], ends[c, E_WAVES]
    return 0


def kernel(fingerprint: str) -> Callable[..., int]:
    """Return what Python calls, stored on disk under the fingerprint of all sources."""

    def pull_terms(
        n_graphs, n_atoms, n_pairs, n_potentials, n_images, n_waves, offsets, out_offsets, ends,
        codes, vectors, slopes, waves, weights, falls, orders, fractions, zero, loss, gradient,
        strain, floats, words, size,
    ):  # fmt: skip
        """Write the derivatives of a loss by positions and by strain; ``loss`` is that by sums.

        ``falls`` are the derivatives of the weights by squared wave vector.
        """
        fingerprint  # noqa: B018  # pyright: ignore[reportUnusedExpression]
        return _pull_crystals(
            n_graphs, line_at(offsets, n_graphs + 1), line_at(out_offsets, n_graphs + 1),
            rows_at(ends, n_graphs, E_WIDTH), line_at(codes, n_images),
            rows_at(vectors, 3, n_images), rows_at(slopes, n_potentials, n_images),
            rows_at(waves, 3, n_waves), rows_at(weights, n_potentials, n_waves),
            rows_at(falls, n_potentials, n_waves), rows_at(orders, 3, n_waves),
            rows_at(fractions, 3, n_atoms), rows_at(zero, n_graphs, n_potentials),
            rows_at(loss, n_pairs, n_potentials), rows_at(gradient, n_atoms, 3),
            blocks_at(strain, n_graphs, 3, 3), memory_of(floats, words), size,
        )  # fmt: skip

    return pull_terms
