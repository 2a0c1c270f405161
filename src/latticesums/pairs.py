"""The public face of the sums: check the input, choose the path, name the result."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from latticesums import differentiable, formulas
from latticesums.compiled.support import supports
from latticesums.derivatives import DerivativeBounds, derivative_bounds
from latticesums.errors import ConfigError, LatticeSumsError
from latticesums.fixed import FixedPlan
from latticesums.inputs import (
    Crystals,
    as_pbc,
    check_dtype,
    check_finite,
    checked_shapes,
    ordered_pairs,
    require_crystal,
)
from latticesums.lattice import Crystal
from latticesums.potentials import Combination, Expansion, Potential, largest_of_each, resolve
from latticesums.radii import TOLERANCE_RANGE, check_tolerance
from latticesums.relative import relative_sums

DEFAULT_POTENTIALS = ("coulomb", "london", "pauli")

Floats = NDArray[np.float64]
OnError = Literal["raise", "skip"]


@dataclass(frozen=True)
class PairSums:
    """Lattice sums of all ordered pairs of atoms inside each crystal.

    Pairs come crystal after crystal and row by row: i is slow, j is fast, i = j included.

    Attributes:
        n_atoms: Atoms of each crystal, int64, shape (n_graphs,).
        values: One column per potential, float64 or the dtype that was asked for, shape
            (n_pairs, n_potentials); NaN for crystals that were skipped.
        bounds: Bounds of the absolute error in each crystal, or of the relative error, if that was
            asked for; not larger than the tolerance, float64, shape (n_graphs, n_potentials); NaN
            for crystals that were skipped.
        failures: What is wrong with the crystals that were skipped, by their number.
        derivative_bounds: Bounds of the errors of first derivatives, if they were asked for.
    """

    n_atoms: NDArray[np.int64]
    values: Tensor
    bounds: Tensor
    failures: Mapping[int, LatticeSumsError] = field(default_factory=dict)
    derivative_bounds: DerivativeBounds | None = None

    @property
    def error_bound(self) -> Tensor:
        """The largest bound of each column over the crystals, float64, shape (n_potentials,)."""
        if len(self.bounds) == 0:
            return self.bounds.new_zeros(self.bounds.shape[1])
        return self.bounds.nan_to_num(nan=0.0).amax(0)

    @cached_property
    def i(self) -> Tensor:
        """First atom of each pair, counted over the batch, int64, shape (n_pairs,)."""
        return ordered_pairs(self.n_atoms, self.values.device)[0]

    @cached_property
    def j(self) -> Tensor:
        """Second atom of each pair, counted over the batch, int64, shape (n_pairs,)."""
        return ordered_pairs(self.n_atoms, self.values.device)[1]


def pair_sums(
    positions: Tensor,
    cell: Tensor,
    potentials: Sequence[Potential | str] = DEFAULT_POTENTIALS,
    *,
    tolerance: float = 1e-8,
    relative: bool = False,
    dtype: torch.dtype = torch.float64,
    graph_index: Tensor | None = None,
    pbc: ArrayLike | Tensor = True,
    on_error: OnError = "raise",
    bound_derivatives: bool = False,
    plan: FixedPlan | None = None,
) -> PairSums:
    """Return S(i, j) = sum over lattice vectors L of ``V(|r_j + L - r_i|)`` for all pairs of atoms.

    The sum runs over all periodic directions without end. An atom does not see itself (i = j with
    L = 0 is left out for every potential), but sees its images. Powers too slow to be summed are
    continued analytically: ``"coulomb"`` is the sum within R less its mean growth, for large R. In
    a crystal this is a uniform neutralising background, in a slab one sheet of it (2 pi R / area),
    in a wire a line (2 log(R / Å) / length). Charges that add up to nothing do not notice.
    Computed in float64 whatever the inputs are, unless ``dtype`` says otherwise, and differentiable
    twice in ``positions``, ``cell`` and parameters that are tensors.

    Args:
        positions: Cartesian coordinates in Å, inside or outside the cell, shape (n_atoms, 3).
        cell: Lattice vectors as rows in Å, right- or left-handed, shape (n_graphs, 3, 3), or
            (3, 3) for a single crystal.
        potentials: Potentials, or names such as "coulomb" (1/r), "london" (r^-6), "pauli"
            (exp(-3 r)) and "yukawa:0.5" (exp(-0.5 r) / r).
        tolerance: Largest absolute error of a value, in the unit of the value, 1e-12 to 1e-2.
        relative: Whether the tolerance is relative to each value instead. A value that may be 0
            within what float64 can tell is refused. Takes several evaluations.
        dtype: float64, or float32 for tolerances from 1e-5 on: geometry and constants stay in
            float64, distances and waves are worked on in float32, and the bound says so.
        graph_index: Crystal of each atom, ascending, shape (n_atoms,); not needed for one crystal.
        pbc: Periodic directions, one bool, three for all crystals, or shape (n_graphs, 3). Lattice
            vectors of other directions do not matter.
        on_error: "raise" for the first crystal that cannot be summed; or "skip", to name the bad
            ones in the result, where their values are NaN. Shapes and settings raise always.
        bound_derivatives: Whether to bound the errors of first derivatives by positions and strain
            too, as autograd finds them; for crystals.
        plan: What :func:`latticesums.fixed_plan` made for the crystal, so that values change
            without a jump; potentials and tolerance are then those of the plan.

    Returns:
        Pairs, values and bounds of their error. Nothing in a batch depends on what else is in it.

    Raises:
        StructureError: If a number is not finite, a cell is singular or too thin, a crystal has no
            atom, or two atoms (or an atom and an image) are on one spot.
        ConfigError: If shapes do not fit, ``graph_index`` is not ascending, a potential is
            unknown, or the tolerance is out of range or cannot be kept in the dtype.

    References:
        Ewald, Ann. Phys. 369, 253 (1921); docs/theory.md for formulas and the proof of the bound.

    >>> import torch
    >>> cell = torch.tensor([[0.0, 2.0, 2.0], [2.0, 0.0, 2.0], [2.0, 2.0, 0.0]])
    >>> rocksalt = torch.tensor([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]])
    >>> s = pair_sums(rocksalt, cell, ["coulomb"], tolerance=1e-10).values[:, 0]
    >>> print(f"Madelung constant {2 * (s[1] - s[0]):.8f}")
    Madelung constant 1.74756459
    """
    for name, given in (("positions", positions), ("cell", cell)):
        if not isinstance(given, Tensor):
            raise ConfigError(
                f"pair_sums: `{name}` must be a tensor, got {type(given).__name__}. "
                "Use torch.as_tensor, or lattice_sums for arrays."
            )
    chosen = tuple(v.prepared(positions.device) for v in resolve(potentials))
    tolerance = check_tolerance(tolerance)
    if on_error not in ("raise", "skip"):
        raise ConfigError(
            f'pair_sums: `on_error` must be "raise" or "skip", got {on_error!r}. Use one of them.'
        )
    check_dtype(dtype, tolerance)
    positions, cells, n_atoms = checked_shapes(positions, cell, graph_index)
    crystals = Crystals(positions, cells, n_atoms, as_pbc(pbc, len(cells)), dtype)
    if plan is not None:
        check_finite(positions, n_atoms)
        is_plain = not relative and not bound_derivatives and dtype == torch.float64
        return _by_plan(crystals, chosen, plan, is_plain)
    evaluate = _relative if relative else _absolute
    if len(n_atoms) == 0:
        nothing = positions.new_zeros(0, len(chosen))
        return PairSums(n_atoms, nothing.to(dtype), nothing)
    try:
        check_finite(positions, n_atoms)
        values, bounds = evaluate(crystals, chosen, tolerance)
    except LatticeSumsError:
        if on_error == "raise":
            raise
        return _one_by_one(crystals, chosen, tolerance, evaluate)
    found = None
    if bound_derivatives:
        found = derivative_bounds(crystals, chosen, tolerance)
    return PairSums(n_atoms, values.to(dtype), bounds, derivative_bounds=found)


def _by_plan(
    crystals: Crystals, potentials: tuple[Potential, ...], plan: FixedPlan, is_plain: bool
) -> PairSums:
    """Return the sums of one crystal by a fixed plan, or raise if it is not for them."""
    if potentials not in (plan.potentials, resolve(DEFAULT_POTENTIALS)):
        raise ConfigError(
            "pair_sums: `potentials` must be those of the plan, "
            f"{', '.join(p.name for p in plan.potentials)}, got "
            f"{', '.join(p.name for p in potentials)}. Make a plan for them."
        )
    on_cpu = crystals.positions.device.type == "cpu"
    if not (is_plain and on_cpu and len(crystals.cells) == 1 and crystals.pbc.all()):
        raise ConfigError(
            "pair_sums: `plan` must be used for one crystal, in float64 on the CPU, without "
            "relative tolerances or bounds of derivatives, got another call. Sum without a plan."
        )
    values, bounds = formulas.evaluate_fixed(crystals.positions, crystals.cells, plan)
    return PairSums(crystals.n_atoms, values, bounds)


def _one_by_one(
    crystals: Crystals,
    potentials: Sequence[Potential],
    tolerance: float,
    evaluate: Callable[..., tuple[Tensor, Tensor]],
) -> PairSums:
    """Return the sums of the crystals that have some, and what is wrong with the others."""
    values, bounds, failures = [], [], {}
    for graph, n in enumerate(crystals.n_atoms.tolist()):
        number = np.array([graph])
        try:
            own = crystals.chosen(number)
            check_finite(own.positions, own.n_atoms)
            found, bound = evaluate(own, potentials, tolerance)
        except LatticeSumsError as error:
            failures[graph] = type(error)(_renumbered(str(error), number))
            found = crystals.positions.new_full((n * n, len(potentials)), torch.nan)
            bound = crystals.positions.new_full((1, len(potentials)), torch.nan)
        values.append(found)
        bounds.append(bound)
    return PairSums(
        crystals.n_atoms, torch.cat(values).to(crystals.dtype), torch.cat(bounds), failures
    )


def _relative(
    crystals: Crystals, potentials: Sequence[Potential], tolerance: float
) -> tuple[Tensor, Tensor]:
    """Return sums and the bounds of their relative errors, shape (n_graphs, n_potentials)."""
    expansion = Expansion.of(potentials, crystals.positions.device)

    def evaluate(share: Floats) -> tuple[Tensor, Tensor]:
        return _sum(crystals, expansion.terms, tolerance, share, of_each=True)

    cast = _cast_error(crystals.dtype)
    return relative_sums(evaluate, expansion, potentials, crystals.n_atoms, tolerance, cast)


def _cast_error(dtype: torch.dtype) -> float:
    """Return the relative error of the last rounding to a dtype."""
    return 0.0 if dtype == torch.float64 else 2.0**-24


def _absolute(
    crystals: Crystals, potentials: Sequence[Potential], tolerance: float
) -> tuple[Tensor, Tensor]:
    """Return sums and the bounds of their absolute errors, shape (n_graphs, n_potentials)."""
    cast = _cast_error(crystals.dtype)
    part = np.full((len(crystals.n_atoms), len(potentials)), 0.9 if cast else 1.0)
    if not cast and not any(isinstance(v, Combination) for v in potentials):
        return _sum(crystals, potentials, tolerance, part)
    expansion = Expansion.of(potentials, crystals.positions.device)
    values, bounds, rounding = _combined(crystals, expansion, tolerance, part, cast)
    high = (bounds > tolerance) & (rounding < 0.9 * tolerance)
    for graph in np.flatnonzero(high.any(1).numpy()).tolist():
        # the last roundings need more room than was kept for them: the terms get less
        own = np.array([graph])
        left = 0.98 - rounding[graph].numpy() / tolerance
        less = np.where(high[graph].numpy(), np.minimum(part[graph], left), part[graph])[None]
        try:
            found, bound, _ = _combined(crystals.chosen(own), expansion, tolerance, less, cast)
        except LatticeSumsError as error:
            raise type(error)(_renumbered(str(error), own)) from None
        values = values.index_copy(0, _index(crystals.pairs_of(own), values), found)
        bounds[graph] = bound[0]
    _certify(bounds, values, potentials, tolerance, crystals)
    return values, bounds


def _combined(
    crystals: Crystals, expansion: Expansion, tolerance: float, part: Floats, cast: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return sums of combinations, the bounds of their errors, and their last roundings."""
    sums, errors = _sum(crystals, expansion.terms, tolerance, expansion.shares(part))
    values, bounds, rounding = expansion.combine_all(sums, errors, crystals.n_atoms)
    if cast:
        last = cast * largest_of_each(values, crystals.n_atoms**2)
        bounds, rounding = bounds + last, rounding + last
    return values, bounds, rounding.cpu()


