"""Training runs from a dataset to a model that others can load and repeat."""

import csv
import dataclasses
import json
import shutil
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import t as student
from tiny_network import (
    FORBIDDEN,
    TinyFeatures,
    TinyNet,
    TinySettings,
    made_up_dataset,
    registered,  # noqa: F401  (a fixture)
)

from potnet.data import Dataset
from potnet.errors import ConfigError, DataError, PotNetError, StructureError
from potnet.features.complete import CompleteFeatures
from potnet.models import archive, registry
from potnet.models.card import OriginCard
from potnet.prediction import load
from potnet.targets import Scale, compositions
from potnet.training import TrainingConfig, evaluate, loop, train
from potnet.training.batches import Minibatch, stratified_batches
from potnet.training.finetune import outputs_alike, resolved
from potnet.training.run_folder import FORMER, fingerprints
from potnet.training.trainer import SURE, Objective, Trainer, doubt


def config(**settings) -> TrainingConfig:
    defaults = {"network": "tiny", "epochs": 3, "batch_size": 16, "device": "cpu"}
    return TrainingConfig(**{**defaults, "learning_rate": 1e-2, **settings})


def table(path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def weights(result) -> bytes:
    return (result.model / archive.WEIGHTS_NAME).read_bytes()


def with_targets(dataset: Dataset, **columns) -> Dataset:
    return dataclasses.replace(dataset, targets={**dataset.targets, **columns})


def labelled(dataset: Dataset) -> Dataset:
    labels = np.array((["train"] * 8 + ["val", "test"]) * (len(dataset) // 10))
    return dataclasses.replace(dataset, splits={"": labels})


def test_what_is_divided_by_the_formula_is_known_before_training(tmp_path):
    """Labels as energies of one formula, which the composition alone does not give."""
    dataset = labelled(made_up_dataset(200))
    few = tuple(c.replace(numbers=c.numbers % 4 + 5) for c in dataset.crystals)
    dataset = dataclasses.replace(dataset, crystals=few)
    values = []
    for crystal in few:
        counts = np.unique(crystal.numbers, return_counts=True)[1]
        values.append(crystal.numbers.mean() * np.gcd.reduce(counts) / counts.sum())
    dataset = with_targets(dataset, size=np.array(values))
    errors = {}
    for per_formula in (False, True):
        settings = {"width": 8, "n_layers": 0, "per_formula": per_formula}
        run = config(
            network="completenet",
            network_settings=settings,
            epochs=1,
            learning_rate=1e-6,
            split="given",
        )
        trained = train(dataset, run, tmp_path / str(per_formula))
        errors[per_formula] = trained.metrics["val"]["size"]["mae"]
    assert errors[True] < 0.05 * errors[False]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "out"
    return train(made_up_dataset(400), config(epochs=40, members=2), output)


def test_a_run_beats_the_mean_of_the_training_targets(result):
    metrics = result.metrics["test"]["size"]
    assert metrics["n"] == 40
    assert metrics["mae"] < 0.6 * metrics["baseline_mae"]
    assert metrics["mae_low"] < metrics["mae"] < metrics["mae_high"]
    assert json.loads((result.output / "metrics.json").read_text()) == result.metrics


def test_a_run_leaves_what_is_needed_to_repeat_it(result):
    split = json.loads((result.output / "split.json").read_text())
    assert [len(split[part]) for part in ("train", "val", "test")] == [320, 40, 40]
    assert TrainingConfig.read(result.output / "config.json") == config(epochs=40, members=2)
    run = json.loads((result.output / "run.json").read_text())
    assert run["data"]["sha256"] == made_up_dataset(400).sha256
    assert set(run["versions"]) == {"potnet", "torch", "numpy", "python"}
    rows = table(result.output / "metrics.csv")
    assert [(row["member"], row["epoch"]) for row in rows[38:42]] == [
        ("0", "39"), ("0", "40"), ("1", "1"), ("1", "2")
    ]  # fmt: skip
    assert table(result.output / "errors.csv") == []


def test_the_kept_weights_are_the_best_on_validation(result):
    rows = table(result.output / "metrics.csv")
    for member, best in enumerate(result.best_epochs):
        scores = [float(row["val_score"]) for row in rows if row["member"] == str(member)]
        assert best == 1 + int(np.argmin(scores))


def test_the_model_predicts_what_the_run_wrote(result):
    dataset = made_up_dataset(400)
    place = {id: k for k, id in enumerate(dataset.ids)}
    rows = table(result.output / "predictions.csv")
    crystals = [dataset.crystals[place[row["id"]]] for row in rows]
    found = load(result.model).predict(crystals)
    np.testing.assert_allclose(
        [row.prediction for row in found], [float(row["prediction"]) for row in rows], rtol=1e-5
    )
    assert [float(row["target"]) for row in rows] == [
        dataset.targets["size"][place[row["id"]]] for row in rows
    ]


def test_the_card_says_what_the_model_was_trained_on(result):
    card = archive.read_card(result.model)
    dataset = made_up_dataset(400)
    split = json.loads((result.output / "split.json").read_text())
    train_ids = set(split["train"])
    chosen = [c for c in dataset.crystals if c.id in train_ids]
    assert (card.data.n_train, card.data.n_val, card.data.n_test) == (320, 40, 40)
    assert set(card.data.elements) == {symbol for c in chosen for symbol in c.symbols}
    assert card.data.max_atoms == 3
    volumes = [c.volume / c.n_atoms for c in chosen]
    assert card.data.volume_per_atom == pytest.approx((min(volumes), max(volumes)))
    assert len(card.golden) == 3
    values = [dataset.targets["size"][dataset.ids.index(id)] for id in split["train"]]
    assert card.targets[0].mean == pytest.approx(np.mean(values))
    assert card.targets[0].std == pytest.approx(np.std(values))


def test_the_interval_comes_from_the_validation_residuals(result):
    card = archive.read_card(result.model).targets[0]
    rows = table(result.output / "predictions-val.csv")
    residuals = sorted(abs(float(r["target"]) - float(r["prediction"])) for r in rows)
    assert card.interval_halfwidth == pytest.approx(residuals[int(np.ceil(41 * 0.9)) - 1], rel=1e-5)


def test_evaluation_gives_the_metrics_of_the_run(result, tmp_path):
    dataset = made_up_dataset(400)
    split = json.loads((result.output / "split.json").read_text())
    test = dataset.subset([dataset.ids.index(id) for id in split["test"]])
    found = evaluate(result.model, test)
    expected = result.metrics["test"]["size"]
    assert found.metrics["size"]["mae"] == pytest.approx(expected["mae"], rel=1e-5)
    assert 0.6 <= found.metrics["size"]["coverage"] <= 1
    found.write(tmp_path)
    assert len(table(tmp_path / "predictions.csv")) == 40
    assert json.loads((tmp_path / "metrics.json").read_text()) == found.metrics


def test_evaluation_takes_one_part_of_an_official_split(result):
    dataset = labelled(made_up_dataset(60))
    found = evaluate(result.model, dataset, part="test")
    assert [row["id"] for row in found.rows] == [f"made-{k}" for k in range(9, 60, 10)]
    with pytest.raises(DataError, match="must have a val part"):
        evaluate(result.model, made_up_dataset(20), part="val")
    with pytest.raises(DataError, match="must be predicted by the model"):
        evaluate(result.model, dataset, targets=["gap"])


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path):
    dataset = made_up_dataset()
    runs = [
        train(dataset, config(seed=seed), tmp_path / name)
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    ]
    first, again, other = (weights(run) for run in runs)
    assert first == again != other
    for name in ("metrics.csv", "predictions.csv", "predictions-val.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_members_of_an_ensemble_differ(result):
    members, _ = archive.read(result.model)
    assert len(members) == 2
    assert not torch.equal(members[0].head.weight, members[1].head.weight)


def test_a_run_leaves_the_random_numbers_of_the_caller_alone(tmp_path):
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    train(made_up_dataset(), config(epochs=1), tmp_path / "run")
    after = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(3))
    assert torch.get_num_threads() == threads


def test_nothing_but_the_training_rows_sets_the_scale_and_the_steps(tmp_path):
    honest = labelled(made_up_dataset())
    labels = honest.splits[""]
    shifted = np.where(labels == "train", 0, 1000.0) + honest.targets["size"]
    runs = [
        train(data, config(), tmp_path / name)
        for name, data in (("a", honest), ("b", with_targets(honest, size=shifted)))
    ]
    a, b = (archive.read_card(run.model).targets[0] for run in runs)
    values = honest.targets["size"][labels == "train"]
    assert (a.mean, a.std) == (b.mean, b.std) == (values.mean(), values.std())
    losses = [[r["train_loss"] for r in table(run.output / "metrics.csv")] for run in runs]
    assert losses[0] == losses[1]


def test_test_crystals_without_targets_are_predicted(tmp_path):
    dataset = labelled(made_up_dataset())
    held = np.where(dataset.splits[""] == "test", np.nan, dataset.targets["size"])
    result = train(with_targets(dataset, size=held), config(), tmp_path / "run")
    rows = table(result.output / "predictions.csv")
    assert [row["id"] for row in rows] == [f"made-{k}" for k in range(9, 60, 10)]
    assert all(row["target"] == "" and np.isfinite(float(row["prediction"])) for row in rows)
    assert set(result.metrics) == {"val"}


def test_training_crystals_without_targets_are_listed(tmp_path):
    dataset = made_up_dataset()
    column = dataset.targets["size"].copy()
    column[[4, 9]] = np.nan
    result = train(with_targets(dataset, size=column), config(epochs=1), tmp_path / "run")
    assert [row["id"] for row in table(result.output / "errors.csv")] == ["made-4", "made-9"]
    assert len(result.failures) == 2


def test_several_targets_may_have_gaps(tmp_path):
    dataset = labelled(made_up_dataset(100, n_targets=2))
    gaps = dataset.targets["half"].copy()
    gaps[::3] = np.nan
    result = train(with_targets(dataset, half=gaps), config(epochs=30), tmp_path / "run")
    assert set(result.metrics["test"]) == {"size", "half"}
    assert [result.metrics["test"][name]["n"] for name in ("size", "half")] == [10, 6]
    for name in ("size", "half"):
        assert len(table(result.output / f"predictions-{name}.csv")) == 10
        assert len(table(result.output / f"predictions-val-{name}.csv")) == 10
        assert f"val_mae_{name}" in table(result.output / "metrics.csv")[0]
    assert result.metrics["val"]["half"]["mae"] < result.metrics["val"]["half"]["baseline_mae"]


def test_logarithms_are_undone_in_what_is_written(tmp_path):
    dataset = made_up_dataset(100)
    big = with_targets(dataset, size=10 ** dataset.targets["size"])
    result = train(big, config(epochs=30, transform="log10"), tmp_path / "run")
    rows = table(result.output / "predictions-val.csv")
    assert all(float(row["prediction"]) > 0 for row in rows)
    target, prediction = (
        np.log10([float(row[key]) for row in rows]) for key in ("target", "prediction")
    )
    card = archive.read_card(result.model).targets[0]
    assert card.transform == "log10"
    assert np.abs(target - prediction).mean() < card.std
    halfwidth = np.sort(np.abs(target - prediction))[int(np.ceil(11 * 0.9)) - 1]
    assert card.interval_halfwidth == pytest.approx(halfwidth, rel=1e-4)


def test_logarithms_need_positive_targets(tmp_path):
    dataset = made_up_dataset()
    column = dataset.targets["size"].copy()
    column[7] = -1.0
    with pytest.raises(
        DataError, match=r"'size' must be positive for log10, got -1.0 for 'made-7'"
    ):
        train(with_targets(dataset, size=column), config(transform="log10"), tmp_path / "run")


def test_crystals_that_cannot_be_prepared_stop_the_run_or_are_listed(tmp_path):
    dataset = made_up_dataset()
    crystals = list(dataset.crystals)
    crystals[2] = crystals[2].replace(numbers=np.full(crystals[2].n_atoms, FORBIDDEN))
    dataset = dataclasses.replace(dataset, crystals=tuple(crystals))
    with pytest.raises(StructureError, match="made-2"):
        train(dataset, config(epochs=1), tmp_path / "a")
    result = train(dataset, config(epochs=1), tmp_path / "b", on_error="skip")
    assert [failure.id for failure in result.failures] == ["made-2"]
    rows = table(result.output / "errors.csv")
    assert [(row["id"], row["stage"]) for row in rows] == [("made-2", "features")]
    split = json.loads((result.output / "split.json").read_text())
    assert "made-2" not in {id for ids in split.values() for id in ids}


def test_training_stops_when_validation_no_longer_improves(tmp_path):
    result = train(made_up_dataset(), config(epochs=200, patience=5), tmp_path / "run")
    rows = table(result.output / "metrics.csv")
    assert len(rows) == result.best_epochs[0] + 5 < 200


def test_one_epoch_of_one_step_is_enough(tmp_path):
    result = train(made_up_dataset(20), config(epochs=1, batch_size=100), tmp_path / "run")
    assert len(table(result.output / "metrics.csv")) == 1
    assert archive.read_card(result.model).targets[0].interval_halfwidth is None


@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_other_losses_train(tmp_path, loss):
    result = train(made_up_dataset(), config(loss=loss, gradient_clip=None), tmp_path / "run")
    rows = table(result.output / "metrics.csv")
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


def test_mixed_precision_trains(tmp_path):
    settings = {"precision": "bf16-mixed", "epochs": 10}
    result = train(made_up_dataset(), config(**settings), tmp_path / "run")
    rows = table(result.output / "metrics.csv")
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


def test_a_run_that_diverges_says_so(tmp_path):
    dataset = made_up_dataset()
    settings = {"learning_rate": 1e30, "gradient_clip": None, "loss": "mse", "epochs": 20}
    with pytest.raises(ConfigError, match="loss must stay finite"):
        train(dataset, config(**settings, network_settings={"plain": True}), tmp_path / "run")


def test_features_can_be_shared_between_runs(tmp_path):
    dataset = made_up_dataset()
    batch = TinyFeatures()(dataset.crystals)
    shared = train(dataset, config(), tmp_path / "a", batch=batch)
    assert weights(shared) == weights(train(dataset, config(), tmp_path / "b"))
    with pytest.raises(DataError, match="`batch` must hold the 60 crystals"):
        train(dataset, config(), tmp_path / "c", batch=batch[:5])
    others = CompleteFeatures(degree=0)(dataset.crystals)
    with pytest.raises(ConfigError, match="train: `batch` must be of features with TinyFeatures"):
        train(dataset, config(), tmp_path / "d", batch=others)
    with pytest.raises(DataError, match="train: `batch` must be of features, got list"):
        train(dataset, config(), tmp_path / "e", batch=[1, 2])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"targets": ["gap"]}, ConfigError, r"columns of the dataset \(size\), got \['gap'\]"),
        ({"transform": {"gap": "log10"}}, ConfigError, "columns of the dataset"),
        ({"network": "none"}, ConfigError, "networks: `name` must be one of"),
        ({"network_settings": {"depth": 3}}, ConfigError, "`depth`"),
        ({"split": "given"}, ConfigError, "has no labels"),
        ({"split": {"kind": "random", "val": 0.001}}, DataError, "`val` must hold at least one"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(tmp_path, settings, error, message):
    with pytest.raises(error, match=message):
        train(made_up_dataset(), config(**settings), tmp_path / "run")


@pytest.mark.parametrize("kind", ["random", "published", "k-fold"])
def test_every_rule_of_splitting_trains(tmp_path, kind):
    result = train(made_up_dataset(), config(epochs=1, split=kind), tmp_path / "run")
    assert result.metrics["test"]["size"]["n"] == (12 if kind == "k-fold" else 6)


def test_crystals_of_many_pairs_are_left_out_of_some_epochs(tmp_path, monkeypatch):
    seen = []

    def counted(sizes, n_batches, rng):
        seen.append(len(sizes))
        return stratified_batches(sizes, n_batches, rng)

    monkeypatch.setattr("potnet.training.trainer.stratified_batches", counted)
    for thin_above in (None, 1):
        settings = config(epochs=3, batch_size=4, split="random", thin_above=thin_above)
        result = train(made_up_dataset(), settings, tmp_path / f"{thin_above}")
        assert len(table(result.output / "metrics.csv")) == 3
    whole, thinned = np.array_split(seen, 2)
    assert sum(thinned) < 0.8 * sum(whole)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_epoch_on_a_gpu_never_waits_for_the_device(tmp_path):
    from lightning_fabric import Fabric

    from potnet.training.batches import HeldFeatures
    from potnet.training.features import Survey

    dataset = made_up_dataset(64)
    fabric = Fabric(accelerator="cuda", devices=1)
    targets = dataset.targets["size"][:, None]
    store = HeldFeatures(Survey.of(TinyFeatures()(dataset.crystals)), targets, fabric.device)
    trainer = Trainer(
        fabric,
        config(device="cuda"),
        0,
        scales=[Scale("size", "", "none", 0.0, 1.0, 0.0)],
        pair_counts=store.pair_counts,
        references=np.zeros((0, 1)),
    )
    minibatches = list(store.minibatches([np.arange(32), np.arange(32, 64)]))
    trainer.objective.train()
    trainer.step_through(minibatches[:1])  # makes the optimizer's state, and loads libraries
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the mode, which is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step_through(minibatches[1:])
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_run_goes_on_from_another_model_with_other_targets(result, tmp_path):
    settings = {"finetune": str(result.model), "members": 2, "epochs": 1, "learning_rate": 1e-12}
    found = train(made_up_dataset(60, n_targets=2), config(**settings), tmp_path / "out")
    before, card = archive.read(result.model)
    after, new_card = archive.read(found.model)
    for old, new in zip(before, after, strict=True):
        assert new.head.weight.shape == (2, 64)
        torch.testing.assert_close(new.embed.weight, old.embed.weight)
        torch.testing.assert_close(new.edge.weight, old.edge.weight)
    assert new_card.finetuned_from == OriginCard(
        name="out", weights_sha256=card.weights_sha256, data=card.data
    )
    assert card.finetuned_from is None


def test_going_on_from_a_model_pays(result, tmp_path):
    errors = []
    for start in (None, str(result.model)):
        settings = {"epochs": 3, "finetune": start, "learning_rate": 3e-3}
        found = train(made_up_dataset(200), config(**settings), tmp_path / str(bool(start)))
        errors.append(found.metrics["test"]["size"]["mae"])
    assert errors[1] < 0.9 * errors[0]


def test_going_on_with_the_same_quantity_keeps_its_output_and_scale(result, tmp_path):
    before, card = archive.read(result.model)
    few = made_up_dataset(30)
    settings = {"network": "tiny", "finetune": str(result.model), "batch_size": 8, "device": "cpu"}
    found = train(few, TrainingConfig(**settings, learning_rate=1e-12, epochs=1), tmp_path / "out")
    after, new_card = archive.read(found.model)
    assert len(after) == len(before)  # all its networks go on, if nobody says how many
    target, old = new_card.targets[0], card.targets[0]
    assert (target.unit, target.mean, target.std) == (old.unit, old.mean, old.std)
    torch.testing.assert_close(after[0].head.weight, before[0].head.weight)
    other = dataclasses.replace(
        few, targets={"size": few.targets["size"] / 10}, units={"size": "nm"}
    )
    again = train(other, TrainingConfig(**settings, learning_rate=1e-12, epochs=1), tmp_path / "nm")
    assert again.metrics["val"]["size"]["mae"] == pytest.approx(
        found.metrics["val"]["size"]["mae"], rel=1e-5
    )


def test_going_on_never_keeps_weights_that_are_worse_than_those_it_began_with(result, tmp_path):
    noise = np.random.default_rng(0).standard_normal(30)
    few = labelled(made_up_dataset(30))
    spoiled = np.where(few.splits[""] == "train", 9 * noise, few.targets["size"])
    settings = {"finetune": str(result.model), "learning_rate": 0.1, "members": 1, "epochs": 3}
    found = train(with_targets(few, size=spoiled), config(**settings), tmp_path / "out")
    rows = table(found.output / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert found.best_epochs == (0,)
    untouched, _ = archive.read(result.model)
    kept, _ = archive.read(found.model)
    for name, tensor in untouched[0].state_dict().items():
        torch.testing.assert_close(kept[0].state_dict()[name], tensor)


def test_a_network_that_goes_on_has_to_be_better_than_by_chance():
    rng = np.random.default_rng(0)
    first = rng.exponential(size=100)
    trainer = SimpleNamespace(begins_trained=True, first_errors=None, sureness=SURE)
    assert Trainer.margin(trainer, first) == 0
    assert Trainer.margin(trainer, first - 0.1) == pytest.approx(0)  # better for all alike
    change = rng.standard_normal(100)
    later = first + change
    later[3] = np.nan
    expected = student.ppf(0.99, 98) * np.delete(change, 3).std(ddof=1) / np.sqrt(99)
    assert Trainer.margin(trainer, later) == pytest.approx(expected, rel=1e-4)
    few = change[:5]
    expected = student.ppf(0.99, 4) * few.std(ddof=1) / np.sqrt(5)
    assert doubt(few) == pytest.approx(expected, rel=0.02)
    assert doubt(few[:1], 0.0) == 0
    assert Trainer.margin(SimpleNamespace(begins_trained=False), later) == 0
    one = SimpleNamespace(begins_trained=True, first_errors=first[:1], sureness=SURE)
    assert Trainer.margin(one, first[:1]) == np.inf  # one crystal says nothing


def test_frozen_weights_stay_as_they_are(result, tmp_path):
    settings = {"finetune": str(result.model), "freeze": ["embed", "edge.weight"], "members": 1}
    dataset = made_up_dataset(60, n_targets=2)
    found = train(dataset, config(**settings), tmp_path / "out")
    before, after = (archive.read(path)[0][0] for path in (result.model, found.model))
    assert torch.equal(before.embed.weight, after.embed.weight)
    assert torch.equal(before.edge.weight, after.edge.weight)
    assert not torch.equal(before.edge.bias, after.edge.bias)


@pytest.mark.parametrize(
    "names", [["layers"], ["embed.weigh"], ["embed", "edge", "norm", "mix", "head"]]
)
def test_what_is_frozen_must_be_there_and_not_all(tmp_path, names):
    with pytest.raises(ConfigError, match="`freeze` must name some of the network's weights"):
        train(made_up_dataset(20), config(freeze=names), tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"finetune": "nowhere"}, "must be the name of a bundled model"),
        (
            {"finetune": "bulk-modulus"},
            "`network` must be that of `finetune`, completenet, got tiny",
        ),
        ({"network_settings": {"width": 4}}, "must keep the shape of .* got {'width': 4}"),
    ],
)
def test_a_model_to_go_on_from_must_fit(result, tmp_path, settings, message):
    with pytest.raises(PotNetError, match=message):
        train(
            made_up_dataset(20),
            config(**{"finetune": str(result.model), **settings}),
            tmp_path / "a",
        )


