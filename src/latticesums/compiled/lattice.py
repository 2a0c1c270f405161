"""Lattices: a reduced basis, numbers of points in balls, and the bounds that follow from them.

The number of lattice points in a ball about any centre obeys

    Vol(B(r - mu)) / V <= N(r) <= [V + 2 r (l1 l2 + l1 l3 + l2 l3) + pi r^2 (l1 + l2 + l3)
                                   + 4 pi r^3 / 3] / V,

l the Gram-Schmidt lengths and mu = |l| / 2 (the centred Gram-Schmidt box tiles space; Steiner).
"""

import math

import numpy as np

from latticesums.compiled.jit import part

PI = math.pi


@part
def reduce(cell, transform):
    """Make the rows of ``cell`` a Minkowski-reduced basis, in place (Semaev 2001).

    Writes the integers that take the given cell to the reduced one.
    """
    for i in range(3):
        for k in range(3):
            transform[i, k] = 1.0 if i == k else 0.0
    for _ in range(1000):
        for _ in range(2):
            for i in range(2):
                if (
                    cell[i, 0] ** 2 + cell[i, 1] ** 2 + cell[i, 2] ** 2
                    > cell[i + 1, 0] ** 2 + cell[i + 1, 1] ** 2 + cell[i + 1, 2] ** 2
                ):
                    for k in range(3):
                        cell[i, k], cell[i + 1, k] = cell[i + 1, k], cell[i, k]
                        old, new = transform[i + 1, k], transform[i, k]
                        transform[i, k], transform[i + 1, k] = old, new
        aa = bb = cc = ab = ac = bc = 0.0
        for k in range(3):
            aa += cell[0, k] * cell[0, k]
            ab += cell[0, k] * cell[1, k]
        m = np.floor(ab / aa + 0.5)
        if abs(ab) > 0.5 * aa * (1 + 1e-12):
            for k in range(3):
                cell[1, k] -= m * cell[0, k]
                transform[1, k] -= m * transform[0, k]
            continue
        for k in range(3):
            bb += cell[1, k] * cell[1, k]
            cc += cell[2, k] * cell[2, k]
            ac += cell[0, k] * cell[2, k]
            bc += cell[1, k] * cell[2, k]
        det = aa * bb - ab * ab
        first = np.floor((ac * bb - bc * ab) / det + 0.5)
        second = np.floor((bc * aa - ac * ab) / det + 0.5)
        best, best_i, best_j = cc * (1 - 1e-12), 0.0, 0.0
        for di in range(-1, 2):
            for dj in range(-1, 2):
                i, j = first + di, second + dj
                length = cc + i * i * aa + j * j * bb - 2 * (i * ac + j * bc - i * j * ab)
                if length < best:
                    best, best_i, best_j = length, i, j
        if best_i == 0 and best_j == 0:
            return
        for k in range(3):
            cell[2, k] -= best_i * cell[0, k] + best_j * cell[1, k]
            transform[2, k] -= best_i * transform[0, k] + best_j * transform[1, k]


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
    """Return (A1, A2, mu, V, shortest) of the lattice and of its reciprocal, for the bounds.

    No vector is shorter than the last: k b_i / (2 pi) is an integer, and not 0 for all three i.
    """
    aa = cc = dd = 0.0
    for k in range(3):
        aa += cell[0, k] * cell[0, k]
        cc += inverse[k, 2] * inverse[k, 2]
        dd += cell[2, k] * cell[2, k]
    l1, l3 = math.sqrt(aa), 1 / math.sqrt(cc)
    shortest = 2 * PI / math.sqrt(dd)
    l2 = volume / (l1 * l3)
    mu = 0.5 * math.sqrt(l1 * l1 + l2 * l2 + l3 * l3)
    real = (PI * (l1 + l2 + l3), 2 * (l1 * l2 + l1 * l3 + l2 * l3), mu, volume, l1)
    l1, l2, l3 = 2 * PI / l1, 2 * PI / l2, 2 * PI / l3
    mu = 0.5 * math.sqrt(l1 * l1 + l2 * l2 + l3 * l3)
    recip = (PI * (l1 + l2 + l3), 2 * (l1 * l2 + l1 * l3 + l2 * l3), mu, l1 * l2 * l3, shortest)
    return real, recip


@part
def most(count, r):
    """Return the largest possible number of lattice points in a ball of radius r."""
    a1, a2, _, volume, _ = count
    return 1 + r * (a2 + r * (a1 + r * (4 * PI / 3))) / volume


@part
def at_edge(count, r):
    """Return how many points may lie on the edge, for all that is known: most minus least."""
    inner = max(r - count[2], 0.0)
    return most(count, r) - 4 * PI / 3 * inner**3 / count[3]


@part
def gaussian_tail(count, r, rate):
    """Return the bound of sum_{|y|>r} f(|y|) / f(r) if f falls like exp(-rate (y^2 - r^2))."""
    a1, a2, _, volume, _ = count
    half = 0.5 / rate
    integral = a2 * half / r + 2 * a1 * half + 4 * PI * (r * half + half * half / r)
    return at_edge(count, r) + integral / volume


@part
def exponential_tail(count, r, a):
    """Return the bound of sum_{|y|>r} exp(-a |y|)."""
    a1, a2, _, volume, _ = count
    b = 1 / a
    integral = b * (a2 + 2 * a1 * (r + b) + 4 * PI * (r * r + 2 * b * (r + b)))
    return math.exp(-a * r) * (at_edge(count, r) + integral / volume)


@part
def other_images(cell, inverse, volume):
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
    real, _ = counting(cell, inverse, volume)
    a1, a2, _, _, _ = real
    integral = a2 / 5 + r * (a1 / 2 + r * (4 * PI / 3))
    return r, (most(real, r) / r + integral / volume) / r**5


@part
def wrap_positions(positions, first, n_atoms, basis, inverse, spacing, atoms):
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
