"""How values of known crystals are distributed: what a predicted one is seen beside."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).parent / "distributions.json"
"""Written by ``scripts/make_distributions.py``."""
BINS = 60
_TAIL = 0.002  # of the crystals at each end lie outside of the picture


@dataclass(frozen=True)
class Distribution:
    """Values of one property of known crystals.

    Attributes:
        unit: Of the values.
        source: Which crystals they are.
        n: How many they are.
        edges: Of the bins, ascending, one more than counts.
        counts: Crystals in each bin; what lies beyond is in the first or last one.
        zeros: Crystals whose value is exactly 0, which are in no bin: metals among gaps, phases on
            the hull.
    """

    unit: str
    source: str
    n: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    zeros: int

    @classmethod
    def of(cls, values: NDArray[np.float64], unit: str, source: str) -> Distribution:
        """Return the distribution of some values; those that are not finite are not there."""
        values = values[np.isfinite(values)]
        others = values[values != 0]
        low, high = np.quantile(others, [_TAIL, 1 - _TAIL])
        counts, edges = np.histogram(others.clip(low, high), bins=BINS, range=(low, high))
        return cls(
            unit,
            source,
            len(values),
            tuple(float(f"{edge:.6g}") for edge in edges),
            tuple(counts.tolist()),
            len(values) - len(others),
        )


def distributions() -> dict[str, Distribution]:
    """Return the distribution of each property that is known of many crystals, by its name."""
    found = json.loads(FILE.read_text("utf-8"))
    return {
        name: Distribution(**one | {key: tuple(one[key]) for key in ("edges", "counts")})
        for name, one in found.items()
    }


def save(found: dict[str, Distribution], path: Path = FILE) -> None:
    """Write distributions, one a line."""
    lines = (f" {json.dumps(name)}: {json.dumps(asdict(one))}" for name, one in found.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
