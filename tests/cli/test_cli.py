"""Each command end to end, as users call it: output, files, exit codes, and one-sentence errors."""

import contextlib
import csv
import gzip
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import potnet
import potnet.known
from potnet.cli import app
from potnet.cli.train import settings_from
from potnet.crystal import SYMBOLS
from potnet.training import TrainingConfig

ROOT = Path(__file__).resolve().parents[2]
POTNET = Path(sys.executable).with_name("potnet")
CIF = """data_{name}
_cell_length_a {a}
_cell_length_b {a}
_cell_length_c {a}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{first}1 {first} 0 0 0 {occupancy}
{second}1 {second} {x} 0.5 0.5 1
"""
GOOD = {"name": "x", "a": 3.4, "first": "Na", "second": "Cl", "occupancy": 1, "x": 0.5}
BROKEN = {
    "empty": "",
    "text": "this is not a structure",
    "no-atoms": CIF.format(**GOOD).split("loop_")[0],
    "partial": CIF.format(**GOOD | {"occupancy": 0.5}),
    "element": CIF.format(**GOOD | {"second": "Xx"}),
    "not-finite": CIF.format(**GOOD | {"x": "nan"}),
    "overlap": CIF.format(**GOOD).replace("0.5 0.5 0.5", "0.01 0 0"),
    "flat": CIF.format(**GOOD).replace("_gamma 90", "_gamma 180"),
    "no-volume": CIF.format(**GOOD | {"a": 0}),
    "cut": CIF.format(**GOOD)[:-20],
}


def potnet_cli(*arguments: object) -> Result:
    """Run a command inside this process; whatever is not a user's mistake is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def on_terminal(*arguments: object) -> tuple[int, str]:
    """Run a command on a terminal of its own; return its exit code and what a person sees."""
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    master, slave = pty.openpty()
    command = [str(POTNET), *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "150", "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    seen = b""
    # Linux reports the end of a terminal as an error, other systems as nothing to read.
    with contextlib.suppress(OSError):
        while chunk := os.read(master, 65536):
            seen += chunk
    os.close(master)
    return process.wait(), seen.decode()


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A hundred good CIF files and ten that are broken, each in its own way."""
    folder = tmp_path_factory.mktemp("structures")
    metals = [SYMBOLS[z] for z in (3, 11, 19, 37, 55, 12, 20, 38, 56, 29)]
    others = [SYMBOLS[z] for z in (8, 9, 16, 17, 34, 35, 52, 53, 7, 15)]
    for k, first in enumerate(metals):
        for m, second in enumerate(others):
            name = f"{first}{second}"
            content = GOOD | {"name": name, "first": first, "second": second}
            path = folder / f"{name}.cif"
            path.write_text(CIF.format(**content | {"a": 3.2 + 0.05 * k + 0.02 * m}))
    for name, text in BROKEN.items():
        (folder / f"broken-{name}.cif").write_text(text)
    return folder


@pytest.fixture(scope="module")
def some_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("Na*.cif"))


def test_predict_keeps_the_good_names_the_bad_and_exits_with_3(
    folder, small_archive, tmp_path
) -> None:
    out = tmp_path / "out.csv"
    result = potnet_cli("predict", folder, "--model", small_archive, "-o", out)
    assert result.exit_code == 3
    rows, errors = table(out), table(tmp_path / "errors.csv")
    assert len(rows) == 200  # two properties of each crystal
    assert len({row["id"] for row in rows}) == 100
    assert all(np.isfinite(float(row["value"])) for row in rows)
    assert len(errors) == 10
    assert {Path(row["id"]).stem for row in errors} == {f"broken-{name}" for name in BROKEN}
    assert {row["stage"] for row in errors} == {"read"}
    assert len({row["reason"] for row in errors}) == 10
    assert all("must" in row["reason"] for row in errors)
    assert "10 skipped" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"out.csv", "errors.csv"}


def test_predict_exits_with_0_if_all_is_well(some_files, small_archive, tmp_path) -> None:
    out = tmp_path / "out.csv"
    result = potnet_cli("predict", *some_files, "-m", small_archive, "-o", out)
    assert result.exit_code == 0
    assert not (tmp_path / "errors.csv").exists()
    expected = potnet.load(small_archive).predict([potnet.read(p)[0] for p in some_files])
    got = [float(row["value"]) for row in table(out)]
    np.testing.assert_allclose(got, expected.values, rtol=1e-5)


