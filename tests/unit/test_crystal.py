"""Crystal: what is accepted, what is refused in which words, and its conversions."""

from __future__ import annotations

import copy
import time

import numpy as np
import pytest

from potnet.crystal import MAX_ATOMS, MIN_DISTANCE, NUMBERS, SYMBOLS, Crystal, number_of
from potnet.errors import StructureError

FCC = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 2.82


def rock_salt(**changes) -> Crystal:
    fields = {"numbers": [11, 17], "positions": [[0, 0, 0], [2.82, 0, 0]], "cell": FCC}
    return Crystal(**(fields | {"id": "salt"} | changes))


def test_arrays_have_fixed_types_and_are_copies():
    positions = np.zeros((1, 3), dtype=np.float32)
    crystal = Crystal([29], positions, np.eye(3, dtype=int) * 3)
    positions += 1
    assert crystal.positions.dtype == crystal.cell.dtype == np.float64
    assert crystal.numbers.dtype == np.int64
    assert crystal.pbc.tolist() == [True] * 3
    assert crystal.positions.max() == 0


@pytest.mark.parametrize("name", ["numbers", "positions", "cell", "pbc", "scaled_positions"])
def test_arrays_are_read_only(name):
    with pytest.raises(ValueError, match="read-only"):
        getattr(rock_salt(), name)[0] = 1


def test_fields_are_frozen():
    crystal = rock_salt(info={"gap": 5.0})
    with pytest.raises(AttributeError):
        crystal.id = "pepper"
    with pytest.raises(TypeError):
        crystal.info["gap"] = 0.0


@pytest.mark.parametrize(
    ("symbols", "formula"),
    [
        ("Cl Na", "NaCl"),
        ("O O O O Ti Ti", "TiO2"),
        ("O H H", "H2O"),
        ("Si Si", "Si"),
        ("O O O O P Fe Li", "LiFePO4"),
        ("N Ga", "GaN"),
        ("H Li", "LiH"),
        ("O O O O H H Ca Ca", "CaHO2"),
    ],
)
def test_formula_is_reduced_and_electropositive_elements_come_first(symbols, formula):
    numbers = [NUMBERS[symbol] for symbol in symbols.split()]
    positions = np.arange(len(numbers))[:, None] * np.ones(3)
    assert Crystal(numbers, positions, np.eye(3) * 20).formula == formula


def test_volume_and_scaled_positions_also_of_a_left_handed_cell():
    left = rock_salt(cell=FCC[[1, 0, 2]])
    assert np.linalg.det(FCC) * np.linalg.det(left.cell) < 0
    assert left.volume == pytest.approx(2 * 2.82**3)
    np.testing.assert_allclose(left.scaled_positions @ left.cell, left.positions, atol=1e-14)


def test_repr_says_what_and_how_many():
    assert repr(rock_salt()) == "Crystal(NaCl, 2 atoms, 44.85 Å^3, id='salt')"
    slab = Crystal([29], [[0, 0, 0]], np.eye(3) * 3, pbc=[True, True, False])
    assert repr(slab) == "Crystal(Cu, 1 atom, 27.00 Å^3, pbc=[True, True, False])"


def test_copies_survive_worker_processes_and_deepcopy():
    crystal = rock_salt(info={"gap": 5.0})
    for twin in (copy.copy(crystal), copy.deepcopy(crystal)):
        assert twin.as_dict() == crystal.as_dict()
        assert twin is not crystal


def test_replace_checks_what_it_changes():
    assert rock_salt().replace(id="x", info={"a": 1}).info == {"a": 1}
    with pytest.raises(StructureError, match="at least 0.5 Å apart"):
        rock_salt().replace(positions=np.zeros((2, 3)))


