"""What the models that users get say about crystals that everybody knows.

    python benchmarks/textbook.py matbench_mp_gap.jsonl.gz --label "trained on all data"

``textbook.csv`` names the crystals by their rows in MatBench's mp_gap, of which the structures are
(cells of DFT), beside measured gaps (C. Kittel, Introduction to Solid State Physics, 8th ed., 2005;
I. Vurgaftman et al., J. Appl. Phys. 89, 5815 (2001); I. Vurgaftman and J. R. Meyer, J. Appl. Phys.
94, 3675 (2003)), which PBE does not reach: they are for looking. The reference is what the bundled
index of known crystals has of this very crystal. Predictions go under their label to
``results/textbook.json``, beside those that stand there already.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

import potnet
from potnet.files import atomic_write
from potnet.known import SOURCE, load_known
from potnet.models import archive

HERE = Path(__file__).parent
MODELS = {  # model: target, what it is in the index
    "mp-formation-energy": ("e_form", "formation_energy"),
    "mp-band-gap": ("gap", "gap"),
    "bulk-modulus": ("bulk_modulus", "bulk_modulus"),
    "shear-modulus": ("shear_modulus", "shear_modulus"),
}


def read_crystals(path: Path, rows: list[dict[str, str]]) -> list[potnet.Crystal]:
    """Return the crystals of the table in its order."""
    names = {int(row["row"]): row["name"] for row in rows}
    found = {}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if number in names:
                record = json.loads(line)
                crystal = {key: record[key] for key in ("lattice", "species", "frac_coords")}
                found[number] = potnet.Crystal.from_any(crystal, id=names[number])
    return [found[int(row["row"])] for row in rows]


def predictions(crystals: list[potnet.Crystal]) -> dict[str, dict[str, Any]]:
    """Return value and interval of each crystal by what is predicted."""
    found = {}
    for model, (target, name) in MODELS.items():
        rows = [r for r in potnet.load(model).predict(crystals) if r.property == target]
        found[name] = {
            "model": model,
            "weights": archive.read_card(model).weights_sha256,
            "values": [round(row.prediction, 4) for row in rows],
            "lower": [round(row.lower, 4) for row in rows],
            "upper": [round(row.upper, 4) for row in rows],
        }
    return found


def measured(reference: list[float | None], said: dict[str, Any]) -> dict[str, Any]:
    """Return errors on the crystals whose value is known."""
    columns = (said["values"], said["lower"], said["upper"])
    true = np.array([np.nan if value is None else value for value in reference])
    values, lower, upper = (np.array(column)[np.isfinite(true)] for column in columns)
    true = true[np.isfinite(true)]
    error = np.abs(values - true)
    return {
        "n": len(true),
        "mae": float(error.mean()),
        "median_error": float(np.median(error)),
        "largest_error": float(error.max()),
        "inside_interval": float(((lower <= true) & (true <= upper)).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("gaps", type=Path)
    parser.add_argument("--label", required=True, help="which weights these are")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "textbook.json")
    options = parser.parse_args()
    with open(HERE / "textbook.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    crystals = read_crystals(options.gaps, rows)
    known = [load_known().match(crystal)[0] for crystal in crystals]
    names = [name for _, name in MODELS.values()]
    references = {
        name: [None if np.isnan(x := getattr(k, name)) else round(x, 4) for k in known]
        for name in names
    }
    old = json.loads(options.output.read_text()) if options.output.exists() else {}
    said = old.get("predictions", {}) | {options.label: predictions(crystals)}
    found = {
        "reference": SOURCE,
        "crystals": [
            {
                "name": row["name"],
                "formula": k.formula,
                "id": k.id,
                "space_group": k.space_group,
                "matbench_mp_gap_row": int(row["row"]),
                "experimental_gap": float(gap) if (gap := row["experimental_gap"]) else None,
                "experimental_source": row["source"],
            }
            for row, k in zip(rows, known, strict=True)
        ],
        "references": references,
        "predictions": said,
        "summary": {
            label: {name: measured(references[name], models[name]) for name in names}
            for label, models in said.items()
        },
    }
    with atomic_write(options.output) as file:
        file.write(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["summary"], indent=1))


if __name__ == "__main__":
    main()
