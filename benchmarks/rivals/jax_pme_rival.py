"""Ewald sums of jax-pme, compiled, mapped over one charge per atom; see sums_job.py.

Batches are those of ``jaxpme.batched_mixed``, which its documentation names for them.
"""

import math
import os
from importlib.metadata import version

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import jax
import numpy as np
from ase import Atoms
from jaxpme import Ewald, batched_mixed
from sums_job import cutoffs, run, split

jax.config.update("jax_enable_x64", True)


def setups(cell, positions, exponent, tolerance):
    volume = abs(np.linalg.det(cell))
    n = len(positions)
    atoms = Atoms(numbers=np.ones(n), positions=positions, cell=cell, pbc=True)
    calculator = Ewald(exponent=exponent)
    for cutoff in cutoffs(cell)[1:2]:  # each takes a compilation
        alpha, wave_number = split(cutoff, tolerance, volume)
        smearing = 1 / (math.sqrt(2) * alpha)
        _, *rest = calculator.prepare(
            atoms, np.zeros(n), cutoff, lr_wavelength=math.pi / wave_number, smearing=smearing
        )
        # arrays are traced, the periodic directions are not
        arrays = [jax.numpy.asarray(x) for x in rest[:-1]]
        compiled = jax.jit(
            jax.vmap(
                lambda q, *a, pbc=rest[-1]: calculator.potentials(q, *a, pbc), (0, *[None] * 7)
            )
        )
        charges = jax.numpy.eye(n)

        def evaluate(compiled=compiled, charges=charges, arrays=arrays):
            return 2 * np.asarray(compiled(charges, *arrays))

        yield evaluate


def batch(cell, positions, tolerance, size):
    n, cutoff = len(positions), cutoffs(cell)[1]
    alpha, wave_number = split(cutoff, tolerance, abs(np.linalg.det(cell)))
    atoms = Atoms(numbers=np.ones(n), positions=positions, cell=cell, pbc=True)
    calculator = batched_mixed.Ewald()
    none, *rest = calculator.prepare(
        [atoms] * size,
        cutoff,
        lr_wavelength=math.pi / wave_number,
        smearing=1 / (math.sqrt(2) * alpha),
    )
    charges = np.zeros((n, len(none)))  # one set for each atom of a cell, in all cells at once
    for i in range(n):
        charges[i, i : size * n : n] = 1.0
    charges = jax.numpy.asarray(charges)
    arrays = jax.tree.map(jax.numpy.asarray, rest)
    compiled = jax.jit(jax.vmap(calculator.potentials, (0, None, None, None)))

    def evaluate():
        found = np.asarray(compiled(charges, *arrays))
        return 2 * found[:, : size * n].reshape(n, size, n).transpose(1, 0, 2)

    return evaluate


if __name__ == "__main__":
    run("jax-pme", version("jax-pme"), setups, batch=batch)
