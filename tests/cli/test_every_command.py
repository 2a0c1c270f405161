"""Whatever a command is given, it ends in a result or in one sentence: no trace, no surprise."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from potnet import write
from potnet.cli import app
from potnet.cli.app import INTERRUPTED, kept
from potnet.io.files import suffix_of

# Places for {names}: files and folders of the fixture ``things``.
OUTPUT_IS_WRONG = ["{folder}", "{salt}/out.csv", "{salt}"]
WRONG: dict[str, list[str]] = {
    "predict": [
        "",
        "{missing}",
        "{empty}",
        "{junk}",
        "{empty_folder}",
        "/dev/null",
        "{salt} --model {missing}",
        "{salt} --model {empty_folder}",
        "{salt} --model {junk}",
        "{salt} --model no-such-model",
        "{salt} --device foo",
        "{salt} --device cuda:99",
        "{salt} --device cuda:x",
        "{salt} --device mps:1",
        "{salt} --batch-size 0",
        "{salt} --batch-size many",
        "{salt} --nonsense",
        "{salt} -o {new}.pdf",
        "{salt} -o {new}",
        "{salt} --property colour",
        "{salt} --all --model no-such-model",
        "{salt} --entries {missing}",
        "{salt} --entries {junk}",
        "{salt} -o {folder}/errors.csv",
        *(f"{{salt}} -o {path}" for path in OUTPUT_IS_WRONG),
    ],
    "check": [
        "",
        "{missing}",
        "{empty}",
        "{junk}",
        "{empty_folder}",
        "{table} --target nonsense",
        "{table} --split {missing}",
        "{table} --split {junk}",
        "{salt} --report {new}.pdf",
        "{salt} -o {new}.json",
        *(f"{{salt}} -o {path}" for path in OUTPUT_IS_WRONG),
        *(f"{{salt}} --report {path}" for path in OUTPUT_IS_WRONG),
    ],
    "convert": [
        "",
        "{salt}",
        "{missing} -o {new}.cif",
        "{junk} -o {new}.cif",
        "{salt} -o {new}.docx",
        "{salt} -o {folder}",
        "{salt} -o {folder} --to docx",
        "{salt} -o {salt}",
        "{salt} -o {salt}/out.cif",
    ],
    "explain": [
        "",
        "{missing}",
        "{empty}",
        "{junk}",
        "{empty_folder}",
        "{salt} --model no-such-model",
        "{salt} --model {junk}",
        "{salt} --property colour",
        "{salt} --property young_modulus",
        "{salt} --property bulk_modulus --model mp-formation-energy",
        "{salt} --device foo",
        "{salt} -o {new}.pdf",
        "{salt} --plot {new}.gif",
        "{salt} --plot {folder}",
        *(f"{{salt}} -o {path}" for path in OUTPUT_IS_WRONG),
    ],
    "serve": ["--nonsense", "--port 99999"],
    "mcp": ["--nonsense", "{salt}"],
    "sums": [
        "",
        "{missing}",
        "{folder}/nothing/*.cif",
        "{empty}",
        "{junk}",
        "{salt} --potential nonsense",
        "{salt} --potential yukawa:minus",
        "{salt} --potential inverse-power:3",
        "{salt} --tolerance -1",
        "{salt} --tolerance nan",
        "{salt} --tolerance few",
        "{salt} --index 7",
        "{salt} --index -1",
        "{salt} -o {new}.csv",
        "{salt} --plot {new}.gif",
        "{salt} --plane 1,1,0",
        "{salt} --plot {new}.png --plane 0,0,0",
        "{salt} --plot {new}.png --plane a,b,c",
        "{salt} --plot {new}.png --plane 1,0,0 --atom 99",
        "{salt} --plot {new}.png --through 0,0,0",
        "{salt} --plot {new}.png --charge Na",
        "{salt} --plot {new}.png --charge Xx=1",
        "{salt} --plot {new}.png --width -3",
        *(f"{{salt}} -o {path}" for path in ("{folder}", "{salt}/x.json")),
    ],
    "train": [
        "",
        "{table}",
        "{missing} -o {new}",
        "{empty} -o {new}",
        "{junk} -o {new}",
        "{empty_folder} -o {new}",
        "no-such-dataset -o {new}",
        "{table} -o {salt}",
        "{table} -o {new} --target nonsense",
        "{table} -o {new} --network nonsense",
        "{table} -o {new} --epochs 0",
        "{table} -o {new} --epochs few",
        "{table} -o {new} --split nonsense",
        "{table} -o {new} --split {missing}.json",
        "{table} -o {new} --set nonsense=1",
        "{table} -o {new} --set nonsense",
        "{table} -o {new} --config {missing}",
        "{table} -o {new} --config {junk}",
        "{table} -o {new} --device foo",
        "{table} -o {new} --unit nonsense",
        "{table} -o {new} --finetune no-such-model",
    ],
    "evaluate": [
        "",
        "{table}",
        "{missing} -m {archive}",
        "{junk} -m {archive}",
        "{empty_folder} -m {archive}",
        "{table} -m {missing}",
        "{table} -m no-such-model",
        "{table} -m {archive} --target nonsense",
        "{table} -m {archive} --part nonsense",
        "{table} -m {archive} --device foo",
        "{table} -m {archive} -o {salt}",
    ],
    "datasets": [
        "nonsense",
        "info nonsense",
        "get nonsense",
        "get jarvis:dft_3d_2021 --from {missing}",
        "split {missing} -o {new}.json",
        "split {table} -o {new}.csv",
        "split {table} -o {folder}",
        "split {table} -o {new}.json --kind nonsense",
        "split {table} -o {new}.json --by nonsense",
        "split {table} -o {new}.json --train 7.5",
        "split {table} -o {new}.json --target nonsense",
        "split {table} -o {new}.json --folds 0",
        "build {missing} -o {new}",
        "build {table} -o {salt}",
        "build {table} -o {new} --workers 0",
        "build {table} -o {new} --target nonsense",
        "verify {missing}",
        "verify {salt}",
        "verify {empty_folder}",
    ],
    "benchmark": [
        "nonsense -o {new}",
        "run",
        "run nonsense -o {new}",
        "run qmof -o {new} --most 3",
        "run {missing}.yaml -o {new}",
        "compare {missing} {missing}",
        "compare {table} {junk}",
        "compare {table} {table} --combine nonsense",
        "table {missing} -o {new}",
        "table {junk} -o {new}",
    ],
    "demo": ["-o {salt}", "--nonsense"],
    "models": ["--nonsense", "nonsense"],
}


@pytest.fixture(scope="module")
def things(salts, small_archive, tmp_path_factory) -> dict[str, str]:
    """Paths of good and of useless things, by the names that stand in ``WRONG``."""
    folder = tmp_path_factory.mktemp("things")
    for name in ("folder", "empty_folder"):
        (folder / name).mkdir()
    write(salts[0], folder / "salt.cif")
    (folder / "folder" / "note.md").write_text("no structure")
    (folder / "empty.cif").write_text("")
    (folder / "junk.json").write_bytes(bytes(range(256)) * 20)
    rows = [json.dumps({"id": c.id, "structure": c.as_dict(), "gap": 1.0 * k})
            for k, c in enumerate(salts)]  # fmt: skip
    (folder / "table.jsonl").write_text("\n".join(rows))
    return {
        "folder": str(folder / "folder"),
        "empty_folder": str(folder / "empty_folder"),
        "salt": str(folder / "salt.cif"),
        "empty": str(folder / "empty.cif"),
        "junk": str(folder / "junk.json"),
        "table": str(folder / "table.jsonl"),
        "missing": str(folder / "missing"),
        "archive": str(small_archive),
    }


def test_the_table_names_every_command() -> None:
    command = typer.main.get_command(app)
    assert set(WRONG) == set(command.commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("command", "line"), [(name, line) for name, lines in WRONG.items() for line in lines]
)
def test_a_wrong_argument_ends_in_one_sentence(command, line, things, tmp_path) -> None:
    before = Path(things["salt"]).read_bytes()
    words = [word.format(**things, new=tmp_path / "new") for word in line.split()]
    result = CliRunner().invoke(app, [command, *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2, 3), result.output
    said = result.stderr + (result.stdout if result.exit_code != 1 else "")
    assert said.strip()
    assert "Traceback" not in said
    assert ".tmp" not in said
    if result.exit_code == 1:
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert Path(things["salt"]).read_bytes() == before
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".tmp", ".part")]


def test_a_folder_that_is_missing_is_made(things, tmp_path) -> None:
    out = tmp_path / "a" / "b" / "refused.csv"
    result = CliRunner().invoke(app, ["check", things["salt"], things["empty"], "-o", str(out)])
    assert result.exit_code == 3
    assert out.read_text().startswith("id,stage,reason\n")


def predict(*words: object) -> int:
    return CliRunner().invoke(app, ["predict", *map(str, words)]).exit_code


def test_a_list_of_errors_is_written_for_errors_alone(things, tmp_path) -> None:
    model = ("-m", things["archive"])
    errors = tmp_path / "errors.csv"
    assert predict(things["salt"], *model, "-o", tmp_path / "good.csv") == 0
    assert not errors.exists()
    assert predict(things["salt"], things["empty"], *model, "-o", tmp_path / "first.csv") == 3
    first = errors.read_text()
    assert things["empty"].rpartition("/")[2] in first
    assert predict(things["salt"], *model, "-o", tmp_path / "second.csv") == 0
    assert predict(things["salt"], things["junk"], *model, "-o", tmp_path / "third.csv") == 3
    assert errors.read_text() == first, "the list of another output stays"
    assert "junk" in (tmp_path / "third.errors.csv").read_text()


def test_a_file_of_ones_own_named_errors_stays(things, tmp_path) -> None:
    (tmp_path / "errors.csv").write_text("my own notes\n")
    (tmp_path / "out.csv").write_text("")
    assert predict(things["salt"], "-m", things["archive"], "-o", tmp_path / "out.csv") == 1
    assert (tmp_path / "errors.csv").read_text() == "my own notes\n"


@pytest.mark.parametrize("name", ["salt.cif", "salt.extxyz", "salt.json", "salt.xsf", "salt.vasp"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_dash_reads_standard_input(name, packed, salts, tmp_path) -> None:
    write(salts[0], tmp_path / name)
    content = (tmp_path / name).read_bytes()
    given = gzip.compress(content) if packed else content
    assert suffix_of(given) == Path(name).suffix + (".gz" if packed else "")
    result = CliRunner().invoke(app, ["check", "-"], input=given)
    assert result.exit_code == 0, result.output
    assert "1 good, 0 refused" in result.stdout


def test_an_interrupted_command_says_what_is_kept_and_ends_with_130(capsys) -> None:
    with pytest.raises(typer.Exit) as ended, kept("All of it."):
        raise KeyboardInterrupt
    assert ended.value.exit_code == INTERRUPTED
    assert capsys.readouterr().err == "potnet: stopped. All of it.\n"


def many_files(folder: Path, salts: list, number: int) -> Path:
    folder.mkdir()
    for k in range(number):
        crystal = salts[k % len(salts)]
        write(crystal.replace(cell=crystal.cell * (1 + 0.001 * k)), folder / f"{k:04}.extxyz")
    return folder


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_prediction_goes_on_where_it_was(
    blow, salts, small_archive, tmp_path
) -> None:
    folder = many_files(tmp_path / "many", salts, 600)
    # A shell may have told what it started in the background to ignore SIGINT.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{heed}; from potnet.cli import app; app()"
    out, part = tmp_path / "out.csv", tmp_path / "out.csv.part"
    words = ["predict", str(folder), "-m", str(small_archive), "--batch-size", "2", "-o"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words, str(out)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240
    while not (part.exists() and part.read_bytes().count(b"\n") > 20):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(blow)
    said = process.communicate()[1]
    assert process.returncode == (INTERRUPTED if blow is signal.SIGINT else process.returncode)
    assert process.returncode != 0
    assert not out.exists()
    if blow is signal.SIGINT:
        assert f"What was done is in {part}: the same command goes on" in said
    # By one process what two began: the table is the same.
    again = CliRunner().invoke(app, [*words, str(out), "--workers", "1"])
    assert again.exit_code == 0, again.output
    assert "crystals are done already" in again.stderr
    assert not part.exists()
    whole = tmp_path / "whole.csv"
    assert CliRunner().invoke(app, [*words, str(whole), "--workers", "1"]).exit_code == 0
    assert out.read_text() == whole.read_text()
    assert not list(tmp_path.glob("*.errors.csv"))


def test_the_part_of_another_model_is_not_taken(things, small_archive, tmp_path) -> None:
    from potnet.sheet.journal import Journal

    part = tmp_path / "out.csv.part"
    part.write_text('{"models": "others"}\n{"task": "x", "outcomes": []}\n')
    with Journal(part, "mine") as journal:
        assert journal.n_read == 0
    part.write_text("my own file\n")
    result = predict(things["salt"], "-m", small_archive, "-o", tmp_path / "out.csv")
    assert result == 1
    assert part.read_text() == "my own file\n"


def test_a_log_gets_lines_of_progress_now_and_again(monkeypatch, capsys) -> None:
    from potnet.cli import terminal

    monkeypatch.setattr(terminal, "FIRST_LINE", -1.0)
    monkeypatch.setattr(terminal, "NEXT_LINE", 1e9)
    with terminal.show_progress("Reading") as progress:
        assert list(terminal.counted(range(5), progress)) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == "Reading: 1\n"


def test_what_is_left_is_told_from_what_was_done_here(monkeypatch, capsys) -> None:
    from potnet.cli import terminal
    from potnet.training import Progress

    clock = [0.0]
    # Not the module's own: a server in another thread would wait by this clock, for hours.
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(terminal, "FIRST_LINE", 0.0)
    monkeypatch.setattr(terminal, "NEXT_LINE", 0.0)

    def lines_of(epochs) -> list[str]:
        for epoch in epochs:
            clock[0] += 2.0
            report(Progress("training", epoch, 7_205))
        return capsys.readouterr().err.splitlines()

    with terminal.training_progress() as report:
        # The first two epochs were done before, and the first of these in an unknown time.
        *_, last = lines_of([3, 4, 5])
        assert last == "Training 1: 5 of 7,205, 0.5 a second, 4 h 00 min left"
        clock[0] += 9_000.0
        first, second = lines_of([1, 2])  # of the next fold
        assert first == "Training 1: 1 of 7,205"
        assert second == "Training 1: 2 of 7,205, 0.5 a second, 4 h 00 min left"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess:
    python = f"{sys.executable} -c 'from potnet.cli import app; app()'"
    return subprocess.run(
        ["bash", "-c", line.replace("potnet", python)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


@pytest.mark.skipif(os.name != "posix", reason="a shell's pipes")
def test_closed_and_full_outputs_are_told() -> None:
    for line in ("potnet models | head -1", "potnet --help >&-", "potnet models 2>&- | tail -1"):
        done = shell(line)
        assert "Traceback" not in done.stderr + done.stdout, line
        assert "Exception ignored" not in done.stderr, line
    if os.path.exists("/dev/full"):
        full = shell("potnet models > /dev/full")
        assert full.returncode == 1
        assert full.stderr == "potnet: No space left on device\n"
