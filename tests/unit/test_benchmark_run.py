"""A benchmark trains each fold once, survives being killed, and keeps the test sealed."""

import csv
import gzip
import hashlib
import itertools
import json
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from tiny_network import made_up_dataset, registered  # noqa: F401  (the fixture)
from typer.testing import CliRunner

from potnet.benchmark import OpenSuite, Outcome, Suite, TableRow, Task, contestants, run
from potnet.benchmark.contestants import Composition, Mean, Network
from potnet.benchmark.cost import Cost, Meter
from potnet.benchmark.external import External
from potnet.benchmark.sweep import read_sweep
from potnet.benchmark.table import markdown, read_rows, write_table
from potnet.data.public.official import MATBENCH_SEED
from potnet.data.splits.by_crystal import shuffled_folds
from potnet.errors import ConfigError, DataError
from potnet.training import TrainingConfig, train
from potnet.training.optimizer import SHORTEST_SIDE

SUITE = Suite("tiny", "a test", (Task("size", "Å"),), "matbench", 60)
SETTINGS = {"network": "tiny", "epochs": 3, "batch_size": 16, "device": "cpu"}


@pytest.fixture(scope="module")
def opened() -> OpenSuite:
    data = made_up_dataset()
    return OpenSuite(SUITE, data, shuffled_folds(len(data), seed=MATBENCH_SEED))


def compete(opened: OpenSuite, row: TableRow, **options):
    (found,) = run(opened, [row], source="", features=row.folder / "features", **options)
    return found


@dataclass(frozen=True)
class Spy(Mean):
    """The mean predictor, which writes down what it saw and can be killed."""

    network: str = "spy"
    die_in: str = ""

    def compete(self, job):
        with open(job.folder.parent / "seen.txt", "a") as file:
            file.write(f"{job.folder.name}\n")
        assert np.isnan(job.dataset.targets["size"][job.split.test]).all()
        if job.folder.name == self.die_in:
            raise KeyboardInterrupt
        return super().compete(job)

    def settings(self):
        return {"network": self.network}


def test_every_crystal_is_tested_once_with_the_mean_of_its_own_fold(opened, tmp_path) -> None:
    found = compete(opened, TableRow("mean", Mean(), tmp_path))
    assert found["tasks"]["size"]["test"]["n"] == 60
    with open(tmp_path / "predictions-size.csv") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["id"] for row in rows) == sorted(opened.dataset.ids)
    values = dict(zip(opened.dataset.ids, opened.dataset.targets["size"], strict=True))
    for fold in range(5):
        split = opened.split(["size"], fold)
        mean = opened.dataset.targets["size"][split.train].mean()
        mine = [row for row in rows if row["fold"] == str(fold)]
        assert {row["id"] for row in mine} == {opened.dataset.ids[k] for k in split.test}
        for row in mine:
            assert float(row["prediction"]) == pytest.approx(mean)
            assert float(row["target"]) == pytest.approx(values[row["id"]])


