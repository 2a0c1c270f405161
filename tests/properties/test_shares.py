"""Reasons are those of the crystal, not of the way in which it is written down."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potnet.crystal import Crystal
from potnet.explanation import Explainer
from potnet.models import registry
from potnet.models.card import DataCard, ModelCard, TargetCard
from potnet.prediction import Predictor
from potnet.testing import WRITINGS


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    """Explain a network with random weights."""
    torch.manual_seed(0)
    network = registry.build("completenet", {"width": 16, "vectors": 8, "n_layers": 2})
    card = ModelCard(
        network=network.name,
        settings=network.settings.model_dump(mode="json"),
        targets=(TargetCard(name="energy", unit="eV/atom"),),
        data=DataCard(
            name="none", n_train=1, elements=("O",), max_atoms=9, volume_per_atom=(1.0, 99.0)
        ),
    )
    return Explainer(Predictor([network], card), n_known=0)


def random_crystal(seed: int) -> Crystal:
    """Return two or three atoms without symmetry, 1 Å or more apart."""
    rng = np.random.default_rng(seed)
    corners = rng.permutation(np.indices((2, 2, 2)).reshape(3, -1).T)[: rng.integers(2, 4)]
    scaled = (corners + rng.uniform(0, 0.5, corners.shape)) / 2
    cell = 4.5 * np.eye(3) + rng.uniform(-0.7, 0.7, (3, 3))
    return Crystal(rng.integers(1, 90, len(scaled)), scaled @ cell, cell)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_all_changes_at_once_leave_the_shares_as_they_are(explainer, seed):
    crystal = random_crystal(seed)
    changed = crystal
    for change in reversed(WRITINGS):
        changed = change(changed, seed)
    (one,), (other,) = explainer.explain(crystal), explainer.explain(changed)
    for found in (one, other):
        parts = found.composition + found.surroundings + found.combination + found.residual
        assert parts == pytest.approx(found.total, abs=1e-12)
        assert found.by_channel.sum() == pytest.approx(found.by_atom.sum(), abs=1e-12)
    np.testing.assert_allclose(other.by_channel, one.by_channel, rtol=0, atol=1e-5)
    assert other.by_element == pytest.approx(one.by_element, abs=1e-5)
    assert other.by_element_pair == pytest.approx(one.by_element_pair, abs=1e-5)
    n_copies = other.n_atoms // one.n_atoms
    of_one = np.repeat(np.sort(one.by_atom.sum(1)), n_copies) / n_copies
    np.testing.assert_allclose(np.sort(other.by_atom.sum(1)), of_one, rtol=0, atol=1e-5)
