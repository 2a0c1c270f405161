"""Crystal: an immutable, validated cell with atoms, its primitive form, and its conversions."""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from potnet.errors import StructureError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MIN_DISTANCE = 0.5  # Å; the shortest bond known, H-H, is 0.74 Å
MAX_ATOMS = 20_000
MAX_LENGTH = 1_000.0  # Å, of a lattice vector
MAX_COORDINATE = 1e5  # Å; beyond it float64 no longer resolves 1e-11 Å
SYMMETRY_TOLERANCE = 1e-3  # Å
_MANY_ATOMS = 300  # from here on a cell list is faster than all pairs
_CROWD = 200  # more points in three boxes of MIN_DISTANCE must be too close

_TABLE = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb
Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf
Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
SYMBOLS = ("X", *_TABLE.split())  # by atomic number; X stands for none
NUMBERS: Mapping[str, int] = MappingProxyType(
    # Isotopes of hydrogen have its electrons, hence its potentials and properties.
    {symbol: number for number, symbol in enumerate(SYMBOLS) if number} | {"D": 1, "T": 1}
)


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
    Crystal(ClNa, 2 atoms, 44.85 Å^3, id='rock salt')
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
        if not isinstance(info, Mapping | None):
            raise StructureError(
                f"{where}: `info` must be a mapping, got {type(info).__name__}. Pass a dict."
            )
        arrays: dict[str, NDArray] = {"numbers": _as_numbers(numbers, where)}
        shape = (len(arrays["numbers"]), 3)
        arrays["positions"] = _as_floats(positions, "positions", shape, where)
        arrays["cell"] = _as_floats(cell, "cell", (3, 3), where)
        arrays["pbc"] = _as_pbc(pbc, where)
        _check_limits(arrays["positions"], arrays["cell"], where)
        _check_distances(**arrays, where=where)
        for array in arrays.values():
            array.setflags(write=False)
        # Frozen: an ordinary assignment would raise.
        vars(self).update(arrays, id=str(id), info=MappingProxyType(dict(info or {})))

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

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @property
    def symbols(self) -> list[str]:
        """Chemical symbol of each atom, n_atoms of them."""
        return [SYMBOLS[number] for number in self.numbers]

    @cached_property
    def volume(self) -> float:
        """Volume of the cell in Å^3."""
        return abs(float(np.linalg.det(self.cell)))

    @cached_property
    def formula(self) -> str:
        """Reduced formula in Hill order: C and H first if there is C, else alphabetical."""
        numbers, counts = np.unique(self.numbers, return_counts=True)
        counts //= math.gcd(*counts.tolist())
        share = {SYMBOLS[number]: int(count) for number, count in zip(numbers, counts, strict=True)}
        first = [symbol for symbol in ("C", "H") if "C" in share and symbol in share]
        order = first + sorted(share.keys() - first)
        return "".join(f"{s}{share[s] if share[s] > 1 else ''}" for s in order)

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
        name, info = str(changes.get("id", self.id)), changes.get("info", self.info)
        vars(copy).update(vars(self), id=name, info=MappingProxyType(dict(info)))
        return copy

    def require_periodic(self) -> None:
        """Raise ``StructureError`` unless the crystal repeats in all three directions."""
        if not self.pbc.all():
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
        given = np.asarray(matrix)
        given = np.repeat(given, 3) if given.ndim == 0 else given
        integer = given.shape in ((3,), (3, 3)) and given.dtype.kind in "iuf"
        if not integer or not np.array_equal(given, np.round(given)):
            raise StructureError(
                f"{where}: `matrix` must be 3 or 3 x 3 integers, got {matrix!r}. "
                "Give whole numbers of lattice vectors."
            )
        rows = np.diag(given) if given.ndim == 1 else given
        basis = _integer_basis(rows.astype(int).tolist())
        if len(basis) < 3:
            raise StructureError(
                f"{where}: `matrix` must not be singular, got {given.tolist()}. "
                "Give three independent rows."
            )
        shape = [basis[k][k] for k in range(3)]
        if math.prod(shape) * self.n_atoms > MAX_ATOMS:
            raise StructureError(
                f"{where}: the supercell must have at most {MAX_ATOMS} atoms, got "
                f"{math.prod(shape) * self.n_atoms}. Use a smaller `matrix`."
            )
        cell = rows @ self.cell
        # An upper triangular basis has the box of its diagonal as one point of each coset.
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
        self.require_periodic()
        _check_tolerance(tolerance, self.id)
        counts = np.unique(self.numbers, return_counts=True)[1]
        order = math.gcd(*counts.tolist())
        # The order of the group of translations divides the number of atoms of each element.
        found = _Fold.search(self, order, tolerance) if order > 1 else None
        if found is None:
            return self
        first, members = np.unique(found.labels, return_inverse=True)
        shifts = np.zeros((len(first), 3))
        np.add.at(shifts, members, found.offsets)
        shifts *= len(first) / self.n_atoms
        return self.replace(
            numbers=self.numbers[first],
            positions=self.positions[first] + shifts,
            cell=_reduced(found.cell),
        )

    def orbits(self, tolerance: float = SYMMETRY_TOLERANCE) -> NDArray[np.int64]:
        """Return for each atom the first atom that is equivalent to it by symmetry.

        Args:
            tolerance: Largest distance between an atom and the image of its equivalent, in Å.

        Returns:
            Indices into the atoms, shape (n_atoms,).

        Raises:
            StructureError: If the symmetry search finds no consistent group.
        """
        import moyopy

        # It warns of displacements by its symmetrised cell, which is not used here.
        logging.getLogger("moyo").setLevel(logging.ERROR)
        self.require_periodic()
        _check_tolerance(tolerance, self.id)
        scaled = self.scaled_positions
        cell = moyopy.Cell(self.cell.tolist(), scaled.tolist(), self.numbers.tolist())
        try:
            found = moyopy.MoyoDataset(cell, symprec=tolerance)
        except ValueError as error:
            raise StructureError(
                f"{self.id or 'crystal'}: the symmetry search must find one group within "
                f"tolerance {tolerance} Å, got '{error}'. Use another tolerance."
            ) from error
        orbits = np.array(found.orbits, dtype=np.int64)
        first = np.full(len(orbits), len(orbits))
        np.minimum.at(first, orbits, np.arange(len(orbits)))
        return first[orbits]

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
    def from_ase(cls, atoms: Any, *, id: str = "") -> Crystal:
        """Return the crystal of an ``ase.Atoms``; results of its calculator go to ``info``.

        Raises:
            StructureError: If the atoms are not a valid crystal, or sites are partly occupied.
        """
        info = dict(atoms.info)
        where = id or str(info.get("id", "")) or "ASE Atoms"
        for site, shares in (info.get("occupancy") or {}).items():
            _check_ordered({str(e): float(share) for e, share in shares.items()}, site, where)
        results = getattr(atoms.calc, "results", None) or {}
        info = {k: v for k, v in results.items() if isinstance(v, float)} | info
        return cls(
            atoms.get_atomic_numbers(),
            atoms.get_positions(),
            np.array(atoms.cell),
            atoms.pbc,
            id or str(info.get("id", "")),
            info,
        )

    @classmethod
    def from_pymatgen(cls, structure: Any, *, id: str = "") -> Crystal:
        """Return the crystal of a pymatgen ``Structure``; oxidation states are not kept.

        Raises:
            StructureError: If the structure is not a valid crystal, or a site is disordered.
        """
        where = id or "pymatgen Structure"
        numbers = []
        for index, site in enumerate(structure):
            shares = {specie.symbol: float(share) for specie, share in site.species.items()}
            label = getattr(site, "label", "")
            numbers.append(_number_of_site(shares, index, where, label))
        lattice = structure.lattice
        return cls(
            numbers,
            structure.cart_coords,
            lattice.matrix,
            getattr(lattice, "pbc", True),
            id,
            dict(getattr(structure, "properties", None) or {}),
        )

    @classmethod
    def from_jarvis(cls, atoms: Any, *, id: str = "") -> Crystal:
        """Return the crystal of a JARVIS ``Atoms`` or of its dictionary.

        Raises:
            StructureError: If the atoms are not a valid crystal, or a key is missing.
        """
        data = atoms if isinstance(atoms, Mapping) else atoms.to_dict()
        where = id or "JARVIS atoms"
        if "cartesian" not in data:
            raise StructureError(
                f"{where}: `cartesian` must be true or false, got nothing. "
                "Say whether `coords` are Cartesian."
            )
        cell = _as_floats(data["lattice_mat"], "lattice_mat", (3, 3), where)
        numbers = [number_of(symbol, where) for symbol in data["elements"]]
        coords = _as_floats(data["coords"], "coords", (len(numbers), 3), where)
        positions = coords if data["cartesian"] else coords @ cell
        return cls(numbers, positions, cell, True, id)

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
            return obj.replace(id=id) if id else obj
        if isinstance(obj, Mapping):
            return _from_mapping(obj, id)
        if hasattr(obj, "get_atomic_numbers") and hasattr(obj, "get_positions"):
            return cls.from_ase(obj, id=id)
        if hasattr(obj, "lattice_mat") and hasattr(obj, "to_dict"):
            return cls.from_jarvis(obj, id=id)
        if hasattr(obj, "lattice") and hasattr(obj, "cart_coords"):
            return cls.from_pymatgen(obj, id=id)
        raise StructureError(
            f"{id or 'crystal'}: the object must be a Crystal, ASE Atoms, a pymatgen Structure, "
            f"JARVIS Atoms or their dictionary, got {type(obj).__name__}. "
            "Convert it, or read files with potnet.read."
        )


