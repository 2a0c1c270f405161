"""Whether a model predicts a target already, computed in another way."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from potnet.training.correction import Correction

FEWEST = 10  # crystals to judge by
# Of the errors without the output, those that are left with it. Gaps for effective masses, where
# three quarters are left, are as good a beginning as random outputs; the bulk modulus for the shear
# modulus, where six tenths are left, is better.
LEFT = 0.75


def tells(
    outputs: NDArray[np.float64],
    values: NDArray[np.float64],
    shares: NDArray[np.float64],
    floor: float = -np.inf,
) -> float:
    """Return by how much an output tells more of a target than the composition; 0 is the limit.

    Ranks stand for outputs and values, so that neither a scale nor a few values that are out by far
    matter, which among forty crystals decide over a correlation. Each crystal is predicted by the
    fit to all others, a slope and a shift of each element, once with the output and once without.
    The sizes of both errors are compared, crystal by crystal, by their signed ranks (Wilcoxon,
    Biometrics Bulletin 1, 80 (1945)).

    Args:
        outputs: Of the model, standardised, shape (n,).
        values: What they should be, standardised alike, shape (n,).
        shares: Of the elements, shape (n, n_elements); they sum to 1.
        floor: Standardised value below which all outputs mean the same.

    Returns:
        The sum of the signed ranks in its standard deviations under chance, positive where the
        errors with the output are below ``LEFT`` of those without it; -inf where the crystals are
        too few or all alike.
    """
    if len(values) < FEWEST or values.std() == 0:
        return -np.inf
    x, y = _ranks(np.maximum(outputs, floor)), _ranks(values)
    with_output = Correction.fit(x, y, shares).others
    without = Correction.fit(np.zeros_like(y), y, shares).others
    return _signed_ranks(LEFT * np.abs(without - y) - np.abs(with_output - y))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks, those of equal values their mean, with mean 0 and standard deviation 1."""
    from scipy.stats import rankdata  # slow to import, and only asked for when going on

    ranks = rankdata(values)
    return (ranks - ranks.mean()) / max(ranks.std(), 1e-12)


def _signed_ranks(differences: NDArray[np.float64]) -> float:
    n = len(differences)
    ranks = np.argsort(np.argsort(np.abs(differences), kind="stable"), kind="stable") + 1
    return float(np.sign(differences) @ ranks / np.sqrt(n * (n + 1) * (2 * n + 1) / 6))
