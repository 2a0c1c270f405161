"""Linear programs of phase mixtures, solved by the simplex method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 1e-12  # eV/atom: a phase that lowers the energy by less is not worth a step
_PIVOT = 1e-9  # smaller coefficients are rounding: shares are fractions of small whole numbers
_TIE = 1e-13
_MAX_STEPS = 10_000  # a mixture of ten elements takes about thirty


def cheapest_mixture(
    costs: NDArray[np.float64], shares: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """Return the mixture of phases with the composition ``target`` that costs least.

    Minimises ``costs @ x`` over x >= 0 with ``shares @ x == target`` by the revised simplex
    method. The basis is factored anew in each step, so that rounding does not add up. The steepest
    column enters; while steps do not get on (a mixture that needs fewer phases than it has
    elements), the first one that helps, which ends (Bland, Math. Oper. Res. 2, 103 (1977)).
    What comes back is optimal to ``TOLERANCE``: the prices of the elements at the end are too low
    for no phase, hence bound every mixture from below, and shares of a mixture add up to 1.

    Args:
        costs: Energy per atom of each phase, shape (n_phases,).
        shares: Composition of each phase, columns that add up to 1, shape (n_elements, n_phases);
            the first n_elements columns must be the elements themselves.
        target: Composition of the mixture, positive, adds up to 1, shape (n_elements,).

    Returns:
        Indices of the phases of the mixture, their shares of its atoms (positive) and its energy
        per atom.

    Raises:
        ArithmeticError: If rounding keeps it from an end.
    """
    basis = np.arange(len(target))
    is_stuck = False
    for _ in range(_MAX_STEPS):
        matrix = shares[:, basis]
        amounts = np.linalg.solve(matrix, target).clip(0)
        gains = np.linalg.solve(matrix.T, costs[basis]) @ shares - costs
        gains[basis] = 0
        helps = gains > TOLERANCE
        if not helps.any():
            kept = amounts > 1e-10
            return basis[kept], amounts[kept], float(costs[basis] @ amounts)
        entering = int(helps.argmax() if is_stuck else gains.argmax())
        # What one part of the entering phase replaces. It adds up to 1: some of it is positive.
        replaced = np.linalg.solve(matrix, shares[:, entering])
        lasts = np.full(len(target), np.inf)
        np.divide(amounts, replaced, out=lasts, where=replaced > _PIVOT)
        ties = np.flatnonzero(lasts <= lasts.min() + _TIE)
        order = -basis[ties] if is_stuck else replaced[ties]
        is_stuck = bool(lasts.min() <= _TIE)
        basis[ties[order.argmax()]] = entering
    raise ArithmeticError(f"no cheapest mixture after {_MAX_STEPS} steps of the simplex method")
