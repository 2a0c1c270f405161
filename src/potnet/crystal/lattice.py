"""Triangular bases of integer lattices, for counting."""

from __future__ import annotations

import math


def integer_basis(rows: list[list[int]]) -> list[list[int]]:
    """Return an upper triangular basis with positive diagonal of the lattice of integer ``rows``.

    Rows of a singular lattice give fewer than three rows (Hermite's normal form, not reduced
    above the diagonal).
    """
    rows = [list(row) for row in rows]
    basis = []
    for column in range(3):
        while True:
            live = sorted((r for r in rows if r[column]), key=lambda r: abs(r[column]))
            if len(live) < 2:
                break
            for row in live[1:]:
                factor = row[column] // live[0][column]
                row[:] = [a - factor * b for a, b in zip(row, live[0], strict=True)]
        if live:
            pivot = live[0]
            rows = [r for r in rows if r is not pivot]
            basis.append([-a for a in pivot] if pivot[column] < 0 else pivot)
    return basis


def determinant(basis: list[list[int]]) -> int:
    """Return the determinant of the upper triangular ``basis``."""
    return math.prod(basis[k][k] for k in range(3))
