"""Energies of charges and their derivatives, from potentials at images and at waves.

The structure factor of all charges takes the place of the pairs: the work grows like atoms times
waves. Where the phases of all atoms are too many, they are written twice, a block at a time.
"""

from collections.abc import Callable

from latticesums.compiled.jit import part
from latticesums.compiled.memory import (
    blocks_at,
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
    write_phases_of,
)
from latticesums.compiled.simd import LANES
from latticesums.compiled.terms import E_IMAGES, E_ORDER, E_OWN, E_WAVES, E_WIDTH
from latticesums.compiled.waves import WIDEST

FEW_PHASES = 1 << 19  # these stay in the second-level cache, or not far from it


@part
def _add_images(
    codes, vectors, terms, slopes, begin, own_end, end, first, last, charges, sites, gradient,
    strain,
):  # fmt: skip
    """Add what images add to potentials and derivatives; return the sum of magnitudes."""
    squares = magnitude = 0.0
    for i in range(first, last):
        squares += charges[i] * charges[i]
    own = 0.0
    for t in range(begin, own_end):
        own += terms[t]
        for k in range(3):
            pull = slopes[t] * squares * vectors[k, t]
            for l in range(3):
                strain[k, l] += pull * vectors[l, t]
    for i in range(first, last):
        sites[i] = own * charges[i]
    xx = xy = xz = yy = yz = zz = 0.0
    for t in range(own_end, end):
        i, j, term = first + (codes[t] >> 32), first + (codes[t] & 0xFFFFFFFF), terms[t]
        product = charges[i] * charges[j]
        sites[i] += term * charges[j]
        sites[j] += term * charges[i]
        magnitude += abs(term * product)
        factor = 2 * slopes[t] * product
        x, y, z = vectors[0, t], vectors[1, t], vectors[2, t]
        u, v, w = factor * x, factor * y, factor * z
        gradient[j, 0] += u
        gradient[j, 1] += v
        gradient[j, 2] += w
        gradient[i, 0] -= u
        gradient[i, 1] -= v
        gradient[i, 2] -= w
        xx += u * x
        xy += u * y
        xz += u * z
        yy += v * y
        yz += v * z
        zz += w * z
    strain[0, 0] += xx
    strain[0, 1] += xy
    strain[0, 2] += xz
    strain[1, 1] += yy
    strain[1, 2] += yz
    strain[2, 2] += zz
    return magnitude + 0.5 * own * squares


@part
def _dot(phases, at, own):
    """Return the product of a block of phases with charges, in four sums at a time."""
    a = b = c = d = 0.0
    for k in range(0, WIDEST, 4):
        a += own[k] * phases[at + k]
        b += own[k + 1] * phases[at + k + 1]
        c += own[k + 2] * phases[at + k + 2]
        d += own[k + 3] * phases[at + k + 3]
    return (a + b) + (c + d)


@part
def _add_structure(phases, block, n_waves, begin, last, charges, own, even, odd):
    """Add the structure factors of a block of atoms; ``own`` has room for their charges."""
    n = last - begin
    for a in range(WIDEST):
        own[a] = charges[begin + a] if a < n else 0.0
    for k in range(n_waves):
        at = 2 * (block * n_waves + k) * WIDEST
        even[k] += _dot(phases, at, own)
        odd[k] += _dot(phases, at + WIDEST, own)


@part
def _add_waves(
    phases, block, n_waves, even, odd, waves, at_waves, begin, last, charges, seen, sites, gradient
):
    """Add what waves add to potentials and derivatives at a block of atoms.

    ``even`` and ``odd`` are structure factors times the weights.
    """
    for a in range(4 * WIDEST):
        seen[a] = 0.0
    for k in range(n_waves):
        at, w = 2 * (block * n_waves + k) * WIDEST, at_waves + k
        c, s = even[k], odd[k]
        x, y, z = waves[0, w], waves[1, w], waves[2, w]
        for a in range(WIDEST):
            cosine, sine = phases[at + a], phases[at + WIDEST + a]
            seen[a] += cosine * c + sine * s
            turn = cosine * s - sine * c
            seen[WIDEST + a] += turn * x
            seen[2 * WIDEST + a] += turn * y
            seen[3 * WIDEST + a] += turn * z
    for a in range(last - begin):
        sites[begin + a] += seen[a]
        for k in range(3):
            gradient[begin + a, k] += charges[begin + a] * seen[(k + 1) * WIDEST + a]


@part
def _strain_waves(even, odd, weights, falls, waves, at_waves, n_waves, strain):
    """Add what strain does to waves, and write structure factors times weights."""
    for k in range(n_waves):
        w = at_waves + k
        size = even[k] * even[k] + odd[k] * odd[k]
        x, y, z, fall = waves[0, w], waves[1, w], waves[2, w], falls[w] * size
        half = 0.5 * weights[w] * size
        strain[0, 0] -= half + fall * x * x
        strain[1, 1] -= half + fall * y * y
        strain[2, 2] -= half + fall * z * z
        strain[0, 1] -= fall * x * y
        strain[0, 2] -= fall * x * z
        strain[1, 2] -= fall * y * z
        even[k] *= weights[w]
        odd[k] *= weights[w]


