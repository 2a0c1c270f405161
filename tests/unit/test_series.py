"""Several runs as one: folds, learning curves; prolonged runs, models of now, and callbacks."""

import csv
import json

import numpy as np
import pytest
from tiny_network import made_up_dataset, registered  # noqa: F401  (a fixture)

from potnet import ConfigError, DataError, TrainingConfig, load, train
from potnet.models import archive
from potnet.report import curve_report, folds_report
from potnet.training import Callback, TensorBoard, cross_validate, learning_curve
from potnet.training.extrapolate import fit_power_law

SETTINGS = {"network": "tiny", "epochs": 2, "batch_size": 16, "threads": 1, "device": "cpu"}
SETTINGS |= {"checkpoint_seconds": 0}


def config(**changes) -> TrainingConfig:
    return TrainingConfig(**SETTINGS | changes)


def rows(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_crystal_is_predicted_once_by_a_network_that_has_not_seen_it(tmp_path) -> None:
    dataset = made_up_dataset()
    found = cross_validate(dataset, config(), tmp_path / "cv", n_folds=3)
    table = rows(tmp_path / "cv" / "predictions.csv")
    assert sorted(row["id"] for row in table) == sorted(dataset.ids)
    for fold in range(3):
        split = json.loads((tmp_path / "cv" / f"fold{fold}" / "split.json").read_text())
        mine = {row["id"] for row in table if row["fold"] == str(fold)}
        assert mine == set(split["test"])
        assert not mine & {*split["train"], *split["val"]}
    errors = [abs(float(row["target"]) - float(row["prediction"])) for row in table]
    m = found.metrics["size"]
    assert m["mae"] == pytest.approx(np.mean(errors))
    assert m["mae_low"] < m["mae"] < m["mae_high"]
    assert len(m["folds"]) == 3
    card = load(tmp_path / "cv").card
    assert card.metrics["folds"]["size"]["mae"] == m["mae"]
    assert card.data.n_train + card.data.n_val == 60
    assert "fold 2" in folds_report(found).read_text()


def test_folds_that_were_interrupted_go_on_and_end_the_same(tmp_path) -> None:
    dataset = made_up_dataset()

    class Stop(Callback):
        def progressed(self, progress) -> None:
            if progress.stage == "training" and (tmp_path / "a" / "fold1").exists():
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cross_validate(dataset, config(), tmp_path / "a", n_folds=2, callbacks=[Stop()])
    cross_validate(dataset, config(), tmp_path / "a", n_folds=2)
    cross_validate(dataset, config(), tmp_path / "b", n_folds=2)
    for name in ("predictions.csv", "metrics.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with pytest.raises(ConfigError, match="a series must stay as it began"):
        cross_validate(dataset, config(), tmp_path / "a", n_folds=3)


def test_a_split_with_parts_of_its_own_has_no_folds(tmp_path) -> None:
    with pytest.raises(ConfigError, match="with a split that is random or k-fold"):
        cross_validate(made_up_dataset(), config(split="time"), tmp_path / "cv")


def test_a_learning_curve_answers_in_a_sentence(tmp_path) -> None:
    found = learning_curve(made_up_dataset(), config(), tmp_path / "curve")
    assert found.sizes[0] == 8
    assert found.sizes[-1] == 48
    tests = [json.loads((tmp_path / "curve" / f"size{n}" / "split.json").read_text())
             for n in found.sizes]  # fmt: skip
    assert all(split["test"] == tests[0]["test"] for split in tests)
    for small, large in zip(tests, tests[1:], strict=False):
        assert set(small["train"]) < set(large["train"])
        assert set(small["val"]) <= set(large["val"])
    sentence = found.laws["size"].sentence("size")
    assert sentence.startswith("size: the error goes as n^")
    assert sentence in curve_report(found, {}).read_text().replace("&#39;", "'")
    assert (tmp_path / "curve" / "learning-curve.png").exists()
    assert json.loads((tmp_path / "curve" / "learning-curve.json").read_text())["size"]["sizes"]
    load(tmp_path / "curve")
    few = made_up_dataset().subset(np.arange(20))
    with pytest.raises(DataError, match="must have 24 crystals to train on"):
        learning_curve(few, config(), tmp_path / "few")


def test_the_exponent_of_a_known_law_is_found_within_its_interval() -> None:
    rng = np.random.default_rng(1)
    sizes = np.array([50, 100, 200, 400, 800])
    hits = []
    for _ in range(40):
        shared = rng.exponential(size=300)  # some crystals are hard for all runs
        scale = 2 * sizes**-0.5 * np.exp(0.03 * rng.standard_normal(5))
        errors = scale[:, None] * shared * rng.lognormal(0, 0.3, (5, 300))
        law = fit_power_law(sizes, errors)
        hits.append(law.exponent_low <= 0.5 <= law.exponent_high)
        assert law.exponent == pytest.approx(0.5, abs=0.15)
        assert law.needed[-1].low <= law.needed[-1].crystals <= law.needed[-1].high
    assert 0.75 <= np.mean(hits) <= 1  # 90 % promised
    exact = fit_power_law(sizes, 3 * sizes[:, None] ** -0.5 * np.ones((5, 20)))
    assert exact.needed[-1].crystals == pytest.approx(4 * 800)
    assert "2,400 more" in exact.sentence("gap")


def test_errors_that_do_not_fall_give_no_number() -> None:
    flat = fit_power_law(np.array([10, 20, 40]), np.ones((3, 9)))
    assert "cannot be told from not falling" in flat.sentence("gap")
    assert json.loads(json.dumps(flat.to_dict()))["needed"][0]["crystals"] is None


# ----------------------------------------------------------------------------- one run, prolonged


def test_a_finished_run_goes_on_for_more_epochs(tmp_path) -> None:
    dataset = made_up_dataset()
    train(dataset, config(epochs=3), tmp_path / "a")
    before = [row for row in rows(tmp_path / "a" / "metrics.csv")]
    result = train(dataset, config(epochs=7), tmp_path / "a", resume=True)
    after = rows(tmp_path / "a" / "metrics.csv")
    assert after[:3] == before
    assert [row["epoch"] for row in after] == ["1", "2", "3", "4", "5", "6", "7"]
    rates = [float(row["learning_rate"]) for row in after]
    assert max(rates[3:]) > rates[2]  # it rises once more
    scores = [float(row["val_score"]) for row in after]
    assert result.best_epochs[0] == int(np.argmin(scores)) + 1
    assert json.loads((tmp_path / "a" / "config.json").read_text())["cycles"] == [3]
    with pytest.raises(ConfigError, match="settings must not change .* epochs"):
        train(dataset, config(epochs=3), tmp_path / "a", resume=True)


def test_a_prolonged_run_that_was_killed_ends_the_same(tmp_path) -> None:
    dataset = made_up_dataset()

    class Stop(Callback):
        def progressed(self, progress) -> None:
            if progress.stage == "training" and progress.done == 5:
                raise KeyboardInterrupt

    for name in ("a", "b"):
        train(dataset, config(epochs=3), tmp_path / name)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, config(epochs=7), tmp_path / "a", resume=True, callbacks=[Stop()])
    for name in ("a", "b"):
        train(dataset, config(epochs=7), tmp_path / name, resume=True)
    cards = [archive.read_card(tmp_path / name / "model") for name in "ab"]
    assert cards[0].weights_sha256 == cards[1].weights_sha256


def test_an_interrupted_run_gives_the_model_of_now_and_still_goes_on(tmp_path) -> None:
    dataset = made_up_dataset()

    class Stop(Callback):
        def progressed(self, progress) -> None:
            if progress.stage == "training" and progress.done == 3:
                raise KeyboardInterrupt

    with pytest.raises(ConfigError, match="must have a checkpoint before"):
        train(dataset, config(epochs=6), tmp_path / "a", resume=True, export_now=True)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, config(epochs=6), tmp_path / "a", resume=True, callbacks=[Stop()])
    now = train(dataset, config(epochs=6), tmp_path / "a", resume=True, export_now=True)
    assert "2 epochs" in load(now.model).card.metrics["note"]
    assert len(rows(tmp_path / "a" / "metrics.csv")) == 2
    train(dataset, config(epochs=6), tmp_path / "a", resume=True)
    train(dataset, config(epochs=6), tmp_path / "b")
    cards = [archive.read_card(tmp_path / name / "model") for name in "ab"]
    assert cards[0].weights_sha256 == cards[1].weights_sha256


