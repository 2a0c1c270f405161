"""
Forces from the gradient of complete sums
=========================================

The sums have exact derivatives: one call of torch's autograd gives the Coulomb forces on all ions.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import potnet

EV_ANGSTROM = 14.399645478  # e^2 / (4 pi epsilon_0), in eV Å
cell = 2.82 * torch.tensor([[0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=torch.float64)
charges = torch.tensor([1.0, -1.0], dtype=torch.float64)


def energy(positions: torch.Tensor) -> torch.Tensor:
    """Return the Coulomb energy of the cell in eV; positions in Å."""
    sums = potnet.pair_sums(positions, cell, ["coulomb"], tolerance=1e-10)
    weights = charges[sums.i] * charges[sums.j]
    return 0.5 * EV_ANGSTROM * (weights * sums.values[:, 0]).sum()


# %%
# Move the anion of rock salt towards the cation, and look at energy and force on the way.

shifts = np.linspace(0, 0.8, 17)
energies, forces = [], []
for shift in shifts:
    positions = torch.tensor([[0, 0, 0], [2.82 - shift, 0, 0]], dtype=torch.float64)
    positions.requires_grad_()
    value = energy(positions)
    (gradient,) = torch.autograd.grad(value, positions)
    energies.append(value.item())
    forces.append(gradient[1, 0].item())  # along the shift, which is along -x

# %%
# The force is the slope of the energy, to many digits.

slope = -(energies[9] - energies[7]) / (shifts[9] - shifts[7])
print(f"force {forces[8]:.4f} eV/Å, slope of the energy {slope:.4f} eV/Å")
if abs(forces[8] - slope) > 0.01:
    raise SystemExit("force and slope must agree")

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
left.plot(shifts, energies, "o-", ms=3)
left.set(xlabel="shift (Å)", ylabel="Coulomb energy (eV)")
right.plot(shifts, forces, "o-", ms=3, color="C1")
right.set(xlabel="shift (Å)", ylabel="force along the shift (eV/Å)")

# %%
# Models of an energy have such gradients too: :class:`potnet.Calculator` gives forces and stress in
# the way of ASE, and ``model.gradients(crystal)`` those of any property. The bundled models learned
# from relaxed crystals alone: take their gradients as sensitivities, not for dynamics.
