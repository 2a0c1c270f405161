"""Whether networks that predict together should do so by their mean or by their median.

The bundled models of three networks or more are asked about their validation crystals, which none
of the networks was trained on. Their outputs become one in both ways, as in training: before the
inverse of the transform. Mean absolute errors, in the unit of the target, and the paired difference
with its 95 % bootstrap interval over crystals.

    python benchmarks/combine.py DATA... -o benchmarks/results/combine.json

DATA are the files that ``scripts/bundle_models.py`` takes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potnet.data import Dataset
from potnet.data import open as open_dataset
from potnet.data.dataset import take
from potnet.files import atomic_write
from potnet.models import archive
from potnet.models.contract import Network
from potnet.models.evidence import combined, described
from potnet.targets import Scale

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from bundle_models import BUNDLED, RECIPES, learned_from

BATCH_SIZE = 64
N_RESAMPLES = 10_000


def outputs_of(
    members: list[Network], dataset: Dataset, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return what each network says, standardised, shape (n_members, n, n_targets)."""
    parts = []
    for start in range(0, len(rows), BATCH_SIZE):
        crystals = list(take(dataset.crystals, rows[start : start + BATCH_SIZE]))
        batch = members[0].features.once(crystals)
        parts.append(described(members, batch)[1])
    return np.concatenate(parts, axis=1)


def compared(
    outputs: NDArray[np.float64], scale: Scale, true: NDArray[np.float64]
) -> dict[str, Any]:
    """Return the errors of the mean and of the median of ``outputs``, (n_members, n)."""
    known = np.isfinite(true)
    errors = {
        how: np.abs(scale.physical(combined(outputs[:, :, None], how)[:, 0]) - true)[known]
        for how in ("mean", "median")
    }
    single = [np.abs(scale.physical(member) - true)[known].mean() for member in outputs]
    differences = errors["mean"] - errors["median"]
    rng = np.random.default_rng(0)
    resampled = [rng.choice(differences, len(differences)).mean() for _ in range(N_RESAMPLES)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {
        "n": int(known.sum()),
        "networks": len(outputs),
        "single": [round(float(error), 6) for error in single],
        "mean": round(float(errors["mean"].mean()), 6),
        "median": round(float(errors["median"].mean()), 6),
        "difference": round(float(differences.mean()), 6),
        "low": round(float(low), 6),
        "high": round(float(high), 6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--output", "-o", type=Path, required=True)
    options = parser.parse_args()
    datasets = [open_dataset(path) for path in options.data]
    found = {}
    for name, recipe in RECIPES.items():
        members, card = archive.read(BUNDLED / name)
        if len(members) < 3:  # of two networks both are the same
            continue
        dataset, split = learned_from(name, recipe, card, datasets)
        outputs = outputs_of(members, dataset, split.val)
        for k, target in enumerate(card.targets):
            true = dataset.targets[target.name][split.val]
            row = compared(outputs[:, :, k], target.scale, true)
            found[target.name] = {"model": name, **row}
            print(target.name, row, flush=True)
    with atomic_write(options.output) as file:
        json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