def number_of(symbol: str, where: str) -> int:
    """Return the atomic number of ``symbol``; D and T count as H.

    A charge ("Na+", "O2-", "Fe3+") after the symbol is ignored.

    Raises:
        StructureError: If there is no such element; ``where`` says what has it.
    """
    match = re.fullmatch(r"([A-Za-z]{1,2})(\d*\.?\d*[+-]|[+-]\d*\.?\d*|0\+?)?", str(symbol))
    number = NUMBERS.get(match.group(1).capitalize()) if match else None
    if number is None:
        raise StructureError(
            f"{where}: `element` must be a symbol from H to Og, got {str(symbol)!r}. "
            "Correct the symbol, or remove the site."
        )
    return number


def _from_mapping(data: Mapping[str, Any], id: str) -> Crystal:
    """Return the crystal of a dictionary, told apart by its keys."""
    name = data.get("id", data.get("jid", data.get("material_id")))
    id = id or ("" if name is None else str(name))
    where = id or "crystal"
    try:
        if {"numbers", "positions", "cell"} <= data.keys():
            arrays = {key: data[key] for key in ("numbers", "positions", "cell")}
            return Crystal(**arrays, pbc=data.get("pbc", True), id=id, info=data.get("info"))
        if {"lattice_mat", "coords", "elements"} <= data.keys():
            return Crystal.from_jarvis(data, id=id)
        if {"lattice", "sites"} <= data.keys():
            return _from_pymatgen_dict(data, id)
        if {"lattice", "species", "frac_coords"} <= data.keys():
            return _from_record(data, id)
        for key in ("structure", "atoms"):
            if isinstance(data.get(key), Mapping):
                rest = {k: v for k, v in data.items() if k not in (key, "id", "jid", "material_id")}
                return _from_mapping(data[key], id).replace(id=id, info=rest)
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise StructureError(
            f"{where}: the dictionary must describe a crystal, got {type(error).__name__}: "
            f"{error}. Compare it with Crystal.as_dict()."
        ) from error
    raise StructureError(
        f"{where}: the dictionary must have the keys numbers, positions, cell; or lattice, "
        "species, frac_coords; or those of pymatgen or JARVIS, got "
        f"{', '.join(map(str, list(data)[:8])) or 'none'}. Compare it with Crystal.as_dict()."
    )