NAN = float("nan")
DEFECTS = {
    "no atoms": ({"numbers": [], "positions": np.zeros((0, 3))}, "number of atoms .* got 0"),
    "unknown element": ({"numbers": [11, 119]}, r"`numbers\[1\]` must be .* 1 to 118, got 119"),
    "element zero": ({"numbers": [0, 17]}, r"`numbers\[0\]` must be .* got 0"),
    "fractional element": ({"numbers": [11.0, 17.5]}, "must be a list of integers, got float64"),
    "symbols": ({"numbers": ["Na", "Cl"]}, "must be a list of integers"),
    "ragged numbers": ({"numbers": [11, [17]]}, "`numbers` must be a list of integers"),
    "nan position": ({"positions": [[0, 0, NAN], [2, 2, 2]]}, r"`positions\[0, 2\]`.*finite.*nan"),
    "infinite cell": ({"cell": [[np.inf, 0, 0], [0, 5, 0], [0, 0, 5]]}, r"`cell\[0, 0\]`.*inf"),
    "ragged": ({"positions": [[0, 0], [1, 1, 1]]}, "`positions` must be numbers of shape"),
    "too few rows": ({"positions": [[0, 0, 0]]}, r"must have shape \(2, 3\), got \(1, 3\)"),
    "flat cell": ({"cell": [5, 5, 5]}, r"`cell` must have shape \(3, 3\)"),
    "text": ({"positions": [["a", 0, 0], [1, 1, 1]]}, "`positions` must be numbers"),
    "zero cell": ({"cell": np.zeros((3, 3))}, "`cell` must have three independent vectors"),
    "coplanar cell": ({"cell": [[4, 0, 0], [0, 4, 0], [4, 4, 0]]}, "three independent vectors"),
    "tiny cell": ({"cell": np.eye(3) * 0.1}, "must repeat after at least 0.5 Å"),
    "flat but long": ({"cell": np.diag([9, 9, 0.2])}, "got a lattice vector of 0.2 Å"),
    "huge cell": ({"cell": np.diag([1e6, 9, 9])}, "at most 1000 Å long, got 1e[+]06"),
    "overflowing cell": ({"cell": np.eye(3) + 1.5e308}, "at most 1000 Å long, got inf"),
    "huge integer": ({"cell": np.eye(3, dtype=int).tolist()[:2] + [[0, 0, 10**400]]}, "too large"),
    "far away": ({"positions": [[0, 0, 0], [1e9, 0, 0]]}, "within 100000 Å of the origin"),
    "same spot": ({"positions": np.zeros((2, 3))}, r"atoms 0 \(Na\) and 1 \(Cl\) .* got 0 Å"),
    "close": ({"positions": [[0, 0, 0], [0, 0, 0.004]]}, "got 0.004 Å"),
    "close image": ({"positions": [[0, 0, 0], [2.82, 2.82, 0.3]]}, "got 0.3 Å"),
    "pbc": ({"pbc": [True, False]}, "`pbc` must be one bool or three"),
    "ragged pbc": ({"pbc": [True, [False], True]}, "`pbc` must be one bool or three"),
    "info": ({"info": 3}, "`info` must be a mapping, got int"),
}


@pytest.mark.parametrize(("changes", "message"), DEFECTS.values(), ids=DEFECTS.keys())
def test_defect_is_refused_in_one_sentence_that_names_the_crystal(changes, message):
    with pytest.raises(StructureError, match=message) as caught:
        rock_salt(**changes)
    assert str(caught.value).startswith("salt: ")
    assert str(caught.value).endswith(".")


def test_too_many_atoms_are_refused():
    with pytest.raises(StructureError, match=f"between 1 and {MAX_ATOMS}, got {MAX_ATOMS + 1}"):
        Crystal(np.ones(MAX_ATOMS + 1, int), np.zeros((MAX_ATOMS + 1, 3)), np.eye(3) * 900)


def test_image_of_an_atom_in_a_skewed_cell_is_found():
    """The shortest lattice vector is a combination of the given ones."""
    cell = [[4, 0, 0], [12.1, 0.2, 0], [0, 0, 4]]
    with pytest.raises(StructureError, match="got a lattice vector of 0.2236 Å"):
        Crystal([29], [[0, 0, 0]], cell)


def test_close_pair_through_a_skewed_cell_is_found():
    cell = np.array([[1, 0, 0], [7, 1, 0], [3, -9, 1]]) @ FCC
    far = 5 * cell[0] - 3 * cell[1] + 8 * cell[2]
    with pytest.raises(StructureError, match="got 0.4 Å"):
        Crystal([11, 17], [[0, 0, 0], [0.4, 0, 0] + far], cell)
    assert Crystal([11, 17], [[0, 0, 0], [0.6, 0, 0] + far], cell).n_atoms == 2


def test_close_pair_in_a_large_cell_is_found():
    grid = np.indices((8, 8, 8)).reshape(3, -1).T * 2.5
    crystal = Crystal(np.full(512, 29), grid, np.eye(3) * 20)
    bad = crystal.positions.copy()
    bad[511] = [-0.2, 0.1, 20.0]
    with pytest.raises(StructureError, match=r"atoms 0 .* 511 .* got 0.223607 Å"):
        crystal.replace(positions=bad)