def test_a_run_does_not_continue_from_other_first_weights(result, tmp_path):
    start = tmp_path / "start"
    shutil.copytree(result.model, start)
    settings = config(finetune=str(start), epochs=2, members=1)
    train(made_up_dataset(20), settings, tmp_path / "out")
    other = train(made_up_dataset(30), config(epochs=1), tmp_path / "other")
    shutil.copytree(other.model, start, dirs_exist_ok=True)
    with pytest.raises(DataError, match="checkpoint"):
        train(made_up_dataset(20), settings, tmp_path / "out", resume=True)


def test_a_run_does_not_continue_with_other_defaults_of_its_network(tmp_path, monkeypatch):
    class Before(TinySettings):
        slope: float = 1.0

    class Now(TinySettings):
        slope: float = 2.0

    def known(settings):
        monkeypatch.setitem(
            registry._registered, "tiny", type("Other", (TinyNet,), {"Settings": settings})
        )

    settings = config(epochs=2)
    known(Before)
    train(made_up_dataset(20), settings, tmp_path / "out")
    known(Now)
    with pytest.raises(DataError, match="must belong to this run, got one of other .* settings"):
        train(made_up_dataset(20), settings, tmp_path / "out", resume=True)


@pytest.mark.parametrize("which", range(1, 1 + len(FORMER)))
def test_a_run_that_began_with_former_defaults_goes_on(tmp_path, monkeypatch, which):
    def former(*arguments):
        return fingerprints(*arguments)[which : which + 1]

    dataset = made_up_dataset(20)
    settings = {"network": "tiny", "batch_size": 16, "threads": 1, "device": "cpu"}
    with monkeypatch.context() as then:
        then.setattr(loop, "fingerprints", former)
        begun = TrainingConfig(**settings, transform="none", epochs=2, combine="median")
        train(dataset, begun, tmp_path / "run")
    found = train(dataset, TrainingConfig(**settings), tmp_path / "run", resume=True)
    assert len(table(found.output / "metrics.csv")) == 2  # what nobody says stays
    longer = TrainingConfig(**settings, epochs=3)
    train(dataset, longer, tmp_path / "run", resume=True)
    assert len(table(found.output / "metrics.csv")) == 3


