"""Benchmarks by name: their files, ids, units and official splits are those of the publications."""

import dataclasses
import gzip
import hashlib
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from benchmark_files import jarvis_atoms, jarvis_file, matbench_structure, modulus_files, zipped
from servers import Answer, serving

from potnet import data
from potnet.data import make_split
from potnet.data.public.cache import checked_files, fetch, folder_of, is_here, size_of
from potnet.data.public.catalogue import PUBLIC_DATASETS
from potnet.data.public.official import MatBenchFolds, PublishedShuffle
from potnet.data.public.transfer import Patience, Remote
from potnet.data.splits import SplitConfig, shuffled_folds
from potnet.errors import DataError

OFFICIAL = json.loads((Path(__file__).parents[1] / "reference/official_splits.json").read_text())
REFERENCE = OFFICIAL["matbench"]
SHARED = Path(__file__).parents[2] / "../shared/data"
LEADERBOARD = SHARED / "splits/jarvis_leaderboard_dft_3d_all_ids.json.gz"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POTNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(monkeypatch, name, **changes):
    """Change a benchmark for a test."""
    changed = dataclasses.replace(PUBLIC_DATASETS[name], **changes)
    monkeypatch.setitem(PUBLIC_DATASETS, name, changed)
    return changed


# --------------------------------------------------------------------------- the catalogue


@pytest.mark.parametrize("found", PUBLIC_DATASETS.values(), ids=PUBLIC_DATASETS)
def test_every_benchmark_says_what_it_is_where_it_is_and_whom_to_thank(found):
    assert found.licence
    assert "doi:" in found.citation or "arXiv:" in found.citation
    assert all(found.targets.values())
    assert len({file.name for file in found.files}) == len(found.files)
    for file in found.files:
        assert file.starts
        assert all(url.startswith("https://") for url in file.urls)
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)


def test_all_tasks_of_matbench_with_structures_are_pinned():
    tasks = {name: found for name, found in PUBLIC_DATASETS.items() if name.startswith("matbench:")}
    assert {name.removeprefix("matbench:") for name in tasks} == set(REFERENCE)
    assert all(found.files[0].sha256 for found in tasks.values())
    counts = {name: found.counts for name, found in tasks.items()}
    assert counts == {f"matbench:{task}": (task_["n"],) for task, task_ in REFERENCE.items()}


def test_no_address_is_used_for_two_files():
    files = [file for found in PUBLIC_DATASETS.values() for file in found.files]
    assert len({file.urls for file in files}) == len(files)


# -------------------------------------------------------------------------- official splits


@pytest.mark.parametrize("task", [task for task in REFERENCE if task != "mp_is_metal"])
def test_the_folds_are_those_of_matbench(task):
    found, n = PUBLIC_DATASETS[f"matbench:{task}"], REFERENCE[task]["n"]
    labels = found.official.labels({}, np.zeros(n, int))
    for fold, expected in enumerate(REFERENCE[task]["sha256_of_test_ids"]):
        rows = np.flatnonzero(labels == f"fold{fold}")
        ids = "\n".join(f"{found.ids}{k + 1:0{len(str(n))}d}" for k in rows)
        assert hashlib.sha256(ids.encode()).hexdigest() == expected


def test_folds_of_classes_are_stratified():
    classes = (np.random.default_rng(0).random(1000) < 0.4).astype(float)
    labels = MatBenchFolds(stratified=True).labels({"is_metal": classes}, np.zeros(1000, int))
    shares = [classes[labels == f"fold{k}"].sum() for k in range(5)]
    assert max(shares) - min(shares) <= 1


def test_the_published_shuffle_counts_only_rows_with_the_target():
    column = np.where(np.arange(60) % 3 == 0, np.nan, 1.0)
    labels = PublishedShuffle().labels({"y": column, "z": np.full(60, np.nan)}, np.zeros(60, int))
    order = list(range(40))
    random.Random(123).shuffle(order)
    known = np.flatnonzero(np.isfinite(column))
    assert np.flatnonzero(labels["y"] == "test").tolist() == sorted(known[order[-4:]].tolist())
    assert set(labels["z"]) == {""}


