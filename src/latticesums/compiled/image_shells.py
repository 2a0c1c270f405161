"""Gaussian shells and harmonics of the direction at images of a list."""

import math
from collections.abc import Callable

from latticesums.compiled.jit import part
from latticesums.compiled.memory import fill, line_at, memory_of, numbers, rows_at, used
from latticesums.compiled.simd import GROUP, exponentials


@part
def _write_vector(e, i, j, shifts, positions, cell, directions):
    """Write the direction from i to an image of j, and return its distance."""
    square = 0.0
    for k in range(3):
        step = positions[j[e], k] - positions[i[e], k]
        for axis in range(3):
            step += shifts[e, axis] * cell[axis, k]
        directions[e, k] = step
        square += step * step
    distance = math.sqrt(square)
    for k in range(3):
        directions[e, k] /= distance
    return distance


@part
def _write_shells(distance, centers, factors, width, cutoff, smallest, room, values, slopes):
    """Write the shells at a distance, and their slopes; Gaussians below the smallest are 0."""
    n_shells, ratio = centers.size, distance / cutoff
    for k in range(n_shells):
        x = (distance - centers[k]) / width
        room[k] = -x * x
    exponentials(room, n_shells, room)
    edge = max(1 - ratio * ratio, 0.0)
    fall = -6 / (cutoff * cutoff) * distance * edge * edge
    for k in range(n_shells):
        gaussian = room[k] * factors[k] if room[k] >= smallest else 0.0
        values[k] = gaussian * edge * edge * edge
        slopes[k] = -2 / width * ((distance - centers[k]) / width) * values[k] + gaussian * fall


@part
def _write_harmonics(x, y, z, degree, harmonics):
    """Write the real solid harmonics of a direction up to a degree."""
    root = math.sqrt(3.0)
    harmonics[0] = 1.0
    if degree > 0:
        harmonics[1], harmonics[2], harmonics[3] = x, y, z
    if degree > 1:
        harmonics[4], harmonics[5], harmonics[7] = root * x * y, root * y * z, root * x * z
        harmonics[6], harmonics[8] = 1.5 * z * z - 0.5, 0.5 * root * (x * x - y * y)


def kernel(fingerprint: str) -> Callable[..., int]:
    """Return what Python calls, stored on disk under the fingerprint of all sources."""

    def image_shells(
        n_atoms, n_images, n_shells, degree, width, cutoff, smallest, positions, cell, i, j,
        shifts, centers, factors, values, slopes, distances, directions, harmonics, floats, words,
        size,
    ):  # fmt: skip
        """Write shells and harmonics at images; return 0, or the room that is needed."""
        fingerprint  # noqa: B018  # pyright: ignore[reportUnusedExpression]
        memory = memory_of(floats, words)
        room = numbers(memory, n_shells + GROUP)
        if used(memory) > size:
            return used(memory)
        fill(room, 0.0)
        shells, falls = rows_at(values, n_images, n_shells), rows_at(slopes, n_images, n_shells)
        far, to = line_at(distances, n_images), rows_at(directions, n_images, 3)
        angles = rows_at(harmonics, n_images, (degree + 1) ** 2)
        first, second, steps = (
            line_at(i, n_images),
            line_at(j, n_images),
            rows_at(shifts, n_images, 3),
        )
        points, rows = rows_at(positions, n_atoms, 3), rows_at(cell, 3, 3)
        middles, scales = line_at(centers, n_shells), line_at(factors, n_shells)
        for e in range(n_images):
            far[e] = _write_vector(e, first, second, steps, points, rows, to)
            _write_shells(
                far[e], middles, scales, width, cutoff, smallest, room, shells[e], falls[e]
            )
            _write_harmonics(to[e, 0], to[e, 1], to[e, 2], degree, angles[e])
        return 0

    return image_shells
