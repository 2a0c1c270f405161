"""Every source of crystals is read row by row, and says what it held."""

import gzip
import io
import json
import tracemalloc

import ase.db
import ase.io
import numpy as np
import pandas as pd
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from sources import CRYSTALS, GAPS, OXIDE, SOURCES, jsonl, poscar, response, write_folder

from potnet import data
from potnet.data.readers.json_stream import JsonStream
from potnet.errors import DataError, Failure


def record(id="a", length=4.0, **rest):
    cell = [[length, 0, 0], [0, length, 0], [0, 0, length]]
    return {"id": id, "lattice": cell, "species": ["Fe"], "frac_coords": [[0, 0, 0]], **rest}


def test_scan_yields_entries_and_goes_on_after_a_bad_row(tmp_path):
    path = tmp_path / "set.jsonl"
    rows = [
        record("good", targets={"y": 1.5}, split="train", functional="PBE"),
        record("small", length=0.1),
        record("last", targets={"y": None}),
    ]
    path.write_text(jsonl(*rows) + "{broken\n")
    first, small, last, broken = data.iter_records(path, units={"y": "eV"})
    assert (first.id, first.crystal.id, first.split) == ("good", "good", "train")
    assert first.targets == {"y": 1.5}
    assert first.units == {"y": "eV"}
    assert first.info == {"functional": "PBE"}
    assert last.id == "last"
    assert isinstance(small, Failure)
    assert isinstance(broken, Failure)
    assert small.id == "small"
    assert small.reason.startswith("set.jsonl, line 2: small: `cell` must repeat after at least")
    assert broken.reason.startswith("set.jsonl, line 4: must be JSON")


def test_scan_asks_for_targets_by_name(tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text(jsonl(record(targets={"y": 2}), record(targets={"y": "high", "z": 1})))
    good, failure = data.iter_records(path, targets="y")
    assert good.targets == {"y": 2.0}
    assert "target 'y' must be a finite number or missing, got 'high'" in failure.reason
    _, found = data.iter_records(path, targets="z")
    assert (found.targets, found.info) == ({"z": 1.0}, {"y": "high"})
    with pytest.raises(DataError, match=r"columns of the data \(y, z\), got 'x'"):
        list(data.iter_records(path, targets="x"))


def test_a_column_with_a_few_words_among_numbers_is_reported(tmp_path):
    path = tmp_path / "set.jsonl"
    values = ["1.5", "2,5", "3.5", "cubic", "4"]
    rows = [record(f"r{k}", y=value, kind=str(k % 2) * k) for k, value in enumerate(values)]
    path.write_text(jsonl(*rows, record("last", y=None)))
    with pytest.warns(UserWarning, match="r1: column 'y' has 3 numbers and 2 words, such as '2,5'"):
        dataset = data.open(path)
    assert "y" not in dataset.targets
    with pytest.raises(DataError, match=r"line 2: target 'y' must be .* got '2,5'"):
        data.open(path, targets="y")


def test_a_file_that_breaks_off_ends_with_a_failure(tmp_path):
    path = tmp_path / "set.jsonl.gz"
    whole = gzip.compress(jsonl(*(record(f"r{k}", 3 + k / 997) for k in range(5000))).encode())
    path.write_bytes(whole[:-2000])
    *records, failure = data.iter_records(path)
    assert 3000 < len(records) < 5000
    assert "must be readable, got EOFError" in failure.reason


def test_words_that_begin_with_a_digit_are_classes(tmp_path):
    path = tmp_path / "set.jsonl"
    words = ["4/mmm", "2H", "-3 2/m", "3d5", "1.b"]
    path.write_text(jsonl(*(record(str(k), word=word) for k, word in enumerate(words))))
    assert [found.info["word"] for found in data.iter_records(path, targets="word")] == words


def test_lines_under_the_name_of_json_are_all_read(tmp_path):
    path = tmp_path / "set.json"
    path.write_text(jsonl(*(record(str(k), y=k) for k in range(3))))
    assert data.open(path)["y"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["set.jsonl", "set.json"])
def test_a_name_in_json_is_that_of_a_file_beside_it(tmp_path, name):
    (tmp_path / "a.vasp").write_text(poscar(OXIDE))
    (tmp_path / name).write_text(jsonl({"path": "a.vasp", "y": 1}, {"path": "../a.vasp", "y": 1}))
    found, outside = data.iter_records(tmp_path / name)
    assert found.crystal.formula == OXIDE.formula
    assert "must lie in the folder of the table, got '../a.vasp'" in outside.reason


@pytest.mark.parametrize("index", [[20, 5, 7], ["b", "a", "c"]])
@pytest.mark.parametrize("name", [None, "mid"])
def test_the_index_of_pandas_is_the_id_and_no_target(tmp_path, index, name):
    table = pd.DataFrame({"poscar": [poscar(OXIDE)] * 3, "y": [1.0, 2.0, 3.0]})
    table.set_index(pd.Index(index, name=name)).to_parquet(tmp_path / "set.parquet")
    found = data.open(tmp_path / "set.parquet")
    assert (list(found.ids), list(found.targets)) == ([str(id) for id in index], ["y"])


@pytest.mark.parametrize("chunk", [1, 2, 7, 1000])
def test_json_is_the_same_piece_by_piece(chunk):
    whole = [1.5e3, -12, 'a\\u00e9 " \\ \n', None, True, {"k": [[], {}, "x"]}, [1, [2, "]"]], 7]
    stream = JsonStream(io.StringIO(f" {json.dumps(whole, indent=1)} "), "set.json", chunk)
    assert list(stream.items()) == whole
    stream.end()
    table = JsonStream(io.StringIO(json.dumps({"a": 1, "b": whole, "c": {}})), "set.json", chunk)
    assert {key: table.value() for key in table.names()} == {"a": 1, "b": whole, "c": {}}


@pytest.mark.parametrize("name", ["set.jsonl", "set.json"])
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path, name):
    def peak(n_rows):
        path = tmp_path / name
        rows = [record(f"r{k}", note="x" * 1000) for k in range(n_rows)]
        path.write_text(jsonl(*rows) if name == "set.jsonl" else json.dumps(rows))
        tracemalloc.start()
        count = sum(1 for _ in data.iter_records(path))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == n_rows
        return found

    peak(100)
    assert peak(8000) < peak(4000) * 1.2


