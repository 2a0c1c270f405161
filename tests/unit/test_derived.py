"""Young's modulus, Poisson's and Pugh's ratio follow from K and G, with their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from potnet.sheet.derived import Interval, poisson_ratio, pugh_ratio, young_modulus

DERIVED = [young_modulus, poisson_ratio, pugh_ratio]


@pytest.mark.parametrize(
    ("name", "bulk", "shear", "young", "poisson"),
    [("steel", 160, 79.3, 204.2, 0.287), ("aluminium", 76, 26, 70.0, 0.347)]
    + [("diamond", 443, 535, 1144, 0.069)],
)
def test_textbook_solids_have_the_ratios_of_textbooks(
    name: str, bulk: float, shear: float, young: float, poisson: float
) -> None:
    moduli = Interval(bulk), Interval(shear)
    assert young_modulus(*moduli).value == pytest.approx(young, rel=2e-3)
    assert poisson_ratio(*moduli).value == pytest.approx(poisson, abs=1e-3)
    assert pugh_ratio(*moduli).value == pytest.approx(bulk / shear)


def test_the_three_are_consistent() -> None:
    bulk, shear = Interval(100.0), Interval(40.0)
    young, poisson = young_modulus(bulk, shear).value, poisson_ratio(bulk, shear).value
    assert young == pytest.approx(2 * shear.value * (1 + poisson))
    assert young == pytest.approx(3 * bulk.value * (1 - 2 * poisson))


@pytest.mark.parametrize("derived", DERIVED)
def test_small_errors_cover_as_often_as_those_of_the_moduli(derived) -> None:
    rng = np.random.default_rng(0)
    true_bulk, true_shear, sigma = 120.0, 50.0, 0.04
    z = 1.6449  # 90 % of a normal distribution
    inside = 0
    truth = derived(Interval(true_bulk), Interval(true_shear)).value
    for a, b in np.exp(sigma * rng.normal(size=(4_000, 2))):
        ends = [
            Interval(m, m * math.exp(-z * sigma), m * math.exp(z * sigma))
            for m in (true_bulk * a, true_shear * b)
        ]
        found = derived(*ends)
        inside += found.lower <= truth <= found.upper
    assert inside / 4_000 == pytest.approx(0.9, abs=0.015)


@pytest.mark.parametrize("derived", DERIVED)
def test_wide_intervals_stay_within_what_is_possible(derived) -> None:
    found = derived(Interval(50.0, 0.0, 400.0), Interval(30.0, -5.0, 300.0))
    assert found.lower <= found.value <= found.upper
    low, high = {poisson_ratio: (-1, 0.5)}.get(derived, (0, math.inf))
    assert low <= found.lower
    assert found.upper <= high


@pytest.mark.parametrize("derived", DERIVED)
def test_without_intervals_or_moduli_there_is_nan(derived) -> None:
    found = derived(Interval(50.0, 40.0, 60.0), Interval(30.0))
    assert found.value > 0
    assert math.isnan(found.lower)
    assert math.isnan(found.upper)
    assert all(map(math.isnan, derived(Interval(0.0, 0.0, 1.0), Interval(30.0, 20.0, 40.0))))
