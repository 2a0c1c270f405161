"""The energy of charges, or of dispersion coefficients: potentials at atoms, forces, stress.

In crystals the work grows like atoms times waves: the structure factor of all charges takes the
place of a matrix of pairs. Slabs, wires and clusters go by their pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from latticesums.errors import ConfigError, LatticeSumsError, StructureError
from latticesums.inputs import Crystals, as_pbc, checked_batch
from latticesums.lattice import SAME_SPOT
from latticesums.neighbours import images_within, near_positions
from latticesums.pairs import pair_sums
from latticesums.plan import Plan, make_plan
from latticesums.potentials import Potential, resolve
from latticesums.radii import TOLERANCE_RANGE

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
    """

    energy: Tensor
    potentials: Tensor
    forces: Tensor
    stress: Tensor | None
    error_bound: Tensor

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
    x, a, n_atoms = checked_batch(x, a, index)
    (chosen,) = (v.prepared(x.device) for v in resolve(potential))
    crystals = Crystals(x, a, n_atoms, as_pbc(pbc, len(a)))
    _check(q, crystals, chosen, charged, boundary)
    found = []
    start = 0
    for graph, n in enumerate(n_atoms.tolist()):
        own = slice(start, start + n)
        start += n
        try:
            found.append(
                _energy(x[own], a[graph], q[own], crystals.pbc[graph], chosen, tolerance, boundary)
            )
        except LatticeSumsError as error:
            message = str(error).removeprefix("crystal 0: ")
            raise type(error)(f"crystal {graph}: {message}") from None
    stresses = [one.stress for one in found if one.stress is not None]
    return Energies(
        energy=torch.cat([x.new_zeros(0), *(one.energy for one in found)]),
        potentials=torch.cat([x.new_zeros(0), *(one.potentials for one in found)]),
        forces=torch.cat([x.new_zeros(0, 3), *(one.forces for one in found)]),
        stress=torch.cat(stresses) if stresses and len(stresses) == len(found) else None,
        error_bound=torch.cat([x.new_zeros(0), *(one.error_bound for one in found)]),
    )


def _floats(values: Tensor | ArrayLike) -> Tensor:
    found = values if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values, float))
    return found.to(torch.float64)


