"""The straight way from what a model predicts to other values: a slope, and a shift by element."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from potnet.models.contract import Network
from potnet.models.selection import target_axes

# Crystals of one element that a shift of 0 counts for; the last leaves outputs as they are.
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, np.inf)


@dataclass(frozen=True)
class Correction:
    """A linear function of an output and of the composition.

    Attributes:
        slope: What the output is multiplied with.
        shifts: Added for the share of each element, shape (n_elements,).
        others: What the fit to all other crystals makes of the output of each, shape (n,).
    """

    slope: float
    shifts: NDArray[np.float64]
    others: NDArray[np.float64]

    def of(self, outputs: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the outputs of crystals with ``shares`` of the elements, corrected, (n,)."""
        return self.slope * outputs + shares @ self.shifts

    @classmethod
    def fit(
        cls,
        outputs: NDArray[np.float64],
        targets: NDArray[np.float64],
        shares: NDArray[np.float64],
        weights: NDArray[np.float64] | None = None,
    ) -> Correction:
        """Return the correction that ridge regression finds.

        How much it may change is chosen by the errors for each crystal of the fit to all others
        (Allen, Technometrics 16, 125 (1974)); nothing is one of the choices.

        Args:
            outputs: Of the model, standardised, shape (n,).
            targets: What they should be, shape (n,).
            shares: Of the elements, shape (n, n_elements); they sum to 1.
            weights: How much each crystal counts, shape (n,); alike if None.
        """
        roots = np.ones(len(outputs)) if weights is None else np.sqrt(weights)
        rows = np.column_stack([shares, outputs, np.ones(len(outputs))]) * roots[:, None]
        left = (targets - outputs) * roots
        fits = (_ridge(rows, left, penalty) for penalty in PENALTIES)
        found, errors = min(fits, key=lambda fit: float((fit[1] ** 2).sum()))
        # The constant is a shift of all elements, whose shares sum to 1.
        return cls(1 + float(found[-2]), found[:-2] + found[-1], targets - errors / roots)

    @torch.no_grad()
    def apply(self, network: Network, references: nn.Embedding, place: int) -> None:
        """Correct the output ``place`` of a network whose last layer is linear.

        Args:
            network: Changed in place.
            references: Its references.
            place: Of the output.
        """
        axes = target_axes(network.name, network.settings)
        for name, tensor in network.state_dict().items():
            if name in axes:
                tensor.select(axes[name], place).mul_(self.slope)
        weight = references.weight[: len(self.shifts), place]
        weight += torch.from_numpy(self.shifts).to(weight)


def _ridge(
    rows: NDArray[np.float64], values: NDArray[np.float64], penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coefficients, the last one free, and what each value is off the fit to the others."""
    if np.isinf(penalty):
        return np.zeros(rows.shape[1]), values
    penalties = np.full(rows.shape[1], penalty)
    penalties[-1] = 1e-6
    normal = rows.T @ rows + np.diag(penalties)
    coefficients: NDArray[np.float64] = np.linalg.solve(normal, rows.T @ values).astype(np.float64)
    own = np.einsum("nk,nk->n", rows, np.linalg.solve(normal, rows.T).T)
    others: NDArray[np.float64] = (values - rows @ coefficients) / np.maximum(1 - own, 1e-6)
    return coefficients, others
