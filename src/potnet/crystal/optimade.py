"""Structures as servers of OPTIMADE send them (version 1 of its specification)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from potnet.crystal.checks import as_floats
from potnet.crystal.elements import number_of
from potnet.errors import StructureError

_TWIN = 0.01  # Å, by which coordinates of two kinds may differ


def from_optimade(entry: Mapping[str, Any], id: str) -> dict[str, Any]:
    """Return the arguments of ``Crystal`` of an entry of type ``structures``.

    Raises:
        StructureError: If the entry has disorder, implicit or attached atoms, lacks a part, or
            does not have as many sites as it says.
    """
    data = entry["attributes"]
    where = id or "OPTIMADE structure"
    features = list(data.get("structure_features") or []) + ["assemblies"] * bool(
        data.get("assemblies")
    )
    if features:
        raise StructureError(
            f"{where}: `structure_features` must be empty, got {', '.join(map(str, features))}. "
            "Replace the structure by an ordered model with all its atoms."
        )
    elements = {species["name"]: _element(species, where) for species in data["species"]}
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


def _element(species: Mapping[str, Any], where: str) -> int:
    """Return the atomic number of a species that is one whole atom."""
    symbols, shares = species["chemical_symbols"], species["concentration"]
    is_whole = len(symbols) == len(shares) == 1 and abs(shares[0] - 1) <= 1e-3
    if not is_whole or species.get("attached"):
        got = " + ".join(map(str, [*symbols, *(species.get("attached") or ())]))
        raise StructureError(
            f"{where}: species {str(species['name'])[:40]!r} must be one element of "
            f"`concentration` 1, got {got[:60]} of {str(shares)[:60]}. "
            "Replace the structure by an ordered model with all its atoms."
        )
    return number_of(symbols[0], f"{where}: species {str(species['name'])[:40]}")
