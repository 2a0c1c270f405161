"""Infinite lattice sums of pair potentials, within a tolerance the caller names.

A potential says what V(r) is, a function sums it over all periodic images. Needs numpy, torch and
numba, and each of them only when something asks for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latticesums.compiled.sums import orbit_shells
    from latticesums.derivatives import DerivativeBounds
    from latticesums.directed import directed_sums
    from latticesums.energies import COULOMB_CONSTANT, Energies, energy
    from latticesums.errors import ConfigError, LatticeSumsError, StructureError
    from latticesums.fixed import FixedPlan, fixed_plan
    from latticesums.lattice import Atoms, reduced
    from latticesums.neighbours import images
    from latticesums.orbits import orbit_sums
    from latticesums.pairs import (
        DEFAULT_POTENTIALS,
        LatticeSums,
        PairSums,
        lattice_sums,
        pair_sums,
    )
    from latticesums.partial import partial_sums
    from latticesums.points import PointSums, point_sums
    from latticesums.potentials import (
        Buckingham,
        Combination,
        Coulomb,
        CutOff,
        Exponential,
        Gaussian,
        InversePower,
        LennardJones,
        London,
        Morse,
        Pauli,
        Potential,
        Shell,
        Yukawa,
        named_potentials,
        parse_potential,
        resolve,
        unit_of,
    )
    from latticesums.shells import directed_shells

__all__ = [
    "COULOMB_CONSTANT",
    "DEFAULT_POTENTIALS",
    "Atoms",
    "Buckingham",
    "Combination",
    "ConfigError",
    "Coulomb",
    "CutOff",
    "DerivativeBounds",
    "Energies",
    "Exponential",
    "FixedPlan",
    "Gaussian",
    "InversePower",
    "LatticeSums",
    "LatticeSumsError",
    "LennardJones",
    "London",
    "Morse",
    "PairSums",
    "Pauli",
    "PointSums",
    "Potential",
    "Shell",
    "StructureError",
    "Yukawa",
    "directed_shells",
    "directed_sums",
    "energy",
    "fixed_plan",
    "images",
    "lattice_sums",
    "named_potentials",
    "orbit_shells",
    "orbit_sums",
    "pair_sums",
    "parse_potential",
    "partial_sums",
    "point_sums",
    "reduced",
    "resolve",
    "unit_of",
]

_MODULES = {
    "errors": ("ConfigError", "LatticeSumsError", "StructureError"),
    "lattice": ("Atoms", "reduced"),
    "pairs": ("DEFAULT_POTENTIALS", "LatticeSums", "PairSums", "lattice_sums", "pair_sums"),
    "partial": ("partial_sums",),
    "points": ("PointSums", "point_sums"),
    "energies": ("COULOMB_CONSTANT", "Energies", "energy"),
    "fixed": ("FixedPlan", "fixed_plan"),
    "derivatives": ("DerivativeBounds",),
    "directed": ("directed_sums",),
    "orbits": ("orbit_sums",),
    "compiled.sums": ("orbit_shells",),
    "shells": ("directed_shells",),
    "neighbours": ("images",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'latticesums' has no attribute {name!r}")
    value = getattr(import_module(f"latticesums.{_MODULE_OF.get(name, 'potentials')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
