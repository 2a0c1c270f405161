"""
A monolayer does not know its vacuum
====================================

Sums follow ``pbc``: a layer repeats in two directions, and then the vacuum in its box does not
occur. As a crystal of layers, the box decides.
"""

import matplotlib.pyplot as plt
import numpy as np

import potnet


def nitride(height: float, *, layer: bool) -> potnet.Crystal:
    """Return boron nitride in a box of some height, as one layer or as a crystal of layers."""
    return potnet.Crystal(
        numbers=[5, 7],
        positions=[[0, 0, 0], [1.25, 0.7217, 0.4]],  # buckled, so that it has a dipole
        cell=[[2.5, 0, 0], [-1.25, 2.1651, 0], [0, 0, height]],
        pbc=(True, True, not layer),
    )


charges = np.array([1.0, -1.0])


def energy(crystal: potnet.Crystal) -> float:
    """Return the Coulomb energy of charges +1 and -1, in eV."""
    sums = potnet.lattice_sums(crystal, ["coulomb"], tolerance=1e-10)
    return 0.5 * 14.399645 * float(charges @ sums.values[:, :, 0] @ charges)


heights = np.array([5.0, 7, 10, 15, 20, 30, 45, 70])
layers = [energy(nitride(height, layer=True)) for height in heights]
crystals = [energy(nitride(height, layer=False)) for height in heights]

# %%
# The layer has one energy, to the last bit; the crystal creeps towards it as one over the height,
# since its dipoles see each other.

print("spread of the layer's energies:", max(layers) - min(layers), "eV")
print("crystal of layers, less the layer:", np.round(np.array(crystals) - layers, 4), "eV")
if max(layers) != min(layers):
    raise SystemExit("the vacuum must not matter")

fig, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
axes.plot(heights, crystals, "o-", label="crystal of layers: pbc = (True, True, True)")
axes.plot(heights, layers, "s-", ms=4, label="one layer: pbc = (True, True, False)")
axes.set(xlabel="height of the box (Å)", ylabel="Coulomb energy (eV)")
axes.legend()
