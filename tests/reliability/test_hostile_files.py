"""Foreign and crafted structure files: each costs a sentence, and never the run, memory or time."""

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builtin_exceptions import EXCEPTIONS

from potnet import io
from potnet.crystal import Crystal
from potnet.errors import Failure
from potnet.io import pieces, through_ase

CORPUS = Path(__file__).with_name("corpus")
SALT = (CORPUS / "it_only_225.cif").read_text("utf-8")
POSCAR = (CORPUS / "POSCAR_flags").read_text("utf-8")

STAGES = [
    "potnet.io.pieces.parse_cif",
    "potnet.io.pieces._decode",
    "potnet.io.pieces._open",
    "potnet.io.cif.symmetry_of",
    "potnet.io.cif.expand",
    "potnet.io.cif.check_statements",
    "potnet.io.cif.Crystal",
]


@pytest.mark.parametrize("stage", STAGES)
def test_whatever_goes_wrong_with_one_file_the_others_are_read(tmp_path, monkeypatch, stage):
    (tmp_path / "a.cif").write_text(SALT)
    io.write(io.read(tmp_path / "a.cif"), tmp_path / "b.jsonl")
    for exception in EXCEPTIONS:

        def fail(*args, exception=exception, **kwargs):
            if stage.endswith("_open") and args[0].suffix != ".cif":
                return open(args[0], "rb")
            if stage.endswith("_decode") and ".jsonl" in args[1]:
                return args[0].decode()
            raise exception("on purpose")

        with monkeypatch.context() as patch:
            patch.setattr(stage, fail)
            failure, crystal = io.scan(tmp_path)
        assert isinstance(failure, Failure)
        assert "a.cif" in failure.reason
        assert failure.reason.endswith(".")
        assert isinstance(crystal, Crystal)


