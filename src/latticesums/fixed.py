"""A plan that is kept while atoms move and the cell changes, so that sums change without a jump.

A plan made anew for each cell ends its sums elsewhere, and values move by a part of the tolerance
from one step of a simulation to the next. A fixed plan keeps the width of the split, the radius
and the set of wave vectors, as integers; images enter at the radius with value and slope 0. What
that leaves out is bounded as ever, anew for each cell (docs/theory.md, "Fixed plans").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from latticesums.bounds import Lattice
from latticesums.errors import ConfigError
from latticesums.inputs import require_crystal
from latticesums.lattice import Crystal, check_cells, gram_schmidt_lengths, reduce_cells
from latticesums.plan import Plan, make_plan
from latticesums.potentials import Combination, Potential, resolve
from latticesums.radii import (
    TOLERANCE_RANGE,
    balanced_radius_of_charges,
    check_tolerance,
    share_of_charges,
    short_tail,
    truncation_budget,
    wave_tail,
)
from latticesums.terms import at_radius

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: A plan gives up rather than to ask for errors below this part of the tolerance.
_LEAST_PART = 1e-9


@dataclass(frozen=True, eq=False)
class FixedPlan:
    """How to sum over a cell and those that differ from it by a strain, made by :func:`fixed_plan`.

    Attributes:
        cell: The cell that it was made for, rows in Å, shape (3, 3).
        n_atoms: Number of atoms.
        potentials: What is summed.
        tolerance: Largest absolute error of a sum of a pair.
        strain: Largest change of a length, as a part of it, at which it holds.
        halves: Where both halves end in the cell it was made for.
    """

    cell: Array
    n_atoms: int
    potentials: tuple[Potential, ...]
    tolerance: float
    strain: float
    halves: Plan

    def within(self, cell: Array, n_atoms: int) -> Plan:
        """Return the plan for a cell, with the bound of what is left out there.

        Its waves reach as far as they must in the cell that it was made for, so that none within
        the radius is missing in this one: to list them there, not here.

        Raises:
            ConfigError: If the cell or the number of atoms is not what the plan is for.
        """
        if n_atoms != self.n_atoms:
            self.refuse(f"{n_atoms} atoms")
        return _within(self, np.ascontiguousarray(cell).tobytes())

    def refuse(self, got: str) -> NoReturn:
        """Raise, saying what the plan is for."""
        raise ConfigError(
            f"fixed plan: `crystal` must have {self.n_atoms} atoms and a cell within a strain "
            f"of {self.strain:g} of the one that the plan was made for, got {got}. Make a new "
            "plan."
        )


@lru_cache(maxsize=16)  # where the cell stays, so does the plan
def _within(fixed: FixedPlan, rows: bytes) -> Plan:
    """Return a fixed plan for a cell, or raise if that is too far from its own."""
    cell = np.frombuffer(rows).reshape(3, 3)
    check_cells(cell[None])
    stretches = np.linalg.svd(np.linalg.solve(fixed.cell, cell), compute_uv=False)
    strain = float(np.abs(stretches - 1).max())
    if not strain <= fixed.strain * (1 + 1e-9):
        fixed.refuse(f"a strain of {strain:.3g}")
    plan = _stretched(fixed.halves, cell, fixed.potentials)
    return replace(
        plan,
        wave_radius=fixed.halves.wave_radius * (1 + fixed.strain),
        tolerance=np.full(plan.truncation.shape, fixed.tolerance),
    )


def fixed_plan(
    crystal: Crystal,
    potentials: Sequence[Potential | str] | Potential | str = ("coulomb", "london", "pauli"),
    *,
    tolerance: float = 1e-8,
    strain: float = 0.05,
    charges: ArrayLike | None = None,
) -> FixedPlan:
    """Return a plan for a crystal whose atoms move and whose cell changes, as in dynamics.

    ``lattice_sums``, ``pair_sums`` and ``energy`` take it as ``plan``. Their values and first
    derivatives are then continuous functions of positions and cell, to rounding.

    Args:
        crystal: The crystal at rest, with positions, cell and pbc; it must repeat in three
            directions.
        potentials: What will be summed, no combinations; one of them for energies of charges.
        tolerance: Largest absolute error of a value, or of the energy if there are charges.
        strain: Largest change of a length in the cell, as a part of it, 0 to 0.3. Costs about
            three times as many waves per 0.3.
        charges: Charge of each atom, for a plan of :func:`latticesums.energy`.

    Raises:
        StructureError: If the cell cannot be summed over.
        ConfigError: If the crystal is a slab or smaller, a potential is a combination, or the
            tolerance cannot be kept.

    >>> import numpy as np
    >>> from latticesums import Atoms, lattice_sums
    >>> cell = np.diag([3.0, 4.0, 5.0])
    >>> plan = fixed_plan(Atoms([[0.0, 0, 0]], cell), ["coulomb"])
    >>> wider = lattice_sums(Atoms([[0.0, 0, 0]], 1.01 * cell), plan=plan)
    >>> bool(wider.error_bound[0] <= 1e-8)
    True
    """
    chosen = resolve(potentials)
    tolerance = check_tolerance(tolerance)
    _check(crystal, chosen, strain)
    cell = np.array(crystal.cell, dtype=np.float64)
    n_atoms = np.array([len(crystal.positions)])
    balance = None
    if charges is not None:
        if len(chosen) != 1:
            raise ConfigError(
                "fixed plan: `potentials` must be one for energies of charges, got "
                f"{len(chosen)}. Make a plan for each."
            )
        tolerance = share_of_charges(np.asarray(charges, dtype=np.float64), tolerance)[0]
        balance = balanced_radius_of_charges(cell[None], n_atoms, tolerance)
    widest = [(1 - strain) * cell, cell, (1 + strain) * cell]
    part, budget = 0.02, float(truncation_budget(np.array(tolerance)))
    while True:
        aim = max(part * tolerance, TOLERANCE_RANGE[0])
        share = np.full((1, len(chosen)), part * tolerance / aim)
        halves = make_plan(cell[None], n_atoms, chosen, aim, share, balance=balance)
        bounds = [_stretched(halves, a, chosen).truncation.max() for a in widest]
        if max(bounds) <= 0.8 * budget:
            return FixedPlan(cell, int(n_atoms[0]), chosen, tolerance, strain, halves)
        part *= 0.25
        if part < _LEAST_PART:
            raise ConfigError(
                f"fixed plan: `tolerance` must be at least {max(bounds):.1e} for these potentials, "
                f"got {tolerance:g}. Give a larger tolerance, or a smaller strain."
            )


def _check(crystal: Crystal, potentials: Sequence[Potential], strain: float) -> None:
    require_crystal("fixed plan", crystal)
    if not isinstance(strain, float | int) or not 0 <= strain <= 0.3:
        raise ConfigError(
            f"fixed plan: `strain` must lie between 0 and 0.3, got {strain}. Make a new plan when "
            "the cell has changed by more."
        )
    if not np.asarray(crystal.pbc).all():
        raise ConfigError(
            "fixed plan: `crystal` must repeat in three directions, got pbc "
            f"{np.asarray(crystal.pbc).tolist()}. Sum without a plan."
        )
    for potential in potentials:
        if isinstance(potential, Combination) or potential.tensors:
            raise ConfigError(
                f"fixed plan: `potentials` must be single ones with numbers, got {potential.name}. "
                "Make a plan for its terms, and add them up."
            )


def _stretched(halves: Plan, cell: Array, potentials: Sequence[Potential]) -> Plan:
    """Return halves that end where they did, in another cell, with their truncation there."""
    lengths = gram_schmidt_lengths(reduce_cells(cell[None])[1])
    lattice, waves = Lattice.from_lengths(lengths), Lattice.from_lengths(2 * np.pi / lengths)
    radius, k = halves.radius, halves.wave_radius
    truncation = np.zeros(halves.truncation.shape)
    for p, potential in enumerate(potentials):
        alpha = halves.alpha[:, p]
        value, slope = at_radius(potential, float(radius[0]), float(alpha[0]))
        if alpha[0] > 0:
            left_out = short_tail(potential, lattice, radius, alpha)
            left_out = left_out + wave_tail(potential, lattice, waves, k, alpha)
        else:
            tail = potential.direct_tail(lattice, radius)
            left_out = np.full(1, np.inf) if tail is None else tail
        cut = abs(value) + abs(slope) * radius**2  # of each image within the radius
        truncation[:, p] = left_out + (lattice.most(radius) + 1) * cut
    basis = halves.transform @ cell
    return replace(halves, basis=basis, lattice=lattice, waves=waves, truncation=truncation,
                   reach=np.array([0.5 * np.linalg.norm(basis, axis=2).sum()]))  # fmt: skip
