"""The arguments of ``Crystal`` from the objects and dictionaries of other libraries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from potnet.crystal.checks import as_floats
from potnet.crystal.claims import check_claims, check_scaled, periodicity
from potnet.crystal.elements import number_of
from potnet.errors import StructureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arguments = dict[str, Any]  # what ``Crystal`` takes, by name; it does the checks
_TWIN = 0.01  # Å, by which coordinates of one site in two forms may differ


def _require(obj: Any, names: tuple[str, ...], what: str, id: str) -> None:
    """Raise unless an object has what makes it ``what``."""
    if not all(hasattr(obj, name) for name in names):
        raise StructureError(
            f"{id or 'crystal'}: the object must be {what}, got {type(obj).__name__}. "
            "Use Crystal.from_any, or read files with potnet.read."
        )


def from_any(obj: Any, id: str) -> Arguments:
    """Return the arguments that ``obj`` stands for, told apart by what it has."""
    if isinstance(obj, Mapping):
        return _from_mapping(obj, id)
    if hasattr(obj, "get_atomic_numbers") and hasattr(obj, "get_positions"):
        return from_ase(obj, id)
    if hasattr(obj, "lattice_mat") and hasattr(obj, "to_dict"):
        return from_jarvis(obj, id)
    if hasattr(obj, "lattice") and hasattr(obj, "cart_coords"):
        return from_pymatgen(obj, id)
    raise StructureError(
        f"{id or 'crystal'}: the object must be a Crystal, ASE Atoms, a pymatgen Structure, "
        f"JARVIS Atoms or their dictionary, got {type(obj).__name__}. "
        "Convert it, or read files with potnet.read."
    )


def from_ase(atoms: Any, id: str) -> Arguments:
    """Return the arguments of an ``ase.Atoms``, unless a site is partly occupied."""
    _require(atoms, ("get_atomic_numbers", "get_positions", "cell", "pbc"), "ASE Atoms", id)
    info = dict(getattr(atoms, "info", None) or {})
    where = id or str(info.get("id", "")) or "ASE Atoms"
    for site, shares in (info.get("occupancy") or {}).items():
        _check_ordered({str(e): float(share) for e, share in shares.items()}, site, where)
    results = getattr(getattr(atoms, "calc", None), "results", None) or {}
    return {
        "numbers": atoms.get_atomic_numbers(),
        "positions": atoms.get_positions(),
        "cell": np.array(atoms.cell),
        "pbc": atoms.pbc,
        "id": id or str(info.get("id", "")),
        "info": {k: v for k, v in results.items() if isinstance(v, float)} | info,
    }


def from_pymatgen(structure: Any, id: str) -> Arguments:
    """Return the arguments of a pymatgen ``Structure``, unless a site is disordered."""
    _require(structure, ("lattice", "cart_coords", "__iter__"), "a pymatgen Structure", id)
    where = id or "pymatgen Structure"
    numbers = []
    for index, site in enumerate(structure):
        shares = {specie.symbol: float(share) for specie, share in site.species.items()}
        numbers.append(_number_of_site(shares, index, where, getattr(site, "label", "")))
    return {
        "numbers": numbers,
        "positions": structure.cart_coords,
        "cell": structure.lattice.matrix,
        "pbc": getattr(structure.lattice, "pbc", True),
        "id": id,
        "info": dict(getattr(structure, "properties", None) or {}),
    }


def from_jarvis(atoms: Any, id: str) -> Arguments:
    """Return the arguments of a JARVIS ``Atoms`` or of its dictionary."""
    if not isinstance(atoms, Mapping):
        _require(atoms, ("lattice_mat", "to_dict"), "JARVIS Atoms or their dictionary", id)
    data = atoms if isinstance(atoms, Mapping) else atoms.to_dict()
    if missing := [key for key in ("lattice_mat", "coords", "elements") if key not in data]:
        raise StructureError(
            f"{id or 'JARVIS atoms'}: the dictionary must have `{missing[0]}`, got "
            f"{', '.join(map(str, list(data)[:8])) or 'no key'}. Compare it with to_dict()."
        )
    where = id or "JARVIS atoms"
    cartesian = data.get("cartesian")
    if not isinstance(cartesian, (bool, np.bool_)):
        got = "nothing" if cartesian is None else repr(cartesian)[:60]
        raise StructureError(
            f"{where}: `cartesian` must be true or false, got {got}. "
            "Say whether `coords` are Cartesian."
        )
    cell = as_floats(data["lattice_mat"], "lattice_mat", (3, 3), where)
    _check_parameters(cell, data.get("abc"), data.get("angles"), where)
    symbols = [s.strip() if isinstance(s, str) else s for s in data["elements"]]
    numbers = [number_of(symbol, where) for symbol in symbols]
    coords = as_floats(data["coords"], "coords", (len(numbers), 3), where)
    positions = coords if cartesian else _cartesian(coords, cell, where)
    return {"numbers": numbers, "positions": positions, "cell": cell, "id": id}


def name_in(data: Any) -> str:
    """Return the id that a dictionary gives its crystal; empty if it gives none."""
    if not isinstance(data, Mapping):
        return ""
    name = data.get("id", data.get("jid", data.get("material_id")))
    return "" if name is None else str(name)


def _from_mapping(data: Mapping[str, Any], id: str) -> Arguments:
    """Return the arguments of a dictionary, told apart by its keys."""
    id = id or name_in(data)
    where = id or "crystal"
    try:
        if {"numbers", "positions", "cell"} <= data.keys():
            _check_beside(data, where)
            optional = {"pbc": periodicity(data, where), "info": data.get("info"), "id": id}
            return {key: data[key] for key in ("numbers", "positions", "cell")} | optional
        if {"lattice_mat", "coords", "elements"} <= data.keys():
            return from_jarvis(data, id)
        if {"lattice", "sites"} <= data.keys():
            return _from_pymatgen_dict(data, id)
        if {"lattice", "species", "frac_coords"} <= data.keys():
            return _from_record(data, id)
        if data.get("type") == "structures" and isinstance(data.get("attributes"), Mapping):
            return from_optimade(data, id)
        for key in ("structure", "atoms"):
            if isinstance(data.get(key), Mapping):
                rest = {k: v for k, v in data.items() if k not in (key, "id", "jid", "material_id")}
                return _from_mapping(data[key], id) | {"id": id, "info": rest}
    except StructureError:  # has its sentence
        raise
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise StructureError(
            f"{where}: the dictionary must describe a crystal, got {type(error).__name__} "
            f"({error}). Compare it with Crystal.as_dict()."
        ) from error
    raise StructureError(
        f"{where}: the dictionary must have the keys numbers, positions, cell; or lattice, "
        "species, frac_coords; or those of pymatgen or JARVIS, got "
        f"{', '.join(map(str, list(data)[:8])) or 'none'}. Compare it with Crystal.as_dict()."
    )


def _check_beside(data: Mapping[str, Any], where: str) -> None:
    """Raise if a dictionary of numbers says something else of its atoms than these do."""
    check_claims(data, where)
    symbols, numbers = data.get("symbols") or (), data["numbers"]
    is_listed = np.ndim(symbols) == 1 and np.shape(symbols) == np.shape(numbers)
    for symbol, number in zip(symbols, numbers, strict=True) if is_listed else ():
        if isinstance(symbol, str) and number_of(symbol, where) != number:
            raise StructureError(
                f"{where}: `symbols` and `numbers` must agree, got {symbol!r} and {number}. "
                "Correct the one or the other."
            )
    for key in ("occupancy", "occupancies"):
        shares = data.get(key)
        if isinstance(shares, list | tuple) and any(share != 1 for share in shares):
            raise StructureError(
                f"{where}: `{key}` must be 1, got {str(shares)[:60]}. "
                "Replace the disordered sites by an ordered model."
            )


def _from_pymatgen_dict(data: Mapping[str, Any], id: str) -> Arguments:
    where = id or "pymatgen dictionary"
    lattice = data["lattice"]
    cell = as_floats(lattice["matrix"], "lattice.matrix", (3, 3), where)
    angles = [lattice.get(name) for name in ("alpha", "beta", "gamma")]
    _check_parameters(cell, [lattice.get(name) for name in "abc"], angles, where)
    numbers, scaled = [], []
    for index, site in enumerate(data["sites"]):
        shares = {s["element"]: float(s["occu"]) for s in site["species"]}
        numbers.append(_number_of_site(shares, index, where, site.get("label") or ""))
        scaled.append(site.get("abc"))
    if all(place is None for place in scaled):  # the Cartesian coordinates say as much
        xyz = [site["xyz"] for site in data["sites"]]
        positions = as_floats(xyz, "xyz", (len(numbers), 3), where)
    else:
        scaled = as_floats(scaled, "abc", (len(numbers), 3), where)
        positions = _cartesian(scaled, cell, where)
        for index, site in enumerate(data["sites"]):
            _check_twin(positions[index], site.get("xyz"), f"{where}: site {index}")
    return {
        "numbers": numbers,
        "positions": positions,
        "cell": cell,
        "pbc": lattice.get("pbc", True),
        "id": id,
        "info": dict(data.get("properties") or {}),
    }


def _from_record(data: Mapping[str, Any], id: str) -> Arguments:
    where = id or "record"
    cell = as_floats(data["lattice"], "lattice", (3, 3), where)
    numbers = [number_of(symbol, where) for symbol in data["species"]]
    scaled = as_floats(data["frac_coords"], "frac_coords", (len(numbers), 3), where)
    info = {k: v for k, v in data.items() if k not in ("id", "lattice", "species", "frac_coords")}
    positions = _cartesian(scaled, cell, where)
    return {"numbers": numbers, "positions": positions, "cell": cell, "id": id, "info": info}


# What overflows is not finite, and refused as such by ``Crystal``.
@np.errstate(over="ignore", invalid="ignore")
def _cartesian(
    scaled: NDArray[np.float64], cell: NDArray[np.float64], where: str
) -> NDArray[np.float64]:
    check_scaled(scaled, cell, where)
    return scaled @ cell


def _check_parameters(cell: NDArray[np.float64], lengths: Any, angles: Any, where: str) -> None:
    """Raise if the lattice vectors have other lengths or angles than the source states beside."""
    found = np.array([math.hypot(*vector) for vector in cell.tolist()])  # never overflows
    _compare(found, lengths, 1e-3 * (1 + found), "lengths", where)
    with np.errstate(all="ignore"):  # a cell without volume is refused later
        units = cell / found[:, None]
        cosines = [units[i] @ units[j] for i, j in ((1, 2), (0, 2), (0, 1))]
        _compare(np.degrees(np.arccos(np.clip(cosines, -1, 1))), angles, 0.1, "angles", where)


def _compare(
    found: NDArray[np.float64], stated: Any, tolerance: Any, what: str, where: str
) -> None:
    if stated is None or any(value is None for value in stated):
        return
    expected = np.array([float(value) for value in stated])
    if expected.shape != (3,) or not (abs(found - expected) <= tolerance).all():
        raise StructureError(
            f"{where}: the lattice vectors must have the {what} that are stated beside them, got "
            f"{', '.join(f'{x:.6g}' for x in found)} and {', '.join(map(str, stated))}. "
            "Correct the one or the other."
        )


def _check_twin(position: NDArray[np.float64], stated: Any, where: str) -> None:
    """Raise if a site lies elsewhere than its Cartesian coordinates say."""
    if stated is None:
        return
    expected = as_floats([stated], "xyz", (1, 3), where)[0]
    if not (abs(position - expected) <= _TWIN).all():
        found = [round(x, 4) for x in position.tolist()]
        raise StructureError(
            f"{where}: `abc` and `xyz` must be the same place, got {found} "
            f"and {expected.tolist()} Å. Correct the one or the other."
        )


def _number_of_site(shares: Mapping[str, float], index: int, where: str, label: str) -> int:
    """Return the atomic number of a site from the occupancies ``shares`` of its elements."""
    site = f"{index} ({label})" if label else str(index)
    _check_ordered(shares, site, where)
    return number_of(next(iter(shares)), f"{where}: site {site}")


def _check_ordered(shares: Mapping[str, float], site: object, where: str) -> None:
    if len(shares) != 1 or any(not abs(share - 1) <= 1e-3 for share in shares.values()):
        got = ", ".join(f"{symbol} {share:g}" for symbol, share in shares.items()) or "nothing"
        raise StructureError(
            f"{where}: `occupancy` of site {site} must be 1, got {got}. "
            "Replace the disordered sites by an ordered model."
        )


def from_optimade(entry: Mapping[str, Any], id: str) -> Arguments:
    """Return the arguments of an entry of type ``structures`` (OPTIMADE, version 1).

    Raises:
        StructureError: If the entry has disorder, implicit or attached atoms, lacks a part, or
            does not have as many sites as it says.
    """
    data = entry["attributes"]
    where = id or "OPTIMADE structure"
    features = [*(data.get("structure_features") or ())]
    features += ["assemblies"] * bool(data.get("assemblies"))
    if features:
        raise StructureError(
            f"{where}: `structure_features` must be empty, got {', '.join(map(str, features))}. "
            "Replace the structure by an ordered model with all its atoms."
        )
    elements = {species["name"]: _number_of_species(species, where) for species in data["species"]}
    names = data["species_at_sites"]
    unknown = [name for name in names if name not in elements]
    if unknown or data.get("nsites") not in (None, len(names)):
        got = repr(unknown[0])[:60] if unknown else f"{len(names)} for {data['nsites']}"
        raise StructureError(
            f"{where}: `species_at_sites` must name one of the species for each of the sites, got "
            f"{got}. Correct the entry."
        )
    positions = data["cartesian_site_positions"]
    positions = as_floats(positions, "cartesian_site_positions", (len(names), 3), where)
    cell = as_floats(data["lattice_vectors"], "lattice_vectors", (3, 3), where)
    scaled = data.get("fractional_site_positions")
    if scaled is not None:
        scaled = as_floats(scaled, "fractional_site_positions", (len(names), 3), where)
        if abs(scaled @ cell - positions).max() > _TWIN:
            raise StructureError(
                f"{where}: `cartesian_site_positions` and `fractional_site_positions` must be the "
                "same places, got others. Correct the entry."
            )
    return {
        "numbers": [elements[name] for name in names],
        "positions": positions,
        "cell": cell,
        "pbc": [bool(flag) for flag in data.get("dimension_types") or (1, 1, 1)],
        "id": id,
        "info": {key: value for key, value in data.items() if key.startswith("_")},
    }


def _number_of_species(species: Mapping[str, Any], where: str) -> int:
    """Return the atomic number of a species that is one whole atom."""
    symbols, shares = species["chemical_symbols"], species.get("concentration", [1.0])
    is_whole = len(symbols) == len(shares) == 1 and abs(shares[0] - 1) <= 1e-3
    if not is_whole or species.get("attached"):
        got = " + ".join(map(str, [*symbols, *(species.get("attached") or ())]))
        raise StructureError(
            f"{where}: species {str(species['name'])[:40]!r} must be one element of "
            f"`concentration` 1, got {got[:60]} of {str(shares)[:60]}. "
            "Replace the structure by an ordered model with all its atoms."
        )
    return number_of(symbols[0], f"{where}: species {str(species['name'])[:40]}")
