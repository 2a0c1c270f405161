"""What is bonded to what: molecules, chains, layers or a network, and a single layer of a crystal.

Bonds are as long as k times the sum of two covalent radii (Cordero et al., Dalton Trans. 2832
(2008)). There is no k for all crystals: it is the crystal itself that tells. As k grows, atoms
become molecules, these chains, layers and in the end one network; what lasts over the widest range
of k is what the crystal is (Larsen et al., Phys. Rev. Materials 3, 034003 (2019)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from potnet.crystal.elements import covalent_radii
from potnet.crystal.translations import integer_basis
from potnet.errors import StructureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from potnet.crystal.crystal import Crystal

VACUUM = 20.0  # Å, around a single layer
_WORDS = ("molecules", "chains", "layers", "a network")
_LONGEST = 2.0  # sums of radii: nothing is a bond from there on
_STEEPNESS = 1 / 0.15**2  # of the score, as published
_SHORTER = 1e-6  # sums of radii: bonds that differ by less are equally long


@dataclass(frozen=True)
class Bonding:
    """The parts that a crystal falls into.

    Attributes:
        dimensions: In how many directions each part goes on without end, each number once: (0,)
            molecules, (1,) chains, (2,) layers, (3,) a network, (0, 2) molecules between layers.
        score: Between 0 and 1: the share of the range of bond lengths over which this holds.
        parts: Part of each atom, named by one of its atoms, shape (n_atoms,).
        shifts: Lattice vectors by which each atom is to move to lie beside the others of its part,
            shape (n_atoms, 3).
        translations: For each part the lattice vectors that lead on in it, an independent set.
    """

    dimensions: tuple[int, ...]
    score: float
    parts: NDArray[np.int64]
    shifts: NDArray[np.int64]
    translations: dict[int, list[list[int]]]

    @property
    def is_layered(self) -> bool:
        """Whether the crystal consists of layers alone."""
        return self.dimensions == (2,)

    @property
    def words(self) -> str:
        """What the crystal consists of, such as "molecules and layers"."""
        return " and ".join(_WORDS[n] for n in self.dimensions)


def bonding(crystal: Crystal) -> Bonding:
    """Return the parts that a crystal falls into.

    >>> from potnet import Crystal
    >>> graphene = Crystal([6, 6], [[0, 0, 0], [1.23, 0.71, 0]],
    ...                    [[2.46, 0, 0], [1.23, 2.13, 0], [0, 0, 15]])
    >>> bonding(graphene).dimensions
    (2,)
    """
    i, j, shifts, lengths = _contacts(crystal)
    parts = _Parts(crystal.n_atoms)
    scores: dict[tuple[int, ...], float] = {}
    best: dict[tuple[int, ...], tuple[float, tuple]] = {}  # the widest range of each kind
    start = 0.0

    def close(end: float) -> None:
        """Note what holds from ``start`` to ``end``."""
        kind, gain = parts.dimensions(), _score(end) - _score(start)
        scores[kind] = scores.get(kind, 0.0) + gain
        if gain > best.get(kind, (0.0,))[0]:
            best[kind] = gain, (parts.labels.copy(), parts.shifts.copy(), dict(parts.translations))

    ends = [*(np.flatnonzero(np.diff(lengths) > _SHORTER) + 1).tolist(), len(lengths)]
    reached = 0
    for stop in ends if len(lengths) else []:
        length = float(lengths[reached])
        bonds = [(i[k], j[k], shifts[k]) for k in range(reached, stop)]
        reached = stop
        fresh = [bond for bond in bonds if parts.changes(*bond)]
        if not fresh:
            continue
        close(length)
        start = length
        for bond in fresh:
            parts.join(*bond)
        if parts.dimensions() == (3,) and len(parts.translations) == 1:
            break
    close(np.inf)
    kind = max(scores, key=scores.__getitem__)
    return Bonding(kind, scores[kind], *best[kind][1])


def single_layer(crystal: Crystal, vacuum: float = VACUUM) -> Crystal:
    """Return one layer of a layered crystal, the thickest, in a cell with vacuum.

    Args:
        crystal: A crystal that consists of layers.
        vacuum: Distance of a layer to its image in Å.

    Raises:
        StructureError: If the crystal does not consist of layers.
    """
    found = bonding(crystal)
    if not found.is_layered:
        raise StructureError(
            f"{crystal.id or 'crystal'}: the crystal must consist of layers, got parts that go on "
            f"in {', '.join(map(str, found.dimensions))} directions. Take another crystal."
        )
    labels, counts = np.unique(found.parts, return_counts=True)
    part = int(labels[counts.argmax()])
    atoms = np.flatnonzero(found.parts == part)
    plane = _reduced_plane(np.array(found.translations[part]) @ crystal.cell)
    normal = np.cross(*plane)
    normal /= np.linalg.norm(normal)
    positions = crystal.positions[atoms] + found.shifts[atoms] @ crystal.cell
    heights = positions @ normal
    cell = np.vstack([plane, normal * (np.ptp(heights) + vacuum)])
    positions -= normal * (heights.min() + heights.max()) / 2 - cell[2] / 2
    return crystal.replace(numbers=crystal.numbers[atoms], positions=positions, cell=cell, pbc=True)


def spacing(crystal: Crystal, found: Bonding) -> float:
    """Return the widest empty space between the layers of a layered crystal, in Å.

    Measured between the centres of atoms, across the layers: 3 to 4 Å in crystals as they are.

    Args:
        crystal: A crystal that consists of layers.
        found: What :func:`bonding` says of it.
    """
    plane = np.array(next(iter(found.translations.values()))) @ crystal.cell
    normal = np.cross(*plane)
    area = float(np.linalg.norm(normal))
    period = crystal.volume / area  # from a lattice plane to the next
    heights = np.sort((crystal.positions @ normal / area) % period)
    return float(np.diff(heights, append=heights[0] + period).max())


def stretched(crystal: Crystal, found: Bonding, factor: float) -> Crystal:
    """Return a layered crystal with the same layers ``factor`` times as far apart.

    Each layer moves as a whole along the normal, by its middle; the volume is ``factor`` times as
    large.

    Args:
        crystal: A crystal that consists of layers.
        found: What :func:`bonding` says of it.
        factor: Of the distance between the middles of layers.
    """
    normal = np.cross(*np.array(next(iter(found.translations.values()))) @ crystal.cell)
    normal /= np.linalg.norm(normal)
    positions = crystal.positions + found.shifts @ crystal.cell  # whole layers
    heights = positions @ normal
    for part in found.translations:
        inside = found.parts == part
        heights[inside] = heights[inside].mean()
    grown = np.outer(crystal.cell @ normal, normal) * (factor - 1)
    moved = positions + np.outer(heights, normal) * (factor - 1)
    return crystal.replace(positions=moved, cell=crystal.cell + grown)


class _Parts:
    """Atoms that bonds join to parts, one bond after the other.

    Attributes:
        labels: Part of each atom, named by one of its atoms.
        shifts: Lattice vectors by which each atom moves to lie beside the others of its part.
        translations: Lattice of each part: a basis, in units of the lattice vectors.
    """

    def __init__(self, n_atoms: int) -> None:
        self.labels = np.arange(n_atoms)
        self.shifts = np.zeros((n_atoms, 3), dtype=np.int64)
        self.translations: dict[int, list[list[int]]] = {k: [] for k in range(n_atoms)}

    def dimensions(self) -> tuple[int, ...]:
        """Return the ranks of the parts' lattices, each once."""
        return tuple(sorted({len(basis) for basis in self.translations.values()}))

    def changes(self, i: int, j: int, shift: NDArray[np.int64]) -> bool:
        """Return whether a bond from atom i to atom j, ``shift`` cells away, joins anything."""
        part = int(self.labels[i])
        return part != self.labels[j] or self._extended(part, self._step(i, j, shift)) is not None

    def join(self, i: int, j: int, shift: NDArray[np.int64]) -> None:
        """Add the bond."""
        step = self._step(i, j, shift)
        part, other = int(self.labels[i]), int(self.labels[j])
        if part == other:
            basis = self._extended(part, step)
        else:
            moved = self.labels == other
            self.labels[moved] = part
            self.shifts[moved] += step
            basis = integer_basis(self.translations[part] + self.translations.pop(other))
        if basis is not None:
            self.translations[part] = basis

    def _step(self, i: int, j: int, shift: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how far atom j, as a neighbour of i, lies from where its own part has it."""
        return self.shifts[i] + shift - self.shifts[j]

    def _extended(self, part: int, step: NDArray[np.int64]) -> list[list[int]] | None:
        """Return the lattice of a part with one more translation, None if it has it already."""
        if not step.any():
            return None
        old = self.translations[part]
        new = integer_basis([*old, step.tolist()])
        return new if _pivots(new) != _pivots(old) else None


def _pivots(basis: list[list[int]]) -> list[tuple[int, int]]:
    """Return place and size of the first number of each row: they tell a lattice from a finer."""
    return [next((k, n) for k, n in enumerate(row) if n) for row in basis]


def _score(length: float) -> float:
    """Return how much of the range of bond lengths lies below ``length`` (Larsen, eq. 2)."""
    if length == np.inf:
        return 1.0
    x = _STEEPNESS * max(0.0, length - 1) ** 2
    return x / (1 + x)


def _contacts(
    crystal: Crystal,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return both atoms, the cells between them and the length, in radii, of possible bonds.

    Sorted by length; each bond once.
    """
    from vesin import NeighborList

    radii = covalent_radii(crystal.numbers)
    search = NeighborList(cutoff=2 * _LONGEST * float(radii.max()), full_list=False)
    i, j, shifts, distances = search.compute(crystal.positions, crystal.cell, True, "ijSd")
    i, j, shifts = (np.asarray(array).astype(np.int64) for array in (i, j, shifts))
    lengths = distances / (radii[i] + radii[j])
    bonded = np.flatnonzero((lengths < _LONGEST) & (shifts[:, ~crystal.pbc] == 0).all(1))
    bonded = bonded[np.argsort(lengths[bonded], kind="stable")]
    return i[bonded], j[bonded], shifts[bonded], lengths[bonded]


def _reduced_plane(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shortest basis of a plane lattice (Lagrange), shape (2, 3)."""
    a, b = plane
    while True:
        if a @ a > b @ b:
            a, b = b, a
        steps = np.round(a @ b / (a @ a))
        if steps == 0:
            return np.array([a, b])
        b = b - steps * a