# ------------------------------------------------------------------------------------- callbacks


def test_callbacks_are_told_the_beginning_each_epoch_and_the_end(tmp_path) -> None:
    told = []

    class Log(Callback):
        def started(self, config, folder) -> None:
            told.append(("started", config.epochs, folder))

        def progressed(self, progress) -> None:
            if progress.record is not None:
                told.append(progress.record["epoch"])

        def finished(self, result) -> None:
            told.append(result.model)

    result = train(made_up_dataset(), config(), tmp_path / "run", callbacks=[Log()])
    assert told == [("started", 2, tmp_path / "run"), 1, 2, result.model]


def test_tensorboard_that_is_not_there_is_one_sentence(monkeypatch) -> None:
    monkeypatch.setattr("potnet.training.callbacks.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="package tensorboard must be installed"):
        TensorBoard()


# --------------------------------------------------------------------------------------- weights


def test_weights_decide_what_is_learned(tmp_path) -> None:
    dataset = made_up_dataset()
    n = len(dataset)
    train(dataset, config(), tmp_path / "plain")
    train(dataset, config(), tmp_path / "alike", weights=np.full(n, 3.0))
    heavy = np.where(np.arange(n) % 2, 100.0, 1.0)
    train(dataset, config(), tmp_path / "heavy", weights=heavy)
    scores = [
        [float(row["train_loss"]) for row in rows(tmp_path / name / "metrics.csv")]
        for name in ("plain", "alike", "heavy")
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)
    assert scores[0] != pytest.approx(scores[2], rel=1e-3)
    for wrong in ([1.0] * 5, [0.0] * n, [-1.0] * n):
        with pytest.raises(DataError, match="must be a number above zero for each of 60"):
            train(dataset, config(), tmp_path / "wrong", weights=wrong)
