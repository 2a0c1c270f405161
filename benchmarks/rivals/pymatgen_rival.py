"""The Ewald matrix of pymatgen, all pairs of unit charges at once; see sums_job.py."""

import math
import warnings
from importlib.metadata import version

import numpy as np
from pymatgen.core import Structure
from pymatgen.core.ewald import EwaldSummation
from sums_job import run

warnings.simplefilter("ignore")  # it warns of charged cells, which are meant here


def setups(cell, positions, exponent, tolerance):
    structure = Structure(
        cell, ["H+"] * len(positions), positions, coords_are_cartesian=True, to_unit_cell=False
    )
    structure.add_oxidation_state_by_site([1] * len(positions))
    volume = abs(np.linalg.det(cell))

    def evaluate():
        ewald = EwaldSummation(structure, acc_factor=-math.log10(tolerance))
        matrix = 2 * ewald.total_energy_matrix / EwaldSummation.CONV_FACT
        return matrix - math.pi / (volume * ewald.eta)  # its background is not in the matrix

    yield evaluate


if __name__ == "__main__":
    run("pymatgen", version("pymatgen-core"), setups, exponents=(1,))
