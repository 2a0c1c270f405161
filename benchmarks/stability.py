"""How well a predicted formation energy tells whether a crystal is stable.

    python benchmarks/stability.py product/mp.jsonl.gz

The file is what ``scripts/product_data.py`` wrote for the bundled model. It is asked about the
crystals that validate it, of compositions that it has not learned; its weights were chosen by
their mean error. Each is compared with the bundled hull without phases of its own composition, as a
new compound would be: below zero it is stable, and says by how much. The truth is the energy above
the same hull of the formation energy of DFT, so that errors of energies above hull are those of
formation energies; what is asked beyond them is which crystals are told right within 0, 25 and
50 meV/atom.

Writes ``results/stability.json``.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import potnet
from potnet.files import atomic_write
from potnet.stability import load_hull

HERE = Path(__file__).parent
MODEL = "mp-formation-energy"
LIMITS = (0.0, 0.025, 0.05)  # eV/atom
SEED, RESAMPLES = 0, 1_000


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a file of JSON Lines."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def new_crystals(path: Path) -> list[tuple[potnet.Crystal, float]]:
    """Return crystals of compositions that the model has not learned, with their energies."""
    keys = ("id", "lattice", "species", "frac_coords")
    return [
        (potnet.Crystal.from_any({key: record[key] for key in keys}), record["targets"]["e_form"])
        for record in records(path)
        if record["split"] == "val" and "e_form" in record["targets"]
    ]


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
    parser.add_argument("--output", type=Path, default=HERE / "results" / "stability.json")
    options = parser.parse_args()
    crystals, energies = zip(*new_crystals(options.data), strict=True)
    rows = potnet.load(MODEL).predict(crystals)
    hull = load_hull()
    above = np.array([hull.decompose(c, own_composition=False).energy for c in crystals])
    true, said = np.array(energies) - above, rows.values - above
    n_elements = np.array([len(set(crystal.symbols)) for crystal in crystals])
    found = {
        "model": MODEL,
        "hull": hull.snapshot,
        "crystals": "of compositions that the model has not learned, without that composition in "
        "the hull",
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
