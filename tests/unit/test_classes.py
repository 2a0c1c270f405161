"""Classes as targets: words, true and false, several of them; how they are measured and said."""

import csv
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import softmax
from tiny_network import made_up_dataset, registered  # noqa: F401  (a fixture)
from torch.nn import functional

from potnet import ConfigError, DataError, ModelError, TrainingConfig, data, load, train
from potnet.checks import check_records
from potnet.data import Dataset, ParquetFolder
from potnet.report import evaluation_report, training_report
from potnet.targets import Scale, chosen_targets, normalised, settled
from potnet.training import evaluate
from potnet.training.metrics import binary_metrics, class_metrics
from potnet.training.trainer import Objective

SETTINGS = {"network": "tiny", "epochs": 2, "batch_size": 16, "threads": 1, "device": "cpu"}
SIZES = np.array(["small", "middle", "large"])


def with_words(**words) -> Dataset:
    dataset = made_up_dataset()
    return Dataset(dataset.ids, dataset.crystals, words=words, name="made up")


@pytest.fixture(scope="module")
def sizes() -> np.ndarray:
    values = made_up_dataset().targets["size"]
    return SIZES[np.argsort(np.argsort(values)) * 3 // len(values)]


@pytest.fixture(scope="module")
def run(sizes, tmp_path_factory):
    config = TrainingConfig(**SETTINGS | {"epochs": 30})
    return train(with_words(size=sizes), config, tmp_path_factory.mktemp("run") / "a")


def test_each_class_is_a_probability_and_together_they_are_one(run, sizes) -> None:
    model = load(run.model)
    assert model.card.classes == {"size": ("large", "middle", "small")}
    assert [t.transform for t in model.card.targets] == ["class"] * 3
    crystals = made_up_dataset().crystals
    rows = model.predict(crystals)
    np.testing.assert_allclose(rows.values.reshape(-1, 3).sum(1), 1)
    said = rows.classes["size"]
    best = rows.values.reshape(-1, 3).argmax(1)
    assert said == [model.card.classes["size"][k] for k in best]
    assert np.mean(np.array(said) == sizes) > 0.5  # a third by chance


def test_the_metrics_of_a_run_say_what_is_taken_for_what(run) -> None:
    for part in ("val", "test"):
        found = json.loads((run.output / "metrics.json").read_text())[part]["size"]
        assert np.sum(found["confusion"]) == found["n"] == sum(found["counts"])
        assert found["classes"] == ["large", "middle", "small"]
        assert 0 <= found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"] <= 1
    with open(run.output / "predictions-size = large.csv", newline="") as file:
        assert {row["target"] for row in csv.DictReader(file)} <= {"0.0", "1.0"}


def test_reports_and_evaluation_know_classes(run, sizes, tmp_path) -> None:
    page = training_report(run.output).read_text()
    assert "What is taken for what" in page
    assert "mean absolute error" not in page.partition("Learning")[0]
    assert (run.output / "roc-size.png").exists()
    found = evaluate(load(run.model), with_words(size=sizes), targets=["size"])
    assert found.metrics["size"]["n"] == 60
    assert found.metrics["size"]["accuracy"] > 0.5
    assert "What is taken for what" in evaluation_report(
        tmp_path, found, model="it", data="them"
    ).read_text()  # fmt: skip


def test_true_and_false_are_one_probability(tmp_path) -> None:
    flags = np.where(made_up_dataset().targets["size"] > 7, "True", "False")
    flags[5] = ""
    result = train(with_words(big=flags), TrainingConfig(**SETTINGS), tmp_path / "run")
    (target,) = load(result.model).card.targets
    assert (target.name, target.transform) == ("big", "binary")
    assert {"f1", "roc_auc", "confusion", "precision", "recall"} <= result.metrics["val"][
        "big"
    ].keys()


def test_columns_of_0_and_1_are_classes_unless_told_otherwise() -> None:
    dataset = made_up_dataset()
    zeros_and_ones = (dataset.targets["size"] > 7).astype(float)
    dataset = Dataset(
        dataset.ids, dataset.crystals, {"y": zeros_and_ones, "x": dataset.targets["size"]}
    )
    assert chosen_targets(dataset, (), "auto").transforms == {"y": "binary", "x": "none"}
    assert chosen_targets(dataset, (), "none").transforms == {"y": "none", "x": "none"}
    assert chosen_targets(dataset, ["y"], "classes").classes == {"y": ("0", "1")}


def test_numbers_become_classes_when_asked() -> None:
    dataset = made_up_dataset()
    kinds = np.round(dataset.targets["size"] / 3) * 10
    dataset = Dataset(dataset.ids, dataset.crystals, {"kind": kinds})
    found = chosen_targets(dataset, ["kind"], "classes")
    assert found.classes["kind"] == tuple(f"{k:g}" for k in np.unique(kinds))
    first = found.classes["kind"][0]
    column = found.dataset.targets[f"kind = {first}"]
    np.testing.assert_array_equal(column, kinds == float(first))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["metal"] * 60, "must have 2 to 50 classes .* got 1 of 60 crystals: 'metal'"),
        ([f"m{k}" for k in range(60)], "got 60 of 60 crystals: 'm0', 'm1', 'm10' ..."),
        ([""] * 60, "got 0 of 0 crystals"),
    ],
)
def test_columns_that_divide_nothing_are_refused(words, message) -> None:
    with pytest.raises(DataError, match=message):
        chosen_targets(with_words(y=words), ["y"], "auto")


