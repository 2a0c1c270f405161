"""Make the models that come with potnet out of finished training runs.

Runs of the same network and split that differ in the seed, or in what they began from, become the
members of one archive. An archive holds as many models as ``RECIPES`` names for its runs, each with
outputs of its own: they share all weights but those of the last layer. Metrics and intervals are
those of the members together, on the crystals that none of them was trained on.

    potnet benchmark benchmarks/sweeps/product_mp.yaml --data product/mp.jsonl.gz -o runs/mp
    potnet benchmark benchmarks/sweeps/product_gap.yaml --data product/mp.jsonl.gz -o runs/gap
    python scripts/bundle_models.py runs/mp runs/gap --only mp mp-band-gap
    for WHAT in moduli phonons layers; do
        potnet benchmark benchmarks/sweeps/product_$WHAT.yaml --data product/$WHAT.jsonl.gz \\
            -o runs/$WHAT
    done
    potnet benchmark benchmarks/sweeps/jarvis.yaml --data FILE -o runs/jarvis
    python scripts/bundle_models.py runs/* --data FILE product/*.jsonl.gz

With the data that an archive learned from, it gets a calibration beside its weights: intervals that
adapt, and how familiar a crystal is. Without folders of runs only this is made, for archives that
are there already; the weights stay as they are:

    python scripts/bundle_models.py --data FILE product/*.jsonl.gz

Where few crystals validate, the folds of a benchmark, whose networks have not seen each crystal of
a dataset, say where errors are large:

    potnet benchmark matbench-jdft2d --data FILE --network completenet --epochs 40 \\
        --set batch_size=32 --set 'network_settings={"dropout": 0.1}' -o runs/jdft2d
    python scripts/bundle_models.py --only exfoliation-energy --data product/layers.jsonl.gz \\
        --folds runs/jdft2d

The folder ``product`` is what ``scripts/product_data.py`` writes: these models, which users get by
default, learn from all data at hand. FILE has the JARVIS oxides and nitrides with their official
split, which the models named after JARVIS keep: they are there for comparison.

Total and formation energy per atom differ by a reference for each element, so the total energy is
that of the formation energy's networks with these references, fitted to the training crystals: a
second output with the same weights.

New weights replace old ones when the script is run again, ``--only`` for single archives; a folder
that ``RECIPES`` no longer has is deleted by hand.

Test predictions of the JARVIS models, whose targets are held back, go to
``benchmarks/results/jarvis/<model>.csv``; those of a binary target of it to ``<model>-yes.csv``.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from potnet.calibration import Contents, Evidence, conformal_halfwidth
from potnet.data import Dataset
from potnet.data import open as open_dataset
from potnet.data.splits import Split, SplitConfig, make_split
from potnet.files import atomic_write
from potnet.models import archive, available, registry
from potnet.models.card import ModelCard, TargetCard
from potnet.models.completenet import CompleteNet
from potnet.models.descriptors import MAX_NUMBER
from potnet.models.selection import select
from potnet.targets import compositions, with_binary_targets
from potnet.text import file_name
from potnet.training.calibrate import (
    FEWEST_HELD_OUT,
    HeldOut,
    held_out_of,
    lowest,
    outputs_of,
)
from potnet.training.metrics import Metrics, binary_metrics, regression_metrics

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ROOT / "src" / "potnet" / "models" / "bundled"
RESULTS = ROOT / "benchmarks" / "results"
LEVEL = 0.9

#: Archives of before that networks went on from, by the SHA-256 of their weights.
ORIGINS = {
    "d803ccf739f8ae559dd936c201cfb2966da42aec3dc658d17c1de8ec7c6df1c4": "mp-formation-energy",
    "e0c5971e3ee5fae9521f8669cd3d6fd2b440018572e2b39a31337b821dd937d1": "mp-formation-energy",
}


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
MODULI = Data(
    "Bulk and shear moduli of MatBench",
    "MatBench v0.1 (Dunn et al., npj Comput. Mater. 6, 138 (2020)), all crystals but one "
    "composition in ten, which validate: Voigt-Reuss-Hill averages of the Materials Project's "
    "elastic tensors (de Jong et al., Sci. Data 2, 150009 (2015)), PBE.",
    "CC BY 4.0 (Materials Project); targets MIT (MatBench).",
    "Learned from ordered inorganic crystals at zero temperature: not for unrelaxed or disordered "
    "structures, molecules, layered van der Waals crystals (PBE), or anisotropy.",
)
MATERIALS_PROJECT = Data(
    "Materials Project: MatBench's formation energies and gaps",
    "MatBench v0.1 (Dunn et al., npj Comput. Mater. 6, 138 (2020)), PBE: all crystals of its gaps "
    "with at most 40 atoms, with the formation energies of the same entries; some compositions, "
    "which validate, neither this network nor the one that it went on from has learned from.",
    "CC BY 4.0 (Materials Project).",
    "Learned from relaxed crystals with at most 40 atoms: not for unrelaxed or disordered "
    "structures, molecules, surfaces, or values of another functional.",
)
PHONONS = Data(
    "Last peak of the phonon density of states",
    "Petretto et al., Sci. Data 5, 180065 (2018); MatBench v0.1, all crystals but one composition "
    "in ten, which validate; PBEsol.",
    "CC BY 4.0.",
    "Learned from 1,130 small, stable, ordered insulators and semiconductors: not for metals, "
    "magnets, unrelaxed structures or molecules.",
)
LAYERS = Data(
    "Exfoliation energy of layers",
    "JARVIS-DFT 2D (Choudhary et al., Sci. Rep. 7, 5179 (2017)); MatBench v0.1, all crystals but "
    "one composition in ten, which validate; OptB88vdW.",
    "NIST terms of use: not subject to copyright in the United States, free to use and "
    "redistribute with attribution.",
    "Learned from single layers in a cell with vacuum: not for the bulk crystal.",
)


@dataclass(frozen=True)
class Output:
    """What a bundled model predicts.

    Attributes:
        target: The property.
        unit: Of the prediction.
        learned: What the runs learned, if not ``target`` itself but a property that differs from
            it by references of the elements.
        nonnegative: Predictions below zero are zero, although the runs did not know it.
    """

    target: str
    unit: str = ""
    learned: str = ""
    nonnegative: bool = False


@dataclass(frozen=True)
class Recipe:
    """One archive.

    Attributes:
        runs: Folders of sweeps.
        data: What the runs learned from.
        models: The models that share its weights by what :func:`potnet.load` calls them; each has
            outputs of its own, the first of which is measured in the tables.
        kept: Outputs without a model, for others went on from weights that have them.
        limits: What the models are not for, beyond what the data say.
        witnesses: Folders of sweeps of networks that do not predict: the calibration hears them.
        beside: Columns that the runs learned beside the targets, if these decide who trains.
        split_of: Column whose split the runs took, if not that of all they learned.
    """

    runs: tuple[str, ...]
    data: Data
    models: dict[str, tuple[Output, ...]]
    kept: tuple[Output, ...] = ()
    limits: str = ""
    witnesses: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    split_of: str = ""

    @property
    def outputs(self) -> list[tuple[str, Output]]:
        """All outputs, each with the name of its model."""
        named = [(name, output) for name, outputs in self.models.items() for output in outputs]
        return [*named, *(("", output) for output in self.kept)]


def _seeds(run: str, n: int) -> tuple[str, ...]:
    return tuple(f"{run}-{k}" for k in range(n))


RECIPES = {
    "jarvis-energies": Recipe(
        _seeds("formation-energy", 3),
        JARVIS,
        {
            "jarvis-formation-energy": (Output("formation_energy_peratom", "eV/atom"),),
            "jarvis-total-energy": (
                Output("optb88vdw_total_energy", "eV/atom", learned="formation_energy_peratom"),
            ),
        },
    ),
    "jarvis-band-gap": Recipe(
        _seeds("band-gap", 2),
        JARVIS,
        {
            "jarvis-band-gap": (
                Output("optb88vdw_bandgap", "eV"),
                Output("optb88vdw_bandgap > 0.01"),
            )
        },
        beside=("formation_energy_peratom",),
    ),
    "jarvis-band-gap-mbj": Recipe(
        _seeds("band-gap-mbj", 2),
        JARVIS,
        {"jarvis-band-gap-mbj": (Output("mbj_bandgap", "eV"), Output("mbj_bandgap > 0.01"))},
        beside=("optb88vdw_bandgap",),
        split_of="mbj_bandgap",
    ),
    "jarvis-energy-above-hull": Recipe(
        _seeds("energy-above-hull", 1),
        JARVIS,
        {"jarvis-energy-above-hull": (Output("ehull", "eV/atom", nonnegative=True),)},
        limits=(
            "Not for judging stability: JARVIS's column `ehull` divides the energy per atom by the "
            "atoms of the reduced formula, so that stable crystals can have 1.5 eV/atom and more."
        ),
    ),
    "mp": Recipe(
        _seeds("product-mp", 1),
        MATERIALS_PROJECT,
        {"mp-formation-energy": (Output("e_form", "eV/atom"),)},
        kept=(Output("gap", "eV", nonnegative=True),),
        # The network of the gap has learned the formation energy, too.
        witnesses=("product-gap-0",),
    ),
    "mp-band-gap": Recipe(
        _seeds("product-gap", 1),
        MATERIALS_PROJECT,
        {"mp-band-gap": (Output("gap", "eV"), Output("gap > 0.01"))},
        beside=("e_form",),
    ),
    "moduli": Recipe(
        _seeds("product-moduli", 3),
        MODULI,
        {
            "bulk-modulus": (Output("bulk_modulus", "GPa"),),
            "shear-modulus": (Output("shear_modulus", "GPa"),),
        },
    ),
    "phonon-peak": Recipe(
        _seeds("product-phonons", 3),
        PHONONS,
        {"phonon-peak": (Output("last_phdos_peak", "1/cm"),)},
    ),
    "exfoliation-energy": Recipe(
        _seeds("product-layers", 2),
        LAYERS,
        {"exfoliation-energy": (Output("exfoliation_en", "meV/atom"),)},
    ),
}


def element_shares(dataset: Dataset) -> NDArray[np.float64]:
    """Return the share of each element in each crystal, shape (n, MAX_NUMBER + 1)."""
    return compositions(dataset)[:, : MAX_NUMBER + 1]


@dataclass(frozen=True)
class Shift:
    """The difference of two properties as a linear function of the composition.

    Attributes:
        dataset: Where both are known.
        references: One number for each element, shape (n_elements,).
        mean: Of the property shifted to, over its training crystals.
    """

    dataset: Dataset
    references: NDArray[np.float64]
    mean: float

    @staticmethod
    def fit(dataset: Dataset, learned: str, target: str) -> Shift:
        """Return the shift from ``learned`` to ``target``, from crystals that train both."""
        labels = dataset.split_for([learned, target])
        rows = dataset.subset(labels == "train")
        difference = rows.targets[target] - rows.targets[learned]
        known = np.isfinite(difference)
        # Least squares without a penalty: the relation is exact but for rounding in the records.
        fit = np.linalg.lstsq(element_shares(rows)[known], difference[known], rcond=None)
        train = dataset.split_for([target]) == "train"
        return Shift(dataset, fit[0], float(np.nanmean(dataset.targets[target][train])))

    def of(self, ids: list[str]) -> NDArray[np.float64]:
        """Return the shifts of the crystals ``ids``, shape (n,)."""
        place = {id: k for k, id in enumerate(self.dataset.ids)}
        rows = self.dataset.subset([place[id] for id in ids])
        return element_shares(rows) @ self.references

    def values(self, target: str, ids: list[str]) -> NDArray[np.float64]:
        """Return ``target`` of the crystals ``ids``, shape (n,)."""
        column = dict(zip(self.dataset.ids, self.dataset.targets[target], strict=True))
        return np.array([column[id] for id in ids])


def with_references(
    member: CompleteNet, shifts: dict[int, NDArray[np.float64]] | None = None
) -> CompleteNet:
    """Return the network with references added to the outputs that have some, standardised."""
    settings = member.settings.model_copy(update={"references": True})
    shifted = CompleteNet(settings, member.head[-1].out_features)
    shifted.load_state_dict(member.state_dict(), strict=False)
    with torch.no_grad():
        for k, references in (shifts or {}).items():
            weight = shifted.references.weight[: MAX_NUMBER + 1]
            weight[:, k] += torch.from_numpy(references).float()
    return shifted.eval()


def rescaled(
    member: CompleteNet, own: Sequence[TargetCard], common: Sequence[TargetCard]
) -> CompleteNet:
    """Return the network, whose outputs are standardised as ``own`` says, as ``common`` does it."""
    factor = torch.tensor([a.std / b.std for a, b in zip(own, common, strict=True)])
    shift = torch.tensor([(a.mean - b.mean) / b.std for a, b in zip(own, common, strict=True)])
    if (factor == 1).all() and (shift == 0).all():
        return member
    with torch.no_grad():
        member.head[-1].weight *= factor[:, None]
        member.head[-1].bias.mul_(factor).add_(shift)
        if member.head_per_formula is not None:
            member.head_per_formula.weight *= factor[:, None]
            member.head_per_formula.bias *= factor
        member.references.weight *= factor
    return member


def read_predictions(
    run: Path, part: str, target: str
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Return ids, targets (nan where held back) and predictions of one run.

    A benchmark hides the targets of the test from its trainings and keeps them itself.
    """
    stem = "predictions-val" if part == "val" else "predictions"
    paths = [run / f"{stem}-{file_name(target)}.csv", run / f"{stem}.csv"]
    if part == "test" and run.name == "training":
        paths.insert(0, run.parents[2] / f"{stem}-{file_name(target)}.csv")
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


