"""Complete sums of every pair of atoms, as CompleteNet reads them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from potnet.crystal import SYMMETRY_TOLERANCE, Crystal
from potnet.errors import ConfigError, StructureError
from potnet.features.batch import Batch, Pairs
from potnet.features.contract import Features
from potnet.features.images import ImageBatch, Images, Shells, at_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latticesums import Potential, Shell

PAIRS_AT_ONCE = 2**12
# Smaller channels are 0: tails of shells, far below the tolerance of any sum. Networks pass over
# zeros, and files leave them out.
NEGLIGIBLE = 1e-12
# Up to so many atoms the search for a symmetry takes longer than three networks save by it.
FEW_ATOMS = 8

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CompleteFeatures(Features):
    """Radial shells and long-range potentials, summed over all periodic images of each pair.

    Calling the settings with crystals gives a :class:`Batch` whose pairs ``"complete"`` carry
    ``n_channels`` numbers: one per shell and one per long-range potential, then all shells
    weighted with each component of the direction from i to j, the real solid harmonics of degree
    1 (x, y, z) up to ``degree``. Each is a plain sum over images, so the sum over the copies of
    an atom in a larger cell equals the value in the smaller one.

    Atoms that a symmetry of the crystal maps onto each other have equal states in every network
    that reads these sums. They share one node: its row is that of the first of them, and its
    column holds the sum over all of them. It is the same function with fewer pairs.

    Attributes:
        version: Raised when the meaning of the channels changes.
        n_shells: Number of Gaussian shells.
        first_shell: Radius of the innermost shell in Å.
        last_shell: Radius of the outermost shell in Å.
        cutoff: Radius at which the smooth envelope of the shells ends in Å.
        degree: Highest degree of the directions that shells are weighted with: 1 for vectors, 2
            for tensors as well, 0 for none.
        long_range: Potentials that reach over all images, as :func:`latticesums.parse_potential`
            reads them: ``"coulomb"``, ``"exponential:2"``, ``"inverse-power:4"``. With the tail cut
            off, to measure what it is worth: ``"coulomb to 6"``.
        tolerance: Largest absolute error of a long-range sum.
        primitive: Reduce each crystal to its primitive cell first.
        symmetry_tolerance: Largest distance in Å between copies of an atom in a larger cell.
        merge_tolerance: Largest displacement in Å at which atoms count as equivalent, or none to
            give each atom its own node. Kept small: the first atom speaks for the others.
    """

    is_differentiable: ClassVar[bool] = True

    version: Literal[1] = 1
    n_shells: Annotated[int, Field(ge=0, le=256)] = 16
    first_shell: Positive = 1.0
    last_shell: Positive = 5.0
    cutoff: Annotated[float, Field(gt=0, le=50)] = 6.0
    degree: Literal[0, 1, 2] = 1
    long_range: tuple[str, ...] = ("coulomb", "london", "pauli")
    tolerance: Positive = 1e-7
    primitive: bool = True
    symmetry_tolerance: Positive = SYMMETRY_TOLERANCE
    merge_tolerance: Positive | None = 1e-5

    @field_validator("long_range")
    @classmethod
    def _are_potentials(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from potnet.sums import parse_potential

        for name in names:
            try:
                parse_potential(name)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return names

    @property
    def n_scalars(self) -> int:
        """Channels without a direction: the shells, then the long-range potentials."""
        return self.n_shells + len(self.long_range)

    @property
    def n_channels(self) -> int:
        """Numbers that each pair carries."""
        return self.n_scalars + self.n_directions * self.n_shells

    @property
    def n_directions(self) -> int:
        """Components of the directions: 3 of degree 1 and 5 of degree 2."""
        return (self.degree + 1) ** 2 - 1

    @property
    def potentials(self) -> list[Potential]:
        """Kernels of the long-range channels."""
        return list(_parsed(self.long_range))

    @property
    def centers(self) -> NDArray[np.float64]:
        """Radii of the shells in Å, shape (n_shells,)."""
        return np.linspace(self.first_shell, self.last_shell, self.n_shells)

    @property
    def shells(self) -> list[Shell]:
        """Kernels of the shells."""
        from latticesums import Shell

        return [Shell(float(center), self.width, self.cutoff) for center in self.centers]

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each channel is: a shell, a long-range potential, or a shell with a direction."""
        directed = ("directed shells",) * (self.n_directions * self.n_shells)
        return (*("shells",) * self.n_shells, *self.long_range, *directed)

    @property
    def reaches(self) -> NDArray[np.float64]:
        """Distance in Å beyond which a channel adds nothing, infinite if there is none."""
        from latticesums import CutOff

        far = [p.cutoff if isinstance(p, CutOff) else np.inf for p in self.potentials]
        shells = np.full(self.n_shells, self.cutoff)
        return np.concatenate([shells, far, np.tile(shells, self.n_directions)])

    @property
    def width(self) -> float:
        """Width of every shell in Å: their spacing, so that neighbours overlap."""
        return (self.last_shell - self.first_shell) / max(self.n_shells - 1, 1)

    def __call__(self, crystals: Sequence[Crystal]) -> Batch:
        """Return the features of ``crystals``.

        Raises:
            StructureError: If a crystal is not periodic in three directions.
        """
        cells = [self.reduced(crystal) for crystal in _checked(crystals)]
        return self.batch(cells, [self.orbits(cell) for cell in cells])

    def once(self, crystals: Sequence[Crystal]) -> Batch:
        """Return the features of ``crystals`` that are read once and not, as in training, often.

        Networks give the same results as with the features of a call. In crystals with few atoms
        each keeps a node of its own: the search for a symmetry would take longer than it saves.

        Raises:
            StructureError: If a crystal is not periodic in three directions.
        """
        cells = [self.reduced(crystal) for crystal in _checked(crystals)]
        orbits = [
            np.arange(cell.n_atoms) if cell.n_atoms <= FEW_ATOMS else self.orbits(cell)
            for cell in cells
        ]
        return self.batch(cells, orbits)

    def batch(self, cells: Sequence[Crystal], orbits: Sequence[NDArray[np.int64]]) -> Batch:
        """Return the features of crystals that are reduced, whose atoms share nodes.

        Args:
            cells: What :meth:`reduced` returns.
            orbits: Node of each atom of each, as :meth:`orbits` numbers them.
        """
        counts = np.array([cell.n_atoms for cell in cells])
        labels = np.concatenate(orbits)
        node_counts = np.maximum.reduceat(labels, np.cumsum(counts) - counts) + 1
        values = self._sums(cells, orbits, node_counts)
        nodes = labels + np.repeat(np.cumsum(node_counts) - node_counts, counts)
        first = np.unique(nodes, return_index=True)[1]
        weights = np.bincount(nodes) / np.repeat(counts, node_counts)
        return Batch(
            torch.from_numpy(np.concatenate([cell.numbers for cell in cells])[first]),
            torch.from_numpy(weights.astype(np.float32)),
            torch.from_numpy(node_counts),
            torch.from_numpy(counts),
            {"complete": _all_pairs(torch.from_numpy(node_counts), torch.from_numpy(values))},
            features=self,
        )

    def each_atom(self, crystals: Sequence[Crystal]) -> Batch:
        """Return features with a node for each atom of the cells as they are given, in order."""
        for crystal in _checked(crystals):
            crystal.require_periodic()
        return self.batch(crystals, [np.arange(crystal.n_atoms) for crystal in crystals])

    def differentiable(self, crystal: Crystal, positions: Tensor, cell: Tensor) -> Batch:
        """Return the features of one crystal as functions of its positions and its cell.

        The cell is taken as it is and each atom has its own node: the same function, without the
        steps that symmetry decides.

        Args:
            crystal: The crystal at which derivatives are wanted.
            positions: Its positions in Å, float64, shape (n_atoms, 3).
            cell: Its lattice vectors as rows in Å, float64, shape (3, 3).

        Returns:
            A batch of one crystal, float64.

        Raises:
            StructureError: If the crystal is not periodic in three directions.
        """
        from potnet.sums import directed_shells, pair_sums

        crystal.require_periodic()
        far = positions.new_zeros(len(positions) ** 2, 0)
        if self.long_range:
            far = pair_sums(positions, cell, self.potentials, tolerance=self.tolerance).values
        near = directed_shells(positions, cell, self.shells, degree=self.degree)
        scale = np.concatenate([scale for _, scale in self.channels(near, far)])
        factors = torch.from_numpy(scale).to(positions)
        values: Any = _Joined.apply(near.flatten(1), far, factors, self.n_shells)
        n = torch.tensor([crystal.n_atoms], device=positions.device)
        numbers = torch.tensor(crystal.numbers, device=positions.device)
        weights = positions.new_full((crystal.n_atoms,), 1 / crystal.n_atoms)
        pairs = {"complete": _all_pairs(n, values)}
        return Batch(numbers, weights, n, n, pairs, features=self)

    def at_images(self, crystal: Crystal, positions: Tensor, cell: Tensor) -> ImageBatch:
        """Return what :meth:`differentiable` does before shells are summed over images.

        First derivatives alone. Arguments and errors are those of :meth:`differentiable`.
        """
        from potnet.sums import images, pair_sums

        crystal.require_periodic()
        n, (shells, potentials) = crystal.n_atoms, self.factors
        listed = images(positions, cell, self.cutoff if self.n_shells else 0.0)
        numbers = positions.new_tensor(self.centers), positions.new_tensor(shells)
        kinds = Shells(*numbers, self.width, self.cutoff, self.degree)
        near, harmonics = at_images(positions, cell, listed, kinds)
        far = positions.new_zeros(n * n, 0)
        if self.long_range:
            far = pair_sums(positions, cell, self.potentials, tolerance=self.tolerance).values
        far = (far * far.new_tensor(potentials)).view(n, n, -1).transpose(1, 2).contiguous()
        return ImageBatch(
            torch.tensor(crystal.numbers),
            positions.new_full((n,), 1 / n),
            torch.tensor([n]),
            torch.tensor([n]),
            {},
            Images(*listed[:2], near, harmonics, far),
            features=self,
        )

    def _sums(
        self,
        cells: Sequence[Crystal],
        orbits: Sequence[NDArray[np.int64]],
        node_counts: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Return the channels of all pairs of nodes, crystal after crystal."""
        from potnet.sums import orbit_shells, orbit_sums

        ends = np.cumsum(node_counts**2)
        values = np.empty((ends[-1], self.n_channels), np.float32)
        start = 0
        while start < len(cells):
            # A few at a time, so that what is in double precision stays in the cache.
            first_pair = ends[start] - node_counts[start] ** 2
            stop = max(start + 1, int(np.searchsorted(ends, first_pair + PAIRS_AT_ONCE, "right")))
            some = cells[start:stop]
            arrays = (
                np.concatenate([cell.positions for cell in some]),
                np.stack([cell.cell for cell in some]),
                np.array([cell.n_atoms for cell in some]),
                np.concatenate(orbits[start:stop]),
            )
            names = [cell.id for cell in some]
            far, _ = orbit_sums(*arrays, self.long_range, tolerance=self.tolerance, names=names)
            near, _ = orbit_shells(*arrays, self.shells, degree=self.degree, names=names)
            rows, column = values[first_pair : ends[stop - 1]], 0
            for part, scale in self.channels(near, far):
                columns = slice(column, column := column + len(scale))
                np.multiply(part, scale, out=rows[:, columns], casting="same_kind")
            np.copyto(rows, 0, where=np.abs(rows) < NEGLIGIBLE)
            start = stop
        return values

    def channels(self, near: Any, far: Any) -> list[tuple[Any, NDArray[np.float64]]]:
        """Return the columns of a pair in order: shells, long range, then the components.

        With each goes its factor. They bring every channel to the order of 1 and are constants: a
        shift, or a scale that depends on the crystal, would break the additivity over the copies
        of an atom.
        """
        shells, potentials = self.factors
        directed = [(near[:, 1 + axis], shells) for axis in range(self.n_directions)]
        return [(near[:, 0], shells), (far, potentials), *directed]

    @property
    def factors(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The factors of shells and of potentials.

        A shell is divided by the square root of the atoms it meets at 0.08 per Å^3.
        """
        met = 1 + 0.08 * 4 * np.pi**1.5 * self.centers**2 * self.width
        return met**-0.5, np.array([_natural(p) for p in self.potentials])

    def reduced(self, crystal: Crystal) -> Crystal:
        """Return the crystal in the cell that is summed over.

        Raises:
            StructureError: If it is not periodic in three directions.
        """
        if self.primitive:
            return crystal.primitive(self.symmetry_tolerance)
        crystal.require_periodic()
        return crystal

    def orbits(self, crystal: Crystal) -> NDArray[np.int64]:
        """Return the node of each atom, numbered in the order of first appearance."""
        if self.merge_tolerance is None or len(set(crystal.numbers.tolist())) == crystal.n_atoms:
            return np.arange(crystal.n_atoms)
        try:
            orbits = crystal.orbits(self.merge_tolerance)
        except StructureError:
            # No group within so small a tolerance: one node an atom is the same function.
            return np.arange(crystal.n_atoms)
        return np.unique(orbits, return_inverse=True)[1]


class _Joined(torch.autograd.Function):
    """Channels of pairs from shells and potentials: one pass through the memory of all pairs.

    The columns are shells without a direction, potentials, and shells with one, times factors.
    """

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, near: Tensor, far: Tensor, factors: Tensor, n_shells: int
    ) -> Tensor:
        ctx.factors, ctx.n_shells, ctx.n_far = factors, n_shells, far.shape[1]
        values = near.new_empty(len(near), len(factors))
        for part, columns in zip(*_columns(near, far, n_shells), strict=True):
            torch.mul(part, factors[columns], out=values[:, columns])
        return values

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        parts: Any = _Parted.apply(grad_outputs[0], ctx.factors, ctx.n_shells, ctx.n_far)
        return *parts, None, None


