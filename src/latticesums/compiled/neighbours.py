"""The images of atoms within a distance of each other, as a list."""

from collections.abc import Callable

from latticesums.compiled.jit import part
from latticesums.compiled.memory import line_at, rows_at


@part
def _list_neighbours(points, wraps, lattice, shifts, back, limit, both, room, pairs, steps):
    """Write the pairs and how many given vectors lead to each image; return how many there are."""
    n, count = points.shape[0], 0
    for i in range(n):
        for j in range(0 if both else i, n):
            x = points[j, 0] - points[i, 0]
            y = points[j, 1] - points[i, 1]
            z = points[j, 2] - points[i, 2]
            for image in range(lattice.shape[0]):
                u, v, w = x + lattice[image, 0], y + lattice[image, 1], z + lattice[image, 2]
                if u * u + v * v + w * w >= limit:
                    continue
                a, b, c = shifts[image, 0], shifts[image, 1], shifts[image, 2]
                if i == j and a == 0 and b == 0 and c == 0:
                    continue
                if count < room:
                    a += wraps[i, 0] - wraps[j, 0]
                    b += wraps[i, 1] - wraps[j, 1]
                    c += wraps[i, 2] - wraps[j, 2]
                    pairs[count] = i * n + j
                    for k in range(3):
                        steps[count, k] = a * back[0, k] + b * back[1, k] + c * back[2, k]
                count += 1
    return count


def kernel(fingerprint: str) -> Callable[..., int]:
    """Return what Python calls, stored on disk under the fingerprint of all sources."""

    def list_neighbours(
        n, n_images, both, room, limit, points, wraps, lattice, shifts, back, pairs, steps
    ):
        """List the images within a distance; return how many there are, listed or not."""
        fingerprint  # noqa: B018  # pyright: ignore[reportUnusedExpression]
        return _list_neighbours(
            rows_at(points, n, 3), rows_at(wraps, n, 3), rows_at(lattice, n_images, 3),
            rows_at(shifts, n_images, 3), rows_at(back, 3, 3), limit, both, room,
            line_at(pairs, room), rows_at(steps, room, 3),
        )  # fmt: skip

    return list_neighbours
