"""The demo, in its short form, leaves what it promises."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import potnet
from potnet.cli import app
from potnet.demo import MODELS, examples

pytestmark = pytest.mark.usefixtures("bundled_models")


def run_demo(output: Path) -> str:
    result = CliRunner().invoke(app, ["demo", "--fast", "-o", str(output)], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_the_demo_leaves_predictions_metrics_plot_and_report(tmp_path: Path) -> None:
    output = tmp_path / "demo-output"
    said = run_demo(output)
    names = {path.name for path in output.iterdir()}
    assert {"predictions.csv", "report.html", "training", "parity-bulk_modulus.png"} <= names
    with open(output / "predictions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    crystals = potnet.read(examples())
    assert len(rows) == len(MODELS) * len(crystals)
    assert {row["id"] for row in rows} == {crystal.id for crystal in crystals}
    metrics = json.loads((output / "training" / "metrics.json").read_text())
    assert metrics["test"]["bulk_modulus"]["n"] > 0
    page = (output / "report.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == 3
    assert all(crystal.id in page for crystal in crystals)
    for name in ("report.html", "predictions.csv", "metrics.json", "parity-bulk_modulus.png"):
        assert name in said.replace("\n", "")


def test_a_second_demo_does_not_write_over_the_first(tmp_path: Path) -> None:
    (tmp_path / "demo-output").mkdir()
    (tmp_path / "demo-output" / "mine.txt").write_text("mine")
    run_demo(tmp_path / "demo-output")
    assert [path.name for path in (tmp_path / "demo-output").iterdir()] == ["mine.txt"]
    assert (tmp_path / "demo-output-2" / "report.html").exists()
