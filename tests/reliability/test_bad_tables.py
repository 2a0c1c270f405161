"""One row for each way a table can be wrong: file, place, rule and value in one sentence."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import struct
import zipfile

import numpy as np
import openpyxl
import pytest
from sources import OXIDE, SALT, cif, jarvis_dict, jsonl, poscar, pymatgen_dict, resource

from potnet import data
from potnet.errors import Failure, PotNetError

RECORD = {
    "id": "a",
    "lattice": [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]],
    "species": ["Fe", "O"],
    "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
    "targets": {"y": 1.5},
    "split": "train",
}


def line(**changes) -> str:
    return jsonl({**RECORD, **changes})


def lattice(**changes) -> str:
    """Return a row with a pymatgen dictionary of other ``lattice`` records."""
    found = pymatgen_dict(OXIDE)
    found["lattice"] |= changes
    return jsonl({"id": "a", "structure": found})


def site(**changes) -> str:
    found = pymatgen_dict(OXIDE)
    found["sites"][1] |= changes
    return jsonl({"id": "a", "structure": found})


def jarvis(**changes) -> str:
    return jsonl({"jid": "a", "atoms": jarvis_dict(OXIDE) | changes})


def optimade(**changes) -> str:
    found = resource(SALT, 1.0)
    found["attributes"] |= changes
    return json.dumps({"data": [found], "meta": {}})


def csv(header: str, *rows: str) -> str:
    return "\n".join([header, *rows]) + "\n"


POSCAR = '"' + poscar(OXIDE) + '"'
TEXTS = {
    # JSON and JSON Lines
    "j01.jsonl empty": ("", "must hold at least one usable crystal, got none"),
    "j02.jsonl no JSON": ("{oops}\n", "j02.jsonl, line 1: must be JSON"),
    "j03.jsonl key twice": (line()[:-2] + ', "id": "b"}\n', "the key 'id' twice in one object"),
    "j04.jsonl too deep": ("[" * 100_000 + "\n", "line 1: must be JSON, got text that is not"),
    "j05.jsonl list": ("[1, 2]\n", "line 1: a record must be an object, got list"),
    "j06.jsonl no structure": ('{"id": "a", "y": 1}\n', "must have lattice, species and frac_c"),
    "j07.jsonl text as lattice": (
        line(lattice=[["4.0", 0, 0], [0, 4, 0], [0, 0, 4]]),
        "line 1: a: `lattice` must be numbers, got str '4.0'",
    ),
    "j08.jsonl true as coordinate": (
        line(frac_coords=[[0, 0, 0], [True, 0.5, 0.5]]),
        "`frac_coords` must be numbers, got bool 'True'",
    ),
    "j09.jsonl NaN": (
        line(frac_coords=[[0, 0, 0], [float("nan"), 0, 0]]),
        r"`frac_coords\[1, 0\]` must be finite, got nan",
    ),
    "j10.jsonl null": (line(frac_coords=[[0, 0, 0], [None, 0, 0]]), "must be finite, got nan"),
    "j11.jsonl huge integer": (
        line(frac_coords=[[0, 0, 0], [10**400, 0, 0]]),
        "`frac_coords` must be numbers .* got 'int too large",
    ),
    "j12.jsonl a number of 5000 digits": (
        line().replace("1.5", "9" * 5000),
        "must be JSON, got text that is not .*digits",
    ),
    "j13.jsonl too few sites": (line(species=["Fe", "O", "O"]), r"shape \(3, 3\), got \(2, 3\)"),
    "j14.jsonl ragged": (line(frac_coords=[[0, 0, 0], [0.5, 0.5]]), "must be numbers of shape"),
    "j15.jsonl unknown element": (line(species=["Fe", "Xx"]), "`element` must be .* got 'Xx'"),
    "j16.jsonl number as element": (line(species=["Fe", 8]), "`element` must be .* got '8'"),
    "j17.jsonl group as element": (line(species=["Fe", "NO"]), "`element` must be .* got 'NO'"),
    "j18.jsonl flat cell": (line(lattice=[[4, 0, 0]] * 3), "three independent vectors"),
    "j19.jsonl cell in pm": (line(lattice=(np.eye(3) * 4000).tolist()), "at most 1000 Å long"),
    "j20.jsonl same place": (line(frac_coords=[[0, 0, 0], [1, 0, 0]]), "0.5 Å apart, got 0 Å"),
    "j21.jsonl no atoms": (line(species=[], frac_coords=[]), "must .* got"),
    "j22.jsonl infinite target": (line(targets={"y": float("inf")}), "'y' must be a finite number"),
    "j23.jsonl huge target": (line(targets={"y": 10**400}), "'y' must be a finite number"),
    "j24.jsonl same id": (line() + line(), "ids must not repeat, got 'a' twice"),
    "j25.jsonl empty id": (line(id=""), "`id` must be a name of 1 to 500 .* got ''"),
    "j26.jsonl id with line end": (line(id="a\nb"), r"`id` must be a name .* got 'a\\nb'"),
    "j27.jsonl list as id": (line(id=["a"]), "`id` must be a name"),
    "j28.jsonl endless id": (line(id="a" * 600), "`id` must be a name of 1 to 500"),
    "j29.jsonl unknown split": (
        line(split="training"),
        "`split` must be train, val, test, fold0",
    ),
    "j30.jsonl number as split": (line(split=1), "`split` must be a word, got 1"),
    "j31.jsonl word as structure": (
        '{"id": "a", "structure": 7}\n',
        "must be text or a dictionary",
    ),
    "j32.json no table": ("{}", "must hold a list of records"),
    "j33.json a number": ("7", "must hold a list of records"),
    "j34.json cut": (json.dumps([RECORD, RECORD])[:-9], "must be JSON"),
    "j35.json two documents": (json.dumps([RECORD]) + "[]", "after its end"),
    "j36.json rows of other width": (
        json.dumps({"columns": ["structure", "y"], "data": [[RECORD]]}),
        "row 1: must have 2 cells, got 1",
    ),
    "j37.json more rows than indices": (
        json.dumps({"index": ["a"], "columns": ["atoms"], "data": [[jarvis_dict(SALT)]] * 2}),
        "as many rows as indices, got 2 and 1",
    ),
    "j38.jsonl byte order": ("\ufffe{}\n", "must be JSON"),
    # dictionaries of other libraries
    "p01.jsonl partly occupied": (
        site(species=[{"element": "O", "occu": 0.5}]),
        "`occupancy` of site 1 .* must be 1, got O 0.5",
    ),
    "p02.jsonl occupancy NaN": (
        site(species=[{"element": "O", "occu": float("nan")}]),
        "must be 1, got O nan",
    ),
    "p03.jsonl mixed": (
        site(species=[{"element": "O", "occu": 0.5}, {"element": "F", "occu": 0.5}]),
        "must be 1, got O 0.5, F 0.5",
    ),
    "p04.jsonl two places": (site(xyz=[0, 0, 0]), "`abc` and `xyz` must be the same place"),
    "p05.jsonl two cells": (lattice(a=9.0), "must have the lengths that are stated beside"),
    "p06.jsonl text as matrix": (lattice(matrix="cubic"), "`lattice.matrix` must be numbers"),
    "p07.jsonl cartesian in words": (
        jarvis(cartesian="false"),
        "`cartesian` must be true or false",
    ),
    "p08.jsonl cartesian missing": (jarvis(cartesian=None), "`cartesian` must .* got nothing"),
    "p09.jsonl other lengths": (jarvis(abc=[1, 2, 3]), "must have the lengths that are stated"),
    "p10.jsonl huge array": (
        jsonl(
            {
                "id": "a",
                "numbers": {"__ndarray__": [[1], "U1000000000", ["x"]]},
                "positions": [[0, 0, 0]],
                "cell": RECORD["lattice"],
            }
        ),
        "`__ndarray__` must hold shape, kind .* got 'the kind 'U1000000000''",
    ),
    # OPTIMADE
    "o01.json error": ('{"errors": [{"detail": "no such filter"}], "data": []}', "no such filter"),
    "o02.json without sites": (optimade(cartesian_site_positions=None), "must have `cartesian_si"),
    "o03.json vacancy": (
        optimade(
            species=[
                {"name": "Na", "chemical_symbols": ["Na", "vacancy"], "concentration": [0.5, 0.5]}
            ]
        ),
        r"species 'Na' must be one element of `concentration` 1, got Na \+ vacancy of \[0.5, 0.5\]",
    ),
    "o04.json disorder": (optimade(structure_features=["disorder"]), "must be empty, got disorder"),
    "o05.json missing vector": (
        optimade(lattice_vectors=[[4, 0, 0], [0, 4, 0], None]),
        "`lattice_vectors` must be numbers",
    ),
    "o06.json other sites": (optimade(nsites=3), "each of the sites, got 2 for 3"),
    # CSV
    "c01.csv empty": ("", "the header must name a column of structures"),
    "c02.csv no structures": ("id,y\na,1\n", r"column of structures .* got id, y"),
    "c03.csv name twice": (
        csv("id,poscar,y,y", f"a,{POSCAR},1,2"),
        "must not repeat, got 'y' twice",
    ),
    "c04.csv short row": (csv("id,poscar,y", "a,b"), "row 1: must have 3 cells, got 2"),
    "c05.csv open quote": (
        csv("id,poscar,y", 'a,"b,1'),
        "must be CSV, got 'unexpected end of data'",
    ),
    "c06.csv thousands": (
        csv("id;poscar;y", f"a;{POSCAR};1,5", f"b;{POSCAR};1.5"),
        "a column must have one decimal mark, got '1.5' below numbers with ','",
    ),
    "c06.csv thousands beside decimals": (
        csv("id;poscar;z;y", f"a;{POSCAR};1.234;1,5"),
        "must not have a point where others have decimal commas, got '1.234', which may be 1234",
    ),
    "c07.csv with unit": (csv("id,poscar,y", f"a,{POSCAR},1.5 eV"), "finite .* got '1.5 eV'"),
    "c07.csv whole with unit": (csv("id,poscar,y", f"a,{POSCAR},200 GPa"), "got '200 GPa'"),
    "c07.csv narrow blank": (csv("id,poscar,y", f"a,{POSCAR},1\u202f234"), "finite number or"),
    "c07.csv Fortran": (csv("id,poscar,y", f"a,{POSCAR},1.0D+01"), "got '1.0D\\+01'"),
    "c07.csv underscore": (csv("id,poscar,y", f"a,{POSCAR},1_0"), "target 'y' must .* got '1_0'"),
    "c08.csv other digits": (csv("id,poscar,y", f"a,{POSCAR},١٢"), "target 'y' must be a finite"),
    "c09.csv error of Excel": (csv("id,poscar,y", f"a,{POSCAR},#DIV/0!"), "got '#DIV/0!'"),
    "c10.csv no such file": (csv("id,path,y", "a,lost.cif,1"), "must exist, got none"),
    "c11.csv path upwards": (csv("id,path,y", "a,../x.cif,1"), "in the folder of the table, got"),
    "c12.csv absolute path": (csv("id,path,y", "a,/etc/passwd,1"), "got '/etc/passwd'"),
    "c13.csv pattern": (csv("id,path,y", "a,*.cif,1"), "must exist, got none"),
    "c14.csv folder as file": (csv("id,path,y", "a,folder.cif,1"), "must exist, got a folder"),
    "c15.csv no name": (csv("id,poscar,y,", f"a,{POSCAR},1,9"), "must stand under a name, got '9'"),
    "c16.csv cut by Excel": (
        csv("id,poscar,y", 'a,"' + poscar(OXIDE) + " " * (32_767 - len(poscar(OXIDE))) + '",1'),
        "the 32767 characters to which Excel cuts a cell",
    ),
    "c17.csv cell of another kind": (csv("id,cif,y", 'a,"{""a"": 1}",1'), "must have the keys"),
    "c18.csv Python text": (csv("id,atoms,y", "a,{'elements': ['Na']},1"), "must be JSON"),
    "c19.csv cut CIF": (
        csv("id,cif,y", f'a,"{cif(OXIDE)[:-30]}",1'.replace("'", "''")),
        "row 1: a, line 14: the file must be valid CIF",
    ),
    # extended XYZ
    "x01.extxyz no lattice": ("1\nfree text\nFe 0 0 0\n", "`Lattice` must be nine numbers"),
    "x02.extxyz short lattice": ('1\nLattice="4 0 0"\nFe 0 0 0\n', "nine numbers, .* got"),
    "x11.extxyz true in the lattice": (
        '1\nLattice="4 0 0 0 true 0 0 0 4"\nFe 0 0 0\n',
        "`Lattice` must be nine numbers",
    ),
    "x03.extxyz key twice": (
        '1\nLattice="4 0 0 0 4 0 0 0 4" y=1 y=2\nFe 0 0 0\n',
        "line 2: a key must not repeat, got 'y' twice",
    ),
    "x04.extxyz open quote": ('1\ny=1 Lattice="4 0 0 0 4 0 0 0 4\nFe 0 0 0\n', "must be key=value"),
    "x05.extxyz properties": (
        '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=pos:R:3\n0 0 0\n',
        "`Properties` must list",
    ),
    "x06.extxyz columns": (
        '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:q:R:1\nFe 0 0 0\n',
        "line 3: an atom must have 5 columns",
    ),
    "x07.extxyz occupancy": (
        '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:occ:R:1\nFe 0 0 0 0.5\n',
        "line 3: `occupancy` must be 1, got 0.5",
    ),
    "x08.extxyz two elements": (
        '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:Z:I:1\nFe 0 0 0 8\n',
        "line 3: `species` and `Z` must agree, got Fe and 8",
    ),
    "x09.extxyz pbc": (
        '1\nLattice="4 0 0 0 4 0 0 0 4" pbc="T maybe F"\nFe 0 0 0\n',
        "`pbc` must be one bool or three",
    ),
    "x10.extxyz fewer lines": (
        '3\nLattice="4 0 0 0 4 0 0 0 4"\nFe 0 0 0\n',
        "line 1: a frame must",
    ),
    # others
    "z01.doc": ("x", "the name of a dataset must end in"),
    "z02.db": ("SQLite format 3\0 but no more", "must be a database of ASE"),
    "z03.parquet": ("PAR1 but no more PAR1", "must be Parquet"),
    "z04.xlsx": ("PK but no more", "must be an Excel workbook"),
    "z05.csv.gz": ("id,y\n", "must be readable, got BadGzipFile"),
    "z06.json.zip": ("[]", "must be readable, got BadZipFile"),
    "z07.db.gz": ("x", "the file must be unpacked, got '.gz'"),
}


def refusals(path, **settings) -> set[str]:
    """Return what is said of a source by all ways of reading it."""
    (path.parent / "folder.cif").mkdir(exist_ok=True)
    with pytest.raises(PotNetError) as caught:
        data.open(path, **settings)
    found = {str(caught.value)}
    try:
        items = list(data.iter_records(path, **settings))
    except PotNetError as error:
        return found | {str(error)}
    return found | {item.reason for item in items if isinstance(item, Failure)}


@pytest.mark.parametrize("key", TEXTS)
def test_bad_table_is_refused_by_name_and_place(tmp_path, key):
    text, message = TEXTS[key]
    path = tmp_path / key.partition(" ")[0]
    path.write_text(text, encoding="utf-8")
    found = refusals(path, targets="y" if key.startswith(("c07", "c08", "c09")) else None)
    for sentence in found:
        assert path.name.partition(".")[0] in sentence
        assert sentence.endswith(".")
        assert len(sentence) <= 1100
    with pytest.raises(PotNetError, match=message):
        raise PotNetError("\n".join(found))


def test_there_are_many_kinds_of_broken_tables():
    assert len(TEXTS) >= 90


# --------------------------------------------------------------------- what is no text


def test_text_in_no_unicode_is_refused(tmp_path):
    path = tmp_path / "set.csv"
    path.write_bytes("id,cif\nZürich,x\n".encode("latin-1"))
    with pytest.raises(PotNetError, match=r"set.csv: .* must be UTF-8, got byte 0xfc .* Save"):
        data.open(path)


def test_utf_16_without_mark_is_refused(tmp_path):
    path = tmp_path / "set.csv"
    path.write_bytes("id,cif\n".encode("utf-16-le"))
    with pytest.raises(PotNetError, match="must be text, got binary data"):
        data.open(path)


def test_an_archive_of_several_tables_is_refused(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path := tmp_path / "set.json.zip", "w") as archive:
        archive.writestr("a.json", "[]")
        archive.writestr("b.json", "[]")
    with pytest.raises(PotNetError, match="must hold one table, got 2 files"):
        data.open(path)


@pytest.mark.parametrize("suffix", [".gz", ".zip"])
def test_a_bomb_is_refused_before_it_swells(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("potnet.data.readers.text.FREE_BYTES", 10**6)
    path = tmp_path / f"set.jsonl{suffix}"
    content = b"\n" * 30_000_000
    if suffix == ".gz":
        path.write_bytes(gzip.compress(content))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("set.jsonl", content)
    with pytest.raises(PotNetError, match="must not swell more than 200 times"):
        data.open(path)


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("potnet.data.readers.text.MAX_RECORD", 1000)
    path = tmp_path / "set.jsonl"
    path.write_text(" " * 5000)
    with pytest.raises(PotNetError, match="line 1: a line must have at most 1000 characters"):
        data.open(path)


def test_a_pipe_and_a_loop_of_links_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(PotNetError, match="must be a file or a folder, got neither"):
        data.open(tmp_path / "pipe.jsonl")
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    with pytest.raises(PotNetError, match="existing file or folder, got neither"):
        data.open(tmp_path / "loop.jsonl")


def folder(path, table, *names):
    (path / "id_prop.csv").write_text(table)
    for name in names:
        (path / name).write_text(poscar(OXIDE) if name.endswith("vasp") else cif(OXIDE))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "id_prop.csv: must hold at least one line, got none"),
        ("a,1\nlost,2\n", "id_prop.csv, line 2: .*lost: the structure file must exist, got none"),
        ("../a,1\n", "id_prop.csv, line 1: .* in the folder of the table, got '../a'"),
        ("/etc/passwd,1\n", "in the folder of the table, got '/etc/passwd'"),
        ("a,1\nb,1\n", "one structure file must bear the name, got b.cif and b.vasp"),
        ("a,1,2\na.cif,1\n", "line 2: must have 3 cells, got 2"),
        ("id,y,y\na,1,2\n", "names of the header must not repeat or be empty, got 'y', 'y'"),
        ("a,1\na,2\n", "ids must not repeat, got 'a' twice"),
        ("a,1e999\n", "target 'target' must be a finite number"),
    ],
)
def test_bad_folders_are_refused(tmp_path, table, message):
    folder(tmp_path, table, "a.cif", "b.cif", "b.vasp")
    with pytest.raises(PotNetError, match=message):
        data.open(tmp_path)


def test_a_folder_and_a_broken_link_named_like_structures_are_failures(tmp_path):
    folder(tmp_path, "", "a.cif")
    (tmp_path / "id_prop.csv").unlink()
    (tmp_path / "b.cif").mkdir()
    (tmp_path / "c.cif").symlink_to(tmp_path / "lost.cif")
    (tmp_path / "d.cif").symlink_to(tmp_path / "d.cif")
    os.mkfifo(tmp_path / "e.cif")
    record, *failures = data.iter_records(tmp_path)
    assert record.id == "a"
    assert len(failures) == 4
    assert all(isinstance(item, Failure) for item in failures)


def workbook(path, *rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (
            "=1+1",
            "row 2: a cell must hold a value, got the formula '=1\\+1' without one in column 3",
        ),
        ("#N/A", "target 'y' must be a finite number or missing, got '#N/A'"),
    ],
)
def test_excel_cells_without_a_number_are_refused(tmp_path, cell, message):
    workbook(tmp_path / "set.xlsx", ["id", "poscar", "y"], ["a", poscar(OXIDE), cell])
    with pytest.raises(PotNetError, match=message):
        data.open(tmp_path / "set.xlsx", targets="y")


def test_two_sheets_with_structures_are_refused(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["id", "cif"])
    book.create_sheet("other").append(["id", "poscar"])
    book.save(tmp_path / "set.xlsx")
    with pytest.raises(PotNetError, match="one sheet must hold structures, got Sheet, other"):
        data.open(tmp_path / "set.xlsx")


def test_a_workbook_with_entities_of_its_own_is_refused(tmp_path):
    workbook(tmp_path / "good.xlsx", ["id", "cif"])
    with (
        zipfile.ZipFile(tmp_path / "good.xlsx") as good,
        zipfile.ZipFile(tmp_path / "set.xlsx", "w") as bad,
    ):
        for info in good.infolist():
            content = good.read(info)
            if info.filename.endswith("sheet1.xml"):
                content = b'<!DOCTYPE a [<!ENTITY b "bbbb">]>' + content
            bad.writestr(info, content)
    with pytest.raises(PotNetError, match="must not define document types"):
        data.open(tmp_path / "set.xlsx")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("numbers", b"abc", "row 1: `numbers` must be an array of the atoms"),
        ("positions", struct.pack("<3d", 0, 0, 0), "row 1: `positions` must be an array"),
        ("pbc", "T", "row 1: `pbc` must be from 0 to 7, got 'T'"),
        ("key_value_pairs", "{oops", "row 1: must be JSON"),
        ("key_value_pairs", "[1]", "`key_value_pairs` must be an object, got list"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_damaged_rows_of_ase_databases_are_refused(tmp_path, column, value, message):
    import ase.db

    path = tmp_path / "set.db"
    with ase.db.connect(path) as database:
        database.write(OXIDE.to_ase(), gap=1.0)
    with sqlite3.connect(path) as raw:
        raw.execute(f"UPDATE systems SET {column} = ?", (value,))
    raw.close()
    with pytest.raises(PotNetError, match=message):
        data.open(path)