def test_flat_cell_uses_the_general_search():
    """A height under twice the smallest distance is too low for rounding."""
    cell = np.diag([0.7, 5.0, 5.0])
    with pytest.raises(StructureError, match="got 0.35 Å"):
        Crystal([6, 6], [[0, 0, 0], [0.35, 0, 0]], cell)
    assert Crystal([6, 6], [[0, 0, 0], [0.35, 2, 0]], cell).n_atoms == 2


def test_open_directions_have_no_images():
    positions = [[0, 0, 0], [0, 0, 4.9]]
    with pytest.raises(StructureError, match="got 0.1 Å"):
        Crystal([6, 6], positions, np.eye(3) * 5)
    slab = Crystal([6, 6], positions, np.eye(3) * 5, pbc=[True, True, False])
    with pytest.raises(StructureError, match=r"`pbc` must be true .* got \[True, True, False\]"):
        slab.require_periodic()
    with pytest.raises(StructureError, match="`pbc`"):
        slab.primitive()


@pytest.mark.parametrize("pbc", [True, False, [True, False, True]])
@pytest.mark.parametrize("far", [1, 1000])
def test_cells_of_extreme_shape_are_checked_soon(pbc, far):
    cell = [[0.9, 0, 0], [250.3, 0.8, 0.1], [-101.7, 33.2, 90.0]]
    positions = np.arange(400)[:, None] * np.array([0.0, 0.0, 0.21]) * far
    positions[-1] = positions[0] + 0.1
    start = time.process_time()
    with pytest.raises(StructureError, match="at least 0.5 Å apart"):
        Crystal(np.full(400, 6), positions, cell, pbc)
    assert time.process_time() - start < 2


def test_the_smallest_distance_itself_is_accepted():
    assert rock_salt(positions=[[0, 0, 0], [MIN_DISTANCE, 0, 0]]).n_atoms == 2


def test_supercell_repeats_along_each_vector():
    crystal = rock_salt().supercell((1, 2, 3))
    assert crystal.n_atoms == 12
    np.testing.assert_allclose(crystal.cell, np.diag([1, 2, 3]) @ FCC)
    scaled = crystal.scaled_positions
    assert scaled.min() >= -1e-9
    assert scaled.max() < 1
    assert crystal.numbers.tolist() == [11, 17] * 6


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([1, 2], "3 or 3 x 3 integers"),
        ([1.5, 1, 1], "3 or 3 x 3 integers"),
        ([0, 1, 1], "must not be singular"),
        ([[1, 2, 3], [2, 4, 6], [0, 0, 1]], "must not be singular"),
        ([30, 30, 30], "at most 20000 atoms, got 54000"),
        ("abc", "3 or 3 x 3 integers"),
    ],
)
def test_wrong_supercell_is_refused(matrix, message):
    with pytest.raises(StructureError, match=message):
        rock_salt().supercell(matrix)


def test_primitive_cell_of_a_primitive_crystal_is_the_crystal_itself():
    crystal = rock_salt()
    assert crystal.primitive() is crystal


@pytest.mark.parametrize("matrix", [[2, 2, 2], [[-1, 1, 1], [1, -1, 1], [1, 1, -1]], [1, 1, 7]])
def test_primitive_cell_undoes_a_supercell(matrix):
    found = rock_salt().supercell(matrix).primitive()
    assert found.n_atoms == 2
    assert found.volume == pytest.approx(2 * 2.82**3, rel=1e-12)
    assert found.id == "salt"


def test_primitive_cell_of_one_element():
    bcc = Crystal([26, 26], [[0, 0, 0], [1.435] * 3], np.eye(3) * 2.87)
    assert bcc.supercell(3).primitive().n_atoms == 1


