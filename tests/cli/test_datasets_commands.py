"""Benchmarks are listed, fetched and divided from the command line."""

import dataclasses
import json

import pytest
from benchmark_files import jarvis_file
from servers import Answer, serving
from typer.testing import CliRunner, Result

from potnet.cli import app
from potnet.cli.train import split_settings
from potnet.data.public.cache import fetch
from potnet.data.public.catalogue import PUBLIC_DATASETS
from potnet.data.public.transfer import Patience, Remote

NAME = "jarvis:dft_3d_2021"


def potnet_cli(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POTNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(
        PUBLIC_DATASETS, NAME, dataclasses.replace(PUBLIC_DATASETS[NAME], counts=(40,))
    )
    return tmp_path / "cache"


def test_the_list_says_what_is_here(tmp_path):
    before = potnet_cli("datasets").stdout
    line = next(line for line in before.splitlines() if line.startswith(NAME))
    assert "not here" in line
    assert "CC BY 4.0" in line
    potnet_cli("datasets", "get", NAME, "--from", jarvis_file(tmp_path))
    after = potnet_cli("datasets").stdout
    line = next(line for line in after.splitlines() if line.startswith(NAME))
    assert " here" in line
    assert "not here" not in line
    assert "kB" in line


def test_a_copy_serves_instead_of_a_download_and_its_hash_is_told(tmp_path):
    result = potnet_cli("datasets", "get", NAME, "--from", jarvis_file(tmp_path))
    assert result.exit_code == 0
    assert "SHA-256" in result.stdout
    assert "taken on trust" in result.stdout
    assert "doi:10.1038/s41524-020-00440-1" in result.stdout


def test_a_download_can_go_to_another_folder(tmp_path, monkeypatch):
    content = jarvis_file(tmp_path).read_bytes()
    with serving(Answer(status=500), Answer(content)) as server:
        file = Remote("set.json.zip", (server.url,), starts=b"PK", format="zip archive")
        found = dataclasses.replace(PUBLIC_DATASETS[NAME], files=(file,))
        monkeypatch.setitem(PUBLIC_DATASETS, NAME, found)
        monkeypatch.setattr(
            fetch,
            "__kwdefaults__",
            {
                **fetch.__kwdefaults__,
                "patience": Patience(pause=0.01),
            },
        )
        result = potnet_cli("datasets", "get", NAME, "--cache", tmp_path / "big")
    assert result.exit_code == 0
    assert (tmp_path / "big/datasets/jarvis-dft_3d_2021/set.json.zip").read_bytes() == content
    assert f"Set POTNET_CACHE={tmp_path / 'big'}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("get", "jarvis:dft_4d"), "a public dataset must be one of jarvis:dft_3d_2021"),
        (("get", NAME, "--from", "missing.zip"), "must be a file, got none"),
        (("info", "elastik"), "a public dataset must be one of"),
        (("split", NAME, "-o", "s.json"), "Download them with `potnet datasets get"),
        (("split", "elastic", "-o", "s.json", "-t", "gap"), "`--target` must be a column"),
        (("split", "elastic", "-o", "s.json", "-k", "element"), "`elements` must be given"),
        (("split", "elastic", "-o", "s.json", "--fold", "7"), "`fold` must be below"),
    ],
)
def test_mistakes_end_in_one_sentence(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = potnet_cli("datasets", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", PUBLIC_DATASETS)
def test_all_that_is_known_of_a_benchmark_is_told(name):
    told = potnet_cli("datasets", "info", name).stdout
    found = PUBLIC_DATASETS[name]
    for file in found.files:
        assert all(url in told for url in file.urls)
        assert (file.sha256 or "not known") in told
    assert found.citation in told
    assert found.licence in told


def test_a_split_is_written_and_trains_a_model(tmp_path):
    records = [
        {
            "id": f"x-{k}",
            "lattice": [[0, a, a], [a, 0, a], [a, a, 0]],
            "species": ["Na" if k % 3 else "K", "Cl" if k % 2 else "Br"],
            "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
            "targets": {"y": 1.0 * k, "year": 2000 + k},
        }
        for k in range(24)
        for a in [2.5 + 0.01 * k]
    ]
    data = tmp_path / "set.jsonl"
    data.write_text("\n".join(map(json.dumps, records)))
    path = tmp_path / "split.json"
    options = ("--kind", "time", "--column", "year", "--val", 0.25, "--test", 0.25, "--train", 0.5)
    result = potnet_cli("datasets", "split", data, *options, "-o", path)
    assert result.exit_code == 0
    assert result.stdout.startswith("12 train, 6 val, 6 test")
    content = json.loads(path.read_text())
    assert content["test"] == [f"x-{k}" for k in range(18, 24)]
    assert content["about"]["rule"]["kind"] == "time"
    settings = ("--epochs", 1, "--set", "network_settings={width: 8, n_layers: 1}", "-t", "y")
    result = potnet_cli("train", data, *settings, "--split", path, "-o", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    used = json.loads((tmp_path / "run/split.json").read_text())
    assert {part: used[part] for part in ("train", "val", "test")} == {
        part: content[part] for part in ("train", "val", "test")
    }


def test_the_same_split_gives_the_same_file(tmp_path):
    for name in ("a.json", "b.json"):
        potnet_cli("datasets", "split", "elastic", "--kind", "composition", "-o", tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_benchmark_trains_by_its_name(tmp_path):
    potnet_cli("datasets", "get", NAME, "--from", jarvis_file(tmp_path))
    settings = ("--epochs", 1, "--set", "network_settings={width: 8, n_layers: 1}")
    result = potnet_cli(
        "train", NAME, "-t", "formation_energy_peratom", *settings, "-o", tmp_path / "run"
    )
    assert result.exit_code == 0, result.stderr
    sizes = json.loads((tmp_path / "run/split.json").read_text())
    assert [len(sizes[part]) for part in ("train", "val", "test")] == [32, 4, 4]


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("published", {"kind": "published"}),
        ("k-fold,fold=2,by=composition", {"kind": "k-fold", "fold": 2, "by": "composition"}),
        ("element,elements=O F", {"kind": "element", "elements": "O F"}),
        ("runs/a/split.json", {"kind": "file", "path": "runs/a/split.json"}),
    ],
)
def test_a_split_is_one_word_with_settings(text, settings):
    assert split_settings(text) == settings
