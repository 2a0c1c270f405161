"""What the tail of a Coulomb sum is worth to a linear model of ionic orderings, without a network.

Energies of rock-salt orderings of Li, Mn, O and F are fitted by ridge regression to the composition
and to soft counts of pairs of ions within a cutoff; then also to the electrostatic energy of formal
charges, once from complete sums and once from sums that end smoothly at 6 Å. Mn of different
charge are different ions. Ten folds as in the suites ``lmof`` and ``lmof-compositions``; the
penalty is chosen on the training crystals of each fold. Writes ``results/orderings_ridge.json``.

python benchmarks/orderings_ridge.py li_mn_o_f_orderings.jsonl.gz
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
import torch

from latticesums import Coulomb, CutOff, Shell, pair_sums
from potnet.benchmark import SUITES, open_suite
from potnet.benchmark.predictions import PredictionTable
from potnet.benchmark.statistics import compare
from potnet.files import atomic_write

RESULTS = Path(__file__).resolve().parent / "results" / "orderings_ridge.json"
CUTOFFS = (0.0, 3.4, 4.5, 6.2)  # 0: the composition alone
SIZES = (60, None)  # crystals to learn from; None: all outside the fold
END = 6.0  # of the Coulomb sum whose tail is cut off
SPACING = 0.5
EV_A = 14.399645  # e^2 / (4 pi epsilon_0)
PENALTIES = 10.0 ** np.arange(-6, 3)


def ions(records: list[dict]) -> list[np.ndarray]:
    """Return the number of the ion of each atom: an element with its charge."""
    labels = [list(zip(r["species"], r["oxidation_states"], strict=True)) for r in records]
    kinds = {label: k for k, label in enumerate(sorted({x for row in labels for x in row}))}
    return [np.array([kinds[label] for label in row]) for row in labels]


def columns(record: dict, kind: np.ndarray, n_kinds: int, cutoff: float) -> np.ndarray:
    """Return the shares of the ions and the counts of pairs per atom in soft shells."""
    cell = torch.tensor(record["lattice"], dtype=torch.float64)
    positions = torch.tensor(record["frac_coords"], dtype=torch.float64) @ cell
    one = np.eye(n_kinds)[kind]
    if not cutoff:
        return one.mean(0)
    centers = np.arange(1.5, cutoff, SPACING)
    shells = [Shell(float(center), SPACING, cutoff) for center in centers]
    n = len(kind)
    sums = pair_sums(positions, cell, shells, tolerance=1e-6).values.reshape(n, n, -1).numpy()
    pairs = np.einsum("ia,ijs,jb->abs", one, sums, one) / n
    upper = np.triu_indices(n_kinds)
    return np.concatenate([one.mean(0), pairs[upper].ravel()])


def electrostatic(record: dict) -> tuple[float, float]:
    """Return the energy of the formal charges in eV/atom, with complete sums and cut off."""
    cell = torch.tensor(record["lattice"], dtype=torch.float64)
    positions = torch.tensor(record["frac_coords"], dtype=torch.float64) @ cell
    charges = torch.tensor(record["oxidation_states"], dtype=torch.float64)
    n = len(charges)
    found = pair_sums(positions, cell, [Coulomb(), CutOff(Coulomb(), END)], tolerance=1e-6)
    sums = found.values.reshape(n, n, 2)
    energy = 0.5 * EV_A / n * torch.einsum("i,ijs,j->s", charges, sums, charges)
    return float(energy[0]), float(energy[1])


def fitted(x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return ridge predictions, the penalty chosen by leaving training crystals out one by one."""
    mean, scale = x[train].mean(0), x[train].std(0)
    used = scale > 1e-12
    a, b = ((x[rows][:, used] - mean[used]) / scale[used] for rows in (train, test))
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    rest, best = y[train] - y[train].mean(), (np.inf, np.zeros(len(s)))
    for penalty in PENALTIES * len(train):
        gain = s**2 / (s**2 + penalty)
        left = rest - u @ (gain * (u.T @ rest))
        leverage = (u**2) @ gain + 1 / len(train)
        error = float(np.abs(left / (1 - leverage)).mean())
        best = min(best, (error, s / (s**2 + penalty) * (u.T @ rest)), key=lambda pair: pair[0])
    return y[train].mean() + b @ (vt.T @ best[1])


def measured(opened, tables: dict[str, np.ndarray], size: int | None) -> list[dict]:
    """Return the error of each table of columns, and how each differs from the complete sums."""
    y = opened.dataset.targets["energy_per_atom"]
    ids, found = np.array(opened.dataset.ids), {}
    for name, x in tables.items():
        values = np.empty(len(y))
        for fold in range(opened.suite.n_folds):
            test = opened.folds == fold
            train = np.random.default_rng(fold).permutation(np.flatnonzero(~test))[:size]
            values[test] = fitted(x, y, train, np.flatnonzero(test))
        found[name] = PredictionTable(ids, opened.folds, np.zeros(len(y), int), y, values)
    rows = []
    for name, table in found.items():
        against = compare(table, found["complete"])
        rows.append({"columns": name, "mae": against.mae_first, "less_complete": against.to_dict()})
    return rows


def line_of(row: dict) -> str:
    """Return a row in words."""
    shown = row["less_complete"]
    difference, low, high = (1e3 * shown[key] for key in ("difference", "low", "high"))
    size = row["trained_on"] or "all"
    return (
        f"{row['suite']:18s} {size:>3} crystals, pairs to {row['pairs_to']} Å, "
        f"{row['columns']:8s} {1e3 * row['mae']:6.2f} meV/atom, {difference:+.2f} "
        f"({low:+.2f} to {high:+.2f}), p = {shown['p_value']:.2g}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    with gzip.open(data, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    kinds = ions(records)
    n_kinds = 1 + max(int(kind.max()) for kind in kinds)
    energies = np.array([electrostatic(record) for record in records])
    results = []
    for cutoff in CUTOFFS:
        pairs = zip(records, kinds, strict=True)
        counts = np.stack([columns(record, kind, n_kinds, cutoff) for record, kind in pairs])
        tables = {
            "complete": np.column_stack([counts, energies[:, 0]]),
            "cut off": np.column_stack([counts, energies[:, 1]]),
            "none": counts,
        }
        for name in ("lmof", "lmof-compositions"):
            opened = open_suite(SUITES[name], data)
            for size in SIZES:
                for row in measured(opened, tables, size):
                    results.append({"suite": name, "pairs_to": cutoff, "trained_on": size, **row})
                    print(line_of(results[-1]))
    with atomic_write(RESULTS) as file:
        json.dump({"n": len(records), "cut_off_at": END, "rows": results}, file, indent=1)


if __name__ == "__main__":
    main()