class _Parted(torch.autograd.Function):
    """The derivatives by shells and potentials, from those by the channels."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, values: Tensor, factors: Tensor, n_shells: int, n_far: int
    ) -> tuple[Tensor, Tensor]:
        ctx.factors, ctx.n_shells = factors, n_shells
        near = values.new_empty(len(values), len(factors) - n_far)
        far = values.new_empty(len(values), n_far)
        for part, columns in zip(*_columns(near, far, n_shells), strict=True):
            torch.mul(values[:, columns], factors[columns], out=part)
        return near, far

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        return _Joined.apply(*grad_outputs, ctx.factors, ctx.n_shells), None, None, None


def _columns(near: Tensor, far: Tensor, n_shells: int) -> tuple[list[Tensor], list[slice]]:
    """Return shells, potentials and shells with a direction, and their columns in the channels."""
    n_scalars = n_shells + far.shape[1]
    places = [slice(n_shells), slice(n_shells, n_scalars), slice(n_scalars, None)]
    return [near[:, :n_shells], far, near[:, n_shells:]], places


@lru_cache(maxsize=64)
def _parsed(names: tuple[str, ...]) -> tuple[Potential, ...]:
    """Return potentials by their names."""
    from potnet.sums import parse_potential

    return tuple(parse_potential(name) for name in names)


@lru_cache(maxsize=64)
def _natural(potential: Potential) -> float:
    """Return the factor of a long-range potential: its value at 2 Å, tail or not, becomes 1 / 2."""
    from latticesums import CutOff

    whole = potential.potential if isinstance(potential, CutOff) else potential
    rounded = {"coulomb": 1.0, "london": 10.0, "pauli": 100.0}  # as the first networks took them
    at_2 = whole.value(torch.tensor(4.0, dtype=torch.float64)).item()
    return rounded.get(whole.name, 0.5 / at_2)


def _all_pairs(node_counts: Tensor, values: Tensor) -> Pairs:
    """Return all ordered pairs of each crystal, row by row, that carry ``values``."""
    counts = node_counts**2
    place = torch.arange(int(counts.sum()), device=counts.device) - torch.repeat_interleave(
        counts.cumsum(0) - counts, counts
    )
    n = torch.repeat_interleave(node_counts, counts)
    return Pairs(place // n, place % n, values, counts)


def _checked(crystals: Sequence[Crystal]) -> Sequence[Crystal]:
    """Return crystals as they are; raise if they are something else, or none."""
    is_list = isinstance(crystals, list | tuple) and len(crystals) > 0
    if not is_list or not all(isinstance(crystal, Crystal) for crystal in crystals):
        raise StructureError(
            f"features: `crystals` must be a list of Crystal, got {type(crystals).__name__} "
            f"{str(crystals)[:60]!r}. Make them with Crystal.from_any."
        )
    return crystals
