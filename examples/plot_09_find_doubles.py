"""
Find the same crystal under two names
=====================================

Doubled crystals leak from training into test. Complete sums, averaged over pairs of elements, are a
fingerprint that does not depend on how a crystal is written down, so that doubles are found without
comparing all pairs. ``potnet check DATA`` does it for a dataset, with everything else that is odd.
"""

from collections import defaultdict
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np

import potnet
import potnet.data
from potnet.checks import fingerprint

crystals = potnet.data.open("elastic").crystals[:400]

# %%
# Smuggle one crystal in again, as a rotated supercell under another name.

copy = crystals[17].to_ase().repeat((2, 1, 1))
copy.rotate(30, "z", rotate_cell=True)
smuggled = potnet.Crystal.from_ase(copy).replace(id="smuggled")
print(f"{crystals[17].id}: {crystals[17].n_atoms} atoms; {smuggled.id}: {smuggled.n_atoms}")

# %%
# Fingerprints are lengths in Å. Only crystals of one formula need to be compared.

by_formula = defaultdict(list)
for crystal in [*crystals, smuggled]:
    by_formula[crystal.to_ase().get_chemical_formula(empirical=True)].append(crystal)
pairs = [pair for group in by_formula.values() for pair in combinations(group, 2)]
apart = np.array([np.abs(fingerprint(a) - fingerprint(b)).max() for a, b in pairs])

for k in np.argsort(apart)[:4]:
    a, b = pairs[k]
    print(f"{a.id} and {b.id}, {a.formula}: {apart[k]:.1e} Å apart")
if "smuggled" not in [crystal.id for crystal in pairs[apart.argmin()]]:
    raise SystemExit("the smuggled crystal must be found")

# %%
# Polymorphs lie hundredths and tenths of an Å apart, doubles only as far as numbers are rounded.

fig, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
axes.hist(np.maximum(apart, 1e-6), bins=np.logspace(-6.5, 0.5, 43))
axes.axvline(0.002, color="k", ls=":", label="the same crystal, below 0.002 Å")
axes.set(xscale="log", xlabel="distance of fingerprints (Å)", ylabel="pairs of one formula")
axes.legend()
