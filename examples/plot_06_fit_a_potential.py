"""
Fit a potential to a lattice
============================

Parameters of potentials can be tensors, and sums are differentiable in them. Here the two of a
Lennard-Jones potential are fitted so that solid argon has its measured size and binding energy.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import potnet
from latticesums import LennardJones

EDGE, BINDING = 5.311, -0.0888  # Å, eV per atom: solid argon near 0 K, zero-point energy taken off


def energy(edge: torch.Tensor, epsilon: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Return the energy in eV of one atom in a face-centred cubic lattice, all images included."""
    cell = edge / 2 * torch.tensor([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=torch.float64)
    origin = torch.zeros(1, 3, dtype=torch.float64)
    sums = potnet.pair_sums(origin, cell, [LennardJones(epsilon, sigma)], tolerance=1e-9)
    return 0.5 * sums.values[0, 0]


# %%
# At the right size there is no pressure: the derivative by the edge is zero.

edge = torch.tensor(EDGE, dtype=torch.float64, requires_grad=True)
epsilon = torch.tensor(0.008, dtype=torch.float64, requires_grad=True)
sigma = torch.tensor(3.3, dtype=torch.float64, requires_grad=True)
optimizer = torch.optim.LBFGS([epsilon, sigma], lr=0.5, max_iter=60, line_search_fn="strong_wolfe")


def loss() -> torch.Tensor:
    """Return how far binding energy and slope are from what they should be."""
    optimizer.zero_grad()
    value = energy(edge, epsilon, sigma)
    (slope,) = torch.autograd.grad(value, edge, create_graph=True)
    error = (1e2 * (value - BINDING)) ** 2 + (1e2 * slope) ** 2
    error.backward(inputs=[epsilon, sigma])
    return error


optimizer.step(loss)
print(f"epsilon = {epsilon.item() / 8.617333e-5:.1f} K, sigma = {sigma.item():.3f} Å")
print(f"energy = {energy(edge, epsilon, sigma).item():.4f} eV per atom at {EDGE} Å")

# %%
# The lattice constant of the minimum is a known multiple of sigma.

edges = np.linspace(4.9, 6.6, 35)
with torch.no_grad():
    curve = [energy(torch.tensor(a), epsilon, sigma).item() for a in edges]
print(f"edge / sigma = {EDGE / sigma.item():.4f}, known: {np.sqrt(2) * 1.09017:.4f}")
if abs(EDGE / sigma.item() - np.sqrt(2) * 1.09017) > 1e-3:
    raise SystemExit("the minimum must be where it is known to be")

fig, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
axes.plot(edges, np.array(curve) * 1e3)
axes.plot(EDGE, BINDING * 1e3, "o", label="solid argon")
axes.set(xlabel="edge of the cube (Å)", ylabel="energy (meV per atom)", ylim=(-95, 20))
axes.legend()