# ------------------------------------------------------------------------------------- sources


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_source_gives_the_same_table(tmp_path, source):
    path = tmp_path / source.partition(":")[0]
    SOURCES[source](path)
    records = list(data.iter_records(path, targets="gap"))
    assert [str(getattr(e, "reason", "")) for e in records] == ["", ""]
    assert [record.id.removesuffix(".poscar") for record in records] == ["salt", "oxide"]
    np.testing.assert_array_equal([e.targets.get("gap", np.nan) for e in records], GAPS)
    assert [record.info["functional"] for record in records] == ["PBE", "HSE"]
    assert [record.split for record in records] == ["train"] * 2
    for record, expected in zip(records, CRYSTALS, strict=True):
        assert record.crystal.id == record.id
        assert same_crystal(record.crystal, expected)
    dataset = data.open(path, units={"gap": "eV"})
    assert list(dataset.targets) == ["gap"]
    assert dataset.units == {"gap": "eV"}


def same_crystal(found, expected):
    """Return whether two crystals are the same up to rotation and the order of atoms."""

    def distances(crystal):
        atoms = crystal.to_ase()
        return np.sort(atoms.get_all_distances(mic=True), axis=None)

    same_atoms = sorted(found.numbers) == sorted(expected.numbers)
    return same_atoms and np.allclose(distances(found), distances(expected), atol=1e-6)


def test_optimade_properties_have_the_prefix_of_their_provider(tmp_path):
    path = tmp_path / "response.json"
    path.write_text(response())
    dataset = data.open(path)
    assert dataset.ids == ("salt", "oxide")
    assert list(dataset.targets) == ["_lab_gap"]
    np.testing.assert_array_equal(dataset.targets["_lab_gap"], GAPS)
    assert all(map(same_crystal, dataset.crystals, CRYSTALS))
    single = json.loads(response())
    single["data"] = single["data"][0]
    path.write_text(json.dumps(single))
    assert data.open(path).ids == ("salt",)


