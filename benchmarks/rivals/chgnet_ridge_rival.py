"""Ridge regression on what CHGNet (Deng et al. 2023) knows of the atoms, for potnet benchmark.

CHGNet comes with weights that have learned energies, forces, stresses and magnetic moments of the
relaxations of the Materials Project. The features of a crystal are mean, standard deviation, least
and largest value over its atoms of each of the 64 numbers that describe an atom before the last
convolution, and the energy per atom. The weight of the penalty is the best on validation. There is
nothing to train longer: it takes no budget. Its seconds are those of CHGNet and of the regression.
"""

from __future__ import annotations

import time

import numpy as np
from chgnet.model import CHGNet
from common import answer, read_order, set_up
from pymatgen.core import Structure

PENALTIES = 10.0 ** np.arange(-2, 5.5, 0.5)


def main() -> None:
    order = read_order()
    set_up(order)
    clock = time.process_time
    model = CHGNet.load(use_device="cpu", verbose=False)
    records = [*order.train, *order.asked]
    start = clock()
    graphs = [
        model.graph_converter(Structure(r["lattice"], r["species"], r["frac_coords"]))
        for r in records
    ]
    preparation, start = clock() - start, clock()
    found = model.predict_graph(graphs, task="e", return_atom_feas=True, batch_size=32)
    table = np.array([features_of(crystal) for crystal in found])
    n_train, n_val = len(order.train), len(order.val)
    known = np.array([r["target"] for r in [*order.train, *order.val]])
    values = ridge(table, known, n_train, n_val)
    seconds = clock() - start
    answer(order, values, n_parameters=table.shape[1] + 1, seconds=seconds, preparation=preparation)


def features_of(crystal: dict[str, np.ndarray]) -> np.ndarray:
    atoms = crystal["atom_fea"]
    parts = (atoms.mean(0), atoms.std(0), atoms.min(0), atoms.max(0), [float(crystal["e"])])
    return np.concatenate(parts).astype(np.float64)


def ridge(table: np.ndarray, known: np.ndarray, n_train: int, n_val: int) -> np.ndarray:
    """Return predictions for all rows after the training rows."""
    rows, targets, truth = table[:n_train], known[:n_train], known[n_train:]
    spread = rows.std(0)
    scaled = (table - rows.mean(0)) / np.where(spread > 1e-9, spread, 1.0)
    left, singular, right = np.linalg.svd(scaled[:n_train], full_matrices=False)
    along = left.T @ (targets - targets.mean())
    predicted = [
        scaled[n_train:] @ (right.T @ (singular / (singular**2 + penalty) * along)) + targets.mean()
        for penalty in PENALTIES
    ]
    errors = [np.abs(values[:n_val] - truth).mean() for values in predicted]
    print(f"penalty {PENALTIES[int(np.argmin(errors))]:.3g}: validation MAE {min(errors):.4g}")
    return predicted[int(np.argmin(errors))]


if __name__ == "__main__":
    main()
