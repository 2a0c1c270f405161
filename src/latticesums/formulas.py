"""Sums whose derivatives follow from formulas: on the CPU in float64, first derivatives compiled.

What :mod:`differentiable` computes, by the same plan and to rounding the same, without its tape: a
backward pass adds up the slopes of potentials at images and waves. Second derivatives are those of
:mod:`differentiable`, which is called when a backward pass is to be differentiated itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latticesums import differentiable
from latticesums.fixed import FixedPlan
from latticesums.plan import Plan, make_plan
from latticesums.potentials.base import Potential
from latticesums.rounding import rounding_bounds
from latticesums.terms import (
    Evaluated,
    Terms,
    Waves,
    add_pairs,
    evaluated,
    list_terms,
    on_waves,
    pairs_of_clusters,
    pull_pairs,
)

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Plans are kept for batches of so many crystals: in dynamics the next step has the same cell.
_FEW = 4


def serves(positions: Tensor, cells: Tensor, potentials: Sequence[Potential]) -> bool:
    """Return whether derivatives are asked for, and can be had without a tape.

    Args:
        positions: Cartesian coordinates in Å, float64, shape (n_atoms, 3).
        cells: Lattice vectors as rows in Å, shape (n_graphs, d, 3).
        potentials: What is summed, no combinations.
    """
    if positions.device.type != "cpu" or cells.shape[1] not in (0, 3) or not potentials:
        return False
    if any(potential.tensors for potential in potentials) or not torch.is_grad_enabled():
        return False
    return positions.requires_grad or cells.requires_grad


def evaluate(
    positions: Tensor,
    cells: Tensor,
    n_atoms: Indices,
    potentials: Sequence[Potential],
    tolerance: float,
    share: Array | float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Return what :func:`differentiable.evaluate` returns, where :func:`serves` says so.

    Raises:
        StructureError: If a cell cannot be summed over, or two atoms are on one spot.
        ConfigError: If the tolerance is out of range or below what float64 can keep.
    """
    points, rows = positions.detach().numpy(), cells.detach().numpy()
    planned = _planned(points, rows, n_atoms, tuple(potentials), tolerance, share)
    plan = planned.plan
    if cells.shape[1] and not plan.can_list:
        return differentiable.evaluate(positions, cells, n_atoms, potentials, tolerance, share)
    if cells.shape[1]:
        found = list_terms(points, rows, n_atoms, plan)
    else:
        found = pairs_of_clusters(points, n_atoms)
    planned.waves = planned.waves or on_waves(potentials, found, plan)
    given = evaluated(potentials, found, plan, planned.waves)
    work = _Work(n_atoms, tuple(potentials), tolerance, share, found, given)
    return _followed(positions, cells, plan, work)


def evaluate_fixed(positions: Tensor, cell: Tensor, fixed: FixedPlan) -> tuple[Tensor, Tensor]:
    """Return the sums of one crystal by a fixed plan, and the bounds of their errors.

    Second derivatives are those of sums without the plan.

    Args:
        positions: Cartesian coordinates in Å, float64, on the CPU, shape (n_atoms, 3).
        cell: Lattice vectors as rows in Å, shape (1, 3, 3).
        fixed: The plan.

    Returns:
        Sums, shape (n_atoms^2, n_potentials), i slow and j fast, and bounds, (1, n_potentials).

    Raises:
        StructureError: If two atoms are on one spot.
        ConfigError: If the plan is not for this crystal.
    """
    points, rows = positions.detach().numpy(), cell.detach().numpy()
    plan, n_atoms = fixed.within(rows[0], len(points)), np.array([len(points)])
    found = list_terms(points, rows, n_atoms, plan, fixed.halves.basis)
    given = evaluated(fixed.potentials, found, plan, ends_smoothly=True)
    work = _Work(n_atoms, fixed.potentials, fixed.tolerance, 1.0, found, given)
    return _followed(positions, cell, plan, work)


def _followed(positions: Tensor, cells: Tensor, plan: Plan, work: _Work) -> tuple[Tensor, Tensor]:
    """Return sums of terms, and the bounds of their errors, within what the plan is for."""
    found, given = work.found, work.given
    values, largest = add_pairs(found, given, work.n_atoms)
    bounds = plan.truncation + rounding_bounds(
        plan,
        work.potentials,
        short_sums=largest,
        wave_sums=given.waves.sizes,
        constants=np.abs(given.waves.zero) + np.abs(given.waves.itself),
    )
    excess = bounds / plan.tolerance
    differentiable.certify(excess, work.potentials, work.tolerance, torch.float64)
    sums: Any = _PairSums.apply(positions, cells, torch.from_numpy(values), work)
    return sums, torch.from_numpy(bounds)