def _from_pymatgen_dict(data: Mapping[str, Any], id: str) -> Crystal:
    where = id or "pymatgen dictionary"
    lattice = data["lattice"]
    cell = _as_floats(lattice["matrix"], "lattice.matrix", (3, 3), where)
    numbers, scaled = [], []
    for index, site in enumerate(data["sites"]):
        shares = {s["element"]: float(s["occu"]) for s in site["species"]}
        numbers.append(_number_of_site(shares, index, where, site.get("label") or ""))
        scaled.append(site["abc"])
    positions = _as_floats(scaled, "abc", (len(numbers), 3), where) @ cell
    info = dict(data.get("properties") or {})
    return Crystal(numbers, positions, cell, lattice.get("pbc", True), id, info)


def _from_record(data: Mapping[str, Any], id: str) -> Crystal:
    where = id or "record"
    cell = _as_floats(data["lattice"], "lattice", (3, 3), where)
    numbers = [number_of(symbol, where) for symbol in data["species"]]
    scaled = _as_floats(data["frac_coords"], "frac_coords", (len(numbers), 3), where)
    info = {k: v for k, v in data.items() if k not in ("id", "lattice", "species", "frac_coords")}
    return Crystal(numbers, scaled @ cell, cell, True, id, info)


def _number_of_site(shares: Mapping[str, float], index: int, where: str, label: str) -> int:
    """Return the atomic number of a site from the occupancies ``shares`` of its elements."""
    site = f"{index} ({label})" if label else str(index)
    _check_ordered(shares, site, where)
    return number_of(next(iter(shares)), f"{where}: site {site}")


