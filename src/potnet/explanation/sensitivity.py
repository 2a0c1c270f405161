"""How a prediction changes when the crystal is strained, or one of its atoms moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from potnet.prediction import Gradients

VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")


@dataclass(frozen=True)
class Sensitivity:
    """First derivatives of a prediction, in its unit.

    Attributes:
        strain: By the six components of strain in the order of ``VOIGT``, along the axes in which
            the crystal was given; shears are engineering strains (twice the tensor's component),
            shape (6,).
        volume: By the logarithm of the volume: a third of the trace. Times 0.01 it is the change
            for one percent of volume, the shape being kept.
        atoms: Length of the derivative by the position of each atom, per Å, shape (n_atoms,).
    """

    strain: NDArray[np.float64]
    volume: float
    atoms: NDArray[np.float64]

    @classmethod
    def of(cls, gradients: Gradients, copies: NDArray[np.int64]) -> Sensitivity:
        """Return the sensitivity of a crystal from the gradients of its primitive cell.

        Args:
            gradients: Of the primitive cell.
            copies: Atom of the primitive cell that each atom is a copy of, shape (n_atoms,).
        """
        s = gradients.strain
        strain = np.array([s[0, 0], s[1, 1], s[2, 2], s[1, 2], s[0, 2], s[0, 1]])
        lengths = np.linalg.norm(gradients.positions, axis=1)
        # A prediction is a mean over the atoms: moving one of several copies does so much less.
        return cls(strain, float(np.trace(s)) / 3, lengths[copies] * len(lengths) / len(copies))

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers, as JSON stores them."""
        return {
            "strain": dict(zip(VOIGT, self.strain.tolist(), strict=True)),
            "volume": self.volume,
            "atoms": self.atoms.tolist(),
        }
