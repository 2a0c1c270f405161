"""Datasets say what they hold, and refuse what cannot be learned from."""

import csv
import gzip
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from potnet import data
from potnet.crystal import Crystal
from potnet.data import Dataset
from potnet.errors import DataError, StructureError

SHARED = Path(__file__).parents[3] / "shared" / "data"
POSCAR = "salt\n1.0\n0 2.82 2.82\n2.82 0 2.82\n2.82 2.82 0\nNa Cl\n1 1\ndirect\n0 0 0\n.5 .5 .5\n"
CIF = """data_x
_cell_length_a 3
_cell_length_b 3
_cell_length_c 3
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Fe1 Fe 0 0 0
"""


def record(id="a", length=4.0, **rest):
    cell = [[length, 0, 0], [0, length, 0], [0, 0, length]]
    return {"id": id, "lattice": cell, "species": ["Fe"], "frac_coords": [[0, 0, 0]], **rest}


def write_lines(path, *records):
    text = "".join(json.dumps(r) + "\n" for r in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


# ------------------------------------------------------------------------------------- the type


def iron(id, length=4.0):
    return Crystal([26], [[0, 0, 0]], np.eye(3) * length, id=id)


def test_an_empty_dataset_is_refused():
    with pytest.raises(DataError, match="at least one crystal, got none"):
        Dataset((), ())


def test_ids_must_not_repeat():
    with pytest.raises(DataError, match="ids must not repeat, got 'b' twice"):
        Dataset(("a", "b", "b"), (iron("a"), iron("b"), iron("b")))


def test_infinite_targets_are_refused_with_the_id():
    with pytest.raises(DataError, match=r"target 'y' must be finite, got inf for 'b'"):
        Dataset(("a", "b"), (iron("a"), iron("b")), {"y": [1.0, np.inf]})


def test_columns_must_have_one_value_per_crystal():
    with pytest.raises(DataError, match=r"shape \(1,\), got \(2,\)"):
        Dataset(("a",), (iron("a"),), {"y": [1.0, 2.0]})


def test_unknown_split_labels_are_refused():
    with pytest.raises(DataError, match="train, val, test or empty"):
        Dataset(("a",), (iron("a"),), splits={"": np.array(["training"])})


def test_crystals_carry_the_ids_of_the_dataset():
    assert Dataset(("new",), (iron("old"),)).crystals[0].id == "new"


def test_a_subset_keeps_rows_together():
    whole = Dataset(
        ("a", "b", "c"),
        tuple(map(iron, "abc")),
        {"y": [1.0, 2.0, np.nan]},
        {"y": "eV"},
        {"": np.array(["train", "val", "test"])},
    )
    part = whole.subset(np.array([True, False, True]))
    assert part.ids == ("a", "c")
    np.testing.assert_array_equal(part.targets["y"], [1.0, np.nan])
    assert part.units == {"y": "eV"}
    assert part.split_for(["y"]).tolist() == ["train", "test"]


@pytest.mark.parametrize(
    "changed",
    [
        Dataset(("b",), (iron("b"),), {"y": [1.0]}),
        Dataset(("a",), (iron("a", 4.0001),), {"y": [1.0]}),
        Dataset(("a",), (iron("a"),), {"y": [1.5]}),
        Dataset(("a",), (iron("a"),), {"z": [1.0]}),
    ],
)
def test_the_fingerprint_depends_on_ids_crystals_and_targets(changed):
    same = [Dataset(("a",), (iron("a"),), {"y": [1.0]}) for _ in range(2)]
    assert same[0].sha256 == same[1].sha256 != changed.sha256


def test_a_crystal_held_back_for_one_target_is_held_back_for_all():
    splits = {"y": np.array(["train", "train", "val"]), "z": np.array(["test", "val", ""])}
    dataset = Dataset(tuple("abc"), tuple(map(iron, "abc")), splits=splits)
    assert dataset.split_for(["y", "z"]).tolist() == ["test", "val", "val"]
    assert dataset.split_for(["z"]).tolist() == ["test", "val", ""]
    assert dataset.split_for(["other"]) is None


# ------------------------------------------------------------------------------------- embedded


def test_the_elastic_dataset_is_embedded():
    dataset = data.open("elastic")
    assert "elastic" in data.named_datasets()
    assert len(dataset) == 1181
    assert dataset.units == {"bulk_modulus": "GPa", "shear_modulus": "GPa"}
    assert all(np.isfinite(column).all() for column in dataset.targets.values())
    row = dataset.ids.index("mp-10003")
    assert sorted(dataset.crystals[row].symbols) == ["Co"] * 2 + ["Nb"] * 8 + ["Si"] * 2
    assert dataset.targets["bulk_modulus"][row] == 194.269
    assert "CC BY 4.0" in dataset.licence
    assert "150009" in dataset.source


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data")
def test_the_elastic_dataset_equals_an_independent_conversion():
    path = data.origins.EMBEDDED_FOLDER / "elastic.jsonl.gz"
    other = SHARED / "default_elastic_1181_min.jsonl.gz"
    mine, theirs = (
        {r["id"]: r for r in map(json.loads, gzip.decompress(p.read_bytes()).splitlines())}
        for p in (path, other)
    )
    assert mine.keys() == theirs.keys()
    for id, row in mine.items():
        assert row == {key: theirs[id][key] for key in row}


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data")
def test_held_back_test_targets_are_read_as_missing(tmp_path):
    path = tmp_path / "jarvis.jsonl"
    with gzip.open(SHARED / "jarvis_dft3d_2021_oxides_nitrides.jsonl.gz", "rt") as file:
        path.write_text("".join(islice(file, 2000)))
    name = "formation_energy_peratom"
    dataset = data.open(path, targets=name)
    labels = dataset.split_for([name])
    assert set(labels) == {"train", "val", "test"}
    np.testing.assert_array_equal(np.isnan(dataset.targets[name]), labels == "test")


# -------------------------------------------------------------------------------------- readers


def test_json_lines_give_targets_units_and_split(tmp_path):
    path = write_lines(
        tmp_path / "set.jsonl.gz",
        record("a", targets={"y": 1.5, "z": None}, split="train"),
        record("b", targets={"y": 2, "z": 3.0}, split="test"),
        record("c", targets={"z": 3.0}),
    )
    dataset = data.open(path, units={"y": "eV"})
    assert dataset.ids == ("a", "b", "c")
    assert dataset.name == "set"
    np.testing.assert_array_equal(dataset.targets["y"], [1.5, 2, np.nan])
    np.testing.assert_array_equal(dataset.targets["z"], [np.nan, 3, 3])
    assert dataset.units == {"y": "eV", "z": ""}
    assert dataset.split_for(["y"]).tolist() == ["train", "test", ""]


def test_splits_by_target_are_kept_apart(tmp_path):
    path = write_lines(
        tmp_path / "set.jsonl",
        record("a", targets={"y": 1, "z": 1}, split={"y": "train", "z": "test"}),
        record("b", targets={"y": 1, "z": 1}, split={"y": "val", "z": None}),
    )
    dataset = data.open(path)
    assert dataset.split_for(["y"]).tolist() == ["train", "val"]
    assert dataset.split_for(["z"]).tolist() == ["test", ""]


def test_targets_can_be_chosen_and_must_be_there(tmp_path):
    path = write_lines(tmp_path / "set.jsonl", record(targets={"y": 1.0, "z": 2.0}))
    assert list(data.open(path, targets="z").targets) == ["z"]
    assert list(data.open(path, targets=["z", "y"]).targets) == ["z", "y"]
    with pytest.raises(DataError, match=r"columns of the data \(y, z\), got 'x'"):
        data.open(path, targets="x")


def test_bad_records_raise_or_are_listed(tmp_path):
    path = write_lines(
        tmp_path / "set.jsonl",
        record("good", targets={"y": 1.0}),
        record("small", length=0.1, targets={"y": 1.0}),
        record("word", targets={"y": "high"}),
    )
    with pytest.raises(StructureError, match="small"):
        data.open(path)
    dataset = data.open(path, targets="y", on_error="skip")
    assert dataset.ids == ("good",)
    assert [(f.id, f.stage) for f in dataset.failures] == [("small", "read"), ("word", "read")]
    assert "finite number or missing, got 'high'" in dataset.failures[1].reason


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_empty_tables_are_refused(tmp_path, text):
    path = tmp_path / "set.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match="at least one usable crystal, got none"):
        data.open(path)


def test_broken_json_is_named_by_line(tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps(record()) + "\n{broken\n")
    with pytest.raises(DataError, match="line 2: must be JSON"):
        data.open(path)


def test_json_lists_in_the_jarvis_layout(tmp_path):
    atoms = {
        "lattice_mat": (np.eye(3) * 3).tolist(),
        "coords": [[0, 0, 0]],
        "elements": ["Fe"],
        "cartesian": False,
    }
    path = tmp_path / "jarvis.json"
    path.write_text(
        json.dumps(
            [
                {"jid": "J-1", "atoms": atoms, "gap": 0.5, "formula": "Fe"},
                {"jid": "J-2", "atoms": atoms, "gap": "na", "formula": "Fe"},
            ]
        )
    )
    dataset = data.open(path)
    assert dataset.ids == ("J-1", "J-2")
    assert list(dataset.targets) == ["gap"]
    np.testing.assert_array_equal(dataset.targets["gap"], [0.5, np.nan])


def test_json_tables_in_the_matbench_layout(tmp_path):
    structure = {
        "@class": "Structure",
        "lattice": {"matrix": (np.eye(3) * 3).tolist()},
        "sites": [{"species": [{"element": "Fe", "occu": 1}], "abc": [0, 0, 0], "label": "Fe"}],
    }
    path = tmp_path / "matbench.json"
    columns = ["structure", "log10(K_VRH)"]
    path.write_text(
        json.dumps({"index": ["m1", "m2"], "columns": columns, "data": [[structure, 2.0]] * 2})
    )
    dataset = data.open(path)
    assert dataset.ids == ("m1", "m2")
    assert dataset.targets["log10(K_VRH)"].tolist() == [2.0, 2.0]


def test_csv_holds_structures_as_cif_poscar_json_or_path(tmp_path):
    (tmp_path / "fe.cif").write_text(CIF)
    path = tmp_path / "table.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["material_id", "structure", "y", "comment", "split"])
        writer.writerow(["cif", CIF, "1.0", "fine", "train"])
        writer.writerow(["poscar", POSCAR, "", "fine", "val"])
        writer.writerow(["json", json.dumps(record()), "3", "fine", "test"])
        writer.writerow(["path", "fe.cif", "4", "fine", ""])
    dataset = data.open(path)
    assert dataset.ids == ("cif", "poscar", "json", "path")
    assert [c.n_atoms for c in dataset.crystals] == [1, 2, 1, 1]
    assert list(dataset.targets) == ["y"]
    np.testing.assert_array_equal(dataset.targets["y"], [1, np.nan, 3, 4])
    assert dataset.split_for(["y"]).tolist() == ["train", "val", "test", ""]


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ("a,1.0\nb,2.0\n", ["target"]),
        ("a.cif,1.0\nb.vasp,2.0\n", ["target"]),
        ("id,y\na,1.0\nb,2.0\n", ["y"]),
        ("a,1.0,5\nb,2.0,na\n", ["target1", "target2"]),
    ],
)
def test_folders_in_the_cgcnn_and_alignn_layouts(tmp_path, lines, names):
    (tmp_path / "a.cif").write_text(CIF)
    (tmp_path / "b.vasp").write_text(POSCAR)
    (tmp_path / "id_prop.csv").write_text(lines)
    for source in (tmp_path, tmp_path / "id_prop.csv"):
        dataset = data.open(source)
        assert [c.n_atoms for c in dataset.crystals] == [1, 2]
        assert list(dataset.targets) == names
        assert dataset.targets[names[0]].tolist() == [1.0, 2.0]


