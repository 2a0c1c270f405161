"""Write MatBench's bulk and shear moduli in GPa, one structure each.

    python scripts/elastic_data.py matbench_elastic_mapped.jsonl.gz -o elastic.jsonl.gz

The input is JSON Lines of {id, mp_id, match, lattice, species, frac_coords, targets} with the
decimal logarithms that MatBench publishes. Entries that were matched to several structures
(``match`` begins with "multi"), and structures that two entries were matched to, are left out. The
last line says how many.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import Counter
from pathlib import Path

from materials_project_data import records

from potnet.files import atomic_write

TARGETS = {"bulk_modulus": "log10_K_VRH", "shear_modulus": "log10_G_VRH"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("entries")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    found = list(records(arguments.entries))
    certain = [record for record in found if not record["match"].startswith("multi")]
    entries = Counter(record["mp_id"] for record in certain)
    kept = [record for record in certain if entries[record["mp_id"]] == 1]
    with (
        atomic_write(arguments.output, "wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as zipped,
    ):
        for record in kept:
            moduli = {name: 10 ** record["targets"][log] for name, log in TARGETS.items()}
            crystal = {key: record[key] for key in ("lattice", "species", "frac_coords")}
            units = dict.fromkeys(moduli, "GPa")
            line = {"id": record["mp_id"], **crystal, "targets": moduli, "units": units}
            zipped.write(f"{json.dumps(line)}\n".encode())
    print(
        f"{arguments.output}: {len(kept):,} crystals; left out: {len(found) - len(certain):,} "
        f"without one structure for certain; {len(certain) - len(kept):,} with a structure that "
        "has two entries"
    )


if __name__ == "__main__":
    main()