def test_a_killed_benchmark_goes_on_without_repeating_finished_folds(opened, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        compete(opened, TableRow("spy", Spy(die_in="size-fold2-seed0"), tmp_path))
    assert not (tmp_path / "results.json").exists()
    found = compete(opened, TableRow("spy", Spy(), tmp_path))
    seen = (tmp_path / "jobs" / "seen.txt").read_text().split()
    assert seen == [f"size-fold{k}-seed0" for k in (0, 1, 2, 2, 3, 4)]
    compete(opened, TableRow("spy", Spy(), tmp_path))
    assert len((tmp_path / "jobs" / "seen.txt").read_text().split()) == 6
    assert found["folds"] == [0, 1, 2, 3, 4]


def test_a_killed_network_ends_with_the_numbers_of_one_never_killed(opened, tmp_path) -> None:
    network = Network(TrainingConfig(**SETTINGS, checkpoint_seconds=0))
    whole = compete(opened, TableRow("tiny", network, tmp_path / "whole"), folds=[1])
    epochs = []

    def killed(progress) -> None:
        epochs.append(progress)
        if len(epochs) == 2:
            raise KeyboardInterrupt

    row = TableRow("tiny", network, tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        compete(opened, row, folds=[1], progress=killed)
    again = compete(opened, row, folds=[1])
    assert again["tasks"]["size"]["test"] | {"looked_at": 0} == whole["tasks"]["size"]["test"] | {
        "looked_at": 0
    }
    assert whole["tasks"]["size"]["cost"]["epochs_per_job"] == 3


def test_a_look_at_the_test_is_written_down_once_for_the_same_predictions(opened, tmp_path) -> None:
    row = TableRow("composition", Mean(), tmp_path)
    sealed = compete(opened, row, score_test=False)
    assert "test" not in sealed["tasks"]["size"]
    assert not (tmp_path / "scored.jsonl").exists()
    assert not (tmp_path / "predictions-size.csv").exists()
    for _ in range(2):
        found = compete(opened, row)
        assert found["tasks"]["size"]["test"]["looked_at"]["times"] == 1
    assert len((tmp_path / "scored.jsonl").read_text().splitlines()) == 5
    changed = tmp_path / "jobs" / "size-fold3-seed0" / "predicted.csv"
    header, *lines = changed.read_text().splitlines()
    changed.write_text("\n".join([header, *(line.replace(",", ",1") for line in lines)]))
    assert compete(opened, row)["tasks"]["size"]["test"]["looked_at"]["times"] == 2


def test_several_seeds_predict_together_and_validate_on_different_crystals(
    opened, tmp_path
) -> None:
    network = Network(TrainingConfig(**SETTINGS, members=2, seed=5, split={"val": 0.25}))
    found = compete(opened, TableRow("tiny", network, tmp_path), folds=[0])
    assert found["seeds"] == [5, 6]
    assert found["tasks"]["size"]["test"]["n"] == 12
    parts = []
    for seed in (5, 6):
        job = tmp_path / "jobs" / f"size-fold0-seed{seed}"
        parts.append(json.loads((job / "training" / "split.json").read_text()))
    assert not set(parts[0]["val"]) & set(parts[1]["val"])
    assert parts[0]["test"] == parts[1]["test"]


def test_other_settings_are_refused_and_more_folds_are_welcome(opened, tmp_path) -> None:
    compete(opened, TableRow("tiny", Network(TrainingConfig(**SETTINGS)), tmp_path), folds=[0])
    other = Network(TrainingConfig(**{**SETTINGS, "epochs": 4}))
    with pytest.raises(ConfigError, match="must keep its settings") as caught:
        compete(opened, TableRow("tiny", other, tmp_path))
    assert '{"settings": {"epochs": 4}} in place of {"settings": {"epochs": 3}}' in str(
        caught.value
    )
    network = Network(TrainingConfig(**SETTINGS))
    found = compete(opened, TableRow("tiny", network, tmp_path), folds=[0, 3])
    assert found["folds"] == [0, 3]
    with pytest.raises(ConfigError, match="must be from 0 to 4"):
        compete(opened, TableRow("tiny", network, tmp_path), folds=[5])
    with pytest.raises(ConfigError, match="targets must be size"):
        compete(opened, TableRow("tiny", network, tmp_path), targets=["weight"])


def test_a_budget_decides_the_epochs_once(opened, tmp_path) -> None:
    network = Network(TrainingConfig(**SETTINGS), budget=0.3)
    found = compete(opened, TableRow("tiny", network, tmp_path), folds=[0])
    job = tmp_path / "jobs" / "size-fold0-seed0"
    chosen = json.loads((job / "budget.json").read_text())
    assert chosen["epochs"] == max(1, int(0.3 / chosen["seconds_per_epoch"]))
    assert found["tasks"]["size"]["cost"]["epochs_per_job"] == chosen["epochs"]
    assert json.loads((job / "training" / "config.json").read_text())["epochs"] == chosen["epochs"]


@pytest.mark.parametrize(("budget", "probed", "chosen"), [(0.5, 1, 1), (3, 2, 3), (50, 3, 50)])
def test_the_time_of_an_epoch_is_learned_within_half_of_the_budget(
    opened, tmp_path, monkeypatch, budget, probed, chosen
) -> None:
    epochs = []

    def counting(dataset, config, folder, *, progress, **options):
        def count(event):
            epochs.append((Path(folder).name, event.stage))
            progress(event)

        return train(dataset, config, folder, progress=count, **options)

    ticks = itertools.count()  # each epoch takes one second
    monkeypatch.setattr(contestants, "_clock", lambda config: lambda: next(ticks))
    monkeypatch.setattr(contestants, "train", counting)
    network = Network(TrainingConfig(**SETTINGS), budget=budget)
    compete(opened, TableRow("tiny", network, tmp_path), folds=[0])
    stages = [folder == "training" for folder, stage in epochs if stage == "training"]
    assert stages == [False] * probed + [True] * chosen
    assert not list((tmp_path / "jobs").glob("*/tmp*"))


def test_targets_with_a_split_of_their_own_are_held_back(tmp_path) -> None:
    data = made_up_dataset()
    labels = np.array(["train"] * 40 + ["val"] * 10 + ["test"] * 10)
    values = data.targets["size"].copy()
    values[50:] = np.nan
    data = replace(data, targets={"size": values}, splits={"size": labels})
    suite = Suite("sealed", "a test", (Task("size", "Å"),), "labels")
    found = compete(OpenSuite(suite, data), TableRow("mean", Mean(), tmp_path))["tasks"]["size"]
    assert found["held_back"]["n"] == 10
    assert "test" not in found
    error = np.abs(values[40:50] - values[:40].mean()).mean()
    assert found["validation"]["mae"] == pytest.approx(error)
    with open(tmp_path / "submission-size.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "prediction"]
    assert [row["id"] for row in rows] == list(data.ids[50:])


@pytest.fixture
def two_splits() -> OpenSuite:
    """A suite of two targets, each with an official split of its own."""
    data = made_up_dataset(n_targets=2)
    labels = np.array(["train"] * 40 + ["val"] * 10 + ["test"] * 10)
    data = replace(data, splits={"size": labels, "half": labels[::-1]})
    suite = Suite("two", "a test", (Task("size", "Å"), Task("half", "Å")), "labels")
    return OpenSuite(suite, data)


OF_SIZE = {"kind": "given", "of": "size"}


def test_a_target_that_only_helps_is_not_scored(two_splits, tmp_path) -> None:
    config = TrainingConfig(**SETTINGS, targets=("size", "half"), split=OF_SIZE)
    opened, data = two_splits, two_splits.dataset
    found = compete(opened, TableRow("joint", Network(config), tmp_path))
    assert list(found["tasks"]) == ["size"]
    assert (found["tasks"]["size"]["test"]["n"], found["tasks"]["size"]["validation"]["n"]) == (
        10,
        10,
    )
    merged = compete(
        opened, TableRow("merged", Network(replaced(config, split={})), tmp_path / "m")
    )
    assert list(merged["tasks"]) == ["size", "half"]
    job = json.loads((tmp_path / "m/jobs/size+half-fold0-seed0/training/split.json").read_text())
    held_back = {data.ids[k] for k in (*range(20), *range(40, 60))}
    assert not held_back & set(job["train"])  # Neither target's validation or test is learned.


def test_a_question_about_a_target_is_learned_and_scored_beside_it(two_splits, tmp_path) -> None:
    config = TrainingConfig(**SETTINGS, targets=("size", "size > 7.5", "half"), split=OF_SIZE)
    row, data = TableRow("asked", Network(config), tmp_path), two_splits.dataset
    found = compete(two_splits, row)
    assert list(found["tasks"]) == ["size", "size > 7.5"]
    with open(tmp_path / "predictions-size___7.5.csv") as file:
        rows = list(csv.DictReader(file))
    values = dict(zip(data.ids, data.targets["size"], strict=True))
    assert [float(row["target"]) for row in rows] == [values[row["id"]] > 7.5 for row in rows]
    assert all(0 < float(row["prediction"]) < 1 for row in rows)
    assert compete(two_splits, row) == found


def test_the_area_is_measured_where_a_target_is_0_or_1(tmp_path) -> None:
    data = made_up_dataset()
    larger = (data.targets["size"] > np.median(data.targets["size"])).astype(float)
    data = replace(data, targets={"large": larger}, units={"large": "1"})
    suite = Suite("yes", "a test", (Task("large", "1", metric="roc_auc"),), "matbench", 60)
    opened = OpenSuite(suite, data, shuffled_folds(60, seed=MATBENCH_SEED))
    network = Network(TrainingConfig(**SETTINGS))
    found = compete(opened, TableRow("tiny", network, tmp_path / "tiny"))["tasks"]["large"]
    with open(tmp_path / "tiny" / "predictions-large.csv") as file:
        rows = [(float(row["target"]), float(row["prediction"])) for row in csv.DictReader(file)]
    assert all(0 < chance < 1 for _, chance in rows)  # no standardised numbers
    pairs = [(one, zero) for is_1, one in rows if is_1 for is_0, zero in rows if not is_0]
    area = np.mean([(one > zero) + (one == zero) / 2 for one, zero in pairs])
    assert found["test"]["roc_auc"] == pytest.approx(area)
    compete(opened, TableRow("mean", Mean(), tmp_path / "mean"))
    rows = [row for name in ("tiny", "mean") for row in read_rows(tmp_path / name)]
    _, table = write_table(rows, tmp_path / "table")
    against = table["rows"][1]["tasks"]["large"]["against_first"]
    assert against["difference"] == pytest.approx(
        against["roc_auc_first"] - against["roc_auc_second"]
    )
    assert "test ROC-AUC (95 % interval)" in markdown(table)


def test_entries_without_a_crystal_are_listed_in_the_folder_of_a_row(opened, tmp_path) -> None:
    short = replace(opened, left_out=("mb-tiny-0061", "mb-tiny-0062"))
    compete(short, TableRow("mean", Mean(), tmp_path))
    assert (tmp_path / "left-out.txt").read_text() == "mb-tiny-0061\nmb-tiny-0062\n"


def replaced(config: TrainingConfig, **changes) -> TrainingConfig:
    return TrainingConfig(**{**config.to_dict(), **changes})


def test_composition_alone_beats_the_mean_where_elements_decide(opened, tmp_path) -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    data = opened.dataset
    values = np.array([c.numbers.mean() / 30 for c in data.crystals]) + rng.normal(0, 0.01, 60)
    data = replace(data, targets={"size": values})
    opened = OpenSuite(SUITE, data, opened.folds)
    maes = {
        name: compete(opened, TableRow(name, kind(), tmp_path / name), folds=[0])["tasks"]["size"][
            "test"
        ]["mae"]
        for name, kind in (("composition", Composition), ("mean", Mean))
    }
    assert maes["composition"] < 0.7 * maes["mean"]


def test_composition_alone_gives_chances_where_a_target_is_0_or_1(opened, tmp_path) -> None:
    pytest.importorskip("sklearn")
    data = opened.dataset
    means = np.array([c.numbers.mean() for c in data.crystals])
    heavy = (means > np.median(means)).astype(float)
    data = replace(data, targets={"heavy": heavy}, units={"heavy": "1"})
    suite = replace(SUITE, tasks=(Task("heavy", "1", metric="roc_auc"),))
    opened = OpenSuite(suite, data, opened.folds)
    row = TableRow("composition", Composition(), tmp_path)
    found = compete(opened, row, folds=[0])["tasks"]["heavy"]["test"]
    assert found["roc_auc"] > 0.9


RIVAL = """
import csv, json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
order = json.loads((folder / "job.json").read_text())
read = lambda part: [json.loads(l) for l in (folder / f"{part}.jsonl").read_text().splitlines()]
train, val, test = (read(part) for part in ("train", "val", "test"))
assert not any("target" in record for record in test)
assert order["budget"] == 7 and order["settings"] == {"slope": 2}
mean = sum(record["target"] for record in train) / len(train)
with open(folder / "predictions.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["id", "prediction"])
    writer.writerows([r["id"], mean + order["settings"]["slope"]] for r in [*val, *test][MISSING:])
(folder / "cost.json").write_text(json.dumps({"n_parameters": 1, "epochs": 4, "seconds": 2.0}))
"""


def test_a_row_may_learn_from_fewer_crystals_and_says_so(opened, tmp_path) -> None:
    rows = []
    for most in (20, 30, 0):
        few = replace(opened, suite=replace(SUITE, most=most))
        row = TableRow(f"at most {most}", Mean(), tmp_path / str(most))
        found = compete(few, row, folds=[2])
        assert found.get("most", 0) == most
        assert found["tasks"]["size"]["test"]["n"] == 12
        split = few.split(["size"], 2)
        assert len(split.train) + len(split.val) == (most or 48)
        mean = opened.dataset.targets["size"][split.train].mean()
        with open(row.folder / "predictions-size.csv") as file:
            predicted = [float(line["prediction"]) for line in csv.DictReader(file)]
        assert predicted == pytest.approx([mean] * 12)
        with pytest.raises(ConfigError, match="must keep its most"):
            compete(replace(opened, suite=replace(SUITE, most=40)), row, folds=[2])
        rows += read_rows(row.folder)
    text = write_table(rows, tmp_path / "table")[0].read_text()
    assert "| row | crystals at most |" in text
    assert "| at most 20 | 20 |" in text
    assert "| at most 0 |  |" in text


def test_another_program_competes_on_the_same_crystals(opened, tmp_path) -> None:
    script = tmp_path / "rival.py"
    script.write_text(RIVAL.replace("MISSING", "0"))
    rival = External("shifted", f"{sys.executable} {script}", {"slope": 2}, budget=7)
    found = compete(opened, TableRow("shifted", rival, tmp_path / "out"), folds=[2])["tasks"][
        "size"
    ]
    split = opened.split(["size"], 2)
    values = opened.dataset.targets["size"]
    error = np.abs(values[split.test] - values[split.train].mean() - 2).mean()
    assert found["test"]["mae"] == pytest.approx(error)
    assert (found["cost"]["n_parameters"], found["cost"]["seconds_per_epoch"]) == (1, 0.5)
    assert found["cost"]["peak_memory_mb"] > 1


def test_a_program_that_fails_or_forgets_a_crystal_is_named(opened, tmp_path) -> None:
    script = tmp_path / "rival.py"
    rival = External("shifted", f"{sys.executable} {script}", {"slope": 2}, budget=7)
    with pytest.raises(DataError, match="must end with code 0, got 2"):
        compete(opened, TableRow("shifted", rival, tmp_path / "a"), folds=[2])
    script.write_text(RIVAL.replace("MISSING", "1"))
    with pytest.raises(DataError, match="must have all validation and test crystals"):
        compete(opened, TableRow("shifted", rival, tmp_path / "b"), folds=[2])
    missing = External("none", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="the program must start"):
        compete(opened, TableRow("none", missing, tmp_path / "c"), folds=[2])


def test_rows_that_were_not_tested_are_compared_on_validation(opened, tmp_path) -> None:
    tiny = Network(TrainingConfig(**SETTINGS))
    for name, contestant in (("mean", Mean()), ("tiny", tiny)):
        compete(opened, TableRow(name, contestant, tmp_path / name), folds=[0, 1], score_test=False)
    found = [row for name in ("mean", "tiny") for row in read_rows(tmp_path / name)]
    _, table = write_table(found, tmp_path / "table")
    against = table["rows"][1]["tasks"]["size"]["against_first"]
    assert against["part"] == "validation"
    assert against["difference"] == pytest.approx(against["mae_first"] - against["mae_second"])
    assert "test" not in table["rows"][1]["tasks"]["size"]


def test_rows_are_compared_as_each_combines_its_seeds(opened, tmp_path) -> None:
    rules = ("mean", "median")
    for rule in rules:
        network = Network(TrainingConfig(**{**SETTINGS, "members": 3, "combine": rule}))
        compete(opened, TableRow(rule, network, tmp_path / rule), folds=[0])
    found = [row for rule in rules for row in read_rows(tmp_path / rule)]
    _, table = write_table(found, tmp_path / "table")
    first, second = (row["tasks"]["size"] for row in table["rows"])
    against = second["against_first"]  # the row, then the one above
    assert against["mae_first"] == pytest.approx(second["test"]["mae"])
    assert against["mae_second"] == pytest.approx(first["test"]["mae"])
    assert first["test"]["mae"] != second["test"]["mae"]


def test_a_table_compares_each_row_with_the_first_and_keeps_predictions(opened, tmp_path) -> None:
    for name, contestant in (("mean", Mean()), ("spy", Spy())):
        compete(opened, TableRow(name, contestant, tmp_path / "rows" / name))
    found = [row for name in ("mean", "spy") for row in read_rows(tmp_path / "rows" / name)]
    path, table = write_table(found, tmp_path / "kept", keep=True)
    against = table["rows"][1]["tasks"]["size"]["against_first"]
    assert (against["n"], against["difference"], against["p_value"]) == (60, 0, 1)
    assert "against_first" not in table["rows"][0]["tasks"]["size"]
    kept, other = (row["tasks"]["size"]["test"] for row in table["rows"])
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["mean-predictions-size.csv.gz"]
    text = gzip.decompress((tmp_path / kept["predictions"]).read_bytes())
    assert hashlib.sha256(text).hexdigest() == kept["sha256"]
    assert kept["sha256"] == other["sha256"]  # the spy predicts the mean
    assert "predictions" not in other
    assert path.read_text() == markdown(json.loads((tmp_path / "kept.json").read_text()))
    assert "| mean |" in path.read_text()
    with pytest.raises(DataError, match="names of their own, got a second mean"):
        write_table([*found, found[0]], tmp_path / "twice")
    other = tmp_path / "other"
    suite = Suite("tiny-2", "a test", (Task("size", "Å"),), "matbench", 60)
    compete(OpenSuite(suite, opened.dataset, opened.folds), TableRow("mean", Mean(), other))
    with pytest.raises(DataError, match="must have the suite and the data"):
        write_table([*found, *read_rows(other)], tmp_path / "mixed")


def test_a_table_that_stands_alone_takes_more_rows(opened, tmp_path) -> None:
    rows = tmp_path / "rows"
    for name, contestant in (("mean", Mean()), ("spy", Spy()), ("late", Spy())):
        compete(opened, TableRow(name, contestant, rows / name))
    folders = {name: list(read_rows(rows / name)) for name in ("mean", "spy", "late")}
    write_table([*folders["mean"], *folders["spy"]], tmp_path / "short", keep=True)
    _, at_once = write_table(sum(folders.values(), []), tmp_path / "table", keep=True)
    expected = (tmp_path / "table.md").read_text()
    kept = {file.name: file.read_bytes() for file in (tmp_path / "table").iterdir()}
    shutil.rmtree(rows / "mean")
    shutil.rmtree(rows / "spy")
    later = [*read_rows(tmp_path / "short.json"), *folders["late"]]
    _, table = write_table(later, tmp_path / "table", keep=True)
    assert (tmp_path / "table.md").read_text() == expected
    assert table == at_once
    assert {file.name: file.read_bytes() for file in (tmp_path / "table").iterdir()} == kept
    turned = [*folders["late"], *read_rows(tmp_path / "table.json")][:2]
    write_table(turned, tmp_path / "turned")
    first, second = json.loads((tmp_path / "turned.json").read_text())["rows"]
    assert (first["name"], second["name"]) == ("late", "mean")
    assert second["tasks"]["size"]["against_first"]["p_value"] == 1
    spy = [row for row in read_rows(tmp_path / "table.json") if row[1]["name"] == "spy"]
    with pytest.raises(DataError, match="keeps the predictions of its first row alone"):
        write_table([*folders["late"], *spy], tmp_path / "turned")


HEAD = '"suite": "tiny", "what": "", "data": {}, "notes": [], "n_folds": 1'
NO_TABLES = ["no JSON", "[]", '{"suite": "tiny"}']
NO_TABLES += [f'{{{HEAD}, "rows": {rows}}}' for rows in ("1", "[1]", '[{"name": "one"}]')]


@pytest.mark.parametrize("text", NO_TABLES)
def test_what_is_not_a_table_is_refused(text, tmp_path) -> None:
    path = tmp_path / "table.json"
    with pytest.raises(DataError, match=r"table\.json: must be a table of benchmark results"):
        list(read_rows(path))
    path.write_text(text)
    with pytest.raises(DataError, match=r"table\.json: must be a table of benchmark results"):
        list(read_rows(path))


def test_the_meter_counts_over_interruptions(tmp_path) -> None:
    times = iter([10.0, 14.0, 100.0, 101.0, 101.0])
    meter = Meter(tmp_path / "cost.json", lambda: next(times))
    meter.epoch()
    meter.save()
    later = Meter(tmp_path / "cost.json", lambda: next(times))
    later.epoch()
    assert (later.seconds, later.epochs) == (5.0, 2)


def test_a_contestant_needs_no_more_than_the_protocol(opened, tmp_path) -> None:
    @dataclass(frozen=True)
    class Zero(Mean):
        network: str = "zero"

        def compete(self, job):
            return Outcome(np.zeros((len(job.asked), 1)), Cost())

    found = compete(opened, TableRow("zero", Zero(), tmp_path))["tasks"]["size"]["test"]
    assert found["mae"] == pytest.approx(np.abs(opened.dataset.targets["size"]).mean())


# ------------------------------------------------------------------------------ the command line


@pytest.fixture(scope="module")
def data_file(opened, tmp_path_factory) -> Path:
    from potnet.benchmark.external import record_of

    path = tmp_path_factory.mktemp("data") / "made-up.jsonl"
    with open(path, "w") as file:
        for crystal, value in zip(
            opened.dataset.crystals, opened.dataset.targets["size"], strict=True
        ):
            file.write(json.dumps({**record_of(crystal), "targets": {"size": value}}) + "\n")
    return path


def invoke(*words: object):
    from potnet.cli import app

    return CliRunner().invoke(app, ["benchmark", *map(str, words)])


def test_a_benchmark_of_own_data_from_the_command_line(data_file, tmp_path) -> None:
    words = ("own", "--data", data_file, "--network", "tiny", "--epochs", 2, "--set", "device=cpu")
    done = invoke(*words, "-o", tmp_path / "tiny")
    assert done.exit_code == 0, done.output
    assert "size in no unit" in done.output
    done = invoke("own", "--data", data_file, "--network", "mean", "-o", tmp_path / "mean")
    assert done.exit_code == 0, done.output
    few = ("own", "--data", data_file, "--network", "mean", "--most", 20, "-o", tmp_path / "few")
    done = invoke(*few)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "few" / "results.json").read_text())["most"] == 20
    tables = [tmp_path / name / "predictions-size.csv" for name in ("tiny", "mean")]
    done = invoke("compare", *tables)
    assert done.exit_code == 0, done.output
    assert "crystals in both" in done.output
    folders = (tmp_path / "mean", tmp_path / "tiny")
    done = invoke("table", *folders, "-o", tmp_path / "kept" / "made-up")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "kept" / "made-up" / "mean-predictions-size.csv.gz").exists()


