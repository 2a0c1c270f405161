"""Committed results are whole and small, and their commands say what was done."""

import gzip
import hashlib
import importlib.util
import json
import shlex
from pathlib import Path

import pytest

from potnet.benchmark.contestants import Network
from potnet.benchmark.sweep import different, read_sweep
from potnet.benchmark.table import PARTS
from potnet.cli.train import settings_from
from potnet.models import registry
from potnet.training import TrainingConfig
from potnet.training.finetune import first_network

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def results_table():
    spec = importlib.util.spec_from_file_location("results_table", BENCHMARKS / "results_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of_networks():
    for path in sorted((BENCHMARKS / "results/suites").glob("*.json")):
        table = json.loads(path.read_text())
        for row in table["rows"]:
            if row["settings"]["network"] in registry.networks():
                yield pytest.param(table, row, id=f"{path.stem}-{row['name']}")


def after(words, flag):
    """Return the values of an option in a command."""
    return [words[k + 1] for k, word in enumerate(words) if word == flag]


def test_written_tables_are_those_of_the_results(results_table):
    old = [path for path, text in results_table.written().items() if path.read_text() != text]
    assert not old, "Run `python benchmarks/results_table.py --write`."


def test_of_predictions_only_those_of_first_rows_and_submissions_are_kept():
    results = BENCHMARKS / "results"
    kept = {path for path in results.rglob("*.csv*") if path.parent != results / "jarvis"}
    first = {}
    for path in (results / "suites").glob("*.json"):
        rows = json.loads(path.read_text())["rows"]
        tasks = [task for row in rows for task in row["tasks"].values()]
        parts = [part for task in tasks for part in task.values() if isinstance(part, dict)]
        assert all("sha256" in part for part in parts if "predictions" in part), path.name
        for task in rows[0]["tasks"].values():
            for part in (task[name] for name in PARTS if "predictions" in task.get(name, {})):
                first[results / "suites" / part["predictions"]] = part["sha256"]
    assert kept == set(first), "Delete the predictions of rows after the first."
    for path, digest in first.items():
        assert hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() == digest, path.name


@pytest.mark.parametrize(("table", "row"), list(rows_of_networks()))
def test_a_command_gives_the_settings_of_its_row(results_table, table, row):
    words = shlex.split(results_table.command_of(table["suite"], row, table["n_folds"]))
    settings = settings_from(after(words, "--set"))
    for number in after(words, "--epochs"):
        settings["epochs"] = int(number)
    budget = [float(seconds) for seconds in after(words, "--budget")]
    config = TrainingConfig(network=after(words, "--network")[0], **settings)
    found = Network(config, *budget).settings()
    # A setting that came after the row was measured has its default.
    later = {name: TrainingConfig().to_dict()[name] for name in found.keys() - row["settings"]}
    assert found == row["settings"] | later


@pytest.mark.parametrize("name", sorted(path.name for path in (BENCHMARKS / "sweeps").iterdir()))
def test_every_run_of_a_sweep_can_begin(name):
    for run, config in read_sweep(BENCHMARKS / "sweeps" / name).configs.items():
        network = first_network(config, 1)
        assert network.name == config.network, run


def settings_in_command(results_table, **settings):
    """Return what the command of a row sets."""
    return after(command(results_table, "matbench-phonons", **settings), "--set")


def command(results_table, suite, tasks=(), most=None, **settings):
    """Return the words of the command of a row."""
    made = Network(TrainingConfig(**settings)).settings()
    tasks = {target: {"test": {}} for target in tasks}
    row = {"name": "one", "seeds": [0], "folds": [0], "tasks": tasks, "settings": made}
    row |= {"most": most} if most else {}
    return shlex.split(results_table.command_of(suite, row, 5))


def test_a_command_leaves_defaults_out_but_not_those_that_another_model_would_set(results_table):
    tensors = {"features": {"degree": 2}, "dropout": 0.0}
    assert settings_in_command(results_table, network_settings=tensors, weight_decay=0.5) == [
        'network_settings={"features": {"degree": 2}}',
        "weight_decay=0.5",
    ]
    finetune = {"finetune": "mp-formation-energy"}
    assert settings_in_command(results_table, **finetune, network_settings={"dropout": 0.0}) == [
        'network_settings={"dropout": 0.0}',
        'finetune="mp-formation-energy"',
    ]


def test_a_command_names_the_targets_of_a_row_that_has_some_of_its_suite(results_table):
    suite, both = "matbench-elastic", ("log10_K_VRH", "log10_G_VRH")
    assert after(command(results_table, suite, both), "--target") == []
    assert after(command(results_table, suite, both[1:]), "--target") == ["log10_G_VRH"]
    joined = command(results_table, suite, both[1:], targets=["log10_G_VRH"])
    assert after(joined, "--target") == []  # the settings say it


def test_a_command_names_how_many_crystals_a_row_may_learn_from(results_table):
    assert after(command(results_table, "matbench-phonons", most=300), "--most") == ["300"]
    assert after(command(results_table, "matbench-phonons"), "--most") == []


def test_nested_settings_differ_where_a_value_does_or_is_absent():
    ours = {"a": 1, "b": {"c": 2, "d": {"e": 3, "f": 4}}, "g": [1, 2], "h": {}}
    assert different(ours, ours) == {}
    assert different(ours, {**ours, "more": 1}) == {}
    assert different(ours, {"b": {"c": 2, "d": {"e": 0, "f": 4}}, "g": [1], "h": {}}) == {
        "a": 1,
        "b": {"d": {"e": 3}},
        "g": [1, 2],
    }