def test_predict_shows_the_nearest_known_crystals(some_files, small_archive, tmp_path) -> None:
    words = ("predict", some_files[0], "-m", small_archive, "-o", tmp_path / "out.csv")
    shown = potnet_cli(*words, "--nearest", 2).output
    near = potnet.known.load_known().nearest(potnet.read(some_files[0])[0], 2)
    assert "Nearest known crystals" in shown
    assert all(known.id in shown for known in near)
    assert "Nearest" not in potnet_cli(*words).output  # a model of one's own may know others


def test_predict_reads_several_models_files_and_formats(some_files, small_archive, tmp_path):
    (crystal,) = potnet.read(some_files[0])
    potnet.write(crystal, tmp_path / "POSCAR")
    (tmp_path / "zipped.cif.gz").write_bytes(gzip.compress(some_files[0].read_bytes()))
    sources = [some_files[0], tmp_path / "POSCAR", tmp_path / "*.gz"]
    other = shutil.copytree(small_archive, tmp_path / "other")
    models = ["--model", small_archive, "--model", other]
    out = tmp_path / "out.csv"
    assert potnet_cli("predict", *sources, *models, "-o", out).exit_code == 0
    rows = table(out)
    assert len(rows) == 3 * 4
    energies = [float(row["value"]) for row in rows if row["property"] == "energy"]
    np.testing.assert_allclose(energies, energies[0], atol=1e-4)


SHEET = ["density", "formation_energy", "energy_above_hull"]


def test_predict_writes_a_sheet(tmp_path) -> None:
    source, out = ROOT / "examples" / "crystals" / "MgO.vasp", tmp_path / "out.csv"
    wanted = [option for name in SHEET for option in ("--property", name)]
    entries, page = tmp_path / "mine.csv", tmp_path / "page.html"
    entries.write_text("formula,formation_energy_per_atom\nMgO,-9\n")
    options = [*wanted, "-o", out, "--html", page, "--entries", entries]
    result = potnet_cli("predict", source, *options)
    assert result.exit_code == 0, result.stderr
    rows = {row["property"]: row for row in table(out)}
    assert list(rows) == SHEET
    assert {row["formula"] for row in rows.values()} == {"MgO"}
    assert rows["density"]["space_group"] == "Fm-3m (225)"
    energy, above = rows["formation_energy"], rows["energy_above_hull"]
    assert "known: mp-1265" in energy["note"]
    assert float(energy["reference"]) == pytest.approx(-3.07, abs=0.05)
    assert float(above["value"]) == pytest.approx(float(energy["value"]) + 9, abs=1e-4)
    assert "own phases" in above["note"]
    assert "MP 2019.04" in above["level_of_theory"]
    text = page.read_text("utf-8")
    assert "data:image/png" in text
    assert "energy_above_hull" in text
    assert "Fm-3m (225)" in result.stdout


def test_predict_writes_a_wide_table_in_the_format_of_its_name(tmp_path) -> None:
    source, out = ROOT / "examples" / "crystals" / "MgO.vasp", tmp_path / "out.json"
    options = ["--property", "formation_energy", "--wide", "-o", out]
    assert potnet_cli("predict", source, source.with_name("Cu.json"), *options).exit_code == 0
    records = json.loads(out.read_text())
    assert [record["formula"] for record in records] == ["MgO", "Cu"]
    assert "formation_energy [eV/atom]" in records[0]
    for name in ("out.txt", "out"):
        refused = potnet_cli("predict", source, *options[:2], "-o", tmp_path / name)
        assert refused.exit_code == 1
        assert "must end in .csv, .json, .parquet, .xlsx" in refused.stderr


def test_predict_refuses_properties_that_no_sheet_has(some_files) -> None:
    result = potnet_cli("predict", some_files[0], "--property", "colour")
    assert result.exit_code == 1
    assert "must be one of density, formation_energy" in result.stderr


def test_models_shows_the_card_of_one() -> None:
    result = potnet_cli("models", "jarvis-energy-above-hull")
    assert result.exit_code == 0
    for text in ("reproduces a benchmark alone", "NIST", "OptB88vdW", "for training"):
        assert text in result.stdout


def test_predict_writes_csv_to_a_pipe(some_files, small_archive) -> None:
    result = potnet_cli("predict", *some_files[:3], "-m", small_archive)
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert len(rows) == 6
    assert {row["unit"] for row in rows} == {"eV/atom", "GPa"}


