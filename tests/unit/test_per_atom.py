"""Numbers of atoms that files state beside the structure."""

import json
from pathlib import Path

import pytest

from potnet.io import scan
from potnet.io.per_atom import atom_values

MAGNETITE = """data_fe3o4
_cell_length_a 8.397
_cell_length_b 8.397
_cell_length_c 8.397
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'F d -3 m :2'
_space_group_IT_number 227
loop_
_atom_type_symbol
_atom_type_oxidation_number
Fe2+ 2
Fe3+ 3
O2- -2
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_U_iso_or_equiv
Fe1 Fe3+ 0.125 0.125 0.125 0.005
Fe2 Fe2+ 0.5 0.5 0.5 0.006
O1 O2- 0.2549 0.2549 0.2549 0.007
"""
FRAME = """2
Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:forces:R:3:charge:R:1:name:S:1
Na 0 0 0 3 4 0 1.0 a
Cl 2.5 2.5 2.5 0 0 0 -1.0d0 b
"""
CELL = [[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]]


def found(folder: Path, name: str, text: str) -> list[dict[str, list[float]]]:
    path = folder / name
    path.write_text(text)
    return atom_values(path, list(scan(path)))


def test_columns_of_extxyz_are_numbers_and_vectors_have_lengths(tmp_path) -> None:
    (values,) = found(tmp_path, "a.extxyz", FRAME)
    assert values == {"forces, length": [5.0, 0.0], "charge": [1.0, -1.0]}


def test_a_frame_that_is_refused_costs_no_other_its_numbers(tmp_path) -> None:
    first, second = found(tmp_path, "a.extxyz", FRAME.replace("Cl 2.5", "Xx 2.5") + FRAME)
    assert (first, set(second)) == ({}, {"forces, length", "charge"})


def test_oxidation_states_of_a_cif_go_to_all_images_of_a_site(tmp_path) -> None:
    (values,) = found(tmp_path, "a.cif", MAGNETITE)
    states = values["oxidation state"]
    assert [states.count(state) for state in (3, 2, -2)] == [8, 16, 32]
    assert sorted(set(values["displacement U, Å²"])) == [0.005, 0.006, 0.007]


@pytest.mark.parametrize("told", ["Fe3+ 3", "Fe2+ 2"])
def test_a_charge_in_the_symbol_is_a_state_where_no_table_has_it(tmp_path, told) -> None:
    (values,) = found(tmp_path, "a.cif", MAGNETITE.replace(told, f"# {told}"))
    assert [values["oxidation state"].count(state) for state in (3, 2, -2)] == [8, 16, 32]


def test_lists_of_json_and_properties_of_pymatgen_are_numbers(tmp_path) -> None:
    own = {"numbers": [11, 17], "positions": [[0, 0, 0], [2.82] * 3], "cell": CELL}
    (values,) = found(tmp_path, "a.json", json.dumps({**own, "charges": [1, -1], "tag": "x"}))
    assert values == {"charges": [1.0, -1.0]}
    sites = [
        {
            "species": [{"element": symbol, "occu": 1, "oxidation_state": state}],
            "abc": [place] * 3,
            "properties": {"magmom": 0.1 * state},
        }
        for symbol, state, place in (("Na", 1, 0), ("Cl", -1, 0.5))
    ]
    (values,) = found(tmp_path, "b.json", json.dumps({"lattice": {"matrix": CELL}, "sites": sites}))
    assert values == {"magmom": [0.1, -0.1], "oxidation state": [1.0, -1.0]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.cif", "data_x\n"),
        ("a.extxyz", FRAME.replace("-1.0d0", "nan")),
        (
            "a.json",
            json.dumps({"numbers": [11], "positions": [[0, 0, 0]], "cell": CELL, "q": [1, 2]}),
        ),
        ("a.vasp", "NaCl\n1\n0 2 2\n2 0 2\n2 2 0\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"),
    ],
)
def test_what_is_no_number_of_each_atom_is_passed_over(tmp_path, name, text) -> None:
    (values,) = found(tmp_path, name, text)
    assert set(values) <= {"forces, length"}
