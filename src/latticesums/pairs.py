"""The public face of the sums: check the input, choose the path, name the result."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from latticesums import differentiable
from latticesums.errors import ConfigError, StructureError
from latticesums.lattice import Crystal
from latticesums.plan import TOLERANCE_RANGE
from latticesums.potentials import Combination, Expansion, Potential, resolve
from latticesums.relative import relative_sums

DEFAULT_POTENTIALS = ("coulomb", "london", "pauli")
#: Tolerances below this are refused in float32.
SMALLEST_IN_FLOAT32 = 1e-5


@dataclass(frozen=True)
class PairSums:
    """Lattice sums of all ordered pairs of atoms inside each crystal.

    Pairs come crystal after crystal and row by row: i is slow, j is fast, i = j included.

    Attributes:
        i: First atom of each pair, counted over the batch, int64, shape (n_pairs,).
        j: Second atom of each pair, counted over the batch, int64, shape (n_pairs,).
        values: One column per potential, float64 or the dtype that was asked for, shape
            (n_pairs, n_potentials).
        error_bound: Bound of the absolute error of each column, the largest over the crystals, or
            of the relative error over all values, if that was asked for; not larger than the
            tolerance, float64, shape (n_potentials,).
    """

    i: Tensor
    j: Tensor
    values: Tensor
    error_bound: Tensor


@dataclass(frozen=True)
class LatticeSums:
    """Lattice sums of one crystal.

    Attributes:
        values: S(i, j) of each potential, float64, shape (n_atoms, n_atoms, n_potentials).
        error_bound: Bound of the absolute error, or of the relative one, if that was asked for,
            float64, shape (n_potentials,).
        potentials: Names of the potentials.
    """

    values: NDArray[np.float64]
    error_bound: NDArray[np.float64]
    potentials: tuple[str, ...]


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
        potentials: Potentials, or names out of "coulomb" (1/r), "london" (r^-6) and "pauli"
            (exp(-3 r)).
        tolerance: Largest absolute error of a value, in the unit of the value, 1e-12 to 1e-2.
        relative: Whether the tolerance is relative to each value instead. A value that may be 0
            within what float64 can tell is refused. Takes several evaluations.
        dtype: float64, or float32 for tolerances from 1e-5 on: geometry and constants stay in
            float64, distances and waves are worked on in float32, and the bound says so.
        graph_index: Crystal of each atom, ascending, shape (n_atoms,); not needed for one crystal.
        pbc: Periodic directions, one bool, three for all crystals, or shape (n_graphs, 3). Lattice
            vectors of other directions do not matter.

    Returns:
        Pairs, values and a bound of their error.

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
    chosen = tuple(v.prepared(positions.device) for v in resolve(potentials))
    positions, cells, n_atoms = checked_batch(positions, cell, graph_index)
    periodic = _as_pbc(pbc, len(cells))
    i, j = ordered_pairs(n_atoms, positions.device)
    if len(n_atoms) == 0:
        empty = positions.new_zeros(len(chosen))
        return PairSums(i, j, positions.new_zeros(0, len(chosen), dtype=dtype), empty)
    _check_dtype(dtype, tolerance)
    crystals = _Crystals(positions, cells, n_atoms, periodic, dtype)
    cast = 0.0 if dtype == torch.float64 else 2.0**-24  # relative error of the last rounding
    part = np.full((len(n_atoms), len(chosen)), 0.9 if cast else 1.0)
    if relative:
        expansion = Expansion.of(chosen, positions.device)

        def evaluate(share: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
            return _sum(crystals, expansion.terms, tolerance, share, of_each=True)

        values, bound = relative_sums(evaluate, expansion, chosen, n_atoms, tolerance, cast)
        return PairSums(i, j, values.to(dtype), bound)
    if any(isinstance(potential, Combination) for potential in chosen):
        expansion = Expansion.of(chosen, positions.device)
        sums = _sum(crystals, expansion.terms, tolerance, expansion.shares(part))
        values, bound = expansion.combine(*sums)
    else:
        values, bound = _sum(crystals, chosen, tolerance, part)
    if cast:
        bound = bound + cast * values.detach().abs().amax(0)
        if not bool((bound <= tolerance).all()):
            raise ConfigError(
                f"pair_sums: `tolerance` must be at least {float(bound.max()):.1e} for sums as "
                f"large as {float(values.detach().abs().max()):.3g} to be kept in float32, got "
                f"{tolerance:g}. Give a larger tolerance, or use float64."
            )
    return PairSums(i, j, values.to(dtype), bound)


def lattice_sums(
    crystal: Crystal,
    potentials: Sequence[Potential | str] = DEFAULT_POTENTIALS,
    *,
    tolerance: float = 1e-8,
    relative: bool = False,
) -> LatticeSums:
    """Return the lattice sums of all pairs of atoms of ``crystal``, as numpy arrays.

    See :func:`pair_sums` for conventions and errors.

    Args:
        crystal: The crystal; its cell is used as it is, in the directions in which it repeats.
        potentials: Potentials or their names.
        tolerance: Largest absolute error of a value, 1e-12 to 1e-2.
        relative: Whether the tolerance is relative to each value instead.
    """
    chosen = resolve(potentials)
    positions = torch.tensor(np.asarray(crystal.positions), dtype=torch.float64)
    cell = torch.tensor(np.asarray(crystal.cell), dtype=torch.float64)
    with torch.no_grad():
        sums = pair_sums(
            positions, cell, chosen, tolerance=tolerance, relative=relative, pbc=crystal.pbc
        )
    n = len(positions)
    return LatticeSums(
        values=sums.values.view(n, n, len(chosen)).numpy(),
        error_bound=sums.error_bound.numpy(),
        potentials=tuple(potential.name for potential in chosen),
    )


@dataclass(frozen=True)
class _Crystals:
    """What was checked: float64 tensors, the atoms of each crystal, where each repeats; and what
    to compute in."""

    positions: Tensor
    cells: Tensor
    n_atoms: NDArray[np.int64]
    pbc: NDArray[np.bool_]
    dtype: torch.dtype

    def chosen(self, graphs: NDArray[np.int64]) -> _Crystals:
        """Return some of the crystals."""
        device = self.positions.device
        owner = np.repeat(np.arange(len(self.cells)), self.n_atoms)
        atoms = torch.from_numpy(np.flatnonzero(np.isin(owner, graphs))).to(device)
        cells = self.cells[torch.from_numpy(graphs).to(device)]
        pbc = self.pbc[graphs]
        return _Crystals(self.positions[atoms], cells, self.n_atoms[graphs], pbc, self.dtype)


def _sum(
    crystals: _Crystals,
    potentials: Sequence[Potential],
    tolerance: float,
    share: NDArray[np.float64],
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
    parts, rows, bounds = [], [], []
    for d in np.unique(dimensions):
        graphs = np.flatnonzero(dimensions == d)
        try:
            values, error_bound = _evaluate(
                crystals.chosen(graphs), potentials, tolerance, share[graphs], of_each
            )
        except (ConfigError, StructureError) as error:
            raise type(error)(_renumbered(str(error), graphs)) from None
        parts.append(values)
        rows.append(np.flatnonzero(np.repeat(dimensions == d, crystals.n_atoms**2)))
        bounds.append(error_bound)
    back = torch.from_numpy(np.argsort(np.concatenate(rows))).to(crystals.positions.device)
    errors = torch.cat(bounds)[back] if of_each else torch.stack(bounds).amax(0)
    return torch.cat(parts)[back], errors


def _evaluate(
    crystals: _Crystals,
    potentials: Sequence[Potential],
    tolerance: float,
    share: NDArray[np.float64],
    of_each: bool,
) -> tuple[Tensor, Tensor]:
    """Return what :func:`_sum` returns, for crystals that repeat in equally many directions."""
    positions, cells, n_atoms = crystals.positions, crystals.cells, crystals.n_atoms
    pbc = crystals.pbc

    def in_torch(rows: Tensor) -> tuple[Tensor, Tensor]:
        return differentiable.evaluate(
            positions,
            rows,
            n_atoms,
            potentials,
            tolerance,
            share,
            dtype=crystals.dtype,
            of_each=of_each,
        )

    if not pbc.all():
        rows = cells[torch.tensor(pbc, device=cells.device)]
        return in_torch(rows.view(len(cells), int(pbc[0].sum()), 3))
    fast = None if of_each else _fast_path(positions, cells, potentials)
    # the compiled sums know one tolerance, so all terms are held to the smallest
    smallest = tolerance * min(float(share.min()), 1.0)
    if fast is None or smallest < TOLERANCE_RANGE[0] <= tolerance:
        return in_torch(cells)
    try:
        sums, bounds = fast.pair_sums(
            positions.detach().numpy(),
            cells.detach().numpy(),
            n_atoms,
            potentials,
            tolerance=smallest,
            n_threads=torch.get_num_threads(),
        )
    except ConfigError:
        if smallest == tolerance:
            raise
        return in_torch(cells)
    return torch.from_numpy(sums), torch.from_numpy(bounds.max(0))


def _renumbered(message: str, graphs: NDArray[np.int64]) -> str:
    """Return a message about a crystal of a group with its number in the batch."""
    return re.sub(r"^crystal (\d+)", lambda m: f"crystal {graphs[int(m[1])]}", message)


def _as_pbc(pbc: ArrayLike | Tensor, n_graphs: int) -> NDArray[np.bool_]:
    """Return the periodic directions of each crystal, shape (n_graphs, 3)."""
    flags = np.asarray(pbc.detach().cpu() if isinstance(pbc, Tensor) else pbc)
    if flags.shape not in ((), (3,), (n_graphs, 3)) or flags.dtype != np.bool_:
        raise ConfigError(
            f"pair_sums: `pbc` must be one bool, three, or three for each of the {n_graphs} "
            f"crystals, got {flags.dtype} of shape {flags.shape}. Use pbc=True for crystals."
        )
    return np.broadcast_to(flags, (n_graphs, 3))


def _fast_path(
    positions: Tensor, cells: Tensor, potentials: Sequence[Potential]
) -> ModuleType | None:
    """Return the module that sums without gradients on the CPU, if it can do this sum."""
    if positions.device.type != "cpu":
        return None
    if torch.is_grad_enabled() and (positions.requires_grad or cells.requires_grad):
        return None
    if any(potential.tensors for potential in potentials):
        return None
    try:
        from latticesums.compiled import sums as fast
    except ImportError:  # no numba on this platform: the torch path gives the same numbers
        return None
    return fast if fast.supports(potentials) else None


def checked_batch(
    positions: Tensor, cell: Tensor, graph_index: Tensor | None
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Return float64 positions and cells, and the atoms of each crystal, or say what is wrong."""
    batch = _check_shapes(positions, cell, graph_index)
    _check_finite(batch[0], graph_index)
    return batch


