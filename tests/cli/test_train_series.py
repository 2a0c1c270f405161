"""``potnet train`` with several runs, and with words for targets, end to end."""

import csv
import json

import pytest
from typer.testing import CliRunner

from potnet.cli import app

SMALL = ["--epochs", "1", "--set", "network_settings={width: 8, n_layers: 1}", "--device", "cpu"]
SMALL += ["--set", "threads=1"]


@pytest.fixture(scope="module")
def table(salts, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "salts.jsonl"
    rows = [
        {
            **c.as_dict(),
            "id": f"{c.id}-{k}",
            "targets": {"light": str(3 in c.numbers), "v": c.volume},
        }
        for k in range(3)
        for c in salts
    ]
    path.write_text("\n".join(json.dumps(row, default=lambda x: x.tolist()) for row in rows))
    return path


def potnet(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_folds_of_a_column_of_true_and_false(table, tmp_path) -> None:
    out = tmp_path / "cv"
    result = potnet("train", table, "-t", "light", "--folds", 2, "-o", out, *SMALL)
    assert result.exit_code == 0, result.stderr
    assert "ROC-AUC" in result.stdout
    with open(out / "predictions.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 36
    assert potnet("models").exit_code == 0
    (target,) = json.loads((out / "model" / "model.json").read_text())["targets"]
    assert target["transform"] == "binary"


def test_what_does_not_go_together_is_said(table, tmp_path) -> None:
    for flags in (["--folds", 2, "--learning-curve"], ["--export-now"]):
        result = potnet("train", table, "-o", tmp_path / "x", *flags)
        assert result.exit_code == 1
        assert "each go alone" in result.stderr
    assert not (tmp_path / "x").exists()


def test_the_model_of_now_is_written_from_the_command_line(table, tmp_path) -> None:
    out = tmp_path / "run"
    command = ["train", table, "-t", "v", "-o", out, *SMALL]
    assert potnet(*command).exit_code == 0
    result = potnet(*command, "--resume", "--export-now")
    assert result.exit_code == 0, result.stderr
    assert (out / "model" / "model.json").exists()