def gaps(n: int) -> Dataset:
    """Return crystals of which those of a light first element have a gap that grows with size."""
    dataset = made_up_dataset(n)
    light = np.array([crystal.numbers[0] < 45 for crystal in dataset.crystals])
    length = np.array([crystal.volume for crystal in dataset.crystals]) ** (1 / 3)
    values = np.where(light, length - 3, 0.0)
    return dataclasses.replace(dataset, targets={"gap": values}, units={"gap": "eV"})


def test_a_gap_and_whether_there_is_one_are_learned_together(tmp_path):
    settings = {"targets": ["gap", "gap > 0"], "transform": {"gap": "nonnegative"}, "epochs": 60}
    found = train(gaps(400), config(**settings), tmp_path / "out")
    rows = {
        name: table(found.output / f"predictions-{name}.csv") for name in ("gap", "gap-above-0")
    }
    predicted = np.array([float(row["prediction"]) for row in rows["gap"]])
    sure = np.array([float(row["prediction"]) for row in rows["gap-above-0"]])
    answers = np.array([float(row["target"]) for row in rows["gap-above-0"]])
    assert (predicted >= 0).all()
    assert ((sure >= 0) & (sure <= 1)).all()
    assert set(answers) == {0, 1}
    metrics = found.metrics["test"]["gap > 0"]
    assert metrics["accuracy"] == np.mean((sure > 0.5) == answers) >= 0.8
    assert metrics["baseline_accuracy"] == max(answers.mean(), 1 - answers.mean()) < 0.6
    again = evaluate(found.model, gaps(400))
    assert set(again.metrics) == {"gap", "gap > 0"}
    card = archive.read_card(found.model)
    assert [t.transform for t in card.targets] == ["nonnegative", "binary"]
    assert card.targets[1].interval_halfwidth is None