def test_one_page_of_an_optimade_response_is_reported(tmp_path):
    path = tmp_path / "response.json"
    path.write_text(
        response().replace('"more_data_available": false', '"more_data_available": true')
    )
    with pytest.warns(UserWarning, match="one page of several"):
        assert len(data.open(path)) == 2


def test_a_folder_without_table_has_no_targets(tmp_path):
    write_folder(tmp_path / "set", "")
    (tmp_path / "set" / "id_prop.csv").unlink()
    dataset = data.open(tmp_path / "set")
    assert sorted(dataset.ids) == ["oxide", "salt"]
    assert dataset.targets == {}


# --------------------------------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("source", "wanted", "value", "expected"),
    [
        ("eV/cell", "eV/atom", -6.0, -2.0),
        ("eV/atom", "meV/cell", -2.0, -6000.0),
        ("kJ/mol", "eV", 96.48533212331, 1.0),
        ("Ha", "eV", 1.0, 27.211386245988),
        ("THz", "1/cm", 1.0, 33.35640951981521),
        ("THz", "meV", 1.0, 4.135667696923859),
        ("eV/Å^3", "GPa", 1.0, 160.2176634),
        ("eV/A^3", "log10(GPa)", 1.0, 2.204710),
        ("log10 GPa", "kbar", 2.0, 1000.0),
        ("log10(GPa)", "log10(Pa)", 2.0, 11.0),
    ],
)
def test_units_are_converted_when_asked(tmp_path, source, wanted, value, expected):
    path = tmp_path / "set.csv"
    path.write_text(f'id,structure,y [{source}]\noxide,"{poscar(OXIDE)}",{value}\n')
    name = f"y [{source}]"
    dataset = data.open(path, units={name: wanted})
    assert dataset.units == {name: wanted}
    assert dataset.targets[name][0] == pytest.approx(expected, rel=1e-6)
    plain = data.open(path)
    assert (plain.units, plain.targets[name][0]) == ({name: source}, value)


@pytest.mark.parametrize(
    ("source", "wanted", "message"),
    [
        ("eV", "eV/atom", "target 'y': the new unit must measure the same .* got 'eV/atom'"),
        ("GPa", "eV", "must measure the same as the old one, got 'eV' for 'GPa'"),
        ("eV", "furlongs", "unit must be one that can be converted .* got 'furlongs'"),
        ("apples", "eV", "unit must be one that can be converted .* got 'apples'"),
    ],
)
def test_wrong_conversions_are_refused(tmp_path, source, wanted, message):
    path = tmp_path / "set.jsonl"
    path.write_text(jsonl(record(targets={"y": 1.0})))
    with pytest.raises(DataError, match=message):
        list(data.iter_records(path, units={"y": wanted}, source_units={"y": source}))


@pytest.mark.parametrize("value", [0.0, -3.5])
def test_what_has_no_logarithm_is_refused_with_its_row(tmp_path, value):
    path = tmp_path / "set.jsonl"
    path.write_text(jsonl(record(targets={"K": value}, units={"K": "GPa"}), record("b")))
    failure, _ = data.iter_records(path, units={"K": "log10(GPa)"})
    assert failure.reason.startswith("set.jsonl, line 1: a: target 'K' must be positive")


def test_ase_energies_are_those_of_the_cell(tmp_path):
    atoms = OXIDE.to_ase()
    atoms.calc = SinglePointCalculator(atoms, energy=-9.0)
    ase.io.write(tmp_path / "set.extxyz", atoms)
    ase.db.connect(tmp_path / "set.db").write(atoms, gap=2.0)
    for name in ("set.extxyz", "set.db"):
        dataset = data.open(tmp_path / name, targets="energy", units={"energy": "eV/atom"})
        assert dataset.targets["energy"].tolist() == [-3.0]
