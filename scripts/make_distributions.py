"""Count the values of known crystals into the bins that the page of ``potnet serve`` draws.

    python scripts/make_distributions.py --phonons matbench_phonons.jsonl.gz \\
        --layers matbench_jdft2d.jsonl.gz

Energies, gaps and moduli are those of the bundled index of known crystals; energies above the hull
are their formation energies above the bundled hull, in the corrections of which they are. Highest
phonon frequencies and exfoliation energies are the targets of two tasks of MatBench, from which the
bundled models have learned.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potnet.crystal.formula import parse_formula
from potnet.known import KnownCrystals, load_known
from potnet.known.distributions import FILE, Distribution, save
from potnet.stability import load_hull

INDEX = "Materials Project of 2018 and 2019"
NEAR = f"{INDEX}, of which MatBench keeps what is within 0.15 eV/atom of the hull"
STEP = 1e-3  # eV/atom, to which formation energies of the index are rounded


def targets(path: Path, name: str) -> NDArray[np.float64]:
    """Return a target of the records of a file of JSON Lines."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return np.array([json.loads(line)["targets"][name] for line in file])


def above_hull(known: KnownCrystals) -> NDArray[np.float64]:
    """Return the energies above hull of all crystals; 0 of what is on it but for rounding."""
    hull = load_hull()
    formulas, energies = known.formulas(), known.column("formation_energy")
    # The hull of the elements of one formula is kept for the next: those of a system follow.
    order = sorted(set(formulas), key=lambda formula: (sorted(parse_formula(formula)), formula))
    floor = {formula: hull.decompose(formula).energy for formula in order}
    above = energies - np.array([floor[formula] for formula in formulas])
    return np.where(above < STEP, 0.0, above)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phonons", type=Path, required=True)
    parser.add_argument("--layers", type=Path, required=True)
    asked = parser.parse_args()
    known = load_known()
    k, g = known.column("bulk_modulus"), known.column("shear_modulus")
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {
            "formation_energy": (known.column("formation_energy"), "eV/atom"),
            "energy_above_hull": (above_hull(known), "eV/atom"),
            "band_gap": (known.column("gap"), "eV"),
            "bulk_modulus": (k, "GPa"),
            "shear_modulus": (g, "GPa"),
            "young_modulus": (9 * k * g / (3 * k + g), "GPa"),
            "poisson_ratio": ((3 * k - 2 * g) / (6 * k + 2 * g), ""),
            "pugh_ratio": (k / g, ""),
        }
    found = {
        name: Distribution.of(*pair, NEAR if name == "energy_above_hull" else INDEX)
        for name, pair in values.items()
    }
    found["highest_phonon_frequency"] = Distribution.of(
        targets(asked.phonons, "last_phdos_peak"), "1/cm", "MatBench's phonons (PBEsol)"
    )
    found["exfoliation_energy"] = Distribution.of(
        targets(asked.layers, "exfoliation_en"), "meV/atom", "MatBench's layers (OptB88vdW)"
    )
    save(found)
    print(f"{FILE}: {FILE.stat().st_size / 1000:.0f} kB, {', '.join(found)}")


if __name__ == "__main__":
    main()