def _check_ordered(shares: Mapping[str, float], site: object, where: str) -> None:
    if len(shares) != 1 or any(abs(share - 1) > 1e-3 for share in shares.values()):
        got = ", ".join(f"{symbol} {share:g}" for symbol, share in shares.items()) or "nothing"
        raise StructureError(
            f"{where}: `occupancy` of site {site} must be 1, got {got}. "
            "Replace the disordered sites by an ordered model."
        )


def _check_tolerance(tolerance: float, id: str) -> None:
    if not 0 < tolerance < MIN_DISTANCE / 2:
        raise StructureError(
            f"{id or 'crystal'}: `tolerance` must lie between 0 and {MIN_DISTANCE / 2} Å, got "
            f"{tolerance}. Use the default, {SYMMETRY_TOLERANCE}."
        )


def _as_numbers(values: ArrayLike, where: str) -> NDArray[np.int64]:
    numbers = np.array(values)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise StructureError(
            f"{where}: `numbers` must be a list of integers, got {numbers.dtype} of shape "
            f"{numbers.shape}. Give the atomic number of each atom."
        )
    if not 1 <= len(numbers) <= MAX_ATOMS:
        advice = "Use a smaller cell" if len(numbers) else "Check that the source lists its sites"
        raise StructureError(
            f"{where}: the number of atoms must lie between 1 and {MAX_ATOMS}, got "
            f"{len(numbers)}. {advice}."
        )
    bad = np.flatnonzero((numbers < 1) | (numbers >= len(SYMBOLS)))
    if bad.size:
        raise StructureError(
            f"{where}: `numbers[{bad[0]}]` must be an atomic number from 1 to "
            f"{len(SYMBOLS) - 1}, got {numbers[bad[0]]}. Correct the element."
        )
    return numbers.astype(np.int64)


def _as_floats(
    values: ArrayLike, name: str, shape: tuple[int, int], where: str
) -> NDArray[np.float64]:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise StructureError(
            f"{where}: `{name}` must be numbers of shape {shape}, got '{error}'. "
            "Give a rectangular array."
        ) from error
    if array.shape != shape:
        raise StructureError(
            f"{where}: `{name}` must have shape {shape}, got {array.shape}. "
            "Give three numbers in each row."
        )
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise StructureError(
            f"{where}: `{name}[{row}, {column}]` must be finite, got {array[row, column]}. "
            "Correct or remove the entry."
        )
    return array


def _as_pbc(values: ArrayLike, where: str) -> NDArray[np.bool_]:
    if values is True:
        return np.ones(3, dtype=bool)
    pbc = np.array(values)
    if pbc.shape not in ((), (3,)) or not np.isin(pbc, (0, 1)).all():
        raise StructureError(
            f"{where}: `pbc` must be one bool or three, got {values!r}. Use pbc=True."
        )
    return np.broadcast_to(pbc, 3).astype(bool)


def _check_limits(positions: NDArray, cell: NDArray, where: str) -> None:
    lengths = np.hypot(np.hypot(cell[:, 0], cell[:, 1]), cell[:, 2])
    if lengths.max() > MAX_LENGTH:
        raise StructureError(
            f"{where}: `cell` vectors must be at most {MAX_LENGTH:g} Å long, got "
            f"{lengths.max():g} Å. Check the unit."
        )
    far = np.abs(positions).max()
    if far > MAX_COORDINATE:
        raise StructureError(
            f"{where}: `positions` must lie within {MAX_COORDINATE:g} Å of the origin, got "
            f"{far:g} Å. Check the unit, or move the atoms into the cell."
        )
    if abs(np.linalg.det(cell)) <= 1e-8 * lengths.prod():
        raise StructureError(
            f"{where}: `cell` must have three independent vectors, got {cell.tolist()}. "
            "Give the lattice vectors of a crystal as rows."
        )


