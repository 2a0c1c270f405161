"""Whether crystals that a model cannot know are flagged, and those it knows are not.

An element is left out of training, or one crystal with it is kept; the model then predicts all
others with the element. Most of those outside of their interval should be flagged, and few of the
crystals that are like those of training.

    python benchmarks/familiarity.py DATA --target last_phdos_peak -o results/familiarity.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potnet.calibration import Contents
from potnet.data import Dataset
from potnet.data import open as open_dataset
from potnet.features import Batch
from potnet.files import atomic_write
from potnet.models import registry
from potnet.prediction import load
from potnet.prediction.flags import UNFAMILIAR
from potnet.training import TrainingConfig, train

EDGES = (0.0, 0.001, 0.01, 0.05, 0.2, 0.5, 1.0)


def parts(dataset: Dataset, has: NDArray[np.bool_], n_examples: int, seed: int) -> NDArray:
    """Return labels: of crystals without the element 70 % train, 15 % validate, 15 % test."""
    rng = np.random.default_rng(seed)
    _, group = np.unique(Contents.of(dataset.crystals).shares, axis=0, return_inverse=True)
    place = rng.permutation(group.max() + 1)[group.ravel()] / (group.max() + 1)
    labels = np.select([place < 0.7, place < 0.85], ["train", "val"], "test")
    labels[has] = "test"
    labels[rng.choice(np.flatnonzero(has), n_examples, replace=False)] = "train"
    return labels


def measured(
    dataset: Dataset, target: str, element: str, n_examples: int, epochs: int, batch: Batch
) -> tuple[dict[str, Any], NDArray, NDArray]:
    """Return what became of one element, and for its crystals familiarity and coverage."""
    has = np.array([element in crystal.symbols for crystal in dataset.crystals])
    labels = parts(dataset, has, n_examples, 0)
    given = Dataset(
        dataset.ids, dataset.crystals, {target: dataset.targets[target]}, splits={"": labels}
    )
    settings = TrainingConfig(
        network="completenet", epochs=epochs, batch_size=32, learning_rate=0.004, threads=1,
        split={"kind": "given"}, device="cpu",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        model = load(train(given, settings, Path(folder) / "run", batch=batch).model)
    rows = np.flatnonzero((labels == "test") & np.isfinite(dataset.targets[target]))
    said = model.predict([dataset.crystals[k] for k in rows])
    true = dataset.targets[target][rows]
    inside = np.array([r.lower <= y <= r.upper for r, y in zip(said, true, strict=True)])
    familiar = np.array([row.familiarity for row in said])
    flagged = np.array([bool(row.flags) for row in said])
    unknown, mae = has[rows], np.abs(said.values - true)
    low = familiar < UNFAMILIAR
    found = {
        "element": element,
        "examples": n_examples,
        "n": int(unknown.sum()),
        "mae": mae[unknown].mean(),
        "mae_of_like": mae[~unknown].mean(),
        "coverage": inside[unknown].mean(),
        "coverage_of_like": inside[~unknown].mean(),
        "outside_and_flagged": flagged[unknown & ~inside].mean(),
        "outside_and_unfamiliar": low[unknown & ~inside].mean(),
        "flagged": flagged[unknown].mean(),
        "n_like": int((~unknown).sum()),
        "like_and_flagged": flagged[~unknown].mean(),
    }
    return (
        {k: v if isinstance(v, str | int) else float(v) for k, v in found.items()},
        familiar,
        inside,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--target", required=True)
    parser.add_argument("--elements", nargs="*", default=["F", "S", "Li"])
    parser.add_argument("--examples", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--output", "-o", type=Path, required=True)
    options = parser.parse_args()
    dataset = open_dataset(options.data)
    batch = registry.build("completenet", {}, 1).features(list(dataset.crystals))
    rows, familiar, inside = [], [], []
    for element in options.elements:
        for n in options.examples:
            row, f, covered = measured(dataset, options.target, element, n, options.epochs, batch)
            print(json.dumps(row), flush=True)
            rows.append(row)
            familiar.append(f)
            inside.append(covered)
    familiar, inside = np.concatenate(familiar), np.concatenate(inside)
    by_familiarity = []
    for low, high in zip(EDGES, EDGES[1:], strict=False):
        within = (familiar >= low) & ((familiar < high) | (high == 1))
        if within.any():
            by_familiarity.append(
                {"from": low, "to": high, "n": int(within.sum()),
                 "coverage": float(inside[within].mean())}
            )  # fmt: skip
    print(json.dumps(by_familiarity, indent=1))
    result = {"data": Path(options.data).name, "target": options.target, "epochs": options.epochs,
              "elements": rows, "by_familiarity": by_familiarity}  # fmt: skip
    with atomic_write(options.output) as file:
        json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
