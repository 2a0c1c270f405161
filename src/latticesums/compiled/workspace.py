"""The arrays that the compiled sums write while they work, allocated once for many crystals."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticesums.compiled.images import CHUNK
from latticesums.compiled.jit import part
from latticesums.compiled.plan import N_ATOMS, N_IMAGES, N_ORDERS, N_SPLIT, N_WAVES, ROOM
from latticesums.compiled.simd import BINS, GROUP, LANES
from latticesums.compiled.waves import WIDEST

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Workspace(NamedTuple):
    """Room for the largest crystal of a span; what stands in it is of one crystal at a time.

    Attributes:
        near, far, shells: Potentials by how far their images are summed, and ``counts`` of them.
        rows: Atoms that begin pairs; ``firsts`` is the first atom that each meets.
        columns: Where each atom adds up; ``slots`` is the same in numbers of ``values``.
        atoms: Fractional coordinates, places on a grid, and their rests, (9, n).
        basis: The reduced basis on the same grid and its rests, (2, 3, 3).
        vectors, nearest: Wrapped pair vectors, and smallest squares met.
        images, unsorted, bins, starts: Lattice vectors, sorted by squared length.
        buffers, codes, terms: Distances of a chunk, where they belong, and what they add.
        orders, squares, wave_slots, ranks: Wave vectors, and how they are sorted.
        prefix: Wave vectors that each potential needs.
        turns, powers, line, phases, scaled, grouped: Phases of atoms, times coefficients, and
            added up by orbit.
        blocks: Long halves, a matrix for each split potential, and one of zeros.
        long_halves, interpolation: Polynomials of exponentials.
        own, total, zero, itself, largest, sums_at: Numbers of each potential: its short half with
            own images, its coefficients' sum, its wave 0, its self term, its largest short half,
            and where its block begins, or -1.
    """

    near: Ints
    far: Ints
    shells: Ints
    counts: Ints
    rows: Ints
    firsts: Ints
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


@part
def _whole(n, step):
    return (n + step) // step * step


@part
def workspace(sizes, n_potentials, by_orbit):
    """Return room for crystals of these sizes."""
    n_atoms, n_images, n_orders = sizes[N_ATOMS], sizes[N_IMAGES], sizes[N_ORDERS]
    n_waves = _whole(sizes[N_WAVES], GROUP)
    room = _whole(n_atoms, WIDEST) + LANES
    span = _whole(CHUNK + LANES * (n_images + 1), GROUP)
    n_phases = 2 * n_waves * room
    return Workspace(
        near=np.empty(n_potentials, np.int64),
        far=np.empty(n_potentials, np.int64),
        shells=np.empty(n_potentials, np.int64),
        counts=np.empty(3, np.int64),
        rows=np.empty(n_atoms, np.int64),
        firsts=np.empty(n_atoms, np.int64),
        columns=np.empty(n_atoms, np.int64),
        slots=np.zeros(room, np.int64),
        atoms=np.zeros((9, room)),
        basis=np.empty((2, 3, 3)),
        vectors=np.empty((3, room)),
        nearest=np.empty(LANES),
        images=np.empty((3, n_images)),
        unsorted=np.empty((3, n_images)),
        bins=np.empty(n_images, np.int64),
        starts=np.empty(BINS, np.int64),
        buffers=np.ones((5, span)),
        codes=np.empty(span, np.int64),
        terms=np.ones((n_potentials, span)),
        orders=np.empty((3, n_waves), np.int64),
        squares=np.ones(n_waves),
        sorted_squares=np.ones(n_waves),
        wave_slots=np.empty(n_waves, np.int64),
        ranks=np.empty(n_potentials + 2, np.int64),
        prefix=np.empty(n_potentials, np.int64),
        work=np.ones(n_waves),
        polynomials=np.ones(n_waves),
        coefficients=np.ones(n_waves),
        turns=np.empty((6, room)),
        powers=np.empty(6 * (n_orders + 1) * WIDEST),
        line=np.empty(2 * WIDEST),
        phases=np.empty(n_phases),
        scaled=np.empty(n_phases),
        grouped=np.empty(n_phases * by_orbit),
        blocks=np.zeros((sizes[N_SPLIT] + 1, room * room)),  # the last stays zero
        long_halves=np.zeros(n_potentials * ROOM),
        interpolation=np.empty((4, 4 * ROOM + 4)),
        own=np.empty(n_potentials),
        total=np.empty(n_potentials),
        zero=np.empty(n_potentials),
        itself=np.empty(n_potentials),
        largest=np.empty(n_potentials),
        sums_at=np.empty(n_potentials, np.int64),
    )
