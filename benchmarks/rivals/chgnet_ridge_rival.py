"""Kernel ridge on what CHGNet (Deng et al. 2023) knows of the atoms, for potnet benchmark.

CHGNet comes with weights that have learned energies, forces, stresses and magnetic moments of the
relaxations of the Materials Project. The features of a crystal are mean, standard deviation, least
and largest value over its atoms of each of the 64 numbers that describe an atom before the last
convolution, and the energy per atom. The kernel is Gaussian, or linear by the setting ``kernel``;
its width and the weight of the penalty are the best on validation. There is nothing to train
longer: it takes no budget. Its seconds are those of CHGNet and of the regression.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from chgnet.model import CHGNet
from common import answer, read_order, set_up
from pymatgen.core import Structure

PENALTIES = 10.0 ** np.arange(-6, 1)
WIDTHS = (0.1, 0.25, 0.5, 1.0, 2.0)  # of the Gaussian, squared, in medians of the distances


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
    values = ridge(table, known, n_train, n_val, order.settings.get("kernel", "gaussian"))
    seconds = clock() - start
    answer(order, values, n_parameters=n_train + 1, seconds=seconds, preparation=preparation)


def features_of(crystal: dict[str, np.ndarray]) -> np.ndarray:
    atoms = crystal["atom_fea"]
    parts = (atoms.mean(0), atoms.std(0), atoms.min(0), atoms.max(0), [float(crystal["e"])])
    return np.concatenate(parts).astype(np.float64)


def scaled_by(table: np.ndarray, n_train: int) -> np.ndarray:
    """Return the columns with mean 0 and spread 1 over the training rows."""
    spread = table[:n_train].std(0)
    return (table - table[:n_train].mean(0)) / np.where(spread > 1e-9, spread, 1.0)


def kernels(scaled: np.ndarray, n_train: int, kind: str) -> Iterator[np.ndarray]:
    """Yield the kernels to choose from, each of all rows with the training rows."""
    products = scaled @ scaled[:n_train].T
    if kind == "linear":
        yield products
        return
    squares = (scaled**2).sum(1)
    distances = np.maximum(squares[:, None] + squares[:n_train] - 2 * products, 0)
    middle = np.median(distances[:n_train])
    for width in WIDTHS:
        yield np.exp(-distances / (2 * width * middle))


def ridge(table: np.ndarray, known: np.ndarray, n_train: int, n_val: int, kind: str) -> np.ndarray:
    """Return predictions for all rows after the training rows, by the best on validation."""
    mean = known[:n_train].mean()
    least, kept = np.inf, np.empty(0)
    for kernel in kernels(scaled_by(table, n_train), n_train, kind):
        values, vectors = np.linalg.eigh(kernel[:n_train])
        along = vectors.T @ (known[:n_train] - mean)
        for penalty in PENALTIES * (values[-1] if kind == "linear" else 1.0):
            weights = vectors @ (along / (values.clip(0) + penalty))
            predicted = kernel[n_train:] @ weights + mean
            error = np.abs(predicted[:n_val] - known[n_train:]).mean()
            if error < least:
                least, kept = error, predicted
    print(f"validation MAE {least:.4g}")
    return kept


if __name__ == "__main__":
    main()