def test_which_of_several_columns_of_words_is_to_be_said() -> None:
    dataset = with_words(a=["x", "y"] * 30, b=["x", "y"] * 30)
    with pytest.raises(ConfigError, match="must name one of the columns .* got none of a, b"):
        chosen_targets(dataset, (), "auto")


def test_a_rare_class_is_said(tmp_path, caplog) -> None:
    words = ["rare"] * 4 + ["common"] * 56
    config = TrainingConfig(**SETTINGS, split={"kind": "random", "test": 0.1})
    with caplog.at_level(logging.WARNING):
        train(with_words(y=words), config, tmp_path / "run")
    assert "Target y = rare: only" in caplog.text
    assert "F1 and ROC-AUC" in caplog.text


def test_probabilities_of_models_that_learned_each_class_for_itself_stay_as_they_were() -> None:
    classes = {"y": ("a", "b")}
    values = np.array([[0.2, 0.6]])
    scales = [Scale(f"y = {word}", "", "binary", 0.0, 1.0) for word in "ab"]
    np.testing.assert_allclose(normalised(values, scales, classes), [[0.25, 0.75]])
    np.testing.assert_array_equal(normalised(values[:, :1], scales[:1], classes), [[0.2]])
    nothing = normalised(np.zeros((1, 2)), scales, classes)
    np.testing.assert_allclose(nothing, [[0.5, 0.5]])


def test_the_probabilities_of_classes_are_the_softmax_of_the_outputs() -> None:
    scales = [Scale(f"y = {word}", "", "class", 0.0, 1.0) for word in "abc"]
    logits = np.array([[1.0, -2.0, 0.5], [40.0, 3.0, -700.0], [-50.0, -50.0, -50.0]])
    expected = softmax(logits, axis=1)
    values = np.stack([scale.physical(z) for scale, z in zip(scales, logits.T, strict=True)], 1)
    found = normalised(values, scales, {"y": tuple("abc")})
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-14)
    np.testing.assert_allclose(settled(scales, logits), expected, rtol=1e-12, atol=1e-15)


def test_classes_are_learned_by_the_cross_entropy_of_their_softmax() -> None:
    scales = [Scale(f"y = {word}", "", "class", 0.0, 1.0) for word in "abc"]
    scales.append(Scale("size", "", "none", 0.0, 1.0))
    outputs = torch.randn(5, 4, generator=torch.manual_seed(0))
    answers = torch.tensor([0, 2, 1, 1, 0])
    targets = torch.cat([functional.one_hot(answers, 3).float(), torch.zeros(5, 1)], 1)
    mask = torch.ones(5, 4)
    mask[4, :3] = 0  # whose class is not known
    minibatch = SimpleNamespace(batch=None, targets=targets, mask=mask, n_labels=mask.sum())
    loss = Objective(lambda _: outputs, "l1", scales)(minibatch)
    entropy = functional.cross_entropy(outputs[:4, :3], answers[:4], reduction="sum")
    expected = (3 * entropy + outputs[:, 3].abs().sum()) / mask.sum()
    torch.testing.assert_close(loss, expected)


def test_one_class_is_not_selected_without_the_others(run, tmp_path) -> None:
    model = load(run.model)
    with pytest.raises(ModelError, match="must hold all classes of a column"):
        model["size = large"]
    names = [f"size = {word}" for word in ("small", "large", "middle")]
    crystals = made_up_dataset().crystals[:3]
    some = model[names]
    some.save(tmp_path / "saved")
    expected = model.predict(crystals).values.reshape(3, 3)[:, [2, 0, 1]]
    for found in (some, load(tmp_path / "saved")):
        np.testing.assert_allclose(found.predict(crystals).values.reshape(3, 3), expected)


