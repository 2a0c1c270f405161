"""Shells weighted with real spherical harmonics, summed over all images of symmetry orbits."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticesums.bounds import most
from latticesums.compiled.images import NOWHERE, coincident_pair, list_images
from latticesums.compiled.jit import part
from latticesums.compiled.lattice import counting, invert, place_atoms, wrapped_length
from latticesums.compiled.memory import (
    blocks_at,
    blocks_of,
    fill,
    fill_rows,
    integers,
    line_at,
    memory_of,
    numbers,
    rows_at,
    rows_of,
    used,
)
from latticesums.compiled.plan import reduce_cell
from latticesums.compiled.simd import BINS, GROUP, LANES, add_scaled, exponentials, gather_named
from latticesums.compiled.support import COINCIDENT, TOO_LARGE
from latticesums.lattice import MAX_VECTORS, SAME_SPOT

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK = 32  # images whose shells are evaluated together


class _Shells(NamedTuple):
    """What is summed: arrays of the shells, the farthest cutoff, and the highest degree."""

    centers: Floats
    inverse_widths: Floats
    inverse_squares: Floats
    cutoff: float
    degree: int


class _Room(NamedTuple):
    """Arrays that are written for one crystal at a time; see :class:`Workspace`."""

    lattice: Floats
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
    weights: Floats
    harmonics: Floats


@part
def _add_images(n, shells, room, sums):
    """Add the shells of n images to the rows of ``sums``, one per column and harmonic.

    Harmonics of a degree are normalised so that their squares add up to 1: x, y, z; then
    sqrt(3) xy, sqrt(3) yz, (3 z^2 - 1) / 2, sqrt(3) xz, sqrt(3) (x^2 - y^2) / 2.
    """
    centers, inverse_widths, inverse_squares, _, degree = shells
    columns, vectors, images = room.columns, room.vectors, room.images
    squares, codes, weights, harmonics = room.squares, room.codes, room.weights, room.harmonics
    n_shells, n_harmonics = centers.size, (degree + 1) ** 2
    root = math.sqrt(3.0)
    for first in range(0, n, BLOCK):
        last = min(first + BLOCK, n)
        for i in range(first, last):
            distance, at = math.sqrt(squares[i]), (i - first) * n_shells
            for k in range(n_shells):
                x = (distance - centers[k]) * inverse_widths[k]
                weights[at + k] = -x * x
        exponentials(weights, (last - first) * n_shells, weights)
        for i in range(first, last):
            square, at = squares[i], (i - first) * n_shells
            for k in range(n_shells):
                edge = max(1 - square * inverse_squares[k], 0.0)
                weights[at + k] *= edge * edge * edge
        for i in range(first, last):
            column, image = codes[i] & 0xFFFFFFFF, codes[i] >> 32
            inverse = 1 / math.sqrt(squares[i])
            x = (vectors[0, column] + images[0, image]) * inverse
            y = (vectors[1, column] + images[1, image]) * inverse
            z = (vectors[2, column] + images[2, image]) * inverse
            harmonics[0] = 1.0
            if degree > 0:
                harmonics[1], harmonics[2], harmonics[3] = x, y, z
            if degree > 1:
                harmonics[4], harmonics[5], harmonics[7] = root * x * y, root * y * z, root * x * z
                harmonics[6] = 1.5 * z * z - 0.5
                harmonics[8] = 0.5 * root * (x * x - y * y)
            row = columns[column] * n_harmonics
            for m in range(n_harmonics):
                at = (row + m) * n_shells
                add_scaled(weights, (i - first) * n_shells, harmonics[m], sums, at, n_shells)


@part
def _images_needed(cells, begin, end, cutoff, failures, lattice):
    """Return the most images that a crystal needs, and write which ones cannot be summed."""
    cell, inverse, transform = lattice[0], lattice[1], lattice[2]
    needed = 1
    for c in range(begin, end):
        failures[c, 0] = reduce_cell(cells[c], cell, transform, inverse)
        if failures[c, 0] != 0:
            continue
        real, _, _ = counting(cell, inverse, abs(invert(cell, inverse)))
        n_images = most(real, (cutoff + wrapped_length(cell)) * (1 + 1e-9))
        if not n_images < MAX_VECTORS:
            failures[c, 0] = TOO_LARGE
        else:
            needed = max(needed, int(n_images) + 1)
    return needed


@part
def _add_row(atom, n_atoms, per_square, shells, room, sums):
    """Add the shells of all images of all atoms around one; return whether none is on its spot."""
    for lane in range(LANES):
        room.nearest[lane] = NOWHERE
    for column in range(0, n_atoms, LANES):
        n = gather_named(
            room.atoms, room.atoms.shape[1], atom, column, n_atoms, atom, room.basis,
            shells.cutoff, room.images, room.images.shape[1], room.starts, per_square,
            room.columns, 0, room.squares, room.codes, room.nearest, room.vectors, 0,
        )  # fmt: skip
        _add_images(n, shells, room, sums)
    for lane in range(LANES):
        if room.nearest[lane] < SAME_SPOT**2:
            return False
    n = 0
    for image in range(1, room.starts[BINS - 1]):
        x, y, z = room.images[0, image], room.images[1, image], room.images[2, image]
        room.squares[n], room.codes[n] = x * x + y * y + z * z, (image << 32) | atom
        n += room.squares[n] < shells.cutoff * shells.cutoff
    for k in range(3):
        room.vectors[k, atom] = 0.0
    _add_images(n, shells, room, sums)
    return True


@part
def _add_crystal(given, positions, rests, first, n_atoms, orbits, start, shells, values, room):
    """Add the shells around the first atom of each orbit; return whether no two atoms coincide."""
    cell, inverse, transform = room.lattice[0], room.lattice[1], room.lattice[2]
    reduce_cell(given, cell, transform, inverse)
    invert(cell, inverse)
    wrap = wrapped_length(cell)
    reach = (shells.cutoff + wrap) * (1 + 1e-12)
    place_atoms(given, transform, inverse, positions, rests, first, n_atoms, reach + wrap, room)
    per_square = list_images(
        room.basis, inverse, reach, room.images, room.unsorted, room.bins, room.starts
    )
    n_orbits = row = 0
    for i in range(n_atoms):
        room.columns[i] = orbits[first + i]
        n_orbits = max(n_orbits, room.columns[i] + 1)
    numbers = shells.centers.size * (shells.degree + 1) ** 2
    for atom in range(n_atoms):
        if room.columns[atom] == row:
            sums = values[(start + row * n_orbits) * numbers :]
            if not _add_row(atom, n_atoms, per_square, shells, room, sums):
                return False
            row += 1
    return True


@part
def _room(memory, lattice, n_atoms, n_images, n_shells):
    """Return room for crystals of these sizes."""
    return _Room(
        lattice=lattice,
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
        weights=numbers(memory, BLOCK * n_shells + GROUP),
        harmonics=numbers(memory, 9),
    )


@part
def _add_crystals(
    begin, end, positions, rests, offsets, orbits, out_offsets, cells, shells, values, failures,
    memory, size,
):  # fmt: skip
    """Add the shells of crystals begin..end-1; return 0, or the room that is needed to do so."""
    lattice = blocks_of(memory, 3, 3, 3)
    if used(memory) > size:
        return used(memory)
    n_images = _images_needed(cells, begin, end, shells.cutoff, failures, lattice)
    most_atoms = LANES
    for c in range(begin, end):
        most_atoms = max(most_atoms, offsets[c + 1] - offsets[c] + LANES)
    room = _room(memory, lattice, most_atoms, n_images, shells.centers.size)
    if used(memory) > size:
        return used(memory)
    fill_rows(room.atoms, 0.0)
    fill(room.weights, 0.0)
    for i in range(most_atoms):
        room.columns[i] = 0
    for c in range(begin, end):
        n_atoms = offsets[c + 1] - offsets[c]
        if failures[c, 0] == 0 and not _add_crystal(
            cells[c], positions, rests, offsets[c], n_atoms, orbits, out_offsets[c], shells, values,
            room,
        ):  # fmt: skip
            i, j = coincident_pair(n_atoms, room.atoms, room.basis)
            failures[c, 0], failures[c, 1], failures[c, 2] = COINCIDENT, i, j
    return 0


def kernel(fingerprint: str) -> Callable[..., int]:
    """Return what Python calls, stored on disk under the fingerprint of all sources."""

    def add_directed_shells(
        begin, end, n_atoms, n_rests, n_shells, degree, cutoff, positions, rests, offsets, orbits,
        out_offsets, cells, centers, inverse_widths, inverse_squares, values, failures, floats,
        words, size,
    ):  # fmt: skip
        """Add the shells of crystals begin..end-1, from the first atom of each orbit, to values.

        A row of ``failures`` is (status, i, j), zeros where the crystal is summed. Returns 0, or
        the room that is needed.
        """
        fingerprint  # noqa: B018  # pyright: ignore[reportUnusedExpression]
        shells = _Shells(
            line_at(centers, n_shells), line_at(inverse_widths, n_shells),
            line_at(inverse_squares, n_shells), cutoff, degree,
        )  # fmt: skip
        n_values = out_offsets[end] * n_shells * (degree + 1) ** 2
        return _add_crystals(
            begin, end, rows_at(positions, n_atoms, 3), rows_at(rests, n_rests, 3),
            line_at(offsets, end + 1), line_at(orbits, n_atoms), line_at(out_offsets, end + 1),
            blocks_at(cells, end, 3, 3), shells, line_at(values, n_values),
            rows_at(failures, end, 3), memory_of(floats, words), size,
        )  # fmt: skip

    return add_directed_shells