@pytest.mark.parametrize(
    ("name", "n", "sizes"),
    [
        ("jarvis:dft_3d_2021", 55_723, (44_578, 5_572, 5_572)),
        ("jarvis:dft_3d_2021", 55_370, (44_296, 5_537, 5_537)),
        ("jarvis:dft_3d_2021", 18_172, (14_537, 1_817, 1_817)),
        ("mp:2018.6.1", 69_239, (60_000, 5_000, 4_239)),
        ("qmof", 20_425, (16_340, 2_042, 2_042)),
    ],
)
def test_the_parts_have_the_published_sizes(name, n, sizes):
    labels = PUBLIC_DATASETS[name].official.labels({"y": np.ones(n)}, np.zeros(n, int))["y"]
    assert tuple((labels == part).sum() for part in ("train", "val", "test")) == sizes


@pytest.mark.skipif(not LEADERBOARD.exists(), reason="needs the ids of the leaderboard")
def test_the_jarvis_splits_are_the_published_shuffle():
    """Two targets with different numbers of rows give back one and the same order of the file.

    The leaderboard lists ids in the order of its shuffles. With the right rule each list says
    where in the file its ids are; a wrong seed, rule or number gives unrelated orders.
    """
    with gzip.open(LEADERBOARD, "rt") as file:
        lists = json.load(file)
    place = {}
    for target, n in (("formation_energy_peratom", 55_723), ("mbj_bandgap", 18_172)):
        order = list(range(n))
        random.Random(123).shuffle(order)
        share = n // 10
        place[target] = dict(zip(lists[target]["val"], order[n - 2 * share :], strict=False))
        ids = lists[target]["train"]
        # Ids that are twice in the file are listed once: the order holds up to the first of them.
        place[target] |= dict(zip(ids[:1500], order, strict=False))
    common = sorted(
        place["mbj_bandgap"].keys() & place["formation_energy_peratom"].keys(),
        key=place["mbj_bandgap"].__getitem__,
    )
    in_file = np.array([place["formation_energy_peratom"][id] for id in common])
    assert len(common) > 300
    assert (np.diff(in_file) > 0).all()


def test_the_split_of_qmof_is_the_published_shuffle_of_its_sorted_names():
    labels = PublishedShuffle().labels({"y": np.ones(20_425)}, np.zeros(20_425, int))["y"]
    parts = "".join(label[:2] for label in labels if label)  # one of them is in no part
    assert len(parts) == 2 * OFFICIAL["qmof"]["n"]
    assert hashlib.sha256(parts.encode()).hexdigest() == OFFICIAL["qmof"]["sha256_of_parts"]


# ------------------------------------------------------------------------------ small files


def test_a_jarvis_file_opens_with_units_ids_and_the_official_split(tmp_path, monkeypatch):
    put(monkeypatch, "jarvis:dft_3d_2021", counts=(40,))
    fetch(PUBLIC_DATASETS["jarvis:dft_3d_2021"], given=[jarvis_file(tmp_path)])
    found = data.open("jarvis:dft_3d_2021")
    assert found.units == {"formation_energy_peratom": "eV/atom", "mbj_bandgap": "eV"}
    assert (found.ids[3], found.ids[7]) == ("JVASP-3", "JVASP-3#2")
    assert found.name == "jarvis:dft_3d_2021"
    assert "10.1038/s41524-020-00440-1" in found.source
    order = list(range(20))
    random.Random(123).shuffle(order)
    assert np.flatnonzero(found.splits["mbj_bandgap"] == "test").tolist() == sorted(
        2 * np.array(order[-2:])
    )
    split, _ = make_split(found, SplitConfig(), ["formation_energy_peratom"])
    assert split.sizes == {"train": 32, "val": 4, "test": 4}