def measure(
    name: str,
    output: Output,
    runs: list[Path],
    card: ModelCard,
    k: int,
    shift: Shift | None,
) -> tuple[float | None, dict[str, Metrics]]:
    """Return the half-width of the interval of one output, and its metrics by part.

    Args:
        name: Its model.
        output: What is predicted.
        runs: The trainings of the model.
        card: Card of the first, with the outputs in the order of the recipe.
        k: Place of the output.
        shift: From what was learned to the target, if they differ.
    """
    target = card.targets[k]
    is_log, is_binary = target.transform == "log10", target.transform == "binary"
    # The constant to beat: the mean of what was learned from.
    mean = target.mean if shift is None else shift.mean
    constant = 10**mean if is_log else mean
    halfwidth, metrics = None, {}
    for part in ("val", "test") if card.data.n_test else ("val",):
        ids, true, predicted = together(runs, part, target.name)
        if shift is not None:
            predicted = predicted + shift.of(ids)
            true = shift.values(output.target, ids)
        if output.nonnegative:
            predicted = predicted.clip(0)
        if part == "val" and not is_binary:
            residuals = np.log10(predicted) - np.log10(true) if is_log else predicted - true
            halfwidth = conformal_halfwidth(residuals[np.isfinite(residuals)], LEVEL)
        if np.isfinite(true).any():
            if is_binary:  # whose outputs have no mean; the run knows the share of yes
                baseline = card.metrics[part][target.name]["baseline_mae"]
                measured = binary_metrics(true, predicted) | {"baseline_mae": baseline}
            else:
                measured = regression_metrics(true, predicted, baseline=constant)
            if shift is None and len(runs) > 1:
                singles = [read_predictions(run, part, target.name)[1:] for run in runs]
                measured["single_mae"] = [float(np.nanmean(np.abs(y - p))) for y, p in singles]
            if is_log:
                logs = regression_metrics(np.log10(true), np.log10(predicted), baseline=mean)
                measured |= {f"log10_{key}": value for key, value in logs.items() if key != "n"}
            metrics[part] = measured
        elif len(ids):
            path = RESULTS / "jarvis" / f"{name}{'-yes' * is_binary}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["id", "prediction"])
                writer.writerows(zip(ids, (f"{v:.7g}" for v in predicted), strict=True))
    return halfwidth, metrics


