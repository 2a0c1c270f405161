"""Hunt for structure files that do harm: fuzzing with coverage guidance, for a given time.

    python scripts/hunt.py --minutes 60 --output hunt

Files of all kinds that potnet reads itself are bred from tests/reliability/corpus by atheris. A
find is a file that a reader answers by an exception behind its wall, by no sentence, by a crystal
that cannot be or that does not survive writing and reading, or after too long. Each find is
minimised, written to the output folder with its reason, and passed over from then on; the bred
files stay in OUTPUT/bred, from where the next hunt goes on. OUTPUT/hunt.json says how long it was,
how many files were read, and what was found. The exit code is 1 if something was found.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT / "tests" / "reliability" / "corpus"
KINDS = (
    "cif",
    "poscar",
    "extxyz",
    "shelx",
    "json",
    "jsonl",
    "castep",
    "espresso",
    "lammps",
    "csv",
)
SUFFIXES = {
    ".cif": 0,
    ".mcif": 0,
    ".vasp": 1,
    ".extxyz": 2,
    ".res": 3,
    ".ins": 3,
    ".json": 4,
    ".xyz": 2,
    ".cell": 6,
    ".pwi": 7,
    ".lammpstrj": 8,
    ".dump": 8,
}
MAX_SECONDS = 5.0  # of processor time, for a file of some kB
MAX_BYTES = 4096
MINIMISING = 30  # seconds


class Find(AssertionError):
    """What a reader did that it must not do."""


def found_in(kind: str, text: str) -> list:
    """Return what a reader yields of a text: ids with crystals or reasons."""
    from potnet.io import extxyz, pieces
    from potnet.io.found import attempt, walled

    if kind == "poscar":
        return [attempt("x", "x", lambda: pieces.parse_poscar(text, "x"))]
    if kind == "shelx":
        return [attempt("x", "x", lambda: pieces.parse_shelx(text, "x"))]
    if kind == "castep":
        return [attempt("x", "x", lambda: pieces.parse_castep_cell(text, "x"))]
    if kind == "espresso":
        return [attempt("x", "x", lambda: pieces.parse_espresso(text, "x"))]
    if kind == "csv":
        return found_in_table(text)

    def read_all(split, read):
        lines = text.splitlines(keepends=True)
        return (found for given in split(lines) for found in read(*given, "x", "x"))

    parse = {
        "cif": lambda: pieces.parse_cif(text, "x", "x"),
        "extxyz": lambda: read_all(extxyz.frames_of, extxyz.read_frame),
        "json": lambda: pieces.parse_json(text, "x", "x"),
        "lammps": lambda: pieces.parse_lammps(text.splitlines(keepends=True), "x", "x"),
        "jsonl": lambda: read_all(pieces._rows, pieces._read_row),
    }[kind]
    return list(walled(parse(), "x", "x"))


def found_in_table(text: str) -> list:
    """Return what a table of crystals and targets yields: ids with crystals or reasons."""
    from potnet import data
    from potnet.errors import Failure, PotNetError

    with tempfile.NamedTemporaryFile("w", suffix=".csv", encoding="utf-8", newline="") as table:
        table.write(text)
        table.flush()
        try:
            records = list(data.iter_records(table.name))
        except PotNetError as error:
            return [("x", error)]
    return [("x", r.reason if isinstance(r, Failure) else r.crystal) for r in records]


def check(kind: str, text: str) -> None:
    """Raise ``Find`` unless what comes of a text can be defended."""
    import numpy as np

    from potnet.crystal import Crystal
    from potnet.io.cif import format_cif

    start = time.process_time()
    found = found_in(kind, text)
    seconds = time.process_time() - start
    if seconds > MAX_SECONDS:
        raise Find(f"{kind}: {seconds:.1f} s")
    for _, item in found:
        reason = str(item)
        if not isinstance(item, Crystal):
            behind = re.search(r"must be readable, got (\w+): (.{0,60})", reason)
            if behind:
                raise Find(f"{kind}: {behind[1]}: {behind[2]}")
            if not 10 < len(reason) < 2000 or "Traceback" in reason:
                raise Find(f"{kind}: no sentence")
            continue
        if not np.isfinite(item.positions).all() or not 0 < item.volume < np.inf:
            raise Find(f"{kind}: a crystal that cannot be")
        if item.pbc.all():
            (again,) = found_in("cif", format_cif([item]))
            if not isinstance(again[1], Crystal) or again[1].symbols != item.symbols:
                raise Find(f"{kind}: a crystal that is not read as it was written")


def fuzz(arguments: list[str], known: set[str]) -> None:
    """Run atheris in this process until a find, or the end of the time."""
    import logging

    import atheris

    with atheris.instrument_imports(include=["potnet.io", "potnet.crystal", "potnet.data"]):
        import potnet.data  # noqa: F401
        import potnet.io  # noqa: F401
    logging.disable(logging.CRITICAL)

    def one(data: bytes) -> None:
        if not data:
            return
        try:
            check(KINDS[data[0] % len(KINDS)], data[1:].decode("utf-8", "replace"))
        except Find as find:
            if str(find) not in known:
                print(f"FIND {find}", flush=True)
                raise

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def hunt(minutes: float, output: Path) -> int:
    """Run fuzzing processes one after another, minimise what they find; return how many finds."""
    bred = output / "bred"
    bred.mkdir(parents=True, exist_ok=True)
    _sow(bred)
    start = time.monotonic()
    end = start + 60 * minutes
    known: set[str] = set()
    report: dict = {"potnet": version("potnet"), "atheris": version("atheris"), "kinds": KINDS}
    report |= {"seconds": 0, "files": 0, "edges": 0, "finds": []}
    while (left := int(end - time.monotonic())) > 1:
        artefact = output / "last"
        code, done = _child(
            [f"-max_total_time={left}", f"-exact_artifact_path={artefact}"], bred, known
        )
        find = re.search(r"^FIND (.*)$", done, re.MULTILINE)
        runs = re.findall(r"^(?:stat::number_of_executed_units: |Done )(\d+)", done, re.MULTILINE)
        coverage = re.findall(r"cov: (\d+)", done)
        report["files"] += int("".join(runs[-1:]) or 0)
        report["edges"] = max(report["edges"], int("".join(coverage[-1:]) or 0))
        report["seconds"] = round(time.monotonic() - start)
        _write(report, output)
        if code == 0:
            break
        if not artefact.exists():
            raise SystemExit(f"hunt: atheris ended with code {code}:\n{done[-2000:]}")
        what = find[1] if find else "the process died: " + done.strip()[-300:]
        known.add(what)
        report["finds"] = sorted(known)
        _write(report, output)
        _keep(artefact, output / f"find-{len(known)}", what, known - {what})
    return len(known)


def _write(report: dict, output: Path) -> None:
    text = json.dumps(report, indent=1)
    (output / "hunt.json").write_text(text + "\n", encoding="utf-8")
    print(text, flush=True)


def _sow(bred: Path) -> None:
    """Put the files of the corpus among the bred ones, the first byte for the kind of each."""
    for path in CORPUS.iterdir():
        kind = SUFFIXES.get(path.suffix, 1 if "POSCAR" in path.name else None)
        if kind is not None and path.name != "expected.json" and path.stat().st_size < MAX_BYTES:
            (bred / path.name).write_bytes(bytes([kind]) + path.read_bytes())
    salt = (ROOT / "examples" / "crystals" / "NaCl.cif").read_text("utf-8")
    table = io.StringIO()
    csv.writer(table).writerows([["id", "structure", "gap (eV)"], ["a", salt, "1.5"], ["b", salt]])
    (bred / "table.csv").write_bytes(bytes([KINDS.index("csv")]) + table.getvalue().encode())


def _child(options: list[str], where: Path, known: set[str]) -> tuple[int, str]:
    """Return the exit code of a fuzzing process, and what it prints."""
    command = [sys.executable, __file__, "--known", json.dumps(sorted(known)), "--", *options]
    options = [f"-max_len={MAX_BYTES}", "-rss_limit_mb=2048", "-timeout=60", "-print_final_stats=1"]
    options += ["-report_slow_units=60"]
    run = subprocess.run(
        [*command, *options, str(where)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


def _keep(artefact: Path, path: Path, what: str, known: set[str]) -> None:
    """Write the smallest file that shows a find, and the reason beside it."""
    small = path.with_suffix(".min")
    options = ["-minimize_crash=1", f"-max_total_time={MINIMISING}"]
    _child([*options, f"-exact_artifact_path={small}"], artefact, known)
    best = small if small.exists() else artefact
    data = best.read_bytes()
    kind = KINDS[data[0] % len(KINDS)] if data else "empty"
    path.with_suffix(f".{kind}").write_bytes(data[1:])
    path.with_suffix(".txt").write_text(what + "\n", encoding="utf-8")
    small.unlink(missing_ok=True)
    artefact.unlink()


def main() -> None:
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--output", type=Path, default=Path("hunt"))
    parser.add_argument("--known", help=argparse.SUPPRESS)
    settings = parser.parse_args(sys.argv[1:split])
    if settings.known is not None:
        fuzz(sys.argv[split + 1 :], set(json.loads(settings.known)))
    else:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        sys.exit(hunt(settings.minutes, settings.output) > 0)


if __name__ == "__main__":
    main()