def test_stopping_by_the_user_passes_the_wall(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    (tmp_path / "a.cif").write_text(SALT)
    monkeypatch.setattr("potnet.io.pieces.parse_cif", stop)
    with pytest.raises(KeyboardInterrupt):
        list(io.scan(tmp_path))


HEAD, _, TAIL = SALT.partition("_space_group_IT_number 225\n")
SHELX = (CORPUS / "shelx.res").read_text("utf-8")
OCCUPIED = SALT.replace("_atom_site_label", "_atom_site_occupancy\n_atom_site_label")


def xyz(keys: str = "", atom: str = "Na 0 0 0") -> str:
    return f'1\nLattice="4 0 0 0 4 0 0 0 4"{keys}\n{atom}\n'


def said(tag: str, value: str) -> str:
    return f"{HEAD}{tag} '{value}'\n{TAIL}"


LONG = {
    "number in extxyz": ("a.extxyz", lambda n: xyz(atom="Na " + "9" * n + "! 0 0")),
    "key in extxyz": ("a.extxyz", lambda n: xyz(" y=" + "9" * n + "!")),
    "brackets in extxyz": ("a.extxyz", lambda n: xyz(" y=" + "[" * n)),
    "closed in extxyz": ("a.extxyz", lambda n: xyz(" y=[" + "]," * n)),
    "escapes in extxyz": ("a.extxyz", lambda n: xyz(' y="' + "\\" * n)),
    "keys in extxyz": ("a.extxyz", lambda n: xyz(" a" * n)),
    "symbol in extxyz": ("a.extxyz", lambda n: xyz(atom="N" + "9" * n + " 0 0 0")),
    "scale of POSCAR": ("POSCAR", lambda n: POSCAR.replace("1.0", "9" * n + "!", 1)),
    "symbol of POSCAR": ("POSCAR", lambda n: POSCAR.replace("Na Cl", "Na Cl" + "9" * n, 1)),
    "label of POSCAR": ("POSCAR", lambda n: POSCAR.replace("T T F", "T T F Na" + "9" * n + "!")),
    "lines of POSCAR": ("POSCAR", lambda n: POSCAR + "a b\n" * (n // 4)),
    "operation": ("a.cif", lambda n: said("_symmetry_equiv_pos_as_xyz", "9" * n + "w,y,z")),
    "formula": ("a.cif", lambda n: said("_chemical_formula_sum", "Na" + "1" * n + "!")),
    "brackets": ("a.cif", lambda n: said("_chemical_formula_moiety", "(" * n)),
    "name": ("a.cif", lambda n: said("_chemical_name_systematic", "di" * n)),
    "group": ("a.cif", lambda n: said("_space_group_name_H-M_alt", "-3" * n)),
    "Hall symbol": ("a.cif", lambda n: said("_space_group_name_Hall", "2" * n)),
    "type symbol": ("a.cif", lambda n: SALT.replace("Na1 Na", "Na1 N" + "9" * n)),
    "label": ("a.cif", lambda n: SALT.replace("Na1 Na", "N" + "9" * n + " ?")),
    "coordinate": ("a.cif", lambda n: SALT.replace(".5 .5 .5", f".5 .5 {'9' * n}!")),
    "occupancy": ("a.cif", lambda n: OCCUPIED.replace("Na1 Na", "9" * n + "! Na1 Na")),
    "text fields": ("a.cif", lambda n: SALT + "_a\n;\n" + "x\n" * n + ";\n"),
    "atom of SHELX": ("a.res", lambda n: SHELX + f"C1 1 {'9' * n}!\n"),
    "JSON": ("a.json", lambda n: "[" * n),
    "JSON lines": ("a.jsonl", lambda n: "[]\n" * (n // 4)),
}


@pytest.mark.parametrize(("name", "content"), LONG.values(), ids=LONG.keys())
def test_time_grows_no_faster_than_the_file(tmp_path, name, content):
    path = tmp_path / name

    def seconds(n: int) -> float:
        path.write_text(content(n))
        times = []
        for _ in range(2):
            start = time.process_time()
            found = list(io.scan(path))
            times.append(time.process_time() - start)
            assert found
        return min(times)

    few, many = seconds(10_000), seconds(40_000)
    assert many < max(8 * few, 0.3)  # a square would take 16 times as long


LOOP = SALT.partition("loop_")[0].encode() + b"loop_\n_%s\n"
SWOLLEN = {
    "a.cif.gz": (lambda: LOOP % b"b" + b"0\n" * 4 * 10**7, "at most 67108864 bytes"),
    "b.cif.gz": (lambda: LOOP % b"b" + b"0\n" * 10**7, "at most 16777216 characters"),
    "c.cif": (lambda: LOOP % b"atom_site_fract_x" + b"0\n" * 10**6, "at most 20000 rows"),
    "d.json.gz": (lambda: b"[" + b"[]," * 10**7 + b"[]]", "at most 4000000 lists"),
    "e.json": ((CORPUS / "array_of_nothing.json").read_bytes, "values for the shape"),
    "f.extxyz.gz": (lambda: b"9" * 10**8, "a line must have at most"),
    "g.jsonl.gz": (lambda: b"\n" * 10**7, "be blank in a row"),
    "h.jsonl.gz": (lambda: b"[" * 10**8, "a line must have at most"),
    "POSCAR.gz": (lambda: b"9" * 10**8, "must be 1 or 3 numbers"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="measures a process")
def test_what_swells_is_refused_within_memory(tmp_path):
    for name, (content, _) in SWOLLEN.items():
        data = content()
        (tmp_path / name).write_bytes(gzip.compress(data, 1) if name.endswith("gz") else data)
    code = (
        "import resource, sys, gemmi, numpy\nfrom potnet import io\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before = used()\n"
        "for path in sys.argv[1:]:\n"
        "    print(next(io.scan(path)).reason)\n"
        "print(used() - before)"
    )
    run = [sys.executable, "-c", code, *(str(tmp_path / name) for name in SWOLLEN)]
    lines = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    *reasons, memory = lines
    for reason, (_, expected) in zip(reasons, SWOLLEN.values(), strict=True):
        assert expected in reason
    assert float(memory) < 500  # MB


def test_files_of_others_in_a_folder_are_named_and_not_guessed(tmp_path, monkeypatch):
    (tmp_path / "a.cif").write_text(SALT)
    (tmp_path / "x.acemolecule-input").write_text("%% BasicInformation\n GeometryFilename -\n")
    (tmp_path / "y").write_text("")
    (tmp_path / "z.gro").write_text((CORPUS / "nanometres.gro").read_text())

    def never(*_):
        raise AssertionError("ASE was asked")

    monkeypatch.setattr(pieces, "parse_with_ase", never)
    crystal, *failures = io.scan(tmp_path)
    assert isinstance(crystal, Crystal)
    assert [failure.id for failure in failures] == ["x", "y", "z"]
    assert all("must tell a format" in failure.reason for failure in failures[:2])
    assert "GROMACS names atoms" in failures[2].reason


def test_ase_reads_no_format_that_says_too_little(tmp_path):
    """Named or not: told by its content, a file of such a format is refused as well."""
    (tmp_path / "salt").write_text((CORPUS / "types_only.lammpstrj").read_text())
    (tmp_path / "dash").write_text("%% BasicInformation\n GeometryFilename /dev/zero\n")
    (tmp_path / "empty.out").write_text("")
    got = {
        "salt": "got 'lammps-dump-text', which does not",
        "dash": "unknown",
        "empty.out": "unknown",
    }
    for name, reason in got.items():
        (failure,) = io.scan(tmp_path / name)
        assert reason in failure.reason


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.cube", "a\nb\n1 0 0 0\n-2 4 0 0\n2 0 4 0\n2 0 0 4\n1 0 0 0 0\n", "counted negative"),
        ("a.cfg", "Number of particles = 1\nA = 1.0 nm (basic)\n", "another unit"),
        ("a.pwi", "&SYSTEM\n ibrav=0, space_group = 225\n/\n", "a part of the cell"),
    ],
)
def test_what_ase_would_pass_over_is_refused(tmp_path, name, content, what):
    (tmp_path / name).write_text(content)
    (failure,) = io.scan(tmp_path / name)
    assert what in failure.reason


def test_the_process_of_ase_opens_no_other_file_and_starts_nothing(tmp_path):
    secret = tmp_path / "secret.py.txt2"
    secret.write_text("secret")
    script = Path(through_ase.__file__).with_name("ase_child.py")
    attacks = [
        f"open({str(secret)!r})",
        f"open({str(tmp_path / 'new')!r}, 'w')",
        "__import__('os').system('true')",
        "__import__('subprocess').run(['true'])",
        "__import__('socket').socket().connect(('127.0.0.1', 9))",
        f"__import__('os').remove({str(secret)!r})",
        f"__import__('sqlite3').connect({str(secret)!r})",
    ]
    code = "import runpy, sys, sqlite3, subprocess, socket\n"
    code += f"sys.addaudithook(runpy.run_path({str(script)!r})['_guard'])\n"
    for attack in attacks:
        code += f"try:\n    {attack}\n    print('done')\nexcept PermissionError:\n    print('no')\n"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["no"] * len(attacks)
    assert secret.exists()
    assert not (tmp_path / "new").exists()


def test_a_reader_of_ase_that_hangs_is_stopped_and_the_next_file_is_read(tmp_path, monkeypatch):
    import ase.io

    good = tmp_path / "b.gen"
    ase.io.write(good, io.read(CORPUS / "POSCAR_flags")[0].to_ase())
    assert isinstance(next(io.scan(good)), Crystal)  # the process runs
    os.mkfifo(tmp_path / "pipe")
    with monkeypatch.context() as patch:
        patch.setattr(through_ase, "MAX_SECONDS", 0.5)
        # Past the checks of the parent, a pipe that nobody writes to.
        (found,) = through_ase.parse_with_ase(tmp_path / "pipe", "pipe", "pipe")
    assert "no answer within 0.5 s" in str(found[1])
    assert isinstance(next(io.scan(good)), Crystal)


def test_two_files_may_be_read_through_ase_at_once_and_one_be_left(tmp_path):
    import ase.io

    frames = [io.read(CORPUS / "POSCAR_flags")[0].replace(id="").to_ase()] * 3
    for name in ("a.traj", "b.traj"):
        ase.io.write(tmp_path / name, frames)
    both = zip(io.scan(tmp_path / "a.traj"), io.scan(tmp_path / "b.traj"), strict=True)
    assert [(a.id, b.id) for a, b in both] == [(f"a#{k}", f"b#{k}") for k in range(3)]
    left = io.scan(tmp_path / "a.traj")
    assert next(left).id == "a#0"
    left.close()
    assert len(list(io.scan(tmp_path / "b.traj"))) == 3


def test_nested_lists_and_nulls_are_one_sentence(tmp_path):
    rows = [{"numbers": [11], "positions": None, "cell": [[4, 0, 0], [0, 4, 0], [0, 0, 4]]}]
    rows += [rows[0] | {"positions": [[0, 0, None]]}, rows[0] | {"positions": {"a": 1}}]
    rows += [rows[0] | {"numbers": None}, rows[0] | {"cell": None}, rows[0] | {"positions": [[]]}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list(io.scan(tmp_path / "a.jsonl"))
    assert [type(item) for item in found] == [Failure] * len(rows)
    assert all("Error" not in item.reason for item in found)


def test_ids_and_names_of_files_are_printable(tmp_path):
    import shutil

    keys = ' id="\x1b]0;OWNED\x07\x1b[2Jred"'
    (tmp_path / "a.extxyz").write_text(xyz(keys))
    (crystal,) = io.scan(tmp_path / "a.extxyz")
    assert crystal.id == r"\x1b]0;OWNED\x07\x1b[2Jred"
    strange = os.fsencode(tmp_path) + b"/\x1b[31m\xff.cif"
    try:
        shutil.copy(CORPUS / "tag_twice_different.cif", strange)
    except OSError:
        pytest.skip("this file system takes no such name")
    (failure,) = (item for item in io.scan(tmp_path) if isinstance(item, Failure))
    assert failure.id == r"\x1b[31m\udcff"
    assert failure.reason.isprintable()
    failure.reason.encode()


def test_a_list_of_operations_that_is_no_group_is_refused_soon(tmp_path):
    """Its products are looked for, in case that it lists generators."""
    text = (CORPUS / "all_atoms_and_ops.cif").read_text("utf-8")
    assert "'-y,x,z'" in text
    (tmp_path / "a.cif").write_text(text.replace("'-y,x,z'", "'-y,x,-z'", 1))
    start = time.process_time()
    (failure,) = io.scan(tmp_path / "a.cif")
    assert "must be valid and form a group" in failure.reason
    assert time.process_time() - start < 0.5