def _check_distances(
    numbers: NDArray, positions: NDArray, cell: NDArray, pbc: NDArray, where: str
) -> None:
    """Raise unless all atoms and all their images are ``MIN_DISTANCE`` apart."""
    cell = _reduced(cell if pbc.all() else _closed(positions, cell, pbc))
    shortest = math.sqrt((cell**2).sum(1).min())
    if shortest < MIN_DISTANCE:
        raise StructureError(
            f"{where}: `cell` must repeat after at least {MIN_DISTANCE} Å, got a lattice vector "
            f"of {shortest:.4g} Å. Check the unit of the cell."
        )
    if len(numbers) == 1:
        return
    inverse = np.linalg.inv(cell)
    scaled = positions @ inverse
    heights = 1 / np.sqrt((inverse**2).sum(0))
    if len(numbers) <= _MANY_ATOMS and heights.min() > 2 * MIN_DISTANCE:
        i, j, distance = _closest_pair(scaled, cell)
    else:
        pairs = _close_pairs(scaled, cell, MIN_DISTANCE)
        i, j, distance = min(zip(*pairs, strict=True), key=lambda p: p[2], default=(0, 0, np.inf))
    if distance < MIN_DISTANCE:
        i, j = sorted((int(i), int(j)))
        raise StructureError(
            f"{where}: atoms {i} ({SYMBOLS[numbers[i]]}) and {j} ({SYMBOLS[numbers[j]]}) must be "
            f"at least {MIN_DISTANCE} Å apart, got {round(float(distance), 6):g} Å. "
            "Remove the duplicate site, or correct the coordinates."
        )


def _closed(positions: NDArray, cell: NDArray, pbc: NDArray) -> NDArray[np.float64]:
    """Return a cell with room to spare in its open directions, so that all may count as closed."""
    # Rows of the last factor: first what the closed directions span, then what is normal to it.
    normals = np.linalg.svd(np.where(pbc[:, None], cell, 0.0))[2][int(pbc.sum()) :]
    extents = np.ptp(positions @ normals.T, axis=0) + 4 * MIN_DISTANCE
    return np.concatenate([cell[pbc], normals * extents[:, None]])


def _closest_pair(scaled: NDArray, cell: NDArray) -> tuple[int, int, float]:
    """Return the closest pair, exact below half of the smallest height of ``cell``.

    Two images nearer than half a height differ by less than 1/2 in every scaled coordinate, so
    rounding the difference finds them.
    """
    difference = scaled[:, None, :] - scaled
    difference -= np.round(difference)
    vectors = difference @ cell
    squares = np.einsum("ijk,ijk->ij", vectors, vectors)
    np.fill_diagonal(squares, np.inf)
    i, j = divmod(int(squares.argmin()), len(squares))
    return i, j, math.sqrt(squares[i, j])


