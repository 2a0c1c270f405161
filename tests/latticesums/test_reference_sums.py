"""The sums against 30-digit references, Madelung constants, brute force and the oracle."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle import brute_force_sum, exponential_sum, power_sum

from latticesums import (
    Coulomb,
    Exponential,
    InversePower,
    London,
    Pauli,
    Potential,
    Shell,
    Yukawa,
    differentiable,
)
from latticesums.errors import ConfigError

HERE = Path(__file__).parent
THREE = (Coulomb(), London(), Pauli())
SKEWED = np.array([[3.1, 0.2, -0.3], [1.4, 3.9, 0.5], [-0.8, 1.1, 4.6]])
VECTORS = (np.zeros(3), np.array([0.9, -0.4, 1.7]))


def load_cells() -> list[dict]:
    return list(json.loads((HERE / "lattice_sums.json").read_text())["cells"].values())


def evaluate(crystals, potentials, tolerance, **options):
    """Return the values of each crystal, (n, n, q), and the error bound, by the torch path."""
    positions = torch.tensor(np.concatenate([c["positions"] for c in crystals]).astype(float))
    cells = torch.tensor(np.array([c["cell"] for c in crystals], dtype=float))
    n_atoms = np.array([len(c["positions"]) for c in crystals])
    values, bound = differentiable.evaluate(
        positions, cells, n_atoms, potentials, tolerance, **options
    )
    parts = np.split(values.numpy(), np.cumsum(n_atoms**2)[:-1])
    return [v.reshape(n, n, -1) for v, n in zip(parts, n_atoms, strict=True)], bound.amax(0).numpy()


def sums_of(cell, positions, potentials: tuple[Potential, ...], tolerance=1e-11):
    (values,), _ = evaluate([{"cell": cell, "positions": positions}], potentials, tolerance)
    return values


def largest_errors(crystals, values):
    pairs = [(c["pairs"], v) for c, v in zip(crystals, values, strict=True)]
    return np.max([np.abs(v[p[0], p[1]] - p[2:5]) for ps, v in pairs for p in ps], axis=0)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6, 1e-8, 1e-9, 1e-10])
def test_every_reference_sum_is_within_its_bound_and_the_tolerance(tolerance):
    crystals = load_cells()
    values, bound = evaluate(crystals, THREE, tolerance)
    assert (largest_errors(crystals, values) <= bound).all()
    assert (bound <= tolerance).all()


def test_tighter_tolerances_are_kept_or_refused():
    kept = 0
    for crystal in load_cells():
        try:
            values, bound = evaluate([crystal], THREE, 1e-12)
        except ConfigError as error:
            assert "kept in float64" in str(error)  # noqa: PT017
            continue
        kept += 1
        assert (largest_errors([crystal], values) <= bound).all()
    assert kept > 250


@pytest.mark.parametrize(("tolerance", "least"), [(1e-5, 60), (1e-3, 90)])
def test_single_precision_keeps_its_bound_or_refuses(tolerance, least):
    kept = 0
    for crystal in load_cells()[::3]:
        try:
            values, bound = evaluate([crystal], THREE, tolerance, dtype=torch.float32)
        except ConfigError as error:
            assert "kept in float32" in str(error)  # noqa: PT017
            continue
        kept += 1
        assert (largest_errors([crystal], values) <= bound).all()
        assert (bound <= tolerance).all()
    assert kept > least


def test_benchmark_crystals_keep_twelve_digits():
    crystals = load_cells()[:9]
    values, bound = evaluate(crystals, THREE, 1e-12)
    assert (largest_errors(crystals, values) <= bound).all()
    assert (bound <= 1e-12).all()


FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
MADELUNG = {  # per formula unit and nearest distance; CaF2 is 4 ZnS - (sqrt(3)/2) NaCl
    "NaCl": (FCC, [[0, 0, 0], [0.5, 0.5, 0.5]], [1, -1], 0.5, 1.747564594633182),
    "CsCl": (np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], [1, -1], 3**0.5 / 2, 1.762674773070988),
    "ZnS": (FCC, [[0, 0, 0], [0.25, 0.25, 0.25]], [1, -1], 3**0.5 / 4, 1.638055053388789),
    "CaF2": (
        FCC,
        [[0, 0, 0], [0.25, 0.25, 0.25], [0.75, 0.75, 0.75]],
        [2, -1, -1],
        3**0.5 / 4,
        5.038784879848566,
    ),
}


@pytest.mark.parametrize("name", MADELUNG)
def test_madelung_constants_have_twelve_digits(name):
    cell, positions, charges, nearest, constant = MADELUNG[name]
    scale = 4.0
    values = sums_of(scale * cell, scale * np.array(positions), (Coulomb(),), 1e-12)[..., 0]
    energy = 0.5 * np.array(charges) @ values @ np.array(charges)
    assert -energy * nearest * scale == pytest.approx(constant, rel=3e-13)


def test_published_sums_agree_with_their_definition():
    structures = json.loads((HERE / "published_sums.json").read_text())["structures"]
    for s in structures.values():
        cell = np.array(s["lattice"])
        gamma = abs(np.linalg.det(cell)) ** (1 / 3)
        potentials = (*THREE, Exponential(3 / gamma**0.5))
        values = sums_of(cell, np.array(s["frac"]) @ cell, potentials, 1e-10)
        for i, j, coulomb, london, pauli, pauli_as_coded in s["pairs"]:
            own = float(i == j)  # the published sums count the own image of an exponential
            expected = (coulomb, london, pauli - own, pauli_as_coded - own)
            assert np.abs(values[i, j] - expected).max() < 1.1e-10


@pytest.mark.parametrize("exponent", [0.5, 1, 2, 2.5, 4, 4.7, 5, 6, 7, 7.5, 9, 12])
def test_powers_agree_with_the_oracle(exponent):
    values = sums_of(SKEWED, np.stack(VECTORS), (InversePower(exponent),), 1e-10)[..., 0]
    for vector, value in zip(VECTORS, values[0], strict=True):
        assert abs(value - float(power_sum(SKEWED, vector, exponent, digits=14))) < 1e-10


@pytest.mark.parametrize(("rate", "scale"), [(0.6, 0.5), (1.0, 0.7), (3.0, 1.5), (8.0, 1.0)])
def test_exponentials_agree_with_brute_force(rate, scale):
    cell = scale * SKEWED
    values = sums_of(cell, np.stack(VECTORS), (Exponential(rate),), 1e-10)[0, :, 0]
    for vector, value in zip(VECTORS, values, strict=True):
        expected = brute_force_sum(cell, vector, lambda r: np.exp(-rate * r), 40 / rate)
        assert abs(value - expected) < 1e-10


@pytest.mark.parametrize(("rate", "scale"), [(0.6, 0.5), (1.0, 0.7), (3.0, 1.5), (8.0, 1.0)])
def test_screened_charges_agree_with_brute_force(rate, scale):
    cell = scale * SKEWED
    values = sums_of(cell, np.stack(VECTORS), (Yukawa(rate),), 1e-10)[0, :, 0]
    for vector, value in zip(VECTORS, values, strict=True):
        expected = brute_force_sum(cell, vector, lambda r: np.exp(-rate * r) / r, 40 / rate)
        assert abs(value - expected) < 1e-10


def test_brute_force_agrees_with_high_precision():
    for vector in VECTORS:
        expected = float(exponential_sum(SKEWED, vector, 3.0, digits=16))
        found = brute_force_sum(SKEWED, vector, lambda r: np.exp(-3 * r), 13.0)
        assert found == pytest.approx(expected, abs=1e-14)


def test_dispersion_agrees_with_brute_force():
    values = sums_of(SKEWED, np.stack(VECTORS), (InversePower(12), London()), 1e-11)
    for vector, (twelve, six) in zip(VECTORS, values[0], strict=True):
        assert twelve == pytest.approx(
            brute_force_sum(SKEWED, vector, lambda r: r**-12.0, 60.0), abs=1e-12
        )
        radius = 90.0
        tail = 4 * np.pi / (3 * np.linalg.det(SKEWED) * radius**3)
        expected = brute_force_sum(SKEWED, vector, lambda r: r**-6.0, radius) + tail
        assert six == pytest.approx(expected, abs=1e-9)


def test_shells_are_exact():
    shell = Shell(2.5, 0.7, 6.0)

    def kernel(r):
        return np.exp(-(((r - 2.5) / 0.7) ** 2)) * (1 - (r / 6.0) ** 2) ** 3

    values = sums_of(SKEWED, np.stack(VECTORS), (shell,))[..., 0]
    for vector, value in zip(VECTORS, values[0], strict=True):
        assert value == pytest.approx(brute_force_sum(SKEWED, vector, kernel, 6.0), abs=1e-13)
