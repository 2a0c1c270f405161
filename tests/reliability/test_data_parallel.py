"""Training in two processes: the numbers of one, and an end when one of them ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_network import (  # noqa: F401  (a fixture)
    TinyFeatures,
    made_up_dataset,
    made_up_folder,
    registered,
)

from potnet.errors import ConfigError
from potnet.training import TrainingConfig, train
from potnet.training.batches import StreamedFeatures
from potnet.training.features import survey

sys.path.insert(0, str(Path(__file__).parent))

from test_kill_and_resume import ENVIRONMENT, rows
from train_tiny import CONFIG

SCRIPT = Path(__file__).parent / "train_tiny.py"
LIMIT = 120  # seconds after which a run whose process was killed must have ended
# Batches of 10 and 9 crystals, so that two processes share some unevenly; and an early end.
UNEVEN = {"batch_size": 11, "patience": 2, "epochs": 30}


def pair(folder: Path, store: Path, *options: str) -> subprocess.CompletedProcess:
    """Train in two processes of torchrun, from a Parquet folder, or go on with it."""
    module = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = ["--devices=2", f"--store={store}", *options, "--set"]
    words += [f"{name}={value}" for name, value in UNEVEN.items()]
    command = [sys.executable, *module, str(SCRIPT), str(folder), *words]
    return subprocess.run(command, env=ENVIRONMENT, timeout=280, capture_output=True, text=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "store"
    made_up_folder(path)
    return path


@pytest.fixture(scope="module")
def whole_pair(store, tmp_path_factory) -> Path:
    """The folder of a run of two processes that nobody disturbed."""
    folder = tmp_path_factory.mktemp("pair") / "run"
    done = pair(folder, store)
    assert done.returncode == 0, done.stderr
    return folder


def test_two_processes_share_uneven_batches_and_stop_early_like_one(whole_pair, tmp_path) -> None:
    settings = {"network_settings": {"plain": True, "width": 8}, "members": 1}
    config = TrainingConfig(**CONFIG | UNEVEN | settings)
    train(made_up_dataset(), config, tmp_path / "one")
    one, two = (rows(folder / "metrics.csv") for folder in (tmp_path / "one", whole_pair))
    assert len(one) == len(two) < UNEVEN["epochs"]
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=3e-5)


def test_a_killed_process_ends_the_run_and_resuming_gives_the_same_bits(
    whole_pair, store, tmp_path
) -> None:
    folder, start = tmp_path / "run", time.monotonic()
    done = pair(folder, store, "--die-at=16")  # the second process, in its third epoch
    assert done.returncode != 0
    assert time.monotonic() - start < LIMIT + 60  # with the start of both
    assert "all 2 processes must live until training ends" in done.stderr
    assert 1 <= len(rows(folder / "metrics.csv")) < 4
    done = pair(folder, store)
    assert done.returncode == 0, done.stderr
    for name in ("metrics.csv", "predictions.csv", "model/model.safetensors"):
        assert (folder / name).read_bytes() == (whole_pair / name).read_bytes()


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the second process in /proc")
def test_the_command_starts_its_processes_and_tells_in_a_sentence_that_one_has_ended(
    salts, tmp_path
) -> None:
    from potnet import write

    write(salts, tmp_path / "in.extxyz")
    lines = ["id,structure,gap", *(f"{c.id},{c.id}.cif,{k}" for k, c in enumerate(salts))]
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    for crystal in salts:
        write(crystal, tmp_path / f"{crystal.id}.cif")
    program = Path(sys.executable).with_name("potnet")
    out = tmp_path / "run"
    words = ["train", str(tmp_path / "table.csv"), "-t", "gap", "-o", str(out), "--devices", "2"]
    words += ["--device", "cpu", "--members", "1", "--set", "network_settings={width: 8}"]
    words += ["--set", "checkpoint_seconds=0"]
    long = [str(program), *words, "--epochs", "100000"]
    with subprocess.Popen(long, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        metrics = out / "metrics.csv"
        while not metrics.exists() or len(metrics.read_text().splitlines()) < 3:
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert errors.strip().splitlines()[-1].startswith(f"potnet: {out}: all 2 processes must live")
    assert "--resume" in errors
    now = [str(program), *words, "--epochs", "100000", "--resume", "--export-now"]
    done = subprocess.run(now, env=ENVIRONMENT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Model:") == 1


def test_each_process_reads_its_own_stretch_of_the_data() -> None:
    dataset, seen = made_up_dataset(400), []

    features, targets = TinyFeatures(), dataset.targets["size"][:, None]
    found = survey(features, dataset.crystals)

    def compute(rows):
        seen.extend(rows.tolist())
        return features([dataset.crystals[k] for k in rows])

    loader = StreamedFeatures(compute, found, targets, torch.device("cpu"), 2**18)
    groups = np.array_split(np.random.default_rng(0).permutation(400), 5)
    shares, n_labels = [], []
    for rank in range(4):
        seen.clear()
        minibatches = list(loader.minibatches(groups, rank=rank, world_size=4))
        shares.append(set(seen))
        n_labels += [minibatch.n_labels for minibatch in minibatches]
        assert len(seen) == 100  # as many for each
        # By chance alone three of four would be of others.
        assert np.mean(np.array(seen) // 100 != rank) < 0.4
    assert set().union(*shares) == set(range(400))
    assert sum(map(len, shares)) == 400
    assert n_labels == [20.0] * 20  # of 80 crystals, by 4


def test_a_step_without_a_crystal_for_each_process_is_refused() -> None:
    from types import SimpleNamespace

    from potnet.training.loop import _require_crystals_for_all

    fabric = SimpleNamespace(world_size=4)
    _require_crystals_for_all(fabric, TrainingConfig(batch_size=4), 8)
    with pytest.raises(ConfigError, match="got 5 training crystals in 2 steps"):
        _require_crystals_for_all(fabric, TrainingConfig(batch_size=4), 5)
