"""
See what the atoms of a crystal do to a probe
=============================================

Coulomb, London and Pauli potentials on a plane of strontium titanate. Every point of the picture is
a complete sum over all atoms and all their images, certified like any other sum.
"""

from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np

import latticesums
import potnet
from potnet.demo import examples
from potnet.report import landscape, landscape_plot

perovskite = potnet.read(examples() / "SrTiO3.cif")[0]
charges = {"Sr": 2, "Ti": 4, "O": -2}
figure = landscape_plot(landscape(perovskite, charges=charges))
figure.savefig(drawn := BytesIO(), format="png", dpi=100)  # or into a file of your own

axes = plt.figure(figsize=figure.get_size_inches()).add_axes((0, 0, 1, 1))
axes.imshow(plt.imread(BytesIO(drawn.getvalue())))
axes.axis("off")

# %%
# The same from the shell. Without ``--plane 1,1,0`` (Miller indices) or ``--through 0,3,5`` (three
# atoms) the plane is the one of low indices that cuts most kinds of atoms. ``--width`` sets the
# edge, ``-p yukawa:0.5 -p inverse-power:4`` other potentials.
#
# .. code-block:: bash
#
#    potnet sums SrTiO3.cif --plot SrTiO3.png --charge Sr=2 --charge Ti=4 --charge O=-2
#
# Numbers at points of your own come from :func:`latticesums.point_sums`. Here the potential of
# point charges along the cube's diagonal, in volts:

share = np.linspace(0.05, 0.45, 81)
points = share[:, None] * np.ones(3) @ np.asarray(perovskite.cell)
weights = np.array([charges[symbol] for symbol in perovskite.symbols], dtype=float)
found = latticesums.point_sums(perovskite, points, ["coulomb"], weights=weights)

fig, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
axes.plot(share, found.values[:, 0] * 14.399645)
axes.set(xlabel="place on the diagonal of the cube, 0: Sr, 0.5: Ti", ylabel="potential (V)")
print("error bound:", found.error_bound)