def test_a_folder_needs_no_targets(tmp_path):
    (tmp_path / "a.cif").write_text(CIF)
    (tmp_path / "id_prop.csv").write_text("a\n")
    dataset = data.open(tmp_path)
    assert dataset.ids == ("a",)
    assert dataset.targets == {}


def test_a_missing_structure_file_is_named(tmp_path):
    (tmp_path / "a.cif").write_text(CIF)
    (tmp_path / "id_prop.csv").write_text("a,1.0\nlost,2.0\n")
    with pytest.raises(StructureError, match="lost"):
        data.open(tmp_path)
    assert [f.id for f in data.open(tmp_path, on_error="skip").failures] == ["lost"]


def test_extended_xyz_with_targets_in_the_comment(tmp_path):
    lattice = 'Lattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3 pbc="T T T"'
    frames = [f"1\n{lattice} id=x{k} gap={k}.5\nFe 0 0 0\n" for k in range(2)]
    path = tmp_path / "set.extxyz"
    path.write_text("".join(frames))
    dataset = data.open(path, targets="gap", units={"gap": "eV"})
    assert dataset.ids == ("x0", "x1")
    assert dataset.targets["gap"].tolist() == [0.5, 1.5]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("set.doc", "x", "must end in"),
        ("set.csv", "id,y\na,1\n", "column of structures"),
        ("set.json", "{}", "list of records"),
        ("set.jsonl", '{"id": "a", "y": 1}', "must have lattice"),
        ("set.jsonl", "[1]", "must be an object"),
        ("set.csv", "id,structure,y\na,b\n", "must have 3 cells, got 2"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        data.open(path)


def test_an_unknown_name_is_refused():
    with pytest.raises(DataError, match="`potnet datasets` lists, or be an existing file"):
        data.open("elastik")


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"must hold id_prop\.csv or structure"):
        data.open(tmp_path)


