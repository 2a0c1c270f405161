"""What a prediction by a cluster of Ray costs, on this machine: rate, memory, what workers add.

    python benchmarks/cluster.py make DATA FOLDER --crystals 1000000
    python benchmarks/cluster.py run FOLDER OUTPUT      # may be killed; the same command goes on
    python benchmarks/cluster.py workers FOLDER         # one worker against two
    python benchmarks/cluster.py head                   # how many tasks a second the head gives out

``make`` strains the crystals of DATA (such as matbench:perovskites) at random, by up to 3 %, until
there are enough, and writes Parquet files of 8,192. Each part writes its place in
``benchmarks/results/cluster.json``. Processor time is that of the workers, and so the least
disturbed by other programs; what the load was is noted beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

RESULT = Path(__file__).parent / "results" / "cluster.json"
MODEL = "mp-band-gap"
SHARD = 8192
FEW = 2048  # crystals of a file that workers are compared on
STRAIN = 0.03


def noted(part: str, found: dict[str, Any]) -> None:
    """Write what a part has found beside what others have."""
    results = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
    machine = {
        "potnet": version("potnet"),
        "ray": version("ray"),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
    results[part] = found | machine
    RESULT.write_text(json.dumps(results, indent=1) + "\n")
    print(part, {key: value for key, value in found.items() if key != "samples"}, flush=True)


def strained(data: str, n: int) -> Iterator[dict[str, Any]]:
    """Yield ``n`` rows of a table: the crystals of ``data``, again and again, strained."""
    import potnet.data

    crystals = potnet.data.open(data, on_error="skip").crystals
    rng = np.random.default_rng(0)
    for k, crystal in zip(range(n), itertools.cycle(crystals)):
        strain = rng.uniform(-STRAIN, STRAIN, (3, 3))
        change = np.eye(3) + (strain + strain.T) / 2
        yield {
            "id": f"{crystal.id}-{k // len(crystals)}",
            "numbers": crystal.numbers.tolist(),
            "positions": (crystal.positions @ change).tolist(),
            "cell": (crystal.cell @ change).tolist(),
        }


def make(options: argparse.Namespace) -> None:
    """Write the input."""
    import pyarrow as pa
    from pyarrow import parquet

    options.folder.mkdir(parents=True, exist_ok=True)
    rows = strained(options.data, options.crystals)
    for number in itertools.count():
        shard = list(itertools.islice(rows, SHARD))
        if not shard:
            return
        path = options.folder / f"{number:06}.parquet"
        parquet.write_table(pa.Table.from_pylist(shard), path, row_group_size=1024)


def run(options: argparse.Namespace) -> None:
    """Predict all, and note after each file how far it is, at which rate and in which memory."""
    from potnet.cluster import Progress, predict
    from potnet.cluster.shard import peak_memory

    start, samples = time.monotonic(), []

    def sample(now: Progress) -> None:
        seconds = time.monotonic() - start
        samples.append(
            {
                "crystals": now.crystals,
                "seconds": seconds,
                "cpu_s": now.cpu,
                "workers_mb": now.memory,
                "driver_mb": peak_memory(),
            }
        )
        every = max(1, len(samples) // 8)
        n_bytes = sum(path.stat().st_size for path in options.output.glob("*.parquet"))
        found = {
            "model": MODEL,
            "workers": options.workers,
            "shards": now.shards,
            "of_shards": now.total,
            "crystals": now.crystals,
            "cpu_ms_a_crystal": 1000 * now.cpu / now.crystals,
            "crystals_a_second": now.crystals / seconds,
            "table_bytes_a_crystal": n_bytes / (SHARD * now.shards),
            "samples": samples[::every] + samples[-1:],
            "note": options.note,
        }
        noted("run", found)

    places = str(options.folder), options.output
    predict(*places, models=[MODEL], cluster="local", workers=options.workers, progress=sample)


def workers(options: argparse.Namespace) -> None:
    """Compare one worker with two, over the same eight files."""
    import pyarrow as pa
    from pyarrow import parquet

    from potnet.cluster import predict

    table = parquet.read_table(sorted(options.folder.glob("*.parquet"))[0])
    found: dict[str, Any] = {"crystals": 8 * FEW, "model": MODEL}
    with tempfile.TemporaryDirectory() as scratch:
        few = Path(scratch, "in")
        few.mkdir()
        for k in range(8):
            rows = pa.Table.from_pylist(table.slice(k * FEW % len(table), FEW).to_pylist())
            parquet.write_table(rows, few / f"{k}.parquet")
        for n in (1, 2):
            output = Path(scratch, f"out{n}")
            done = predict(str(few), output, models=[MODEL], cluster="local", workers=n)
            texts = [path.read_bytes() for path in sorted(output.glob("*.parquet"))]
            found[f"{n} workers"] = {
                "cpu_s": done.cpu,
                "seconds": done.seconds,
                "sha256": hashlib.sha256(b"".join(texts)).hexdigest(),
            }
    one, two = found["1 workers"], found["2 workers"]
    found["cpu_of_one_by_two"] = one["cpu_s"] / two["cpu_s"]
    found["seconds_of_one_by_two"] = one["seconds"] / two["seconds"]
    noted("workers", found)


class _Nothing:
    """A worker whose shards take no time."""

    def load(self) -> None:
        pass

    def predict(self, *_: Any) -> Any:
        from potnet.cluster.shard import Done

        return Done(0, 0, 0.0, 0.0, 0.0, ())


def head(options: argparse.Namespace) -> None:
    """Measure what giving out a shard costs, and starting a worker."""
    import ray

    from potnet.cluster.addresses import Source
    from potnet.cluster.crew import Crew
    from potnet.cluster.predict import connected
    from potnet.cluster.shard import peak_memory

    with connected("local"):
        actor = ray.remote(num_cpus=0)(_Nothing)
        start = time.monotonic()
        crew = Crew(actor.remote, 4, 4, lambda: 4)
        sources = [Source(f"{k}.parquet", f"{k}", 0.0) for k in range(options.shards)]
        before, used, born = peak_memory(), time.process_time(), 0.0
        for k, _ in enumerate(crew.results(sources)):
            born = born or time.monotonic()
            if k == options.shards // 10:
                since, used = time.monotonic(), time.process_time()
        seconds, cpu = time.monotonic() - since, time.process_time() - used
        crew.close()
    n = options.shards - options.shards // 10
    noted(
        "head",
        {
            "shards": options.shards,
            "shards_a_second": n / seconds,
            "driver_cpu_ms_a_shard": 1000 * cpu / n,
            "driver_mb_for_shards": peak_memory() - before,
            "seconds_until_the_first": born - start,
        },
    )


def main() -> None:
    """Do what is asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = parser.add_subparsers(required=True)
    part = parts.add_parser("make")
    part.add_argument("data")
    part.add_argument("folder", type=Path)
    part.add_argument("--crystals", type=int, default=1_000_000)
    part.set_defaults(does=make)
    part = parts.add_parser("run")
    part.add_argument("folder", type=Path)
    part.add_argument("output", type=Path)
    part.add_argument("--workers", type=int, default=2)
    part.add_argument("--note", default="")
    part.set_defaults(does=run)
    part = parts.add_parser("workers")
    part.add_argument("folder", type=Path)
    part.set_defaults(does=workers)
    part = parts.add_parser("head")
    part.add_argument("--shards", type=int, default=5000)
    part.set_defaults(does=head)
    options = parser.parse_args()
    options.does(options)


if __name__ == "__main__":
    main()
