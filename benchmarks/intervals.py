"""Whether the intervals of the bundled models cover what they say, and how much narrower they are.

Each model's validation crystals, which none of its networks was trained on, are divided into ten
parts by composition. Intervals for each part are calibrated on the other nine: those that adapt to
the crystal, and those of constant width beside them. Coverage is counted among all, and in each
fifth of the crystals by width, atoms, elements and familiarity. The interval of a crystal that is
surely a metal may be a point: those are counted for themselves, too. The score is that of Winkler:
the width, and twenty times how far outside a value lies.

With ``--folds`` the width of exfoliation energies has the shape that the folds of a benchmark say,
as in ``scripts/bundle_models.py``; beside it stands what the folds say of themselves.

Where few crystals validate, ``--left-out TARGET FOLDER`` measures the method on all of them: each
is asked of a model of its fold, whose weights, calibration and intervals do not know it.

    python benchmarks/intervals.py DATA... -o benchmarks/results/intervals.json

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

from potnet.calibration import conformal_halfwidth, interval_scores
from potnet.calibration.width import Width, folds_of
from potnet.data import Dataset
from potnet.data import open as open_dataset
from potnet.files import atomic_write
from potnet.models import archive
from potnet.models.card import ModelCard
from potnet.prediction import Predictor
from potnet.training.calibrate import HeldOut, held_out_of

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from bundle_models import BUNDLED, LEVEL, RECIPES, learned_from, out_of_folds

Ends = tuple[NDArray[np.float64], NDArray[np.float64]]


def cross_fitted(
    known: HeldOut, level: float, shape: Width | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return constant and adapting half-widths, (2, n, n_targets), and familiarities, (n,).

    The first half is below the prediction, the second above it.

    Where too few crystals are known for a width that adapts, the constant one stands for it, or
    ``shape``, which others measured.
    """
    constant = np.full((2, *known.errors.shape), np.nan)
    adapting, familiarity = constant.copy(), np.empty(len(known.held_out))
    folds = folds_of(known.held_out.shares)
    for fold in range(folds.max() + 1):
        rest, out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        calibration = known.fit(level, rest)
        if shape is not None:
            seen, errors = known.held_out[rest], known.errors[rest, 0]
            calibration = calibration.with_width(0, shape, seen, errors, level=level)
        judgement = calibration.judge(known.held_out[out])
        familiarity[out] = judgement.familiarity
        for k, halves in enumerate(judgement.halfwidths):
            residuals = known.errors[rest, k]
            width = conformal_halfwidth(residuals[np.isfinite(residuals)], level)
            constant[:, out, k] = np.nan if width is None else width
            adapting[:, out, k] = constant[:, out, k] if halves is None else halves
    return constant, adapting, familiarity


def fifths(by: NDArray, covered: NDArray[np.bool_]) -> list[float]:
    """Return the coverage in each fifth of the crystals; equal ones are divided at random."""
    order = np.lexsort((np.random.default_rng(0).permutation(len(by)), by))
    return [round(float(covered[rows].mean()), 4) for rows in np.array_split(order, 5)]


def measured(
    card: ModelCard, known: HeldOut, level: float, width: Width | None = None
) -> dict[str, Any]:
    """Return what the intervals of each target are worth."""
    constant, adapting, familiarity = cross_fitted(known, level, width)
    seen, found = known.held_out, {}
    for k, target in enumerate(card.targets):
        if not known.outputs[k].has_interval:
            continue
        rows = np.flatnonzero(np.isfinite(known.errors[:, k]) & np.isfinite(constant[0, :, k]))
        middle = np.maximum(seen.outputs[rows, k], known.outputs[k].floor)
        true = middle - known.errors[rows, k]
        lowest = -np.inf
        if target.lowest is not None and target.transform != "log10":
            lowest = np.minimum((target.lowest - target.mean) / target.std, middle)

        def ends(halves: NDArray[np.float64], middle=middle, lowest=lowest) -> Ends:
            return np.maximum(middle - halves[0], lowest), middle + halves[1]

        found[target.name] = worth(
            true,
            ends(constant[:, rows, k]),
            ends(adapting[:, rows, k]),
            level,
            atoms=seen.n_atoms[rows],
            elements=(seen.shares[rows] > 0).sum(1),
            familiarity=familiarity[rows],
        )
    return found


