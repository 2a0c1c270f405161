"""
Same crystal, same answer
=========================

A crystal can be written down in endless ways. The prediction is the same for all of them.
"""

import matplotlib.pyplot as plt
import numpy as np
from ase.build import make_supercell

import potnet
from potnet.demo import examples

rutile = potnet.read(examples() / "TiO2-rutile.cif")[0].to_ase()
turned = rutile.copy()
turned.rotate(37, (1, 2, 3), rotate_cell=True)
shuffled = rutile[np.random.default_rng(0).permutation(len(rutile))]
shifted = rutile.copy()
shifted.positions += (0.3, -7.1, 12.9)

writings = {
    "as it was": rutile,
    "rotated": turned,
    "atoms in another order": shuffled,
    "shifted": shifted,
    "2 x 1 x 1": rutile.repeat((2, 1, 1)),
    "2 x 2 x 2": rutile.repeat(2),
    "skewed basis": make_supercell(rutile, [[1, 3, 0], [0, 1, 0], [-2, 0, 1]], wrap=False),
}

# %%
# ASE Atoms, pymatgen Structures and JARVIS Atoms are predicted as they are.

model = potnet.load("jarvis-formation-energy")
rows = model.predict(list(writings.values()))
values = np.array([row.prediction for row in rows])
for name, atoms, value in zip(writings, writings.values(), values, strict=True):
    print(f"{name:24} {len(atoms):3} atoms {value:.9f} eV/atom")

spread = np.abs(values - values[0]).max()
print(f"largest difference: {spread:.1e} eV/atom")
if spread > 1e-5:
    raise SystemExit("the same crystal must have the same answer")

# %%
# What is left is the rounding of single precision.

fig, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.plot((values - values[0]) * 1e6, range(len(values)), "o")
axes.axvline(0, color="k", lw=0.8)
axes.set(yticks=range(len(values)), yticklabels=list(writings), xlim=(-5, 5))
axes.set(xlabel="difference of the prediction (millionths of eV/atom)")
