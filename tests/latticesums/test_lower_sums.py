"""Sums over slabs and wires against mpmath, brute force and closed forms."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle import brute_force_sum, lower_power_sum

from latticesums import (
    Coulomb,
    Exponential,
    Gaussian,
    InversePower,
    LennardJones,
    London,
    Yukawa,
    pair_sums,
)

CELLS = json.loads((Path(__file__).parent / "lower_sums.json").read_text())["cells"]
SKEWED = np.array([[3.1, 0.2, -0.3], [1.4, 3.9, 0.5]])
VECTORS = (np.zeros(3), np.array([0.9, -0.4, 1.7]), np.array([-4.0, 2.5, 9.0]))


def sums_of(cells, potentials, tolerance):
    """Return sums of the own pair and the pair of each reference cell, and the bound."""
    full = np.zeros((len(cells), 3, 3))
    pbc = np.zeros((len(cells), 3), dtype=bool)
    for k, entry in enumerate(cells):
        d = len(entry["cell"])
        full[k, :d], pbc[k, :d] = entry["cell"], True
    pairs = np.array([[p["vector"] for p in entry["pairs"]] for entry in cells])
    sums = pair_sums(
        torch.tensor(pairs).view(-1, 3),
        torch.tensor(full),
        potentials,
        tolerance=tolerance,
        graph_index=torch.arange(len(cells)).repeat_interleave(2),
        pbc=pbc,
    )
    return sums.values.view(len(cells), 4, -1)[:, :2].numpy(), sums.error_bound.numpy()


@pytest.mark.parametrize("tolerance", [1e-2, 1e-5, 1e-8, 1e-10])
def test_every_reference_sum_is_within_its_bound_and_the_tolerance(tolerance):
    exponents = sorted({p for entry in CELLS for p in entry["exponents"]})
    for exponent in exponents:
        cells = [entry for entry in CELLS if exponent in entry["exponents"]]
        expected = [
            [p["sums"][entry["exponents"].index(exponent)] for p in entry["pairs"]]
            for entry in cells
        ]
        # a fiftieth of it is for rounding; the sum of r^-12 is 1e7 where atoms are 0.25 Å apart
        kept = max(tolerance, 5e-13 * np.abs(expected).max())
        values, bound = sums_of(cells, [InversePower(exponent)], kept)
        assert np.abs(values[..., 0] - expected).max() <= bound[0] <= kept


def test_together_they_are_summed_as_well_as_alone():
    expected = np.array([[p["sums"][:2] for p in entry["pairs"]] for entry in CELLS])
    potentials = [Coulomb(), London(), Yukawa(0.3), Gaussian(1.4)]
    values, bound = sums_of(CELLS, potentials, 1e-10)
    assert (np.abs(values[..., :2] - expected).max((0, 1)) <= bound[:2]).all()


def test_ordinary_cells_keep_twelve_digits():
    vectors = [(*c["cell"], c["pairs"][1]["vector"]) for c in CELLS]
    easy = [np.linalg.norm(v, axis=1).min() > 2 for v in vectors]
    for entry in np.array(CELLS)[easy][::6]:
        values, bound = sums_of([entry], [Coulomb(), London()], 1e-12)
        expected = [p["sums"][:2] for p in entry["pairs"]]
        assert (np.abs(values[0] - expected).max(0) <= bound).all()


@pytest.mark.parametrize("d", [0, 1, 2])
@pytest.mark.parametrize(
    ("potential", "function"),
    [
        (Exponential(0.6), lambda r: np.exp(-0.6 * r)),
        (Exponential(3.0), lambda r: np.exp(-3 * r)),
        (Yukawa(0.5), lambda r: np.exp(-0.5 * r) / r),
        (Gaussian(3.0), lambda r: np.exp(-(r**2) / 9)),
        (InversePower(14), lambda r: r**-14.0),
        (LennardJones(0.3, 2.1), lambda r: 1.2 * ((2.1 / r) ** 12 - (2.1 / r) ** 6)),
    ],
    ids=lambda p: getattr(p, "name", ""),
)
def test_short_sums_agree_with_brute_force(d, potential, function):
    """Also where they are split; what is left out of the sum of r^-6 is below 1e-11."""
    cell = np.eye(3) * 9
    cell[:d] = SKEWED[:d]
    sums = pair_sums(
        torch.tensor(np.stack(VECTORS)),
        torch.tensor(cell),
        [potential],
        tolerance=1e-10,
        pbc=np.arange(3) < d,
    )
    for vector, value in zip(VECTORS, sums.values[:3, 0].tolist(), strict=True):
        r = 700.0 if potential == LennardJones(0.3, 2.1) else 90.0
        assert value == pytest.approx(brute_force_sum(cell[:d], vector, function, r), abs=2e-10)


def test_the_sum_of_a_row_is_a_zeta_function():
    mp = pytest.importorskip("mpmath")
    row = [{"cell": [[1.7, 0, 0]], "pairs": [{"vector": [0, 0, 0]}, {"vector": [0.4, 0, 0]}]}]
    for p in (0.4, 1.0, 2.0, 3.0, 3.5, 6.0):
        own, other = sums_of(row, [InversePower(p)], 1e-11)[0][0, :, 0]
        if p == 1:  # finite parts: of zeta, Euler's constant; of Hurwitz's, minus digamma
            x = 0.4 / 1.7
            expected = 2 * np.euler_gamma, -float(mp.digamma(x) + mp.digamma(1 - x))
            shift = 2 * np.log(1.7) / 1.7
        else:
            x = mp.mpf(0.4) / mp.mpf(1.7)
            expected = 2 * float(mp.zeta(p)), float(mp.zeta(p, x) + mp.zeta(p, 1 - x))
            shift = 0
        assert own == pytest.approx(expected[0] * 1.7**-p - shift, abs=1e-11)
        assert other == pytest.approx(expected[1] * 1.7**-p - shift, abs=1e-11)


def test_the_sum_of_a_square_lattice_is_a_product_of_zeta_functions():
    mp = pytest.importorskip("mpmath")
    square = [
        {"cell": [[1, 0, 0], [0, 1, 0]], "pairs": [{"vector": [0, 0, 0]}, {"vector": [0.5, 0, 0]}]}
    ]
    for p in (0.4, 1.0, 3.0, 3.5, 6.0):
        s = mp.mpf(p) / 2
        beta = 4**-s * (mp.zeta(s, mp.mpf(1) / 4) - mp.zeta(s, mp.mpf(3) / 4))
        expected = float(4 * mp.zeta(s) * beta)
        assert sums_of(square, [InversePower(p)], 1e-10)[0][0, 0, 0] == pytest.approx(expected)


def test_the_oracle_agrees_with_plain_sums():
    for d in (1, 2):
        for vector in VECTORS:
            found = float(lower_power_sum(SKEWED[:d], vector, 14.0, digits=14))
            plain = brute_force_sum(SKEWED[:d], vector, lambda r: r**-14.0, 60.0)
            assert found == pytest.approx(plain, rel=1e-12)
