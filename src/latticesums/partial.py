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

    With growing radius it becomes what :func:`pair_sums` returns. Powers below 3 have a
    neutralising background there, and so they have within the sphere: images in excess of it are
    balanced on its surface (Wolf et al.), or the sum would never settle, so that each image counts
    ``V(r) - V(radius)``, the background likewise.

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

    References:
        Wolf et al., J. Chem. Phys. 110, 8254 (1999).
    """
    chosen = resolve(potentials)
    positions, cell = near_positions(positions, cell)
    n = len(positions)
    pair, vectors = images_within(positions, cell, radius)
    squares = (vectors * vectors).sum(1)
    # The atom itself, which is no image, is balanced as the images are.
    counts = torch.bincount(pair, minlength=n * n) + torch.eye(n).to(pair).flatten()
    density = 1 / torch.linalg.det(cell).abs()
    columns = []
    for potential in chosen:
        total = positions.new_zeros(n * n).index_add(0, pair, potential.value(squares))
        for coefficient, term in potential.terms:
            if isinstance(term, InversePower) and term.exponent < 3:
                total = total - coefficient * _balance(term.exponent, radius, counts, density)
        columns.append(total)
    return torch.stack(columns, 1) if columns else positions.new_zeros(n * n, 0)


def _balance(power: float, radius: float, counts: Tensor, density: Tensor) -> Tensor:
    """Return what surface and background take from sums of r^-power within a sphere.

    The background is the integral of ``density (r^-power - radius^-power)`` over the sphere.
    """
    surface = counts * radius**-power
    integral = 4 * math.pi * power / (3 * (3 - power)) * radius ** (3 - power)
    return surface + density * integral
