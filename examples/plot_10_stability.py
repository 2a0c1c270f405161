"""
Is it stable?
=============

The energy above hull says how much energy a crystal would give off by decomposing into the cheapest
mixture of known phases. The bundled hull holds 35,408 phases of the Materials Project of 2019.
"""

import matplotlib.pyplot as plt
import numpy as np

import potnet
import potnet.stability
from potnet.demo import examples

hull = potnet.stability.load_hull()
crystals = [c for c in potnet.read(examples()) if len(set(c.symbols)) > 1]
rows = potnet.load("mp-formation-energy").predict(crystals)
found = [
    hull.above(crystal.formula, energy=row.prediction, lower=row.lower, upper=row.upper)
    for crystal, row in zip(crystals, rows, strict=True)
]
for crystal, one in zip(crystals, found, strict=True):
    print(f"{crystal.id:18} {one.energy_above_hull:+.3f} eV/atom above {one.decomposition}")

# %%
# The bars are the intervals of the predicted energies. All of these crystals exist; a model whose
# error is as large as the differences that decide can only say which are worth a calculation.

fig, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
height = np.arange(len(found))
value = np.array([one.energy_above_hull for one in found])
half = [(row.prediction - row.lower, row.upper - row.prediction) for row in rows]
axes.errorbar(value * 1e3, height, xerr=np.transpose(half) * 1e3, fmt="o", capsize=3)
axes.axvline(0, color="k", lw=0.8)
axes.set(yticks=height, yticklabels=[c.id for c in crystals], xlabel="energy above hull (meV/atom)")
