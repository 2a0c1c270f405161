"""Lattices in compiled code: the reduction and the bounds are those of the whole package."""

import math

import numpy as np

from latticesums import bounds
from latticesums.bounds import Lattice, at_edge, power_tail
from latticesums.compiled.jit import part, shared
from latticesums.lattice import reduce_in_place

PI = math.pi
LONG = 4.0  # times as long as the second vector of a reduced basis is a cell that has layers

for function in (
    reduce_in_place,
    bounds.most,
    bounds.least,
    bounds.at_edge,
    bounds.gaussian_tail,
    bounds.exponential_tail,
    bounds.power_tail,
):
    shared(function)


@part
def grid(size):
    """Return a power of two on whose multiples sums of numbers up to ``size`` are exact."""
    return 2.0 ** (math.ceil(math.log2(size)) - 52)


@part
def split_basis(given, transform, grid, high, low):
    """Write the reduced basis, ``transform @ given``, as multiples of the grid and a small rest."""
    for i in range(3):
        for k in range(3):
            high[i, k] = low[i, k] = 0.0
            for j in range(3):
                part = np.floor(given[j, k] / grid + 0.5) * grid
                high[i, k] += transform[i, j] * part
                low[i, k] += transform[i, j] * (given[j, k] - part)


@part
def skew(given, transform):
    """Return a bound of all numbers that are met when the reduced basis is formed."""
    most = 0.0
    for i in range(3):
        for j in range(3):
            for k in range(3):
                most = max(most, abs(transform[i, j] * given[j, k]))
    return 4 * most


@part
def invert(cell, inverse):
    """Write the inverse of a 3x3 matrix and return its determinant."""
    for i in range(3):
        a, b = (i + 1) % 3, (i + 2) % 3
        for j in range(3):
            c, d = (j + 1) % 3, (j + 2) % 3
            inverse[j, i] = cell[a, c] * cell[b, d] - cell[a, d] * cell[b, c]
    det = 0.0
    for k in range(3):
        det += cell[0, k] * inverse[k, 0]
    for i in range(3):
        for j in range(3):
            inverse[i, j] /= det
    return det


@part
def counting(cell, inverse, volume):
    """Return the counts of the lattice and of its reciprocal, and a length.

    No wave vector is shorter than that: k b_i / (2 pi) is an integer, and not 0 for all three i.
    """
    aa = cc = dd = 0.0
    for k in range(3):
        aa += cell[0, k] * cell[0, k]
        cc += inverse[k, 2] * inverse[k, 2]
        dd += cell[2, k] * cell[2, k]
    l1, l3 = math.sqrt(aa), 1 / math.sqrt(cc)
    l2 = volume / (l1 * l3)
    real = _counts(l1, l2, l3, volume)
    l1, l2, l3 = 2 * PI / l1, 2 * PI / l2, 2 * PI / l3
    return real, _counts(l1, l2, l3, l1 * l2 * l3), 2 * PI / math.sqrt(dd)


@part
def _counts(l1, l2, l3, volume):
    faces, edges = 2 * (l1 * l2 + l1 * l3 + l2 * l3), PI * (l1 + l2 + l3)
    covering = 0.5 * math.sqrt(l1 * l1 + l2 * l2 + l3 * l3)
    solid = 4 * PI / 3
    return Lattice(volume, faces, edges, solid, covering, 3)  # pyright: ignore[reportArgumentType]


@part
def other_images(inverse, real):
    """Bound the images of a wrapped vector: all but the vector itself, for the rounding error.

    An image differs from it by an integer in a fractional coordinate, which the wrap has brought
    to 1/2 at most.

    Returns:
        The smallest distance they can have, and the largest sum of r^-6 (docs/theory.md, eq. 34).
    """
    steepest = 0.0
    for k in range(3):
        square = inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2
        steepest = max(steepest, square)
    r = 0.5 / math.sqrt(steepest)
    return r, power_tail(real, r, 6)


@part
def inverse_distances(real, nearest, reach):
    """Bound the sum of 1 / r over the points from ``nearest`` to ``reach`` (eq. 18)."""
    far = max(reach, nearest)
    total = real.faces * math.log(far / nearest) + 2 * real.edges * (far - nearest)
    total += 1.5 * real.solid * (far * far - nearest * nearest)
    return at_edge(real, nearest) / nearest + total / real.volume


@part
def layer_height(cell, inverse, cutoff):
    """Return the distance of the layers of a long cell, or 0 if it is not long.

    Images of a long cell within reach are those of a few layers, each spanned by the two shorter
    vectors; a ball about the longest pair vector holds many more.
    """
    height = 1 / math.sqrt(inverse[0, 2] ** 2 + inverse[1, 2] ** 2 + inverse[2, 2] ** 2)
    second = math.sqrt(cell[1, 0] ** 2 + cell[1, 1] ** 2 + cell[1, 2] ** 2)
    return height if height > max(LONG * second, cutoff) else 0.0


