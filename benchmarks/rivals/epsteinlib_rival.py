"""Sums of pairs by epsteinlib, one call per pair; see sums_job.py.

Its precision cannot be chosen. A part of the pairs is timed where there are many.
"""

from importlib.metadata import version

import numpy as np
from epsteinlib import epstein_zeta
from sums_job import run

MOST_PAIRS = 40


def setups(cell, positions, exponent, tolerance):
    n = len(positions)
    pairs = [(i, j) for i in range(min(n, 4)) for j in range(n)][:MOST_PAIRS]
    columns, zero = np.ascontiguousarray(cell.T), np.zeros(3)

    def evaluate():
        values = np.full((n, n), np.nan)
        for i, j in pairs:
            offset = positions[i] - positions[j] if i != j else zero
            values[i, j] = epstein_zeta(float(exponent), columns, offset, zero).real
        return values

    yield evaluate


if __name__ == "__main__":
    run("epsteinlib", version("epsteinlib"), setups, has_tolerance=False)