def test_an_output_below_zero_is_no_error_where_the_target_is_zero():
    scale = Scale("gap", "eV", "nonnegative", mean=1.0, std=2.0, physical_mean=1.0)
    outputs = torch.tensor([[-3.0], [-3.0], [0.5], [-0.5]], requires_grad=True)
    targets = torch.tensor([[-0.5], [0.0], [-0.5], [-0.5]])
    mask = torch.ones_like(targets)
    objective = Objective(torch.nn.Identity(), "l1", [scale])
    loss = objective(Minibatch(outputs, targets, mask, 4.0))  # pyright: ignore[reportArgumentType]
    loss.backward()
    assert loss.item() == pytest.approx((0 + 3 + 1 + 0) / 4)
    assert outputs.grad[0].item() == 0
    assert outputs.grad[1].item() < 0
    np.testing.assert_array_equal(scale.physical(np.array([-3.0, 0.5])), [0.0, 2.0])


@pytest.mark.parametrize(
    ("transform", "value", "message"),
    [
        ("nonnegative", -0.1, "must be zero or more for nonnegative, got -0.1"),
        ("binary", 0.5, "must be 0 or 1 for binary, got 0.5"),
        ("log10", 0.0, "must be positive for log10, got 0.0"),
    ],
)
def test_targets_must_fit_their_transform(tmp_path, transform, value, message):
    dataset = with_targets(made_up_dataset(10), size=np.append(np.ones(9), value))
    with pytest.raises(DataError, match=message):
        train(dataset, config(transform=transform), tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "n_crystals", "members"),
    [
        ({}, 20_000, 3),
        ({}, 20_001, 1),
        ({"epochs": 50}, 100, 1),
        ({"members": 2}, 100, 2),
        ({"members": 1}, 100, 1),
    ],
)
def test_few_crystals_are_learned_by_several_networks(settings, n_crystals, members):
    assert resolved(TrainingConfig(**settings), {}, n_crystals).members == members