def test_predict_without_output_says_on_stderr_what_it_skipped(folder, small_archive) -> None:
    files = [folder / "NaCl.cif", folder / "broken-partial.cif"]
    result = potnet_cli("predict", *files, "-m", small_archive)
    assert result.exit_code == 3
    assert "broken-partial" in result.stderr
    assert "occupancy" in result.stderr
    assert "broken" not in result.stdout


def test_a_missing_file_does_not_stop_the_others(some_files, small_archive, tmp_path) -> None:
    out = tmp_path / "out.csv"
    files = [tmp_path / "missing.cif", some_files[0]]
    assert potnet_cli("predict", *files, "-m", small_archive, "-o", out).exit_code == 3
    assert len(table(out)) == 2
    assert "missing.cif" in table(tmp_path / "errors.csv")[0]["reason"]


def test_mistakes_give_one_sentence_and_no_trace(some_files, small_archive, tmp_path) -> None:
    unknown = subprocess.run(
        [POTNET, "predict", some_files[0], "--model", "no-such-model"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert unknown.returncode == 1
    assert "no-such-model" in unknown.stderr
    assert "Traceback" not in unknown.stderr
    assert len(unknown.stderr.splitlines()) == 1
    no_folder = tmp_path / "no" / "folder" / "out.csv"
    result = potnet_cli("predict", some_files[0], "-m", small_archive, "-o", no_folder)
    assert result.exit_code == 0
    assert len(table(no_folder)) == 2
    named = potnet_cli("predict", some_files[0], "-m", small_archive, "-o", tmp_path / "errors.csv")
    assert named.exit_code == 1
    assert "must not be named errors.csv" in named.stderr


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["predict"], ["predict", "x", "--nonsense"], ["sums", "--index"]]
)
def test_wrong_usage_exits_with_2(arguments) -> None:
    assert potnet_cli(*arguments).exit_code == 2


def test_version_and_help() -> None:
    assert potnet_cli("--version").stdout == f"potnet {potnet.__version__}\n"
    help_text = potnet_cli("--help").stdout
    commands = ("predict", "train", "evaluate", "check", "sums", "models", "datasets", "demo")
    assert all(name in help_text for name in commands)


def test_check_names_every_broken_file(folder, tmp_path) -> None:
    result = potnet_cli("check", folder, "-o", tmp_path / "refused.csv")
    assert result.exit_code == 3
    assert result.stdout.splitlines()[-1] == "100 good, 10 refused"
    assert len(table(tmp_path / "refused.csv")) == 10


def test_check_refuses_what_models_cannot_read(salts, tmp_path) -> None:
    potnet.write(salts[0].replace(pbc=[True, True, False]), tmp_path / "slab.extxyz")
    result = potnet_cli("check", tmp_path)
    assert result.exit_code == 3
    assert "[features]" in result.stdout
    assert "pbc" in result.stdout


def test_check_exits_with_0_if_all_is_well(some_files) -> None:
    result = potnet_cli("check", *some_files)
    assert result.exit_code == 0
    assert result.stdout == f"{len(some_files)} good, 0 refused\n"


@pytest.fixture(scope="module")
def salt_file(tmp_path_factory) -> Path:
    """Rock salt with the nearest distance 1 Å times 2.82, in its primitive cell."""
    path = tmp_path_factory.mktemp("sums") / "NaCl.cif"
    cell = 2.82 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    potnet.write(potnet.Crystal([11, 17], [[0, 0, 0], [2.82, 0, 0]], cell), path)
    return path


def test_sums_reach_the_madelung_constant_in_json_and_npz(salt_file, tmp_path) -> None:
    for suffix in ("json", "npz"):
        out = tmp_path / f"sums.{suffix}"
        options = ["--potential", "coulomb", "--tolerance", "1e-10", "-o", out]
        assert potnet_cli("sums", salt_file, *options).exit_code == 0
    content = json.loads((tmp_path / "sums.json").read_text())
    values = np.array(content["values"])
    madelung = (values[0, 1, 0] - values[0, 0, 0]) * 2.82
    assert madelung == pytest.approx(1.7475645946331822, abs=1e-9)
    assert content["error_bound"][0] <= 1e-10
    with np.load(tmp_path / "sums.npz") as arrays:
        np.testing.assert_array_equal(arrays["values"], values)
        assert arrays["potentials"].tolist() == ["coulomb"]


def test_sums_show_a_table(salt_file) -> None:
    result = potnet_cli("sums", salt_file, "-p", "coulomb", "-p", "london")
    assert result.exit_code == 0
    assert len([line for line in result.stdout.splitlines() if "Na0" in line]) == 3
    assert "Largest possible error: coulomb" in result.stdout


