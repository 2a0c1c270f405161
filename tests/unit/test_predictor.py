"""Predictor: values, intervals, flags, failures, and files of predictions."""

import copy
import csv
import math

import numpy as np
import pytest
import torch

import potnet
from potnet import ConfigError, Crystal, Failure, ModelError, StructureError
from potnet.models import registry
from potnet.prediction import COLUMNS, PredictionFile, Predictor, load, predict_stream, structures


@pytest.fixture(scope="module")
def model(small_members, small_card) -> Predictor:
    return Predictor(small_members, small_card)


@pytest.fixture(scope="module")
def slab(salts) -> Crystal:
    """A crystal that the features refuse: it does not repeat in all directions."""
    return salts[0].replace(pbc=[True, True, False], id="slab")


def outputs(model: Predictor, crystals: list[Crystal]) -> np.ndarray:
    """Return the raw outputs of each member, shape (n_members, n_crystals, 2)."""
    batch = model.features(crystals)
    with torch.no_grad():
        return np.stack([member(batch).double().numpy() for member in model.members])


def test_prediction_is_the_median_of_the_members_in_the_units_of_the_target(model, salts) -> None:
    z = np.median(outputs(model, salts), axis=0)
    rows = model.predict(salts)
    energy = [row for row in rows if row.property == "energy"]
    modulus = [row for row in rows if row.property == "modulus"]
    np.testing.assert_allclose([r.prediction for r in energy], z[:, 0] * 0.8 - 1.5, rtol=1e-12)
    np.testing.assert_allclose(
        [r.prediction for r in modulus], 10 ** (z[:, 1] * 0.3 + 1.8), rtol=1e-12
    )
    assert [row.id for row in energy] == [crystal.id for crystal in salts]
    assert {row.unit for row in modulus} == {"GPa"}


def test_a_card_may_ask_for_the_mean_of_the_members(model, small_card, salts) -> None:
    card = small_card.model_copy(update={"combine": "mean"})
    z = outputs(model, salts).mean(axis=0)
    rows = Predictor(model.members, card).predict(salts)
    np.testing.assert_allclose(rows.values[::2], z[:, 0] * 0.8 - 1.5, rtol=1e-12)


def test_intervals_have_the_half_width_of_the_card_before_the_inverse_transform(
    model, small_card, salts
) -> None:
    linear, unknown = model.predict(salts[:1])
    assert linear.upper - linear.prediction == pytest.approx(0.25)
    assert linear.prediction - linear.lower == pytest.approx(0.25)
    assert math.isnan(unknown.lower)
    assert math.isnan(unknown.upper)
    calibrated = small_card.targets[1].model_copy(
        update={"interval_level": 0.9, "interval_halfwidth": 0.1}
    )
    card = small_card.model_copy(update={"targets": (small_card.targets[0], calibrated)})
    log = Predictor(model.members, card).predict(salts[:1])[1]
    assert log.upper / log.prediction == pytest.approx(10**0.1)
    assert log.prediction / log.lower == pytest.approx(10**0.1)


def test_crystals_like_those_of_the_training_carry_no_flag(model, salts) -> None:
    assert {row.flags for row in model.predict(salts)} == {()}


def test_flags_name_unknown_elements_size_and_density(model, salts) -> None:
    (oxide, _) = model.predict(Crystal([12, 8], [[0, 0, 0], [2.1, 0, 0]], 2.97 * np.eye(3) * 1.2))
    assert oxide.flags == ("elements never trained on: Mg, O",)
    (dilute, _) = model.predict(Crystal([11], [[0, 0, 0]], 4.0 * np.eye(3)))
    assert dilute.flags == ("64 Å^3 per atom, training had 8 to 50",)
    rng = np.random.default_rng(0)
    grid = np.indices((2, 2, 2)).reshape(3, -1).T * 2.8 + rng.uniform(-0.2, 0.2, (8, 3))
    (large, _) = model.predict(Crystal([11] * 4 + [17] * 4, grid, 5.6 * np.eye(3)))
    assert large.flags == ("8 atoms, training had at most 4",)


def test_flags_say_that_the_mark_of_the_training_set_is_missing(model, small_card, salts) -> None:
    data = small_card.data.model_copy(update={"anchors": ("O", "N")})
    card = small_card.model_copy(update={"data": data})
    row = Predictor(model.members, card).predict(salts[:1])[0]
    assert row.flags == ("no O or N, which nearly all of training has",)
    data = small_card.data.model_copy(update={"anchors": ("Li", "Na")})
    card = small_card.model_copy(update={"data": data})
    assert Predictor(model.members, card).predict(salts[:1])[0].flags == ()


