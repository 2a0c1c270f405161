"""The formats that ASE reads for us, in a process of its own, and XSF, which we write."""

from __future__ import annotations

import atexit
import fnmatch
import itertools
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, cast

from potnet.crystal import Crystal
from potnet.errors import StructureError
from potnet.io.espresso import parse_espresso
from potnet.io.found import Found, attempt, lines_of

MAX_SECONDS = 30.0  # of wall time, for ASE to start and to read one structure

# Formats that state elements, unit and cell, and list all atoms; by name where the name is plain.
FORMATS: dict[str, str] = {
    "*.traj": "traj",
    "*.db": "db",
    "*.gen": "gen",
    "*.xsf": "xsf",
    "*.axsf": "xsf",
    "geometry.in*": "aims",
    "*.geom": "castep-geom",
    "*.castep": "castep-castep",
    "*.pwo": "espresso-out",
    "*OUTCAR*": "vasp-out",
    "*XDATCAR*": "vasp-xdatcar",
    "*vasprun*.xml": "vasp-xml",
    "*.XV": "siesta-xv",
    "*.cube": "cube",
    "*.cfg": "cfg",
    "*.rmc6f": "rmc6f",
}
# What ASE does not understand in these formats, and passes over.
_HEAD = 2**20  # bytes that are looked at
_MAX_INPUT = 2**24  # bytes of an input file of Quantum ESPRESSO
_DOUBTFUL = {
    "cube": (re.compile(r"\A(?:[^\n]*\n){3}\s*-"), "voxels counted negative, which stands for Å"),
    "cfg": (re.compile(r"^A\s*=(?!\s*1(?:\.0*)?\s*(?:\(|A|$))", re.M), "another unit than 1 Å"),
    "vasp-xdatcar": (re.compile(r"\A[^\n]*\n\s*-"), "a volume instead of a scale"),
    "aims": (
        re.compile(r"^\s*(?!(?:atom|atom_frac|lattice_vector)\s)(?i:atom|lattice)", re.M),
        "an atom or a lattice vector under another word",
    ),
}
_XSF_ATOMS = re.compile(
    r"^\s*PRIMCOORD.*\n\s*(\d{1,9})\b.*\n((?:[ \t]*\w+(?:[ \t]+[-+.\deEdD]+){3,6}[ \t]*\r?\n)*)",
    re.M,
)

# Formats that potnet reads itself, by their names.
_OWN = {"cif": ".cif", "vasp": ".vasp", "extxyz": ".extxyz", "json": ".json", "res": ".res"}

# Formats of no plain name, told by their content where one file is asked for.
_BY_CONTENT = ("aims-output", "castep-md", "exciting", "elk", "gpaw-out", "abinit-out", "magres")

# Formats that say too little, by name, and what it is that they do not say.
REFUSED: dict[str, str] = {
    "*.gro": "GROMACS names atoms and not elements",
    "*.g96": "GROMOS names atoms and not elements",
    "*.pdb": "a PDB file lists a part of the cell, and names atoms",
    "*.ent": "a PDB file lists a part of the cell, and names atoms",
    "*.lammps*": "LAMMPS numbers the types of atoms",
    "*.lmp": "LAMMPS numbers the types of atoms",
    "data.*": "LAMMPS numbers the types of atoms",
    "*.data": "LAMMPS and RuNNer data name no unit",
    "*.struct": "a WIEN2k file lists a part of the cell",
    "*.f34": "a CRYSTAL file lists a part of the cell",
    "fort.34": "a CRYSTAL file lists a part of the cell",
    "CONFIG*": "DL_POLY names atoms and not elements",
    "HISTORY*": "DL_POLY names atoms and not elements",
    "*.mol": "a molecule has no cell",
    "*.mol2": "a molecule has no cell",
    "*.sdf": "a molecule has no cell",
    "*.gjf": "a molecule has no cell",
}


def format_of(name: str) -> str:
    """Return the format that ASE may read under a file name, or an empty string."""
    return next((format for glob, format in FORMATS.items() if _matches(name, glob)), "")


def refusal_of(name: str) -> str:
    """Return what a format, told by a file name, does not say; empty if it is not refused."""
    return next((reason for glob, reason in REFUSED.items() if _matches(name, glob)), "")


def _matches(name: str, glob: str) -> bool:
    return fnmatch.fnmatchcase(name, glob) or fnmatch.fnmatchcase(name.lower(), glob)


