"""Every potential against term-by-term sums and the oracle, on ordinary and on nasty cells."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle import brute_force_sum, power_sum

from latticesums import (
    Buckingham,
    Coulomb,
    Exponential,
    Gaussian,
    InversePower,
    LennardJones,
    London,
    Morse,
    Pauli,
    Potential,
    Shell,
    Yukawa,
    pair_sums,
)

SKEWED = np.array([[3.1, 0.2, -0.3], [1.4, 3.9, 0.5], [-0.8, 1.1, 4.6]])
CELLS = {
    "ordinary": SKEWED,
    "left-handed": SKEWED[[1, 0, 2]],
    "20 degrees": np.array([[3.0, 0.0, 0.0], [2.82, 1.03, 0.0], [0.3, 0.6, 3.0]]),
    "flat": np.diag([9.0, 9.0, 0.9]),
    "elongated": np.diag([2.0, 2.0, 16.0]),
    "far basis": np.array([[3.0, 0, 0], [0, 3.0, 0], [12.0, 12.0, 3.0]]),
}
#: Pair vectors in the basis of the cell: an own image, and one nearly half a cell away.
PLACES = ((0.0, 0.0, 0.0), (0.48, 1.31, -0.27))


@cache
def powers() -> dict:
    """Return sums by the oracle, written by scripts/make_power_sums.py."""
    return json.loads((Path(__file__).parent / "power_sums.json").read_text())


def power(name: str, place: tuple[float, ...], exponent: float) -> float:
    return powers()[name][f"{exponent:g}"][PLACES.index(place)]


def oracle(potential: Potential, name: str, place: tuple[float, ...]) -> float:
    """Return the sum of a potential by its definition, without the formulas of the package."""

    def brute(function, radius):
        return brute_force_sum(CELLS[name], np.array(place) @ CELLS[name], function, radius)

    match potential:
        case InversePower():
            return power(name, place, potential.exponent)
        case Exponential(rate):
            return brute(lambda r: np.exp(-rate * r), 38 / rate)
        case Yukawa(rate):
            return brute(lambda r: np.exp(-rate * r) / r, 36 / rate)
        case Gaussian(width):
            return brute(lambda r: np.exp(-((r / width) ** 2)), max(6.5 * width, 16))
        case LennardJones(epsilon, sigma):
            twelve, six = (power(name, place, p) * sigma**p for p in (12, 6))
            return 4 * epsilon * (twelve - six)
        case Morse(depth, a, r0):
            return brute(lambda r: depth * ((1 - np.exp(-a * (r - r0))) ** 2 - 1), 40 / a)
        case Buckingham(A, B, C):
            return brute(lambda r: A * np.exp(-B * r), 40 / B) - C * power(name, place, 6)
    return 2 * power(name, place, 1) - 3 * oracle(Yukawa(0.9), name, place)


POTENTIALS = (
    Gaussian(0.4),
    Gaussian(1.5),
    Gaussian(4.0),
    Exponential(1.1),
    Yukawa(0.9),
    InversePower(2.5),
    InversePower(4.0001),
    InversePower(5.0001),
    InversePower(7),
    LennardJones(0.4, 1.1),
    Morse(0.7, 1.6, 1.3),
    Buckingham(120.0, 2.9, 9.0),
    2 * Coulomb() - 3 * Yukawa(0.9),
)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("tolerance", [1e-3, 1e-9])
def test_every_potential_keeps_its_bound_on_every_cell(name, tolerance):
    cell = torch.tensor(CELLS[name])
    positions = torch.tensor(np.array(PLACES)) @ cell
    sums = pair_sums(positions, cell, POTENTIALS, tolerance=tolerance)
    assert (sums.error_bound <= tolerance).all()
    for q, potential in enumerate(POTENTIALS):
        for value, place in zip(sums.values[:2, q].tolist(), PLACES, strict=True):
            expected = oracle(potential, name, place)
            rounding = 1e-13 * max(abs(expected), 1)
            assert abs(value - expected) <= sums.error_bound[q] + rounding, potential.name


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("tolerance", [1e-3, 1e-8])
def test_relative_tolerances_are_kept_for_each_value(name, tolerance):
    cell = torch.tensor(CELLS[name])
    positions = torch.tensor(np.array(PLACES)) @ cell
    chosen = (Coulomb(), *POTENTIALS)
    sums = pair_sums(positions, cell, chosen, tolerance=tolerance, relative=True)
    assert (sums.error_bound <= tolerance).all()
    for q, potential in enumerate(chosen):
        for value, place in zip(sums.values[:2, q].tolist(), PLACES, strict=True):
            expected = oracle(potential, name, place)
            assert value == pytest.approx(expected, rel=tolerance, abs=0), potential.name


EXPONENTS = (1e-3, 0.05, 1.5, 1.999, 2.0001, 2.9999, 3.0001, 4.99999, 5, 9.01, 21, 30, 31, 60)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_every_power_but_three_has_a_sum(exponent):
    places = np.array(PLACES) @ SKEWED
    sums = pair_sums(
        torch.tensor(places), torch.tensor(SKEWED), [InversePower(exponent)], tolerance=1e-9
    )
    for value, place, vector in zip(sums.values[:2, 0].tolist(), PLACES, places, strict=True):
        if exponent <= 30:
            expected = power("ordinary", place, exponent)
        else:
            expected = brute_force_sum(SKEWED, vector, lambda r: r**-exponent, 30.0)
        assert abs(value - expected) <= sums.error_bound[0] + 1e-13 * abs(expected)


def test_the_stored_powers_are_those_of_the_oracle():
    for name, exponent in (("ordinary", 5), ("20 degrees", 2.5)):
        for place in PLACES:
            exact = power_sum(CELLS[name], np.array(place) @ CELLS[name], exponent, digits=12)
            assert power(name, place, exponent) == pytest.approx(float(exact), rel=1e-11)


def test_tiny_values_have_relative_accuracy_beside_large_ones():
    cell = torch.eye(3, dtype=torch.float64) * 60
    positions = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [30.0, 29, 31]], dtype=torch.float64)
    chosen = (Pauli(), London(), Gaussian(3.0))
    values = pair_sums(positions, cell, chosen, tolerance=1e-9, relative=True).values
    for row, vector in ((1, positions[1]), (2, positions[2]), (8, 0 * positions[2])):
        for q, v in enumerate((lambda r: np.exp(-3 * r), None, lambda r: np.exp(-((r / 3) ** 2)))):
            if v is not None:
                expected = brute_force_sum(cell.numpy(), vector.numpy(), v, 75.0)
                assert values[row, q].item() == pytest.approx(expected, rel=1e-9, abs=0)
    assert values[2, 0] < 1e-60 < 1e-2 < values[1, 0]


def test_own_images_are_left_out_of_combinations_too():
    far = torch.eye(3, dtype=torch.float64) * 40
    one = torch.zeros(1, 3, dtype=torch.float64)
    potential = 5 * Pauli() + Gaussian(1.0) - 2 * London() + Morse(1.0, 2.0, 1.0)
    assert abs(pair_sums(one, far, [potential], tolerance=1e-6).values.item()) < 2e-6


def test_combinations_share_their_terms_and_add_up_exactly():
    cell = torch.tensor(SKEWED)
    positions = torch.tensor(np.array(PLACES)) @ cell
    shell = Shell(2.0, 0.5, 5.0)
    terms = (Coulomb(), London(), Pauli(), shell)
    combined = (Coulomb() - London(), 3 * Pauli() + 2 * (shell - Coulomb()), London())
    apart = pair_sums(positions, cell, terms, tolerance=1e-10).values
    together = pair_sums(positions, cell, combined, tolerance=1e-10)
    c, v, e, s = apart.unbind(1)
    expected = torch.stack([c - v, 3 * e + 2 * (s - c), v], 1)
    assert (together.values - expected).abs().max() < 1e-9
    assert (together.error_bound <= 1e-10).all()


def test_a_large_coefficient_gets_a_smaller_tolerance():
    cell = torch.tensor(CELLS["elongated"])
    positions = torch.tensor(np.array(PLACES)) @ cell
    sums = pair_sums(positions, cell, [1e5 * London(), 1e-5 * London()], tolerance=1e-6)
    exact = power("elongated", PLACES[1], 6)
    assert sums.values[1, 0].item() == pytest.approx(1e5 * exact, abs=1e-6)
    assert sums.values[1, 1].item() == pytest.approx(1e-5 * exact, abs=1e-6)
    assert (sums.error_bound <= 1e-6).all()
