"""Sums over the images within a distance: what complete sums are made of, near and far."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from latticesums.neighbours import images_within, near_positions
from latticesums.potentials import InversePower, Potential, resolve


def partial_sums(
    positions: Tensor, cell: Tensor, potentials: Sequence[Potential | str], *, radius: float
) -> Tensor:
    """Return the sum of ``V(|r_j + L - r_i|)`` over the images within a radius, for all pairs.

    With growing radius it becomes what :func:`pair_sums` returns. Of powers below 3, which grow
    without end, the mean growth is taken away, as it is there: the integral of V over the sphere
    divided by the volume of the cell, which is the share of the neutralising background that lies
    within the radius.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3).
        cell: Lattice vectors as rows in Å, shape (3, 3).
        potentials: Potentials or their names.
        radius: Largest distance in Å.

    Returns:
        One row per pair, i slow and j fast, shape (n_atoms^2, n_potentials), float64.

    Raises:
        StructureError: If the cell is singular, or so thin that there are too many images.
        ConfigError: If a potential is unknown.
    """
    chosen = resolve(potentials)
    positions, cell = near_positions(positions, cell)
    pair, vectors = images_within(positions, cell, radius)
    squares = (vectors * vectors).sum(1)
    volume = torch.linalg.det(cell).abs()
    columns = [
        positions.new_zeros(len(positions) ** 2).index_add(0, pair, potential.value(squares))
        - _growth(potential, radius) / volume
        for potential in chosen
    ]
    return torch.stack(columns, 1)


def _growth(potential: Potential, radius: float) -> float | Tensor:
    """Return the integral over a sphere of what of V does not fall off fast enough, Å^3 V."""
    grown: float | Tensor = 0.0
    for coefficient, term in potential.terms:
        if isinstance(term, InversePower) and term.exponent < 3:
            left = 3 - term.exponent
            grown = grown + coefficient * (4 * math.pi / left * radius**left)
    return grown
