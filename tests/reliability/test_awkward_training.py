"""Awkward tables, settings and machines end in a model or in one sentence before training."""

import csv
import dataclasses
import json
import logging
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import save
from salts import rock_salt
from tiny_network import TinyFeatures, made_up_dataset, registered  # noqa: F401  (a fixture)

import potnet
from potnet import data
from potnet.checks import check_records
from potnet.errors import ConfigError, DataError, Failure, ModelError, StructureError
from potnet.files import exclusive
from potnet.models import archive
from potnet.prediction import PredictionFile, load, predict_stream
from potnet.report import training_report
from potnet.text import csv_cell
from potnet.training import TrainingConfig, evaluate, train
from potnet.training.features import compute_features
from potnet.training.run_folder import LOCK


def config(**settings) -> TrainingConfig:
    return TrainingConfig(**{"network": "tiny", "epochs": 2, "device": "cpu", **settings})


def with_columns(columns, units=None):
    dataset = made_up_dataset(40)
    return dataclasses.replace(dataset, targets=columns, units=units or {})


def size() -> np.ndarray:
    return np.array(made_up_dataset(40).targets["size"])


NAMES = [
    "$\\frac{$",
    "硬度 😀",
    "a/b",
    "a b",
    "../x",
    "Δ(eV)",
    "$\\frac{",
    "x" * 300,
    "con",
    "a\\b",
    ".",
    "=1+1",
    "<b>",
]


def test_no_name_of_a_column_loses_a_training_or_leaves_the_folder(tmp_path):
    dataset = with_columns({name: size() * (k + 1) for k, name in enumerate(NAMES)})
    result = train(dataset, config(), tmp_path / "inside" / "run")
    training_report(result.output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside"]
    assert [path.name for path in (tmp_path / "inside").iterdir()] == ["run"]
    assert len(list(result.output.glob("predictions-val-*.csv"))) == len(NAMES)
    assert [target.name for target in load(result.model).card.targets] == NAMES


def test_no_cell_of_a_table_of_a_training_is_a_formula(tmp_path):
    failure = Failure("=1+1", "read", "@SUM(A1) \x1b[2J must not be.")
    dataset = dataclasses.replace(
        with_columns({"=y": size()}, {"=y": "@m"}),
        ids=[f"=A{k}" for k in range(40)],
        failures=[failure],
    )
    found = train(dataset, config(), tmp_path / "run")
    evaluate(found.model, dataset).write(tmp_path / "evaluation")
    with PredictionFile(tmp_path / "rows.csv") as table:
        table.write(load(found.model).predict(dataset.crystals[0]))
    tables = sorted(tmp_path.rglob("*.csv"))
    assert len(tables) == 6
    for path in tables:
        with open(path, encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert len(cells) > 3
        assert [cell for cell in cells if cell != csv_cell(cell)] == []


def test_a_target_in_tiny_units_is_learned_as_well_as_in_large_ones(tmp_path):
    errors = []
    for factor in (1.0, 1e-18, 1e30):
        dataset = with_columns({"y": size() * factor})
        found = train(dataset, config(epochs=10), tmp_path / str(factor))
        errors.append(found.metrics["val"]["y"]["mae"] / factor)
    assert errors[1:] == pytest.approx([errors[0]] * 2, rel=1e-3)


@pytest.mark.parametrize("value", [1e302, -1e200, 1e-310])
def test_numbers_that_cannot_be_computed_with_are_one_sentence(tmp_path, value):
    dataset = with_columns({"y": np.append(size()[:-1], value)})
    with pytest.raises(DataError, match=r"target 'y' must be between 1e-100 and 1e\+100 in size"):
        train(dataset, config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("settings", [{}, {"transform": "binary"}])
def test_a_target_with_nothing_to_learn_is_said(tmp_path, caplog, settings):
    with caplog.at_level(logging.WARNING, "potnet"):
        train(with_columns({"y": np.ones(40)}), config(**settings), tmp_path / "run")
    assert "Target y is 1 for all" in caplog.text


def test_words_that_do_not_repeat_are_named(tmp_path):
    table = "".join(f"{k}.cif,{k}.5%\n" for k in range(4))
    for k in range(4):
        crystal = rock_salt(11, 17, 2.8 + k / 10)
        potnet.write(crystal, tmp_path / f"{k}.cif")
    (tmp_path / "t.csv").write_text("file,gap\n" + table)
    dataset = data.open(tmp_path / "t.csv")
    with pytest.raises(ConfigError, match="words that repeat, got gap = '"):
        train(dataset, config(), tmp_path / "run")
    found = check_records(data.iter_records(tmp_path / "t.csv")).findings
    assert [f.text for f in found if f.kind == "words"] == [
        "gap: neither numbers nor words that repeat, and no target, such as '0.5%'"
    ]


def test_a_target_that_is_named_twice_is_learned_once(tmp_path):
    result = train(with_columns({"y": size()}), config(targets=["y", "y"]), tmp_path / "run")
    assert [target.name for target in load(result.model).card.targets] == ["y"]


def test_evaluation_converts_known_units_and_refuses_others(tmp_path, caplog):
    result = train(with_columns({"y": size()}, {"y": "GPa"}), config(), tmp_path / "run")
    expected = evaluate(result.model, with_columns({"y": size()}, {"y": "GPa"})).metrics["y"]["mae"]
    other = with_columns({"y": size() * 1e3}, {"y": "MPa"})
    assert evaluate(result.model, other).metrics["y"]["mae"] == pytest.approx(expected)
    with pytest.raises(DataError, match="must measure the same as the old one, got 'GPa' for 'eV'"):
        evaluate(result.model, with_columns({"y": size()}, {"y": "eV"}))
    evaluate(result.model, with_columns({"y": size()}, {"y": "points"}))
    assert "taken as the same" in caplog.text


@pytest.mark.parametrize("name", ["foo", "cuda:7", "mps", "meta", "", "cuda"])
def test_a_device_that_is_not_there_is_one_sentence(tmp_path, name):
    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match=r"(device|`device`).*got '"):
        load("bulk-modulus", device=name)
    with pytest.raises(ConfigError, match=r"(device|`device`).*got '"):
        train(made_up_dataset(40), config(device=name), tmp_path / "run")


def test_wrong_types_are_one_sentence(tmp_path):
    dataset, model = made_up_dataset(20), load("bulk-modulus")
    with pytest.raises(ConfigError, match="`dataset` must be a Dataset .* got str and Tr"):
        train("data.csv", config(), tmp_path / "run")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="got Dataset and dict"):
        train(dataset, {"epochs": 1}, tmp_path / "run")  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="`dataset` must be a Dataset, got str"):
        evaluate(model, "data.csv")  # pyright: ignore[reportArgumentType]
    for wrong in (tmp_path / "a.cif", "a.cif", 3, None):
        with pytest.raises(StructureError, match="must be structures, got .*Read files with"):
            model.predict(wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="`y` must be numbers"):
        potnet.Regressor(network="tiny").fit(dataset.crystals, ["a"] * 20)