def parse_with_ase(path: Path, source: str, id: str) -> Iterator[Found]:
    """Yield each crystal that ASE finds in a file, by its name or else by its content.

    ASE runs in a process of its own, which opens this file alone and is stopped after
    ``MAX_SECONDS`` without an answer.
    """
    format = format_of(path.name)
    if what := _passed_over(path, format):
        raise StructureError(
            f"{source}: the file must say what ASE understands, got {what}. "
            "Correct it, or convert it to CIF with the program that wrote it."
        )
    answers = _ask(path, format)
    first = next(answers, None)
    if first is None:
        yield id, StructureError(f"{source}: the file must hold a crystal, got none. Check it.")
        return
    second = next(answers, None)
    if first.get("format") == "espresso-in":
        yield attempt(id, source, lambda: parse_espresso(_text_of(path), source).replace(id=id))
        return
    if first.get("format") in _OWN:
        raise StructureError(
            f"{source}: the name must tell the format, got one without {_OWN[first['format']]}. "
            "Add the suffix."
        )
    if "format" in first:
        got = f"{first['format']!r}, which does not" if first["format"] else "one that is unknown"
        raise StructureError(
            f"{source}: the file must be of a format that ASE reads and that states elements, "
            f"unit, cell and symmetry, got {got}. Convert it to CIF, POSCAR or extxyz."
        )
    yield _found(first, source, id if second is None else f"{id}#0")
    for index, answer in enumerate(itertools.chain([second] if second else [], answers), 1):
        yield _found(answer, source, f"{id}#{index}")


def _passed_over(path: Path, format: str) -> str:
    """Return what a file says that ASE would not see; empty if there is nothing."""
    if format not in _DOUBTFUL and format != "xsf":
        return ""
    with path.open("rb") as file:
        head = file.read(_HEAD).decode("latin-1")
    if format == "xsf":
        found = [(len(lines_of(rows)), int(n)) for n, rows in _XSF_ATOMS.findall(f"{head}\n")]
        return next(
            (f"{rows} rows of atoms for a count of {n}" for rows, n in found if rows > n), ""
        )
    pattern, what = _DOUBTFUL[format]
    return what if pattern.search(head) else ""


def _found(answer: dict[str, Any], source: str, name: str) -> Found:
    def build() -> Crystal:
        if "error" in answer:
            raise StructureError(
                f"{source}: the file must be valid for ASE, got {answer['error']}. "
                "Mend it, or convert it to CIF."
            )
        atoms = SimpleNamespace(
            get_atomic_numbers=lambda: answer["numbers"],
            get_positions=lambda: answer["positions"],
            cell=answer["cell"],
            pbc=answer["pbc"],
            info=answer["info"],
            calc=SimpleNamespace(results=answer["results"]),
        )
        crystal = Crystal.from_ase(atoms, id=source)
        return crystal.replace(id=str(crystal.info.get("id", "")))

    return attempt(name, source, build)


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAX_INPUT).decode("latin-1")


def _ask(path: Path, format: str) -> Iterator[dict[str, Any]]:
    """Yield what a child answers: structures, the error that ended it, or another format."""
    process = _taken()
    allowed = [*FORMATS.values(), *_BY_CONTENT]
    request = {"path": os.path.realpath(path), "format": format or None, "allowed": allowed}
    is_done = False
    try:
        stdin = cast(IO[str], process.stdin)
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        while not is_done:
            line = _line(process)
            if not line.endswith("\n"):
                yield {"error": _end_of(process)}
                return
            answer = json.loads(line)
            is_done = "end" in answer
            if not is_done:
                yield answer
    except BrokenPipeError:
        yield {"error": _end_of(process)}
    finally:
        if is_done:
            _idle.append((os.getpid(), process))
        else:  # it may still be writing
            _stop(process)


def _line(process: subprocess.Popen[str]) -> str:
    """Return the next line of an answer; a part of one if the process ended, or was too slow."""
    clock = threading.Timer(MAX_SECONDS, process.kill)
    clock.daemon = True
    clock.start()
    try:
        return cast(IO[str], process.stdout).readline()
    finally:
        clock.cancel()


def _end_of(process: subprocess.Popen[str]) -> str:
    code = process.wait()
    why = f"no answer within {MAX_SECONDS:g} s" if code == -9 else f"an end with code {code}"
    return f"{why}: the file is damaged or too large"


# Children that wait for a request, each with the process that started it: not for its forks.
_idle: list[tuple[int, subprocess.Popen[str]]] = []


def _taken() -> subprocess.Popen[str]:
    """Return a child that waits for a request, a new one if there is none."""
    while _idle:
        parent, process = _idle.pop()
        if parent == os.getpid() and process.poll() is None:
            return process
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    script = Path(__file__).with_name("ase_child.py")
    return subprocess.Popen(
        [sys.executable, "-P", str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        encoding="utf-8",
    )


def _stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@atexit.register
def _stop_all() -> None:
    for parent, process in _idle:
        if parent == os.getpid():
            _stop(process)
    _idle.clear()


def format_xsf(crystal: Crystal) -> str:
    """Return ``crystal`` as XSF, atoms by number."""
    crystal.require_periodic()
    atoms = zip(crystal.numbers, crystal.positions, strict=True)
    rows = [f"{number} {_join(xyz)}" for number, xyz in atoms]
    vectors = [_join(vector) for vector in crystal.cell]
    lines = ["CRYSTAL", "PRIMVEC", *vectors, "PRIMCOORD", f"{crystal.n_atoms} 1", *rows]
    return "\n".join(lines) + "\n"


def _join(values: Iterable[float]) -> str:
    return " ".join(repr(float(value)) for value in values)