def test_sums_name_units_and_take_potentials_with_numbers(salt_file, tmp_path) -> None:
    out = tmp_path / "sums.json"
    options = ["-p", "inverse-power:4", "-p", "yukawa:0.5", "--tolerance", "1e-7"]
    assert potnet_cli("sums", salt_file, *options, "-o", out).exit_code == 0
    content = json.loads(out.read_text())
    assert content["potentials"] == ["r^-4", "exp(-0.5 r)/r"]
    assert content["units"] == ["Å^-4", "1/Å"]
    assert "r^-4 (Å^-4)" in potnet_cli("sums", salt_file, *options).stdout


def test_sums_plot_a_landscape(salt_file, tmp_path) -> None:
    out = tmp_path / "salt.png"
    options = [
        "--plane",
        "1,1,0",
        "--atom",
        1,
        "--width",
        4,
        "--charge",
        "Na=1",
        "--charge",
        "Cl=-1",
    ]
    result = potnet_cli("sums", salt_file, "--plot", out, *options)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"Potentials on the plane (1 1 0) through Cl1: {out}\n"
    assert out.read_bytes().startswith(b"\x89PNG")


def test_sums_keep_a_relative_tolerance(salt_file, tmp_path) -> None:
    out = tmp_path / "sums.json"
    options = ["-p", "lennard-jones:0.01,2.4", "-p", "gaussian:0.5", "--tolerance", "1e-6"]
    result = potnet_cli("sums", salt_file, *options, "--relative", "-o", out)
    assert result.exit_code == 0, result.stderr
    content = json.loads(out.read_text())
    assert content["relative"] is True
    assert content["units"] == ["", ""]
    tiny = content["values"][0][1][1]
    assert 0 < tiny < 1e-6  # and yet it has digits
    shown = potnet_cli("sums", salt_file, *options, "--relative")
    assert f"{tiny:.10g}" in shown.stdout
    assert "Largest possible relative error: lennard-jones(0.01, 2.4) " in shown.stdout


