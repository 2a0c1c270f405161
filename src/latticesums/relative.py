"""Sums whose error is small beside each value: absolute errors are lowered until they are.

Nothing is assumed of the values. A sum s is found with an absolute error e; if e is within
tolerance times |s| - e, it is within tolerance times the true value. Otherwise the absolute
tolerance of the crystal and the potential is lowered to what its smallest value asks for, until
rounding alone is too large, which is refused (docs/theory.md, "Relative errors").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latticesums.errors import ConfigError
from latticesums.potentials import Expansion, Potential

Array = NDArray[np.float64]

#: Absolute errors are not lowered beyond this: smaller sums are lost to underflow.
_SMALLEST = 1e-280


def relative_sums(
    evaluate: Callable[[Array], tuple[Tensor, Tensor]],
    expansion: Expansion,
    potentials: Sequence[Potential],
    n_atoms: NDArray[np.int64],
    tolerance: float,
    rest: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return sums, and the largest relative errors in each crystal, (n_graphs, n_potentials).

    Args:
        evaluate: Returns the terms of the expansion and the error of each, both of shape
            (n_pairs, n_terms), for shares of the tolerance, shape (n_graphs, n_terms).
        expansion: The potentials as combinations of terms.
        potentials: The potentials.
        n_atoms: Atoms of each crystal, shape (n_graphs,).
        tolerance: Largest relative error.
        rest: Relative error that is made afterwards.

    Raises:
        ConfigError: If float64 cannot keep the tolerance for a value, such as one that may be 0.
    """
    starts = np.cumsum(n_atoms**2) - n_atoms**2
    aim = np.full((len(n_atoms), len(potentials)), tolerance)  # absolute errors to be made
    while True:
        share = expansion.shares(aim / tolerance)
        with torch.no_grad():
            found, errors = expansion.combine(*evaluate(share))
        values, error = found.cpu().numpy(), errors.cpu().numpy()
        least = np.abs(values) - error  # the true value is not smaller
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(error == 0, 0, np.where(least > 0, error / least, np.inf)) + rest
        worst = np.maximum.reduceat(relative, starts)
        if (worst <= tolerance).all():
            break
        smallest = np.minimum.reduceat(np.where(error == 0, np.inf, least), starts)
        noise = np.minimum.reduceat(np.where(relative > tolerance, error, np.inf), starts)
        wanted = np.where(smallest > 0, 0.4 * tolerance * smallest, 1e-4 * aim)
        # what was aimed at would do, or is small beside the errors: they are rounding
        stuck = np.where(smallest > 0, aim <= 0.5 * tolerance * smallest, aim <= 0.01 * noise)
        stuck = (worst > tolerance) & (stuck | (wanted < _SMALLEST))
        if stuck.any():
            where = "float32" if rest else "float64"
            _refuse(stuck, relative, values, error, starts, n_atoms, potentials, tolerance, where)
        aim = np.where(worst > tolerance, wanted, aim)
    if torch.is_grad_enabled():
        found, _ = expansion.combine(*evaluate(share))
    return found, torch.from_numpy(worst).to(found.device)


def _refuse(
    stuck: NDArray[np.bool_],
    relative: Array,
    values: Array,
    error: Array,
    starts: NDArray[np.int64],
    n_atoms: NDArray[np.int64],
    potentials: Sequence[Potential],
    tolerance: float,
    dtype: str,
) -> None:
    """Raise a ConfigError that names the pair whose relative error is the largest."""
    graph, q = np.argwhere(stuck)[0].tolist()
    n = int(n_atoms[graph])
    row = starts[graph] + int(relative[starts[graph] : starts[graph] + n * n, q].argmax())
    i, j = divmod(int(row - starts[graph]), n)
    what = f"{potentials[q].name} of atoms {i} and {j}"
    found = f"{values[row, q]:.3g} with an error of {error[row, q]:.1e}"
    rule = "not be relative" if relative[row, q] >= 1 else f"be at least {relative[row, q]:.1e}"
    raise ConfigError(
        f"crystal {graph}: `tolerance` must {rule} for {what}, which is {found} in {dtype}, got "
        f"{tolerance:g}. Give a larger tolerance, or an absolute one."
    )
