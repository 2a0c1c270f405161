"""The energy of charges, or of dispersion coefficients: potentials at atoms, forces, stress.

In crystals the work grows like atoms times waves: the structure factor of all charges takes the
place of a matrix of pairs. Slabs, wires and clusters go by their pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from latticesums.errors import ConfigError, LatticeSumsError, StructureError
from latticesums.fixed import FixedPlan
from latticesums.inputs import Crystals, are_finite, as_pbc, check_finite, checked_shapes
from latticesums.lattice import SAME_SPOT
from latticesums.neighbours import images_within, near_positions
from latticesums.pairs import pair_sums
from latticesums.plan import Plan, make_plan
from latticesums.potentials import Potential, resolve
from latticesums.radii import balanced_radius_of_charges, share_of_charges
from latticesums.terms import add_charges, evaluated, list_terms

#: e^2 / Å in eV: energies of charges in units of the elementary charge times this are in eV.
COULOMB_CONSTANT = 14.3996454784255


@dataclass(frozen=True)
class Energies:
    """Energies of crystals whose atoms carry charges.

    Attributes:
        energy: 1/2 sum over i, j of q_i q_j S(i, j) for each crystal, with derivatives by
            positions, cell and charges where they ask for some, shape (n_graphs,).
        potentials: Sum over j of S(i, j) q_j at each atom, shape (n_atoms,).
        forces: Minus the gradient of the energy, shape (n_atoms, 3).
        stress: Derivative of the energy by strain over the volume, shape (n_graphs, 3, 3); None
            unless all three directions repeat.
        error_bound: Bound of the error of each energy, not above the tolerance, (n_graphs,).
        failures: What is wrong with the crystals that were skipped, by their number; all that is
            said of them is NaN.
    """

    energy: Tensor
    potentials: Tensor
    forces: Tensor
    stress: Tensor | None
    error_bound: Tensor
    failures: Mapping[int, LatticeSumsError] = field(default_factory=dict)

    def detached(self) -> Energies:
        """Return the same without derivatives."""
        stress = None if self.stress is None else self.stress.detach()
        parts = (self.energy.detach(), self.potentials.detach(), self.forces.detach())
        return Energies(*parts, stress, self.error_bound)


def energy(
    positions: Tensor | ArrayLike,
    cell: Tensor | ArrayLike,
    charges: Tensor | ArrayLike,
    *,
    potential: Potential | str = "coulomb",
    tolerance: float = 1e-6,
    charged: Literal["refuse", "background"] = "refuse",
    boundary: Literal["tin-foil", "vacuum"] = "tin-foil",
    graph_index: Tensor | ArrayLike | None = None,
    pbc: ArrayLike | Tensor = True,
    on_error: Literal["raise", "skip"] = "raise",
    plan: FixedPlan | None = None,
) -> Energies:
    """Return 1/2 sum over i, j of q_i q_j S(i, j): energies, potentials at atoms, forces, stress.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3).
        cell: Lattice vectors as rows in Å, shape (n_graphs, 3, 3), or (3, 3) for one crystal.
        charges: Charge of each atom; or, with the potential "london", the square roots of its C6
            and a minus sign in front of the energy, shape (n_atoms,).
        potential: What V(r) is: "coulomb", "london" or another power, Yukawa, ...
        tolerance: Largest absolute error of the energy of a crystal, in units of charge^2 V: e^2/Å
            for charges in e, which is ``COULOMB_CONSTANT`` eV.
        charged: Whether charges that do not add up to 0 are refused (more than 1e-6 off), or
            neutralised by a uniform background.
        boundary: Conductor around the crystal, or vacuum around a sphere of it: adds
            ``2 pi M^2 / 3 V``, M being the dipole of the cell as its atoms are written down.
        graph_index: Crystal of each atom, ascending, shape (n_atoms,); not needed for one crystal.
        pbc: Periodic directions, one bool, three for all crystals, or shape (n_graphs, 3).
        on_error: "raise" for the first crystal that has no energy; or "skip", to name the bad ones
            in the result. Shapes and settings raise always.
        plan: What :func:`latticesums.fixed_plan` made for the crystal and its charges, so that the
            energy changes without a jump in dynamics; for one crystal, without gradients.

    Raises:
        StructureError: If a crystal cannot be summed over.
        ConfigError: If shapes do not fit, a crystal is charged and should not be, the tolerance
            cannot be kept in float64, or the boundary does not go with the crystal.

    >>> cell = [[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]
    >>> found = energy([[0.0, 0, 0], [1, 1, 1]], cell, [1.0, -1.0], tolerance=1e-9)
    >>> print(f"Madelung constant {-found.energy.item():.8f}")
    Madelung constant 1.74756459
    """
    x, a, q = (_floats(v) for v in (positions, cell, charges))
    index = None if graph_index is None else torch.as_tensor(graph_index)
    x, a, n_atoms = checked_shapes(x, a, index)
    chosen = _potential(potential).prepared(x.device)
    crystals = Crystals(x, a, n_atoms, as_pbc(pbc, len(a)))
    _check_settings(q, crystals, chosen, charged, boundary, on_error)
    if plan is not None:
        check_finite(x, n_atoms)
        _check_charges(q, chosen, charged, boundary)
        _check_plan(plan, (x, a, q), crystals, chosen)
        weight = 0.5 * float(q.abs().sum()) ** 2
        planned = plan.within(a[0].numpy(), len(x)), weight
        basis = plan.halves.basis
        return _without_tape(x, a[0], q, chosen, tolerance, boundary, planned, basis)
    found, failures = [], {}
    start = 0
    for graph, n in enumerate(n_atoms.tolist()):
        own = slice(start, start + n)
        start += n
        try:
            check_finite(x[own], n_atoms[graph : graph + 1])
            _check_charges(q[own], chosen, charged, boundary)
            found.append(
                _energy(x[own], a[graph], q[own], crystals.pbc[graph], chosen, tolerance, boundary)
            )
        except LatticeSumsError as error:
            message = str(error).removeprefix("crystal 0: ")
            named = type(error)(f"crystal {graph}: {message}")
            if on_error == "raise":
                raise named from None
            failures[graph] = named
            found.append(_none(x[own], bool(crystals.pbc[graph].all())))
    if len(found) == 1:
        return replace(found[0], failures=failures) if failures else found[0]
    stresses = [one.stress for one in found if one.stress is not None]
    return Energies(
        energy=torch.cat([x.new_zeros(0), *(one.energy for one in found)]),
        potentials=torch.cat([x.new_zeros(0), *(one.potentials for one in found)]),
        forces=torch.cat([x.new_zeros(0, 3), *(one.forces for one in found)]),
        stress=torch.cat(stresses) if stresses and len(stresses) == len(found) else None,
        error_bound=torch.cat([x.new_zeros(0), *(one.error_bound for one in found)]),
        failures=failures,
    )


def _none(positions: Tensor, has_stress: bool) -> Energies:
    """Return what is said of a crystal that has no energy."""
    n, nan = len(positions), torch.tensor(math.nan, dtype=torch.float64, device=positions.device)
    return Energies(
        energy=nan.expand(1),
        potentials=nan.expand(n),
        forces=nan.expand(n, 3),
        stress=nan.expand(1, 3, 3) if has_stress else None,
        error_bound=nan.expand(1),
    )


def _potential(given: Potential | str) -> Potential:
    """Return a potential; one that is given by its name is looked up once."""
    if isinstance(given, str):
        return _potential_before(given)
    (chosen,) = resolve(given)
    return chosen


@lru_cache(maxsize=64)
def _potential_before(name: str) -> Potential:
    (chosen,) = resolve(name)
    return chosen


def _check_plan(
    plan: FixedPlan, tensors: tuple[Tensor, ...], crystals: Crystals, potential: Potential
) -> None:
    """Raise unless a fixed plan serves what is asked for."""
    asks = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    on_cpu = all(t.device.type == "cpu" for t in tensors)
    if asks or not on_cpu or len(crystals.cells) != 1 or not crystals.pbc.all():
        raise ConfigError(
            "energy: `plan` must be used for one crystal on the CPU, without gradients of torch, "
            "got another call. Use the forces and the stress that are returned."
        )
    if plan.potentials != (potential,):
        raise ConfigError(
            f"energy: `potential` must be that of the plan, {plan.potentials[0].name}, got "
            f"{potential.name}. Make a plan for it."
        )


def _floats(values: Tensor | ArrayLike) -> Tensor:
    try:
        given = (
            values if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values, float))
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"energy: charges, positions and cell must be arrays of numbers, got '{error}'. "
            "Give tensors or arrays."
        ) from error
    return given.to(torch.float64)


def _check_settings(
    charges: Tensor,
    crystals: Crystals,
    potential: Potential,
    charged: str,
    boundary: str,
    on_error: str,
) -> None:
    """Raise unless the number of charges, and what is asked of them, go with the crystals."""
    n_atoms = crystals.n_atoms
    if charges.shape != (int(n_atoms.sum()),):
        raise ConfigError(
            f"energy: `charges` must be one finite number for each of {n_atoms.sum()} atoms, got "
            f"shape {tuple(charges.shape)}. Give the charges crystal after crystal."
        )
    for name, given, known in (
        ("charged", charged, ("refuse", "background")),
        ("boundary", boundary, ("tin-foil", "vacuum")),
        ("on_error", on_error, ("raise", "skip")),
    ):
        if given not in known:
            raise ConfigError(
                f"energy: `{name}` must be {' or '.join(known)}, got {given!r}. Use one of them."
            )
    if boundary == "vacuum" and not _has_surface(potential):
        raise ConfigError(
            f"energy: `boundary` must be tin-foil for {potential.name}, got vacuum. Only "
            "Coulomb's sum depends on the boundary."
        )
    if boundary == "vacuum" and not crystals.pbc.all():
        raise ConfigError(
            "energy: `boundary` must be tin-foil unless all directions repeat, got vacuum. A slab "
            "or a wire has no sphere around it."
        )


def _has_surface(potential: Potential) -> bool:
    """Return whether a sum depends on what is around the crystal, and on its charge."""
    return potential.order == 1 and not potential.decay


def _check_charges(charges: Tensor, potential: Potential, charged: str, boundary: str) -> None:
    """Raise unless the charges of one crystal are what is asked for."""
    given = charges.detach()
    if not are_finite(given):
        atom = int(given.isfinite().logical_not().int().argmax())
        raise ConfigError(
            f"`charges` must be one finite number for each atom, got {float(given[atom])} for "
            f"atom {atom}. Give charges in e."
        )
    total = float(given.sum())
    may_be_charged = charged == "background" and boundary == "tin-foil"
    if _has_surface(potential) and not may_be_charged and abs(total) > 1e-6:
        raise ConfigError(
            f"`charges` must add up to 0, got {total:.6g}. Neutralise it, "
            'or use charged="background" and the boundary tin-foil.'
        )


def _energy(
    positions: Tensor,
    cell: Tensor,
    charges: Tensor,
    pbc: NDArray[np.bool_],
    potential: Potential,
    tolerance: float,
    boundary: str,
) -> Energies:
    """Return the energy of one crystal and its derivatives."""
    asks = torch.is_grad_enabled() and any(
        t.requires_grad for t in (positions, cell, charges, *potential.tensors)
    )
    is_near = positions.device.type == "cpu" and not potential.tensors
    if not asks and is_near and pbc.all() and potential.can_split:
        with torch.no_grad():
            planned = _plan(positions, cell, charges, potential, tolerance)
            if planned[0].can_list:
                return _without_tape(
                    positions, cell, charges, potential, tolerance, boundary, planned
                )
    with torch.enable_grad():
        x = positions if asks and positions.requires_grad else positions.detach().requires_grad_()
        strain = torch.zeros(3, 3, dtype=x.dtype, device=x.device, requires_grad=True)
        deform = torch.eye(3, dtype=x.dtype, device=x.device) + 0.5 * (strain + strain.T)
        a, q = (cell, charges) if asks else (cell.detach(), charges.detach())
        moved, deformed = x @ deform, a @ deform
        sites, bound = _site_potentials(moved, deformed, q, pbc, potential, tolerance)
        total = 0.5 * (q * sites).sum()
        volume = torch.linalg.det(deformed).abs()
        if boundary == "vacuum":
            dipole = (q[:, None] * moved).sum(0)
            total = total + 2 * math.pi / 3 * (dipole * dipole).sum() / volume
        slope, strained = torch.autograd.grad(total, (x, strain), create_graph=asks)
    stress = (strained / volume)[None] if pbc.all() else None
    found = Energies(total[None], sites, -slope, stress, x.new_tensor([bound]))
    return found if asks else found.detached()


def _without_tape(
    positions: Tensor,
    cell: Tensor,
    charges: Tensor,
    potential: Potential,
    tolerance: float,
    boundary: str,
    planned: tuple[Plan, float],
    references: NDArray[np.float64] | None = None,
) -> Energies:
    """Return the energy of one crystal and its derivatives, by their formulas.

    Args:
        positions, cell, charges: Of one crystal, without gradients.
        potential: What is summed.
        tolerance: Largest error.
        boundary: See :func:`energy`.
        planned: How to sum, and how much an error of a sum of pairs counts in the energy.
        references: The cell of a fixed plan, which says what waves there are.
    """
    plan, weight = planned
    x, a, q = positions.numpy(), cell.numpy(), charges.numpy()
    found = list_terms(x, a[None], np.array([len(x)]), plan, references)
    given = evaluated([potential], found, plan, ends_smoothly=references is not None)
    sites, gradient, strain, magnitude = add_charges(found, given, q)
    volume, strain = found.volumes[0], strain[0]
    own = int(found.ends[0, 2])
    rounding = _rounding(
        potential,
        plan,
        closest=math.sqrt(found.squares.min(initial=math.inf)),
        count=len(found.squares) + (len(x) - 1) * own,
        short=float(magnitude[0]),
        n_waves=len(found.wave_squares),
        waves=float(given.waves.weights.sum()),
        flat=float(given.waves.zero[0, 0]),
        itself=float(given.waves.itself[0, 0]),
        farthest=float(np.abs(x - x[:1]).max()),
        charges=q,
    )
    bound = _certified(rounding, weight, plan, tolerance)
    total = 0.5 * float(q @ sites)
    if boundary == "vacuum":
        dipole = q @ x
        outside = 2 * math.pi / 3 * float(dipole @ dipole) / volume
        total += outside
        gradient = gradient + 4 * math.pi / 3 / volume * np.outer(q, dipole)
        strain = strain + 4 * math.pi / 3 / volume * np.outer(dipole, dipole)
        strain = strain - outside * np.eye(3)
    parts = (np.array([total]), sites, -gradient, strain[None] / volume, np.array([bound]))
    energies, sites_of, forces, stress, bounds = map(torch.from_numpy, parts)
    return Energies(energies, sites_of, forces, stress, bounds)


def _plan(
    positions: Tensor, cell: Tensor, charges: Tensor, potential: Potential, tolerance: float
) -> tuple[Plan, float]:
    """Return how to sum, and how much an error of a sum of pairs counts in the energy."""
    share, weight = share_of_charges(charges.detach().cpu().numpy(), tolerance)
    make = _planned.__wrapped__ if potential.tensors else _planned
    return make(cell.detach().cpu().numpy().tobytes(), len(positions), potential, share), weight


@lru_cache(maxsize=16)  # where atoms move in one cell, its plan stays as it is
def _planned(cell: bytes, n_atoms: int, potential: Potential, share: float) -> Plan:
    rows = np.frombuffer(cell).reshape(1, 3, 3)
    number = np.array([n_atoms])
    return make_plan(
        rows, number, [potential], share, balance=balanced_radius_of_charges(rows, number, share)
    )


def _site_potentials(
    positions: Tensor,
    cell: Tensor,
    charges: Tensor,
    pbc: NDArray[np.bool_],
    potential: Potential,
    tolerance: float,
) -> tuple[Tensor, float]:
    """Return the potential at each atom, and a bound of the error of the energy."""
    if not pbc.all() or not potential.can_split:
        share, weight = share_of_charges(charges.detach().cpu().numpy(), tolerance)
        sums = pair_sums(positions, cell, [potential], tolerance=share, pbc=pbc)
        matrix = sums.values.view(len(positions), -1)
        return matrix @ charges, weight * float(sums.error_bound[0])
    plan, weight = _plan(positions, cell, charges, potential, tolerance)
    sites, rounding = _by_waves(*near_positions(positions, cell), charges, potential, plan)
    return sites, _certified(rounding, weight, plan, tolerance)


def _certified(rounding: float, weight: float, plan: Plan, tolerance: float) -> float:
    """Return the bound of the energy's error, or raise unless it is within the tolerance.

    Args:
        rounding: Of the energy, in units of roundoff.
        weight: How much an error of a sum of pairs counts in the energy.
        plan: What was followed.
        tolerance: Largest error of the energy.
    """
    bound = weight * float(plan.truncation[0, 0]) + 2.0**-53 * rounding
    if not bound <= tolerance:
        raise ConfigError(
            f"`tolerance` must be at least {bound:.1e} for the energy to be kept in float64, got "
            f"{tolerance:g}. Give a larger tolerance, or check for atoms that almost touch."
        )
    return bound


def _rounding(
    potential: Potential,
    plan: Plan,
    *,
    closest: float,
    count: float,
    short: float,
    n_waves: int,
    waves: float,
    flat: float,
    itself: float,
    farthest: float,
    charges: NDArray[np.float64],
) -> float:
    """Return the rounding of an energy in units of roundoff (docs/theory.md, "Rounding").

    Args:
        potential: What is summed.
        plan: What was followed.
        closest: Smallest distance met, Å.
        count: Number of images.
        short: What they add to the energy, all counted as positive.
        n_waves: Number of waves.
        waves: Sum of their weights.
        flat: Weight of the wave 0.
        itself: Long half at an atom.
        farthest: Largest coordinate from the first atom, Å.
        charges: Shape (n_atoms,).
    """
    radius, alpha, q = float(plan.radius[0]), float(plan.alpha[0, 0]), np.abs(charges)
    extent = 2 * farthest + radius
    steep = potential.order / closest + potential.decay + 2 * alpha**2 * radius
    rounding = (30 + 5 * math.sqrt(2 * count / len(q)) + 10 * steep * extent) * short
    phases = 10 + 5 * math.sqrt(n_waves) + 8 * extent * float(plan.wave_radius[0])
    rounding += phases * 0.5 * waves * float(q.sum()) ** 2
    return rounding + 15 * float(abs(flat) * q.sum() ** 2 + itself * (q * q).sum())


def _short(potential: Potential, squares: Tensor, alpha: Tensor) -> Tensor:
    """Return what an image adds: the short half, or all where nothing is split."""
    return potential.short(squares, alpha) if bool(alpha > 0) else potential.value(squares)


def _by_waves(
    positions: Tensor, cell: Tensor, charges: Tensor, potential: Potential, plan: Plan
) -> tuple[Tensor, float]:
    """Return potentials at atoms from images and structure factors, and the energy's rounding."""
    n, radius, k_max = len(positions), float(plan.radius[0]), float(plan.wave_radius[0])
    alpha = positions.new_tensor(plan.alpha[0, 0])
    pair, vectors = images_within(positions, cell, radius, both=False)
    squares = (vectors * vectors).sum(1)
    closest = math.sqrt(float(squares.detach().min())) if len(squares) else math.inf
    if closest < SAME_SPOT:
        at = int(pair[squares.detach().argmin()])
        raise StructureError(
            f"atoms {at // n} and {at % n} must be {SAME_SPOT:g} Å apart or more, got "
            f"{closest:.3g} Å (periodic images included). Remove the duplicate atom."
        )
    terms = _short(potential, squares, alpha)
    first, second = pair // n, pair % n
    sites = charges.new_zeros(n).index_add(0, first, terms * charges[second])
    sites = sites.index_add(0, second, torch.where(first == second, 0.0, terms * charges[first]))
    q = charges.detach().abs()
    halves = torch.where(first == second, 0.5, 1.0) * terms.detach()
    n_waves, weights, flat, itself = 0, charges.new_zeros(1), charges.new_zeros(()), 0.0
    if alpha > 0:
        basis = torch.from_numpy(plan.transform[0]).to(cell) @ cell
        volume = torch.linalg.det(basis).abs()
        k = _waves(basis, plan, k_max)
        n_waves = len(k)
        weights = 2 / volume * potential.fourier((k * k).sum(1), alpha)
        phases = positions @ k.T
        cosines, sines = phases.cos(), phases.sin()
        sites = sites + cosines @ (weights * (charges @ cosines))
        sites = sites + sines @ (weights * (charges @ sines))
        flat, itself = potential.fourier_at_zero(alpha) / volume, potential.long_at_zero(alpha)
        sites = sites + flat * charges.sum() - itself * charges
    rounding = _rounding(
        potential,
        plan,
        closest=closest,
        count=len(terms),
        short=float((halves * q[first] * q[second]).sum()),
        n_waves=n_waves,
        waves=float(weights.detach().sum()),
        flat=float(flat.detach()),
        itself=float(itself),
        farthest=float(positions.detach().abs().max()),
        charges=charges.detach().cpu().numpy(),
    )
    return sites, rounding


def _waves(basis: Tensor, plan: Plan, k_max: float) -> Tensor:
    """Return one of each pair of wave vectors up to a length, by the reduced basis."""
    reciprocal = 2 * math.pi * torch.linalg.inv(basis).T
    box = np.floor(k_max / (2 * np.pi) * np.linalg.norm(plan.basis[0], axis=1) + 1e-9)
    ranges = [torch.arange(-b, b + 1, dtype=basis.dtype) for b in box]
    grid = torch.cartesian_prod(*ranges).view(-1, 3).to(basis.device)
    grid = grid[len(grid) // 2 + 1 :]  # the later half has the negatives of the former
    with torch.no_grad():
        near = ((grid @ reciprocal) ** 2).sum(1) <= k_max**2 * (1 + 1e-9)
    return grid[near] @ reciprocal
