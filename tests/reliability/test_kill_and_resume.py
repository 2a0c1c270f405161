"""A run killed at any moment ends with the numbers of one that was never killed."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_network import made_up_dataset, made_up_folder, registered  # noqa: F401  (a fixture)

from potnet.errors import ConfigError, DataError
from potnet.training import TrainingConfig, train
from potnet.training.optimizer import SHORTEST_SIDE

sys.path.insert(0, str(Path(__file__).parent))

from train_tiny import CONFIG, STREAMED

SCRIPT = Path(__file__).parent / "train_tiny.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}


def start(folder: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, str(SCRIPT), str(folder), *options]
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """The folder of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(made_up_dataset(), TrainingConfig(**CONFIG), folder)
    return folder


def test_a_run_killed_while_it_writes_resumes_to_the_same_bits(whole_run, tmp_path):
    folder = tmp_path / "run"
    moments = random.Random(4)
    died = 0
    # A whole run makes about 90 such calls; the first death falls on the first checkpoints.
    for call in (25, *(moments.randint(1, 60) for _ in range(3))):
        process = start(folder, "--die-at", str(call))
        _, errors = process.communicate(timeout=120)
        assert process.returncode in (0, -signal.SIGKILL), errors
        died += process.returncode == -signal.SIGKILL
    assert died >= 2
    train(made_up_dataset(), TrainingConfig(**CONFIG), folder, resume=True)
    assert contents(folder) == contents(whole_run)


def test_a_run_killed_from_outside_resumes_to_the_same_bits(whole_run, tmp_path):
    folder = tmp_path / "run"
    process = start(folder)
    metrics = folder / "metrics.csv"
    deadline = time.monotonic() + 120
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 4:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    process.kill()
    process.communicate()
    train(made_up_dataset(), TrainingConfig(**CONFIG), folder, resume=True)
    assert contents(folder) == contents(whole_run)


def test_a_streamed_run_killed_within_an_epoch_resumes_to_the_same_bits(tmp_path):
    dataset = made_up_folder(tmp_path / "store")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    # One call learns the sizes, three train in an epoch and one validates: this is in the fourth.
    process = start(killed, "--store", str(tmp_path / "store"), "--die-at", "15")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors
    assert len(rows(killed / "metrics.csv")) == 3
    for folder in (killed, whole):
        train(dataset, TrainingConfig(**STREAMED), folder, resume=True)
    assert json.loads((whole / "run.json").read_text())["features"] == "streamed"
    assert contents(killed) == contents(whole)


def test_a_truncated_checkpoint_falls_back_to_the_one_before(whole_run, tmp_path, caplog):
    folder = tmp_path / "run"
    stop_after(folder, epochs=5)
    checkpoints = sorted((folder / "checkpoints").iterdir(), key=lambda p: p.stat().st_mtime_ns)
    newest = checkpoints[-1]
    newest.write_bytes(newest.read_bytes()[:-40])
    train(made_up_dataset(), TrainingConfig(**CONFIG), folder, resume=True)
    assert "must be a whole checkpoint" in caplog.text
    assert "Continuing from the checkpoint before it" in caplog.text
    assert contents(folder) == contents(whole_run)


def test_changed_bytes_in_all_checkpoints_are_refused(tmp_path):
    folder = tmp_path / "run"
    stop_after(folder, epochs=3)
    for path in (folder / "checkpoints").iterdir():
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
    with pytest.raises(DataError, match="must be a whole checkpoint, got changed bytes"):
        train(made_up_dataset(), TrainingConfig(**CONFIG), folder, resume=True)


def test_other_settings_or_data_do_not_continue_a_run(tmp_path):
    folder = tmp_path / "run"
    stop_after(folder, epochs=2)
    with pytest.raises(ConfigError, match=r"settings must not change.*epochs: 8, 7"):
        train(made_up_dataset(), TrainingConfig(**{**CONFIG, "epochs": 7}), folder, resume=True)
    with pytest.raises(DataError, match="must belong to this run"):
        train(made_up_dataset(59), TrainingConfig(**CONFIG), folder, resume=True)


def test_a_folder_with_files_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="output folder must be empty"):
        train(made_up_dataset(), TrainingConfig(**CONFIG), tmp_path)


@pytest.mark.parametrize("width", [8, SHORTEST_SIDE], ids=["adamw", "orthogonal"])
def test_two_processes_give_the_numbers_of_one(tmp_path, width):
    module = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    options = ["--devices=2", f"--width={width}"]
    command = [sys.executable, *module, str(SCRIPT), str(tmp_path / "two"), *options]
    subprocess.run(command, env=ENVIRONMENT, check=True, timeout=120, capture_output=True)
    settings = {"plain": True, "width": width}
    config = {**CONFIG, "network_settings": settings, "members": 1}
    train(made_up_dataset(), TrainingConfig(**config), tmp_path / "one")
    one, two = (rows(tmp_path / name / "metrics.csv") for name in ("one", "two"))
    assert len(one) == CONFIG["epochs"]
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=3e-5)


def rows(path: Path) -> list[list[float]]:
    with open(path, encoding="utf-8") as file:
        return [[float(x) for x in row] for row in list(csv.reader(file))[1:]]


class Stop(Exception):
    pass


def stop_after(folder: Path, *, epochs: int) -> None:
    """Train and break off after some epochs."""

    def stop(progress) -> None:
        if progress.stage == "training" and progress.done == epochs:
            raise Stop

    with pytest.raises(Stop):
        train(made_up_dataset(), TrainingConfig(**CONFIG), folder, progress=stop)
