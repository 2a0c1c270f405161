"""Forces on ions from the gradient of complete Coulomb sums, checked by finite differences.

Run: python examples/coulomb_forces.py
"""

import torch

import potnet

EV_ANGSTROM = 14.399645478  # e^2 / (4 pi epsilon_0), in eV Å


def energy(positions: torch.Tensor, cell: torch.Tensor, charges: torch.Tensor) -> torch.Tensor:
    """Return the Coulomb energy of a neutral cell in eV; positions and cell in Å."""
    sums = potnet.pair_sums(positions, cell, ["coulomb"], tolerance=1e-10)
    weights = charges[sums.i] * charges[sums.j]
    return 0.5 * EV_ANGSTROM * (weights * sums.values[:, 0]).sum()


def main() -> None:
    """Compare the gradient with a central difference for a shifted ion in rock salt."""
    cell = 2.82 * torch.tensor([[0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=torch.float64)
    charges = torch.tensor([1.0, -1.0], dtype=torch.float64)
    positions = torch.tensor([[0.1, 0.0, 0.0], [2.82, 2.82, 2.82]], dtype=torch.float64)
    positions.requires_grad_()
    (gradient,) = torch.autograd.grad(energy(positions, cell, charges), positions)
    force = -gradient[0, 0].item()
    step = torch.zeros_like(positions)
    step[0, 0] = 1e-4
    with torch.no_grad():
        rise = energy(positions + step, cell, charges) - energy(positions - step, cell, charges)
    difference = -rise.item() / 2e-4
    print(f"force on the shifted ion: {force:.8f} eV/Å, by differences {difference:.8f} eV/Å")
    if abs(force - difference) > 1e-6:
        raise SystemExit("the two must agree to 1e-6 eV/Å")


if __name__ == "__main__":
    main()
