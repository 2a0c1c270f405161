"""What answers hold, as JSON has it: the names of the sheet, None for what is not there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from potnet.crystal import Crystal
from potnet.crystal.picture import drawn_bonds
from potnet.errors import Failure
from potnet.known import SOURCE
from potnet.text import printable

if TYPE_CHECKING:
    from potnet.known import KnownCrystal
    from potnet.report.landscape import Landscape
    from potnet.sheet import CrystalSheet
    from potnet.sheet.facts import Facts
    from potnet.stability import Diagram, Stability

KNOWN_VALUES = {
    "formation_energy": "formation_energy",
    "band_gap": "gap",
    "bulk_modulus": "bulk_modulus",
    "shear_modulus": "shear_modulus",
}
"""Properties of the sheet that the index of known crystals has, and what they are called there."""


def failure(item: Failure) -> dict[str, Any]:
    """Return a failure as a record: ``id``, ``stage``, ``reason``."""
    return {"id": printable(item.id), "stage": item.stage, "reason": printable(item.reason)}


def sheet(found: CrystalSheet) -> dict[str, Any]:
    """Return the sheet of a crystal as a record."""
    return {
        **_read(found.crystal, found.facts),
        "rows": [row.record() for row in found.rows],
        "known": [printable(known.id) for known in found.known],
    }


def facts(crystal: Crystal) -> dict[str, Any]:
    """Return what was read of a crystal, and what is needed to draw it."""
    from potnet.sheet.facts import facts_of  # with torch: not before the page is there

    return _read(crystal, facts_of(crystal))


def _read(crystal: Crystal, read: Facts) -> dict[str, Any]:
    return {
        "id": printable(crystal.id),
        "formula": read.formula,
        "n_atoms": read.n_atoms,
        "space_group": read.space_group,
        "density": read.density,
        "symbols": crystal.symbols,
        "numbers": crystal.numbers.tolist(),
        "positions": crystal.positions.tolist(),
        "cell": crystal.cell.tolist(),
        "pbc": crystal.pbc.tolist(),
        "bonds": [[i, j, *shift] for i, j, shift in drawn_bonds(crystal)],
    }


def nearest(
    known: Sequence[KnownCrystal], same: Sequence[KnownCrystal], examples: Mapping[str, str]
) -> dict[str, Any]:
    """Return the crystals of the index that are nearest, those that are the very one first."""
    ids = {crystal.id for crystal in same}
    others = [crystal for crystal in known if crystal.id not in ids]
    return {
        "source": SOURCE,
        "crystals": [
            _known(crystal, is_same) | {"example": examples.get(crystal.id)}
            for crystals, is_same in ((same, True), (others, False))
            for crystal in crystals
        ],
    }


def _known(crystal: KnownCrystal, is_same: bool) -> dict[str, Any]:
    values = {name: _number(getattr(crystal, key)) for name, key in KNOWN_VALUES.items()}
    return {
        "id": crystal.id,
        "formula": crystal.formula,
        "n_atoms": crystal.n_atoms,
        "space_group": crystal.space_group or None,
        "volume_per_atom": crystal.volume,
        "distance": crystal.distance,
        "is_same": is_same,
        "is_metal": crystal.is_metal,
        **values,
    }


def stability(found: Stability, drawn: Diagram | None) -> dict[str, Any]:
    """Return how a crystal stands to the hull, and the hull where it can be drawn."""
    mixture = found.decomposition
    return {
        "formula": mixture.formula,
        "energy_above_hull": found.energy_above_hull,
        "lower": _number(found.lower),
        "upper": _number(found.upper),
        "hull_energy": mixture.energy,
        "decomposition": [
            {"formula": phase.formula, "share": share, "formation_energy": phase.energy}
            for phase, share in mixture.phases
        ],
        "unknown": list(mixture.unknown),
        "snapshot": mixture.snapshot,
        "diagram": None if drawn is None else _diagram(drawn),
    }


def _diagram(drawn: Diagram) -> dict[str, Any]:
    return {
        "elements": list(drawn.elements),
        "phases": [
            {"formula": phase.formula, "formation_energy": phase.energy, "shares": shares}
            for phase, shares in zip(drawn.phases, drawn.shares.round(6).tolist(), strict=True)
        ],
        "lines": [list(line) for line in drawn.lines],
    }


def landscape(found: Landscape, depth: float) -> dict[str, Any]:
    """Return a potential on a plane: rows from below, None inside atoms, and the atoms near it."""
    section = found.section
    atoms, places = section.atoms(found.crystal, found.width, depth)
    values = np.char.mod("%.5g", found.values[0]).astype(float)
    return {
        "plane": section.name,
        "potential": found.names[0],
        "unit": found.units[0],
        "width": found.width,
        "error_bound": float(found.error_bound[0]),
        "values": [[_number(value) for value in row] for row in values.tolist()],
        "atoms": [
            {"symbol": found.crystal.symbols[atom], "x": x, "y": y, "height": height}
            for atom, (x, y, height) in zip(atoms.tolist(), places.round(4).tolist(), strict=True)
        ],
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
