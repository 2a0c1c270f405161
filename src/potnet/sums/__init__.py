"""Infinite lattice sums of pair potentials, within a tolerance the caller names."""

from potnet.sums.directed import directed_sums
from potnet.sums.notation import parse_potential, unit_of
from potnet.sums.pairs import LatticeSums, PairSums, lattice_sums, pair_sums
from potnet.sums.points import PointSums, point_sums
from potnet.sums.potentials import (
    Buckingham,
    Combination,
    Coulomb,
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
)

__all__ = [
    "Buckingham",
    "Combination",
    "Coulomb",
    "Exponential",
    "Gaussian",
    "InversePower",
    "LatticeSums",
    "LennardJones",
    "London",
    "Morse",
    "PairSums",
    "Pauli",
    "PointSums",
    "Potential",
    "Shell",
    "Yukawa",
    "directed_sums",
    "lattice_sums",
    "pair_sums",
    "parse_potential",
    "point_sums",
    "unit_of",
]
