"""Which potentials the compiled sums know, and what may be wrong, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from latticesums.errors import ConfigError
from latticesums.potentials import Exponential, InversePower, Potential, Shell

COULOMB, LONDON, EXPONENTIAL, SHELL = range(4)

#: What may be wrong with a crystal; 0 is nothing.
SINGULAR, TOO_SMALL, OUT_OF_REACH, TOO_LARGE, COINCIDENT, TOO_ROUGH = range(1, 7)


def supports(potentials: Sequence[Potential]) -> bool:
    """Return whether the compiled sums know all of the potentials."""
    return all(_kind(potential) is not None for potential in potentials)


def _kind(potential: Potential) -> int | None:
    if isinstance(potential, Exponential):
        return EXPONENTIAL
    if isinstance(potential, Shell):
        return SHELL
    if isinstance(potential, InversePower):
        return {1.0: COULOMB, 6.0: LONDON}.get(potential.exponent)
    return None


@lru_cache(maxsize=256)
def describe(potentials: tuple[Potential, ...]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the kinds of the potentials, and their parameters, shape (n_potentials, 3)."""
    kinds, parameters = [], np.zeros((len(potentials), 3))
    for row, potential in zip(parameters, potentials, strict=True):
        kind = _kind(potential)
        if kind is None:
            raise ConfigError(
                "compiled sums: `potentials` must be Coulomb, London, exponentials or shells, got "
                f"{potential}. Use latticesums.pair_sums for other potentials."
            )
        kinds.append(kind)
        if isinstance(potential, Exponential):
            row[0] = float(potential.rate)
        elif isinstance(potential, Shell):
            row[:] = float(potential.center), float(potential.width), float(potential.cutoff)
    return np.array(kinds, dtype=np.int64), parameters
