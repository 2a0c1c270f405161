"""The class Crystal."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from potnet.crystal import convert, symmetry
from potnet.crystal.checks import (
    MAX_ATOMS,
    SYMMETRY_TOLERANCE,
    as_floats,
    as_numbers,
    as_pbc,
    check_distances,
    check_limits,
    check_tolerance,
)
from potnet.crystal.claims import check_cartesian
from potnet.crystal.elements import SYMBOLS
from potnet.crystal.formula import reduced_formula
from potnet.crystal.translations import Atoms, Fold, determinant, integer_basis
from potnet.errors import StructureError
from potnet.text import printable

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

DALTON = 1.66053906892  # g/cm^3 of one unit of mass in 1 Å^3


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Crystal:
    """A cell that repeats without end.

    The arrays are copied and read-only. Two crystals are equal only if they are the same object.

    Args:
        numbers: Atomic numbers, shape (n_atoms,).
        positions: Cartesian coordinates in Å, shape (n_atoms, 3); they need not lie in the cell.
        cell: Lattice vectors as rows in Å, shape (3, 3); left- or right-handed.
        pbc: Periodic directions, one bool or three.
        id: Name that errors and tables use: a file name or a database id.
        info: Whatever else is known about the crystal (targets, provenance).

    Raises:
        StructureError: If a number is not finite, an element is unknown, the cell is singular or
            larger than ``MAX_LENGTH``, two atoms or an atom and its own image are closer than
            ``MIN_DISTANCE``, or there are no atoms or more than ``MAX_ATOMS``.

    >>> nacl = Crystal([11, 17], [[0, 0, 0], [2.82, 0, 0]], [[0, 2.82, 2.82], [2.82, 0, 2.82],
    ...                                                      [2.82, 2.82, 0]], id="rock salt")
    >>> nacl
    Crystal(NaCl, 2 atoms, 44.85 Å^3, id='rock salt')
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    id: str
    info: Mapping[str, Any]

    def __init__(
        self,
        numbers: ArrayLike,
        positions: ArrayLike,
        cell: ArrayLike,
        pbc: ArrayLike = True,
        id: str = "",
        info: Mapping[str, Any] | None = None,
    ) -> None:
        where = str(id) or "crystal"
        if info is not None and not isinstance(info, Mapping):
            raise StructureError(
                f"{where}: `info` must be a mapping, got {type(info).__name__}. Pass a dict."
            )
        arrays: dict[str, NDArray] = {"numbers": as_numbers(numbers, where)}
        shape = (len(arrays["numbers"]), 3)
        arrays["positions"] = as_floats(positions, "positions", shape, where)
        arrays["cell"] = as_floats(cell, "cell", (3, 3), where)
        arrays["pbc"] = as_pbc(pbc, where)
        check_limits(arrays["positions"], arrays["cell"], where)
        check_distances(**arrays, where=where)
        for array in arrays.values():
            array.setflags(write=False)
        # Frozen: an ordinary assignment would raise.
        vars(self).update(arrays, id=printable(id), info=MappingProxyType(dict(info or {})))

    def __reduce__(self) -> tuple[Any, ...]:
        """Let copies and worker processes rebuild the crystal through its checks."""
        values = (self.numbers, self.positions, self.cell, self.pbc, self.id, dict(self.info))
        return type(self), values

    def __len__(self) -> int:
        return self.n_atoms

    def __repr__(self) -> str:
        atoms = "1 atom" if self.n_atoms == 1 else f"{self.n_atoms} atoms"
        pbc = "" if self.pbc.all() else f", pbc={self.pbc.tolist()}"
        name = f", id={self.id!r}" if self.id else ""
        return f"Crystal({self.formula}, {atoms}, {self.volume:.2f} Å^3{pbc}{name})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the crystal in three dimensions."""
        from potnet.crystal.picture import crystal_html

        return crystal_html(self)

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @property
    def symbols(self) -> list[str]:
        """Chemical symbol of each atom, n_atoms of them."""
        return [SYMBOLS[number] for number in self.numbers.tolist()]

    @cached_property
    def is_periodic(self) -> bool:
        """Whether the crystal repeats in all three directions."""
        return bool(self.pbc.all())

    @cached_property
    def volume(self) -> float:
        """Volume of the cell in Å^3."""
        return abs(float(np.linalg.det(self.cell)))

    @cached_property
    def density(self) -> float:
        """Mass density in g/cm^3, of the natural elements."""
        import gemmi

        masses = {number: gemmi.Element(number).weight for number in set(self.numbers.tolist())}
        return DALTON * sum(masses[number] for number in self.numbers.tolist()) / self.volume

    @cached_property
    def composition(self) -> Mapping[int, int]:
        """How many atoms there are of each element, by atomic number, the lightest first."""
        return MappingProxyType(dict(sorted(Counter(self.numbers.tolist()).items())))

    @cached_property
    def formula(self) -> str:
        """Reduced formula in the order of chemists: NaCl, SiO2, LiFePO4."""
        return reduced_formula(self.composition)

    @cached_property
    def scaled_positions(self) -> NDArray[np.float64]:
        """Coordinates in units of the lattice vectors, not wrapped, shape (n_atoms, 3)."""
        scaled = np.array(np.linalg.solve(self.cell.T, self.positions.T).T, dtype=np.float64)
        scaled.setflags(write=False)
        return scaled

    def replace(self, **changes: Any) -> Crystal:
        """Return a copy with the fields ``changes`` replaced, checked like any crystal."""
        if not changes.keys() <= {"id", "info"}:
            return dataclasses.replace(self, **changes)
        copy = object.__new__(type(self))  # the atoms stay as they were checked
        vars(copy).update(vars(self))
        if "id" in changes:
            vars(copy)["id"] = printable(changes["id"])
        if "info" in changes:
            vars(copy)["info"] = MappingProxyType(dict(changes["info"]))
        return copy

    def require_periodic(self) -> None:
        """Raise ``StructureError`` unless the crystal repeats in all three directions."""
        if not self.is_periodic:
            raise StructureError(
                f"{self.id or 'crystal'}: `pbc` must be true in all three directions, got "
                f"{self.pbc.tolist()}. Set pbc=True if the cell, with its vacuum, may repeat."
            )

    def supercell(self, matrix: ArrayLike) -> Crystal:
        """Return the same crystal in a larger cell.

        Args:
            matrix: How often to repeat along each lattice vector, one number or three, or the new
                lattice vectors in units of the old as rows, shape (3, 3); integers, of any
                determinant but 0.

        Returns:
            ``|det(matrix)|`` copies of each atom, copy after copy, inside the new cell.

        Raises:
            StructureError: If ``matrix`` is not integer, singular, or asks for too many atoms.
        """
        where = self.id or "crystal"
        try:
            given = np.asarray(matrix)
        except (ValueError, RuntimeError):  # not rectangular, or a tensor with gradients
            given = np.empty(0)
        given = np.repeat(given, 3) if given.ndim == 0 else given
        integer = given.shape in ((3,), (3, 3)) and given.dtype.kind in "iuf"
        if not integer or not np.array_equal(given, np.round(given)):
            raise StructureError(
                f"{where}: `matrix` must be 3 or 3 x 3 integers, got {matrix!r}. "
                "Give whole numbers of lattice vectors."
            )
        rows = np.diag(given) if given.ndim == 1 else given
        basis = integer_basis(rows.astype(int).tolist())
        if len(basis) < 3:
            raise StructureError(
                f"{where}: `matrix` must not be singular, got {given.tolist()}. "
                "Give three independent rows."
            )
        n_atoms = determinant(basis) * self.n_atoms
        if n_atoms > MAX_ATOMS:
            raise StructureError(
                f"{where}: the supercell must have at most {MAX_ATOMS} atoms, got {n_atoms}. "
                "Use a smaller `matrix`."
            )
        cell = rows @ self.cell
        # An upper triangular basis has the box of its diagonal as one point of each coset.
        shape = [basis[k][k] for k in range(3)]
        shifts = np.indices(shape).reshape(3, -1).T @ self.cell
        positions = (shifts[:, None, :] + self.positions).reshape(-1, 3)
        scaled = np.linalg.solve(cell.T, positions.T).T
        positions -= np.floor(scaled + 1e-12) @ cell
        return self.replace(
            numbers=np.tile(self.numbers, len(shifts)), positions=positions, cell=cell
        )

    def primitive(self, tolerance: float = SYMMETRY_TOLERANCE) -> Crystal:
        """Return the crystal in its smallest cell, neither rotated nor symmetrised.

        Every translation that brings each atom to within ``tolerance`` of an atom of its element
        becomes a lattice vector. The lattice is exact: its vectors are rational combinations of
        the given ones. Each atom is the mean of its copies, so that the result does not depend on
        the order of atoms, the orientation or the cell; no copy lies farther than ``tolerance``
        from the mean. Nothing else moves: a primitive crystal is returned as it is.

        Args:
            tolerance: Largest distance between copies that count as one atom, in Å.

        Returns:
            The crystal with a reduced primitive cell; atoms in the order of their first copies.

        Raises:
            StructureError: If the crystal is not periodic in all three directions, or
                ``tolerance`` is not between 0 and half of ``MIN_DISTANCE``.
        """
        fold = self._fold(tolerance)
        if fold is None:
            return self
        from latticesums.lattice import reduced

        first = np.unique(fold.labels)
        return self.replace(
            numbers=self.numbers[first],
            positions=self.positions[first] + fold.means()[first],
            cell=reduced(fold.cell),
        )

    def copies(self, tolerance: float = SYMMETRY_TOLERANCE) -> NDArray[np.int64]:
        """Return for each atom which atom of :meth:`primitive` it is a copy of.

        Args:
            tolerance: As there.

        Returns:
            Indices into the atoms of the primitive crystal, shape (n_atoms,).

        Raises:
            StructureError: As there.
        """
        fold = self._fold(tolerance)
        if fold is None:
            return np.arange(self.n_atoms)
        return np.unique(fold.labels, return_inverse=True)[1]

    def _fold(self, tolerance: float) -> Fold | None:
        """Return the crystal in a smaller cell, None if there is none."""
        self.require_periodic()
        check_tolerance(tolerance, self.id)
        if math.gcd(*self.composition.values()) == 1:
            return None  # translations would leave an element with a part of an atom
        atoms = Atoms(self.numbers, self.positions, self.scaled_positions, self.cell)
        return Fold.search(atoms, tolerance)

    def orbits(self, tolerance: float = SYMMETRY_TOLERANCE) -> NDArray[np.int64]:
        """Return for each atom the first atom that is equivalent to it by symmetry.

        Args:
            tolerance: Largest distance between an atom and the image of its equivalent, in Å.

        Returns:
            Indices into the atoms, shape (n_atoms,).

        Raises:
            StructureError: If the symmetry search finds no consistent group.
        """
        return symmetry.first_of_each_orbit(self._symmetry(tolerance))

    def space_group(self, tolerance: float = 0.01) -> symmetry.SpaceGroup:
        """Return number and symbol of the space group; its text is ``F m -3 m (225)``.

        Args:
            tolerance: Largest distance between an atom and the image of its equivalent, in Å; as
                large as the last digits of most structure files.

        Raises:
            StructureError: If the symmetry search finds no consistent group.
        """
        return symmetry.space_group(self._symmetry(tolerance))

    def group_within(self, tolerance: float) -> tuple[int, int]:
        """Return the numbers of the space group and of its setting, by Hall symbols.

        They are kept: whoever asks again waits for no search.

        Raises:
            StructureError: As :meth:`space_group`.
        """
        found: dict[float, tuple[int, int]] = vars(self).setdefault("_groups", {})
        if tolerance not in found:
            dataset = self._symmetry(tolerance)
            found[tolerance] = dataset.number, dataset.hall_number
        return found[tolerance]

    def _symmetry(self, tolerance: float) -> Any:
        self.require_periodic()
        check_tolerance(tolerance, self.id)
        where = self.id or "crystal"
        return symmetry.search(self.numbers, self.scaled_positions, self.cell, tolerance, where)

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists that JSON stores without loss and :meth:`from_any` reads back."""
        return {
            "id": self.id,
            "numbers": self.numbers.tolist(),
            "positions": self.positions.tolist(),
            "cell": self.cell.tolist(),
            "pbc": self.pbc.tolist(),
            "info": dict(self.info),
        }

    def to_ase(self) -> Any:
        """Return the crystal as ``ase.Atoms``, with ``info`` and ``id`` in its ``info``."""
        from ase import Atoms

        info = dict(self.info) | ({"id": self.id} if self.id else {})
        return Atoms(
            numbers=self.numbers, positions=self.positions, cell=self.cell, pbc=self.pbc, info=info
        )

    def to_pymatgen(self) -> Any:
        """Return the crystal as ``pymatgen.core.Structure``, ``info`` as its properties."""
        from pymatgen.core import Lattice, Structure

        lattice = Lattice(self.cell, pbc=tuple(self.pbc.tolist()))
        return Structure(
            lattice,
            self.symbols,
            self.positions,
            coords_are_cartesian=True,
            properties=dict(self.info),
        )

    @classmethod
    def restored(
        cls,
        numbers: NDArray[np.int64],
        positions: NDArray[np.float64],
        cell: NDArray[np.float64],
        pbc: NDArray[np.bool_],
        id: str,
        info: Mapping[str, Any] | None = None,
    ) -> Crystal:
        """Return the crystal of arrays that were a crystal's before, without its checks.

        For those who know that nothing has changed since: the checks take longer than reading.
        The arrays are not copied; views into a mapped file stay views.
        """
        crystal = object.__new__(cls)
        arrays = {"numbers": numbers, "positions": positions, "cell": cell, "pbc": pbc}
        for array in arrays.values():
            array.setflags(write=False)
        vars(crystal).update(arrays, id=id, info=MappingProxyType(dict(info or {})))
        return crystal

    @classmethod
    def from_ase(cls, atoms: Any, *, id: str = "") -> Crystal:
        """Return the crystal of an ``ase.Atoms``; results of its calculator go to ``info``.

        Raises:
            StructureError: If the atoms are not a valid crystal, or sites are partly occupied.
        """
        return cls(**convert.from_ase(atoms, _name(id)))

    @classmethod
    def from_pymatgen(cls, structure: Any, *, id: str = "") -> Crystal:
        """Return the crystal of a pymatgen ``Structure``; oxidation states are not kept.

        Raises:
            StructureError: If the structure is not a valid crystal, or a site is disordered.
        """
        return cls(**convert.from_pymatgen(structure, _name(id)))

    @classmethod
    def from_jarvis(cls, atoms: Any, *, id: str = "") -> Crystal:
        """Return the crystal of a JARVIS ``Atoms`` or of its dictionary.

        Raises:
            StructureError: If the atoms are not a valid crystal, or a key is missing.
        """
        return cls(**convert.from_jarvis(atoms, _name(id)))

    @classmethod
    def from_any(cls, obj: Any, *, id: str = "") -> Crystal:
        """Return the crystal that ``obj`` describes, whatever library it comes from.

        Args:
            obj: A ``Crystal``; ASE ``Atoms``; a pymatgen ``Structure`` or its ``as_dict()``;
                JARVIS ``Atoms`` or their dictionary; or a dictionary with the keys of
                :meth:`as_dict`, or with ``lattice``, ``species`` and ``frac_coords``.
            id: Name of the crystal, if the object has none or another is wanted.

        Raises:
            StructureError: If ``obj`` is none of these or not a valid crystal.
        """
        if isinstance(obj, Crystal):
            return obj.replace(id=_name(id)) if _name(id) else obj
        crystal = cls(**convert.from_any(obj, _name(id)))
        if isinstance(obj, Mapping):
            check_cartesian(
                crystal.numbers, crystal.positions, crystal.cell, crystal.id or "crystal"
            )
        return crystal


def _name(id: object) -> str:
    """Return ``id``; raise if it is no text."""
    if not isinstance(id, str):
        raise StructureError(
            f"crystal: `id` must be text, got {type(id).__name__}. Use str, or leave it out."
        )
    return id