def test_a_supercell_is_no_larger_than_its_primitive_cell(model, salts) -> None:
    (row, _) = model.predict(salts[4].supercell([2, 2, 2]))
    (small, _) = model.predict(salts[4])
    assert row.flags == ()
    assert row.prediction == pytest.approx(small.prediction, abs=1e-5)


def test_every_kind_of_structure_is_accepted_alone_and_together(model, salts) -> None:
    crystal = salts[4]
    kinds = [crystal, crystal.to_ase(), crystal.to_pymatgen(), crystal.as_dict()]
    together = model.predict(kinds)
    alone = [model.predict(kind)[0].prediction for kind in kinds]
    np.testing.assert_allclose(together.values[::2], alone[0], rtol=1e-6)
    np.testing.assert_allclose(alone, alone[0], rtol=1e-6)


def test_crystals_without_an_id_get_their_place(model, salts) -> None:
    rows = model.predict([salts[0].replace(id=""), salts[1], salts[2].replace(id="")])
    assert [row.id for row in rows][::2] == ["0", salts[1].id, "2"]


def test_by_default_the_first_bad_crystal_raises(model, salts, slab) -> None:
    with pytest.raises(StructureError, match="pbc"):
        model.predict([salts[0], slab])
    with pytest.raises(StructureError, match="str"):
        model.predict([salts[0], "NaCl"])


def test_skipping_keeps_the_good_and_names_the_bad(model, salts, slab) -> None:
    rows = model.predict([salts[0], slab, 3.0, *salts[1:]], on_error="skip")
    assert [row.id for row in rows][::2] == [crystal.id for crystal in salts]
    assert [(f.id, f.stage) for f in rows.failures] == [("slab", "features"), ("2", "read")]
    assert all("must be" in failure.reason for failure in rows.failures)
    np.testing.assert_allclose(rows.values, model.predict(salts).values, rtol=1e-5)


def test_nothing_in_gives_nothing_out(model) -> None:
    rows = model.predict([])
    assert len(rows) == 0
    assert rows.failures == ()


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_batches_do_not_change_predictions(model, salts, batch_size) -> None:
    rows = model.predict(salts, batch_size=batch_size)
    np.testing.assert_allclose(rows.values, model.predict(salts).values, rtol=1e-5)


def test_large_cells_are_computed_in_smaller_batches(model, salts, monkeypatch) -> None:
    sizes: list[int] = []
    standardised = model._standardised

    def spy(batch):
        sizes.append(batch.n_graphs)
        return standardised(batch)

    monkeypatch.setattr(model, "_standardised", spy)
    monkeypatch.setattr(structures, "MAX_PAIRS", 3 * 4)
    model.predict(salts[:8])
    assert sizes == [3, 3, 2]


def test_predictions_are_the_same_bit_for_bit(model, salts) -> None:
    assert model.predict(salts).values.tobytes() == model.predict(salts).values.tobytes()


def test_streaming_reads_one_batch_ahead_and_no_more(model, salts) -> None:
    taken = 0

    def source():
        nonlocal taken
        for crystal in salts:
            taken += 1
            yield crystal

    stream = model.predict_stream(source(), batch_size=4)
    next(stream)
    assert taken == 5  # the fifth told that the first batch is full


def test_streaming_passes_failures_of_reading_on_in_their_place(model, salts) -> None:
    failure = Failure("bad.cif", "read", "bad.cif: must be CIF, got nothing. Mend it.")
    items = list(model.predict_stream([salts[0], failure, salts[1]]))
    assert items[2] is failure
    assert len(items) == 5
    with pytest.raises(StructureError, match="bad.cif"):
        model.predict([salts[0], failure])


def test_several_models_give_their_rows_crystal_by_crystal(model, salts, slab) -> None:
    items = list(predict_stream([model, model], [salts[0], slab, salts[1]]))
    assert [item.id for item in items] == [salts[0].id] * 4 + ["slab"] + [salts[1].id] * 4
    assert isinstance(items[4], Failure)


def test_a_prediction_that_is_not_finite_is_an_error(small_members, small_card, salts) -> None:
    broken = copy.deepcopy(small_members[0])
    with torch.no_grad():
        next(broken.head.parameters()).fill_(math.nan)
    model = Predictor([broken], small_card)
    with pytest.raises(ModelError, match="must be finite"):
        model.predict(salts[:1])
    (failure,) = model.predict(salts[:1], on_error="skip").failures
    assert failure.stage == "predict"


