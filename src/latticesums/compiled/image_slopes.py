"""Derivatives by positions and cell of what there is at images of a list."""

from collections.abc import Callable

from latticesums.compiled.jit import part
from latticesums.compiled.memory import fill, line_at, rows_at
from latticesums.compiled.shell_slopes import across


@part
def _pull_image(e, i, j, shifts, distance, direction, along, met, degree, by_positions, by_cell):
    """Add the derivatives by the vector to an image."""
    x, y, z = direction
    pull = across(x, y, z, 1 / distance, along, degree, met)
    for k in range(3):
        by_positions[j[e], k] += pull[k]
        by_positions[i[e], k] -= pull[k]
        for axis in range(3):
            by_cell[axis, k] += shifts[e, axis] * pull[k]


def kernel(fingerprint: str) -> Callable[..., int]:
    """Return what Python calls, stored on disk under the fingerprint of all sources."""

    def pull_image_shells(
        n_atoms, n_images, n_shells, degree, i, j, shifts, slopes, distances, directions,
        by_shells, by_harmonics, by_positions, by_cell,
    ):  # fmt: skip
        """Write the derivatives of a loss by positions and cell; return how many images there are.

        ``by_shells`` and ``by_harmonics`` are those by what there is at images.
        """
        fingerprint  # noqa: B018  # pyright: ignore[reportUnusedExpression]
        gradient, of_cell = rows_at(by_positions, n_atoms, 3), rows_at(by_cell, 3, 3)
        fill(line_at(by_positions, 3 * n_atoms), 0.0)
        fill(line_at(by_cell, 9), 0.0)
        falls, loss = rows_at(slopes, n_images, n_shells), rows_at(by_shells, n_images, n_shells)
        met = rows_at(by_harmonics, n_images, (degree + 1) ** 2)
        far, to = line_at(distances, n_images), rows_at(directions, n_images, 3)
        first, second, steps = (
            line_at(i, n_images),
            line_at(j, n_images),
            rows_at(shifts, n_images, 3),
        )
        for e in range(n_images):
            along = 0.0
            for k in range(n_shells):
                along += loss[e, k] * falls[e, k]
            _pull_image(
                e, first, second, steps, far[e], (to[e, 0], to[e, 1], to[e, 2]), along, met[e],
                degree, gradient, of_cell,
            )  # fmt: skip
        return n_images

    return pull_image_shells