def bundle(name: str, recipe: Recipe, folders: list[Path], datasets: list[Dataset]) -> None:
    """Write one archive and say how good its models are."""
    every = [
        next(found for f in folders for found in trainings(f / run))
        for run in (*recipe.runs, *recipe.witnesses)
    ]
    runs = every[: len(recipe.runs)]
    loaded = [archive.read(run / "model") for run in every]
    first = loaded[0][1]
    learned = [output.learned or output.target for _, output in recipe.outputs]
    chosen = [select(found, card, learned) for found, card in loaded]
    members, card = [member for found, _ in chosen for member in found], chosen[0][1]
    referenced = any(member.settings.references for member in members)
    common = members[0].settings.model_copy(update={"references": referenced})
    for found, other in chosen:
        own = found[0].settings.model_copy(update={"references": referenced})
        if (own, other.data) != (common, card.data):
            raise SystemExit(f"{name}: the runs must share settings and data")
    if referenced:
        members = [with_references(member) for member in members]
        owners = [other for found, other in chosen for _ in found]
        members = [
            rescaled(member, other.targets, card.targets)
            for member, other in zip(members, owners, strict=True)
        ]
    card = card.model_copy(update={"settings": common.model_dump(mode="json")})
    shifts: dict[int, Shift] = {}
    for k, (_, output) in enumerate(recipe.outputs):
        if output.learned:
            both = {output.learned, output.target}
            dataset = next((data for data in datasets if both <= set(data.targets)), None)
            if dataset is None:
                raise SystemExit(
                    f"{name}: give --data, the dataset with {output.learned} and {output.target}"
                )
            shifts[k] = Shift.fit(dataset, output.learned, output.target)
    if shifts:
        added = {k: shift.references / card.targets[k].std for k, shift in shifts.items()}
        members = [with_references(member, added) for member in members]
        card = card.model_copy(update={"settings": members[0].settings.model_dump(mode="json")})
    members = [archive.halved(member) for member in members]
    n_members = sum(len(found) for found, _ in loaded[: len(runs)])
    members, witnesses = members[:n_members], members[n_members:]
    targets, metrics = [], {"val": {}, "test": {}}
    for k, (model, output) in enumerate(recipe.outputs):
        halfwidth, measured = measure(model, output, runs, card, k, shifts.get(k))
        for part, found in measured.items():
            metrics[part][output.target] = found
        update = {
            "name": output.target,
            "unit": output.unit,
            "transform": "nonnegative" if output.nonnegative else card.targets[k].transform,
            "interval_level": None if halfwidth is None else LEVEL,
            "interval_halfwidth": halfwidth,
        }
        targets.append(card.targets[k].model_copy(update=update))
    metrics = {part: found for part, found in metrics.items() if found}
    is_held_back = card.data.n_test and "test" not in metrics
    note = (
        f"{len(members)} network(s) together (median); weights chosen and intervals calibrated on "
        f"the {card.data.n_val} validation crystals. 95 % bootstrap intervals of the mean absolute "
        "error; baseline: the mean of the training targets, of logarithms if these were learned."
        + (" The targets of the test crystals are held back." if is_held_back else "")
    )
    if card.finetuned_from is not None:
        known = ORIGINS | {archive.read_card(other).weights_sha256: other for other in available()}
        start = {"name": known.get(card.finetuned_from.weights_sha256, card.finetuned_from.name)}
        card = card.model_copy(
            update={"finetuned_from": card.finetuned_from.model_copy(update=start)}
        )
    began = [other.finetuned_from is not None for _, other in loaded[: len(runs)]]
    if any(began) and not all(began):
        note += (
            f" {sum(began)} networks went on from {card.finetuned_from.name}, the others did not."
        )
    data = {
        "name": recipe.data.name,
        "source": recipe.data.source,
        "licence": recipe.data.licence,
        "anchors": recipe.data.anchors,
    }
    shared = {model: tuple(o.target for o in outputs) for model, outputs in recipe.models.items()}
    card = card.model_copy(
        update={
            "targets": tuple(targets),
            "data": card.data.model_copy(update=data),
            "metrics": metrics | {"note": note},
            "limits": f"{recipe.data.limits} {recipe.limits}".strip(),
            "golden": (),
            "bundled": {} if list(shared) == [name] else shared,
        }
    )
    golden = [crystal.crystal() for crystal in first.golden]
    card = archive.with_golden(card, members, golden)
    archive.save(BUNDLED / name, members, card, witnesses=witnesses)
    size = sum(path.stat().st_size for path in (BUNDLED / name).iterdir()) / 1e6
    print(f"{name}: {size:.1f} MB")
    for model, output in recipe.outputs:
        for part, found in metrics.items():
            m = found[output.target]
            print(
                f"  {model:26s} {output.target:26s} {part:4s} MAE {m['mae']:.4f} "
                f"[{m['mae_low']:.4f}, {m['mae_high']:.4f}] {output.unit}, "
                f"mean predictor {m['baseline_mae']:.3f}"
            )


