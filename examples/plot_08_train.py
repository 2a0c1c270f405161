"""
Train a model, and look at its errors
=====================================

A small network learns bulk moduli from 240 crystals of the dataset that comes with potnet, in
seconds. ``potnet train elastic --target bulk_modulus --transform log10`` does it with all of them.
"""

import csv
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import potnet
import potnet.data

dataset = potnet.data.open("elastic")
config = potnet.TrainingConfig(
    targets="bulk_modulus",
    transform="log10",
    epochs=12,
    batch_size=32,
    network_settings={"width": 32, "n_layers": 2},
)
folder = Path(tempfile.mkdtemp()) / "bulk-modulus"
result = potnet.train(dataset.subset(range(240)), config, folder)

# %%
# The error on crystals that were held back, with its interval, beside what a constant would give.

test = result.metrics["test"]["bulk_modulus"]
print(f"error {test['mae']:.1f} GPa ({test['mae_low']:.1f} to {test['mae_high']:.1f})")
print(f"always the same number: {test['baseline_mae']:.1f} GPa")

# %%
# Everything about the run is in its folder: settings, ids of the split, errors by epoch,
# predictions, the model, a report.

print(sorted(path.name for path in folder.iterdir()))
with open(folder / "predictions.csv", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
print(rows[0])

# %%
# The model is like the bundled ones. Where it is doubtful it says so.

model = potnet.load(folder / "model")
held_out = dataset.subset(range(240, 360))
found = model.predict(held_out.crystals)
true = np.array(held_out.targets["bulk_modulus"], dtype=float)

fig, axes = plt.subplots(figsize=(4.8, 4.4), layout="constrained")
half = [
    [row.prediction - row.lower for row in found],
    [row.upper - row.prediction for row in found],
]
axes.errorbar(true, found.values, yerr=half, fmt=".", lw=0.4, alpha=0.7)
axes.plot([10, 400], [10, 400], "k:")
axes.set(xscale="log", yscale="log", xlabel="computed by DFT (GPa)", ylabel="predicted (GPa)")
inside = np.mean([row.lower <= t <= row.upper for row, t in zip(found, true, strict=True)])
axes.set_title(f"{inside:.0%} of the intervals hold the truth (90 % asked)", fontsize=9)
