"""Derivatives of predictions against differences of predictions."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from ase import units
from ase.md.verlet import VelocityVerlet

import potnet
from potnet.crystal import Crystal
from potnet.errors import ConfigError, ModelError
from potnet.features.complete import CompleteFeatures
from potnet.models import archive, registry
from potnet.models.card import DataCard, ModelCard, TargetCard
from potnet.models.completenet import CompleteNet
from potnet.prediction import Predictor
from potnet.prediction.rows import Gradients

CRYSTAL = Crystal(
    [22, 8, 8, 38],
    [[0.1, 0.2, 0.3], [1.9, 0.1, 5.5], [0.4, 2.2, 1.9], [2.4, -2.5, 3.0]],
    [[4.1, 0.3, 0.2], [-1.1, 4.9, 0.4], [0.6, -1.7, 5.3]],
)


def predictor(
    network: str = "completenet", unit: str = "eV/atom", settings: dict[str, Any] | None = None
) -> Predictor:
    """Return two networks with random weights."""
    members = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        members.append(registry.build(network, settings).eval())
    card = ModelCard(
        network=network,
        settings=members[0].settings.model_dump(mode="json"),
        targets=(TargetCard(name="energy", unit=unit, mean=-1.0, std=2.0),),
        data=DataCard(
            name="none", n_train=1, elements=("O",), max_atoms=9, volume_per_atom=(1.0, 99.0)
        ),
    )
    return Predictor(members, card)


@pytest.fixture(scope="module")
def model() -> Predictor:
    return predictor()


def value(model: Predictor, positions: np.ndarray, cell: np.ndarray) -> float:
    return model.gradients(CRYSTAL.replace(positions=positions, cell=cell))[0].value


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_the_value_is_that_of_the_fast_path(degree):
    model = predictor(settings={"features": {"degree": degree}})
    assert model.gradients(CRYSTAL)[0].value == pytest.approx(
        model.predict([CRYSTAL])[0].prediction, abs=2e-6
    )


def test_weights_set_later_count():
    model, other = predictor(), predictor()
    before = model.gradients(CRYSTAL)[0]
    with torch.no_grad():
        for member in (*model.members, *other.members):
            member.head[-1].bias += 0.5
            member.describe.weight.data *= 1.5
    after, expected = model.gradients(CRYSTAL)[0], other.gradients(CRYSTAL)[0]
    assert after.value != before.value
    assert after.value == expected.value
    np.testing.assert_array_equal(after.positions, expected.positions)


ENERGIES = [
    name
    for name in potnet.available()
    if any(target.unit == "eV/atom" for target in archive.read_card(name).targets)
]


def taped(model: Predictor, monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[Gradients]:
    """Return derivatives through sums of pairs, as networks of others have them."""
    with monkeypatch.context() as patch:
        patch.setattr(CompleteFeatures, "at_images", CompleteFeatures.differentiable)
        return model.gradients(CRYSTAL, **options)


def assert_alike(found: list[Gradients], expected: list[Gradients], tolerance: float) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.value == pytest.approx(other.value, rel=tolerance)
        for a, b in ((one.positions, other.positions), (one.strain, other.strain)):
            assert np.abs(b).max() > 0
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("name", ENERGIES)
def test_derivatives_image_by_image_are_those_of_the_tape(name, monkeypatch):
    model = potnet.load(name)
    assert_alike(model.gradients(CRYSTAL), taped(model, monkeypatch), 1e-10)
    single = model.gradients(CRYSTAL, precision="float32")
    assert_alike(single, taped(model, monkeypatch), 1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"features": {"degree": 0}},
        {"features": {"degree": 2}, "per_formula": True, "tensors": 5},
        {"features": {"long_range": ()}},
        {"features": {"n_shells": 0, "degree": 0}},
        {"features": {"long_range": ("coulomb to 4", "exponential:2")}, "n_layers": 1},
    ],
)
def test_networks_of_all_shapes_have_derivatives_image_by_image(settings, monkeypatch):
    model = predictor(settings=settings)
    assert_alike(model.gradients(CRYSTAL), taped(model, monkeypatch), 1e-10)


def test_a_network_made_of_completenet_reads_sums_of_pairs_as_it_likes():
    class Own(CompleteNet):
        def embedding_of_atoms(self, batch):
            assert batch.pairs["complete"].values.requires_grad
            return super().embedding_of_atoms(batch)

    model, own = predictor(), predictor()
    for member in own.members:
        member.__class__ = Own
    assert_alike(own.gradients(CRYSTAL), model.gradients(CRYSTAL), 1e-10)


def test_networks_are_copied_to_float64_once(monkeypatch):
    model = predictor()
    model.gradients(CRYSTAL)
    monkeypatch.setattr(copy, "deepcopy", None)
    model.gradients(CRYSTAL)
    assert all(p.dtype == torch.float32 for p in model.members[0].parameters())


def test_position_gradients_agree_with_differences(model):
    found = model.gradients(CRYSTAL)[0].positions
    step = 1e-4
    for atom, axis in ((0, 0), (1, 2), (3, 1)):
        move = np.zeros_like(CRYSTAL.positions)
        move[atom, axis] = step
        up = value(model, CRYSTAL.positions + move, CRYSTAL.cell)
        down = value(model, CRYSTAL.positions - move, CRYSTAL.cell)
        assert found[atom, axis] == pytest.approx((up - down) / (2 * step), rel=1e-3, abs=1e-6)
    np.testing.assert_allclose(found.sum(0), 0, atol=1e-9)  # Moving all atoms changes nothing.


def test_strain_gradients_agree_with_differences(model):
    found = model.gradients(CRYSTAL)[0].strain
    step = 1e-4
    for a, b in ((0, 0), (1, 2)):
        strain = np.zeros((3, 3))
        strain[a, b] += step / 2
        strain[b, a] += step / 2
        up, down = (np.eye(3) + sign * strain for sign in (1, -1))
        difference = value(model, CRYSTAL.positions @ up, CRYSTAL.cell @ up) - value(
            model, CRYSTAL.positions @ down, CRYSTAL.cell @ down
        )
        assert found[a, b] == pytest.approx(difference / (2 * step), rel=1e-3, abs=1e-6)


def test_gradients_of_a_supercell_are_shared_among_the_copies(model):
    found = model.gradients(CRYSTAL)[0].positions
    double = model.gradients(CRYSTAL.supercell((2, 1, 1)))[0].positions
    np.testing.assert_allclose(
        np.sort(2 * double, 0), np.sort(np.tile(found, (2, 1)), 0), atol=1e-8
    )


def test_the_calculator_gives_ase_energy_forces_and_stress(model):
    atoms = CRYSTAL.to_ase()
    atoms.calc = potnet.Calculator(model)
    found = model.gradients(CRYSTAL)[0]
    assert atoms.get_potential_energy() == pytest.approx(4 * found.value)
    np.testing.assert_allclose(atoms.get_forces(), -4 * found.positions)
    stress = atoms.get_stress(voigt=False)
    np.testing.assert_allclose(stress, 4 * found.strain / CRYSTAL.volume)


def test_a_network_in_single_precision_gives_the_same_to_its_rounding(model):
    single, double = (
        potnet.Calculator(model, precision=precision) for precision in ("float32", "float64")
    )
    atoms = CRYSTAL.to_ase()
    for name, tolerance in (("energy", 1e-5), ("forces", 1e-5), ("stress", 1e-6)):
        found, expected = (c.get_property(name, atoms) for c in (single, double))
        assert not np.array_equal(found, expected)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_another_precision_is_refused(model):
    with pytest.raises(ConfigError, match='must be "float32" or "float64", got \'half\''):
        model.gradients(CRYSTAL, precision="half")


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_dynamics_keep_the_energy_to_the_square_of_the_step(precision):
    model = predictor(settings={"width": 16, "n_layers": 2, "vectors": 8})
    with torch.no_grad():
        for member in model.members:
            member.head[-1].weight *= 300  # untrained networks hardly pull

    def run(femtoseconds: float) -> tuple[float, float]:
        """Return the largest change of the energy within 40 fs, and of the kinetic part, in eV."""
        atoms = CRYSTAL.to_ase()
        atoms.calc = potnet.Calculator(model, precision=precision)
        thermal = np.sqrt(atoms.get_masses() * units.kB * 600)[:, None]
        atoms.set_momenta(thermal * np.random.default_rng(0).normal(size=(4, 3)))
        total, kinetic = [], []
        with VelocityVerlet(atoms, femtoseconds * units.fs) as dynamics:
            for _ in range(round(40 / femtoseconds)):
                dynamics.run(1)
                total.append(atoms.get_total_energy())
                kinetic.append(atoms.get_kinetic_energy())
        return float(np.ptp(total)), float(np.ptp(kinetic))

    coarse, exchanged = run(2)
    fine, _ = run(1)
    assert exchanged > 0.05
    assert fine < 1e-3 * exchanged
    assert coarse / fine == pytest.approx(4, rel=0.2)


def test_a_calculator_needs_an_energy(model):
    with pytest.raises(ModelError, match="must predict one energy in eV/atom, got energy in GPa"):
        potnet.Calculator(predictor(unit="GPa"))


def test_networks_without_smooth_features_are_refused():
    with pytest.raises(ModelError, match="must have smooth features, got potnet"):
        predictor("potnet").gradients(CRYSTAL)
