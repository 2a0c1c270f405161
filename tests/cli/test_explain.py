"""``potnet explain``: shares on the terminal, in files and in pictures."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import potnet
from potnet.cli import app
from potnet.demo import examples

ROCK_SALT, RUTILE = examples() / "NaCl.cif", examples() / "TiO2-rutile.cif"


def explain(*words: object) -> Result:
    return CliRunner().invoke(app, ["explain", *map(str, words)])


def test_the_terminal_shows_what_adds_up_to_the_prediction() -> None:
    result = explain(ROCK_SALT)
    assert result.exit_code == 0, result.output
    said = result.stdout
    prediction = potnet.load("mp-formation-energy").predict(potnet.read(ROCK_SALT))[0].prediction
    assert f"NaCl: NaCl, formation_energy {prediction:.4g}" in said
    words = {line.split("  ")[0]: line.split()[-1] for line in said.splitlines() if line}
    terms = [float(words[name]) for name in ("composition, without surroundings", "surroundings")]
    assert sum(terms) == pytest.approx(float(words["total"]), abs=0.002)
    assert float(words["total"]) == pytest.approx(prediction, abs=0.001)
    for text in ("coulomb", "beyond 8 Å", "Na-Na", "1 % more volume", "Known: mp-22862", "mp-"):
        assert text in said


def test_json_holds_everything_and_tables_the_shares(tmp_path) -> None:
    files = [tmp_path / f"out{suffix}" for suffix in (".json", ".csv", ".parquet", ".xlsx")]
    for file in files:
        result = explain(ROCK_SALT, RUTILE, "-p", "formation_energy", "-p", "has_band_gap",
                         "-o", file)  # fmt: skip
        assert result.exit_code == 0, result.output
        assert f"4 explanations: {file}" in result.stdout
    found = json.loads(files[0].read_text())
    assert [(one["id"], one["property"]) for one in found] == [
        ("NaCl", "formation_energy"),
        ("NaCl", "has_band_gap"),
        ("TiO2-rutile", "formation_energy"),
        ("TiO2-rutile", "has_band_gap"),
    ]
    for one in found:
        parts = ("composition", "surroundings", "combination", "residual")
        assert sum(one[part] for part in parts) == pytest.approx(one["total"], abs=1e-9)
    gap = found[1]
    assert gap["unit"] == "logit"
    assert 1 / (1 + np.exp(-gap["total"])) == pytest.approx(gap["value"], abs=1e-5)
    with files[1].open() as file:
        rows = list(csv.DictReader(file))
    wanted = ("NaCl", "has_band_gap", "atom")
    rows = [row for row in rows if (row["id"], row["property"], row["kind"]) == wanted]
    shares = [float(row["share"]) for row in rows]
    assert len(shares) == 8
    assert sum(shares) == pytest.approx(gap["surroundings"], abs=1e-5)


def test_a_bad_file_is_named_and_the_others_are_explained(tmp_path) -> None:
    (tmp_path / "bad.cif").write_text("data_x\n")
    out, picture = tmp_path / "out.csv", tmp_path / "x.png"
    result = explain(tmp_path / "bad.cif", ROCK_SALT, RUTILE, "-o", out, "--plot", picture)
    assert result.exit_code == 3
    assert "bad" in (tmp_path / "errors.csv").read_text()
    assert "1 skipped" in result.stderr
    assert {path.name for path in tmp_path.glob("*.png")} == {"x.png", "x-2.png"}
    assert picture.read_bytes().startswith(b"\x89PNG")
    result = explain(tmp_path / "bad.cif", ROCK_SALT)
    assert result.exit_code == 3
    assert "bad [read]" in result.stderr
    assert "total" in result.stdout


def test_a_crystal_without_layers_has_no_exfoliation_energy_to_explain() -> None:
    result = explain(ROCK_SALT, "-p", "exfoliation_energy")
    assert result.exit_code == 3
    assert "must consist of layers" in result.stderr


def test_properties_that_follow_from_others_are_refused() -> None:
    result = explain(ROCK_SALT, "-p", "young_modulus")
    assert result.exit_code == 1
    assert "must be one that a model predicts itself" in result.stderr


def test_an_archive_of_ones_own_is_explained_with_all_that_it_predicts(
    small_archive: Path,
) -> None:
    result = explain(ROCK_SALT, "-m", small_archive)
    assert result.exit_code == 0, result.output
    model = potnet.load(small_archive)
    assert all(f"NaCl, {target.name} " in result.stdout for target in model.card.targets)
    assert ("spread" in result.stdout) == (len(model.members) > 1)


def test_the_spread_of_several_networks_is_shown(tmp_path) -> None:
    result = explain(ROCK_SALT, "-p", "bulk_modulus")
    assert result.exit_code == 0, result.output
    assert "combination of 3 networks" in result.stdout
    (row,) = [line for line in result.stdout.splitlines() if line.startswith("shells")]
    assert float(row.split()[-1]) > 0