def calibrate(
    name: str, recipe: Recipe, datasets: Sequence[Dataset], folds: Path | None = None
) -> None:
    """Measure how sure a bundled archive may be, and write it beside the weights."""
    members, card, witnesses = archive.read_with_witnesses(BUNDLED / name)
    dataset, split = learned_from(name, recipe, card, datasets)
    if len(split.val) < FEWEST_HELD_OUT:
        raise SystemExit(f"{name}: {len(split.val)} validation crystals are too few")
    known = held_out_of(
        members, card, dataset, train=split.train, val=split.val, witnesses=witnesses
    )
    calibration = known.fit(LEVEL)
    if folds is not None:
        left_out = {dataset.ids[k] for k in split.val}
        width = out_of_folds(folds, card, dataset, left_out).fit(LEVEL).widths[0]
        if width is not None:
            errors = known.errors[:, 0]
            calibration = calibration.with_width(0, width, known.held_out, errors, level=LEVEL)
    targets = tuple(
        target.model_copy(update={"lowest": lowest(dataset.targets[target.name][split.train])})
        if target.interval_halfwidth is not None
        else target
        for target in card.targets
    )
    adapting = [width is not None for width in calibration.widths]
    said = "adapt to each crystal" if any(adapting) else "are constant, for want of crystals"
    note = str(card.metrics["note"]).partition(" Widths of intervals")[0]
    metrics = card.metrics | {"note": f"{note} Widths of intervals {said}."}
    card = card.model_copy(update={"targets": targets, "metrics": metrics})
    archive.save(BUNDLED / name, members, card, calibration, witnesses)
    size = (BUNDLED / name / archive.CALIBRATION_NAME).stat().st_size / 1e3
    print(f"{name}: calibration {size:.0f} kB, {sum(adapting)} of {len(adapting)} widths adapt")