def test_two_processes_never_train_in_one_folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    refused = pytest.raises(ConfigError, match="another process trains in")
    with exclusive(folder / LOCK, AssertionError("nobody holds it yet")), refused:
        train(made_up_dataset(20), config(), folder, resume=True)
    assert train(made_up_dataset(20), config(), folder, resume=True).model.exists()


def test_the_folder_of_a_run_names_its_model(tmp_path):
    result = train(made_up_dataset(20), config(), tmp_path / "run")
    assert load(tmp_path / "run").card == load(result.model).card


def rewritten(folder, change, weights=None):
    """Change the card of an archive, and its weights."""
    path = folder / archive.CARD_NAME
    fields = json.loads(path.read_text())
    change(fields)
    if weights is not None:
        import hashlib

        (folder / archive.WEIGHTS_NAME).write_bytes(weights)
        fields["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    path.write_text(json.dumps(fields))


@pytest.fixture
def copy_of_small(small_archive, tmp_path):
    import shutil

    return shutil.copytree(small_archive, tmp_path / "model")


def test_a_card_that_asks_for_more_than_its_weights_takes_no_memory(copy_of_small):
    def wide(fields):
        fields["settings"] |= {"width": 4096, "n_layers": 64, "expansion": 16}

    rewritten(copy_of_small, wide)
    with pytest.raises(ModelError, match="must be those of the weights, got larger ones"):
        load(copy_of_small)


def test_a_golden_crystal_is_bounded(copy_of_small):
    def many(fields):
        golden = fields["golden"][0]
        golden["numbers"], golden["positions"] = [1] * 501, [[0, 0, 0]] * 501

    rewritten(copy_of_small, many)
    with pytest.raises(ModelError, match="at most 500 items"):
        load(copy_of_small)


def test_json_that_is_nested_without_end_is_one_sentence(copy_of_small):
    (copy_of_small / archive.CARD_NAME).write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(ModelError, match="must be JSON"):
        load(copy_of_small)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_another_type_are_one_sentence(copy_of_small, dtype):
    weights = save({"member0.embed.weight": torch.zeros(119, 8).to(dtype)})
    rewritten(copy_of_small, lambda fields: None, weights)
    with pytest.raises(ModelError, match=r"weights must fit|must have shape|safetensors"):
        load(copy_of_small)


def test_gradients_are_right_from_several_threads(small_archive):
    model = load(small_archive)
    crystals = [rock_salt(11, 17, 2.5 + 0.1 * k) for k in range(8)]
    expected = [model.gradients(crystal)[0].strain for crystal in crystals]
    found: dict[int, np.ndarray] = {}

    def work(k: int) -> None:
        found[k] = model.gradients(crystals[k])[0].strain

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, strain in enumerate(expected):
        np.testing.assert_array_equal(found[k], strain)


EXCEPTIONS = [MemoryError, RuntimeError, KeyError, ZeroDivisionError, RecursionError, OSError]


@pytest.mark.parametrize("error", EXCEPTIONS)
@pytest.mark.parametrize("stage", ["features", "network"])
def test_a_crystal_that_breaks_a_stage_costs_no_other(tmp_path, monkeypatch, error, stage):
    result = train(made_up_dataset(20), config(), tmp_path / "run")
    model = load(result.model)
    crystals = [c.replace(numbers=np.full(c.n_atoms, 5)) for c in made_up_dataset(20).crystals]
    crystals[3] = crystals[3].replace(numbers=np.full(crystals[3].n_atoms, 99))

    def broken(original):
        def call(self, given):
            numbers = given.numbers if stage == "network" else [c.numbers for c in given]
            if any(np.any(np.asarray(n) == 99) for n in numbers):
                raise error("no luck")
            return original(self, given)

        return call

    owner = TinyFeatures if stage == "features" else type(model.members[0])
    name = "__call__" if stage == "features" else "forward"
    monkeypatch.setattr(owner, name, broken(getattr(owner, name)))
    items = list(predict_stream([model], crystals))
    failures = [item for item in items if isinstance(item, Failure)]
    assert [failure.id for failure in failures] == [crystals[3].id]
    assert f"got {error.__name__}" in failures[0].reason
    assert len(items) == 20
    if stage == "features":
        _, kept, skipped = compute_features(TinyFeatures(), crystals, on_error="skip")
        assert len(kept) == 19
        assert "no luck" in skipped[0].reason