def worth(
    true: NDArray[np.float64], constant: Ends, adapting: Ends, level: float, **by: NDArray
) -> dict[str, Any]:
    """Return what intervals are worth beside those of constant width, in fifths by width, too.

    Args:
        true: Values, shape (n,).
        constant: Ends of constant width.
        adapting: Ends that adapt.
        level: Share of the values that they should cover.
        by: What else the crystals are ordered by, shape (n,).
    """
    of = (constant, adapting)
    scores = [interval_scores(true, lower, upper, level).mean() for lower, upper in of]
    inside = [(lower <= true) & (true <= upper) for lower, upper in of]
    width = adapting[1] - adapting[0]
    point = width == 0
    return {
        "n": len(true),
        "adapts": bool((width != constant[1] - constant[0]).any()),
        "coverage": round(float(inside[1].mean()), 4),
        "coverage_of_constant": round(float(inside[0].mean()), 4),
        "score_less_by": round(float(1 - scores[1] / scores[0]), 4),
        "mean_width_ratio": round(float(width.mean() / (constant[1] - constant[0]).mean()), 4),
        "by_width": fifths(width, inside[1]),
        "points": int(point.sum()),
        "coverage_of_points": round(float(inside[1][point].mean()), 4) if any(point) else None,
        "by_width_of_others": fifths(width[~point], inside[1][~point]),
        "by_width_of_constant": fifths(width, inside[0]),
        **{f"by_{name}": fifths(values, inside[1]) for name, values in by.items()},
    }


def measured_by_folds(folder: Path, target: str, dataset: Dataset) -> dict[str, Any]:
    """Return what the intervals of runs are worth on the crystals that each has left out.

    Args:
        folder: Of ``potnet train --folds``, or of a benchmark, of which the first seed counts: each
            run has a model, which is calibrated on what it validated, and says what it left out.
        target: What they predict, in its own units.
        dataset: What they learned from.
    """
    runs = sorted(folder.glob("fold*")) or sorted(folder.glob("jobs/*-seed0/training"))
    place = {id: k for k, id in enumerate(dataset.ids)}
    parts, held_out = [], []
    for run in runs:
        members, card = archive.read(run / "model")
        split = json.loads((run / "split.json").read_text())
        train, val, rows = (
            np.array([place[id] for id in split[part]]) for part in ("train", "val", "test")
        )
        known = held_out_of(members, card, dataset, train=train, val=val)
        model = Predictor(members, card, known.fit(LEVEL))
        held_out.append(len(val))
        crystals = [dataset.crystals[k] for k in rows]
        said = model[target].predict(crystals)
        half = model[target].card.targets[0].interval_halfwidth
        atoms = [model.features.reduced(crystal).n_atoms for crystal in crystals]
        columns = (
            dataset.targets[target][rows],
            said.values - half,
            said.values + half,
            [row.lower for row in said],
            [row.upper for row in said],
            atoms,
            [len(set(crystal.symbols)) for crystal in crystals],
            [row.familiarity for row in said],
        )
        parts.append(np.array(columns, np.float64))
    true, *ends, atoms, elements, familiarity = np.concatenate(parts, axis=1)
    found = worth(
        true,
        (ends[0], ends[1]),
        (ends[2], ends[3]),
        LEVEL,
        atoms=atoms,
        elements=elements,
        familiarity=familiarity,
    )
    return {"held_out": held_out, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--only", nargs="*", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--folds", type=Path, help="benchmark of the exfoliation energies")
    parser.add_argument(
        "--left-out", nargs=2, metavar=("TARGET", "FOLDER"), help="runs of folds instead"
    )
    parser.add_argument("--output", "-o", type=Path, required=True)
    options = parser.parse_args()
    datasets = [open_dataset(path) for path in options.data]
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    if options.left_out:
        target, folder = options.left_out
        dataset = next(dataset for dataset in datasets if target in dataset.targets)
        found = measured_by_folds(Path(folder), target, dataset)
        results[f"{target}, left out"] = {"level": LEVEL, "targets": {target: found}}
        print(json.dumps(found))
        with atomic_write(options.output) as file:
            json.dump(results, file, indent=1)
        return
    for name in options.only:
        members, card, witnesses = archive.read_with_witnesses(BUNDLED / name)
        dataset, split = learned_from(name, RECIPES[name], card, datasets)
        known = held_out_of(
            members, card, dataset, train=split.train, val=split.val, witnesses=witnesses
        )
        width = None
        if name == "exfoliation-energy" and options.folds:
            every = out_of_folds(options.folds, card, dataset, set())
            results[f"{name}, folds"] = {"level": LEVEL, "targets": measured(card, every, LEVEL)}
            left_out = {dataset.ids[k] for k in split.val}
            width = out_of_folds(options.folds, card, dataset, left_out).fit(LEVEL).widths[0]
        results[name] = {"level": LEVEL, "targets": measured(card, known, LEVEL, width)}
        for target, row in results[name]["targets"].items():
            print(
                f"{name} {target}: n {row['n']}, coverage {row['coverage']:.3f}, score "
                f"{-row['score_less_by']:+.1%}, fifths by width {row['by_width']}, "
                f"by atoms {row['by_atoms']}, by elements {row['by_elements']}",
                flush=True,
            )
        with atomic_write(options.output) as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
