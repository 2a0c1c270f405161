"""Make the models that come with potnet out of finished training runs.

Runs of the same settings and split that differ in the seed become the members of one archive. A
run that learned several targets together gives one archive for each. Metrics and intervals are
those of the members together, on the crystals that none of them was trained on.

    potnet benchmark benchmarks/sweeps/jarvis.yaml --data FILE -o runs/jarvis
    potnet benchmark benchmarks/sweeps/elastic.yaml -o runs/elastic
    python scripts/bundle_models.py runs/jarvis runs/elastic --data FILE

Total and formation energy per atom differ by a reference for each element, so the total energy is
that of the formation energy's networks with these references, fitted to the training crystals.

Test predictions of the JARVIS models, whose targets are held back, go to
``benchmarks/results/jarvis/<model>.csv``.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from potnet.data import Dataset
from potnet.data import open as open_dataset
from potnet.files import atomic_write
from potnet.models import archive
from potnet.models.completenet import CompleteNet
from potnet.training.evaluate import conformal_halfwidth, regression_metrics
from potnet.training.targets import compositions

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ROOT / "src" / "potnet" / "models" / "bundled"
RESULTS = ROOT / "benchmarks" / "results"
LEVEL = 0.9


@dataclass(frozen=True)
class Data:
    name: str
    source: str
    licence: str
    limits: str
    anchors: tuple[str, ...] = ()


JARVIS = Data(
    "JARVIS-DFT 3D, 2021: oxides and nitrides",
    "JARVIS-DFT dft_3d snapshot of August 2021 (Choudhary et al., npj Comput. Mater. 6, 173 "
    "(2020); OptB88vdW), all entries with O or N, split of the JARVIS leaderboard.",
    "NIST terms of use: not subject to copyright in the United States, free to use and "
    "redistribute with attribution.",
    "Learned from relaxed oxides and nitrides alone: not for crystals without O or N, unrelaxed or "
    "disordered structures, molecules, surfaces, or values of another functional.",
    ("O", "N"),
)
ELASTIC = Data(
    "Elastic tensors of 1,181 inorganic compounds",
    "de Jong et al., Sci. Data 2, 150009 (2015), Materials Project; PBE; from matminer 0.3.9.",
    "Data CC BY 4.0 (Materials Project); packaging modified BSD (LBNL).",
    "Learned from 945 stable inorganic crystals at zero temperature: not for unrelaxed or "
    "disordered structures, molecules, layered van der Waals crystals (PBE), or anisotropy.",
)


@dataclass(frozen=True)
class Recipe:
    """One bundled model.

    Attributes:
        runs: Folders of sweeps.
        target: What the model predicts.
        unit: Of the prediction.
        data: What the runs learned from.
        learned: What the runs learned, if not ``target`` itself but a property that differs from
            it by references of the elements.
    """

    runs: tuple[str, ...]
    target: str
    unit: str
    data: Data
    learned: str = ""


def _seeds(run: str, n: int) -> tuple[str, ...]:
    return tuple(f"{run}-{k}" for k in range(n))


RECIPES = {
    "jarvis-formation-energy": Recipe(
        _seeds("formation-energy", 3),
        "formation_energy_peratom",
        "eV/atom",
        JARVIS,
    ),
    "jarvis-total-energy": Recipe(
        _seeds("formation-energy", 3),
        "optb88vdw_total_energy",
        "eV/atom",
        JARVIS,
        learned="formation_energy_peratom",
    ),
    "jarvis-band-gap": Recipe(_seeds("joint", 1), "optb88vdw_bandgap", "eV", JARVIS),
    "jarvis-band-gap-mbj": Recipe(_seeds("band-gap-mbj", 1), "mbj_bandgap", "eV", JARVIS),
    "jarvis-energy-above-hull": Recipe(_seeds("energy-above-hull", 1), "ehull", "eV/atom", JARVIS),
    "bulk-modulus": Recipe(_seeds("moduli", 3), "bulk_modulus", "GPa", ELASTIC),
    "shear-modulus": Recipe(_seeds("moduli", 3), "shear_modulus", "GPa", ELASTIC),
}


def only_output(member: nn.Module, k: int) -> nn.Module:
    """Return the network without its outputs but the ``k``-th."""
    member = copy.deepcopy(member)
    last = member.head[-1]
    single = nn.Linear(last.in_features, 1)
    single.weight = nn.Parameter(last.weight[k : k + 1].clone())
    single.bias = nn.Parameter(last.bias[k : k + 1].clone())
    member.head[-1] = single
    if member.references is not None:
        column = member.references.weight[:, k : k + 1]
        member.references = nn.Embedding.from_pretrained(column.clone(), freeze=False)
    return member.eval()


@dataclass(frozen=True)
class Shift:
    """The difference of two properties as a linear function of the composition.

    Attributes:
        dataset: Where both are known.
        references: One number for each element, shape (n_elements,).
    """

    dataset: Dataset
    references: NDArray[np.float64]

    @staticmethod
    def fit(dataset: Dataset, learned: str, target: str) -> Shift:
        """Return the shift from ``learned`` to ``target``, from crystals that train both."""
        labels = dataset.split_for([learned, target])
        rows = dataset.subset(labels == "train")
        difference = rows.targets[target] - rows.targets[learned]
        known = np.isfinite(difference)
        # Least squares without a penalty: the relation is exact but for rounding in the records.
        fit = np.linalg.lstsq(compositions(rows)[known], difference[known], rcond=None)
        return Shift(dataset, fit[0])

    def of(self, ids: list[str]) -> NDArray[np.float64]:
        """Return the shifts of the crystals ``ids``, shape (n,)."""
        place = {id: k for k, id in enumerate(self.dataset.ids)}
        rows = self.dataset.subset([place[id] for id in ids])
        return compositions(rows) @ self.references

    def values(self, target: str, ids: list[str]) -> tuple[NDArray[np.float64], float]:
        """Return ``target`` of the crystals ``ids``, and its mean over the training crystals."""
        column = dict(zip(self.dataset.ids, self.dataset.targets[target], strict=True))
        train = self.dataset.split_for([target]) == "train"
        mean = float(np.nanmean(self.dataset.targets[target][train]))
        return np.array([column[id] for id in ids]), mean

    def added_to(self, member: CompleteNet, std: float) -> CompleteNet:
        """Return the network with the references on top."""
        shifted = CompleteNet(member.settings.model_copy(update={"references": True}))
        shifted.load_state_dict(member.state_dict(), strict=False)
        with torch.no_grad():
            shifted.references.weight += torch.from_numpy(self.references / std).float()[:, None]
        return shifted.eval()


def read_predictions(
    run: Path, part: str, target: str
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Return ids, targets (nan where held back) and predictions of one run."""
    stem = "predictions-val" if part == "val" else "predictions"
    paths = [run / f"{stem}-{target}.csv", run / f"{stem}.csv"]
    path = next(path for path in paths if path.exists())
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    targets = [float(row["target"] or "nan") for row in rows]
    values = [float(row["prediction"]) for row in rows]
    return [row["id"] for row in rows], np.array(targets), np.array(values)


