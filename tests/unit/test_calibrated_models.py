"""A calibrated model: its archive, its intervals and its words on crystals unlike training."""

import json
import math

import numpy as np
import pytest

from potnet import Crystal, ModelError
from potnet.calibration import Calibration, Contents, Output
from potnet.models import archive, registry
from potnet.models.evidence import described, evidence, heard
from potnet.prediction import Predictor, load


def rock_salts(n: int, seed: int) -> list[Crystal]:
    """Return made-up salts of two elements in cells a little off."""
    rng = np.random.default_rng(seed)
    cell = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    found = []
    for k in range(n):
        numbers = [rng.choice([3, 11, 19]), rng.choice([9, 17, 35, 53])]
        size = rng.uniform(2.2, 3.2)
        positions = [[0, 0, 0], size * (np.ones(3) + 0.1 * rng.standard_normal(3))]
        found.append(Crystal(numbers, positions, size * cell, id=f"salt-{seed}-{k}"))
    return found


@pytest.fixture(scope="module")
def calibration(small_members, small_card) -> Calibration:
    def seen(crystals):
        batch = small_members[0].features(crystals)
        states, outputs = described(small_members, batch)
        counts = batch.atom_counts.numpy()
        return evidence(states, outputs, "median", Contents.of(crystals), counts)

    trained, held_out = seen(rock_salts(150, 0)), seen(rock_salts(120, 1))
    rng = np.random.default_rng(0)
    hard = np.exp(3 * held_out.shares[:, 19:20])  # potassium
    errors = 0.1 * hard * rng.standard_normal(held_out.outputs.shape)
    contents = Contents(trained.shares, trained.volumes)
    return Calibration.fit(
        trained.states, contents, held_out, errors, (Output(), Output()), level=0.9
    )


@pytest.fixture(scope="module")
def model(small_members, small_card, calibration) -> Predictor:
    return Predictor(small_members, small_card, calibration)


@pytest.fixture
def folder(small_members, small_card, calibration, tmp_path):
    archive.save(tmp_path / "model", small_members, small_card, calibration)
    return tmp_path / "model"


@pytest.mark.parametrize("name", ["model", "model.zip"])
def test_a_loaded_model_says_what_the_calibrated_one_says(
    model, small_members, small_card, calibration, tmp_path, name
):
    archive.save(tmp_path / name, small_members, small_card, calibration)
    crystals = rock_salts(5, 2)
    assert list(load(tmp_path / name).predict(crystals)) == list(model.predict(crystals))


def test_intervals_are_wider_where_errors_are_larger(model):
    crystals = rock_salts(60, 3)
    rows = [row for row in model.predict(crystals) if row.property == "energy"]
    widths = np.array([row.upper - row.lower for row in rows])
    potassium = np.array(["K" in crystal.symbols for crystal in crystals])
    assert np.median(widths[potassium]) > 1.5 * np.median(widths[~potassium])


def test_intervals_in_logarithms_are_asymmetric_in_units(model):
    row = model.predict(rock_salts(1, 4))[1]
    assert row.upper / row.prediction == pytest.approx(row.prediction / row.lower)
    assert row.upper - row.prediction > row.prediction - row.lower > 0


def test_no_end_is_below_what_is_possible(small_members, small_card, calibration):
    wide = small_card.targets[0].model_copy(update={"lowest": 0.0, "mean": 15.0, "std": 50.0})
    card = small_card.model_copy(update={"targets": (wide, small_card.targets[1])})
    rows = Predictor(small_members, card, calibration).predict(rock_salts(40, 5))[::2]
    assert any(row.prediction > 0 and row.lower == 0 for row in rows)
    assert all(row.lower >= min(0, row.prediction) for row in rows)


def test_a_salt_at_four_times_its_volume_is_flagged_and_one_like_training_is_not(model):
    salt = rock_salts(1, 6)[0]
    swollen = salt.replace(positions=salt.positions * 4 ** (1 / 3), cell=salt.cell * 4 ** (1 / 3))
    one, other = model.predict([salt])[0], model.predict([swollen])[0]
    assert one.flags == ()
    assert one.familiarity > 0.05
    assert other.familiarity < 0.05
    assert other.flags[-1].startswith("unfamiliar: none of held-out crystals are as far")