def _check(
    charges: Tensor, crystals: Crystals, potential: Potential, charged: str, boundary: str
) -> None:
    """Raise unless the charges, and what is asked of them, go with the crystals."""
    n_atoms = crystals.n_atoms
    if charges.shape != (int(n_atoms.sum()),) or not bool(charges.detach().isfinite().all()):
        raise ConfigError(
            f"energy: `charges` must be one finite number for each of {n_atoms.sum()} atoms, got "
            f"shape {tuple(charges.shape)}. Give the charges crystal after crystal."
        )
    for name, given, known in (
        ("charged", charged, ("refuse", "background")),
        ("boundary", boundary, ("tin-foil", "vacuum")),
    ):
        if given not in known:
            raise ConfigError(
                f"energy: `{name}` must be {' or '.join(known)}, got {given!r}. Use one of them."
            )
    if potential.order != 1 or potential.decay:
        if boundary == "vacuum":
            raise ConfigError(
                f"energy: `boundary` must be tin-foil for {potential.name}, got vacuum. Only "
                "Coulomb's sum depends on the boundary."
            )
        return
    sums = np.add.reduceat(charges.detach().cpu().numpy(), np.cumsum(n_atoms) - n_atoms)
    off = np.abs(sums) > 1e-6
    if off.any() and (charged == "refuse" or boundary == "vacuum"):
        graph = int(np.argmax(off))
        raise ConfigError(
            f"crystal {graph}: `charges` must add up to 0, got {sums[graph]:.6g}. Neutralise it, "
            'or use charged="background" and the boundary tin-foil.'
        )
    if boundary == "vacuum" and not crystals.pbc.all():
        raise ConfigError(
            "energy: `boundary` must be tin-foil unless all directions repeat, got vacuum. A slab "
            "or a wire has no sphere around it."
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
    if not asks and pbc.all() and potential.can_split:
        with torch.no_grad():
            return _without_tape(positions, cell, charges, potential, tolerance, boundary)
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
) -> Energies:
    """Return the energy of one crystal and its derivatives, by their formulas."""
    plan, weight = _plan(positions, cell, charges, potential, tolerance)
    found = _by_waves(*near_positions(positions, cell), charges, potential, plan)
    bound = _certified(found, weight, plan, tolerance)
    alpha = positions.new_tensor(plan.alpha[0, 0])
    volume, unit = torch.linalg.det(cell).abs(), torch.eye(3).to(cell)
    total = 0.5 * (charges * found.sites).sum()
    slopes = _slope(lambda s: _short(potential, s, alpha), found.squares)
    product = charges[found.first] * charges[found.second]
    pull = (torch.where(found.first == found.second, 1.0, 2.0) * slopes * product)[:, None]
    pull = pull * found.vectors  # of the vector from the first atom to an image of the second
    gradient = torch.zeros_like(positions).index_add(0, found.second, pull)
    gradient = gradient.index_add(0, found.first, -pull)
    strain = found.vectors.T @ pull
    if found.waves is not None:
        k, cosines, sines, weights = found.waves
        even, odd = charges @ cosines, charges @ sines
        turned = cosines * (weights * odd) - sines * (weights * even)
        gradient = gradient + charges[:, None] * (turned @ k)
        size = even * even + odd * odd
        falls = 2 / volume * _slope(lambda s: potential.fourier(s, alpha), (k * k).sum(1))
        flat = potential.fourier_at_zero(alpha) / volume * charges.sum() ** 2
        strain = strain - 0.5 * ((weights * size).sum() + flat) * unit
        strain = strain - (k * (size * falls)[:, None]).T @ k
    if boundary == "vacuum":
        dipole = charges @ positions
        outside = 2 * math.pi / 3 * (dipole @ dipole) / volume
        total = total + outside
        gradient = gradient + 4 * math.pi / 3 / volume * charges[:, None] * dipole
        strain = strain + 4 * math.pi / 3 / volume * torch.outer(dipole, dipole) - outside * unit
    stress = (strain / volume)[None]
    return Energies(total[None], found.sites, -gradient, stress, positions.new_tensor([bound]))


def _slope(function: Callable[[Tensor], Tensor], squares: Tensor) -> Tensor:
    """Return the derivative of a function of each of some numbers."""
    with torch.enable_grad():
        s = squares.detach().requires_grad_()
        value = function(s)
        if not value.requires_grad:  # a Gaussian has no short half
            return torch.zeros_like(squares)
        return torch.autograd.grad(value.sum(), s)[0]


def _plan(
    positions: Tensor, cell: Tensor, charges: Tensor, potential: Potential, tolerance: float
) -> tuple[Plan, float]:
    """Return how to sum, and how much an error of a sum of pairs counts in the energy."""
    share, weight = _share(charges, tolerance)
    make = _planned.__wrapped__ if potential.tensors else _planned
    return make(cell.detach().cpu().numpy().tobytes(), len(positions), potential, share), weight


@lru_cache(maxsize=16)  # where atoms move in one cell, its plan stays as it is
def _planned(cell: bytes, n_atoms: int, potential: Potential, share: float) -> Plan:
    rows = np.frombuffer(cell).reshape(1, 3, 3)
    return make_plan(rows, np.array([n_atoms]), [potential], share)


def _share(charges: Tensor, tolerance: float) -> tuple[float, float]:
    """Return the tolerance of a sum of a pair, and how much its error counts in the energy."""
    weight = 0.5 * float(charges.detach().abs().sum()) ** 2
    share = min(tolerance / max(weight, 1e-300), TOLERANCE_RANGE[1])
    if not share >= TOLERANCE_RANGE[0]:
        raise ConfigError(
            f"`tolerance` must be at least {weight * TOLERANCE_RANGE[0]:.1e} for these charges, "
            f"got {tolerance:g}. Give a larger tolerance."
        )
    return share, weight


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
        share, weight = _share(charges, tolerance)
        sums = pair_sums(positions, cell, [potential], tolerance=share, pbc=pbc)
        matrix = sums.values.view(len(positions), -1)
        return matrix @ charges, weight * float(sums.error_bound[0])
    plan, weight = _plan(positions, cell, charges, potential, tolerance)
    found = _by_waves(*near_positions(positions, cell), charges, potential, plan)
    return found.sites, _certified(found, weight, plan, tolerance)


