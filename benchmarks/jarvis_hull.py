"""What the column ``ehull`` of JARVIS-DFT 2021 holds.

    python benchmarks/jarvis_hull.py

An energy above hull should be the distance of the formation energy per atom to the convex hull of
all phases. With E the total energy per atom, x the shares of the elements, mu their energies and n
the atoms in the reduced formula, the column is

    E / n - sum_e x_e mu_e - h(x),

as if E were the energy of one formula: anatase lies 1.5 eV/atom "above" the hull.
h(x), a function of the composition alone, is what such energies have for a hull, zero for most.
This checks it on every crystal whose targets are known, and writes ``results/jarvis_hull.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import potnet.data
from potnet.files import atomic_write
from potnet.models.descriptors import MAX_NUMBER
from potnet.targets import compositions

HERE = Path(__file__).parent
TABLE = "jarvis_dft3d_2021_oxides_nitrides.jsonl.gz"
NAMES = ("optb88vdw_total_energy", "formation_energy_peratom", "ehull")
QUANTILES = (0.5, 0.9, 0.99, 1.0)
ANATASE = "JVASP-8810"


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Return quantiles of the absolute values."""
    return {f"{q:g}": float(np.quantile(np.abs(values), q)) for q in QUANTILES}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data" / TABLE)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "jarvis_hull.json")
    options = parser.parse_args()
    dataset = potnet.data.open(options.data)
    known = np.isfinite(np.stack([dataset.targets[name] for name in NAMES])).all(0)
    dataset = dataset.subset(np.flatnonzero(known))
    total, formation, label = (dataset.targets[name] for name in NAMES)
    shares, per_formula = np.split(compositions(dataset), [MAX_NUMBER + 1], axis=1)
    n = shares.sum(1) / per_formula.sum(1)
    references = shares @ np.linalg.lstsq(shares, total - formation, rcond=None)[0]
    hull = total / n - references - label
    formulas = np.array([crystal.formula for crystal in dataset.crystals])
    _, place, counts = np.unique(formulas, return_inverse=True, return_counts=True)
    by_formula = np.split(hull[np.argsort(place, kind="stable")], np.cumsum(counts)[:-1])
    spread = np.array([np.ptp(group) for group in by_formula if len(group) > 1])
    found = {
        "data": TABLE,
        "crystals": len(dataset),
        "formulas": len(counts),
        "element_references_residual": quantiles(total - formation - references),
        "hull_is_zero": float((np.abs(hull) < 0.005).mean()),
        "hull": quantiles(hull),
        "formulas_with_several_crystals": len(spread),
        "spread_of_hull_within_a_formula": quantiles(spread),
        "label_of_anatase": float(label[dataset.ids.index(ANATASE)]),
    }
    with atomic_write(options.output) as file:
        file.write(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
