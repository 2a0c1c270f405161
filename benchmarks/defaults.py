"""Whether what ``potnet train`` does unasked is good, on small datasets of many kinds.

    python benchmarks/defaults.py runs/defaults matbench_phonons.jsonl.gz:last_phdos_peak \\
        default_elastic_1181_min.jsonl.gz:bulk_modulus:150 --set 300-epochs=epochs:300,batch_size:64

Each dataset, by file, target and the number of crystals to take if not all, is divided 70/10/20 at
random (seed 0) and learned by the defaults, and by each ``--set`` of settings. Mean absolute errors
on the 20 %, their 95 % bootstrap intervals, epochs, networks and seconds go to
``results/defaults.json``, where other rows stay as they are. No
dataset is asked twice to choose settings by its test crystals: the validation errors, which stand
beside, are for that.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from potnet.data import open as open_dataset
from potnet.files import atomic_write
from potnet.training import TrainingConfig, train

RESULTS = Path(__file__).parent / "results" / "defaults.json"
SPLIT = {"kind": "random", "seed": 0, "train": 0.7, "val": 0.1, "test": 0.2}


def settings(text: str) -> tuple[str, dict[str, Any]]:
    """Return name and settings of ``NAME=KEY:VALUE,KEY:VALUE``."""
    name, _, rest = text.partition("=")
    pairs = (item.partition(":") for item in rest.split(","))
    return name, {key: json.loads(value) for key, _, value in pairs}


def learned(folder: Path, task: str, name: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """Train, or take up what was trained, and return what came of it."""
    path, target, *rest = task.split(":")
    dataset = open_dataset(path, targets=[target])
    if rest:
        rows = np.random.default_rng(0).permutation(len(dataset))[: int(rest[0])]
        dataset = dataset.subset(np.sort(rows))
    config = TrainingConfig(targets=[target], split=SPLIT, threads=1, **chosen)
    began = time.process_time()
    result = train(dataset, config, folder, resume=True)
    used = json.loads((folder / "config.json").read_text("utf-8"))
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        best = min(float(row[f"val_mae_{target}"]) for row in csv.DictReader(file))
    found = result.metrics["test"][target]
    return {
        "task": Path(task).name,
        "settings": name,
        "n_train": int(0.7 * len(dataset)),
        "epochs": used["epochs"],
        "members": used["members"],
        "batch_size": used["batch_size"],
        "learning_rate": used["learning_rate"],
        "val_mae": best,
        "test_mae": found["mae"],
        "test_mae_low": found["mae_low"],
        "test_mae_high": found["mae_high"],
        "cpu_seconds": round(time.process_time() - began),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("tasks", nargs="+", metavar="FILE:TARGET[:N]")
    parser.add_argument("--set", dest="sets", action="append", default=[], type=settings)
    options = parser.parse_args()
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else []
    rows = {(row["task"], row["settings"]): row for row in known}
    for task in options.tasks:
        for name, chosen in [("defaults", {}), *options.sets]:
            folder = options.output / Path(task).name.replace(":", "-") / name
            row = learned(folder, task, name, chosen)
            before = rows.get((row["task"], name), row)["cpu_seconds"]
            # What was trained in an earlier call cost what it cost then.
            row["cpu_seconds"] = max(row["cpu_seconds"], before)
            rows[row["task"], row["settings"]] = row
            print(json.dumps(row), flush=True)
            with atomic_write(RESULTS) as file:
                json.dump(list(rows.values()), file, indent=1)


if __name__ == "__main__":
    main()