def out_of_folds(folder: Path, card: ModelCard, dataset: Dataset, left_out: set[str]) -> HeldOut:
    """Return what the folds of a benchmark say of a target, as if one network had said it.

    Args:
        folder: Of the benchmark.
        card: Of the model that learns from it, with this target alone.
        dataset: What both learned from.
        left_out: Ids of crystals that the model is calibrated on.
    """
    (target,) = card.targets
    with open(folder / f"predictions-{file_name(target.name)}.csv", newline="") as file:
        said = {row["id"]: float(row["prediction"]) for row in csv.DictReader(file)}
    rows = [k for k, id in enumerate(dataset.ids) if id in said and id not in left_out]
    crystals = [dataset.crystals[k] for k in rows]
    features = registry.build(card.network, card.settings, 1).features
    outputs = target.scale.standardise(np.array([said[dataset.ids[k]] for k in rows]))[:, None]
    true = target.scale.standardise(dataset.targets[target.name][rows])[:, None]
    contents = Contents.of(crystals)
    seen = Evidence(
        np.zeros((len(rows), 0), np.float32),  # each fold has a space of its own
        outputs,
        np.zeros_like(outputs),
        contents.shares,
        np.array([features.reduced(crystal).n_atoms for crystal in crystals]),
        contents.volumes,
    )
    return HeldOut(seen.states, contents, seen, outputs - true, outputs_of([target.scale]))


