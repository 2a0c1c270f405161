"""One row for each way a file can be wrong: each is refused in one sentence that says why."""

from __future__ import annotations

import gzip
import json
import time
import warnings

import numpy as np
import pytest

from potnet import io
from potnet.crystal import Crystal
from potnet.errors import Failure, StructureError

SALT = """\
data_salt
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na1 Na 0 0 0 1
Cl1 Cl 0.5 0.5 0.5 1
"""
OPS = "loop_\n_space_group_symop_operation_xyz\n"


def salt(*changes: tuple[str, str]) -> str:
    """Return the good file with each ``old`` replaced by ``new``."""
    text = SALT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


CIF = {
    "mixed site": (
        salt(("Na1 Na 0 0 0 1\n", "Na1 Na 0 0 0 0.5\nK1 K 0 0 0 0.5\n")),
        "`_atom_site_occupancy` of site Na1 must be 1, got 0.5",
    ),
    "vacancies": (salt(("0 0 0 1", "0 0 0 0.5(2)")), r"of site Na1 must be 1, got 0.5\(2\)"),
    "occupancy of two": (salt(("0 0 0 1", "0 0 0 2.0")), "of site Na1 must be 1, got 2.0"),
    "occupancy in words": (salt(("0 0 0 1", "0 0 0 full")), "of site Na1 must be 1, got full"),
    "far coordinate": (salt(("0 0 0 1", "0 0 6E66 1")), "within 100 cells .*, got 6E66"),
    "same site twice": (
        salt(("Cl1 Cl", "Na2 Na 0 0 0 1\nCl1 Cl")),
        "at least 0.5 Å apart, got 0 Å",
    ),
    "two elements on a site": (
        salt(("Cl1 Cl", "K1 K 0 0 0 1\nCl1 Cl")),
        r"atoms 0 \(Na\) and 4 \(K\) must be at least 0.5 Å apart",
    ),
    "atoms 0.004 Å apart": (
        salt(("'F m -3 m'", "'P 1'"), ("Cl1 Cl 0.5 0.5 0.5", "Cl1 Cl 0 0 0.0007")),
        "got 0.003948 Å",
    ),
    "unknown element": (salt(("Na1 Na", "Xx1 Xx")), "site Xx1: `element` must be .* got 'Xx'"),
    "unknown coordinate": (
        salt(("Cl1 Cl 0.5", "Cl1 Cl ?")),
        "`_atom_site_fract_x` of site Cl1 must be a finite number, got ?",
    ),
    "coordinate nan": (salt(("0.5 0.5 0.5", "0.5 nan 0.5")), "`_atom_site_fract_y` .* got nan"),
    "coordinate in words": (salt(("0.5 0.5 0.5", "0.5 0.5 half")), "fract_z` .* got half"),
    "a = 0": (salt(("_a 5.64", "_a 0")), "`_cell_length_a` must be positive, got 0"),
    "a = -4": (salt(("_a 5.64", "_a -4")), "`_cell_length_a` must be positive, got -4"),
    "a unknown": (salt(("_a 5.64", "_a ?")), "`_cell_length_a` must be positive, got ?"),
    "a missing": (salt(("_cell_length_a 5.64\n", "")), "`_cell_length_a` must .* got nothing"),
    "angle missing that is free": (
        salt(("_cell_angle_beta 90\n", ""), ("F m -3 m", "P 1 2/m 1")),
        "angles that the space group leaves free must be stated, got none for `_cell_angle_beta`",
    ),
    "angle unknown": (salt(("_cell_angle_beta 90", "_cell_angle_beta ?")), "_beta` .* got [?]"),
    "alpha = 180": (salt(("alpha 90", "alpha 180")), "lie between 0 and 180 degrees, got 180"),
    "impossible angles": (
        salt(("alpha 90", "alpha 30"), ("beta 90", "beta 30"), ("gamma 90", "gamma 120")),
        "angles must span a volume, got 30, 30, 120",
    ),
    "a = 1e6": (
        salt(("5.64", "1e6")),
        "vectors must be at most 1000 Å long, got 1e[+]06 Å. Check the unit.",
    ),
    "cell in nm": (salt(("5.64", "0.564")), "at least 0.5 Å apart, got 0.282 Å"),
    "tiny cell": (salt(("5.64", "0.0564")), "must repeat after at least 0.5 Å, got a lattice"),
    "no atoms": (salt(("Na1 Na 0 0 0 1\nCl1 Cl 0.5 0.5 0.5 1\n", "")), "valid CIF|list the atoms"),
    "no atom loop": (SALT.split("loop_")[0], "must list the atoms, got none"),
    "text only": ("data_paper\n_journal_name 'Acta'\n", "must list a cell and atoms, got neither"),
    "empty file": ("", "must hold a data block, got none"),
    "no CIF": ("This is a letter.\n", "must be valid CIF, got .* expected block header"),
    "short row": (salt((" 0.5 1\n", " 0.5\n")), "valid CIF, got '.*Wrong number of values"),
    "same tag twice": (
        salt(("_cell_length_b 5.64", "_cell_length_a 5.65")),
        "duplicate tag _cell_length_a with 5.64 and 5.65",
    ),
    "unfinished text": (salt(("data_salt\n", "data_salt\n_a\n;\nabc\n")), "must be valid CIF"),
    "Cartesian only": (salt(("fract", "Cartn")), "got only Cartesian coordinates"),
    "label says nothing": (
        salt(("Na1 Na", "A1 ?")),
        "the label must begin with an element, .* got 'A1'",
    ),
    "ambiguous label": (salt(("Na1 Na", "CA1 .")), "must begin with an element, .* got 'CA1'"),
    "alternatives": (
        salt(("_occupancy\n", "_occupancy\n_atom_site_disorder_group\n"), (" 1\n", " 1 1\n"))
        + "Cl2 Cl 0.4 0.4 0.4 1 2\n",
        "`_atom_site_disorder_group` must not offer alternatives, got groups 1, 2",
    ),
    "dummy site": (
        salt(("_occupancy\n", "_occupancy\n_atom_site_calc_flag\n"), (" 1\n", " 1 dum\n")),
        "site Na1 must be an atom, got a dummy site",
    ),
    "magnetic without operations": (
        salt(("_space_group_name_H-M_alt 'F m -3 m'", "_space_group_magn.name_BNS \"F d' -3 m'\"")),
        "must be those of the space group \"F d' -3 m'\", got 1 where it has more",
    ),
    "modulated": (salt(("data_salt\n", "data_salt\n_cell_modulation_dimension 1\n")), "modulated"),
    "unknown space group": (
        salt(("F m -3 m", "F o o")),
        "of the International Tables, got 'F o o'",
    ),
    "unknown Hall symbol": (
        salt(("_space_group_name_H-M_alt", "_space_group_name_Hall")),
        "Hall symbol must be valid, got 'F m -3 m'",
    ),
    "unknown number": (
        salt(("name_H-M_alt 'F m -3 m'", "IT_number 231")),
        "International Tables, got '231'",
    ),
    "endless number": (
        salt(("name_H-M_alt 'F m -3 m'", "IT_number " + "9" * 5000)),
        "must be one of the International Tables, got '9999",
    ),
    "two origins": (
        salt(("F m -3 m", "F d -3 m")),
        "setting of .* must be known, got a choice of F d -3 m:1, F d -3 m:2",
    ),
    "many settings of a number": (
        salt(("name_H-M_alt 'F m -3 m'", "IT_number 15")),
        "setting of space group '15' must be known, got a choice of A 1 2/n 1",
    ),
    "symmetry that the cell lacks": (salt(("_c 5.64", "_c 9")), "must fit the cell, got"),
    "wrong operation": (SALT + OPS + "x,y,z\nx,y,w\n", "must be valid .* got 'x,y,w'"),
    "flattening operation": (SALT + OPS + "x,y,z\nx,x,z\n", "'x,x,z', no motion of a lattice"),
    "lost operations": (
        SALT + OPS + "x,y,z\n-y,x,z\n",
        "form a group, got 2 that miss some of their products",
    ),
    "operation twice": (SALT + OPS + "x,y,z\nx,y,z+1\n", "got the same operation twice"),
    "too many operations": (
        SALT + OPS + "".join(f"x+{k}/500,y,z\n" for k in range(500)),
        "got 500 operations, more than 192",
    ),
    "too many shifts": (
        SALT + OPS + "".join(f"x+{k}/100,y,z\n" for k in range(100)),
        "got 100 operations that only shift, more than 64",
    ),
    "nearly special position": (
        salt(("0.5 0.5 0.5", "0.5 0.5 0.5082")),
        "site Cl1 must lie on a special position or more than 0.05 Å|at least 0.5 Å apart",
    ),
    "stated multiplicity": (
        salt(("occupancy", "site_symmetry_multiplicity"), ("0 0 0 1", "0 0 0 8")),
        "multiplicity of site Na1 must agree .* got 8 stated and 4 found",
    ),
    "identity for a cubic group": (
        SALT + OPS + "x,y,z\n",
        "must be those of the space group 'F m -3 m', got 1 where it has 192",
    ),
    "stated volume": (
        salt(("data_salt\n", "data_salt\n_cell_volume 200\n")),
        "`_cell_volume` must be that of the cell parameters, got 200 for 179.406",
    ),
    "stated formulas": (
        salt(("data_salt\n", "data_salt\n_chemical_formula_sum NaCl\n_cell_formula_units_Z 1\n")),
        "must hold `_chemical_formula_sum` 'NaCl' 1 times, got it 4 times",
    ),
    "less than a formula": (
        salt(
            ("data_salt\n", "data_salt\n_chemical_formula_sum 'Na8 Cl8'\n"),
        ),
        "'Na8 Cl8' at least once, got it 0.5 times",
    ),
    "group as element": (salt(("Na1 Na", "N1 NO")), "site N1: `element` must be .* got 'NO'"),
    "columns apart": (
        salt(("_atom_site_fract_z\n", ""), (" 0 1\n", " 1\n"), ("0.5 0.5 0.5", "0.5 0.5"))
        + "_atom_site_fract_z 0\n",
        "`_atom_site_fract_z` must have a value for each of 2 sites, got 1",
    ),
    "missing hydrogen": (
        salt(("data_salt\n", "data_salt\n_chemical_formula_sum 'Na Cl H2 O'\n")),
        "must add up to `_chemical_formula_sum` 'Na Cl H2 O', got",
    ),
}