def _close_pairs(
    scaled: NDArray, cell: NDArray, cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return indices and distances of all ordered pairs of different atoms within ``cutoff``.

    A cell list, for short cutoffs: time and memory are proportional to the number of atoms,
    whatever the shape of the cell. Of crowds no crystal can have, only the first are listed.

    Args:
        scaled: Scaled coordinates, shape (n_atoms, 3).
        cell: Reduced lattice vectors, shape (3, 3), Å.
        cutoff: Largest distance in Å.
    """
    home, index = scaled - np.floor(scaled), np.arange(len(scaled))
    points, atoms = home, index
    reach = cutoff * np.sqrt((np.linalg.inv(cell) ** 2).sum(0))
    for axis in range(3):  # images as far as ``reach`` outside of the cell
        steps = np.arange(-math.ceil(reach[axis]), math.ceil(reach[axis]) + 1)
        shifts = np.repeat(steps, len(points))[:, None] * np.eye(3)[axis]
        points, atoms = np.tile(points, (len(steps), 1)) + shifts, np.tile(atoms, len(steps))
        near = abs(points[:, axis] - 0.5) <= 0.5 + reach[axis]
        points, atoms = points[near], atoms[near]
    points, home = points @ cell, home @ cell
    low = points.min(0) - cutoff
    sizes = ((points.max(0) - low) // cutoff).astype(np.int64) + 2
    strides = np.array([sizes[1] * sizes[2], sizes[2], 1])
    keys = ((points - low) // cutoff).astype(np.int64) @ strides
    order = keys.argsort()
    keys, points, atoms = keys[order], points[order], atoms[order]
    found = []
    for row in [[x, y, 0] for x in (-1, 0, 1) for y in (-1, 0, 1)]:
        bins = (((home - low) // cutoff).astype(np.int64) + row) @ strides
        start = np.searchsorted(keys, bins - 1, "left")  # three bins along z are neighbours
        stop = np.searchsorted(keys, bins + 1, "right")
        for step in range(min(int((stop - start).max()), _CROWD)):
            i = np.flatnonzero(start + step < stop)
            k = start[i] + step
            distances = np.sqrt(((points[k] - home[i]) ** 2).sum(1))
            close = (distances <= cutoff) & (atoms[k] != i)
            found.append((i[close], atoms[k[close]], distances[close]))
    if not found:
        return index[:0], index[:0], np.zeros(0)
    i, j, distances = (np.concatenate(column) for column in zip(*found, strict=True))
    return i, j, distances


def _reduced(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a Minkowski-reduced basis of the lattice, exact integer combinations of ``cell``."""
    import moyopy

    transformation = moyopy.minkowski_reduce(cell.tolist())[1]
    return np.array(transformation, dtype=np.float64).T @ cell


def _integer_basis(rows: list[list[int]]) -> list[list[int]]:
    """Return an upper triangular basis with positive diagonal of the lattice of integer ``rows``.

    Rows of a singular lattice give fewer than three rows (Hermite's normal form, not reduced
    above the diagonal).
    """
    rows = [list(row) for row in rows]
    basis = []
    for column in range(3):
        while True:
            live = sorted((r for r in rows if r[column]), key=lambda r: abs(r[column]))
            if len(live) < 2:
                break
            for row in live[1:]:
                factor = row[column] // live[0][column]
                row[:] = [a - factor * b for a, b in zip(row, live[0], strict=True)]
        if live:
            pivot = live[0]
            rows = [r for r in rows if r is not pivot]
            basis.append([-a for a in pivot] if pivot[column] < 0 else pivot)
    return basis


class _Fold(NamedTuple):
    """A crystal folded into a smaller cell.

    Attributes:
        cell: Lattice vectors, shape (3, 3), Å.
        labels: First copy of each atom, shape (n_atoms,).
        offsets: Vector from the first copy to each atom, less a lattice vector, (n_atoms, 3), Å.
    """

    cell: NDArray[np.float64]
    labels: NDArray[np.int64]
    offsets: NDArray[np.float64]

    @classmethod
    def search(cls, crystal: Crystal, order: int, tolerance: float) -> _Fold | None:
        """Return the crystal folded by all of its translations, or None if it has none.

        Args:
            crystal: The crystal.
            order: A multiple of the order of each translation.
            tolerance: Largest distance in Å of a copy to the mean of the copies.
        """
        basis = [[order, 0, 0], [0, order, 0], [0, 0, order]]
        labels = np.arange(crystal.n_atoms)
        found = None
        for shift in _candidate_translations(crystal, order, tolerance):
            if len(_integer_basis([*basis, shift])) and _volume([*basis, shift]) == _volume(basis):
                continue  # a sum of translations found before
            images = _images(crystal, np.array(shift) / order, tolerance)
            if images is None:
                continue
            trial = cls._of(crystal, _integer_basis([*basis, shift]), order, labels, images)
            if trial is not None and trial.spread() <= tolerance:
                basis, labels, found = _integer_basis([*basis, shift]), trial.labels, trial
        return found

    @classmethod
    def _of(
        cls,
        crystal: Crystal,
        basis: list[list[int]],
        order: int,
        labels: NDArray[np.int64],
        images: NDArray[np.int64],
    ) -> _Fold | None:
        """Return the fold after one more translation, which takes each atom to ``images``."""
        for _ in range(order.bit_length()):
            labels = np.minimum(labels, labels[images])
            images = images[images]
        n_copies = order**3 // _volume(basis)
        sizes = np.bincount(labels, minlength=len(labels))
        if not np.isin(sizes, (0, n_copies)).all():
            return None
        cell = np.array(basis) / order @ crystal.cell
        apart = crystal.positions - crystal.positions[labels]
        scaled = apart @ np.linalg.inv(cell)
        return cls(cell, labels, (scaled - np.round(scaled)) @ cell)

    def spread(self) -> float:
        """Return the largest distance of an atom to the mean of its copies, in Å."""
        sums = np.zeros_like(self.offsets)
        np.add.at(sums, self.labels, self.offsets)
        means = sums / np.bincount(self.labels, minlength=len(sums)).clip(1)[:, None]
        return float(np.linalg.norm(self.offsets - means[self.labels], axis=1).max())


def _volume(rows: list[list[int]]) -> int:
    basis = _integer_basis(rows)
    return basis[0][0] * basis[1][1] * basis[2][2]


def _candidate_translations(crystal: Crystal, order: int, tolerance: float) -> list[list[int]]:
    """Return the shifts that take the first of the rarest atoms onto one of its kind.

    They are in units of the lattice vectors divided by ``order``, and sorted, so that neither the
    order of the atoms nor their noise matters.
    """
    numbers, counts = np.unique(crystal.numbers, return_counts=True)
    scaled = crystal.scaled_positions[crystal.numbers == numbers[counts.argmin()]]
    shifts = scaled[1:] - scaled[0]
    found = set()
    open_ = np.ones(len(shifts), dtype=bool)
    for divisor in (d for d in range(2, order + 1) if order % d == 0):
        # The smallest denominator that fits: a large one would follow the noise.
        whole = np.round(shifts * divisor)
        miss = np.linalg.norm((shifts - whole / divisor) @ crystal.cell, axis=1)
        fits = open_ & (miss <= tolerance)
        open_ &= ~fits
        multiples = (whole[fits].astype(int) * (order // divisor)) % order
        found |= {tuple(row) for row in multiples.tolist()}
    return [list(shift) for shift in sorted(found - {(0, 0, 0)})]


def _images(
    crystal: Crystal, shift: NDArray[np.float64], tolerance: float
) -> NDArray[np.int64] | None:
    """Return the atom on which each atom lands when all move by ``shift`` (scaled), or None."""
    cell = _reduced(crystal.cell)
    inverse = np.linalg.inv(cell)
    scaled = crystal.positions @ inverse
    moved = scaled + shift @ crystal.cell @ inverse
    numbers, n_atoms = crystal.numbers, crystal.n_atoms
    # A few atoms first: most wrong translations fail on them.
    images = _nearest(moved[:4], numbers[:4], scaled, numbers, cell, tolerance)
    if images is None or n_atoms <= 4:
        return images
    if n_atoms <= _MANY_ATOMS:
        images = _nearest(moved, numbers, scaled, numbers, cell, tolerance)
    else:
        images = _listed_nearest(moved, scaled, numbers, cell, tolerance)
    return images if images is not None and len(np.unique(images)) == n_atoms else None


def _nearest(
    moved: NDArray,
    moved_numbers: NDArray,
    scaled: NDArray,
    numbers: NDArray,
    cell: NDArray,
    tolerance: float,
) -> NDArray[np.int64] | None:
    """Return the atom of its element within ``tolerance`` of each moved atom, or None."""
    difference = moved[:, None, :] - scaled
    difference -= np.round(difference)
    vectors = difference @ cell
    squares = np.einsum("ijk,ijk->ij", vectors, vectors)
    squares[moved_numbers[:, None] != numbers] = np.inf
    nearest = squares.argmin(1)
    fits = squares[np.arange(len(nearest)), nearest] <= tolerance**2
    return nearest if fits.all() else None


def _listed_nearest(
    moved: NDArray, scaled: NDArray, numbers: NDArray, cell: NDArray, tolerance: float
) -> NDArray[np.int64] | None:
    """Do as :func:`_nearest` in a time proportional to the number of atoms."""
    n_atoms = len(numbers)
    # Atoms are at least twice this cutoff apart, so that each moved one meets at most one.
    pairs = _close_pairs(np.concatenate([moved, scaled]), cell, MIN_DISTANCE / 2)
    meets = (pairs[0] < n_atoms) & (pairs[1] >= n_atoms) & (pairs[2] <= tolerance)
    i, j = pairs[0][meets], pairs[1][meets] - n_atoms
    if len(i) < n_atoms or (numbers[i] != numbers[j]).any():
        return None
    images = np.empty(n_atoms, dtype=np.int64)
    images[i] = j
    return images
