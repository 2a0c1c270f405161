"""Whether intervals hold where a whole cluster of crystals is new: coverage, width and error.

MatUQ (arXiv:2511.11697) divides three datasets of MatBench into clusters of alike crystals, by
orbital-field matrices (OFM) and by SOAP. Clusters are left out in groups: each crystal is predicted
by a network that has seen none of its cluster. Three tenths of the other compositions
validate, and calibrate. Beside the intervals that adapt stand those of constant width.

    python benchmarks/loco.py jdft2d DATA CLUSTERS -o benchmarks/results/loco.json

CLUSTERS is the file of the folds: ``{task: {kind: [cluster of each row]}}``. With ``--most`` at
most so many crystals train and validate, and with ``--asked`` at most so many are asked in each
group, both drawn at random.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import potnet
from potnet.calibration import Contents, conformal_halfwidth, interval_scores
from potnet.calibration.width import folds_of
from potnet.data import Dataset
from potnet.features import Batch
from potnet.files import atomic_write
from potnet.prediction.flags import UNFAMILIAR
from potnet.training.features import compute_features

#: Unit and settings of each.
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "elasticity": ("log10(GPa)", {}),
    "jdft2d": ("meV/atom", {"network_settings": {"dropout": 0.1}}),
    "perovskites": ("eV/unit cell", {}),
}
LEVEL = 0.9
VALIDATE = 3  # of ten parts by composition


def groups_of(clusters: NDArray[np.int64], n_groups: int) -> NDArray[np.int64]:
    """Return the group of each crystal: whole clusters, the largest first, into the smallest."""
    found, sizes = np.empty(len(clusters), np.int64), np.zeros(n_groups)
    names, counts = np.unique(clusters, return_counts=True)
    for k in np.argsort(-counts, kind="stable"):
        group = int(np.argmin(sizes))
        found[clusters == names[k]] = group
        sizes[group] += counts[k]
    return found


def labels_of(
    group: NDArray[np.int64], left_out: int, folds: NDArray[np.int64], most: int, asked: int
) -> NDArray[np.str_]:
    """Return what each crystal is for; ``VALIDATE`` tenths of the other compositions validate."""
    rng = np.random.default_rng(left_out)
    is_new = group == left_out
    labels = np.where(is_new, "test", np.where(folds < VALIDATE, "val", "train")).astype("<U6")
    n_val = most * VALIDATE // 10
    for part, n in (("test", asked), ("train", most - n_val), ("val", n_val)):
        rows = np.flatnonzero(labels == part)
        labels[rng.permutation(rows)[n:]] = "unused"
    return labels


def left_out(
    dataset: Dataset, target: str, labels: NDArray[np.str_], batch: Batch, settings: dict[str, Any]
) -> dict[str, NDArray]:
    """Return the answers of one training on the crystals that it has not seen."""
    rows = np.flatnonzero(labels != "unused")
    used = dataset.subset(rows)
    given = Dataset(used.ids, used.crystals, {target: used.targets[target]}, used.units,
                    splits={"": labels[rows]})  # fmt: skip
    config = potnet.TrainingConfig(
        targets=target, split={"kind": "given"}, threads=1, device="cpu", **settings
    )
    with tempfile.TemporaryDirectory() as folder:
        run = potnet.train(given, config, Path(folder) / "run", batch=batch[rows.tolist()])
        model = potnet.load(run.model)
    scale = model.card.targets[0].scale
    asked, val = (given.subset(labels[rows] == part) for part in ("test", "val"))
    constant = conformal_halfwidth(
        scale.standardise(model.predict(val.crystals).values)
        - scale.standardise(val.targets[target]), LEVEL
    )  # fmt: skip
    said = model.predict(asked.crystals)
    middle = scale.standardise(said.values)
    return {
        "true": asked.targets[target],
        "value": said.values,
        "lower": np.array([row.lower for row in said]),
        "upper": np.array([row.upper for row in said]),
        "constant_lower": np.asarray(scale.physical(middle - constant)),
        "constant_upper": np.asarray(scale.physical(middle + constant)),
        "flagged": np.array([bool(row.flags) for row in said]),
        "familiarity": np.array([row.familiarity for row in said]),
    }


def summary(found: dict[str, NDArray]) -> dict[str, Any]:
    """Return how good answers and intervals are."""
    true, result = found["true"], {"n": len(found["true"])}
    result["mae"] = float(np.abs(found["value"] - true).mean())
    flagged = found["flagged"]
    for name in ("", "constant_"):
        lower, upper = found[f"{name}lower"], found[f"{name}upper"]
        inside = (lower <= true) & (true <= upper)
        result |= {
            f"{name}coverage": float(inside.mean()),
            f"{name}width": float((upper - lower).mean()),
            f"{name}score": float(interval_scores(true, lower, upper, LEVEL).mean()),
        }
        if not name:
            result["outside_and_flagged"] = float(flagged[~inside].mean())
            result["coverage_unflagged"] = float(inside[~flagged].mean())
    return result | {"flagged": float(flagged.mean())}


def main() -> None:
    """Measure, show, and add to the file of the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("data")
    parser.add_argument("clusters", type=Path)
    parser.add_argument("--kinds", nargs="*", default=["OFM-LOCO", "SOAP-LOCO"])
    parser.add_argument("--groups", type=int, default=5)
    parser.add_argument("--most", type=int, default=10**9)
    parser.add_argument("--asked", type=int, default=10**9)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--output", "-o", type=Path, required=True)
    options = parser.parse_args()
    dataset = potnet.data.open(options.data)
    target = next(iter(dataset.targets))
    unit, own = TASKS[options.task]
    settings = {"epochs": options.epochs, "batch_size": 32, **own}
    clusters = json.loads(gzip.decompress(options.clusters.read_bytes()))[options.task]
    features = potnet.load("mp-formation-energy").features
    folds = folds_of(Contents.of(dataset.crystals).shares)
    plans = {}
    for kind in options.kinds:
        group = groups_of(np.array(clusters[kind]), options.groups)
        plans[kind] = [
            labels_of(group, k, folds, options.most, options.asked) for k in range(options.groups)
        ]
    needed = np.flatnonzero(np.any([x != "unused" for plan in plans.values() for x in plan], 0))
    dataset = dataset.subset(needed)
    batch, kept, _ = compute_features(features, dataset.crystals)
    for kind, plan in plans.items():
        parts = []
        for labels in plan:
            parts.append(left_out(dataset, target, labels[needed], batch, settings))
            print(kind, json.dumps(summary(parts[-1])), flush=True)
        together = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        results = json.loads(options.output.read_text()) if options.output.exists() else {}
        results[f"{options.task} {kind}"] = {
            "target": target, "unit": unit, "level": LEVEL,
            "clusters": len(set(clusters[kind])), "groups": options.groups,
            "most_trained": None if options.most > len(labels) else options.most,
            "validate": VALIDATE / 10, "settings": settings, "flagged_below": UNFAMILIAR,
            **summary(together), "by_group": [summary(part) for part in parts],
        }  # fmt: skip
        print(kind, json.dumps(summary(together)), flush=True)
        with atomic_write(options.output) as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