POSCAR = """\
rock salt
1.0
0.0 2.82 2.82
2.82 0.0 2.82
2.82 2.82 0.0
Na Cl
1 1
Direct
0.0 0.0 0.0
0.5 0.5 0.5
"""


def poscar(old: str, new: str) -> str:
    assert old in POSCAR
    return POSCAR.replace(old, new)


VASP = {
    "no symbols (VASP 4)": (poscar("Na Cl\n", ""), "line 6: the line of element symbols must come"),
    "unknown symbol": (poscar("Na Cl", "Na Xx"), "line 6: `element` must be .* got 'Xx'"),
    "scale zero": (poscar("1.0\n", "0.0\n"), "line 2: the scale must not be 0, got '0.0'"),
    "scale in words": (poscar("1.0\n", "one\n"), "line 2: the scale must be 1 or 3 numbers"),
    "short vector": (poscar("0.0 2.82 2.82", "0.0 2.82"), "line 3: a lattice vector must be 3"),
    "flat cell": (poscar("2.82 2.82 0.0", "2.82 2.82 5.64"), "three independent vectors"),
    "too few counts": (poscar("1 1", "2"), "line 7: there must be 2 counts of atoms, got '2'"),
    "negative count": (poscar("1 1", "-1 1"), "line 7: there must be 2 counts"),
    "no atoms": (poscar("1 1", "0 0"), "line 7: the counts must add up to 1 to 20000, got '0 0'"),
    "many atoms": (poscar("1 1", "99999999 1"), "the counts must add up to 1 to 20000"),
    "no mode": (poscar("Direct\n", ""), "line 8: the mode must be Direct or Cartesian, got '0.0"),
    "too few sites": (poscar("0.5 0.5 0.5\n", ""), "line 10: a site must be 3 numbers, got 'noth"),
    "too many sites": (POSCAR + "0.2 0.2 0.2\n", "line 11: there must be 2 coordinates"),
    "text as site": (poscar("0.5 0.5 0.5", "0.5 ?? 0.5"), "line 10: a site must be 3 numbers"),
    "nan": (poscar("0.5 0.5 0.5", "0.5 nan 0.5"), r"`positions\[1, \d\]` must be finite, got nan"),
    "overflow": (
        poscar("2.82 2.82 0.0", "1.5e308 1.5e308 0.0"),
        "must be at most 1000 Å long, got inf",
    ),
    "overflowing scale": (poscar("1.0\n", "1e308\n"), "`positions.* must be finite"),
    "overflowing volume": (poscar("1.0\n", "-1e999\n"), "must be finite"),
    "site of another element": (poscar("0.5 0.5 0.5", "0.5 0.5 0.5 K"), "must be of the element"),
    "same site": (poscar("0.5 0.5 0.5", "1.0 0.0 0.0"), "0.5 Å apart, got 0 Å"),
    "empty": ("", "line 2: the scale must be 1 or 3 numbers, got 'nothing'"),
}