# -------------------------------------------------------------------------------------- measures


def test_measures_agree_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 200)
    chances = rng.dirichlet([1, 1, 1], 200) + np.eye(3)[true]
    chances /= chances.sum(1, keepdims=True)
    said = chances.argmax(1)
    found = class_metrics(np.eye(3)[true], chances, ["a", "b", "c"])
    assert found["confusion"] == metrics.confusion_matrix(true, said).tolist()
    for key, expected in {
        "accuracy": metrics.accuracy_score(true, said),
        "balanced_accuracy": metrics.balanced_accuracy_score(true, said),
        "f1": metrics.f1_score(true, said, average="macro"),
        "roc_auc": metrics.roc_auc_score(true, chances, multi_class="ovr"),
        "log_loss": metrics.log_loss(true, chances),
    }.items():
        assert found[key] == pytest.approx(expected), key
    target, chance = (true == 1).astype(float), chances[:, 1]
    found = binary_metrics(target, chance)
    yes = chance > 0.5
    for key, expected in {
        "f1": metrics.f1_score(target, yes),
        "precision": metrics.precision_score(target, yes),
        "recall": metrics.recall_score(target, yes),
        "roc_auc": metrics.roc_auc_score(target, chance),
    }.items():
        assert found[key] == pytest.approx(expected), key


def test_what_one_class_alone_does_not_define_is_none() -> None:
    found = binary_metrics([0, 0, np.nan], [0.1, 0.2, 0.9])
    assert (found["n"], found["accuracy"]) == (2, 1.0)
    assert [found[k] for k in ("roc_auc", "f1", "recall")] == [None] * 3


# --------------------------------------------------------------------------------------- reading

SALT = {
    "lattice": [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]],
    "species": ["Na", "Cl"],
    "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
}


def lines(path: Path, rows) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture
def table(tmp_path) -> Path:
    kinds = ["cubic", "layered", None, "cubic"] * 10
    rows = [
        {"id": f"r{k}", **SALT, "kind": kind, "x": k / 3, "from": "a" if k % 2 else "b"}
        for k, kind in enumerate(kinds)
    ]
    return lines(tmp_path / "set.jsonl", rows)


def test_words_that_repeat_are_read_beside_numbers(table) -> None:
    dataset = data.open(table)
    assert list(dataset.targets) == ["x"]
    assert dataset.words.keys() == {"kind", "from"}
    assert dataset.words["kind"][:4].tolist() == ["cubic", "layered", "", "cubic"]
    assert dataset.subset([1]).words["kind"].tolist() == ["layered"]


def test_a_named_column_of_words_is_read_from_tables_and_folders(table, tmp_path) -> None:
    dataset = data.open(table, targets=["kind"])
    assert not dataset.targets
    assert set(dataset.words) == {"kind"}
    data.build(table, tmp_path / "folder")
    stored = ParquetFolder(tmp_path / "folder").dataset(["kind", "x"])
    np.testing.assert_array_equal(stored.words["kind"], dataset.words["kind"])
    assert list(stored.targets) == ["x"]
    with pytest.raises(DataError, match="must be columns of the data .* got 'sort'"):
        data.open(table, targets=["sort"])


def test_a_few_words_among_numbers_are_refused_still(tmp_path) -> None:
    rows = [{"id": f"r{k}", **SALT, "y": "bad" if k == 3 else k} for k in range(9)]
    dataset = data.open(lines(tmp_path / "set.jsonl", rows), targets="y", on_error="skip")
    assert len(dataset) == 8
    assert "must be a finite number or missing, got 'bad'" in dataset.failures[0].reason


def test_check_says_classes_and_what_is_no_class(table, tmp_path) -> None:
    found = check_records(data.iter_records(table, targets="kind"), targets=["kind"])
    texts = [f.text for f in found.findings if f.kind == "classes"]
    assert texts == ["kind: 2 classes: 'cubic' 20, 'layered' 10"]
    rows = [{"id": f"r{k}", **SALT, "kind": "cubic"} for k in range(9)]
    found = check_records(data.iter_records(lines(tmp_path / "one.jsonl", rows)))
    assert [f.kind for f in found.findings if f.severity == "problem"] == ["constant"]