@part
def _add_crystal(
    first, last, at_waves, n_waves, top, waves, weights, falls, orders, fractions, zero, itself,
    charges, sites, gradient, strain, room, even, odd, seen,
):  # fmt: skip
    """Add what waves and constants add to a crystal."""
    take_orders(orders, at_waves, n_waves, room)
    for k in range(n_waves):
        even[k] = odd[k] = 0.0
    at_once = room.fractions.shape[1] - LANES
    for start in range(first, last, at_once):
        n = min(at_once, last - start)
        write_phases_of(fractions, start, n, n_waves, top, room)
        for begin in range(start, start + n, WIDEST):
            end, block = min(begin + WIDEST, start + n), (begin - start) // WIDEST
            _add_structure(room.phases, block, n_waves, begin, end, charges, seen, even, odd)
    _strain_waves(even, odd, weights, falls, waves, at_waves, n_waves, strain)
    for start in range(first, last, at_once):
        n = min(at_once, last - start)
        if last - first > at_once:
            write_phases_of(fractions, start, n, n_waves, top, room)
        for begin in range(start, start + n, WIDEST):
            _add_waves(
                room.phases, (begin - start) // WIDEST, n_waves, even, odd, waves, at_waves, begin,
                min(begin + WIDEST, start + n), charges, seen, sites, gradient,
            )  # fmt: skip
    total = 0.0
    for i in range(first, last):
        total += charges[i]
    for i in range(first, last):
        sites[i] += zero * total - itself * charges[i]
    for k in range(3):
        strain[k, k] -= 0.5 * zero * total * total


@part
def _add_crystals(
    n_graphs, offsets, ends, codes, vectors, terms, slopes, waves, weights, falls, orders,
    fractions, zero, itself, charges, sites, gradient, strain, magnitudes, memory, size,
):  # fmt: skip
    """Write potentials and derivatives of all crystals; return 0, or the room that is needed."""
    most_atoms, _, most_waves, top = largest_sizes(ends, offsets, n_graphs)
    is_small = 2 * most_waves * most_atoms <= FEW_PHASES
    room = room_for_phases(memory, most_atoms if is_small else WIDEST, most_waves, top)
    even, odd = numbers(memory, most_waves), numbers(memory, most_waves)
    seen = numbers(memory, 4 * WIDEST)
    if used(memory) > size:
        return used(memory)
    image = wave = 0
    for c in range(n_graphs):
        first, last = offsets[c], offsets[c + 1]
        for i in range(first, last):
            for k in range(3):
                gradient[i, k] = 0.0
        for k in range(3):
            for l in range(3):
                strain[c, k, l] = 0.0
        magnitudes[c] = _add_images(
            codes, vectors, terms, slopes, image, image + ends[c, E_OWN], ends[c, E_IMAGES],
            first, last, charges, sites, gradient, strain[c],
        )  # fmt: skip
        _add_crystal(
            first, last, wave, ends[c, E_WAVES] - wave, ends[c, E_ORDER], waves, weights, falls,
            orders, fractions, zero[c], itself[c], charges, sites, gradient, strain[c], room, even,
            odd, seen,
        )  # fmt: skip
        for k in range(3):
            for l in range(k):
                strain[c, k, l] = strain[c, l, k]
        image, wave = ends[c, E_IMAGES], ends[c, E_WAVES]
    return 0


def kernel(fingerprint: str) -> Callable[..., int]:
    """Return what Python calls, stored on disk under the fingerprint of all sources."""

    def add_charges(
        n_graphs, n_atoms, n_images, n_waves, offsets, ends, codes, vectors, terms, slopes, waves,
        weights, falls, orders, fractions, zero, itself, charges, sites, gradient, strain,
        magnitudes, floats, words, size,
    ):  # fmt: skip
        """Write the potential at each charge, and derivatives of half their sum times the charges.

        By position and by strain; ``magnitudes`` is what images add to an energy, all positive.
        """
        fingerprint  # noqa: B018  # pyright: ignore[reportUnusedExpression]
        return _add_crystals(
            n_graphs, line_at(offsets, n_graphs + 1), rows_at(ends, n_graphs, E_WIDTH),
            line_at(codes, n_images), rows_at(vectors, 3, n_images), line_at(terms, n_images),
            line_at(slopes, n_images), rows_at(waves, 3, n_waves), line_at(weights, n_waves),
            line_at(falls, n_waves), rows_at(orders, 3, n_waves), rows_at(fractions, 3, n_atoms),
            line_at(zero, n_graphs), line_at(itself, n_graphs), line_at(charges, n_atoms),
            line_at(sites, n_atoms), rows_at(gradient, n_atoms, 3),
            blocks_at(strain, n_graphs, 3, 3), line_at(magnitudes, n_graphs),
            memory_of(floats, words), size,
        )  # fmt: skip

    return add_charges