XYZ = """\
2
Lattice="0 2.82 2.82 2.82 0 2.82 2.82 2.82 0" Properties=species:S:1:pos:R:3
Na 0 0 0
Cl 2.82 2.82 2.82
"""
MISFITS = {
    "x.xyz no lattice": (XYZ.replace(XYZ.splitlines()[1], "salt"), "`Lattice` must be nine"),
    "x.xyz unknown element": (XYZ.replace("Cl", "Xx"), "line 4: `element` must be .* got 'Xx'"),
    "x.xyz cut": (XYZ[:-20], "line 1: a frame must begin with its number of atoms"),
    "x.xyz words": ("two\n" + XYZ[2:], "a frame must begin with its number of atoms, .* got 'two'"),
    "x.xyz text as position": (XYZ.replace("Na 0", "Na zero"), "line 3: an atom must"),
    "x.xyz nan": (XYZ.replace("Na 0", "Na nan"), r"`positions\[0, 0\]` must be finite"),
    "x.xyz empty": ("", "must hold a frame, got none"),
    "x.xsf cut": ("CRYSTAL\nPRIMVEC\n4 0 0\n0 4 0\n", "must be valid for ASE, got"),
    "x.xsf empty": ("", "must be valid for ASE|must hold a crystal"),
    "x.json broken": ('{"numbers": [1', "must be valid JSON"),
    "x.json empty list": ("[]", "must hold a crystal, got none"),
    "x.json number": ("7", "must be a Crystal, .* got int"),
    "x.json other keys": ('{"a": 1}', "must have the keys numbers, positions, cell"),
    "x.json deep": ("[" * 100_000, "must be valid JSON"),
    "x.json occupancy": (
        json.dumps(
            {
                "lattice": {"matrix": (np.eye(3) * 4).tolist()},
                "sites": [{"species": [{"element": "Na", "occu": 0.5}], "abc": [0, 0, 0]}],
            }
        ),
        "`occupancy` of site 0 must be 1, got Na 0.5",
    ),
    "x.jsonl second line": ("\n{]\n", "x.jsonl, line 2: the file must be valid JSON"),
    "x.unknown": ("hello\n", "of a format that ASE reads .* got one that is unknown"),
    "x.res damaged": ("TITL x\nCELL 1 2\nEND\n", "`CELL` must have 7 numbers, got '1 2'"),
    "x.cif.gz not compressed": (SALT, "must be readable, got BadGzipFile"),
}


