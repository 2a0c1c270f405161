"""Looking a dataset over: what is there several times, leaked, impossible or odd."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potnet.checks import check_records, duplicate_groups, fingerprint
from potnet.crystal import Crystal
from potnet.data import Record
from potnet.errors import Failure
from potnet.io import Pieces, write
from potnet.report import dataset_report


def rock_salt(number=11, other=17, a=5.6, **kwargs):
    return Crystal([number, other], [[0, 0, 0], [a / 2, 0, 0]], a / 2 * (1 - np.eye(3)), **kwargs)


def zinc_blende(a=4.36):
    return Crystal([14, 6], [[0, 0, 0], [a / 4] * 3], a / 2 * (1 - np.eye(3)))


def wurtzite():
    a, c = 4.36 / np.sqrt(2), 4.36 * 2 / np.sqrt(3)
    cell = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(0.75), 0], [0, 0, c]])
    fractions = [
        [1 / 3, 2 / 3, 0],
        [2 / 3, 1 / 3, 0.5],
        [1 / 3, 2 / 3, 0.375],
        [2 / 3, 1 / 3, 0.875],
    ]
    return Crystal([14, 14, 6, 6], np.array(fractions) @ cell, cell)


def records(n=60, **kwargs):
    """Rock salts of different size, all different crystals."""
    return [
        Record(f"s{k}", rock_salt(a=5.0 + 0.05 * k), targets={"band_gap": 1.0 + 0.01 * k}, **kwargs)
        for k in range(n)
    ]


def kinds(found):
    return {finding.kind: finding for finding in found.findings}


@given(
    st.integers(1, 3),
    st.lists(st.floats(-1, 1), min_size=9, max_size=9),
    st.permutations(range(4)),
)
@settings(max_examples=20, deadline=None)
def test_a_fingerprint_does_not_depend_on_how_the_crystal_is_written(n, numbers, order):
    crystal = wurtzite()
    rotation, _ = np.linalg.qr(np.array(numbers).reshape(3, 3) + 3 * np.eye(3))
    moved = Crystal(
        crystal.numbers[list(order)],
        (crystal.positions @ rotation + 0.3)[list(order)],
        crystal.cell @ rotation,
    ).supercell((1, n, 1))
    assert np.abs(fingerprint(moved) - fingerprint(crystal)).max() < 1e-5


def test_polytypes_with_equal_near_neighbours_are_told_apart():
    cubic, hexagonal = fingerprint(zinc_blende()), fingerprint(wurtzite())
    assert np.abs(cubic - hexagonal).max() > 0.02


def test_the_difference_of_fingerprints_is_a_length():
    small, large = (fingerprint(rock_salt(a=a)) for a in (5.6, 5.61))
    assert 0.002 < np.abs(small - large).max() < 0.02  # the neighbours move by 0.005 Å


def test_duplicates_are_found_within_a_formula_and_linked_into_groups():
    prints = [np.array([x, 1.0], np.float32) for x in (1.0, 5.0, 1.01, 1.02, 5.0)]
    assert duplicate_groups(["A"] * 5, prints, 0.011) == [[0, 2, 3], [1, 4]]
    assert duplicate_groups(["A", "A", "B", "B", "A"], prints, 0.011) == [[1, 4], [2, 3]]


def test_a_clean_dataset_has_no_problems():
    found = check_records(records(), name="salts", units={"band_gap": "eV"})
    assert not found.has_problems
    assert found.duplicates == ()
    assert found.elements == {"Na": 60, "Cl": 60} or found.elements == {"Cl": 60, "Na": 60}
    assert [column.name for column in found.columns] == ["band_gap"]


def test_the_same_crystal_in_training_and_test_is_a_leak():
    rows = records(30, split="train")
    again = rows[4].crystal.supercell((2, 1, 1))
    rows.append(Record("again", again, targets={"band_gap": 1.04}, split="test"))
    found = check_records(rows)
    assert found.duplicates[0].rows == (4, 30)
    leak = kinds(found)["leakage"]
    assert (leak.severity, leak.ids) == ("problem", ("again",))
    assert "1 of 1 crystals held back" in leak.text


def test_a_split_file_takes_the_place_of_labels():
    rows = [*records(10), Record("again", rock_salt(a=5.0))]
    split = {"train": [f"s{k}" for k in range(8)], "val": ["s8", "s9"], "test": ["again"]}
    assert "leakage" in kinds(check_records(rows, split=split))
    split = {"train": [f"s{k}" for k in range(1, 8)], "val": ["s8"], "test": ["again", "s0"]}
    assert "leakage" not in kinds(check_records(rows, split=split))


def test_equal_crystals_with_different_values_contradict():
    rows = [*records(30), Record("again", rock_salt(a=5.0), targets={"band_gap": 5.0})]
    found = kinds(check_records(rows))["contradiction"]
    assert found.ids == ("s0", "again")
    assert found.severity == "problem"


@pytest.mark.parametrize(
    ("name", "unit", "value", "what"),
    [
        ("band_gap", "eV", -1.0, "band gaps lie"),
        ("ehull", "eV/atom", -0.5, "are not negative"),
        ("formation_energy", "eV/atom", -30.0, "formation energies lie"),
        ("bulk_modulus", "GPa", 1e5, "moduli of stable crystals"),
        ("bulk_modulus", "log10 GPa", 120.0, "moduli of crystals"),
    ],
)
def test_values_that_cannot_be_are_problems(name, unit, value, what):
    rows = [
        Record(f"s{k}", rock_salt(a=5 + 0.1 * k), targets={name: 1.0 + k / 9}) for k in range(9)
    ]
    assert "impossible" not in kinds(check_records(rows, units={name: unit}))
    rows.append(Record("odd", rock_salt(a=7.5), targets={name: value}))
    found = kinds(check_records(rows, units={name: unit}))["impossible"]
    assert found.ids == ("odd",)
    assert what in found.text


def test_an_energy_per_cell_that_is_called_per_atom_is_a_problem():
    rows = [
        Record(
            f"s{k}", rock_salt(a=5 + 0.01 * k).supercell((1 + k % 4, 1, 1)), units={"e": "eV/atom"}
        )
        for k in range(60)
    ]
    cells = [Record(r.id, r.crystal, {"e": -3.5 * r.crystal.n_atoms}, units=r.units) for r in rows]
    atoms = [
        Record(r.id, r.crystal, {"e": -3.5 + 0.01 * k}, units=r.units) for k, r in enumerate(rows)
    ]
    assert "is it per cell?" in kinds(check_records(cells))["unit"].text
    assert "unit" not in kinds(check_records(atoms))


def test_what_is_missing_far_out_refused_or_repeated_is_told():
    rows: list[Record | Failure] = [*records(40)]
    rows += [
        Record("far", rock_salt(a=7.5), targets={"band_gap": 19.0}),
        Record("none", rock_salt(a=7.6)),
        Record("s0", rock_salt(a=7.7)),
        Failure("bad.cif", "read", "bad.cif: must be a CIF, got a poem."),
    ]
    found = check_records(rows)
    assert kinds(found)["outlier"].ids == ("far",)
    assert kinds(found)["missing"].ids == ("none",)
    assert kinds(found)["refused"].ids == ("s0", "bad.cif")
    assert found.has_problems


def test_elements_that_training_never_sees_are_told():
    rows = [*records(30, split="train"), Record("K", rock_salt(19, a=6.3), split="test")]
    found = kinds(check_records(rows))["elements"]
    assert found.ids == ("K",)
    assert found.text.endswith("never sees: K")


def test_the_report_is_one_page_that_says_all(tmp_path):
    rows: list[Record | Failure] = [
        *records(30, split="train"),
        Record("<again>", rock_salt(a=5.0), targets={"band_gap": 19.0}, split="test"),
        Failure("bad.cif", "read", "bad.cif: must be a CIF, got a <poem>."),
    ]
    path = tmp_path / "page.html"
    dataset_report(check_records(rows, name="salts"), path)
    page = path.read_text(encoding="utf-8")
    for text in ("Check of salts", "&lt;again&gt;", "&lt;poem&gt;", "leakage", "data:image/png"):
        assert text in page
    assert "<again>" not in page
    assert "http" not in page


def test_nothing_usable_still_gives_a_report(tmp_path):
    found = check_records(
        [Failure("bad.cif", "read", "bad.cif: must be a CIF, got a poem.")], name="x"
    )
    dataset_report(found, tmp_path / "page.html")
    assert found.has_problems


def test_what_is_found_does_not_depend_on_the_number_of_workers(tmp_path, monkeypatch):
    monkeypatch.setattr("potnet.checks.checks._TASK", 3)
    folder = tmp_path / "in"
    folder.mkdir()
    crystals = [record.crystal.replace(id=record.id) for record in records(6)]
    for k, crystal in enumerate(crystals * 2):
        write(crystal, folder / f"{k}.json")
    (folder / "bad.cif").write_text("data_bad")
    one, two = (check_records(Pieces(folder), workers=workers) for workers in (1, 2))
    assert one.ids == two.ids
    assert one.failures == two.failures
    assert [failure.id for failure in one.failures] == ["bad"]
    assert one.duplicates == two.duplicates
    assert len(one.duplicates) == len(crystals)
    np.testing.assert_array_equal(one.volume_per_atom, two.volume_per_atom)
    # A second crystal of the same id has that of its file.
    assert set(one.ids) > {crystal.id for crystal in crystals} | {str(folder / "9.json")}
