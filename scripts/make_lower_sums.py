"""Compute the reference sums of wires and slabs with mpmath: tests/latticesums/lower_sums.json.

    python scripts/make_lower_sums.py

Random cells, skewed and elongated, with atoms close together, far apart across the lattice and
outside the cell. Takes some ten minutes on one core.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potnet.files import atomic_write

FOLDER = Path(__file__).parents[1] / "tests" / "latticesums"
sys.path.insert(0, str(FOLDER))

from oracle import lower_power_sum  # noqa: E402

OUTPUT = FOLDER / "lower_sums.json"
EXPONENTS = (0.3, 1.0, 1.7, 2.0, 2.6, 3.5, 4.0, 6.0, 9.0, 12.0)
COUNTS = {1: 100, 2: 60}


def random_cell(rng: np.random.Generator, d: int) -> NDArray[np.float64]:
    """Return d lattice vectors, lengths 1 to 20 Å, angles from 20 to 160 degrees."""
    while True:
        vectors = rng.normal(size=(d, 3))
        vectors /= np.linalg.norm(vectors, axis=1)[:, None]
        if d == 1 or abs(vectors[0] @ vectors[1]) < np.cos(np.radians(20)):
            return vectors * np.exp(rng.uniform(0, np.log(20), (d, 1)))


def random_vector(rng: np.random.Generator, cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a pair vector: some short, some long, some far off the lattice."""
    scale = rng.choice([0.3, 2.0, 8.0])
    while True:
        vector = rng.normal(size=3) * scale
        images = np.array(list(np.ndindex(*[81] * len(cell)))) - 40
        if np.linalg.norm(vector + images @ cell, axis=1).min() > 0.25:
            return vector


def main() -> None:
    """Write the file."""
    rng = np.random.default_rng(20)
    cells: list[dict[str, Any]] = []
    for d, count in COUNTS.items():
        for _ in range(count):
            cell = random_cell(rng, d)
            exponents = [1.0, 6.0, float(rng.choice(EXPONENTS))]
            pairs = []
            for vector in (np.zeros(3), random_vector(rng, cell)):
                sums = [float(lower_power_sum(cell, vector, p, digits=17)) for p in exponents]
                pairs.append({"vector": vector.tolist(), "sums": sums})
            cells.append({"cell": cell.tolist(), "exponents": exponents, "pairs": pairs})
    with atomic_write(OUTPUT) as file:
        file.write(json.dumps({"cells": cells}).replace('{"cell"', '\n{"cell"') + "\n")


if __name__ == "__main__":
    main()
