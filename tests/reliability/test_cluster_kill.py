"""A cluster of Ray whose workers, machines and driver are killed: nothing lost, nothing twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from potnet import write
from potnet.crystal import Crystal

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'potnet[cluster]'")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.name != "posix", reason="kills by SIGKILL"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]

POTNET = [sys.executable, "-c", "from potnet.cli import app; app()"]
SHARDS = 12
STORE = 80 * 2**20  # bytes of each machine's object store
QUIET = {"address": "local", "object_store_memory": STORE, "include_dashboard": False}
QUIET |= {"logging_level": "error", "log_to_driver": False}


@pytest.fixture
def inputs(tmp_path) -> Path:
    """Files that take a worker a second or so each, one of them with a crystal that is none."""
    folder, rng = tmp_path / "in", np.random.default_rng(0)
    folder.mkdir()
    for k in range(SHARDS):
        crystals = []
        for n in range(24):
            grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3) * 2.8
            numbers = rng.choice([3, 11, 9, 17], len(grid))
            positions = grid + rng.uniform(-0.2, 0.2, grid.shape)
            crystals.append(Crystal(numbers, positions, np.eye(3) * 8.4, id=f"c{k}-{n}"))
        write(crystals, folder / f"part-{k:02}.extxyz")
    path = folder / "part-05.extxyz"
    path.write_text(path.read_text().replace("Lattice=", "Latice=", 1))
    return folder


def one_process(inputs: Path, archive: Path, folder: Path) -> dict[str, bytes]:
    """Return the tables that one process makes, one file after the other."""
    folder.mkdir()
    for path in sorted(inputs.iterdir()):
        table = folder / f"{path.name}.parquet"
        words = ["predict", str(path), "-m", str(archive), "--workers", "1", "-o", str(table)]
        assert subprocess.run([*POTNET, *words], capture_output=True).returncode in (0, 3)
    return tables(folder)


def tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[a-z]*.parquet")}


def wait_for(
    condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 600
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.fixture
def cluster() -> Iterator:
    """A head and two machines with a core each."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
    for attempt in range(3):
        found = Cluster()
        try:
            for arguments in (head, {"num_cpus": 1}, {"num_cpus": 1}):
                found.add_node(**{"object_store_memory": STORE, **arguments})
            break
        # Ray gives a machine 30 s to start, however busy this one is, and raises a bare exception.
        except Exception:  # noqa: BLE001
            found.shutdown()
            if attempt == 2:
                raise
    yield found
    found.shutdown()


def workers_of(node) -> list[int]:
    """Return the processes on a machine that predict."""
    raylet = node.all_processes["raylet"][0].process.pid
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            title = (path / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if parent == raylet and b"ShardWorker" in title:
            found.append(int(path.name))
    return found


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds workers in /proc")
def test_workers_machines_and_the_driver_are_killed_and_nothing_is_lost(
    inputs, small_archive, tmp_path, cluster
) -> None:
    out = tmp_path / "out"
    words = ["predict", str(inputs), "-m", str(small_archive), "-o", str(out)]
    command = [*POTNET, *words, "--cluster", cluster.address]

    def start() -> subprocess.Popen:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def done(n: int) -> Callable[[], bool]:
        return lambda: len(tables(out)) >= n

    with start() as driver:
        wait_for(done(1), driver)
        first, second = sorted(cluster.worker_nodes, key=lambda node: node.node_id)
        wait_for(lambda: bool(workers_of(first) or workers_of(second)), driver)
        for pid in [*workers_of(first), *workers_of(second)][:1]:
            os.kill(pid, signal.SIGKILL)
        wait_for(done(3), driver)
        cluster.remove_node(second, allow_graceful=False)
        wait_for(done(5), driver)
        driver.kill()
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("[a-z]*.parquet")}
    assert 5 <= len(before) < SHARDS
    cluster.add_node(num_cpus=1, object_store_memory=STORE)
    with start() as driver:
        said, errors = driver.communicate(timeout=900)
    assert driver.returncode == 3 or "part-05.extxyz.parquet" in before, errors
    assert f"{SHARDS} tables" in said, said + errors
    assert tables(out) == one_process(inputs, small_archive, tmp_path / "one")
    for name, when in before.items():
        assert (out / name).stat().st_mtime_ns == when  # what was done was not done again
    listed = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    others = {"_potnet.json", "_lock", "_errors/part-05.extxyz.csv"}
    assert listed == others | {f"part-{k:02}.extxyz.parquet" for k in range(SHARDS)}


def test_a_shard_that_kills_its_workers_is_done_with_care_or_named() -> None:
    from potnet.cluster.addresses import Source
    from potnet.cluster.crew import Crew

    ray.init(num_cpus=2, **QUIET)

    class Deadly:
        def load(self) -> None:
            pass

        def predict(self, address: str, name: str, careful: bool) -> tuple:
            if name == "deadly" and not careful:
                os.kill(os.getpid(), signal.SIGKILL)
            if name == "deadliest":
                os.kill(os.getpid(), signal.SIGKILL)
            if name == "absent":
                raise FileNotFoundError(address)
            from potnet.cluster.shard import Done

            return Done(1, int(careful), 0.1, 0.1, 1.0, ())

    actor = ray.remote(num_cpus=0.2)(Deadly)
    crew = Crew(actor.remote, 1, 3, lambda: 3)
    names = ["a", "deadly", "b", "deadliest", "absent", "c"]
    try:
        found = {s.name: what for s, what in crew.results(Source(n, n, 0.0) for n in names)}
    finally:
        crew.close()
        ray.shutdown()
    assert {n: found[n].n_failures for n in ("a", "b", "c", "deadly")} == {
        "a": 0,
        "b": 0,
        "c": 0,
        "deadly": 1,  # done with care
    }
    assert "workers that died" in found["deadliest"].reason
    assert "files that cannot be reached" in found["absent"].reason
    assert found.keys() == set(names)


def test_a_dataset_of_ray_is_mapped_by_the_predictor(salts, small_archive, tmp_path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    from potnet.cluster import Predictor
    from potnet.sheet import make_sheet

    rows = [
        {"id": c.id, "numbers": c.numbers.tolist(), "positions": c.positions.tolist()}
        | {"cell": c.cell.tolist()}
        for c in salts
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    ray.init(num_cpus=2, **QUIET)
    try:
        found = (
            ray.data.read_parquet(str(tmp_path / "x.parquet"))
            .map_batches(
                Predictor,
                fn_constructor_kwargs={"models": [str(small_archive)]},
                batch_size=64,  # the salts in one, as below: digits depend on who is together
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=1),
            )
            .take_all()
        )
    finally:
        ray.shutdown()
    expected = [row.record() for row in make_sheet(salts, models=[str(small_archive)])]
    key = lambda row: (row["id"], row["property"])  # noqa: E731
    found = [{k: v for k, v in row.items() if k != "failure"} for row in found]
    assert sorted(found, key=key) == sorted(expected, key=key)