def _check_dtype(dtype: torch.dtype, tolerance: float) -> None:
    if dtype == torch.float64:
        return
    if dtype != torch.float32:
        raise ConfigError(
            f"pair_sums: `dtype` must be torch.float64 or torch.float32, got {dtype}. Use one."
        )
    if tolerance < SMALLEST_IN_FLOAT32:
        raise ConfigError(
            f"pair_sums: `tolerance` must be at least {SMALLEST_IN_FLOAT32:g} in float32, got "
            f"{tolerance:g}. Give a larger tolerance, or use float64."
        )
    if torch.get_float32_matmul_precision() != "highest":
        raise ConfigError(
            'pair_sums: torch\'s float32 matmul precision must be "highest" for sums in float32, '
            f'got "{torch.get_float32_matmul_precision()}". Call '
            'torch.set_float32_matmul_precision("highest"), or use float64.'
        )


def _check_shapes(
    positions: Tensor, cell: Tensor, graph_index: Tensor | None
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Return float64 positions and cells, and the number of atoms of each crystal."""
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise ConfigError(
            "pair_sums: `positions` must have shape (n_atoms, 3), got "
            f"{tuple(positions.shape)}. Give one row of Cartesian coordinates per atom."
        )
    if cell.ndim not in (2, 3) or cell.shape[-2:] != (3, 3):
        raise ConfigError(
            "pair_sums: `cell` must have shape (3, 3) or (n_graphs, 3, 3), got "
            f"{tuple(cell.shape)}. Give lattice vectors as rows."
        )
    cells = cell.to(torch.float64).view(-1, 3, 3)
    if cells.device != positions.device:
        raise ConfigError(
            f"pair_sums: `cell` must be on the device of `positions`, {positions.device}, got "
            f"{cells.device}. Move one of them."
        )
    if graph_index is None:
        if len(cells) != 1:
            raise ConfigError(
                f"pair_sums: `graph_index` must be given for {len(cells)} crystals, got None. "
                "Give the crystal of each atom."
            )
        n_atoms = np.array([len(positions)])
    else:
        n_atoms = _count_atoms(graph_index, len(positions), len(cells))
    if (n_atoms == 0).any():
        raise StructureError(
            f"crystal {int(np.argmin(n_atoms))}: `positions` must hold at least one atom of each "
            "crystal, got none. Leave empty crystals out."
        )
    return positions.to(torch.float64), cells, n_atoms


def _count_atoms(graph_index: Tensor, n_atoms: int, n_graphs: int) -> NDArray[np.int64]:
    if graph_index.shape != (n_atoms,) or graph_index.is_floating_point():
        raise ConfigError(
            f"pair_sums: `graph_index` must hold one integer for each of the {n_atoms} atoms, got "
            f"{graph_index.dtype} of shape {tuple(graph_index.shape)}. Give the crystal of each "
            "atom."
        )
    index = graph_index.detach().cpu().numpy()
    if (np.diff(index) < 0).any():
        at = int(np.argmax(np.diff(index) < 0))
        raise ConfigError(
            f"pair_sums: `graph_index` must be ascending, got {index[at]} before {index[at + 1]}. "
            "Sort the atoms, crystal after crystal."
        )
    if n_atoms and not 0 <= index[0] <= index[-1] < n_graphs:
        raise ConfigError(
            f"pair_sums: `graph_index` must lie between 0 and {n_graphs - 1}, got {index[0]} to "
            f"{index[-1]}. Number the crystals in the order of `cell`."
        )
    return np.bincount(index, minlength=n_graphs)


def _check_finite(positions: Tensor, graph_index: Tensor | None) -> None:
    finite = positions.detach().isfinite().all(1)
    if not bool(finite.all()):
        atom = int(finite.logical_not().int().argmax())
        graph = 0 if graph_index is None else int(graph_index[atom])
        raise StructureError(
            f"crystal {graph}: `positions` must be finite, got "
            f"{positions.detach()[atom].tolist()} for atom {atom} of the batch. "
            "Give coordinates in Å."
        )


def ordered_pairs(n_atoms: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return atoms i and j of all ordered pairs, crystal after crystal, j fast."""
    per_atom = np.repeat(n_atoms, n_atoms)  # pairs that atom i begins
    i = np.repeat(np.arange(len(per_atom)), per_atom)
    first = np.repeat(np.cumsum(n_atoms) - n_atoms, n_atoms)
    shift = np.repeat(first - (np.cumsum(per_atom) - per_atom), per_atom)
    j = np.arange(len(i)) + shift
    return torch.from_numpy(i).to(device), torch.from_numpy(j).to(device)