def trainings(folder: Path) -> list[Path]:
    """Return the folders of finished trainings in that of a run, itself one or a benchmark's."""
    return [f for f in (folder, *sorted(folder.glob("jobs/*/training"))) if (f / "model").exists()]


def together(
    runs: list[Path], part: str, target: str
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Return ids, targets and the median of the runs' predictions."""
    tables = [read_predictions(run, part, target) for run in runs]
    if any(table[0] != tables[0][0] for table in tables):
        raise SystemExit(f"{runs[0]}: all runs must have the same {part} crystals")
    return tables[0][0], tables[0][1], np.median([table[2] for table in tables], axis=0)


def bundle(name: str, recipe: Recipe, folders: list[Path], dataset: Dataset | None) -> None:
    runs = [next(found for f in folders for found in trainings(f / run)) for run in recipe.runs]
    loaded = [archive.load(run / "model") for run in runs]
    card = loaded[0][1]
    for _, other in loaded[1:]:
        if (other.settings, other.data, other.targets[0].mean) != (
            card.settings,
            card.data,
            card.targets[0].mean,
        ):
            raise SystemExit(f"{name}: the runs must share settings, data and scale")
    learned = recipe.learned or recipe.target
    k = [target.name for target in card.targets].index(learned)
    several = len(card.targets) > 1
    members = [
        only_output(member, k) if several else member for found, _ in loaded for member in found
    ]
    target = card.targets[k]
    shift = None
    if recipe.learned:
        if dataset is None:
            raise SystemExit(f"{name}: give --data, the dataset with {learned} and {recipe.target}")
        shift = Shift.fit(dataset, learned, recipe.target)
        members = [shift.added_to(member, target.std) for member in members]
        card = card.model_copy(update={"settings": members[0].settings.model_dump(mode="json")})
    is_log = target.transform == "log10"
    baseline = card.metrics["val"][learned]["baseline_mae"]
    metrics: dict[str, object] = {}
    for part in ("val", "test"):
        ids, true, predicted = together(runs, part, learned)
        if shift is not None:
            predicted = predicted + shift.of(ids)
            true, mean = shift.values(recipe.target, ids)
            baseline = float(np.nanmean(np.abs(true - mean))) if part == "val" else baseline
        if part == "val":
            residuals = np.log10(predicted) - np.log10(true) if is_log else predicted - true
            halfwidth = conformal_halfwidth(residuals[np.isfinite(residuals)], LEVEL)
        if np.isfinite(true).any():
            measured = regression_metrics(true, predicted)
            found = {} if shift else card.metrics.get(part, {}).get(recipe.target, {})
            measured["baseline_mae"] = found.get("baseline_mae", baseline)
            if is_log:
                logs = regression_metrics(np.log10(true), np.log10(predicted), baseline=target.mean)
                measured |= {f"log10_{key}": value for key, value in logs.items() if key != "n"}
            metrics[part] = {recipe.target: measured}
        else:
            path = RESULTS / "jarvis" / f"{name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["id", "prediction"])
                writer.writerows(zip(ids, (f"{v:.7g}" for v in predicted), strict=True))
    metrics["note"] = (
        f"{len(members)} network(s) together (median); weights chosen and intervals calibrated on "
        f"the {card.data.n_val} validation crystals. 95 % bootstrap intervals of the mean absolute "
        "error; baseline: the mean of the training targets."
        + ("" if "test" in metrics else " The targets of the test crystals are held back.")
    )
    update = {
        "name": recipe.target,
        "unit": recipe.unit,
        "interval_level": LEVEL,
        "interval_halfwidth": halfwidth,
    }
    data = {
        "name": recipe.data.name,
        "source": recipe.data.source,
        "licence": recipe.data.licence,
        "anchors": recipe.data.anchors,
    }
    card = card.model_copy(
        update={
            "targets": (target.model_copy(update=update),),
            "data": card.data.model_copy(update=data),
            "metrics": metrics,
            "limits": recipe.data.limits,
            "golden": (),
        }
    )
    golden = [crystal.crystal() for crystal in loaded[0][1].golden]
    archive.save(BUNDLED / name, members, archive.with_golden(card, members, golden))
    size = sum(path.stat().st_size for path in (BUNDLED / name).iterdir()) / 1e6
    for part in ("val", "test"):
        if part in metrics:
            m = metrics[part][recipe.target]  # type: ignore[index]
            print(
                f"{name:26s} {part:4s} MAE {m['mae']:.4f} [{m['mae_low']:.4f}, "
                f"{m['mae_high']:.4f}] {recipe.unit}, mean predictor {m['baseline_mae']:.3f}, "
                f"{size:.1f} MB"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="outputs of sweeps")
    parser.add_argument("--only", nargs="*", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--data", help="the dataset of the JARVIS runs")
    arguments = parser.parse_args()
    dataset = None if arguments.data is None else open_dataset(arguments.data)
    for name in arguments.only:
        bundle(name, RECIPES[name], arguments.folders, dataset)
    summary = {
        name: {
            "targets": [target.model_dump() for target in card.targets],
            "data": card.data.model_dump(exclude={"elements"}),
            "members": len(archive.load(name, verify=False)[0]),
            "metrics": card.metrics,
        }
        for name in RECIPES
        if (BUNDLED / name).exists()
        for card in [archive.read_card(name)]
    }
    with atomic_write(RESULTS / "bundled_models.json") as file:
        json.dump(summary, file, indent=1)


if __name__ == "__main__":
    main()
