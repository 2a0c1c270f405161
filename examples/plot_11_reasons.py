"""
Why this number?
================

A prediction divides into shares that add up to it: by potential, distance, atom and element.
"""

from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np

import potnet
from potnet.demo import examples
from potnet.report import explanation_plot

corundum = potnet.read(examples() / "Al2O3-corundum.cif")
(found,) = potnet.explain(corundum, "mp-formation-energy")
print(found)
for channel, row in zip(found.channels, found.by_channel, strict=True):
    print(
        f"{channel:16}",
        *(f"{name} {share:+.3f}" for name, share in zip(found.distances, row, strict=True)),
    )
print({element: round(share, 3) for element, share in found.by_element.items()})

# %%
# All of it is there, but for what the integral leaves over.

parts = found.composition + found.surroundings + found.combination + found.residual
print(f"{parts:.6f} = {found.total:.6f} eV/atom, residual {found.residual:.0e}")
np.testing.assert_allclose(parts, found.total, atol=1e-9)

# %%
# On the left the composition without surroundings, then what each potential adds, by distance; on
# the right the atoms. What such shares mean, and what not, is on the page :doc:`/explain`.

figure = explanation_plot(found)
figure.savefig(drawn := BytesIO(), format="png", dpi=100)  # or into a file of your own
axes = plt.figure(figsize=figure.get_size_inches()).add_axes((0, 0, 1, 1))
axes.imshow(plt.imread(BytesIO(drawn.getvalue())))
axes.axis("off")