def test_an_element_that_was_never_there_is_named(model):
    salt = rock_salts(1, 7)[0]
    row = model.predict([salt.replace(numbers=[79, 9])])[0]
    assert "elements never trained on: Au" in row.flags
    assert row.familiarity == 0


def test_a_model_without_calibration_says_nothing_of_familiarity(small_members, small_card):
    row = Predictor(small_members, small_card).predict(rock_salts(1, 8))[0]
    assert math.isnan(row.familiarity)
    assert row.upper - row.prediction == pytest.approx(0.25)


def test_an_archive_of_before_has_no_calibration_and_constant_widths(folder):
    path = folder / archive.CARD_NAME
    fields = json.loads(path.read_text())
    del fields["calibration_sha256"]
    for target in fields["targets"]:
        del target["lowest"]
    path.write_text(json.dumps({**fields, "format": 1}))
    (folder / archive.CALIBRATION_NAME).unlink()
    assert archive.read_calibration(folder) is None
    row = load(folder).predict(rock_salts(1, 8))[0]
    assert row.upper - row.prediction == pytest.approx(0.25)


def test_writing_again_without_calibration_leaves_none(folder, small_members, small_card):
    archive.save(folder, small_members, small_card)
    assert not (folder / archive.CALIBRATION_NAME).exists()
    assert archive.read_calibration(folder) is None


def test_a_damaged_calibration_is_one_sentence(folder):
    path = folder / archive.CALIBRATION_NAME
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match="`calibration.safetensors` must have the SHA-256"):
        load(folder)
    path.unlink()
    with pytest.raises(ModelError, match="must hold `calibration.safetensors`"):
        load(folder)


def test_a_calibration_of_another_model_is_refused(folder, small_members, small_card, calibration):
    archive.save(folder, small_members, small_card, calibration.select([0]))
    with pytest.raises(ModelError, match=r"cannot be used \(it is for 1 targets\)"):
        load(folder)


@pytest.fixture(scope="module")
def witnessed(small_members, small_card, salts) -> Predictor:
    """A network that errs where another, which does not predict, says something else."""
    members, witnesses = small_members[:1], small_members[1:2]

    def seen(crystals):
        batch = members[0].features(crystals)
        said = (*described(members, batch), "median", Contents.of(crystals))
        return evidence(*said, batch.atom_counts.numpy(), heard(witnesses, batch))

    trained, held_out = seen(rock_salts(150, 0)), seen(rock_salts(300, 1))
    errors = held_out.spreads * np.random.default_rng(0).standard_normal(held_out.outputs.shape)
    contents = Contents(trained.shares, trained.volumes)
    found = Calibration.fit(
        trained.states, contents, held_out, errors, (Output(), Output()), level=0.9
    )
    card = archive.with_golden(small_card, members, salts[:2])
    return Predictor(members, card, found, witnesses)


def test_a_witness_predicts_nothing_and_widens_intervals_where_it_disagrees(witnessed):
    crystals = rock_salts(80, 2)
    rows = witnessed["energy"].predict(crystals)
    alone = Predictor(witnessed.members, witnessed.card)["energy"].predict(crystals)
    other = Predictor(witnessed.witnesses, witnessed.card)["energy"].predict(crystals)
    assert list(rows.values) == list(alone.values)
    apart = np.abs(other.values - rows.values)
    widths = np.array([row.upper - row.lower for row in rows])
    assert np.corrcoef(apart, widths)[0, 1] > 0.5


@pytest.mark.parametrize("name", ["model", "model.zip"])
def test_an_archive_keeps_its_witnesses_apart_from_its_members(witnessed, tmp_path, name):
    for model in (witnessed, witnessed["energy"]):
        model.save(tmp_path / name)
        assert len(archive.read(tmp_path / name)[0]) == 1
        assert len(archive.read_with_witnesses(tmp_path / name)[2]) == 1
        crystals = rock_salts(5, 3)
        assert list(load(tmp_path / name).predict(crystals)) == list(model.predict(crystals))


def test_a_witness_of_another_shape_is_refused(witnessed, tmp_path):
    other = registry.build("completenet", {"width": 16, "n_layers": 1}, 2)
    archive.save(tmp_path / "model", witnessed.members, witnessed.card, witnesses=[other])
    with pytest.raises(ModelError, match="`witness0"):
        load(tmp_path / "model")