class _Sites(NamedTuple):
    """Potentials at atoms, and what they were made of.

    Attributes:
        sites: Shape (n_atoms,).
        rounding: Of the energy, in units of roundoff.
        first, second: Atoms of each image, i <= j; ``vectors`` and ``squares`` from i to it.
        waves: Wave vectors, cosines and sines of their phases at the atoms, (n_atoms, n_waves), and
            weights; None if all is summed over images.
    """

    sites: Tensor
    rounding: float
    first: Tensor
    second: Tensor
    vectors: Tensor
    squares: Tensor
    waves: tuple[Tensor, Tensor, Tensor, Tensor] | None


def _certified(found: _Sites, weight: float, plan: Plan, tolerance: float) -> float:
    """Return the bound of the energy's error, or raise unless it is within the tolerance."""
    bound = weight * float(plan.truncation[0, 0]) + 2.0**-53 * found.rounding
    if not bound <= tolerance:
        raise ConfigError(
            f"`tolerance` must be at least {bound:.1e} for the energy to be kept in float64, got "
            f"{tolerance:g}. Give a larger tolerance, or check for atoms that almost touch."
        )
    return bound


def _short(potential: Potential, squares: Tensor, alpha: Tensor) -> Tensor:
    """Return what an image adds: the short half, or all where nothing is split."""
    return potential.short(squares, alpha) if bool(alpha > 0) else potential.value(squares)


def _by_waves(
    positions: Tensor, cell: Tensor, charges: Tensor, potential: Potential, plan: Plan
) -> _Sites:
    """Return potentials at atoms from images and structure factors, and the energy's rounding.

    The rounding is in units of roundoff: of terms and their sums, of vectors, of phases
    (docs/theory.md, "Rounding").
    """
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
    short = float((terms.detach() * q[first] * q[second]).sum())
    extent = 2 * float(positions.detach().abs().max()) + radius
    steep = potential.order / closest + potential.decay + 2 * float(alpha) ** 2 * radius
    rounding = (30 + 5 * math.sqrt(2 * len(terms) / n) + 10 * steep * extent) * short
    if not alpha > 0:
        return _Sites(sites, rounding, first, second, vectors, squares, None)
    volume = torch.linalg.det(cell).abs()
    k = _waves(cell, plan, k_max)
    weights = 2 / volume * potential.fourier((k * k).sum(1), alpha)
    phases = positions @ k.T
    cosines, sines = phases.cos(), phases.sin()
    sites = sites + cosines @ (weights * (charges @ cosines))
    sites = sites + sines @ (weights * (charges @ sines))
    flat, itself = potential.fourier_at_zero(alpha) / volume, potential.long_at_zero(alpha)
    sites = sites + flat * charges.sum() - itself * charges
    waves = 0.5 * float(weights.detach().sum()) * float(q.sum()) ** 2
    rounding += (10 + 5 * math.sqrt(len(k)) + 8 * extent * k_max) * waves
    constants = abs(float(flat.detach())) * float(q.sum()) ** 2
    rounding += 15 * (constants + float(itself.detach()) * float((q * q).sum()))
    kept = (k, cosines, sines, weights)
    return _Sites(sites, rounding, first, second, vectors, squares, kept)


def _waves(cell: Tensor, plan: Plan, k_max: float) -> Tensor:
    """Return one of each pair of wave vectors up to a length."""
    basis = torch.from_numpy(plan.transform[0]).to(cell) @ cell
    reciprocal = 2 * math.pi * torch.linalg.inv(basis).T
    box = np.floor(k_max / (2 * np.pi) * np.linalg.norm(plan.basis[0], axis=1) + 1e-9)
    ranges = [torch.arange(-b, b + 1, dtype=cell.dtype) for b in box]
    grid = torch.cartesian_prod(*ranges).view(-1, 3).to(cell.device)
    grid = grid[len(grid) // 2 + 1 :]  # the later half has the negatives of the former
    with torch.no_grad():
        near = ((grid @ reciprocal) ** 2).sum(1) <= k_max**2 * (1 + 1e-9)
    return grid[near] @ reciprocal
