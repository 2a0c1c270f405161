"""A dataset whose writer is killed at any moment has a prefix of what was written, and goes on."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from potnet.data import ParquetFolder
from potnet.errors import DataError

sys.path.insert(0, str(Path(__file__).parent))

from fill_folder import N_RECORDS, record

SCRIPT = Path(__file__).parent / "fill_folder.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def finish(*arguments: object) -> None:
    process = start(*arguments)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def assert_prefix(folder: Path) -> int:
    """Check that a folder has the first records, sound and in order; return how many."""
    if not ParquetFolder.exists(folder):
        return 0
    kept = ParquetFolder(folder)
    assert kept.verify() == []
    assert kept.ids == [f"id-{k}" for k in range(len(kept))]
    for k in range(len(kept)):
        assert kept[k].targets == {"energy": float(k)}
        assert kept[k].crystal.positions.tolist() == record(k).crystal.positions.tolist()
    return len(kept)


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("table") / "table.jsonl"
    records = (
        {**record(k).crystal.as_dict(), "id": f"id-{k}", "targets": {"energy": float(k)}}
        for k in range(N_RECORDS)
    )
    path.write_text("\n".join(map(json.dumps, records)))
    return path


@pytest.fixture(scope="module", params=["build", "append"])
def undisturbed(request, tmp_path_factory, table) -> tuple[list, dict[str, bytes]]:
    """What to run, and the files of a folder whose writer nobody killed."""
    folder = tmp_path_factory.mktemp(request.param) / "s"
    finish(request.param, folder, table)
    assert assert_prefix(folder) == N_RECORDS
    return [request.param], shards(folder)


def test_a_writer_killed_while_it_writes_goes_on_to_the_same_bytes(undisturbed, tmp_path, table):
    what, expected = undisturbed
    folder = tmp_path / "s"
    moments = random.Random(7)
    died = had = 0
    for _ in range(4):
        process = start(*what, folder, table, "--die-at", moments.randint(2, 18))
        _, errors = process.communicate(timeout=120)
        assert process.returncode in (0, -signal.SIGKILL), errors
        died += process.returncode == -signal.SIGKILL
        has = assert_prefix(folder)
        assert has >= had
        had = has
    assert died >= 3
    finish(*what, folder, table)
    assert shards(folder) == expected
    assert not list(folder.glob(".*.tmp"))


def test_a_build_by_two_processes_killed_from_outside_goes_on(tmp_path, table):
    folder = tmp_path / "s"
    process = start("build", folder, table, "--workers", 2)
    deadline = time.monotonic() + 120
    while not shards(folder):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert assert_prefix(folder) > 0
    finish("build", folder, table)
    assert assert_prefix(folder) == N_RECORDS


def test_two_processes_do_not_write_at_once(tmp_path):
    ParquetFolder.create(tmp_path / "s")
    code = (
        "import sys, time; from potnet.data import parquet_folder as p\n"
        "with p.Writer(p.ParquetFolder(sys.argv[1])): print('in', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "s")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "in\n"
        with pytest.raises(DataError, match="only one process may write into a folder"):
            ParquetFolder(tmp_path / "s").append([record(0)])
        first.kill()
    ParquetFolder(tmp_path / "s").append([record(0)])  # the right to write dies with its holder
    assert len(ParquetFolder(tmp_path / "s")) == 1