def test_the_same_quantity_by_another_method_begins_as_what_the_model_predicts(
    result, tmp_path, caplog
):
    few = labelled(made_up_dataset(60))
    other = with_targets(few, radius=1.5 * load(result.model).predict(few.crystals).values + 2)
    settings = config(
        finetune=str(result.model), targets="radius", split="given", learning_rate=1e-12, epochs=1
    )
    with caplog.at_level("WARNING"):
        found = train(other, settings, tmp_path / "out")
    assert "radius begins as size of" in caplog.text
    (old,), (new,) = (archive.read_card(path).targets for path in (result.model, found.model))
    assert (new.name, new.mean, new.std) == ("radius", old.mean, old.std)
    before, after = (archive.read(path)[0][0] for path in (result.model, found.model))
    torch.testing.assert_close(after.head.weight, before.head.weight)


def test_an_output_is_recognised_where_a_few_values_are_out_by_far(result):
    few = labelled(made_up_dataset(50))
    said = load(result.model).predict(few.crystals).values
    rng = np.random.default_rng(0)
    radius = said * 1.2 + 0.1 * rng.standard_normal(50)
    radius[[3, 21]] += 40 * said.std()
    assert np.corrcoef(said, radius)[0, 1] < 0.5
    settings = config(finetune=str(result.model), targets="radius", split="given")
    assert outputs_alike(settings, with_targets(few, radius=radius)) == {"radius": "size"}


