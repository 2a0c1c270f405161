"""Shells with a direction, of all pairs of one crystal, and their derivatives.

On the CPU in float64 values and first derivatives are compiled; further ones go through the tape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latticesums.compiled import sums as compiled
from latticesums.compiled.calls import address, in_memory
from latticesums.compiled.machine_code import kernel
from latticesums.formulas import cell_gradients
from latticesums.neighbours import images_within, near_positions
from latticesums.potentials import Shell

Array = NDArray[np.float64]


def directed_shells(
    positions: Tensor,
    cell: Tensor,
    shells: Sequence[Shell],
    *,
    degree: int,
    within: float = math.inf,
) -> Tensor:
    """Return shells times all harmonics up to a degree of all pairs of one crystal.

    The differentiable sibling of :func:`orbit_shells`, each atom an orbit of its own: any
    number of derivatives with respect to positions and cell.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3).
        cell: Lattice vectors as rows in Å, shape (3, 3).
        shells: What to sum.
        degree: Highest degree, 0 to 2.
        within: Leave out images beyond this distance, Å; those that shells reach, by default.

    Returns:
        Shape (n_atoms^2, (degree + 1)^2, n_shells), i slow and j fast.
    """
    if not shells:
        return positions.new_zeros(len(positions) ** 2, (degree + 1) ** 2, 0)
    reach = max(float(shell.cutoff) for shell in shells)
    if within >= reach and _has_formulas(positions, cell, shells):
        return _DirectedShells.apply(positions, cell, tuple(shells), degree)  # type: ignore[no-any-return]
    return _taped(positions, cell, shells, degree, min(reach, within))


def _has_formulas(positions: Tensor, cell: Tensor, shells: Sequence[Shell]) -> bool:
    """Return whether derivatives by positions and cell are asked for, and compiled."""
    asks = torch.is_grad_enabled() and (positions.requires_grad or cell.requires_grad)
    is_plain = all(t.device.type == "cpu" and t.dtype == torch.float64 for t in (positions, cell))
    return asks and is_plain and not any(shell.tensors for shell in shells)


def _taped(
    positions: Tensor, cell: Tensor, shells: Sequence[Shell], degree: int, reach: float
) -> Tensor:
    """Return what :func:`directed_shells` does, with all derivatives."""
    n_atoms = len(positions)
    positions, cell = near_positions(positions, cell)
    pair, vectors = images_within(positions, cell, reach)
    r = vectors.norm(dim=1)[:, None]
    centers, widths, ends = (
        torch.stack(
            [torch.as_tensor(number, dtype=torch.float64).to(positions) for number in numbers]
        )
        for numbers in (
            [shell.center for shell in shells],
            [shell.width for shell in shells],
            [shell.cutoff for shell in shells],
        )
    )
    envelope = (1 - (r / ends) ** 2).clamp(min=0) ** 3
    weights = torch.exp(-(((r - centers) / widths) ** 2)) * envelope
    unit = vectors / r
    harmonics = torch.cat([solid_harmonics(unit, d) for d in range(degree + 1)], 1)
    values = harmonics[:, :, None] * weights[:, None]
    return values.new_zeros(n_atoms * n_atoms, *values.shape[1:]).index_add(0, pair, values)


def solid_harmonics(r: Tensor, degree: int) -> Tensor:
    """Return the solid harmonics of a degree at ``r``, shape (n, 3), as (n, 2 degree + 1)."""
    x, y, z = r.unbind(1)
    if degree == 0:
        return torch.ones_like(x)[:, None]
    if degree == 1:
        return r
    root = math.sqrt(3)
    square = 0.5 * root * (x * x - y * y)
    along = z * z - 0.5 * (x * x + y * y)
    return torch.stack([root * x * y, root * y * z, along, root * x * z, square], 1)


class _DirectedShells(torch.autograd.Function):
    """Directed shells as a function of positions and cell."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, positions: Tensor, cell: Tensor, shells: tuple[Shell, ...], degree: int
    ) -> Tensor:
        ctx.save_for_backward(positions, cell)
        ctx.shells, ctx.degree = shells, degree
        points, rows, n = positions.numpy(), cell.numpy()[None], len(positions)
        values, _ = compiled.orbit_shells(
            points, rows, np.array([n]), np.arange(n), shells, degree=degree
        )
        return torch.from_numpy(values)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        positions, cell = ctx.saved_tensors
        needed = ctx.needs_input_grad[:2]
        if not torch.is_grad_enabled():
            pulled = _pulled(positions, cell, ctx.shells, ctx.degree, grad_outputs[0])
            found = [g if needs else None for g, needs in zip(pulled, needed, strict=True)]
            return (*found, None, None)
        reach = max(float(shell.cutoff) for shell in ctx.shells)
        values = _taped(positions, cell, ctx.shells, ctx.degree, reach)
        wanted = [t for t, needs in zip((positions, cell), needed, strict=True) if needs]
        tape = iter(torch.autograd.grad(values, wanted, grad_outputs[0], create_graph=True))
        return (*(next(tape) if needs else None for needs in needed), None, None)


def _pulled(
    positions: Tensor, cell: Tensor, shells: Sequence[Shell], degree: int, loss: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the derivatives of a loss by positions and by the cell, from those by the sums."""
    centers, widths, ends = np.array([(s.center, s.width, s.cutoff) for s in shells], float).T
    near, _ = near_positions(positions, cell)
    pair, vectors = images_within(near, cell, float(ends.max()), both=False)
    n, images = len(positions), vectors.numpy()
    gradient, strain = np.empty((n, 3)), np.empty((1, 3, 3))
    arrays = (
        pair.numpy(), images, (images * images).sum(1), centers.copy(), 1 / widths, ends**-2.0,
        loss.contiguous().numpy(), gradient, strain,
    )  # fmt: skip
    in_memory(kernel("pull_shells"), n, len(images), len(shells), degree, *map(address, arrays))
    points, rows = positions.numpy(), cell.numpy()[None]
    by_cell = cell_gradients(points, rows, np.array([0]), gradient, strain)
    return torch.from_numpy(gradient), torch.from_numpy(by_cell[0])
