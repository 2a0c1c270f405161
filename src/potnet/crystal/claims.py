"""What a source says of its numbers besides them: unit, coordinates, periodicity, content."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from potnet.crystal.checks import as_pbc
from potnet.crystal.distances import closest_pair
from potnet.crystal.elements import SYMBOLS, covalent_radii
from potnet.crystal.formula import parse_formula
from potnet.errors import StructureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Words for units of length other than Å, and keys whose unit is that of another quantity.
_OTHER_UNITS = frozenset(("bohr", "bohrs", "au", "a.u", "a0", "atomic"))
_OTHER_UNITS |= {"nm", "nanometer", "nanometers", "nanometre", "nanometres"}
_OTHER_UNITS |= {"pm", "picometer", "picometers", "picometre", "picometres"}
_OTHER_UNITS |= {"m", "meter", "meters", "metre", "metres"}
_ANGSTROM = frozenset(("å", "angstrom", "angstroms", "ang", "angst", "a"))
_OTHER_QUANTITIES = re.compile(
    "energ|force|stress|virial|charge|time|veloc|moment|dipole|mass|pressure|temp|freq|gap|spin"
)
_SCALED = frozenset(("scaled", "fractional", "fract", "frac", "direct", "reduced", "crystal"))
_PERIODIC = frozenset(("periodic", "periodicity", "is_periodic"))
MAX_SCALED = 100.0  # beyond it a fractional coordinate is a misprint, or Cartesian
USUAL = (-1.0, 2.0)  # of fractional coordinates; molecules may leave the cell
_SLACK = 0.01  # scaled; of what is inside the cell
_UNIT = (-0.1, 1.1)  # of coordinates that may be fractional
_SHORTEST = 0.75  # of a bond, by the covalent radii
_MAX_CROWD = 100  # atoms; so many do not fit where they must lie
_FORMULAS = frozenset(("formula", "chemical_formula", "formula_pretty", "pretty_formula"))
_FORMULAS |= {"full_formula", "reduced_formula", "chemical_formula_reduced", "composition"}
_COUNTS = frozenset(("nsites", "natoms", "n_atoms", "num_atoms", "num_sites", "nat"))
_SHARE = 0.01  # by which the share of an element may differ

_log = logging.getLogger("potnet")

_COORDINATES = re.compile("coord|position|pos_|_pos$")


def say(text: str) -> None:
    """Tell the user what was read with a change that can be defended but must be known."""
    _log.warning(str(StructureError(text)))  # printable, and not too long


def check_claims(claims: Mapping[str, Any], where: str) -> None:
    """Raise if one of ``claims`` says that lengths are not in Å, or coordinates not Cartesian."""
    for key, value in claims.items():
        name = str(key).lower()
        is_unit = "unit" in name and not _OTHER_QUANTITIES.search(name)
        if is_unit and isinstance(value, str | Mapping):
            words = _words(value)
            if words & _OTHER_UNITS and not words & _ANGSTROM:
                raise StructureError(
                    f"{where}: lengths must be in Å, got {key}={str(value)[:40]}. Convert them."
                )
        is_scaled = (name in _SCALED and value is True) or (name == "cartesian" and value is False)
        if _COORDINATES.search(name) and isinstance(value, str):
            is_scaled |= bool(_words(value) & _SCALED)
        if is_scaled:
            raise StructureError(
                f"{where}: positions must be Cartesian, got {key}={str(value)[:40]}. Convert them."
            )


def periodicity(claims: Mapping[str, Any], where: str) -> Any:
    """Return which directions are periodic by ``pbc`` or a name like ``periodic``; all by default.

    Raises:
        StructureError: If two of them differ, or one is no bool or three.
    """
    names = [key for key in claims if str(key).lower() in ("pbc", *_PERIODIC)]
    stated = {str(key): _flags(str(key), claims[key], where) for key in names}
    if len({tuple(flags) for flags in stated.values()}) > 1:
        got = ", ".join(f"{key}={flags}" for key, flags in stated.items())
        raise StructureError(
            f"{where}: periodicity must be stated once, got {got}. Remove what is wrong."
        )
    return next(iter(stated.values()), True)


def _flags(key: str, value: Any, where: str) -> list[bool]:
    if key.lower() == "periodicity" and type(value) is int:  # how many directions, not which
        if value != 3:
            raise StructureError(
                f"{where}: `{key}` must say which directions are periodic, got {value}. "
                "Write pbc with three flags."
            )
        value = True
    return as_pbc(value, where, key).tolist()


def check_scaled(scaled: NDArray[np.float64], cell: NDArray[np.float64], where: str) -> None:
    """Raise if coordinates that are called fractional are Cartesian; say if they are far away.

    Cartesian they are if half of the sites lie far outside of the cell, and none does where the
    same numbers are lengths in Å.

    Args:
        scaled: Coordinates of sites, shape (n_sites, 3).
        cell: Lattice vectors as rows in Å.
        where: For the message.
    """
    if not len(scaled) or (scaled.min() >= USUAL[0] and scaled.max() <= USUAL[1]):
        return
    is_far = ((scaled < USUAL[0]) | (scaled > USUAL[1])).any(1)
    if not is_far.any():  # what is no number is refused elsewhere
        return
    far = scaled[is_far][0].tolist()
    got = ", ".join(f"{x:.6g}" for x in far)
    if abs(scaled).max() > MAX_SCALED or (is_far.mean() >= 0.5 and _is_inside(scaled, cell)):
        raise StructureError(
            f"{where}: fractional coordinates must be shares of the lattice vectors, got {got}, "
            "which looks Cartesian. Call them Cartesian, or divide by the cell."
        )
    say(f"{where}: coordinates far outside of the cell are taken for fractional: {got}.")


def check_cartesian(
    numbers: NDArray[np.int64],
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    where: str,
) -> None:
    """Raise if the coordinates of a valid crystal, which were called Cartesian, are fractional.

    Fractional they are if all lie between 0 and 1, too close to each other for any bond, and none
    is too close where the same numbers are shares of the lattice vectors.
    """
    is_crowd = 1 < len(numbers) <= _MAX_CROWD
    if not is_crowd or positions.min() < _UNIT[0] or positions.max() > _UNIT[1]:
        return
    scaled: NDArray[np.float64] = np.linalg.solve(cell.T, positions.T).T.astype(np.float64)
    if _is_bonded(numbers, scaled, cell):
        return
    if _is_bonded(numbers, positions, cell):
        raise StructureError(
            f"{where}: positions must be in Å, got numbers between 0 and 1 that put atoms closer "
            "than any bond, which look fractional. Call them so, or multiply them by the cell."
        )


def _is_bonded(
    numbers: NDArray[np.int64], scaled: NDArray[np.float64], cell: NDArray[np.float64]
) -> bool:
    """Return whether the closest atoms are as far apart as a bond is long."""
    i, j, distance = closest_pair(scaled, cell)
    return distance >= _SHORTEST * float(covalent_radii(numbers[[i, j]]).sum())


def say_content(claims: Mapping[str, Any], numbers: NDArray[np.int64], where: str) -> None:
    """Say if a formula or a number of atoms among ``claims`` is not that of the atoms."""
    found = Counter(numbers.tolist())
    for key, value in claims.items():
        name = str(key).lower()
        is_wrong = name in _COUNTS and type(value) is int and value != len(numbers)
        if name in _FORMULAS and (stated := _amounts(value)):
            total = sum(stated.values())
            shares = {n: stated.get(n, 0) / total - found[n] / len(numbers) for n in stated | found}
            is_wrong = max(map(abs, shares.values())) > _SHARE
        if is_wrong:
            atoms = " ".join(f"{SYMBOLS[n]}{count}" for n, count in sorted(found.items()))
            say(f"{where}: {key}={str(value)[:60]}, but the atoms are {atoms}, and are taken.")


def _amounts(formula: Any) -> dict[int, float]:
    """Return the amount of each element of a formula, or of a dictionary; none if it is neither."""
    if isinstance(formula, Mapping):
        formula = "".join(f"{symbol}{amount}" for symbol, amount in formula.items())
    try:
        return parse_formula(formula)
    except StructureError:  # a name, a formula of another kind
        return {}


def _is_inside(positions: NDArray[np.float64], cell: NDArray[np.float64]) -> bool:
    """Return whether all Cartesian positions lie in the cell."""
    try:
        scaled = np.linalg.solve(cell.T, positions.T)
    except np.linalg.LinAlgError:  # no volume, which is refused elsewhere
        return False
    return bool(((scaled > -_SLACK) & (scaled < 1 + _SLACK)).all())


def _words(value: object) -> set[str]:
    return {word.strip(".") for word in re.split(r"[^a-zå0-9.]+", str(value)[:200].lower())}
