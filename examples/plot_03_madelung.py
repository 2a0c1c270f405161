"""
Madelung constants, to the digits that are asked for
====================================================

A sum of 1/r over a crystal does not converge by adding up images: the shape of the cut decides what
comes out. The complete sum has no cut.
"""

import matplotlib.pyplot as plt
import numpy as np

import potnet

face_centred = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
charges = np.repeat([1.0, -1.0], [4, 4])
NEAREST = 2.5  # Å; the constant does not depend on it
known = {"NaCl": 1.747564594633182, "ZnS": 1.638055053388789}


def crystal(name: str) -> potnet.Crystal:
    """Return rock salt or zinc blende with a nearest distance of ``NEAREST``."""
    anions, edge = {"NaCl": ([0.5, 0, 0], 2.0), "ZnS": ([0.25] * 3, 4 / np.sqrt(3))}[name]
    edge *= NEAREST
    return potnet.Crystal(
        numbers=np.repeat([11, 17], 4),
        positions=np.concatenate([face_centred, face_centred + anions]) * edge,
        cell=np.eye(3) * edge,
        id=name,
    )


# %%
# Ask for 12 digits, get 12 digits and a bound that says so.

for name, value in known.items():
    sums = potnet.lattice_sums(crystal(name), ["coulomb"], tolerance=1e-12)
    constant = -sums.values[0, :, 0] @ charges * NEAREST
    print(
        f"{name}: {constant:.13f}, off by {constant - value:+.1e}, bound {sums.error_bound[0]:.0e}"
    )
    if abs(constant - value) > 1e-11:
        raise SystemExit("the sum must agree with the known constant")

# %%
# What adding up shells of ions does instead: all ions within a radius.

salt = crystal("NaCl")
n = np.arange(-12, 13)
shifts = np.stack(np.meshgrid(n, n, n, indexing="ij"), axis=-1).reshape(-1, 3) @ salt.cell
ions = (salt.positions[:, None] + shifts).reshape(-1, 3)
distances = np.linalg.norm(ions, axis=1) / NEAREST
signs = np.repeat(charges, len(shifts))
order = np.argsort(distances)[1:]  # the ion itself comes first
running = -np.cumsum(signs[order] / distances[order])
radius = distances[order]
last = np.append(np.diff(radius) > 1e-9, True) & (radius < 20)  # whole shells

fig, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
axes.plot(radius[last], running[last], ".-", lw=0.5, ms=3, label="ions within a radius")
axes.axhline(known["NaCl"], color="C1", label="complete sum")
axes.set(xlabel="radius (nearest distances)", ylabel="Madelung constant of NaCl", ylim=(-8, 12))
axes.legend()