def test_a_run_of_a_sweep_may_be_called_by_a_number(tmp_path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("runs: {128: {batch_size: 128}, 1024: {batch_size: 1024}}\n")
    found = read_sweep(path).configs
    assert {name: config.batch_size for name, config in found.items()} == {"128": 128, "1024": 1024}


def test_a_sweep_trains_its_runs_as_rows_of_one_table(data_file, tmp_path) -> None:
    sweep = tmp_path / "sweep.yaml"
    base = "base: {network: tiny, epochs: 2, device: cpu, split: {kind: random, seed: 4}}\n"
    sweep.write_text(base + "runs: {plain: {}, wide: {network_settings: {width: 12}}}\n")
    done = invoke(sweep, "--data", data_file, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert [row["name"] for row in table["rows"]] == ["plain", "wide"]
    widths = [row["settings"]["network_settings"]["width"] for row in table["rows"]]
    assert widths == [SHORTEST_SIDE, 12]
    assert (tmp_path / "out" / "wide" / "jobs" / "size-fold0-seed0" / "training" / "model").exists()
    done = invoke(sweep, "--data", data_file, "-o", tmp_path / "out", "--only", "narrow")
    assert done.exit_code == 1
    assert "must name runs (plain, wide)" in done.output


def test_mistakes_are_told_in_one_sentence(data_file, tmp_path) -> None:
    for words, message in (
        (("nonsense", "-o", tmp_path), "the name must be one of"),
        (("matbench-elastic", "-o", tmp_path), "`--data` must name the file"),
        (("own", "--data", data_file, "--folds", "a", "-o", tmp_path), "must be numbers like"),
        (
            ("own", "--data", data_file, "--network", "mean", "--epochs", 2, "-o", tmp_path),
            "no settings",
        ),
        (("compare", data_file, data_file), "columns id and prediction"),
    ):
        done = invoke(*words)
        assert done.exit_code == 1, done.output
        assert message in done.output


def test_the_suites_are_listed() -> None:
    done = invoke("suites")
    assert done.exit_code == 0
    for name in ("matbench-phonons", "jarvis-oxides-nitrides", "qmof", "jarvis:dft_3d_2021"):
        assert name in done.output