def test_copies_that_differ_more_than_the_tolerance_stay_apart():
    double = rock_salt().supercell((2, 1, 1))
    moved = double.positions + np.array([[0, 0, 0.01], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    distorted = double.replace(positions=moved)
    assert distorted.primitive() is distorted
    merged = distorted.primitive(tolerance=0.02)
    assert merged.n_atoms == 2
    np.testing.assert_allclose(merged.positions[0], [0, 0, 0.005], atol=1e-12)  # the mean


def test_chemical_order_makes_the_primitive_cell_larger():
    ordered = Crystal([29, 79], [[0, 0, 0], [1.9, 1.9, 1.9]], np.eye(3) * 3.8)
    assert ordered.supercell(2).primitive().n_atoms == 2


@pytest.mark.parametrize("tolerance", [0, -1, 0.3, NAN])
def test_wrong_tolerance_is_refused(tolerance):
    with pytest.raises(StructureError, match="`tolerance` must lie between 0 and 0.25 Å"):
        rock_salt().primitive(tolerance)


def test_primitive_cell_of_a_large_supercell_is_quick():
    large = rock_salt().supercell(12)
    start = time.process_time()
    assert large.primitive().n_atoms == 2
    assert time.process_time() - start < 5


def test_orbits_name_the_first_equivalent_atom():
    rutile = Crystal(
        [8, 22, 22, 8, 8, 8],
        np.array([[0.305, 0.305, 0], [0, 0, 0], [0.5, 0.5, 0.5], [0.695, 0.695, 0],
                  [0.195, 0.805, 0.5], [0.805, 0.195, 0.5]]) * [4.59, 4.59, 2.96],
        np.diag([4.59, 4.59, 2.96]),
    )  # fmt: skip
    assert rutile.orbits().tolist() == [0, 1, 1, 0, 0, 0]


def test_ase_atoms_come_and_go_unchanged():
    pytest.importorskip("ase")
    crystal = rock_salt(info={"gap": 5.0}, pbc=[True, True, False])
    twin = Crystal.from_ase(crystal.to_ase())
    assert twin.as_dict() == crystal.as_dict() | {"info": {"gap": 5.0, "id": "salt"}}


def test_calculated_energy_of_ase_atoms_is_kept():
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = rock_salt().to_ase()
    atoms.calc = SinglePointCalculator(atoms, energy=-3.5)
    assert Crystal.from_any(atoms).info["energy"] == -3.5


def test_partial_occupancy_of_ase_atoms_is_refused():
    atoms = rock_salt().to_ase()
    atoms.info["occupancy"] = {"0": {"Na": 0.5, "K": 0.5}, "1": {"Cl": 1.0}}
    with pytest.raises(StructureError, match="`occupancy` of site 0 must be 1, got Na 0.5, K 0.5"):
        Crystal.from_any(atoms)


def test_pymatgen_structures_come_and_go_unchanged():
    pytest.importorskip("pymatgen.core")
    crystal = rock_salt(info={"gap": 5.0})
    structure = crystal.to_pymatgen()
    for form in (structure, structure.as_dict()):
        twin = Crystal.from_any(form, id="salt")
        assert twin.numbers.tolist() == [11, 17]
        assert twin.info == {"gap": 5.0}
        np.testing.assert_allclose(twin.positions, crystal.positions, atol=1e-12)
        np.testing.assert_allclose(twin.cell, crystal.cell, atol=1e-12)


def test_disordered_pymatgen_structure_is_refused_by_site():
    core = pytest.importorskip("pymatgen.core")
    species = [{"Na": 0.5, "K": 0.5}, "Cl"]
    disordered = core.Structure(core.Lattice(FCC), species, [[0, 0, 0], [0.5] * 3])
    for form in (disordered, disordered.as_dict()):
        with pytest.raises(
            StructureError, match=r"`occupancy` of site 0.* must be 1, got (Na|K) 0"
        ):
            Crystal.from_any(form)


def test_pymatgen_dummy_species_is_refused():
    core = pytest.importorskip("pymatgen.core")
    structure = core.Structure(core.Lattice(FCC), [core.DummySpecies("Xa")], [[0, 0, 0]])
    with pytest.raises(StructureError, match="site 0.*: `element` must be .* got 'Xa'"):
        Crystal.from_any(structure)


class _JarvisAtoms:
    """The face of jarvis.core.atoms.Atoms that is used."""

    def __init__(self, data):
        self.data, self.lattice_mat = data, data["lattice_mat"]

    def to_dict(self):
        return self.data


@pytest.mark.parametrize("cartesian", [True, False])
def test_jarvis_atoms_know_whether_they_are_cartesian(cartesian):
    crystal = rock_salt()
    coords = crystal.positions if cartesian else crystal.scaled_positions
    data = {
        "lattice_mat": FCC.tolist(),
        "coords": coords.tolist(),
        "elements": ["Na", "Cl"],
        "cartesian": cartesian,
    }
    for form in (data, _JarvisAtoms(data), {"jid": "JVASP-1", "atoms": data, "gap": 5.0}):
        found = Crystal.from_any(form)
        np.testing.assert_allclose(found.positions, crystal.positions, atol=1e-12)
    assert found.id == "JVASP-1"
    assert found.info == {"gap": 5.0}


def test_record_with_species_and_fractional_coordinates_keeps_the_rest_as_info():
    record = {
        "id": 7,
        "lattice": FCC.tolist(),
        "species": ["Na+", "Cl-"],
        "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
        "targets": {"gap": 5.0},
    }
    crystal = Crystal.from_any(record)
    assert crystal.id == "7"
    assert crystal.info == {"targets": {"gap": 5.0}}
    np.testing.assert_allclose(crystal.positions[1], [2.82] * 3)


def test_own_dictionary_is_exact():
    crystal = rock_salt(positions=[[0.1, 0.2, 0.3], [2.9, 1 / 3, 1e-17]], info={"a": [1, 2]})
    assert Crystal.from_any(crystal.as_dict()).as_dict() == crystal.as_dict()


def test_crystal_passes_through_and_takes_a_name():
    crystal = rock_salt()
    assert Crystal.from_any(crystal) is crystal
    assert Crystal.from_any(crystal, id="pepper").id == "pepper"


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ("POSCAR", "must be a Crystal, ASE Atoms, .* got str"),
        (None, "got NoneType"),
        ({"a": 1}, "must have the keys numbers, positions, cell; .* got a"),
        ({}, "got none"),
        ({"lattice": 3, "sites": []}, "must describe a crystal, got TypeError"),
        ({"lattice": {}, "species": ["Na"], "frac_coords": [[0, 0, 0]]}, "`lattice` must be"),
        ({"lattice_mat": [], "coords": [], "elements": []}, "`cartesian` must be true or false"),
        ({"numbers": None, "positions": None, "cell": None}, "`numbers` must be"),
        (
            {
                "lattice": {"matrix": np.eye(3)},
                "sites": [{"species": [{"element": "Na", "occu": "all"}], "abc": [0, 0, 0]}],
            },
            "must describe a crystal, got ValueError .could not convert string to float: 'all'",
        ),
        (
            {"lattice": np.eye(3) * 100, "species": ["Na"], "frac_coords": [[1e307, 0, 0]]},
            "fractional coordinates must be shares of the lattice vectors, got 1e",
        ),
    ],
)
def test_what_is_no_crystal_is_refused(obj, message):
    with pytest.raises(StructureError, match=message):
        Crystal.from_any(obj)


