"""Awkward structure files, each with what must come of it; see corpus/expected.json.

"read" asks for the very crystal, "refuse" for one sentence, "refuse_or_read" for either: the right
crystal or a sentence, never another crystal.
"""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from potnet import io
from potnet.crystal import Crystal
from potnet.errors import Failure

FOLDER = Path(__file__).with_name("corpus")
EXPECTED = json.loads((FOLDER / "expected.json").read_text("utf-8"))


def counts(formula: str) -> Counter:
    found: Counter = Counter()
    for symbol, count in re.findall(r"([A-Z][a-z]?)(\d*)", formula):
        found[symbol] += int(count or 1)
    return found


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_of_the_corpus_is_read_right_or_refused(name):
    expected = EXPECTED[name]
    found = list(io.scan(FOLDER / name))
    crystals = [item for item in found if isinstance(item, Crystal)]
    failures = [item for item in found if isinstance(item, Failure)]
    if expected["expect"] == "refuse":
        assert not crystals, crystals
    if expected["expect"] == "read":
        assert crystals, failures
    for failure in failures:
        assert failure.reason.endswith(".")
        assert name in failure.reason
        assert "Error:" not in failure.reason
    if crystals:
        (crystal,) = crystals
        assert crystal.n_atoms == expected["n_atoms"]
        assert Counter(crystal.symbols) == counts(expected["formula"])
        assert crystal.volume == pytest.approx(expected["volume"], rel=1e-4)
        if "space_group" in expected:
            assert crystal.space_group(0.01).number == expected["space_group"]


def test_a_folder_of_all_of_them_loses_none(tmp_path):
    for name in EXPECTED:
        shutil.copy(FOLDER / name, tmp_path)
    (tmp_path / "nested").mkdir()
    found = list(io.scan(tmp_path))
    assert all(isinstance(item, Crystal | Failure) for item in found)
    # The same as one by one, but for the extra frames of the one file that has some.
    read = sum(bool(io_read(FOLDER / name)) for name in EXPECTED)
    assert sum(isinstance(item, Crystal) for item in found) == read
    assert len(found) == len(EXPECTED) + 1


def io_read(path: Path) -> list[Crystal]:
    return [item for item in io.scan(path) if isinstance(item, Crystal)]


def test_species_supply_what_a_file_of_vasp_4_does_not_say():
    (crystal,) = io.read(FOLDER / "my_CONTCAR", species=["B", "N"])
    assert crystal.symbols == ["B", "N"]
    (failure,) = io.scan(FOLDER / "my_CONTCAR", species=["B"])
    assert "there must be 1 counts of atoms, got '1 1'" in failure.reason


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("two_digits_large_cell.cif", "1 of 3 sites, whose coordinates have two digits"),
        ("magnetic.mcif", "the magnetic moments are not kept"),
        ("occupancy_0.cif", "sites of occupancy 0 are left out: K1"),
        ("angles_left_out.cif", "not stated, taken for 90"),
        ("whole_molecule.cif", "3 of 8 sites are images of others"),
        ("text_block_last.cif", "block 'global': the data block must list a cell"),
        ("hm_Fd-3m_density_settles.cif", "only F d -3 m:1 fits its content"),
        ("symop_loop_one_line.cif", "no symmetry is stated"),
        ("hm_P21c_unique_a.cif", "'P 21/c' is taken for P 21/c 1 1, by the cell"),
        ("hall_not_valid_beside_operations.cif", "is not valid, the operations are used"),
        ("F000_wrong_formula_right.cif", "`_exptl_crystal_F_000` is 224, the atoms have 112"),
        ("labels_swapped.cif", "which are taken: Na1 for Cl, Cl1 for Na"),
        ("labels_swapped.res", "which are taken: CL1 for Na, NA1 for Cl"),
        (
            "fractional_far_away.json",
            "away.json: coordinates far outside of the cell",
        ),
        ("pmg_label_wrong.json", "which are taken: Fe1 for Na"),
        ("mp_formula_wrong.json", "formula_pretty=KCl, but the atoms are Na1 Cl1"),
        ("mp_nsites_wrong.json", "nsites=8, but the atoms are Na1 Cl1"),
        ("optimade_formula_wrong.json", "chemical_formula_reduced=ClK, but the atoms are"),
        ("formula_of_others.extxyz", "formula=KBr, but the atoms are Na1 Cl1"),
        (
            "squeezed.cif",
            "masked (`_platon_squeeze_void_count_electrons`), such as solvent",
        ),
        ("elements.lammpstrj", "no unit is stated, lengths are taken for Å"),
    ],
)
def test_what_is_read_with_a_change_is_said(name, said, caplog):
    assert io.read(FOLDER / name)
    assert said in caplog.text


SILENT = ["labels_of_sites.cif", "F000_gadolinium.cif", "F000_right.cif", "mp_formula_right.json"]


@pytest.mark.parametrize("name", SILENT)
def test_what_agrees_is_read_without_a_word(name, caplog):
    assert io.read(FOLDER / name)
    assert not caplog.text


def test_sites_of_two_digits_lie_on_their_special_position():
    (crystal,) = io.read(FOLDER / "two_digits_large_cell.cif")
    ti = crystal.scaled_positions[crystal.numbers == 22][0] % 1
    np.testing.assert_allclose(ti, [1 / 3, 2 / 3, 0.25], atol=1e-12)
