"""The arrays that the compiled sums write while they work, allocated once for many crystals."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticesums.compiled.images import CHUNK
from latticesums.compiled.jit import part
from latticesums.compiled.memory import (
    blocks_of,
    fill,
    fill_rows,
    integers,
    numbers,
    rows_of,
    rows_of_integers,
)
from latticesums.compiled.plan import N_ATOMS, N_IMAGES, N_LAYERS, N_ORDERS, N_SPLIT, N_WAVES, ROOM
from latticesums.compiled.simd import BINS, GROUP, LANES
from latticesums.compiled.waves import WIDEST

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Workspace(NamedTuple):
    """Room for the largest crystal of a span; what stands in it is of one crystal at a time.

    Attributes:
        near, far, shells: Potentials by how far their images are summed, and ``counts`` of them.
        rows: Atoms that begin pairs; ``firsts`` is the first atom that each meets.
        order: The atom at each place: the same, or sorted in a long cell.
        columns: Where the atom at each place adds up; ``slots`` the same in numbers of ``values``.
        atoms: Fractional coordinates, places on a grid, and their rests, (9, n).
        basis: The reduced basis on the same grid and its rests, (2, 3, 3).
        vectors, nearest: Wrapped pair vectors, and smallest squares met.
        images, unsorted, bins, starts: Lattice vectors, sorted by squared length.
        buffers, codes, terms: Distances of a chunk, where they belong, and what they add.
        orders, squares, wave_slots, ranks: Wave vectors, and how they are sorted.
        prefix: Wave vectors that each potential needs.
        turns, powers, line, phases, scaled, grouped: Phases of atoms, times coefficients, and
            added up by orbit.
        blocks: Long halves, matrices of the split potentials and one of zeros, in a line.
        long_halves, interpolation: Polynomials of exponentials.
        own, total, zero, itself, largest, sums_at: Numbers of each potential: its short half with
            own images, its coefficients' sum, its wave 0, its self term, its largest short half,
            and where its block begins, or -1; ``begins``, where the row of an atom begins in it.
    """

    near: Ints
    far: Ints
    shells: Ints
    counts: Ints
    rows: Ints
    firsts: Ints
    order: Ints
    columns: Ints
    slots: Ints
    atoms: Floats
    basis: Floats
    vectors: Floats
    nearest: Floats
    images: Floats
    unsorted: Floats
    bins: Ints
    starts: Ints
    buffers: Floats
    codes: Ints
    terms: Floats
    orders: Ints
    squares: Floats
    sorted_squares: Floats
    wave_slots: Ints
    ranks: Ints
    prefix: Ints
    work: Floats
    polynomials: Floats
    coefficients: Floats
    turns: Floats
    powers: Floats
    line: Floats
    phases: Floats
    scaled: Floats
    grouped: Floats
    blocks: Floats
    long_halves: Floats
    interpolation: Floats
    own: Floats
    total: Floats
    zero: Floats
    itself: Floats
    largest: Floats
    sums_at: Ints
    begins: Ints


@part
def _whole(n, step):
    return (n + step) // step * step


@part
def workspace(memory, sizes, n_potentials, by_orbit):
    """Return room for crystals of these sizes; :func:`prepare` it before use."""
    n_atoms, n_images, n_orders = sizes[N_ATOMS], sizes[N_IMAGES], sizes[N_ORDERS]
    n_waves = _whole(sizes[N_WAVES], GROUP)
    room = _whole(n_atoms, WIDEST) + LANES
    span = _whole(CHUNK + LANES * (n_images + 1), GROUP)
    n_phases = 2 * n_waves * room
    return Workspace(
        near=integers(memory, n_potentials),
        far=integers(memory, n_potentials),
        shells=integers(memory, n_potentials),
        counts=integers(memory, 3),
        rows=integers(memory, n_atoms),
        firsts=integers(memory, n_atoms),
        order=integers(memory, n_atoms),
        columns=integers(memory, n_atoms),
        slots=integers(memory, room),
        atoms=rows_of(memory, 9, room),
        basis=blocks_of(memory, 2, 3, 3),
        vectors=rows_of(memory, 3, room),
        nearest=numbers(memory, LANES),
        images=rows_of(memory, 3, n_images),
        unsorted=rows_of(memory, 3, n_images),
        bins=integers(memory, n_images),
        starts=integers(memory, BINS * sizes[N_LAYERS]),
        buffers=rows_of(memory, 5, span),
        codes=integers(memory, span),
        terms=rows_of(memory, n_potentials, span),
        orders=rows_of_integers(memory, 3, n_waves),
        squares=numbers(memory, n_waves),
        sorted_squares=numbers(memory, n_waves),
        wave_slots=integers(memory, n_waves),
        ranks=integers(memory, n_potentials + 2),
        prefix=integers(memory, n_potentials),
        work=numbers(memory, n_waves),
        polynomials=numbers(memory, n_waves),
        coefficients=numbers(memory, n_waves),
        turns=rows_of(memory, 6, room),
        powers=numbers(memory, 6 * (n_orders + 1) * WIDEST),
        line=numbers(memory, 2 * WIDEST),
        phases=numbers(memory, n_phases),
        scaled=numbers(memory, n_phases),
        grouped=numbers(memory, n_phases * by_orbit),
        blocks=numbers(memory, (sizes[N_SPLIT] + 1) * room * room),  # the last stays zero
        long_halves=numbers(memory, n_potentials * ROOM),
        interpolation=rows_of(memory, 4, 4 * ROOM + 4),
        own=numbers(memory, n_potentials),
        total=numbers(memory, n_potentials),
        zero=numbers(memory, n_potentials),
        itself=numbers(memory, n_potentials),
        largest=numbers(memory, n_potentials),
        sums_at=integers(memory, n_potentials),
        begins=integers(memory, n_potentials),
    )


@part
def prepare(work):
    """Write what stays as it is, and what is read beyond the last atom.

    What is read beyond the end of distances and waves is worked on and left behind, whatever it is.
    """
    for i in range(work.slots.size):
        work.slots[i] = 0
    fill_rows(work.atoms, 0.0)
    fill(work.blocks[work.blocks.size - work.atoms.shape[1] ** 2 :], 0.0)
    fill(work.long_halves, 0.0)
