"""Join MatBench's formation energies and gaps with crystals of the Materials Project.

The result trains the networks that other models go on from. So that no model knows the answer to a
question it is tested with, a crystal stays away if its composition is that of a crystal which the
dataset ``--without`` holds back for validation or test, of whatever target in ``TASKS``.

    python scripts/materials_project_data.py mp_structures.jsonl.gz -o mp.jsonl.gz \\
        --target e_form=matbench_mp_e_form_to_mpid.parquet \\
        --target gap=matbench_mp_gap_to_mpid.parquet --without jarvis.jsonl.gz

The structures are JSON Lines of {id, lattice, species, frac_coords}; a table of targets has the
columns mp_id, match and target. Entries that were matched to several structures, and structures
that two entries were matched to, are left out, and so are cells above ``MAX_ATOMS``. The last line
says how many. One crystal in fifty, by a hash of its id, is for validation.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from math import gcd
from pathlib import Path
from typing import Any

import pyarrow.parquet

from potnet.files import atomic_write

TASKS = (
    "formation_energy_peratom",
    "optb88vdw_total_energy",
    "optb88vdw_bandgap",
    "mbj_bandgap",
    "ehull",
)
MAX_ATOMS = 40


def records(path: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a file of JSON Lines."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def composition(species: list[str]) -> tuple[tuple[str, int], ...]:
    """Return the elements with their numbers, without a common factor."""
    counts = Counter(species)
    factor = gcd(*counts.values())
    return tuple(sorted((symbol, n // factor) for symbol, n in counts.items()))


def held_back(path: str) -> set[tuple[tuple[str, int], ...]]:
    """Return the compositions of the crystals that are validated or tested with."""
    return {
        composition(record["species"])
        for record in records(path)
        if any(record["split"].get(task) in ("val", "test") for task in TASKS)
    }


def is_for_validation(id: str) -> bool:
    """Return whether a crystal is the one in fifty that is not trained on."""
    return int(hashlib.sha256(id.encode()).hexdigest()[:8], 16) % 100 < 2


def known_targets(assignments: list[str], left_out: Counter[str]) -> dict[str, dict[str, float]]:
    """Return the targets of each structure by its id."""
    found: dict[str, dict[str, float]] = {}
    for assignment in assignments:
        name, _, path = assignment.partition("=")
        rows = pyarrow.parquet.read_table(path, columns=["mp_id", "match", "target"]).to_pylist()
        entries = Counter(row["mp_id"] for row in rows)
        for row in rows:
            if not row["mp_id"] or row["match"].startswith("multi"):
                left_out["without one structure for certain"] += 1
            elif entries[row["mp_id"]] > 1:
                left_out["with a structure that has two entries"] += 1
            else:
                found.setdefault(row["mp_id"], {})[name] = row["target"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("structures")
    parser.add_argument("--target", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--without", required=True, metavar="DATA")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    left_out: Counter[str] = Counter()
    targets = known_targets(arguments.target, left_out)
    forbidden = held_back(arguments.without)
    n_kept = 0
    with (
        atomic_write(arguments.output, "wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as file,
    ):
        for record in records(arguments.structures):
            id, species = record["id"], record["species"]
            if id not in targets:
                continue
            if len(species) > MAX_ATOMS:
                left_out[f"above {MAX_ATOMS} atoms"] += 1
            elif composition(species) in forbidden:
                left_out["of a composition that is held back"] += 1
            else:
                kept = {key: record[key] for key in ("id", "lattice", "species", "frac_coords")}
                kept |= {
                    "targets": targets[id],
                    "split": "val" if is_for_validation(id) else "train",
                }
                file.write(f"{json.dumps(kept)}\n".encode())
                n_kept += 1
    reasons = "; ".join(f"{n:,} {reason}" for reason, n in left_out.items())
    print(f"{arguments.output}: {n_kept:,} crystals; left out: {reasons}")


if __name__ == "__main__":
    main()
