"""What going on from a bundled model is worth: against itself, from scratch, and a straight line.

    python benchmarks/finetune.py DATA --model jarvis-formation-energy \
        --target formation_energy_peratom --output benchmarks/results/finetune-same.json
    python benchmarks/finetune.py DATA --model mp-formation-energy \
        --target formation_energy_peratom --output benchmarks/results/finetune-other.json

DATA is a dataset by name or a file. One part of its official split, that the bundled models of
JARVIS have not learned from, is shuffled by each seed: the first 50, 200 and 1,000 crystals are
learned from, a fifth of them to choose the weights, and the last ones, always the same number, are
asked. The part is val by default, on which these models were chosen (a little in favour of
``untouched``); test where its values are at hand. Four answers are compared by their mean absolute
errors:

- ``untouched``: the model itself, where it predicts the target;
- ``line``: the model's prediction after a straight line that is fitted to the crystals at hand;
- ``scratch``: a network that begins with random weights, with the settings of the model;
- ``finetuned``: ``finetune`` with its defaults.

The model must not be worse than untouched where it is the same quantity, and better than a line and
than scratch where it is another functional.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import potnet
from potnet.data import Dataset
from potnet.files import atomic_write
from potnet.targets import in_units

SPLIT = {"kind": "random", "train": 0.8, "val": 0.2, "test": 0.0}


def errors(
    few: Dataset, asked: Dataset, target: str, model: str, output: str, settings: dict[str, Any]
) -> dict[str, float]:
    """Return the mean absolute error of each answer.

    Args:
        few: Crystals to learn from.
        asked: Crystals to be asked about.
        target: What is learned.
        model: The model to go on from.
        output: What it predicts of the kind.
        settings: Of the training runs, beside the defaults.
    """
    known = potnet.load(model)[output]
    card = known.card
    true = asked.targets[target]

    def error(values: NDArray[np.float64]) -> float:
        return float(np.abs(values - true).mean())

    said = known.predict(asked.crystals).values
    found = {"untouched": error(said)} if output == target else {}
    slope, start = np.polyfit(known.predict(few.crystals).values, few.targets[target], 1)
    found["line"] = error(slope * said + start)
    shape = {"network": card.network, "network_settings": dict(card.settings)}
    common = {"targets": target, "split": SPLIT, **settings}
    for name, own in (("scratch", shape), ("finetuned", {"finetune": model})):
        with tempfile.TemporaryDirectory() as folder:
            result = potnet.train(few, potnet.TrainingConfig(**common, **own), Path(folder) / "run")
            found[name] = error(potnet.load(result.model).predict(asked.crystals).values)
    return found


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each seed and number of crystals."""
    dataset = potnet.data.open(arguments.data, targets=[arguments.target])
    card = potnet.load(arguments.model).card
    output = next((t for t in card.targets if t.name == arguments.target), card.targets[0])
    dataset = in_units(dataset, {arguments.target: output.unit})
    labels = dataset.split_for([arguments.target])
    held_out = np.isfinite(dataset.targets[arguments.target])
    if labels is not None:
        held_out &= labels == arguments.part
    pool = dataset.subset(held_out)
    rows = []
    for seed in range(arguments.seeds):
        order = np.random.default_rng(seed).permutation(len(pool))
        asked = pool.subset(order[-arguments.asked :])
        for n in arguments.sizes:
            if n > len(order) - arguments.asked:
                raise SystemExit(f"{len(order)} crystals are too few for {n} and the asked ones.")
            settings: dict[str, Any] = {"seed": seed, "threads": 1}
            if arguments.epochs:
                settings["epochs"] = arguments.epochs
            few = pool.subset(order[:n])
            model = (arguments.target, arguments.model, output.name)
            row = {"seed": seed, "n": n, **errors(few, asked, *model, settings)}
            rows.append(row)
            print({key: round(value, 5) for key, value in row.items()}, flush=True)
    return rows


def main() -> None:
    """Measure, show, and write what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--model", default="jarvis-formation-energy")
    parser.add_argument("--target", default="formation_energy_peratom")
    parser.add_argument("--sizes", type=lambda text: [int(n) for n in text.split(",")],
                        default=[50, 200, 1000])  # fmt: skip
    parser.add_argument("--part", default="val", help="of the official split: val or test")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--asked", type=int, default=500, help="crystals to be asked about")
    parser.add_argument("--epochs", type=int, help="of both runs, in place of the defaults")
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    arguments = parser.parse_args()
    rows = measure(arguments)
    about = {"data": arguments.data, "model": arguments.model, "target": arguments.target}
    if arguments.epochs:
        about["epochs"] = arguments.epochs
    if arguments.output:
        with atomic_write(arguments.output) as file:
            json.dump({**about, "asked": arguments.asked, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
