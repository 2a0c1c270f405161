"""What callers give, checked: positions, cells, the crystal of each atom, where each repeats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from latticesums.errors import ConfigError, StructureError

#: Tolerances below this are refused in float32.
SMALLEST_IN_FLOAT32 = 1e-5


@dataclass(frozen=True)
class Crystals:
    """What was checked: float64 tensors, the atoms of each crystal, where each repeats; and what
    to compute in."""

    positions: Tensor
    cells: Tensor
    n_atoms: NDArray[np.int64]
    pbc: NDArray[np.bool_]
    dtype: torch.dtype = torch.float64

    def chosen(self, graphs: NDArray[np.int64]) -> Crystals:
        """Return some of the crystals, in their order."""
        device = self.positions.device
        owner = np.repeat(np.arange(len(self.cells)), self.n_atoms)
        atoms = torch.from_numpy(np.flatnonzero(np.isin(owner, graphs))).to(device)
        cells = self.cells[torch.from_numpy(graphs).to(device)]
        pbc = self.pbc[graphs]
        return Crystals(self.positions[atoms], cells, self.n_atoms[graphs], pbc, self.dtype)

    def pairs_of(self, graphs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the pairs that belong to some of the crystals."""
        chosen = np.isin(np.arange(len(self.cells)), graphs)
        return np.flatnonzero(np.repeat(chosen, self.n_atoms**2))


def require_crystal(where: str, item: object) -> None:
    """Raise unless ``item`` has positions, cell and pbc.

    Args:
        where: Name of the function, for the message.
        item: What should be a crystal.

    Raises:
        StructureError: If it lacks one of them.
    """
    if not (hasattr(item, "positions") and hasattr(item, "cell") and hasattr(item, "pbc")):
        raise StructureError(
            f"{where}: `crystal` must have positions, cell and pbc, got {type(item).__name__}. "
            "Use latticesums.Atoms(positions, cell)."
        )


def as_pbc(pbc: ArrayLike | Tensor, n_graphs: int) -> NDArray[np.bool_]:
    """Return the periodic directions of each crystal, shape (n_graphs, 3)."""
    flags = np.asarray(pbc.detach().cpu() if isinstance(pbc, Tensor) else pbc)
    if flags.shape not in ((), (3,), (n_graphs, 3)) or flags.dtype != np.bool_:
        raise ConfigError(
            f"pair_sums: `pbc` must be one bool, three, or three for each of the {n_graphs} "
            f"crystals, got {flags.dtype} of shape {flags.shape}. Use pbc=True for crystals."
        )
    return np.broadcast_to(flags, (n_graphs, 3))


def checked_batch(
    positions: Tensor, cell: Tensor, graph_index: Tensor | None
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Return float64 positions and cells, and the atoms of each crystal, or say what is wrong."""
    positions, cells, n_atoms = checked_shapes(positions, cell, graph_index)
    check_finite(positions, n_atoms)
    return positions, cells, n_atoms


def check_dtype(dtype: torch.dtype, tolerance: float) -> None:
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


def checked_shapes(
    positions: Tensor, cell: Tensor, graph_index: Tensor | None
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Return float64 positions and cells, and the number of atoms of each crystal."""
    if any(is_functorch_wrapped_tensor(tensor) for tensor in (positions, cell)):
        raise ConfigError(
            "pair_sums: `positions` and `cell` must be plain tensors, got those of a torch.func "
            "transform. Use torch.autograd.grad and torch.autograd.functional for derivatives, "
            "and graph_index for many crystals."
        )
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


def are_finite(numbers: Tensor) -> bool:
    """Return whether all numbers are finite."""
    given = numbers.detach()
    if given.device.type == "cpu":  # a tenth of the time that torch takes for a few
        return bool(np.isfinite(given.numpy()).all())
    return bool(given.isfinite().all())


def check_finite(positions: Tensor, n_atoms: NDArray[np.int64]) -> None:
    """Raise if a coordinate is not finite."""
    if are_finite(positions):
        return
    finite = positions.detach().isfinite().all(1)
    atom = int(finite.logical_not().int().argmax())
    ends = np.cumsum(n_atoms)
    graph = int(np.searchsorted(ends, atom, side="right"))
    raise StructureError(
        f"crystal {graph}: `positions` must be finite, got "
        f"{positions.detach()[atom].tolist()} for atom {atom - ends[graph] + n_atoms[graph]}. "
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
