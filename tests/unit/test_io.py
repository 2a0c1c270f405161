"""Files: symmetry of CIF against independent programs, formats, names and folders."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from fingerprints import fingerprint

from potnet import io
from potnet.crystal import Crystal
from potnet.errors import Failure, StructureError

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "crystals"
SPGLIB = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")


def cell(a, b=None, c=None, alpha=90, beta=90, gamma=90):
    return (a, b or a, c or a, alpha, beta, gamma)


# name: number and symbol of the space group, cell, sites, atoms in the cell
TEXTBOOK = {
    "rock salt": (225, "F m -3 m", cell(5.64), "Na 0 0 0; Cl .5 .5 .5", 8),
    "diamond": (227, "F d -3 m:1", cell(3.567), "C 0 0 0", 8),
    "diamond, origin 2": (227, "F d -3 m:2", cell(3.567), "C .125 .125 .125", 8),
    "fluorite": (225, "F m -3 m", cell(5.463), "Ca 0 0 0; F .25 .25 .25", 12),
    "perovskite": (221, "P m -3 m", cell(3.905), "Sr 0 0 0; Ti .5 .5 .5; O .5 .5 0", 5),
    "rutile": (136, "P 42/m n m", cell(4.594, c=2.959), "Ti 0 0 0; O .3053 .3053 0", 6),
    "anatase": (141, "I 41/a m d:1", cell(3.784, c=9.515), "Ti 0 0 0; O 0 0 .2081", 12),
    "spinel": (
        227,
        "F d -3 m:2",
        cell(8.083),
        "Mg .125 .125 .125; Al .5 .5 .5; O .2624 .2624 .2624",
        56,
    ),
    "wurtzite": (
        186,
        "P 63 m c",
        cell(3.189, c=5.185, gamma=120),
        "Ga .33333333 .66666667 0; N .33333333 .66666667 .377",
        4,
    ),
    "quartz": (
        154,
        "P 32 2 1",
        cell(4.913, c=5.405, gamma=120),
        "Si .4697 0 .66666667; O .4135 .2669 .7858",
        9,
    ),
    "corundum": (
        167,
        "R -3 c:H",
        cell(4.759, c=12.993, gamma=120),
        "Al 0 0 .3522; O .3063 0 .25",
        30,
    ),
    "bismuth, rhombohedral axes": (
        166,
        "R -3 m:R",
        cell(4.746, alpha=57.23, beta=57.23, gamma=57.23),
        "Bi .2339 .2339 .2339",
        2,
    ),
    "zirconia": (
        14,
        "P 1 21/c 1",
        cell(5.151, 5.212, 5.317, beta=99.23),
        "Zr .2754 .0395 .2083; O .0700 .3317 .3447; O .4496 .7569 .4792",
        12,
    ),
    "pyrite": (205, "P a -3", cell(5.418), "Fe 0 0 0; S .3848 .3848 .3848", 12),
    "aragonite": (
        62,
        "P m c n",
        cell(4.9598, 7.9641, 5.7379),
        "Ca .25 .4151 .2405; C .25 .7627 -.0862; O .25 .9231 -.0952; O .4729 .6801 -.0870",
        20,
    ),
    "another setting of C 2/c": (
        15,
        "I 1 2/a 1",
        cell(7, 8, 6, beta=105),
        "Ca .25 .2 0; O .1 .45 .2",
        12,
    ),
}


def cif(number, group, parameters, sites, *, symmetry: str = "name") -> str:
    """Return a CIF that states its symmetry by name, Hall symbol or list of operations."""
    import gemmi

    setting = gemmi.find_spacegroup_by_name(group)
    tags = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_x", *(f"_cell_{t} {v}" for t, v in zip(tags, parameters, strict=True))]
    if symmetry == "name":
        lines.append(f"_symmetry_space_group_name_H-M '{group}'")
    elif symmetry == "hall":
        lines.append(f"_space_group_name_Hall '{setting.hall}'")
    else:
        lines += ["loop_", "_symmetry_equiv_pos_as_xyz"]
        lines += [f"'{operation.triplet()}'" for operation in setting.operations()]
    lines += ["loop_", "_atom_site_label"] + [f"_atom_site_fract_{axis}" for axis in "xyz"]
    lines += [site.strip().replace(" ", f"{k} ", 1) for k, site in enumerate(sites.split(";"))]
    return "\n".join(lines) + "\n"


def read_text(folder: Path, text: str, name: str = "x.cif") -> Crystal:
    (folder / name).write_text(text, encoding="utf-8")
    (crystal,) = io.read(folder / name)
    return crystal


@SPGLIB
@pytest.mark.parametrize(
    ("number", "group", "parameters", "sites", "n_atoms"), TEXTBOOK.values(), ids=TEXTBOOK.keys()
)
def test_symmetry_is_expanded_as_by_ase_and_found_again_by_spglib(
    tmp_path, number, group, parameters, sites, n_atoms
):
    spacegroup = pytest.importorskip("ase.spacegroup")
    spglib = pytest.importorskip("spglib")
    choice = group.partition(":")[2]
    rows = [site.split() for site in sites.split(";")]
    crystals = [
        read_text(tmp_path, cif(number, group, parameters, sites, symmetry=symmetry))
        for symmetry in ("name", "hall", "operations")
    ]
    assert [c.n_atoms for c in crystals] == [n_atoms] * 3
    standard = number not in (15, 62)  # ASE knows the standard axes only
    found = spglib.get_symmetry_dataset(
        (crystals[0].cell, crystals[0].scaled_positions, crystals[0].numbers), symprec=1e-3
    )
    assert found.number == number
    for crystal in crystals[1:]:
        np.testing.assert_allclose(fingerprint(crystal), fingerprint(crystals[0]), atol=1e-9)
    if standard:
        atoms = spacegroup.crystal(
            [row[0] for row in rows],
            [[float(x) for x in row[1:]] for row in rows],
            spacegroup=number,
            setting=2 if choice in ("2", "R") else 1,
            cellpar=parameters,
            symprec=1e-4,
        )
        expected = fingerprint(Crystal.from_ase(atoms))
        np.testing.assert_allclose(fingerprint(crystals[0]), expected, atol=1e-4)


def test_thirds_of_four_digits_lie_on_their_special_position(tmp_path):
    text = cif(186, "P 63 m c", cell(3.189, c=5.185, gamma=120), "Ga .3333 .6667 0; N .333 .667 .4")
    crystal = read_text(tmp_path, text)
    assert crystal.n_atoms == 4
    np.testing.assert_allclose(crystal.scaled_positions[0], [0.3333, 0.6667, 0], atol=1e-12)


def test_shifts_of_any_fraction_are_operations(tmp_path):
    """As programs write them that keep the origin of their input."""
    text = cif(2, "P -1", cell(5, 6, 7), "Na .1 .2 .3", symmetry="operations")
    crystal = read_text(tmp_path, text.replace("-x,-y,-z", "-x+185/562, -y+0.2, 1/3-z"))
    expected = [185 / 562 - 0.1, 0.0, 1 / 3 - 0.3]
    np.testing.assert_allclose(crystal.scaled_positions[1] % 1, expected, atol=1e-12)


def test_quotes_uncertainties_charges_and_line_ends_do_not_matter(tmp_path):
    text = (ROOT / "tests" / "reference" / "quartz.cif").read_text()
    plain = read_text(tmp_path, text)
    assert plain.formula == "SiO2"
    assert plain.cell[0, 0] == 4.9134
    (tmp_path / "y.cif").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    (tmp_path / "z.cif").write_bytes(text.replace("typed", "t\xfcped").encode("latin-1"))
    for name in ("y.cif", "z.cif"):
        (crystal,) = io.read(tmp_path / name)
        assert crystal.as_dict() == plain.as_dict() | {"id": name[0]}


def test_tags_with_dots_are_read(tmp_path):
    text = cif(221, "P m -3 m", cell(3.9), "Cs 0 0 0; Cl .5 .5 .5")
    dotted = text.replace("_cell_", "_cell.").replace("_atom_site_", "_atom_site.")
    assert read_text(tmp_path, dotted).n_atoms == 2


def test_cif_without_symmetry_lists_all_atoms(tmp_path):
    text = cif(221, "P m -3 m", cell(3.9), "Cs 0 0 0; Cl .5 .5 .5")
    lines = [line for line in text.splitlines() if "H-M" not in line]
    assert read_text(tmp_path, "\n".join(lines)).n_atoms == 2


def test_deuterium_counts_as_hydrogen(tmp_path):
    assert read_text(tmp_path, cif(1, "P 1", cell(4), "Li 0 0 0; D .5 .5 .5")).formula == "LiH"


@SPGLIB
def test_cif_of_pymatgen_is_read_as_it_was(tmp_path):
    writer = pytest.importorskip("pymatgen.io.cif").CifWriter
    for path in sorted(EXAMPLES.iterdir()):
        (crystal,) = io.read(path)
        text = str(writer(crystal.to_pymatgen(), symprec=0.01))
        found = read_text(tmp_path, text).primitive()
        expected = fingerprint(crystal.primitive())
        np.testing.assert_allclose(fingerprint(found), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.0\n0 2 2\n2 0 2\n2 2 0", "2.0\n0 1 1\n1 0 1\n1 1 0"),
        ("1.0\n", "-16.0\n"),
        ("1.0\n0 2 2\n2 0 2\n2 2 0", "2 2 2\n0 1 1\n1 0 1\n1 1 0"),
        ("Direct\n0 0 0\n.5 .5 .5", "Cartesian\n0 0 0\n2 2 2"),
        ("Direct\n0 0 0\n.5 .5 .5", "Selective dynamics\nDirect\n0 0 0 T T F\n.5 .5 .5 F F F"),
        ("Direct\n0 0 0\n.5 .5 .5", "d\n0 0 0 Na\n5d-1 .5E0 .5 Cl"),
        ("Na Cl", "Na_pv/1a2b Cl/3c4d"),
        ("Na Cl\n1 1", "Na K Cl\n1 0 1"),
        (".5 .5 .5", ".5 .5 .5\n\n0.1 0.2 0.3\n0.1 0.2 0.3"),
    ],
    ids=["scale", "volume", "3 scales", "Cartesian", "selective", "labels", "hash", "0", "speed"],
)
def test_poscar_in_all_its_forms_is_one_crystal(tmp_path, old, new):
    text = "salt\n1.0\n0 2 2\n2 0 2\n2 2 0\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"
    plain = read_text(tmp_path, text, "POSCAR")
    assert old in text
    crystal = read_text(tmp_path, text.replace(old, new), "CONTCAR")
    np.testing.assert_allclose(crystal.positions, plain.positions, atol=1e-12)
    np.testing.assert_allclose(crystal.cell, plain.cell, atol=1e-12)
    assert crystal.numbers.tolist() == [11, 17]


def salt(**changes) -> Crystal:
    base = Crystal([11, 17], [[0, 0, 0], [2.82] * 3], (np.ones((3, 3)) - np.eye(3)) * 2.82)
    return base.replace(**changes)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.extxyz", "a.extxyz.gz", "a.jsonl.gz"])
def test_several_crystals_keep_ids_and_info(tmp_path, name):
    crystals = [salt(id="one", info={"gap": 5.0, "tag": "x y"}), salt(id="two").supercell(2)]
    io.write(crystals, tmp_path / name)
    found = io.read(tmp_path / name)
    assert [c.id for c in found] == ["one", "two"]
    assert [c.n_atoms for c in found] == [2, 16]
    assert (found[0].info["gap"], found[0].info["tag"]) == (5.0, "x y")


@pytest.mark.parametrize("suffix", ["json", "traj", "db", "gen", "res"])
def test_what_ase_writes_is_read(tmp_path, suffix):
    import ase.io

    crystal = salt()
    ase.io.write(tmp_path / f"a.{suffix}", crystal.to_ase())
    (found,) = io.read(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(fingerprint(found), fingerprint(crystal), atol=1e-4)


def test_json_of_ase_pymatgen_and_jarvis_is_read(tmp_path):
    from ase.io.jsonio import encode

    crystal = salt()
    jarvis = {
        "lattice_mat": crystal.cell.tolist(),
        "coords": crystal.scaled_positions.tolist(),
        "elements": crystal.symbols,
        "cartesian": False,
    }
    structure = crystal.to_pymatgen()
    documents = {
        "ase": encode(crystal.to_ase()),
        "pymatgen": json.dumps(structure.as_dict()),
        "list": json.dumps([{"jid": "J-1", "atoms": jarvis}, {"jid": "J-2", "atoms": jarvis}]),
        "table": json.dumps({"k1": jarvis, "k2": jarvis}),
    }
    ids = []
    for name, text in documents.items():
        (tmp_path / f"{name}.json").write_text(text)
        for found in io.read(tmp_path / f"{name}.json"):
            ids.append(found.id)
            np.testing.assert_allclose(fingerprint(found), fingerprint(crystal), atol=1e-9)
    assert ids == ["ase", "pymatgen", "J-1", "J-2", "table#k1", "table#k2"]


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
def test_compressed_files_are_read_in_every_format(tmp_path, suffix):
    import bz2
    import lzma

    compress = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[suffix]
    for path in sorted(EXAMPLES.iterdir()):
        packed = tmp_path / f"{path.name}.{suffix}"
        packed.write_bytes(compress(path.read_bytes()))
        assert io.read(packed)[0].as_dict() == io.read(path)[0].as_dict()


def test_compressed_files_are_read_through_ase(tmp_path):
    import ase.io

    ase.io.write(tmp_path / "a.gen", salt().to_ase())
    (tmp_path / "b.gen.gz").write_bytes(gzip.compress((tmp_path / "a.gen").read_bytes()))
    (crystal,) = io.read(tmp_path / "b.gen.gz")
    assert (crystal.id, crystal.formula) == ("b", "NaCl")


def test_folder_is_read_in_order_and_reports_what_it_does_not_know(tmp_path):
    for path in EXAMPLES.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / ".hidden.cif").write_text("nonsense")
    (tmp_path / "id_prop.csv").write_text("NaCl,1.0\n")
    (tmp_path / "atom_init.json").write_text("{}")
    (tmp_path / "notes.doc").write_text("nonsense")
    (tmp_path / "inner").mkdir()
    shutil.copy(EXAMPLES / "NaCl.cif", tmp_path / "inner")
    found = list(io.scan(tmp_path))
    assert [f.id for f in found if isinstance(f, Failure)] == ["notes"]
    names = sorted(path.name.partition(".")[0] for path in EXAMPLES.iterdir())
    assert sorted(c.id for c in found if isinstance(c, Crystal)) == names
    nested = [c.id for c in io.scan(tmp_path, recursive=True)]
    assert len(nested) == len(found) + 1
    assert str(tmp_path / "inner" / "NaCl.cif") in nested  # the name NaCl is taken


def test_patterns_and_lists_are_scanned_and_ids_are_unique(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        io.write(salt(), tmp_path / name / "POSCAR")
    found = list(io.scan([tmp_path / "*" / "POSCAR", tmp_path / "a" / "POSCAR"]))
    ids = [item.id for item in found]
    assert ids == ["POSCAR", str(tmp_path / "b" / "POSCAR"), str(tmp_path / "a" / "POSCAR")]
    again = list(io.scan([tmp_path / "a" / "POSCAR"] * 3))
    assert [type(item) for item in again] == [Crystal, Crystal, Failure]
    assert "`id` must be unique" in again[-1].reason


def test_atoms_far_outside_of_the_cell_survive_as_cif(tmp_path):
    """Found by the hunt: what was written could not be read."""
    far = salt(positions=salt().positions + [[0, 0, 0], [0, 850 * 5.64, 0]])
    io.write(far, tmp_path / "a.cif")
    (found,) = io.read(tmp_path / "a.cif")
    np.testing.assert_allclose(fingerprint(found), fingerprint(salt()), atol=1e-9)


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("a.doc", 1, "suffix must be one of .cif, .vasp"),
        ("a.vasp", 2, "must hold one crystal, got 2"),
        ("a.xsf", 2, "must hold one crystal, got 2"),
        ("a.cif", 0, "must hold a crystal, got 0"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, name, count, message):
    with pytest.raises(StructureError, match=message):
        io.write([salt()] * count, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_info_that_json_cannot_hold_is_refused(tmp_path):
    with pytest.raises(StructureError, match="`info` must hold numbers, text, .* got set"):
        io.write(salt(info={"a": {1}}), tmp_path / "a.json")


def test_failed_writing_leaves_the_old_file(tmp_path):
    io.write(salt(), tmp_path / "a.json")
    before = (tmp_path / "a.json").read_bytes()
    with pytest.raises(StructureError):
        io.write(salt(info={"a": object()}), tmp_path / "a.json")
    assert (tmp_path / "a.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_json_lines_are_read_one_at_a_time(tmp_path):
    io.write([salt(id=str(k)) for k in range(50)], tmp_path / "a.jsonl")
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write("broken")
    stream = io.scan(tmp_path / "a.jsonl")
    assert next(stream).id == "0"
    assert [type(item) for item in stream] == [Crystal] * 49 + [Failure]


def test_examples_are_what_the_script_writes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import make_example_crystals as script

    monkeypatch.setattr(script, "FOLDER", tmp_path)
    script.main()
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_text() for path in EXAMPLES.iterdir()}
    assert len(written) == 12


@pytest.mark.skipif(sys.platform != "linux", reason="measures this process")
def test_importing_potnet_and_reading_cif_does_not_import_ase():
    import subprocess

    code = f"import sys, potnet; potnet.read({str(EXAMPLES / 'NaCl.cif')!r}); " + (
        "sys.exit(any(m in sys.modules for m in ('ase', 'torch', 'scipy', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_crystal_far_outside_of_its_cell_is_read_as_it_was_written(tmp_path, caplog):
    cell = np.eye(3) * 4
    for far in ([10.0, 0, 0], [-6.0, 0, 0], [1e4, 0, 0]):
        crystal = Crystal([22, 22], [far, [2, 2, 2]], cell)
        for name in ("a.cif", "a.vasp", "a.extxyz", "a.xsf", "a.json"):
            io.write(crystal, tmp_path / name)
            (again,) = io.read(tmp_path / name)
            apart = (again.scaled_positions - crystal.scaled_positions) % 1
            np.testing.assert_allclose(np.minimum(apart, 1 - apart), 0, atol=1e-9)
    assert not caplog.text


def test_lines_under_the_name_of_json_are_all_read(tmp_path):
    two = [salt(id="a"), salt(id="b")]
    io.write(two, tmp_path / "all.jsonl")
    (tmp_path / "all.jsonl").rename(tmp_path / "all.json")
    assert [crystal.id for crystal in io.read(tmp_path / "all.json")] == ["a", "b"]
