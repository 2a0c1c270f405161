"""What sums are made of, as lists: the images of pairs within a radius, and wave vectors.

Potentials are evaluated on these lists, whatever they are; ``pair_values`` adds what comes out up,
``pair_slopes`` and ``charges`` add up derivatives. Lists go crystal after crystal; those of images
begin with the own images of an atom, which are the same for all, and go on with pairs i < j.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticesums.bounds import most
from latticesums.compiled.images import NOWHERE, coincident_pair, list_images
from latticesums.compiled.jit import part
from latticesums.compiled.lattice import (
    PI,
    counting,
    grid,
    invert,
    place_atoms,
    skew,
    split_basis,
    wrapped_length,
)
from latticesums.compiled.memory import (
    blocks_at,
    blocks_of,
    fill_rows,
    integers,
    line_at,
    memory_of,
    numbers,
    rows_at,
    rows_of,
    rows_of_integers,
    used,
)
from latticesums.compiled.simd import BINS, LANES, gather_named
from latticesums.compiled.support import COINCIDENT
from latticesums.compiled.waves import list_waves
from latticesums.lattice import SAME_SPOT

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Columns of ``ends``: where the lists of a crystal end, its own images, its highest order.
E_IMAGES, E_WAVES, E_OWN, E_ORDER, E_WIDTH = range(5)


class _Lists(NamedTuple):
    """What is written: see :class:`latticesums.terms.Terms`."""

    codes: Ints
    vectors: Floats
    squares: Floats
    orders: Ints
    waves: Floats
    wave_squares: Floats
    ends: Ints
    fractions: Floats


class _Room(NamedTuple):
    """Arrays that are written for one crystal at a time; see :class:`Workspace`."""

    cell: Floats
    inverse: Floats
    other: Floats
    atoms: Floats
    basis: Floats
    columns: Ints
    vectors: Floats
    nearest: Floats
    images: Floats
    unsorted: Floats
    bins: Ints
    starts: Ints
    squares: Floats
    codes: Ints
    limits: Floats
    orders: Ints
    wave_squares: Floats
    slots: Ints
    prefix: Ints
    ranks: Ints


@part
def _write_cell(given, transform, cell, rest):
    """Write ``transform @ given``, rounded once."""
    split_basis(given, transform, grid(skew(given, transform)), cell, rest)
    for i in range(3):
        for k in range(3):
            cell[i, k] += rest[i, k]


@part
def _append(n, last, code, x, y, z, lists):
    """Write an image behind n others, if there is room; return how many there are or would be."""
    if n < last:
        lists.codes[n] = code
        lists.vectors[0, n], lists.vectors[1, n], lists.vectors[2, n] = x, y, z
        lists.squares[n] = x * x + y * y + z * z
    return n + 1


@part
def _list_pairs(n, n_atoms, radius, per_square, room, lists):
    """List the own images and those of pairs i < j.

    Returns:
        How many images there are then, and how many of them are own ones.
    """
    last, limit, images, begin = lists.codes.size, radius * radius, room.images, n
    for image in range(1, room.starts[BINS - 1]):
        x, y, z = images[0, image], images[1, image], images[2, image]
        if x * x + y * y + z * z < limit:
            n = _append(n, last, 0, x, y, z, lists)
    own = n - begin
    for lane in range(LANES):
        room.nearest[lane] = NOWHERE
    for i in range(n_atoms):
        for column in range(i + 1, n_atoms, LANES):
            found = gather_named(
                room.atoms, room.atoms.shape[1], i, column, n_atoms, i, room.basis, radius,
                images, images.shape[1], room.starts, per_square, room.columns, 0, room.squares,
                room.codes, room.nearest, room.vectors, 0,
            )  # fmt: skip
            for t in range(found):
                j, image = room.codes[t] & 0xFFFFFFFF, room.codes[t] >> 32
                n = _append(
                    n, last, (i << 32) | j, room.vectors[0, j] + images[0, image],
                    room.vectors[1, j] + images[1, image], room.vectors[2, j] + images[2, image],
                    lists,
                )  # fmt: skip
    return n, own


@part
def _list_waves(n, inverse, reference, k_max, room, lists):
    """List the wave vectors that are within k_max in a reference cell, which decides their set.

    Returns:
        How many waves there are then, and the highest order.
    """
    invert(reference, room.other)
    room.limits[0, 1] = k_max  # the column S_KCUT of one split
    found, top = list_waves(
        reference, room.other, room.limits, k_max, room.orders, room.wave_squares, room.slots,
        room.prefix, room.ranks,
    )  # fmt: skip
    for wave in range(found):
        if n < lists.wave_squares.size:
            square = 0.0
            for k in range(3):
                component = 0.0
                for axis in range(3):
                    lists.orders[axis, n] = room.orders[axis, wave]
                    component += room.orders[axis, wave] * inverse[k, axis]
                lists.waves[k, n] = 2 * PI * component
                square += lists.waves[k, n] ** 2
            lists.wave_squares[n] = square
        n += 1
    return n, top


@part
def _list_crystal(
    given, transform, reference, radius, k_max, positions, rests, first, n_atoms, row, failure,
    room, lists,
):  # fmt: skip
    """List images and waves of a crystal behind those of the crystal before."""
    n_images = lists.ends[row - 1, E_IMAGES] if row > 0 else 0
    n_waves = lists.ends[row - 1, E_WAVES] if row > 0 else 0
    cell, inverse = room.cell, room.inverse
    _write_cell(given, transform, cell, inverse)
    invert(cell, inverse)
    wrap = wrapped_length(cell)
    reach = (radius + wrap) * (1 + 1e-12)
    place_atoms(given, transform, inverse, positions, rests, first, n_atoms, reach + wrap, room)
    for i in range(n_atoms):
        for k in range(3):
            lists.fractions[k, first + i] = room.atoms[k, i]
    per_square = list_images(
        room.basis, inverse, reach, room.images, room.unsorted, room.bins, room.starts
    )
    n, own = _list_pairs(n_images, n_atoms, radius, per_square, room, lists)
    for lane in range(LANES):
        if room.nearest[lane] < SAME_SPOT**2:
            i, j = coincident_pair(n_atoms, room.atoms, room.basis)
            failure[0], failure[1], failure[2] = COINCIDENT, i, j
    lists.ends[row, E_IMAGES], lists.ends[row, E_OWN] = n, own
    lists.ends[row, E_WAVES], lists.ends[row, E_ORDER] = n_waves, 0
    if k_max > 0:
        n, top = _list_waves(n_waves, inverse, reference, k_max, room, lists)
        lists.ends[row, E_WAVES], lists.ends[row, E_ORDER] = n, top


@part
def _sizes(n_graphs, cells, transforms, references, radii, wave_radii, lattice):
    """Return the most images and the most waves that a crystal needs."""
    cell, inverse = lattice[0], lattice[1]
    n_images = n_waves = 1.0
    for c in range(n_graphs):
        _write_cell(cells[c], transforms[c], cell, inverse)
        real, _, _ = counting(cell, inverse, abs(invert(cell, inverse)))
        reach = (radii[c] + wrapped_length(cell)) * (1 + 1e-9)
        n_images = max(n_images, most(real, reach) + 1)
        volume = abs(invert(references[c], inverse))
        _, recip, _ = counting(references[c], inverse, volume)
        n_waves = max(n_waves, most(recip, wave_radii[c] * (1 + 1e-9)) + 1)
    return int(n_images), int(n_waves)


@part
def _room(memory, lattice, n_atoms, n_images, n_waves):
    """Return room for crystals of these sizes."""
    return _Room(
        cell=lattice[0],
        inverse=lattice[1],
        other=lattice[2],
        atoms=rows_of(memory, 9, n_atoms),
        basis=blocks_of(memory, 2, 3, 3),
        columns=integers(memory, n_atoms),
        vectors=rows_of(memory, 3, n_atoms),
        nearest=numbers(memory, LANES),
        images=rows_of(memory, 3, n_images),
        unsorted=rows_of(memory, 3, n_images),
        bins=integers(memory, n_images),
        starts=integers(memory, BINS),
        squares=numbers(memory, LANES * (n_images + 1)),
        codes=integers(memory, LANES * (n_images + 1)),
        limits=rows_of(memory, 1, 6),
        orders=rows_of_integers(memory, 3, n_waves),
        wave_squares=numbers(memory, n_waves),
        slots=integers(memory, n_waves),
        prefix=integers(memory, 1),
        ranks=integers(memory, 3),
    )


@part
def _list_crystals(
    n_graphs, positions, rests, offsets, cells, transforms, references, radii, wave_radii,
    failures, lists, memory, size,
):  # fmt: skip
    """List images and waves of all crystals; return 0, or the room that is needed to do so."""
    lattice = blocks_of(memory, 3, 3, 3)
    if used(memory) > size:
        return used(memory)
    n_images, n_waves = _sizes(n_graphs, cells, transforms, references, radii, wave_radii, lattice)
    most_atoms = LANES
    for c in range(n_graphs):
        most_atoms = max(most_atoms, offsets[c + 1] - offsets[c] + LANES)
    room = _room(memory, lattice, most_atoms, n_images, n_waves)
    if used(memory) > size:
        return used(memory)
    fill_rows(room.atoms, 0.0)
    for i in range(most_atoms):
        room.columns[i] = 0
    for c in range(n_graphs):
        _list_crystal(
            cells[c], transforms[c], references[c], radii[c], wave_radii[c], positions, rests,
            offsets[c], offsets[c + 1] - offsets[c], c, failures[c], room, lists,
        )  # fmt: skip
    return 0


def kernel(fingerprint: str) -> Callable[..., int]:
    """Return what Python calls, stored on disk under the fingerprint of all sources."""

    def list_terms(
        n_graphs, n_atoms, n_rests, n_images, n_waves, positions, rests, offsets, cells,
        transforms, references, radii, wave_radii, codes, vectors, squares, orders, waves,
        wave_squares, ends, fractions, failures, floats, words, size,
    ):  # fmt: skip
        """List images and waves of crystals; return 0, or the room that is needed to do so.

        Where a list has more entries than there is room, ``ends`` says how many.
        """
        fingerprint  # noqa: B018  # pyright: ignore[reportUnusedExpression]
        lists = _Lists(
            line_at(codes, n_images), rows_at(vectors, 3, n_images), line_at(squares, n_images),
            rows_at(orders, 3, n_waves), rows_at(waves, 3, n_waves),
            line_at(wave_squares, n_waves), rows_at(ends, n_graphs, E_WIDTH),
            rows_at(fractions, 3, n_atoms),
        )  # fmt: skip
        return _list_crystals(
            n_graphs, rows_at(positions, n_atoms, 3), rows_at(rests, n_rests, 3),
            line_at(offsets, n_graphs + 1), blocks_at(cells, n_graphs, 3, 3),
            blocks_at(transforms, n_graphs, 3, 3), blocks_at(references, n_graphs, 3, 3),
            line_at(radii, n_graphs), line_at(wave_radii, n_graphs),
            rows_at(failures, n_graphs, 3), lists, memory_of(floats, words), size,
        )  # fmt: skip

    return list_terms
