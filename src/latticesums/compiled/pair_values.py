"""Sums of all pairs, from potentials at images and at waves."""

from collections.abc import Callable

from latticesums.compiled.jit import part
from latticesums.compiled.memory import (
    fill,
    line_at,
    memory_of,
    numbers,
    rows_at,
    used,
)
from latticesums.compiled.phases import (
    largest_sizes,
    room_for_phases,
    take_orders,
    whole_blocks,
    write_phases_of,
)
from latticesums.compiled.simd import scale
from latticesums.compiled.terms import E_IMAGES, E_ORDER, E_OWN, E_WAVES, E_WIDTH
from latticesums.compiled.waves import WIDEST, write_product


@part
def _add_images(codes, terms, begin, own_end, end, n_atoms, values, start, own, largest):
    """Add the terms of images to pairs i < j, and write those of own images; note the largest."""
    n_potentials = terms.shape[0]
    for row in range(start, start + n_atoms * n_atoms):
        for p in range(n_potentials):
            values[row, p] = 0.0
    for p in range(n_potentials):
        own[p] = 0.0
        for t in range(begin, own_end):
            own[p] += terms[p, t]
        largest[p] = own[p]
        for t in range(own_end, end):
            i, j = codes[t] >> 32, codes[t] & 0xFFFFFFFF
            values[start + i * n_atoms + j, p] += terms[p, t]
    for i in range(n_atoms):
        for j in range(i + 1, n_atoms):
            for p in range(n_potentials):
                largest[p] = max(largest[p], values[start + i * n_atoms + j, p])


@part
def _write_waves(weights, p, begin, n_waves, n_atoms, room, scaled, product):
    """Write the sums of one potential over waves, a row for each atom."""
    step = whole_blocks(n_atoms)
    size = 2 * n_waves * WIDEST
    for block in range((n_atoms + WIDEST - 1) // WIDEST):
        for k in range(n_waves):
            at = block * size + 2 * k * WIDEST
            scale(room.phases, at, weights[p, begin + k], scaled, at, 2 * WIDEST)
    write_product(
        scaled, room.phases, product, 2 * n_waves, size, n_atoms, n_atoms, WIDEST, step, True
    )


@part
def _complete(p, start, n_atoms, total, zero, own, product, has_waves, values):
    """Add waves and constants of one potential to pairs i < j, copy them, write the diagonal."""
    step = whole_blocks(n_atoms)
    for i in range(n_atoms):
        for j in range(i + 1, n_atoms):
            value = values[start + i * n_atoms + j, p] + zero
            if has_waves:
                value += product[i * step + j]
            values[start + i * n_atoms + j, p] = value
            values[start + j * n_atoms + i, p] = value
        values[start + i * (n_atoms + 1), p] = own + total


@part
def _add_crystals(
    n_graphs, offsets, out_offsets, ends, codes, terms, weights, orders, fractions, zero, itself,
    values, largest, memory, size,
):  # fmt: skip
    """Write the sums of all pairs of each crystal; return 0, or the room that is needed."""
    n_potentials = terms.shape[0]
    most_atoms, _, most_waves, top = largest_sizes(ends, offsets, n_graphs)
    room = room_for_phases(memory, most_atoms, most_waves, top)
    scaled = numbers(memory, room.phases.size)
    product = numbers(memory, whole_blocks(most_atoms) ** 2)
    own = numbers(memory, n_potentials)
    if used(memory) > size:
        return used(memory)
    fill(room.phases, 0.0)
    fill(scaled, 0.0)
    image = wave = 0
    for c in range(n_graphs):
        n_atoms, start = offsets[c + 1] - offsets[c], out_offsets[c]
        _add_images(
            codes, terms, image, image + ends[c, E_OWN], ends[c, E_IMAGES], n_atoms, values, start,
            own, largest[c],
        )  # fmt: skip
        n_waves = ends[c, E_WAVES] - wave
        if n_waves > 0:
            take_orders(orders, wave, n_waves, room)
            write_phases_of(fractions, offsets[c], n_atoms, n_waves, ends[c, E_ORDER], room)
        for p in range(n_potentials):
            total = 0.0
            for k in range(wave, ends[c, E_WAVES]):
                total += weights[p, k]
            has_waves = total != 0.0
            if has_waves:
                _write_waves(weights, p, wave, n_waves, n_atoms, room, scaled, product)
            _complete(
                p, start, n_atoms, total + zero[c, p] - itself[c, p], zero[c, p], own[p], product,
                has_waves, values,
            )  # fmt: skip
        image, wave = ends[c, E_IMAGES], ends[c, E_WAVES]
    return 0


def kernel(fingerprint: str) -> Callable[..., int]:
    """Return what Python calls, stored on disk under the fingerprint of all sources."""

    def add_terms(
        n_graphs, n_atoms, n_pairs, n_potentials, n_images, n_waves, offsets, out_offsets, ends,
        codes, terms, weights, orders, fractions, zero, itself, values, largest, floats, words,
        size,
    ):  # fmt: skip
        """Write the sums of all ordered pairs, and the largest short halves of each crystal.

        Terms of images and weights of waves have a row for each potential; ``zero`` and ``itself``
        are the wave 0 and the long half at an atom, a row for each crystal.
        """
        fingerprint  # noqa: B018  # pyright: ignore[reportUnusedExpression]
        return _add_crystals(
            n_graphs, line_at(offsets, n_graphs + 1), line_at(out_offsets, n_graphs + 1),
            rows_at(ends, n_graphs, E_WIDTH), line_at(codes, n_images),
            rows_at(terms, n_potentials, n_images), rows_at(weights, n_potentials, n_waves),
            rows_at(orders, 3, n_waves), rows_at(fractions, 3, n_atoms),
            rows_at(zero, n_graphs, n_potentials), rows_at(itself, n_graphs, n_potentials),
            rows_at(values, n_pairs, n_potentials), rows_at(largest, n_graphs, n_potentials),
            memory_of(floats, words), size,
        )  # fmt: skip

    return add_terms
