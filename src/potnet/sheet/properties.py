"""The properties of the sheet: standard names, units, levels of theory and the model for each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

MATERIALS_PROJECT = "PBE(+U), corrections of the Materials Project of 2019"
HULL = "PBE(+U), hull of MP 2019.04"
OPT = "OptB88vdW"


@dataclass(frozen=True)
class Property:
    """What one output of a bundled model is called.

    Attributes:
        name: Standard name, the same from whatever model.
        level: Level of theory of the values.
        is_advised: Whether it stands in the sheet by default; other models are for comparison.
    """

    name: str
    level: str
    is_advised: bool = False


BUNDLED: dict[tuple[str, str], Property] = {
    ("mp-formation-energy", "e_form"): Property("formation_energy", MATERIALS_PROJECT, True),
    ("mp-band-gap", "gap"): Property("band_gap", "PBE(+U)", True),
    ("bulk-modulus", "bulk_modulus"): Property("bulk_modulus", "PBE", True),
    ("shear-modulus", "shear_modulus"): Property("shear_modulus", "PBE", True),
    ("phonon-peak", "last_phdos_peak"): Property("highest_phonon_frequency", "PBEsol", True),
    ("exfoliation-energy", "exfoliation_en"): Property("exfoliation_energy", OPT, True),
    ("jarvis-formation-energy", "formation_energy_peratom"): Property("formation_energy", OPT),
    ("jarvis-total-energy", "optb88vdw_total_energy"): Property("total_energy", OPT),
    ("jarvis-band-gap", "optb88vdw_bandgap"): Property("band_gap", OPT),
    ("jarvis-band-gap-mbj", "mbj_bandgap"): Property("band_gap", "TBmBJ"),
    ("jarvis-energy-above-hull", "ehull"): Property("jarvis_ehull_label", OPT),
}
"""What the outputs of bundled models are, by model and target."""

ADVISED = tuple(dict.fromkeys(model for (model, _), p in BUNDLED.items() if p.is_advised))
"""Models that the sheet asks by default."""

BENCHMARK_ONLY = ("jarvis-energy-above-hull",)
"""Models that reproduce a benchmark and say nothing about a crystal."""

PROPERTIES: dict[str, str] = {
    "density": "",
    "formation_energy": "mp-formation-energy",
    "energy_above_hull": "mp-formation-energy",
    "band_gap": "mp-band-gap",
    "has_band_gap": "mp-band-gap",
    "bulk_modulus": "bulk-modulus",
    "shear_modulus": "shear-modulus",
    "young_modulus": "shear-modulus",
    "poisson_ratio": "shear-modulus",
    "pugh_ratio": "shear-modulus",
    "highest_phonon_frequency": "phonon-peak",
    "exfoliation_energy": "exfoliation-energy",
}
"""The rows of the sheet in their order, each with the model that it comes from."""

_QUESTION = re.compile(r"(.+?) *> *([-+.\deE]+)")


@lru_cache(maxsize=256)  # of the models at hand, for crystal after crystal; so below
def property_of(model: str, target: str) -> Property:
    """Return what an output of a model is called, its own name where nothing is known of it."""
    if question := _QUESTION.fullmatch(target):
        found = property_of(model, question[1])
        name = "has_band_gap" if found.name == "band_gap" else target
        return Property(name, found.level, found.is_advised)
    return BUNDLED.get((model, target), Property(target, ""))


@lru_cache(maxsize=256)
def threshold_of(target: str) -> tuple[str, str, float] | None:
    """Return a question about a target, the target and the threshold; None if it is no question.

    >>> threshold_of("gap > 0.01")
    ('gap > 0.01', 'gap', 0.01)
    """
    found = _QUESTION.fullmatch(target)
    return (target, found[1], float(found[2])) if found else None


def models_of(properties: tuple[str, ...]) -> tuple[str, ...]:
    """Return the models that some properties of the sheet need, each once."""
    needed: list[str] = []
    for name in properties:
        model = PROPERTIES[name]
        if name in ("young_modulus", "poisson_ratio", "pugh_ratio"):
            needed.append("bulk-modulus")
        needed.append(model)
    return tuple(name for name in ADVISED if name in needed)
