"""Derivatives of sums of directed shells, from those of a loss by the sums."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticesums.compiled.jit import part
from latticesums.compiled.memory import fill, line_at, memory_of, numbers, rows_at, rows_of, used
from latticesums.compiled.simd import GROUP, exponentials

Floats = NDArray[np.float64]

BLOCK = 32  # images whose shells are evaluated together


class _Room(NamedTuple):
    """What is written for some images at a time.

    Attributes:
        weights: Shells at the images; ``slopes`` by distance.
        loss: Of the pair of an image, there and back, a row for each harmonic.
        met: Its rows times the shells of an image.
    """

    weights: Floats
    slopes: Floats
    loss: Floats
    met: Floats


@part
def _write_shells(squares, first, last, centers, inverse_widths, inverse_squares, room):
    """Write the shells at images, and their slopes."""
    n_shells = centers.size
    for t in range(first, last):
        distance, at = math.sqrt(squares[t]), (t - first) * n_shells
        for k in range(n_shells):
            x = (distance - centers[k]) * inverse_widths[k]
            room.weights[at + k] = -x * x
    exponentials(room.weights, (last - first) * n_shells, room.weights)
    for t in range(first, last):
        distance, at = math.sqrt(squares[t]), (t - first) * n_shells
        for k in range(n_shells):
            edge = max(1 - squares[t] * inverse_squares[k], 0.0)
            x = (distance - centers[k]) * inverse_widths[k]
            fall = -2 * edge * (x * inverse_widths[k]) - 6 * distance * inverse_squares[k]
            gaussian = room.weights[at + k] * edge * edge
            room.slopes[at + k] = gaussian * fall
            room.weights[at + k] = gaussian * edge


@part
def _take_loss(loss, there, back, degree, room):
    """Write the loss of a pair in both directions; harmonics of degree 1 turn round on the way."""
    n_harmonics, n_shells = (degree + 1) ** 2, room.loss.shape[1]
    for m in range(n_harmonics):
        sign = 0.0 if there == back else (-1.0 if 1 <= m < 4 else 1.0)
        for k in range(n_shells):
            other = loss[back * n_harmonics + m, k]
            room.loss[m, k] = loss[there * n_harmonics + m, k] + sign * other


@part
def _meet(shells, at, n_harmonics, room):
    """Write the loss times the shells of one image, for each harmonic."""
    for m in range(n_harmonics):
        total = 0.0
        for k in range(room.loss.shape[1]):
            total += room.loss[m, k] * shells[at + k]
        room.met[m] = total


@part
def across(x, y, z, inverse, along, degree, met):
    """Return the derivative by a vector in the direction x, y, z, 1 / inverse long.

    ``along`` is that by its length and ``met`` those by harmonics of the direction. Harmonics are
    polynomials of the direction, and what of their gradients is along it drops out.
    """
    root = math.sqrt(3.0)
    u = v = w = 0.0
    if degree > 0:
        u, v, w = met[1], met[2], met[3]
    if degree > 1:
        u += root * (y * met[4] + z * met[7] + x * met[8])
        v += root * (x * met[4] + z * met[5] - y * met[8])
        w += root * (y * met[5] + x * met[7]) + 3 * z * met[6]
    along -= inverse * (u * x + v * y + w * z)
    return along * x + inverse * u, along * y + inverse * v, along * z + inverse * w


@part
def _pull(x, y, z, inverse, at, degree, room):
    """Return the derivative by the vector to an image in the direction x, y, z."""
    n_harmonics, root, met = (degree + 1) ** 2, math.sqrt(3.0), room.met
    _meet(room.slopes, at, n_harmonics, room)
    along = met[0]
    if degree > 0:
        along += x * met[1] + y * met[2] + z * met[3]
    if degree > 1:
        along += root * (x * y * met[4] + y * z * met[5] + x * z * met[7])
        along += (1.5 * z * z - 0.5) * met[6] + 0.5 * root * (x * x - y * y) * met[8]
    _meet(room.weights, at, n_harmonics, room)
    return across(x, y, z, inverse, along, degree, met)


@part
def _pull_images(
    n_atoms, degree, pairs, vectors, squares, centers, inverse_widths, inverse_squares, loss,
    gradient, strain, room,
):  # fmt: skip
    """Add the derivatives by the vectors to all images."""
    before = -1
    for first in range(0, pairs.size, BLOCK):
        last = min(first + BLOCK, pairs.size)
        _write_shells(squares, first, last, centers, inverse_widths, inverse_squares, room)
        for t in range(first, last):
            i, j = pairs[t] // n_atoms, pairs[t] % n_atoms
            if pairs[t] != before:
                before = pairs[t]
                _take_loss(loss, before, j * n_atoms + i, degree, room)
            inverse = 1 / math.sqrt(squares[t])
            x, y, z = vectors[t, 0] * inverse, vectors[t, 1] * inverse, vectors[t, 2] * inverse
            pull = _pull(x, y, z, inverse, (t - first) * centers.size, degree, room)
            for k in range(3):
                gradient[j, k] += pull[k]
                gradient[i, k] -= pull[k]
                for l in range(3):
                    strain[l, k] += pull[k] * vectors[t, l]  # not symmetric: directions turn


def kernel(fingerprint: str) -> Callable[..., int]:
    """Return what Python calls, stored on disk under the fingerprint of all sources."""

    def pull_shells(
        n_atoms, n_images, n_shells, degree, pairs, vectors, squares, centers, inverse_widths,
        inverse_squares, loss, gradient, strain, floats, words, size,
    ):  # fmt: skip
        """Write the derivatives of a loss by positions and by strain; ``loss`` is that by sums.

        Images are those of i <= j, ``pairs`` i n_atoms + j. Returns 0, or the room that is needed.
        """
        fingerprint  # noqa: B018  # pyright: ignore[reportUnusedExpression]
        memory = memory_of(floats, words)
        n_harmonics = (degree + 1) ** 2
        room = _Room(
            weights=numbers(memory, BLOCK * n_shells + GROUP),
            slopes=numbers(memory, BLOCK * n_shells),
            loss=rows_of(memory, n_harmonics, n_shells),
            met=numbers(memory, 9),
        )
        if used(memory) > size:
            return used(memory)
        fill(room.weights, 0.0)
        by_positions, by_strain = rows_at(gradient, n_atoms, 3), rows_at(strain, 3, 3)
        fill(line_at(gradient, 3 * n_atoms), 0.0)
        fill(line_at(strain, 9), 0.0)
        _pull_images(
            n_atoms, degree, line_at(pairs, n_images), rows_at(vectors, n_images, 3),
            line_at(squares, n_images), line_at(centers, n_shells),
            line_at(inverse_widths, n_shells), line_at(inverse_squares, n_shells),
            rows_at(loss, n_atoms * n_atoms * n_harmonics, n_shells), by_positions, by_strain,
            room,
        )  # fmt: skip
        return 0

    return pull_shells