@dataclass
class _Planned:
    """A plan of some crystals, and potentials on their waves when these are known."""

    plan: Plan
    waves: Waves | None = None


def _planned(
    points: Array,
    rows: Array,
    n_atoms: Indices,
    potentials: tuple[Potential, ...],
    tolerance: float,
    share: Array | float,
) -> _Planned:
    """Return the plan of some crystals, from those made before if they are few."""
    if rows.shape[1] == 3 and len(rows) <= _FEW:
        shares = np.broadcast_to(share, (len(rows), len(potentials))).tobytes()
        return _planned_before(rows.tobytes(), n_atoms.tobytes(), potentials, tolerance, shares)
    heights = 0.0 if rows.shape[1] else differentiable.heights(points, rows, n_atoms)
    return _Planned(make_plan(rows, n_atoms, potentials, tolerance, share, heights=heights))


@lru_cache(maxsize=16)
def _planned_before(
    rows: bytes, n_atoms: bytes, potentials: tuple[Potential, ...], tolerance: float, shares: bytes
) -> _Planned:
    cells = np.frombuffer(rows).reshape(-1, 3, 3)
    share = np.frombuffer(shares).reshape(len(cells), -1)
    plan = make_plan(cells, np.frombuffer(n_atoms, np.int64), potentials, tolerance, share)
    return _Planned(plan)


@dataclass(frozen=True)
class _Work:
    """What a backward pass needs to know."""

    n_atoms: Indices
    potentials: tuple[Potential, ...]
    tolerance: float
    share: Array | float
    found: Terms
    given: Evaluated

    def pulled(self, positions: Tensor, cells: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivatives of a loss by positions and by cells."""
        gradient, strain = pull_pairs(self.found, self.given, self.n_atoms, loss.numpy())
        by_cells = np.zeros(cells.shape)
        if cells.shape[1]:
            starts = self.found.offsets[:-1]
            by_cells = cell_gradients(positions.numpy(), cells.numpy(), starts, gradient, strain)
        return torch.from_numpy(gradient), torch.from_numpy(by_cells)

    def taped(self, positions: Tensor, cells: Tensor) -> Tensor:
        """Return the sums with all their derivatives."""
        return differentiable.evaluate(
            positions, cells, self.n_atoms, self.potentials, self.tolerance, self.share
        )[0]


def cell_gradients(
    positions: Array, cells: Array, starts: Indices, gradient: Array, strain: Array
) -> Array:
    """Return the derivatives of a loss by cells, from those by positions and by strain.

    Strain moves positions and cell: x F + a^T C = W for the gradients F and C, so that C follows
    from W. Coordinates are taken from the first atom, since the F add up to 0.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3), crystal after crystal.
        cells: Lattice vectors as rows in Å, shape (n_graphs, 3, 3).
        starts: First atom of each crystal.
        gradient: By positions, shape (n_atoms, 3).
        strain: Shape (n_graphs, 3, 3).
    """
    counts = np.diff(starts, append=len(positions))
    apart = positions - np.repeat(positions[starts], counts, 0)
    moments = np.add.reduceat(apart[:, :, None] * gradient[:, None], starts)
    return np.linalg.solve(cells.transpose(0, 2, 1), strain - moments).astype(np.float64)


class _PairSums(torch.autograd.Function):
    """Sums of all pairs as a function of positions and cells."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, positions: Tensor, cells: Tensor, values: Tensor, work: _Work
    ) -> Tensor:
        ctx.save_for_backward(positions, cells)
        ctx.work = work
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        positions, cells = ctx.saved_tensors
        needed = ctx.needs_input_grad[:2]
        if not torch.is_grad_enabled():
            pulled = ctx.work.pulled(positions, cells, grad_outputs[0])
            found = [g if needs else None for g, needs in zip(pulled, needed, strict=True)]
            return (*found, None, None)
        values = ctx.work.taped(positions, cells)
        wanted = [t for t, needs in zip((positions, cells), needed, strict=True) if needs]
        tape = iter(torch.autograd.grad(values, wanted, grad_outputs[0], create_graph=True))
        return (*(next(tape) if needs else None for needs in needed), None, None)
