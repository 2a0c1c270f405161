"""Infinite lattice sums of pair potentials, within a tolerance the caller names."""

from latticesums.compiled.sums import directed_shells as orbit_shells
from latticesums.compiled.sums import orbit_sums
from latticesums.compiled.sums import supports as orbit_sums_support
from latticesums.directed import directed_shells, directed_sums
from latticesums.errors import ConfigError, LatticeSumsError, StructureError
from latticesums.pairs import DEFAULT_POTENTIALS, LatticeSums, PairSums, lattice_sums, pair_sums
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
    resolve,
)
from latticesums.potentials.names import parse_potential, unit_of

__all__ = [
    "DEFAULT_POTENTIALS",
    "Buckingham",
    "Combination",
    "ConfigError",
    "Coulomb",
    "CutOff",
    "Exponential",
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
    "lattice_sums",
    "orbit_shells",
    "orbit_sums",
    "orbit_sums_support",
    "pair_sums",
    "parse_potential",
    "point_sums",
    "resolve",
    "unit_of",
]