def test_a_predictor_needs_a_network(small_card) -> None:
    with pytest.raises(ModelError, match="at least one network"):
        Predictor([], small_card)


def test_values_can_be_had_from_features(model, salts) -> None:
    values = model.predict_values(model.features(salts))
    np.testing.assert_allclose(values.ravel(), model.predict(salts).values, rtol=1e-6)
    coarse = model.features.model_copy(update={"tolerance": 1e-3})
    with pytest.raises(ConfigError, match="predict_values: `batch` must be of features with toler"):
        model.predict_values(coarse(salts))


def test_an_archive_predicts_what_its_networks_predict(small_archive, model, salts) -> None:
    loaded = potnet.load(small_archive)
    np.testing.assert_allclose(loaded.predict(salts).values, model.predict(salts).values, rtol=1e-6)


def test_csv_has_all_fields_and_enough_digits(model, salts, tmp_path) -> None:
    rows = model.predict(salts)
    rows.to_csv(tmp_path / "out.csv")
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS
    np.testing.assert_allclose([float(r["prediction"]) for r in table], rows.values, rtol=1e-6)
    assert [row["id"] for row in table] == [row.id for row in rows]


def test_pandas_table_has_the_same_rows(model, salts) -> None:
    rows = model.predict(salts)
    table = rows.to_pandas()
    assert tuple(table.columns) == COLUMNS
    assert table["prediction"].to_numpy().tobytes() == rows.values.tobytes()


def test_a_file_that_is_not_finished_leaves_nothing(model, salts, tmp_path) -> None:
    row = model.predict(salts[:1])[0]
    target = tmp_path / "out.csv"
    target.write_text("before")

    def write_and_stop() -> None:
        with PredictionFile(target, tmp_path / "errors.csv") as file:
            file.write(row)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_stop()
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_an_embedding_is_of_the_crystal_and_not_of_its_cell(small_archive, salts):
    model = load(small_archive)
    found = model.embed(salts)
    assert found.shape == (len(salts), 3 * 8)
    assert len(np.unique(found.round(5), axis=0)) == len(salts)
    large = [crystal.supercell((2, 1, 1)) for crystal in salts]
    np.testing.assert_allclose(model.embed(large, batch_size=5), found, atol=1e-5)
    np.testing.assert_allclose(model.embed(salts[0]), found[:1], atol=1e-6)
    linear = model.members[0].head[-1]
    with torch.inference_mode():
        outputs = linear(torch.from_numpy(found[:, :8]))
        expected = model.members[0](model.features(salts))
        rest = expected - outputs  # what the composition alone gives
    np.testing.assert_allclose(rest, np.zeros_like(rest), atol=1e-5)  # random: no references yet


def test_a_network_without_an_embedding_says_so(salts):
    torch.manual_seed(0)
    member = registry.build("potnet", {"width": 8, "n_layers": 1})
    with pytest.raises(ModelError, match="must offer an embedding"):
        member.embedding(member.features(salts))


def test_an_atom_has_its_state_whatever_cell_it_is_described_in(small_archive, salts):
    model = potnet.load(small_archive)
    found = model.embed(salts[:4], per="atom")
    assert [len(rows) for rows in found] == [2] * 4
    order = [1, 0]
    swapped = salts[0].replace(
        numbers=salts[0].numbers[order], positions=salts[0].positions[order] + 0.3
    )
    np.testing.assert_allclose(model.embed(swapped, per="atom")[0], found[0][order], atol=1e-5)
    large = salts[0].supercell([2, 1, 1])
    kinds = [list(salts[0].numbers).index(z) for z in large.numbers]
    np.testing.assert_allclose(model.embed(large, per="atom")[0], found[0][kinds], atol=1e-5)
    with pytest.raises(ConfigError, match="must be crystal or atom, got 'site'"):
        model.embed(salts, per="site")


def test_a_part_of_a_model_is_a_model_that_is_saved(small_archive, salts, tmp_path):
    model = potnet.load(small_archive)
    part = model["modulus"]
    assert [target.name for target in part.card.targets] == ["modulus"]
    values = model.predict(salts).values.reshape(-1, 2)
    np.testing.assert_allclose(part.predict(salts).values, values[:, 1])
    part.save(tmp_path / "part")
    np.testing.assert_array_equal(
        potnet.load(tmp_path / "part").predict(salts).values, part.predict(salts).values
    )
    with pytest.raises(ModelError, match="must be among those of the model"):
        model["gap"]