def test_sums_ask_which_of_several_structures_is_meant(salts, tmp_path) -> None:
    potnet.write(salts, tmp_path / "all.extxyz")
    result = potnet_cli("sums", tmp_path / "all.extxyz")
    assert result.exit_code == 1
    assert "`--index` must say which of 12" in result.stderr
    out = tmp_path / "one.json"
    assert potnet_cli("sums", tmp_path / "all.extxyz", "--index", 3, "-o", out).exit_code == 0
    assert json.loads(out.read_text())["id"] == salts[3].id


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-p", "gravity"], "gravity"),
        (["--tolerance", "0"], "tolerance"),
        (["--index", "7"], "below 1"),
        (["-o", "sums.txt"], ".json or .npz"),
        (["-p", "yukawa"], "yukawa:RATE"),
        (["--plot", "plot.txt"], ".png, .svg or .pdf"),
        (["--plane", "1,0,0"], "--plot FILE.png"),
        (["--plot", "x.png", "--plane", "1,0,a"], "three integers"),
        (
            ["--plot", "x.png", "--plane", "1,0,0", "--through", "0,1,1"],
            "must not be given together",
        ),
        (["--plot", "x.png", "--charge", "Na"], "Na=1"),
    ],
)
def test_sums_refuse_what_they_cannot_do(salt_file, options, message) -> None:
    result = potnet_cli("sums", salt_file, *options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_models_and_datasets_are_listed() -> None:
    models = potnet_cli("models")
    assert models.exit_code == 0
    assert all(name in models.stdout for name in potnet.available())
    assert "elastic" in potnet_cli("datasets").stdout


@pytest.fixture(scope="module")
def own_data(folder, tmp_path_factory) -> Path:
    """A dataset of one's own, in the layout of CGCNN: id_prop.csv beside CIF files."""
    data = tmp_path_factory.mktemp("own-data")
    lines = []
    for path in sorted(folder.glob("[!b]*.cif"))[:40]:
        (data / path.name).write_bytes(path.read_bytes())
        (crystal,) = potnet.read(path)
        lines.append(f"{path.stem},{crystal.volume / 10}")
    (data / "id_prop.csv").write_text("\n".join(lines) + "\n")
    return data


SMALL = ["--set", "network_settings={width: 8, n_layers: 1}", "--set", "threads=1"]


@pytest.fixture(scope="module")
def run(own_data, tmp_path_factory) -> Path:
    """The folder of a training on ``own_data`` by the command."""
    output = tmp_path_factory.mktemp("runs") / "run"
    options = ["--epochs", 3, "--set", "batch_size=8", *SMALL, "-o", output]
    result = potnet_cli("train", own_data, *options)
    assert result.exit_code == 0, result.stderr
    assert "mean absolute error" in result.stdout
    return output


def test_train_leaves_a_model_its_numbers_and_a_report(run, some_files) -> None:
    names = {path.name for path in run.iterdir()}
    assert {"model", "metrics.csv", "metrics.json", "predictions.csv", "report.html"} <= names
    assert any(name.startswith("parity-") for name in names)
    assert len(table(run / "metrics.csv")) == 3
    (target,) = json.loads((run / "metrics.json").read_text())["test"]
    page = (run / "report.html").read_text("utf-8")
    assert target in page
    assert "data:image/png;base64," in page
    assert potnet_cli("predict", *some_files, "-m", run / "model").exit_code == 0


def test_train_converts_units_and_refuses_rows_with_words(own_data, tmp_path) -> None:
    copy = tmp_path / "data"
    copy.mkdir()
    for path in own_data.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    lines = (copy / "id_prop.csv").read_text().splitlines()
    first = lines[0].partition(",")[0]
    (copy / "id_prop.csv").write_text("\n".join(["id,energy", f"{first},high", *lines[1:]]))
    options = ["--target", "energy", "--epochs", 1, "--set", "batch_size=8", *SMALL]
    units = ["--source-unit", "energy=eV/cell", "--unit", "energy=meV/atom"]
    result = potnet_cli("train", copy, *options, *units, "-o", tmp_path / "run")
    assert result.exit_code == 3
    assert "meV/atom" in result.stdout
    (failure,) = table(tmp_path / "run" / "errors.csv")
    assert "id_prop.csv, line 2: target 'energy' must be a finite number" in failure["reason"]
    wrong = ["--source-unit", "energy=GPa", "--unit", "energy=eV", "-o", tmp_path / "other"]
    result = potnet_cli("train", copy, *options, *wrong)
    assert result.exit_code == 1
    assert "must measure the same as the old one, got 'eV' for 'GPa'" in result.stderr


def test_the_help_of_train_fits_a_screen(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert len(potnet_cli("train", "--help").output.splitlines()) <= 40


def test_every_setting_of_training_is_listed_and_can_be_set() -> None:
    output = potnet_cli("train", "--settings").output
    for name, default in TrainingConfig().to_dict().items():
        assert f"{name} = {json.dumps(default)}\n" in output
        assert settings_from([f"{name}={json.dumps(default)}"]) == {name: default}


def test_train_goes_on_from_a_model_with_a_gap_and_a_binary_target(run, own_data, tmp_path) -> None:
    data, output = tmp_path / "gaps", tmp_path / "run"
    shutil.copytree(own_data, data)
    rows = [line.split(",") for line in (data / "id_prop.csv").read_text().splitlines()]
    middle = sorted(float(value) for _, value in rows)[len(rows) // 2]
    lines = [f"{id},{max(0.0, float(value) - middle)}" for id, value in rows]
    (data / "id_prop.csv").write_text("\n".join(["id,gap", *lines]) + "\n")
    options = ["-t", "gap", "-t", "gap > 0", "--set", "transform={gap: nonnegative}", "--epochs", 1]
    result = potnet_cli("train", data, *options, "--finetune", run / "model", "-o", output)
    assert result.exit_code == 0, result.stderr
    assert "gap > 0" in result.stdout
    assert "right answers" in (output / "report.html").read_text("utf-8")
    found = potnet_cli("predict", data, "-m", output / "model", "-o", tmp_path / "out.csv")
    assert found.exit_code == 0
    rows = table(tmp_path / "out.csv")
    assert {row["property"] for row in rows} == {"gap", "gap > 0"}
    assert all(float(row["value"]) >= 0 for row in rows)
    assert all(float(row["value"]) <= 1 for row in rows if row["property"] == "gap > 0")
    tested = potnet_cli("evaluate", data, "-m", output / "model", "-o", tmp_path / "tested")
    assert tested.exit_code == 0, tested.stderr
    assert "gap > 0" in tested.stdout


def test_train_does_not_write_over_another_run(run, own_data) -> None:
    result = potnet_cli("train", own_data, "--epochs", 3, *SMALL, "-o", run)
    assert result.exit_code == 1
    assert "must be empty or missing" in result.stderr


def test_train_resumes_a_run_with_the_same_settings_only(run, own_data) -> None:
    before = (run / "model" / "model.safetensors").read_bytes()
    same = ["--epochs", 3, "--set", "batch_size=8", *SMALL, "-o", run, "--resume"]
    assert potnet_cli("train", own_data, *same).exit_code == 0
    assert (run / "model" / "model.safetensors").read_bytes() == before
    result = potnet_cli("train", own_data, "--epochs", 4, *SMALL, "-o", run, "--resume")
    assert result.exit_code == 1
    assert "batch_size: 8, 64" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "epoch=3"], "`epoch` is not a setting"),
        (["--set", "epochs"], "NAME=VALUE"),
        (["--target", "colour"], "colour"),
        (["--epochs", "0"], "epochs"),
        (["--config", "missing.yaml"], "missing.yaml"),
    ],
)
def test_train_names_the_setting_that_is_wrong(own_data, tmp_path, options, message) -> None:
    result = potnet_cli("train", own_data, *options, "-o", tmp_path / "run")
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_flags_win_over_the_file_of_settings(own_data, tmp_path) -> None:
    (tmp_path / "settings.yaml").write_text("epochs: 9\nbatch_size: 8\nseed: 5\n")
    options = ["--config", tmp_path / "settings.yaml", "--epochs", 1, *SMALL]
    assert potnet_cli("train", own_data, *options, "-o", tmp_path / "run").exit_code == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["epochs"], config["seed"], config["batch_size"]) == (1, 5, 8)