def test_other_columns_of_a_benchmark_can_be_asked_for(tmp_path, monkeypatch):
    put(monkeypatch, "jarvis:dft_3d_2021", counts=(40,))
    fetch(PUBLIC_DATASETS["jarvis:dft_3d_2021"], given=[jarvis_file(tmp_path)])
    found = data.open("jarvis:dft_3d_2021", targets=["slme"])
    assert found.targets["slme"][2] == 7.0
    assert (found.splits["slme"] == "test").sum() == 4


def test_rows_that_cannot_be_used_do_not_shift_the_split(tmp_path, monkeypatch):
    records = [
        {"id": f"mp-{k}", "e_form": 0.1 * k, "gap pbe": 0.0, "atoms": jarvis_atoms(2.5)}
        for k in range(60)
    ]
    records[5]["atoms"]["coords"][1] = [0, 0, 0.001]
    path = zipped(tmp_path / "megnet.json.zip", "megnet.json", records)
    put(monkeypatch, "mp:2018.6.1", counts=(60,), official=PublishedShuffle((48, 6, 6)))
    fetch(PUBLIC_DATASETS["mp:2018.6.1"], given=[path])
    found = data.open("mp:2018.6.1", on_error="skip")
    assert [failure.id for failure in found.failures] == ["mp-5"]
    order = list(range(60))
    random.Random(123).shuffle(order)
    tests = {
        id for id, part in zip(found.ids, found.splits["e_form"], strict=True) if part == "test"
    }
    assert tests == {f"mp-{k}" for k in order[-6:]} - {"mp-5"}


def test_a_matbench_file_opens_with_its_ids_and_folds(tmp_path, monkeypatch):
    n = 23
    table = {
        "index": list(range(n)),
        "columns": ["structure", "last phdos peak"],
        "data": [[matbench_structure(2.5 + 0.01 * k), 100.0 + k] for k in range(n)],
    }
    path = tmp_path / "matbench_phonons.json.gz"
    path.write_bytes(gzip.compress(json.dumps(table).encode()))
    file = dataclasses.replace(PUBLIC_DATASETS["matbench:phonons"].files[0], sha256=None)
    put(monkeypatch, "matbench:phonons", counts=(n,), files=(file,))
    fetch(PUBLIC_DATASETS["matbench:phonons"], given=[path])
    found = data.open("matbench:phonons")
    assert found.ids[0] == "mb-phonons-01"
    assert found.units == {"last phdos peak": "1/cm"}
    np.testing.assert_array_equal(found.folds, shuffled_folds(n, seed=18012019))
    split, _ = make_split(found, SplitConfig(fold=3), ["last phdos peak"])
    np.testing.assert_array_equal(np.sort(split.test), np.flatnonzero(found.folds == 3))
    record = next(data.iter_records("matbench:phonons"))
    assert record.split == f"fold{found.folds[0]}"


def test_a_benchmark_keeps_its_ids_and_split_in_a_store(tmp_path, monkeypatch):
    put(monkeypatch, "jarvis:dft_3d_2021", counts=(40,))
    fetch(PUBLIC_DATASETS["jarvis:dft_3d_2021"], given=[jarvis_file(tmp_path)])
    data.build("jarvis:dft_3d_2021", tmp_path / "store")
    stored, opened = data.open(tmp_path / "store"), data.open("jarvis:dft_3d_2021")
    assert stored.ids == opened.ids
    assert stored.units == opened.units
    for target, labels in opened.splits.items():
        np.testing.assert_array_equal(stored.splits[target], labels)
    split, _ = make_split(stored, SplitConfig(seed=1, kind="k-fold"), ["mbj_bandgap"])
    same, _ = make_split(opened, SplitConfig(seed=1, kind="k-fold"), ["mbj_bandgap"])
    assert split.named(stored.ids) == same.named(opened.ids)


