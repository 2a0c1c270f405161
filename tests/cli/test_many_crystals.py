"""A prediction over many files: the same for any number of workers, and whenever it is killed."""

import csv
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest
from typer.testing import CliRunner

from potnet import read, write
from potnet.cli import app
from potnet.io import Pieces
from potnet.sheet import SheetMaker
from potnet.sheet.journal import Journal
from potnet.sheet.pipeline import TASK_BYTES, SheetWork, cut, outcomes_of, tasks_of
from potnet.sheet.shards import ShardFolder


@pytest.fixture
def inputs(salts, tmp_path) -> Path:
    """A folder of a table of frames, structure files, two of the same id, and one that is bad."""
    folder = tmp_path / "in"
    folder.mkdir()
    many = []
    for k in range(60):
        crystal = salts[k % len(salts)]
        many.append(crystal.replace(cell=crystal.cell * (1 + 0.001 * k), id=f"frame{k}"))
    write(many, folder / "many.extxyz")
    write(many[:20], folder / "more.jsonl")
    for k in range(30):
        write(many[k].replace(id=""), folder / f"s{k:02}.cif")
    (folder / "bad.cif").write_text("data_bad\n_cell_length_a 1\n")
    return folder


def run(*words: object) -> int:
    result = CliRunner().invoke(app, ["predict", *map(str, words)])
    assert result.exit_code in (0, 3), result.output
    return result.exit_code


def test_tables_do_not_depend_on_the_number_of_workers(inputs, small_archive, tmp_path) -> None:
    common = (inputs, "-m", small_archive, "--batch-size", 4)
    one, two, folder = tmp_path / "one.csv", tmp_path / "two.csv", tmp_path / "shards"
    assert run(*common, "-o", one, "--workers", 1) == 3
    assert run(*common, "-o", two, "--workers", 2) == 3
    assert one.read_bytes() == two.read_bytes()
    assert run(*common, "-o", folder, "--shards", "csv", "--workers", 2) == 3
    assert (folder / "000000.csv").read_bytes() == one.read_bytes()
    errors = (folder / "_errors.csv").read_text()
    assert errors == (tmp_path / "errors.csv").read_text()
    ids = {row["id"] for row in csv.DictReader(one.read_text().splitlines())}
    assert len(ids) == 60 + 1 + 30  # of two crystals of the same id the second has that of its file
    assert str(inputs / "more.jsonl") in ids


@pytest.mark.parametrize("words", [["out.xlsx"], ["tables", "--shards", "csv", "--recursive"]])
def test_what_a_prediction_writes_into_its_input_is_not_read(
    salts, small_archive, tmp_path, words
) -> None:
    write(salts[0], tmp_path / "salt.cif")
    name, *options = words
    for _ in range(2):
        assert run(tmp_path, "-m", small_archive, "-o", tmp_path / name, *options) == 0


def test_an_output_that_may_be_a_structure_of_the_input_is_refused(
    salts, small_archive, tmp_path
) -> None:
    write(salts, path := tmp_path / "salts.json")
    before = path.read_bytes()
    words = ["predict", str(tmp_path), "-m", str(small_archive), "-o", str(path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert f"must not be what is read, got {path} for both" in result.output
    assert path.read_bytes() == before


def test_a_folder_of_tables_is_gone_on_with_and_made_anew_where_its_input_changed(
    inputs, small_archive, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(ShardFolder.__init__.__kwdefaults__, "tasks", 5)
    folder = tmp_path / "shards"
    words = (inputs, "-m", small_archive, "--batch-size", 4, "--workers", 1)
    words = (*words, "-o", folder, "--shards", "csv")
    run(*words)
    names = sorted(path.name for path in folder.glob("[0-9]*"))
    assert names == [f"{k:06}.csv" for k in range(5)]
    before = {name: (folder / name).stat().st_mtime_ns for name in names}
    texts = {name: (folder / name).read_text() for name in names}
    # Killed while it wrote a table, and before that a line of the log.
    log = (folder / "_progress.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "_progress.jsonl").write_bytes(b"".join(log[:4]) + log[4][:30])
    run(*words)
    after = {name: (folder / name).stat().st_mtime_ns for name in names}
    assert [name for name in names if before[name] == after[name]] == names[:3]
    assert {name: (folder / name).read_text() for name in names} == texts
    # A structure that has changed: its table and those behind it.
    write(read(inputs / "s10.cif")[0].supercell(2), inputs / "s10.cif")
    run(*words)
    changed = [name for name in names if (folder / name).read_text() != texts[name]]
    assert changed == [names[3]]
    for path in inputs.glob("s*.cif"):
        path.unlink()
    run(*words)
    assert sorted(path.name for path in folder.glob("[0-9]*")) == names[:4]
    result = CliRunner().invoke(app, ["predict", *map(str, words), "--wide"])
    assert result.exit_code == 1
    assert "those of others" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="kills by SIGKILL")
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_workers_and_the_command_may_be_killed_at_any_moment(
    inputs, small_archive, tmp_path
) -> None:
    words = ["predict", str(inputs), "-m", str(small_archive), "--batch-size", "2", "-o"]
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    run(*words[1:], whole, "--workers", 1)
    part = out.with_name("out.csv.part")
    command = [sys.executable, "-c", "from potnet.cli import app; app()"]
    command += [*words, str(out), "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not (part.exists() and part.read_bytes().count(b"\n") > 3):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert not out.exists()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        before = part.read_bytes().count(b"\n")
        while process.poll() is None and part.read_bytes().count(b"\n") <= before:
            time.sleep(0.01)
        for child in children.read_text().split()[-1:] if process.poll() is None else []:
            os.kill(int(child), signal.SIGKILL)  # it works by now: another takes its place
    assert process.returncode == 3
    assert out.read_bytes() == whole.read_bytes()
    assert not part.exists()


def test_a_journal_gives_finished_tasks_again_and_forgets_a_broken_line(
    inputs, small_archive, tmp_path
) -> None:
    work = SheetWork(SheetMaker([str(small_archive)]))
    path = tmp_path / "part"
    whole = [o for _, o in outcomes_of(work, Pieces(inputs), workers=1, task_size=7)]
    journal = Journal(path, "key")
    found = outcomes_of(work, Pieces(inputs), workers=1, task_size=7, store=journal.__enter__())
    assert repr([o for _, o in islice(found, 5)]) == repr(whole[:5])
    journal.__exit__(KeyboardInterrupt)
    path.write_bytes(path.read_bytes()[:-5])
    ran = []

    class Counted(SheetWork):
        def __call__(self, task):
            ran.append(task)
            return work(task)

    with Journal(path, "key") as journal:
        assert journal.n_read == 28
        again = outcomes_of(
            Counted(work._maker), Pieces(inputs), workers=1, task_size=7, store=journal
        )
        assert repr([o for _, o in again]) == repr(whole)
    n_tasks = len(list(cut(Pieces(inputs), 7)))
    assert len(ran) == n_tasks - 4
    assert not path.exists()


def test_a_task_holds_few_large_pieces(inputs) -> None:
    pieces = list(Pieces(inputs))
    assert [len(task) for task in tasks_of(pieces, 40)] == [40, 40, 12]
    large = [piece._replace(size=TASK_BYTES // 3 + 1) for piece in pieces]
    assert [len(task) for task in tasks_of(large, 40)] == [3] * 30 + [2]
    frames = [piece for piece in pieces if piece.path.endswith("many.extxyz")]
    assert len(frames) == 60
    assert min(piece.size for piece in frames) > 0