@part
def layer_sizes(cell, inverse, height, reach):
    """Return what a list of the images in layers within reach of all wrapped vectors needs.

    Returns:
        Number of layers; largest length within a layer of a wrapped vector; and a bound of the
        vectors of one layer (docs/theory.md, eq. 17 in two dimensions).
    """
    aa = ab = bb = 0.0
    across = 0.0
    for k in range(3):
        aa += cell[0, k] * cell[0, k]
        ab += cell[0, k] * cell[1, k]
        bb += cell[1, k] * cell[1, k]
        across += (cell[2, k] - height * height * inverse[k, 2]) ** 2
    beside = 0.5 * (math.sqrt(aa) + math.sqrt(bb) + math.sqrt(across)) * (1 + 1e-9)
    first, area = math.sqrt(aa), math.sqrt(aa * bb - ab * ab)
    r = (reach + beside) * (1 + 1e-9)
    n_layers = 2.0 * math.floor(reach / height + 0.5 + 1e-6) + 1
    return n_layers, beside, 1 + (2 * r * (first + area / first) + PI * r * r) / area


@part
def sort_by_height(n_atoms, atoms, order, row):
    """Sort atoms by their third fractional coordinate; write the number of each to ``order``.

    Four that are neighbours then have images in the same layers. ``row`` is room for a row.
    """
    for i in range(1, n_atoms):
        atom, j = order[i], i
        height = atoms[2, atom]
        while j > 0 and atoms[2, order[j - 1]] > height:
            order[j] = order[j - 1]
            j -= 1
        order[j] = atom
    for k in range(atoms.shape[0]):
        for i in range(n_atoms):
            row[i] = atoms[k, order[i]]
        for i in range(n_atoms):
            atoms[k, i] = row[i]


@part
def place_atoms(given, transform, inverse, positions, rests, first, n_atoms, reach, work):
    """Write the basis and the atoms of a crystal on a grid on which they add up without rounding.

    The grid is large enough for all partial sums up to ``reach`` and beyond: a reduced basis is
    not far from orthogonal.
    """
    far_off = 0.0
    for i in range(first, first + n_atoms):
        for k in range(3):
            far_off = max(far_off, abs(positions[i, k]))
    spacing = grid(8 * (2 * far_off + reach) + skew(given, transform))
    split_basis(given, transform, spacing, work.basis[0], work.basis[1])
    wrap_positions(positions, rests, first, n_atoms, work.basis, inverse, spacing, work.atoms)


@part
def wrap_positions(positions, rests, first, n_atoms, basis, inverse, spacing, atoms):
    """Write what ``gather`` reads of each atom.

    Fractional coordinates in [-1/2, 1/2] but for rounding; positions from the first atom as
    multiples of the grid, wrapped; their rests.
    """
    for i in range(n_atoms):
        for k in range(3):
            x, x0 = positions[first + i, k], positions[first, k]
            on_grid = np.floor(x / spacing + 0.5) * spacing
            origin = np.floor(x0 / spacing + 0.5) * spacing
            atoms[3 + k, i] = on_grid - origin
            atoms[6 + k, i] = (x - on_grid) - (x0 - origin)
            if rests.size > 0:
                atoms[6 + k, i] += rests[first + i, k] - rests[first, k]
        x, y, z = atoms[3, i], atoms[4, i], atoms[5, i]
        a = np.floor(x * inverse[0, 0] + y * inverse[1, 0] + z * inverse[2, 0] + 0.5)
        b = np.floor(x * inverse[0, 1] + y * inverse[1, 1] + z * inverse[2, 1] + 0.5)
        c = np.floor(x * inverse[0, 2] + y * inverse[1, 2] + z * inverse[2, 2] + 0.5)
        for half in range(2):
            for k in range(3):
                shift = a * basis[half, 0, k] + b * basis[half, 1, k] + c * basis[half, 2, k]
                atoms[3 + 3 * half + k, i] -= shift
        # an atom that was many cells away has a rest that counts
        x, y, z = atoms[3, i] + atoms[6, i], atoms[4, i] + atoms[7, i], atoms[5, i] + atoms[8, i]
        for k in range(3):
            atoms[k, i] = x * inverse[0, k] + y * inverse[1, k] + z * inverse[2, k]


@part
def wrapped_length(cell):
    """Return the largest length of a vector whose coordinates in a basis lie in [-1/2, 1/2]."""
    longest = 0.0
    for i in range(-1, 2, 2):
        for j in range(-1, 2, 2):
            square = 0.0
            for k in range(3):
                square += (cell[0, k] + i * cell[1, k] + j * cell[2, k]) ** 2
            longest = max(longest, 0.5 * math.sqrt(square))
    return longest
