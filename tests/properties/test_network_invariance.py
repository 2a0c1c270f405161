"""Every network gives one crystal one answer, however the crystal is written down."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potnet.crystal import Crystal
from potnet.models import registry

FCC = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
CRYSTALS = {
    "rock salt": Crystal([11, 17], [[0, 0, 0], [2.82, 0, 0]], 2.82 * FCC),
    "copper": Crystal([29], [[0, 0, 0]], 1.805 * FCC),
    "perovskite": Crystal(
        [38, 22, 8, 8, 8],
        1.9525 * np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]]),
        3.905 * np.eye(3),
    ),
    # Rutile, whose coordinates are not all fixed by symmetry.
    "rutile": Crystal(
        [22, 22, 8, 8, 8, 8],
        np.array(
            [
                [0, 0, 0],
                [1, 1, 1],
                [0.61, 0.61, 0],
                [1.39, 1.39, 0],
                [1.61, 0.39, 1],
                [0.39, 1.61, 1],
            ]
        )
        * [2.297, 2.297, 1.4795],
        np.diag([4.594, 4.594, 2.959]),
    ),
    "triclinic": Crystal(
        [6, 8, 1],
        [[0.1, 0.2, 0.3], [1.4, 0.1, 0.5], [0.4, 2.2, 1.9]],
        [[4.1, 0.3, 0.2], [-1.1, 4.9, 0.4], [0.6, -1.7, 5.3]],
    ),
    "layered": Crystal(
        [42, 16, 16],
        [[0, 0, 0], [0, 1.8418, 1.56], [0, 1.8418, -1.56]],
        [[3.19, 0, 0], [-1.595, 2.7626, 0], [0, 0, 25.0]],
    ),
}
UNIMODULAR = ([[1, 2, 0], [0, 1, -3], [0, 0, 1]], [[0, 1, 0], [1, 3, 0], [2, 0, 1]])
CONVENTIONAL = {"rock salt": [[-1, 1, 1], [1, -1, 1], [1, 1, -1]]}
CONVENTIONAL["copper"] = CONVENTIONAL["rock salt"]
NETWORKS = {
    **{name: (name, {}) for name in registry.available()},
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


def rotated(crystal: Crystal, seed: int) -> Crystal:
    """Return the crystal turned at random, for odd seeds mirrored as well."""
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn)) * (-1) ** seed
    return crystal.replace(positions=crystal.positions @ turn, cell=crystal.cell @ turn)


def translated(crystal: Crystal, seed: int) -> Crystal:
    """Return the crystal moved at random, each atom in another image of the cell."""
    rng = np.random.default_rng(seed)
    images = rng.integers(-2, 3, crystal.positions.shape) @ crystal.cell
    return crystal.replace(positions=crystal.positions + rng.uniform(-5, 5, 3) + images)


def reordered(crystal: Crystal, seed: int) -> Crystal:
    order = np.random.default_rng(seed).permutation(crystal.n_atoms)
    return crystal.replace(numbers=crystal.numbers[order], positions=crystal.positions[order])


def rewritten(crystal: Crystal, seed: int) -> Crystal:
    return crystal.replace(cell=np.array(UNIMODULAR[seed % 2]) @ crystal.cell)


def doubled(crystal: Crystal, seed: int) -> Crystal:
    return crystal.supercell((2, 2, 2))


CHANGES = (rotated, translated, reordered, rewritten, doubled)


@pytest.mark.parametrize("change", CHANGES)
def test_the_prediction_does_not_depend_on(network, change):
    expected = predict(network, list(CRYSTALS.values()))
    assert (
        np.ptp(expected) > 1e-2
    )  # The network tells crystals apart, so that agreement means something.
    for seed in (0, 1):
        changed = [change(crystal, seed) for crystal in CRYSTALS.values()]
        np.testing.assert_allclose(predict(network, changed), expected, rtol=0, atol=1e-5)


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
    for change in (doubled, rotated, translated, reordered, rewritten):
        changed = change(changed, seed)
    one, other = predict(network, [crystal, changed])
    assert abs(one - other) < 1e-5


def random_crystal(seed: int) -> Crystal:
    """Return one to four atoms without symmetry, about 1 Å or more apart."""
    rng = np.random.default_rng(seed)
    corners = rng.permutation(np.indices((2, 2, 2)).reshape(3, -1).T)[: rng.integers(1, 5)]
    scaled = (corners + rng.uniform(0, 0.5, corners.shape)) / 2
    cell = 4.5 * np.eye(3) + rng.uniform(-0.7, 0.7, (3, 3))
    return Crystal(rng.integers(1, 90, len(scaled)), scaled @ cell, cell)


def test_the_prediction_does_not_depend_on_the_batch(network):
    crystals = list(CRYSTALS.values())
    alone = np.concatenate([predict(network, [crystal]) for crystal in crystals])
    np.testing.assert_allclose(predict(network, crystals), alone, rtol=0, atol=1e-6)
    batch = network.features(crystals)
    with torch.inference_mode():
        part = network(batch[[4, 0, 4]])[:, 0].double().numpy()
    np.testing.assert_allclose(part, alone[[4, 0, 4]], rtol=0, atol=1e-6)


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
