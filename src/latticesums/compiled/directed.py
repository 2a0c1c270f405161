"""Shells weighted with real spherical harmonics, summed over all images of symmetry orbits."""

import math
from collections.abc import Callable

import numpy as np

from latticesums.compiled.images import NOWHERE, coincident_pair, list_images
from latticesums.compiled.jit import entry, part, sources
from latticesums.compiled.lattice import (
    counting,
    grid,
    invert,
    most,
    reduce,
    skew,
    split_basis,
    wrap_positions,
    wrapped_length,
)
from latticesums.compiled.plan import COINCIDENT, SINGULAR, TOO_LARGE, TOO_SMALL
from latticesums.compiled.simd import BINS, GROUP, LANES, add_scaled, exponentials, gather_named
from latticesums.plan import MAX_VECTORS, SAME_SPOT

BLOCK = 32  # images whose shells are evaluated together


@part
def _add_images(
    n, columns, vectors, images, squares, codes, degree, centers, inverse_widths,
    inverse_squares, weights, harmonics, sums,
):  # fmt: skip
    """Add the shells of n images to the rows of ``sums``, one per column and harmonic.

    Harmonics of a degree are normalised so that their squares add up to 1: x, y, z; then
    sqrt(3) xy, sqrt(3) yz, (3 z^2 - 1) / 2, sqrt(3) xz, sqrt(3) (x^2 - y^2) / 2.
    """
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


def _make(fingerprint: str) -> Callable:
    """Return the entry, stored on disk under the fingerprint of all sources."""

    @entry
    def add_directed_shells(
        begin, end, positions, offsets, orbits, out_offsets, cells, centers, inverse_widths,
        inverse_squares, cutoff, degree, values,
    ):  # fmt: skip
        """Add the shells of crystals begin..end-1, from the first atom of each orbit, to values.

        Returns:
            (status, crystal, i, j) of the first failure, or zeros.
        """
        fingerprint  # noqa: B018  # pyright: ignore[reportUnusedExpression]
        n_shells, n_harmonics = centers.size, (degree + 1) ** 2
        cell, inverse = np.empty((3, 3)), np.empty((3, 3))
        transform, basis = np.empty((3, 3)), np.empty((2, 3, 3))
        starts, nearest = np.empty(BINS, np.int64), np.empty(LANES)
        weights, harmonics = np.zeros(BLOCK * n_shells + GROUP), np.empty(9)
        most_atoms = most_images = 0
        for c in range(begin, end):
            most_atoms = max(most_atoms, offsets[c + 1] - offsets[c])
        room = most_atoms + LANES
        atoms, vectors = np.zeros((9, room)), np.empty((3, room))
        columns = np.zeros(room, np.int64)
        images, unsorted = np.empty((3, 1)), np.empty((3, 1))
        bins, squares, codes = np.empty(1, np.int64), np.empty(1), np.empty(1, np.int64)
        for c in range(begin, end):
            first, n_atoms = offsets[c], offsets[c + 1] - offsets[c]
            extent = 1.0
            for i in range(3):
                square = 0.0
                for k in range(3):
                    cell[i, k] = cells[c, i, k]
                    square += cell[i, k] ** 2
                extent *= math.sqrt(square)
            if not abs(invert(cell, inverse)) > 1e-10 * extent:
                return SINGULAR, c, 0, 0
            reduce(cell, transform)
            volume = abs(invert(cell, inverse))
            if cell[0, 0] ** 2 + cell[0, 1] ** 2 + cell[0, 2] ** 2 < SAME_SPOT**2:
                return TOO_SMALL, c, 0, 0
            real, _ = counting(cell, inverse, volume)
            wrap = wrapped_length(cell)
            reach = (cutoff + wrap) * (1 + 1e-12)
            n_images = most(real, reach * (1 + 1e-9))
            if not n_images < MAX_VECTORS:
                return TOO_LARGE, c, 0, 0
            if n_images > most_images:
                most_images = int(n_images) + 1
                images, unsorted = np.empty((3, most_images)), np.empty((3, most_images))
                bins, squares = np.empty(most_images, np.int64), np.empty(LANES * (most_images + 1))
                codes = np.empty(LANES * (most_images + 1), np.int64)
            far_off = 0.0
            for i in range(first, first + n_atoms):
                for k in range(3):
                    far_off = max(far_off, abs(positions[i, k]))
            spacing = grid(8 * (2 * far_off + reach + wrap) + skew(cells[c], transform))
            split_basis(cells[c], transform, spacing, basis[0], basis[1])
            wrap_positions(positions, first, n_atoms, basis, inverse, spacing, atoms)
            per_square = list_images(basis, inverse, reach, images, unsorted, bins, starts)
            n_orbits = 0
            for i in range(n_atoms):
                columns[i] = orbits[first + i]
                n_orbits = max(n_orbits, columns[i] + 1)
            row = 0
            for atom in range(n_atoms):
                if columns[atom] != row:
                    continue
                size = n_orbits * n_harmonics * n_shells
                sums = values[out_offsets[c] * n_harmonics * n_shells + row * size :]
                row += 1
                for lane in range(LANES):
                    nearest[lane] = NOWHERE
                for column in range(0, n_atoms, LANES):
                    n = gather_named(
                        atoms, room, atom, column, n_atoms, atom, basis, cutoff, images,
                        images.shape[1], starts, per_square, columns, 0, squares, codes, nearest,
                        vectors, 0,
                    )  # fmt: skip
                    _add_images(
                        n, columns, vectors, images, squares, codes, degree, centers,
                        inverse_widths, inverse_squares, weights, harmonics, sums,
                    )  # fmt: skip
                for lane in range(LANES):
                    if nearest[lane] < SAME_SPOT**2:
                        i, j = coincident_pair(n_atoms, atoms, basis)
                        return COINCIDENT, c, i, j
                n = 0
                for image in range(1, starts[BINS - 1]):
                    x, y, z = images[0, image], images[1, image], images[2, image]
                    squares[n], codes[n] = x * x + y * y + z * z, (image << 32) | atom
                    n += squares[n] < cutoff * cutoff
                for k in range(3):
                    vectors[k, atom] = 0.0
                _add_images(
                    n, columns, vectors, images, squares, codes, degree, centers, inverse_widths,
                    inverse_squares, weights, harmonics, sums,
                )  # fmt: skip
        return 0, 0, 0, 0

    return add_directed_shells


add_directed_shells = _make(sources())
