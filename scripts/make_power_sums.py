"""Write tests/latticesums/power_sums.json: sums of powers by the oracle of the tests.

For the cells, pairs and exponents of test_reference_potentials.py beside it, with 18 digits.
Takes some minutes. Run from the root of the repository: python scripts/make_power_sums.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from potnet.files import atomic_write

FOLDER = Path(__file__).parents[1] / "tests" / "latticesums"


def main() -> None:
    """Write the file."""
    sys.path.insert(0, str(FOLDER))
    from oracle import power_sum
    from test_reference_potentials import CELLS, EXPONENTS, PLACES

    everywhere = (1, 2.5, 4.0001, 5.0001, 6, 7, 12)
    sums = {}
    for name, cell in CELLS.items():
        more = [p for p in EXPONENTS if p <= 30] if name == "ordinary" else []
        sums[name] = {
            f"{p:g}": [float(power_sum(cell, np.array(x) @ cell, p, digits=18)) for x in PLACES]
            for p in (*everywhere, *more)
        }
    with atomic_write(FOLDER / "power_sums.json") as file:
        json.dump(sums, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
