"""Every network gives one crystal one answer, however the crystal is written down."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potnet.crystal import Crystal
from potnet.models import registry
from potnet.testing import WRITINGS, check_network, crystals

CRYSTALS = crystals()
CONVENTIONAL = {"rock salt": [[-1, 1, 1], [1, -1, 1], [1, 1, -1]]}
CONVENTIONAL["copper"] = CONVENTIONAL["rock salt"]
NETWORKS = {
    **{name: (name, {}) for name in registry.networks()},
    "completenet without directions": ("completenet", {"features": {"degree": 0}}),
    "completenet with tensors": ("completenet", {"features": {"degree": 2}}),
    "completenet without shells": ("completenet", {"features": {"n_shells": 0, "degree": 0}}),
    "completenet per formula": ("completenet", {"per_formula": True}),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """Return a network with random weights and normalisation statistics that are not trivial."""
    torch.manual_seed(0)
    network = registry.build(*NETWORKS[request.param]).train()
    batch = network.features(list(CRYSTALS.values()))
    with torch.no_grad():
        for _ in range(20):
            network(batch)
    return network.eval()


def predict(network, crystals) -> np.ndarray:
    with torch.inference_mode():
        return network(network.features(crystals))[:, 0].double().numpy()


def test_the_network_keeps_to_its_contract(network):
    check_network(network)


@pytest.mark.parametrize("name", CONVENTIONAL)
def test_primitive_and_conventional_cell_agree(network, name):
    conventional = CRYSTALS[name].supercell(CONVENTIONAL[name])
    assert conventional.n_atoms == 4 * CRYSTALS[name].n_atoms
    primitive, other = predict(network, [CRYSTALS[name], conventional])
    assert abs(primitive - other) < 1e-5


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_all_changes_at_once_leave_a_random_crystal_the_same(network, seed):
    crystal = random_crystal(seed)
    changed = crystal
    for change in reversed(WRITINGS):
        changed = change(changed, seed)
    one, other = predict(network, [crystal, changed])
    assert abs(one - other) < 1e-5


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_an_atom_is_described_the_same_in_all_ways_to_write_a_crystal(seed):
    torch.manual_seed(0)
    network = registry.build("completenet", {"width": 16}).eval()
    crystal = random_crystal(seed)
    changed = crystal
    for change in reversed(WRITINGS):
        changed = change(changed, seed)
    with torch.inference_mode():
        one, other = (
            network.embedding_of_atoms(network.features.each_atom([c])).double().numpy()
            for c in (crystal, changed)
        )
    distance = np.abs(other[:, None] - one).max(-1)
    same = (distance < 1e-4) & (changed.numbers[:, None] == crystal.numbers)
    assert same.any(1).all()
    assert (same.sum(0) >= len(other) // len(one)).all()  # each atom and its copies


def random_crystal(seed: int) -> Crystal:
    """Return one to four atoms without symmetry, about 1 Å or more apart."""
    rng = np.random.default_rng(seed)
    corners = rng.permutation(np.indices((2, 2, 2)).reshape(3, -1).T)[: rng.integers(1, 5)]
    scaled = (corners + rng.uniform(0, 0.5, corners.shape)) / 2
    cell = 4.5 * np.eye(3) + rng.uniform(-0.7, 0.7, (3, 3))
    return Crystal(rng.integers(1, 90, len(scaled)), scaled @ cell, cell)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_prediction_is_the_same_on_a_gpu(network):
    crystals = list(CRYSTALS.values())
    expected = predict(network, crystals)
    batch = network.features(crystals).to("cuda")
    try:
        with torch.inference_mode():
            found = network.to("cuda")(batch)[:, 0].double().cpu().numpy()
    finally:
        network.to("cpu")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_features_for_one_reading_give_the_same_results():
    torch.manual_seed(0)
    network = registry.build("completenet").eval()
    many = CRYSTALS["perovskite"].supercell([1, 1, 2])
    moved = many.positions + np.eye(10, 3) * [0.1, 0, 0]  # One atom: no longer five.
    crystals = [*CRYSTALS.values(), many.replace(positions=moved)]
    often, once = network.features(crystals), network.features.once(crystals)
    assert len(once.numbers) > len(often.numbers)
    assert (
        once.node_counts[-1] == often.node_counts[-1] < 10
    )  # Of many atoms the equivalent ones are found.
    with torch.no_grad():
        torch.testing.assert_close(network(once), network(often), rtol=0, atol=2e-6)