def test_a_dataset_is_short_and_is_indexed_like_a_table(salts):
    dataset = Dataset(
        tuple(c.id for c in salts),
        salts,
        {"y": np.arange(12.0)},
        {"y": "eV"},
        words={"kind": ["a", ""] * 6},
        name="salts",
    )
    assert repr(dataset) == "<Dataset salts: 12 crystals; y (eV), kind>"
    assert dataset["y"].tolist() == list(range(12))
    assert dataset["kind"][0] == "a"
    assert dataset[-1].id == salts[-1].id
    assert dataset[3].targets == {"y": 3.0}
    assert dataset[2:5].ids == dataset.ids[2:5]
    assert dataset[dataset["y"] > 9].ids == dataset.ids[10:]
    assert dataset[[4, 1]].targets["y"].tolist() == [4.0, 1.0]
    assert [record.id for record in dataset] == list(dataset.ids)
    with pytest.raises(KeyError, match="a column must be there"):
        dataset["x"]
    with pytest.raises(IndexError):
        dataset[12]


def test_a_dataset_that_was_saved_is_read_again(salts, tmp_path):
    values = np.array([np.nan, *range(11)])
    labels = np.array(["train", "val", "test"] * 4)
    dataset = Dataset(
        tuple(c.id for c in salts),
        salts,
        {"y": values},
        {"y": "eV"},
        {"": labels},
        words={"kind": ["a", "b"] * 6},
    )
    dataset.save(tmp_path / "salts.jsonl")
    again = data.open(tmp_path / "salts.jsonl")
    np.testing.assert_array_equal(again.targets["y"], values)
    assert again.words["kind"].tolist() == ["a", "b"] * 6
    assert again.units == {"y": "eV"}
    assert again.split_for(["y"]).tolist() == labels.tolist()
    np.testing.assert_allclose(again.crystals[3].positions, salts[3].positions)
    with pytest.raises(DataError, match="must be written as .jsonl"):
        dataset.save(tmp_path / "salts.xlsx")
    pandas = pytest.importorskip("pandas")
    table = dataset.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == ["crystal", "y", "kind"]