@pytest.mark.parametrize(
    ("symbol", "number"),
    [("Na", 11), ("NA", 11), ("Na1+", 11), ("O2-", 8), ("Fe+3", 26), ("D", 1), ("Mn3.5+", 25)],
)
def test_symbols_may_carry_a_charge(symbol, number):
    assert number_of(symbol, "here") == number


@pytest.mark.parametrize("symbol", ["Xx", "X", "", "Wat", "Na1", "12", "?", "Vac"])
def test_unknown_symbols_are_refused(symbol):
    with pytest.raises(StructureError, match="here: `element` must be a symbol from H to Og"):
        number_of(symbol, "here")


def test_the_table_of_elements_is_that_of_ase():
    from ase.data import chemical_symbols

    assert list(SYMBOLS) == chemical_symbols


def test_formula_density_and_space_group_are_those_of_the_tables():
    length = 5.6402
    fcc = (np.ones((3, 3)) - np.eye(3)) * length / 2
    salt = Crystal([11, 17], [[0, 0, 0], [length / 2] * 3], fcc)
    for crystal in (salt, salt.supercell([2, 1, 1])):
        assert crystal.formula == "NaCl"
        assert crystal.density == pytest.approx(2.1635, abs=5e-4)
        assert crystal.space_group() == (225, "F m -3 m")
        assert str(crystal.space_group()) == "F m -3 m (225)"
    moved = salt.replace(positions=salt.positions + [[0, 0, 0], [0, 0.005, 0.003]])
    assert moved.space_group().number == 225
    assert moved.space_group(1e-3).number < 225
    with pytest.raises(StructureError, match="`pbc` must be true"):
        salt.replace(pbc=[True, True, False]).space_group()


def test_each_atom_is_known_as_a_copy_of_one_of_the_primitive_cell():
    single = Crystal(
        [6, 8, 1],
        [[0.1, 0.2, 0.3], [1.4, 0.1, 0.5], [0.4, 2.2, 1.9]],
        [[4.1, 0.3, 0.2], [-1.1, 4.9, 0.4], [0.6, -1.7, 5.3]],
    )
    many = single.supercell((2, 1, 2))
    primitive, copies = many.primitive(), many.copies()
    np.testing.assert_array_equal(np.bincount(copies), [4, 4, 4])
    np.testing.assert_array_equal(primitive.numbers[copies], many.numbers)
    apart = (many.positions - primitive.positions[copies]) @ np.linalg.inv(primitive.cell)
    np.testing.assert_allclose(apart, np.round(apart), atol=1e-9)
    np.testing.assert_array_equal(single.copies(), [0, 1, 2])