def table() -> dict[str, tuple[str, str, str]]:
    """Return file name, content and message of each row."""
    rows = {f"cif: {k}": ("bad.cif", *row) for k, row in CIF.items()}
    rows |= {f"poscar: {k}": ("POSCAR", *row) for k, row in VASP.items()}
    return rows | {key: (key.split()[0], *row) for key, row in MISFITS.items()}


@pytest.mark.parametrize(("name", "content", "message"), table().values(), ids=table().keys())
def test_bad_file_is_refused_by_name(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(StructureError, match=message) as caught:
        io.read(path)
    assert name in str(caught.value)
    assert str(caught.value).endswith(".")
    (failure,) = io.scan(path)
    assert failure == Failure(failure.id, "read", str(caught.value))
    assert failure.id.startswith(name.split(".")[0])


@pytest.mark.parametrize("content", [SALT, POSCAR, XYZ])
def test_the_files_that_the_table_damages_are_good(tmp_path, content):
    name = {SALT: "a.cif", POSCAR: "POSCAR", XYZ: "a.xyz"}[content]
    (tmp_path / name).write_text(content)
    (crystal,) = io.read(tmp_path / name)
    assert crystal.formula == "NaCl"
    assert crystal.primitive().volume == pytest.approx(2 * 2.82**3)


def test_binary_file_is_refused(tmp_path):
    path = tmp_path / "a.cif"
    path.write_bytes(gzip.compress(SALT.encode()))
    with pytest.raises(StructureError, match="must be text, got binary data"):
        io.read(path)


def test_truncated_archive_is_refused(tmp_path):
    path = tmp_path / "a.cif.gz"
    path.write_bytes(gzip.compress(SALT.encode())[:-20])
    with pytest.raises(StructureError, match="must be readable, got EOFError"):
        io.read(path)


def test_archive_that_swells_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("potnet.io.pieces.MAX_FILE_BYTES", 10_000)
    path = tmp_path / "a.cif.gz"
    path.write_bytes(gzip.compress(b" " * 10_000_000))
    with pytest.raises(StructureError, match="must have at most 10000 bytes, got more"):
        io.read(path)


@pytest.mark.parametrize("source", ["missing.cif", "no/such/folder", "*.nothing"])
def test_missing_source_is_refused(tmp_path, source):
    with pytest.raises(StructureError, match="must be a file, or a folder or pattern .* got none"):
        io.read(tmp_path / source)
    (failure,) = io.scan(tmp_path / source)
    assert failure.stage == "read"


def test_folder_without_structures_is_refused(tmp_path):
    with pytest.raises(StructureError, match="got a folder without any"):
        io.read(tmp_path)


def test_unreadable_file_is_a_failure_and_not_a_crash(tmp_path):
    (tmp_path / "loop.cif").symlink_to(tmp_path / "loop.cif")
    assert [item.stage for item in io.scan(tmp_path / "loop.cif")] == ["read"]


def test_scan_goes_on_after_every_bad_file(tmp_path):
    for index, (name, content, _) in enumerate(table().values()):
        folder = tmp_path / f"{index:03d}"
        folder.mkdir()
        (folder / name).write_text(content, encoding="utf-8")
    (tmp_path / "zz.cif").write_text(SALT)
    found = list(io.scan(tmp_path, recursive=True))
    assert sum(isinstance(item, Failure) for item in found) == len(table())
    assert isinstance(found[-1], Crystal)


def test_bad_block_does_not_hide_the_others(tmp_path):
    path = tmp_path / "three.cif"
    bad = SALT.replace("data_salt", "data_bad").replace("0 0 0 1", "0 0 0 0.3")
    path.write_text(SALT + bad + SALT.replace("data_salt", "data_more"))
    first, failure, last = io.scan(path)
    assert (first.id, failure.id, last.id) == ("three#salt", "three#bad", "three#more")
    with pytest.raises(StructureError, match="three.cif, block 'bad': `_atom_site_occupancy`"):
        io.read(path)


def test_bad_frame_and_bad_line_do_not_hide_the_others(tmp_path):
    (tmp_path / "a.xyz").write_text(XYZ + XYZ.replace("Cl", "Xx") + XYZ)
    assert [item.id for item in io.scan(tmp_path / "a.xyz")] == ["a#0", "a#1", "a#2"]
    assert isinstance(list(io.scan(tmp_path / "a.xyz"))[1], Failure)
    good = json.dumps(io.read(_written(tmp_path, "b.cif", SALT))[0].as_dict() | {"id": ""})
    (tmp_path / "c.jsonl").write_text(f"{good}\n{{}}\n\n{good}\n")
    kinds = [(item.id, type(item)) for item in io.scan(tmp_path / "c.jsonl")]
    assert kinds == [("c#1", Crystal), ("c#2", Failure), ("c#4", Crystal)]


def _written(folder, name, content):
    (folder / name).write_text(content)
    return folder / name


def test_text_block_beside_a_structure_is_said_and_refuses_nothing(tmp_path, caplog):
    path = _written(tmp_path, "paper.cif", "data_global\n_journal_name 'Acta'\n" + SALT)
    (crystal,) = io.read(path)
    assert crystal.id == "paper#salt"
    assert "block 'global': the data block must list a cell" in caplog.text
    assert [item.id for item in io.scan(path)] == ["paper#salt"]


def test_largest_file_of_repeated_sites_is_refused_soon(tmp_path):
    rows = "".join(f"Na{k} Na 0.1 0.2 {k / 30_000} 1\n" for k in range(30_000))
    path = _written(tmp_path, "big.cif", salt(("Na1 Na 0 0 0 1\n", rows)))
    start = time.process_time()
    with pytest.raises(StructureError, match="at most 20000 rows, got 30001"):
        io.read(path)
    assert time.process_time() - start < 5


def test_reading_a_good_file_warns_of_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(io.read(_written(tmp_path, "a.cif", SALT))) == 1