def test_a_class_becomes_a_number(tmp_path, monkeypatch):
    table = {
        "index": list(range(20)),
        "columns": ["structure", "is_metal"],
        "data": [[matbench_structure(2.5), k % 2 == 0] for k in range(20)],
    }
    path = tmp_path / "matbench_mp_is_metal.json.gz"
    path.write_bytes(gzip.compress(json.dumps(table).encode()))
    file = dataclasses.replace(PUBLIC_DATASETS["matbench:mp_is_metal"].files[0], sha256=None)
    put(monkeypatch, "matbench:mp_is_metal", counts=(20,), files=(file,))
    fetch(PUBLIC_DATASETS["matbench:mp_is_metal"], given=[path])
    found = data.open("matbench:mp_is_metal")
    assert found.targets["is_metal"].tolist() == [1.0, 0.0] * 10
    assert [found.targets["is_metal"][found.folds == k].sum() for k in range(5)] == [2.0] * 5


def test_pickled_files_open_with_one_part_each(tmp_path, monkeypatch):
    found = put(monkeypatch, "mp:2018.6.1-shear", counts=(18,))
    values = lambda k: np.array(np.nan if k == 13 else 1.5 + 0.01 * k)  # noqa: E731
    fetch(found, given=modulus_files(tmp_path / "from", value=values)[::-1])
    opened = data.open("mp:2018.6.1-shear")
    assert opened.splits[""].tolist() == ["train"] * 12 + ["val"] * 3 + ["test"] * 3
    assert opened.units == {"shear modulus": "log10(GPa)"}
    assert opened.targets["shear modulus"][17] == pytest.approx(1.67)
    split, failures = make_split(opened, SplitConfig(), ["shear modulus"])
    assert split.sizes == {"train": 12, "val": 2, "test": 3}
    assert [failure.id for failure in failures] == ["mp-13"]


def test_another_number_of_rows_is_another_version(tmp_path):
    fetch(PUBLIC_DATASETS["jarvis:dft_3d_2021"], given=[jarvis_file(tmp_path)])
    with pytest.raises(DataError, match="must have 55723 rows, got 40 .* another version"):
        data.open("jarvis:dft_3d_2021")


# ----------------------------------------------------------------------------- on this machine


def test_a_benchmark_that_is_not_here_names_the_command_and_uses_no_network(monkeypatch):
    import socket

    monkeypatch.setattr(socket, "create_connection", None)
    with pytest.raises(DataError, match="`potnet datasets get qmof` .*add --from FILE"):
        data.open("qmof")
    with pytest.raises(DataError, match="a name that `potnet datasets` lists"):
        data.open("qmoff")


def test_a_benchmark_comes_from_a_server_once(tmp_path, monkeypatch, cache):
    content = jarvis_file(tmp_path).read_bytes()
    shown = []
    with serving(Answer(content)) as server:
        file = Remote("jdft.json.zip", (server.url,), starts=b"PK", format="zip archive")
        found = put(monkeypatch, "jarvis:dft_3d_2021", files=(file,), counts=(40,))
        assert not is_here(found)
        assert size_of(found) is None
        [(path, receipt)] = fetch(
            found, patience=Patience(attempts=1), report=lambda *at: shown.append(at)
        )
        fetch(found)
        assert len(server.requests) == 1
    assert path == folder_of(found) / "jdft.json.zip"
    assert path.is_relative_to(cache)
    assert not receipt.pinned
    assert size_of(found) == len(content)
    assert shown[-1] == ("jdft.json.zip", len(content), len(content))
    assert len(data.open("jarvis:dft_3d_2021")) == 40


def test_files_that_change_in_the_cache_are_not_opened(tmp_path, monkeypatch):
    found = put(monkeypatch, "jarvis:dft_3d_2021", counts=(40,))
    fetch(found, given=[jarvis_file(tmp_path)])
    other = jarvis_file(tmp_path, n=41).read_bytes()
    (folder_of(found) / found.files[0].name).write_bytes(other)
    with pytest.raises(DataError, match="changed or damaged"):
        checked_files(found)


def test_several_files_are_told_apart_by_name(tmp_path):
    found = PUBLIC_DATASETS["mp:2018.6.1-shear"]
    paths = modulus_files(tmp_path / "from")
    with pytest.raises(DataError, match="must name the files shear_megnet_train.pkl, shear_meg"):
        fetch(found, given=paths[:2])
