"""What rounding may add to the sums, to first order in the unit roundoff."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from latticesums.plan import Plan
from latticesums.potentials.base import Potential

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_UNIT_ROUNDOFF = 2.0**-53
#: A term may lose so much where it, or a factor of it, is too small for float64.
_SMALLEST = 2.0**-1020


def rounding_bounds(
    plan: Plan,
    potentials: Sequence[Potential],
    *,
    short_sums: Array,
    wave_sums: Array,
    constants: Array,
    graph: NDArray[np.int64] | slice = slice(None),
    single: bool = False,
) -> Array:
    """Bound the rounding errors of the sums, to first order in the unit roundoff (eq. 35).

    Args:
        plan: The plan that was followed.
        potentials: What was summed.
        short_sums: Sums of short halves, the largest of each crystal or those of each pair, shape
            (n_rows, n_potentials).
        wave_sums: Sum of the Fourier coefficients, shape (n_graphs, n_potentials).
        constants: Sum of the magnitudes of the k = 0 and self terms, same shape.
        graph: Crystal of each row of ``short_sums``, where the rows are not the crystals.
        single: Whether terms and waves were computed in float32 (eq. 36).

    Returns:
        One bound per row and potential, shape (n_rows, n_potentials).
    """
    lattice, count, n_waves, apart = plan.lattice, plan.most_images, plan.most_waves, plan.apart
    shift = 2 * (plan.reach + plan.radius)  # error of their vectors in units of roundoff
    bounds = np.zeros_like(short_sums)
    for p, potential in enumerate(potentials):
        total, alpha = short_sums[:, p], plan.alpha[:, p]
        others = np.minimum(total, potential.direct_sum(lattice, apart)[graph])
        sizes = (count[graph], apart[graph], plan.radius[graph], alpha[graph])
        slopes = potential.slope_sum(others, *sizes)
        order = max(potential.order, 2.0)
        real = (10 + 4 * order + 5 * np.sqrt(sizes[0])) * total + shift[graph] * slopes
        wave = (10 + 5 * np.sqrt(n_waves) + 16 * plan.reach * plan.wave_radius) * wave_sums[:, p]
        slope = 4 * alpha * plan.reach if lattice.dimension < 3 else 0  # of the background
        rest = (10 + 4 * order + slope) * constants[:, p]
        bounds[:, p] = _UNIT_ROUNDOFF * (real + (wave + rest)[graph])
        if single:
            low = np.where(alpha > 0, potential.in_float32(True), potential.in_float32(False))
            real = low[graph] * ((10 + 4 * order) * total + sizes[2] * slopes)
            wave = (10 + 5 * np.sqrt(n_waves)) * wave_sums[:, p] * (lattice.dimension == 3)
            bounds[:, p] += 2.0**-24 * (real + wave[graph])
        if potential.underflows:
            bounds[:, p] += _SMALLEST * sizes[0]
    return bounds
