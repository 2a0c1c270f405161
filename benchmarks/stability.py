"""How well a predicted formation energy tells whether a crystal is stable.

    python benchmarks/stability.py MP --structures mp_structures.jsonl.gz \\
        --target matbench_mp_e_form_to_mpid.parquet

MP is what ``scripts/materials_project_data.py`` wrote for the bundled model, which says which
crystals it learned from. It is asked about crystals whose composition is that of none of these.
Each is compared with the bundled hull without phases of its own composition, as a new compound
would be: below zero it is stable, and says by how much. The truth is the energy above the same hull
of the formation energy of DFT, so that errors of energies above hull are those of formation
energies; what is asked beyond them is which crystals are told right within 0, 25 and 50 meV/atom.

Writes ``results/stability.json``.
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

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

import potnet
from potnet.files import atomic_write
from potnet.stability import load_hull

HERE = Path(__file__).parent
MODEL = "mp-formation-energy"
LIMITS = (0.0, 0.025, 0.05)  # eV/atom
MAX_ATOMS = 40
SEED, RESAMPLES = 0, 1_000


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a file of JSON Lines."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def composition(species: list[str]) -> tuple[tuple[str, int], ...]:
    """Return the elements with their numbers, without a common factor."""
    counts = Counter(species)
    divisor = gcd(*counts.values())
    return tuple(sorted((symbol, n // divisor) for symbol, n in counts.items()))


def known_energies(path: Path) -> dict[str, float]:
    """Return formation energies by id, where one entry belongs to one structure for certain."""
    rows = pyarrow.parquet.read_table(path, columns=["mp_id", "match", "target"]).to_pylist()
    entries = Counter(row["mp_id"] for row in rows)
    return {
        row["mp_id"]: row["target"]
        for row in rows
        if row["mp_id"] and not row["match"].startswith("multi") and entries[row["mp_id"]] == 1
    }


def new_crystals(options: argparse.Namespace) -> list[tuple[potnet.Crystal, float]]:
    """Return crystals of compositions that the model has not learned, with their energies."""
    learned = {composition(r["species"]) for r in records(options.data) if r["split"] == "train"}
    energies = known_energies(options.target)
    found = []
    for record in records(options.structures):
        id, species = record["id"], record["species"]
        if id not in energies or len(species) > MAX_ATOMS or composition(species) in learned:
            continue
        keys = ("id", "lattice", "species", "frac_coords")
        found.append((potnet.Crystal.from_any({key: record[key] for key in keys}), energies[id]))
    found.sort(key=lambda item: hashlib.sha256(item[0].id.encode()).hexdigest())
    return found[: options.most]


def scores(true: NDArray[np.bool_], said: NDArray[np.bool_]) -> dict[str, float]:
    """Return how often crystals are told stable rightly."""
    both = float((true & said).sum())
    return {
        "share_of_stable": float(true.mean()),
        "precision": both / max(1.0, float(said.sum())),
        "recall": both / max(1.0, float(true.sum())),
        "f1": 2 * both / max(1.0, float(true.sum() + said.sum())),
        "accuracy": float((true == said).mean()),
    }


def measure(true: NDArray[np.float64], said: NDArray[np.float64]) -> dict[str, Any]:
    """Return errors and scores with 95 % bootstrap intervals of the error and of F1."""
    rng = np.random.default_rng(SEED)
    draws = rng.integers(len(true), size=(RESAMPLES, len(true)))
    error = np.abs(said - true)
    found: dict[str, Any] = {
        "n": len(true),
        "mae": float(error.mean()),
        "mae_95": np.quantile(error[draws].mean(1), [0.025, 0.975]).tolist(),
        "median_error": float(np.median(error)),
        "rmse": float(np.sqrt((error**2).mean())),
    }
    for limit in LIMITS:
        is_stable, is_said = true <= limit, said <= limit
        f1 = [scores(is_stable[d], is_said[d])["f1"] for d in draws]
        name = f"stable_within_{limit * 1000:g}_meV"
        found[name] = scores(is_stable, is_said) | {
            "f1_95": np.quantile(f1, [0.025, 0.975]).tolist()
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--structures", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--most", type=int, default=6_000, help="crystals, drawn by a hash of ids")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "stability.json")
    options = parser.parse_args()
    crystals, energies = zip(*new_crystals(options), strict=True)
    rows = potnet.load(MODEL).predict(crystals)
    hull = load_hull()
    above = np.array([hull.decompose(c, own_composition=False).energy for c in crystals])
    true, said = np.array(energies) - above, rows.values - above
    covered = [row.lower <= y <= row.upper for row, y in zip(rows, energies, strict=True)]
    n_elements = np.array([len(set(crystal.symbols)) for crystal in crystals])
    found = {
        "model": MODEL,
        "hull": hull.snapshot,
        "crystals": "of compositions that the model has not learned, without that composition in "
        "the hull",
        "coverage_of_intervals": float(np.mean(covered)),
        "all": measure(true, said),
        "by_number_of_elements": {
            str(n): measure(true[n_elements == n], said[n_elements == n])
            for n in (2, 3, 4, 5)
            if (n_elements == n).sum() >= 100
        },
    }
    with atomic_write(options.output) as file:
        file.write(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
