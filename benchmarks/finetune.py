"""What going on from a bundled model is worth: against itself, from scratch, and straight lines.

    python benchmarks/finetune.py DATA -o benchmarks/results/finetune.json

DATA are the oxides and nitrides of JARVIS with their official split. Its validation crystals, which
none of the models of JARVIS has learned from, are shuffled by each seed: the first 50, 200 and
1,000 are learned from, a fifth of them to choose the weights, and the last 500 (or half of all) are
asked. The models of JARVIS were chosen on these crystals, a little in favour of ``untouched``.
Answers are compared by their mean absolute errors on those that are asked:

- ``untouched``: the model itself, where it predicts the target;
- ``linear``: its prediction with a slope and a shift of each element, by ridge regression on all
  crystals at hand;
- ``scratch``: a network that begins with random weights, with the settings of the model, where it
  is another functional;
- ``finetuned``: ``finetune`` with its defaults.

The model must not be worse than untouched where it is the same quantity, and better than linear and
scratch where it is another functional.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

import potnet
from potnet.data import Dataset
from potnet.features import Batch
from potnet.files import atomic_write
from potnet.models.descriptors import MAX_NUMBER
from potnet.targets import compositions, in_units, transform_of
from potnet.training.correction import Correction
from potnet.training.features import compute_features

SPLIT = {"kind": "random", "train": 0.8, "val": 0.2, "test": 0.0}
PART = "val"
ASKED = 500
#: Model, its output, and what is learned.
CASES = (
    ("jarvis-formation-energy", "formation_energy_peratom", "formation_energy_peratom"),
    ("jarvis-band-gap", "optb88vdw_bandgap", "optb88vdw_bandgap"),
    ("jarvis-band-gap-mbj", "mbj_bandgap", "mbj_bandgap"),
    ("jarvis-energy-above-hull", "ehull", "ehull"),
    ("mp-formation-energy", "e_form", "formation_energy_peratom"),
    ("mp-band-gap", "gap", "optb88vdw_bandgap"),
    ("mp-band-gap", "gap", "mbj_bandgap"),
    ("bulk-modulus", "bulk_modulus", "bulk_modulus_kv"),
    ("shear-modulus", "shear_modulus", "shear_modulus_gv"),
)


class Case:
    """A model to go on from, and the crystals to do it with.

    Args:
        dataset: All crystals.
        batches: Their features by what makes them, which most models have in common; those that
            are missing are added.
        case: One of ``CASES``.
        settings: Of the training runs, beside the defaults.
        with_scratch: Train from scratch, too, where it is another functional.
    """

    def __init__(
        self,
        dataset: Dataset,
        batches: dict[str, Batch],
        case: tuple[str, str, str],
        settings: dict[str, Any],
        *,
        with_scratch: bool = True,
    ) -> None:
        self.model, self.output, self.target = case
        self.known = potnet.load(self.model)[self.output]
        features = self.known.features
        key = features.model_dump_json()
        if key not in batches:
            batches[key] = compute_features(features, dataset.crystals)[0]
        self.scale = self.known.card.targets[0].scale
        dataset = in_units(dataset, {self.target: self.scale.unit})
        is_new = dataset.split_for([self.target]) == PART
        values = dataset.targets[self.target]
        # Of what is learned as a logarithm a few records are zero or negative.
        is_known = values > 0 if self.scale.transform == "log10" else np.isfinite(values)
        rows = np.flatnonzero(is_new & is_known)
        self.dataset, self.batch = dataset.subset(rows), batches[key][rows.tolist()]
        self.settings, self.with_scratch = settings, with_scratch

    def errors(self, few: NDArray[np.int64], asked: NDArray[np.int64], seed: int) -> dict[str, Any]:
        """Return the mean absolute error of each answer.

        Args:
            few: Crystals to learn from.
            asked: Crystals to be asked about.
            seed: Of the runs.
        """
        true = self.dataset.targets[self.target]

        def error(values: NDArray[np.float64]) -> float:
            return float(np.abs(values - true[asked]).mean())

        said = self.known.predict_values(self.batch[asked.tolist()])[:, 0]
        found = {"untouched": error(said), "linear": error(self._linear(few, asked))}
        card = self.known.card
        shape = {"network": card.network, "network_settings": dict(card.settings)}
        shape["members"] = len(self.known.members)
        starts: dict[str, dict[str, Any]] = {"finetuned": {"finetune": self.model}}
        if self.output != self.target:
            del found["untouched"]
            if self.with_scratch:
                starts["scratch"] = shape
        transform = transform_of(self.target, {self.target: self.scale.transform})
        common = {"targets": self.target, "split": SPLIT, "transform": {self.target: transform}}
        for name, own in starts.items():
            config = potnet.TrainingConfig(**common, seed=seed, threads=1, **self.settings, **own)
            batch = self.batch[few.tolist()]
            with tempfile.TemporaryDirectory() as folder:
                run = potnet.train(
                    self.dataset.subset(few), config, Path(folder) / "run", batch=batch
                )
                model = potnet.load(run.model)[self.target]
            found[name] = error(model.predict_values(self.batch[asked.tolist()])[:, 0])
            if name == "finetuned":
                found["epochs"] = list(run.best_epochs)
        return found

    def _linear(self, few: NDArray[np.int64], asked: NDArray[np.int64]) -> NDArray[np.float64]:
        rows = np.concatenate([few, asked])
        said = self.scale.standardise(self.known.predict_values(self.batch[rows.tolist()])[:, 0])
        shares = compositions(self.dataset.subset(rows), MAX_NUMBER + 1)
        known = self.scale.standardise(self.dataset.targets[self.target][few])
        used = np.flatnonzero(known > self.scale.floor)
        fit = Correction.fit(said[used], known[used], shares[used])
        return self.scale.physical(fit.of(said[len(few) :], shares[len(few) :]))


def main() -> None:
    """Measure, show, and write what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--cases", nargs="*", default=[f"{m}:{t}" for m, _, t in CASES],
                        help="MODEL:TARGET")  # fmt: skip
    parser.add_argument("--sizes", type=int, nargs="*", default=[50, 200, 1000])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--no-scratch", action="store_true", help="which takes longest")
    parser.add_argument("--set", nargs="*", default=[], help="NAME=VALUE of the runs")
    parser.add_argument("--output", "-o", type=Path, help="JSON file of the results")
    options = parser.parse_args()
    settings = {name: yaml.safe_load(value) for name, value in (s.split("=") for s in options.set)}
    cases = [case for case in CASES if f"{case[0]}:{case[2]}" in options.cases]
    targets = sorted({target for _, _, target in cases})
    dataset = potnet.data.open(options.data, targets=targets)
    is_new = [dataset.split_for([target]) == PART for target in targets]
    dataset = dataset.subset(np.any(is_new, axis=0))
    batches: dict[str, Batch] = {}
    results: list[dict[str, Any]] = []
    if options.output and options.output.exists():
        results = json.loads(options.output.read_text())["rows"]
    done = {(r["model"], r["target"], r["n"], r["seed"]) for r in results}
    for n in options.sizes:
        for seed in options.seeds:
            for case in cases:
                model, _, target = case
                if (model, target, n, seed) in done:
                    continue
                found = Case(dataset, batches, case, settings, with_scratch=not options.no_scratch)
                order = np.random.default_rng(seed).permutation(len(found.dataset))
                asked = order[-min(ASKED, len(order) // 2) :]
                if n > len(order) - len(asked):
                    continue
                row = {"model": model, "target": target, "n": n, "seed": seed}
                row |= found.errors(order[:n], asked, seed)
                print(json.dumps(row), flush=True)
                results.append(row)
                if options.output:
                    about = {"data": Path(options.data).name, "part": PART, "asked": ASKED}
                    about |= {"settings": settings} if settings else {}
                    with atomic_write(options.output) as file:
                        json.dump({**about, "rows": results}, file, indent=1)


if __name__ == "__main__":
    main()
