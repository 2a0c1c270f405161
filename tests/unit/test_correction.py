"""The slope and the shifts by element that a model begins to go on with."""

import numpy as np
import pytest
import torch

from potnet.models import registry
from potnet.training.correction import Correction

ELEMENTS = [3, 8, 12, 16, 26]


def made_up(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs and shares of elements."""
    rng = np.random.default_rng(seed)
    shares = np.zeros((n, 119))
    shares[:, ELEMENTS] = rng.dirichlet(np.full(len(ELEMENTS), 0.5), n)
    return rng.standard_normal(n), shares


def test_a_slope_and_shifts_of_elements_are_found():
    outputs, shares = made_up(300, 0)
    shifts = np.zeros(119)
    shifts[ELEMENTS] = [1.0, -2.0, 0.5, 0.0, 3.0]
    targets = 1.3 * outputs + shares @ shifts
    found = Correction.fit(outputs, targets, shares)
    assert found.slope == pytest.approx(1.3, abs=0.01)
    np.testing.assert_allclose(found.of(outputs, shares), targets, atol=0.05)
    again = Correction.fit(outputs, targets, shares, weights=np.full(300, 2.0))
    np.testing.assert_allclose(again.of(outputs, shares), targets, atol=0.05)


def test_of_noise_nothing_is_corrected():
    outputs, shares = made_up(40, 1)
    targets = outputs + np.random.default_rng(2).standard_normal(40)
    targets -= (targets - outputs).mean()
    found = Correction.fit(outputs, targets, shares)
    assert np.abs(found.of(outputs, shares) - outputs).max() < 0.5


def test_what_the_others_make_of_a_crystal_does_not_know_it():
    outputs, shares = made_up(30, 3)
    targets = 0.8 * outputs + shares[:, 8] + 0.1 * np.random.default_rng(4).standard_normal(30)
    found = Correction.fit(outputs, targets, shares)
    moved = targets.copy()
    moved[7] += 1e-3
    again = Correction.fit(outputs, moved, shares)
    assert again.others[7] == pytest.approx(found.others[7], abs=1e-9)
    assert again.others[3] != found.others[3]


@pytest.mark.parametrize("per_formula", [False, True])
def test_the_network_says_then_what_the_correction_says(salts, per_formula):
    settings = {"width": 16, "n_layers": 1, "per_formula": per_formula}
    network = registry.build("completenet", settings, 2).eval()
    batch = network.features(salts)
    shares = np.stack([np.bincount(c.numbers, minlength=119) / c.n_atoms for c in salts])
    rng = np.random.default_rng(0)
    correction = Correction(1.7, rng.standard_normal(119), np.empty(0))
    with torch.inference_mode():
        before = network(batch).double().numpy()
        correction.apply(network, network.references, 1)
        after = network(batch).double().numpy()
    np.testing.assert_array_equal(after[:, 0], before[:, 0])
    np.testing.assert_allclose(
        after[:, 1], correction.of(before[:, 1], shares), rtol=1e-4, atol=1e-5
    )
