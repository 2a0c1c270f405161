"""What is promised of the sums, error <= bound <= tolerance, holds on nasty cells.

The cases and the evaluation to compare with are those of ``benchmarks/certificate.py``, which says
what is checked and how; here are a few of each kind.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from latticesums import Coulomb, InversePower, London, pair_sums

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def certificate():
    pytest.importorskip("scipy")
    path = ROOT / "benchmarks" / "certificate.py"
    spec = importlib.util.spec_from_file_location("certificate", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["certificate"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_nasty_cells_keep_the_certificate(certificate):
    tally = certificate.run(range(2 * len(certificate.CELLS)))
    assert tally.violations == []
    assert len(tally.cases) == len(certificate.CELLS)
    assert sum(tally.sums.values()) > 3000
    assert tally.refused["compiled", "atoms on one spot"] == tally.cases["coincident images"]


def test_a_nearly_singular_basis_takes_no_digits_of_the_volume(certificate):
    tally = certificate.run([463, 539])
    assert tally.violations == []


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_thousand_more_nasty_cells_keep_it(certificate):
    tally = certificate.run(range(100_000, 101_000))
    assert tally.violations == []


def test_the_recorded_check_of_tens_of_thousands_of_sums_found_nothing(certificate):
    recorded = json.loads(certificate.RESULT.read_text(encoding="utf-8"))
    assert recorded["violations"] == []
    assert set(recorded["cells"]) == set(certificate.CELLS)
    assert min(recorded["cells"].values()) >= 10
    assert sum(recorded["sums"].values()) >= 60_000
    ways = {"compiled", "differentiable", "float32", "relative", "directed", "by"}
    assert {name.split()[0] for name in recorded["sums"]} == ways
    assert max(recorded["largest_error_over_bound"].values()) <= 1


@pytest.mark.parametrize("kind", ["3 x 3 x 30", "20 degrees", "slab", "wire"])
def test_the_evaluation_to_compare_with_does_not_depend_on_its_split(certificate, kind):
    seed = list(certificate.CELLS).index(kind)
    case = certificate.make_case(seed)
    cell = case.cell[: case.n_periodic]
    exact = case.positions.astype(np.longdouble)
    for potential in (Coulomb(), InversePower(2.6), InversePower(5), London()):
        totals, sizes = [], []
        for width in (0.7, 1.0, 1.3):
            reference = certificate.Reference(cell, width)
            vector = reference.vectors((exact[-1] - exact[0])[None])[0]
            total, size = reference.of(potential, vector)
            totals.append(total)
            sizes.append(size)
        assert np.ptp(totals) <= 2 * certificate.REFERENCE_ERROR * max(sizes)


def test_a_wrong_sum_is_found(certificate, monkeypatch):
    honest = pair_sums

    def wrong(*args, **kwargs):
        sums = honest(*args, **kwargs)
        sums.values.detach().add_(3 * sums.error_bound)
        return sums

    monkeypatch.setattr(certificate, "pair_sums", wrong)
    assert certificate.run(range(1)).violations


@pytest.mark.parametrize("path", ["compiled", "differentiable"])
def test_atoms_many_cells_away_keep_the_digits_of_their_phases(path):
    rng = np.random.default_rng(3)
    c = np.cos(np.radians(20))
    s = np.sqrt(1 - c * c)
    x, y = c, c * (1 - c) / s
    cell = 9.5 * np.array([[1, 0, 0], [c, s, 0], [x, y, np.sqrt(1 - x * x - y * y)]])
    near = rng.random((3, 3)) @ cell
    far = near + rng.integers(-20, 21, (3, 3)) @ cell  # off by 3e-14 Å or so
    values = [
        pair_sums(
            torch.tensor(x, requires_grad=path == "differentiable"),
            torch.tensor(cell),
            ["coulomb"],
            tolerance=2e-12,
        ).values.detach()
        for x in (near, far)
    ]
    assert (values[1] - values[0]).abs().max() < 3e-13
