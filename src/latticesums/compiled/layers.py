"""Images of long cells: in layers, so that a search meets those near a pair, whatever its length.

A cell 3 x 3 x 200 has thousands of images in the ball about its longest pair vector, and some
twenty within reach of it. The two shorter vectors of the reduced basis span layers. A search looks
at the layers that come near enough, and in each at the images beside the pair vector.
"""

import math

import numpy as np

from latticesums.compiled.jit import part
from latticesums.compiled.simd import BINS, LANES, NO_ATOM, search_images, wrap

SLACK = 1e-9  # of a layer or a height; what rounding may do to an edge


@part
def list_layers(basis, inverse, height, reach, beside, images, unsorted, bins, starts):
    """List the lattice vectors of layers, those of each in bins of squared length along it.

    Layers are 0, 1, -1, 2, .. as long as one of their images is within ``reach`` of a wrapped
    vector, which is ``beside`` long within a layer at most. The zero vector is the first.

    Returns:
        Bins per Å^2, and the number of vectors. ``starts[BINS l + b]`` is the number of vectors
        before bin b of the l-th layer, and the last bin of a layer is empty.
    """
    high, low = basis[0], basis[1]
    limit = (reach + beside) ** 2
    per_square = (BINS - 2) / limit
    a0, a1, a2 = high[0, 0] + low[0, 0], high[0, 1] + low[0, 1], high[0, 2] + low[0, 2]
    b0, b1, b2 = high[1, 0] + low[1, 0], high[1, 1] + low[1, 1], high[1, 2] + low[1, 2]
    square = height * height  # of the third vector, along a layer
    c0 = high[2, 0] + low[2, 0] - square * inverse[0, 2]
    c1 = high[2, 1] + low[2, 1] - square * inverse[1, 2]
    c2 = high[2, 2] + low[2, 2] - square * inverse[2, 2]
    inverse_aa = 1 / (a0 * a0 + a1 * a1 + a2 * a2)
    d0, d1, d2 = inverse[0, 1], inverse[1, 1], inverse[2, 1]
    drift = square * (d0 * inverse[0, 2] + d1 * inverse[1, 2] + d2 * inverse[2, 2])
    spread = math.sqrt(limit * (d0 * d0 + d1 * d1 + d2 * d2)) + SLACK
    top = int(reach / height + 0.5 + 1e-6)
    images[0, 0] = images[1, 0] = images[2, 0] = 0.0
    n = 0
    for layer in range(2 * top + 1):
        i, line, first = (layer + 1) // 2 * (1 if layer % 2 == 1 else -1), layer * BINS, n
        for b in range(BINS):
            starts[line + b] = 0
        if layer == 0:
            bins[0] = 0
            starts[line + 1] = 1
            n = 1
        center = i * drift
        for j in range(int(np.ceil(center - spread)), int(np.floor(center + spread)) + 1):
            x, y, z = i * c0 + j * b0, i * c1 + j * b1, i * c2 + j * b2
            middle = -(x * a0 + y * a1 + z * a2) * inverse_aa
            room = (limit - (x * x + y * y + z * z)) * inverse_aa + middle * middle
            if room < 0:
                continue
            half = math.sqrt(room) + SLACK
            for l in range(int(np.ceil(middle - half)), int(np.floor(middle + half)) + 1):
                u, v, w = x + l * a0, y + l * a1, z + l * a2
                along = u * u + v * v + w * w
                if along > limit or (i == 0 and j == 0 and l == 0):
                    continue
                for k in range(3):
                    on_grid = i * high[2, k] + j * high[1, k] + l * high[0, k]
                    unsorted[k, n] = on_grid + (i * low[2, k] + j * low[1, k] + l * low[0, k])
                bins[n] = min(int(along * per_square), BINS - 3)
                starts[line + bins[n] + 1] += 1
                n += 1
        starts[line] = first
        for b in range(BINS - 1):
            starts[line + b + 1] += starts[line + b]
        for m in range(first + (layer == 0), n):  # a bin is filled from its end
            b = bins[m]
            starts[line + b + 1] -= 1
            for k in range(3):
                images[k, starts[line + b + 1]] = unsorted[k, m]
        for b in range(1, BINS - 2):  # what is an end less the bin is where it begins
            starts[line + b] = starts[line + b + 1]
        starts[line + BINS - 2] = starts[line + BINS - 1] = n
    return per_square, n


@part
def gather_layers(
    row, column, n_atoms, reach, inverse, height, per_square, line, squares, codes, n, work
):
    """Append what ``gather`` appends, in a long cell whose atoms are sorted by height.

    Rounding decides about an image at the very edge of the reach, and about nothing else.
    """
    atoms, vectors, starts = work.atoms, work.vectors, work.starts
    step, left_out = atoms.shape[1], work.rows[row]
    last = min(column + LANES, n_atoms)
    lowest = atoms[2, column] - atoms[2, left_out]
    highest = atoms[2, last - 1] - atoms[2, left_out]
    far = reach / height + SLACK
    near = False
    for i in range(-1, 2):
        near = near or (lowest + i <= far and highest + i >= -far)
    if not near:
        return n
    wrap(atoms, step, left_out, column, n_atoms, left_out, work.basis, work.nearest, vectors)
    lowest, highest, beside = math.inf, -math.inf, 0.0
    x, y, z = height * inverse[0, 2], height * inverse[1, 2], height * inverse[2, 2]
    for lane in range(column, last):
        u, v, w = vectors[0, lane], vectors[1, lane], vectors[2, lane]
        if u == NO_ATOM:
            continue
        along = u * x + v * y + w * z
        lowest, highest = min(lowest, along), max(highest, along)
        u, v, w = u - along * x, v - along * y, w - along * z
        beside = max(beside, u * u + v * v + w * w)
    if lowest > highest:
        return n
    beside = math.sqrt(beside)
    first = int(np.ceil((-reach - highest) / height - SLACK))
    for i in range(first, int(np.floor((reach - lowest) / height + SLACK)) + 1):
        gap = max(lowest + i * height, -(highest + i * height), 0.0)
        across = (math.sqrt(max(reach * reach - gap * gap, 0.0)) + beside) * (1 + SLACK)
        at = (2 * i - 1 if i > 0 else -2 * i) * BINS
        end = min(int(across * across * per_square) + 1, BINS - 1)
        n = search_images(
            vectors, step, column, reach, work.images, work.images.shape[1], starts[at],
            starts[at + end], work.slots, line, squares, codes, n,
        )  # fmt: skip
    return n
