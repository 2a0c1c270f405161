"""
Predict properties of crystals
==============================

Files in, numbers with intervals out: bulk and shear moduli of the crystals that come with potnet.
"""

import matplotlib.pyplot as plt

import potnet
from potnet.demo import examples

crystals = potnet.read(examples())  # CIF, POSCAR, extxyz, JSON, XSF: a file or a folder
bulk = potnet.load("bulk-modulus").predict(crystals)
shear = potnet.load("shear-modulus").predict(crystals)

# %%
# Every row has an interval that nine of ten crystals like those of the training keep to. Flags say
# what makes the model doubtful: diamond is denser than all that it has learned from.

for row in bulk:
    interval = f"{row.lower:.0f} to {row.upper:.0f}"
    print(f"{row.id:16} {row.prediction:5.0f} {row.unit} ({interval})", *row.flags)

# %%
# The same as a picture.

order = sorted(range(len(bulk)), key=lambda k: bulk[k].prediction)
fig, axes = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
for rows, name, shift in ((bulk, "bulk modulus", 0.12), (shear, "shear modulus", -0.12)):
    shown = [rows[k] for k in order]
    values = [row.prediction for row in shown]
    below = [row.prediction - row.lower for row in shown]
    above = [row.upper - row.prediction for row in shown]
    places = [k + shift for k in range(len(shown))]
    axes.errorbar(values, places, xerr=[below, above], fmt="o", ms=4, capsize=2, label=name)
axes.set(yticks=range(len(order)), yticklabels=[bulk[k].id for k in order])
axes.set(xscale="log", xlabel="predicted modulus and interval (GPa)")
axes.legend()
