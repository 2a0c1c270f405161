"""The potentials that can be summed."""

from __future__ import annotations

from latticesums.potentials.base import Combination, Potential, Scalar, Sum
from latticesums.potentials.combinations import (
    Buckingham,
    Expansion,
    LennardJones,
    Morse,
    largest_of_each,
)
from latticesums.potentials.exponentials import Exponential, Pauli, Yukawa
from latticesums.potentials.gaussians import CutOff, Gaussian, Shell
from latticesums.potentials.names import named_potentials, parse_potential, resolve, unit_of
from latticesums.potentials.powers import Coulomb, InversePower, London

__all__ = [
    "Buckingham",
    "Combination",
    "Coulomb",
    "CutOff",
    "Expansion",
    "Exponential",
    "Gaussian",
    "InversePower",
    "LennardJones",
    "London",
    "Morse",
    "Pauli",
    "Potential",
    "Scalar",
    "Shell",
    "Sum",
    "Yukawa",
    "largest_of_each",
    "named_potentials",
    "parse_potential",
    "resolve",
    "unit_of",
]