def test_evaluate_compares_with_known_values(run, own_data, tmp_path) -> None:
    out = tmp_path / "evaluation"
    result = potnet_cli("evaluate", own_data, "--model", run / "model", "-o", out)
    assert result.exit_code == 0
    (target,) = json.loads((out / "metrics.json").read_text())
    rows = table(out / "predictions.csv")
    assert len(rows) == 40
    error = np.mean([abs(float(r["target"]) - float(r["prediction"])) for r in rows])
    metrics = json.loads((out / "metrics.json").read_text())[target]
    assert metrics["mae"] == pytest.approx(error, rel=1e-6)
    assert f"{metrics['mae']:.4g}" in result.stdout
    assert (out / "report.html").exists()
    assert (out / f"parity-{target}.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_needs_a_property_in_common(small_archive, own_data) -> None:
    result = potnet_cli("evaluate", own_data, "--model", small_archive)
    assert result.exit_code == 1
    assert "energy" in result.stderr


def test_rows_that_cannot_be_used_are_listed_and_the_exit_code_is_3(own_data, run, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(own_data, data)
    (data / "bad.cif").write_text(BROKEN["partial"])
    with open(data / "id_prop.csv", "a", encoding="utf-8") as file:
        file.write("bad,1.0\n")
    out = tmp_path / "evaluation"
    result = potnet_cli("evaluate", data, "-m", run / "model", "-o", out)
    assert result.exit_code == 3
    (error,) = table(out / "errors.csv")
    assert error["id"] == "bad"
    assert "occupancy" in error["reason"]


def test_a_terminal_shows_tables_and_progress(some_files, small_archive, own_data, tmp_path):
    code, seen = on_terminal("predict", *some_files, "-m", small_archive)
    assert code == 0
    assert "Predicting" in seen
    assert f"{len(some_files)}/{len(some_files)}" in seen
    assert "eV/atom" in seen
    options = ["--epochs", 2, "--set", "batch_size=8", *SMALL, "-o", tmp_path / "run"]
    code, seen = on_terminal("train", own_data, *options)
    assert code == 0
    assert "Training 1" in seen
    assert "2/2" in seen
    assert "validation error" in seen


def test_check_looks_a_dataset_over(tmp_path) -> None:
    page = tmp_path / "page.html"
    result = potnet_cli("check", "elastic", "--report", page, "-t", "bulk_modulus")
    assert result.exit_code == 0
    assert "the same crystal under several ids" in result.stdout
    assert "shear_modulus" not in page.read_text(encoding="utf-8")


def test_what_the_library_notes_is_said_on_the_terminal(capsys) -> None:
    assert potnet_cli("models").exit_code == 0
    logging.getLogger("latticesums").info("Compiling for half a minute.")
    assert capsys.readouterr().err == "potnet: Compiling for half a minute.\n"
