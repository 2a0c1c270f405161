"""Ewald sums of nvalchemi-toolkit-ops on the CPU, a batch of one charge per atom; see sums_job.py.

A row of sums is the gradient of the energy of a crystal with one unit charge by all charges.
"""

import warnings
from importlib.metadata import version

import numpy as np
import torch
from nvalchemiops.torch.interactions.electrostatics import ewald_summation
from sums_job import cutoffs, run, split
from vesin import NeighborList

torch.set_num_threads(1)
warnings.simplefilter("ignore")  # charge gradients of a call without autograd are on their way out


def many(cell, positions, cutoff, tolerance, size):
    """Return a callable for ``size`` crystals, each once for every atom that has a charge."""
    n, n_systems = len(positions), size * len(positions)
    alpha, wave_number = split(cutoff, tolerance, abs(np.linalg.det(cell)))
    i, j, shifts = NeighborList(cutoff=cutoff, full_list=True).compute(positions, cell, True, "ijS")
    order = np.argsort(i, kind="stable")
    i, j, shifts = i[order].astype(np.int64), j[order].astype(np.int64), shifts[order]
    offsets = np.repeat(np.arange(n_systems) * n, len(i))
    counts = np.tile(np.bincount(i, minlength=n), n_systems)
    pairs = np.stack([np.tile(i, n_systems), np.tile(j, n_systems)]) + offsets
    arguments = {
        "positions": torch.tensor(np.tile(positions, (n_systems, 1))),
        "charges": torch.tensor(np.tile(np.eye(n), (size, 1)).ravel()),
        "cell": torch.tensor(np.tile(cell, (n_systems, 1, 1))),
        "alpha": torch.full((n_systems,), alpha, dtype=torch.float64),
        "k_cutoff": wave_number,
        "batch_idx": torch.arange(n_systems, dtype=torch.int32).repeat_interleave(n),
        "neighbor_list": torch.tensor(pairs, dtype=torch.int32),
        "neighbor_ptr": torch.tensor(np.concatenate([[0], np.cumsum(counts)]), dtype=torch.int32),
        "neighbor_shifts": torch.tensor(np.tile(shifts, (n_systems, 1)), dtype=torch.int32),
        "compute_charge_gradients": True,
        "max_atoms_per_system": n,
    }

    def evaluate():
        _, gradients = ewald_summation(**arguments)
        return gradients.numpy().reshape(size, n, n)

    return evaluate


def setups(cell, positions, exponent, tolerance):
    for cutoff in cutoffs(cell)[1:2]:
        evaluate = many(cell, positions, cutoff, tolerance, 1)
        yield lambda evaluate=evaluate: evaluate()[0]


def batch(cell, positions, tolerance, size):
    return many(cell, positions, cutoffs(cell)[1], tolerance, size)


if __name__ == "__main__":
    # kernels are compiled by Warp's own compiler, before the clock runs
    run("nvalchemi", version("nvalchemi-toolkit-ops"), setups, exponents=(1,), batch=batch)