def _certify(
    bounds: Tensor,
    values: Tensor,
    potentials: Sequence[Potential],
    tolerance: float,
    crystals: Crystals,
) -> None:
    """Raise unless all bounds are within the tolerance."""
    found, n_atoms, dtype = bounds.detach().cpu().numpy(), crystals.n_atoms, crystals.dtype
    if (found <= tolerance).all():
        return
    graph, q = np.unravel_index(int(np.nan_to_num(found, nan=np.inf).argmax()), found.shape)
    ends = np.cumsum(n_atoms**2)
    own = values.detach()[ends[graph] - n_atoms[graph] ** 2 : ends[graph], int(q)]
    raise ConfigError(
        f"crystal {graph}: `tolerance` must be at least {found[graph, q]:.1e} for sums of "
        f"{potentials[int(q)].name} as large as {float(own.abs().max()):.3g} to be kept in "
        f"{str(dtype)[6:]}, got {tolerance:g}. Give a larger tolerance"
        + (", or use float64." if dtype == torch.float32 else ", or smaller coefficients.")
    )


def _index(rows: NDArray[np.int64], like: Tensor) -> Tensor:
    return torch.from_numpy(rows).to(like.device)


def _sum(
    crystals: Crystals,
    potentials: Sequence[Potential],
    tolerance: float,
    share: Floats,
    *,
    of_each: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return values and error bounds of potentials that are no combinations.

    Args:
        share: Multiplies the tolerance, shape (n_graphs, n_potentials).
        of_each: Whether to bound the error of each value, and not to refuse any.
    """
    dimensions = crystals.pbc.sum(1)
    if (dimensions == dimensions[0]).all():
        return _evaluate(crystals, potentials, tolerance, share, of_each)
    values, rows, bounds, order = [], [], [], []
    for d in np.unique(dimensions):
        graphs = np.flatnonzero(dimensions == d)
        try:
            found, bound = _evaluate(
                crystals.chosen(graphs), potentials, tolerance, share[graphs], of_each
            )
        except LatticeSumsError as error:
            raise type(error)(_renumbered(str(error), graphs)) from None
        values.append(found)
        bounds.append(bound)
        rows.append(crystals.pairs_of(graphs))
        order.append(graphs)
    back = _index(np.argsort(np.concatenate(rows)), crystals.positions)
    graphs_back = _index(np.argsort(np.concatenate(order)), crystals.positions)
    return torch.cat(values)[back], torch.cat(bounds)[back if of_each else graphs_back]


def _evaluate(
    crystals: Crystals,
    potentials: Sequence[Potential],
    tolerance: float,
    share: Floats,
    of_each: bool,
) -> tuple[Tensor, Tensor]:
    """Return what :func:`_sum` returns, for crystals that repeat in equally many directions."""
    # the compiled sums know one tolerance, so all terms are held to the smallest
    smallest = tolerance * min(float(share.min()), 1.0)
    if of_each or not _is_compiled(crystals, potentials) or smallest < TOLERANCE_RANGE[0]:
        return _differentiable(crystals, potentials, tolerance, share, of_each)
    from latticesums.compiled import sums as compiled  # numba is imported where it is needed

    found = compiled.all_pair_sums(
        crystals.positions.detach().numpy(),
        crystals.cells.detach().numpy(),
        crystals.n_atoms,
        potentials,
        tolerance=smallest,
        n_threads=torch.get_num_threads(),
    )
    values, bounds = torch.from_numpy(found.values), torch.from_numpy(found.bounds)
    for graph, error in found.errors():
        # the path in torch takes longer, but needs no list of images that serves all pairs, and
        # gives each term its own tolerance
        is_rough = isinstance(error, ConfigError) and smallest < tolerance
        if not (is_rough or found.is_too_large(graph)):
            raise error
        own = np.array([graph])
        try:
            value, bound = _differentiable(
                crystals.chosen(own), potentials, tolerance, share[own], False
            )
        except LatticeSumsError as refusal:
            raise type(refusal)(_renumbered(str(refusal), own)) from None
        values[torch.from_numpy(crystals.pairs_of(own))], bounds[graph] = value, bound[0]
    return values, bounds


def _differentiable(
    crystals: Crystals,
    potentials: Sequence[Potential],
    tolerance: float,
    share: Floats,
    of_each: bool,
) -> tuple[Tensor, Tensor]:
    """Return the sums with their derivatives, by formulas or by the tape of torch."""
    cells, d = crystals.cells, int(crystals.pbc[0].sum())
    if d < 3:
        cells = cells[torch.tensor(crystals.pbc, device=cells.device)].view(len(cells), d, 3)
    by_formulas = crystals.dtype == torch.float64 and not of_each
    if by_formulas and formulas.serves(crystals.positions, cells, potentials):
        return formulas.evaluate(
            crystals.positions, cells, crystals.n_atoms, potentials, tolerance, share
        )
    return differentiable.evaluate(
        crystals.positions,
        cells,
        crystals.n_atoms,
        potentials,
        tolerance,
        share,
        dtype=crystals.dtype,
        of_each=of_each,
    )


def _renumbered(message: str, graphs: NDArray[np.int64]) -> str:
    """Return a message about a crystal of a group with its number in the batch."""
    return re.sub(r"^crystal (\d+)", lambda m: f"crystal {graphs[int(m[1])]}", message)


def _is_compiled(crystals: Crystals, potentials: Sequence[Potential]) -> bool:
    """Return whether the compiled sums, without gradients on the CPU, can do this sum."""
    positions, cells = crystals.positions, crystals.cells
    if positions.device.type != "cpu":
        return False
    if not crystals.pbc.all() or any(potential.tensors for potential in potentials):
        return False
    if torch.is_grad_enabled() and (positions.requires_grad or cells.requires_grad):
        return False
    return supports(potentials)


@dataclass(frozen=True)
class LatticeSums:
    """Lattice sums of one crystal.

    Attributes:
        values: S(i, j) of each potential, float64, shape (n_atoms, n_atoms, n_potentials); NaN if
            the crystal was skipped.
        error_bound: Bound of the absolute error, or of the relative one, if that was asked for,
            float64, shape (n_potentials,).
        potentials: Names of the potentials.
        failure: What is wrong with the crystal if it was skipped.
    """

    values: Floats
    error_bound: Floats
    potentials: tuple[str, ...]
    failure: LatticeSumsError | None = None


@overload
def lattice_sums(
    crystal: Crystal,
    potentials: Sequence[Potential | str] = ...,
    *,
    tolerance: float = ...,
    relative: bool = ...,
    on_error: OnError = ...,
    plan: FixedPlan | None = ...,
) -> LatticeSums: ...


@overload
def lattice_sums(
    crystal: Sequence[Crystal],
    potentials: Sequence[Potential | str] = ...,
    *,
    tolerance: float = ...,
    relative: bool = ...,
    on_error: OnError = ...,
) -> list[LatticeSums]: ...


def lattice_sums(
    crystal: Crystal | Sequence[Crystal],
    potentials: Sequence[Potential | str] = DEFAULT_POTENTIALS,
    *,
    tolerance: float = 1e-8,
    relative: bool = False,
    on_error: OnError = "raise",
    plan: FixedPlan | None = None,
) -> LatticeSums | list[LatticeSums]:
    """Return the lattice sums of all pairs of atoms of a crystal, or of each of many.

    See :func:`pair_sums` for conventions and errors.

    Args:
        crystal: Anything with positions, cell and pbc, such as :class:`Atoms` or an ASE structure;
            its cell is used as it is, in the directions in which it repeats. Or a list of them,
            which takes much less time than one after the other, on all threads of torch.
        potentials: Potentials or their names.
        tolerance: Largest absolute error of a value, 1e-12 to 1e-2.
        relative: Whether the tolerance is relative to each value instead.
        on_error: "raise" for the first crystal that cannot be summed, or "skip" the bad ones.
        plan: A plan for this crystal, from :func:`latticesums.fixed_plan`; potentials and tolerance
            are then those of the plan.

    >>> atoms = Atoms([[0.0, 0, 0], [2, 2, 2]], [[0.0, 2, 2], [2, 0, 2], [2, 2, 0]])
    >>> lattice_sums(atoms, ["coulomb", "yukawa:0.5"]).values.shape
    (2, 2, 2)
    """
    many = not hasattr(crystal, "cell") and isinstance(crystal, Sequence)
    crystals: Sequence[Crystal] = crystal if many else [crystal]  # pyright: ignore
    for item in crystals:
        require_crystal("lattice_sums", item)
    if not crystals:
        return []
    named = _named(potentials if plan is None else plan.potentials)
    is_quick = not many and not relative and plan is None
    if is_quick and (quick := _compiled_sums(crystals[0], named, tolerance)):
        return quick
    positions = [np.asarray(c.positions, dtype=np.float64).reshape(-1, 3) for c in crystals]
    n_atoms = np.array([len(x) for x in positions])
    with torch.no_grad():
        sums = pair_sums(
            torch.from_numpy(np.concatenate(positions)),
            torch.from_numpy(np.stack([np.asarray(c.cell, dtype=np.float64) for c in crystals])),
            named.potentials,
            tolerance=tolerance,
            relative=relative,
            graph_index=torch.from_numpy(np.repeat(np.arange(len(crystals)), n_atoms)),
            pbc=_repeats(crystals),
            on_error=on_error,
            plan=plan,
        )
    values, start, found = sums.values.numpy(), 0, []
    for graph, (n, bound) in enumerate(zip(n_atoms.tolist(), sums.bounds.numpy(), strict=True)):
        block = values[start : start + n * n].reshape(n, n, values.shape[1])
        found.append(LatticeSums(block, bound, named.names, sums.failures.get(graph)))
        start += n * n
    return found if many else found[0]


def _repeats(crystals: Sequence[Crystal]) -> NDArray[np.bool_] | bool:
    """Return the directions in which crystals repeat, shape (n, 3), or True if all do in all."""
    if all(crystal.pbc is True for crystal in crystals):
        return True
    return np.stack([np.broadcast_to(crystal.pbc, 3) for crystal in crystals])


class _Named(NamedTuple):
    """Potentials, their names, what the compiled sums know of them, or None, and what sums them."""

    potentials: tuple[Potential, ...]
    names: tuple[str, ...]
    described: Any
    sum: Callable[..., tuple[Floats, Floats] | None]


def _named(potentials: Sequence[Potential | str]) -> _Named:
    """Return potentials with their names; what is given by name alone is looked up once."""
    if potentials is DEFAULT_POTENTIALS:
        return _named_before(DEFAULT_POTENTIALS)
    given = (potentials,) if isinstance(potentials, str) else tuple(potentials)
    if all(type(item) is str for item in given):
        return _named_before(given)
    return _described(given)


@lru_cache(maxsize=64)
def _named_before(names: tuple[str, ...]) -> _Named:
    return _described(names)


def _described(potentials: Sequence[Potential | str]) -> _Named:
    chosen = resolve(potentials)
    names = tuple(potential.name for potential in chosen)
    from latticesums.compiled import sums as compiled  # numba is imported where it is needed

    is_compiled = supports(chosen) and not any(potential.tensors for potential in chosen)
    described = compiled.Described(chosen) if is_compiled else None
    return _Named(chosen, names, described, compiled.sums_of_one)


def _compiled_sums(crystal: Crystal, named: _Named, tolerance: float) -> LatticeSums | None:
    """Return the compiled sums of one crystal, without a detour through tensors.

    None where they do not suffice: the long way round does it, or says what is wrong.
    """
    pbc = crystal.pbc
    if named.described is None or not (pbc is True or np.asarray(pbc).all()):
        return None
    tolerance = check_tolerance(tolerance)
    found = named.sum(crystal.positions, crystal.cell, named.described, tolerance)
    return found and LatticeSums(*found, named.names)
