"""Pack the stable phases of the Materials Project into the file that comes with potnet.

    python scripts/make_stability_snapshot.py mp2019_hull_vertices.csv

The table has a row `reduced formula, formation energy in eV/atom` for each vertex of the convex
hull of MatBench's mp_e_form (Materials Project of April 2019).
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from potnet.stability.phases import SNAPSHOT, Phase, PhaseTable


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("vertices", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=SNAPSHOT)
    arguments = parser.parse_args()
    with open(arguments.vertices, encoding="utf-8", newline="") as file:
        phases = [Phase.of(formula, float(energy)) for formula, energy in csv.reader(file)]
    # Sorted by elements, they pack to two thirds.
    phases = [Phase(p.formula, p.energy, amounts=dict(sorted(p.amounts.items()))) for p in phases]
    phases.sort(key=lambda p: (len(p.amounts), *p.amounts, *p.amounts.values()))
    PhaseTable.of(phases).save(arguments.output)
    size = arguments.output.stat().st_size / 1e3
    print(f"{arguments.output}: {len(phases):,} phases, {size:.0f} kB")


if __name__ == "__main__":
    main()