def test_what_the_composition_tells_as_well_does_not_begin_as_an_output(result):
    few = labelled(made_up_dataset(200))
    few = dataclasses.replace(
        few, crystals=tuple(c.replace(numbers=c.numbers % 4 + 5) for c in few.crystals)
    )
    said = load(result.model).predict(few.crystals).values
    shares = compositions(few, 10)
    only = shares @ np.linalg.lstsq(shares, said, rcond=None)[0]
    settings = config(finetune=str(result.model), targets="radius", split="given")
    assert outputs_alike(settings, with_targets(few, radius=only)) == {}
    assert outputs_alike(settings, with_targets(few, radius=said)) == {"radius": "size"}


def test_each_target_begins_as_the_output_that_tells_it_with_its_transform(tmp_path):
    few = labelled(made_up_dataset(60))
    lengths = np.array([crystal.cell[0, 0] for crystal in few.crystals])
    atoms = np.array([float(crystal.n_atoms) for crystal in few.crystals])
    both = dataclasses.replace(few, targets={"length": lengths, "atoms": atoms}, units={})
    settings = config(split="given", transform={"length": "log10"}, epochs=20)
    begun = train(both, settings, tmp_path / "begun")
    model = load(begun.model)
    other = dataclasses.replace(
        few,
        targets={"number": model["atoms"].predict(few.crystals).values * 2 - 1,
                 "side": model["length"].predict(few.crystals).values},
        units={},
    )  # fmt: skip
    going = config(finetune=str(begun.model), split="given", learning_rate=1e-12, epochs=1)
    alike = outputs_alike(going, other)
    assert alike == {"number": "atoms", "side": "length"}
    found = train(other, going, tmp_path / "found")
    cards = archive.read_card(found.model).targets
    assert [(card.name, card.transform) for card in cards] == [
        ("number", "none"),
        ("side", "log10"),
    ]
    assert found.metrics["val"]["side"]["mae"] < 0.1 * lengths.std()
    # One of them alone begins as its output, too; yes and no are no quantity.
    alone = config(finetune=str(begun.model), split="given", targets="side")
    assert outputs_alike(alone, other) == {"side": "length"}
    questions = with_targets(other, side=(other.targets["side"] > 6).astype(float))
    assert outputs_alike(alone, questions) == {}


def test_another_quantity_does_not_begin_as_what_the_model_predicts(result, tmp_path, caplog):
    few = labelled(made_up_dataset(60))
    noise = np.random.default_rng(0).standard_normal(60)
    settings = {"finetune": str(result.model), "targets": "noise", "members": 1, "epochs": 1}
    with caplog.at_level("WARNING"):
        found = train(with_targets(few, noise=noise), config(**settings), tmp_path / "out")
    assert "begins as" not in caplog.text
    card = archive.read_card(found.model).targets[0]
    assert card.mean == pytest.approx(noise[few.splits[""] == "train"].mean())


def test_a_target_is_transformed_as_in_the_model_to_go_on_from(tmp_path):
    few = made_up_dataset(40)
    few = with_targets(few, size=few.targets["size"] - few.targets["size"].min() + 1)
    begun = train(few, config(transform="log10"), tmp_path / "begun")
    again = train(few, config(finetune=str(begun.model), members=1), tmp_path / "again")
    assert archive.read_card(again.model).targets[0].transform == "log10"
    other = with_targets(few, size=few.targets["size"] - 2)
    found = train(other, config(finetune=str(begun.model), members=1), tmp_path / "found")
    assert archive.read_card(found.model).targets[0].transform == "none"