def learned_from(
    name: str, recipe: Recipe, card: ModelCard, datasets: Sequence[Dataset]
) -> tuple[Dataset, Split]:
    """Return the one of some datasets that an archive learned from, and its parts."""
    learned = [output.learned or output.target for _, output in recipe.outputs]
    learned += recipe.beside
    for dataset in datasets:
        if {name.partition(" > ")[0] for name in learned} <= set(dataset.targets):
            named = with_binary_targets(dataset, learned)
            config = SplitConfig(kind="given", of=recipe.split_of)
            split, _ = make_split(named, config, learned)
            ids = sorted(named.ids[k] for k in split.train)
            digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()
            if digest == card.data.train_ids_sha256:
                return with_binary_targets(named, [t.name for t in card.targets]), split
    raise SystemExit(f"{name}: give --data, a dataset with the crystals that it learned from")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="*", help="outputs of sweeps")
    parser.add_argument(
        "--only", nargs="*", choices=RECIPES, default=list(RECIPES), help="archives"
    )
    parser.add_argument("--data", nargs="*", default=[], help="what the archives learned from")
    parser.add_argument("--folds", type=Path, help="benchmark whose folds measured the one --only")
    arguments = parser.parse_args()
    if arguments.folds and len(arguments.only) != 1:
        parser.error("--folds belongs to one archive: name it with --only")
    datasets = [open_dataset(path) for path in arguments.data]
    for name in arguments.only:
        recipe = RECIPES[name]
        if arguments.folders:
            bundle(name, recipe, arguments.folders, datasets)
        if datasets:
            calibrate(name, recipe, datasets, arguments.folds)
        else:
            print(f"{name}: no calibration; give --data, what it learned from")
    summary = {
        name: {
            "targets": [target.model_dump() for target in card.targets],
            "data": card.data.model_dump(exclude={"elements"}),
            "members": len(archive.read(name, verify=False)[0]),
            "metrics": card.metrics,
        }
        for recipe in RECIPES.values()
        for name in recipe.models
        if name in available()
        for card in [archive.read_card(name)]
    }
    with atomic_write(RESULTS / "bundled_models.json") as file:
        json.dump(summary, file, indent=1)


if __name__ == "__main__":
    main()
