"""Ewald sums of torch-pme, one channel of charges per atom; see sums_job.py."""

import math
from importlib.metadata import version

import numpy as np
import torch
from sums_job import cutoffs, run, split
from torchpme import EwaldCalculator
from torchpme.potentials import CoulombPotential, InversePowerLawPotential
from vesin import NeighborList

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)


def setups(cell, positions, exponent, tolerance):
    volume = abs(np.linalg.det(cell))
    for cutoff in cutoffs(cell):
        alpha, wave_number = split(cutoff, tolerance, volume)
        if volume * wave_number**3 / (6 * math.pi**2) > 3e5:
            continue  # far too many wave vectors to be the fastest
        i, j, distances = NeighborList(cutoff=cutoff, full_list=False).compute(
            positions, cell, True, "ijd"
        )
        smearing = 1 / (math.sqrt(2) * alpha)
        if exponent == 1:
            potential = CoulombPotential(smearing=smearing)
        else:
            potential = InversePowerLawPotential(exponent=exponent, smearing=smearing)
        # its box of wave vectors reaches to half of 2 pi / lr_wavelength
        calculator = EwaldCalculator(potential, lr_wavelength=math.pi / wave_number)
        arguments = {
            "charges": torch.eye(len(positions)),
            "cell": torch.tensor(cell),
            "positions": torch.tensor(positions),
            "neighbor_indices": torch.tensor(np.stack([i, j], 1).astype(np.int64)),
            "neighbor_distances": torch.tensor(distances),
        }

        def evaluate(calculator=calculator, arguments=arguments):
            with torch.no_grad():
                return 2 * calculator(**arguments).numpy()

        yield evaluate


if __name__ == "__main__":
    run("torch-pme", version("torch-pme"), setups)
