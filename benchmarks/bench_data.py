"""Datasets at scale: containers compared, building, a million crystals, an epoch, rivals.

Each part runs in processes of its own, so that peaks of memory are its own, and replaces its
entry in the results. Times are processor seconds unless they are called wall time.

    python benchmarks/bench_data.py PART... [--data FOLDER] [--output results/data.json]

Parts: formats (needs pyarrow, lmdb, h5py in --formats-python), build, million, epoch, rivals
(needs --alignn-python and --matgl-python). ``epoch`` of QMOF takes long: --share.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

HERE = Path(__file__).parent
JARVIS = "jarvis_dft3d_2021_oxides_nitrides"
LARGE = {"qmof": "qmof_20k", "mp2018": "mp2018_megnet_subset"}
MILLION = 1_000_000


def run(part: str, *arguments: object, python: str = sys.executable) -> dict:
    """Return what a part, run in a process of its own, prints as JSON."""
    command = [python, str(Path(__file__).resolve()), "--inside", part, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{part} {arguments}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def used() -> dict:
    """Return processor time, the children's too, and the peak of memory of this process."""
    mine, children = (
        resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    seconds = sum(u.ru_utime + u.ru_stime for u in (mine, children))
    return {"cpu_s": round(seconds, 1), "peak_mb": round(mine.ru_maxrss / 1024)}


def resident_mb() -> float:
    """Return the memory that this process holds now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def random_access_us(get, n: int, n_reads: int = 2000, repeats: int = 5) -> float:
    """Return the least processor time of reading one of ``n`` entries in random order, in µs."""
    import random

    places = random.Random(0).choices(range(n), k=n_reads)
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        for place in places:
            get(place)
        best = min(best, (time.process_time() - start) / n_reads * 1e6)
    return round(best, 1)


# ------------------------------------------------------------------------------------- parts


def build(table: str, output: str, workers: str) -> dict:
    from potnet.data import build as build_folder

    wall = time.monotonic()
    folder = build_folder(table, output, workers=int(workers))
    wall = time.monotonic() - wall
    n_bytes = size_of(Path(output))
    return {
        "crystals": len(folder),
        "failures": len(folder.failures),
        "wall_s": round(wall, 1),
        "per_wall_s": round(len(folder) / wall),
        **used(),
        "mb": round(n_bytes / 1e6, 1),
        "bytes_per_crystal": round(n_bytes / len(folder)),
    }


def read(output: str) -> dict:
    """Return what it takes to verify a folder and to read crystals of it."""
    from potnet.data import ParquetFolder, open

    folder = ParquetFolder(output)
    start = time.process_time()
    faults = folder.verify()
    verified = time.process_time() - start
    access = random_access_us(folder.crystal, len(folder))
    start = time.process_time()
    dataset = open(output)
    opened = time.process_time() - start
    for k in range(len(dataset)):
        dataset.crystals[k]
    return {
        "faults": len(faults),
        "verify_s": round(verified, 2),
        "random_access_us": access,
        "open_s": round(opened, 2),
        **used(),
    }


def million(output: str) -> dict:
    """Write a million made-up crystals, look at memory on the way, and read some back."""
    import numpy as np

    from potnet.crystal import Crystal
    from potnet.data import ParquetFolder, Record, parquet_folder

    # Distinct ids and numbers around a few thousand checked crystals: what is measured is the
    # writing, not the checks of a crystal.
    rng = np.random.default_rng(0)
    kinds = []
    for k in range(2000):
        n = int(rng.integers(1, 20))
        grid = np.stack(np.unravel_index(rng.permutation(27)[:n], (3, 3, 3)), axis=1)
        kinds.append(
            Crystal(
                rng.integers(1, 90, n),
                3.0 * grid + 0.1 * rng.random((n, 3)),
                np.diag([9.0, 9.0, 9.0 + 1e-3 * k]),
            )
        )
    kept = ParquetFolder.create(output)
    start, memory = time.monotonic(), []
    for begin in range(0, MILLION, parquet_folder.SHARD_RECORDS * 12):
        stop = min(begin + parquet_folder.SHARD_RECORDS * 12, MILLION)
        kept.append(
            Record(
                f"made-up-{k}",
                kinds[k % 2000].replace(id=f"made-up-{k}"),
                {"energy": 0.001 * k},
                units={"energy": "eV"},
            )
            for k in range(begin, stop)
        )
        memory.append([stop, round(resident_mb())])
    wall = time.monotonic() - start
    wrote = used()
    access = random_access_us(kept.crystal, MILLION)
    return {
        "crystals": len(kept),
        "wall_s": round(wall),
        "written": wrote,
        "memory_mb": memory,
        "gb": round(size_of(Path(output)) / 1e9, 3),
        "bytes_per_crystal": round(size_of(Path(output)) / MILLION),
        "random_access_us": access,
        "peak_mb": used()["peak_mb"],
    }


def features(table: str) -> dict:
    """Return what the sums of all crystals of a table take, as they are computed in training."""
    from potnet.data import open
    from potnet.features.complete import CompleteFeatures

    dataset = open(table)
    compute = CompleteFeatures()
    compute(dataset.crystals[:4])  # compiles
    start = time.process_time()
    batch = compute(dataset.crystals)
    seconds = time.process_time() - start
    n_bytes = sum(t.numel() * t.element_size() for t in batch.to_tensors().values())
    return {"seconds": round(seconds, 2), "bytes": n_bytes}


def epoch(stored: str, output: str, share: str, settings: str) -> dict:
    """Train one epoch on the first ``share`` of a folder and look at memory on the way."""
    import logging

    from potnet.data import open
    from potnet.training import TrainingConfig, train

    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    dataset = open(stored)
    n = int(float(share) * len(dataset))
    dataset = dataset.subset(range(n))
    memory: list[list] = []
    start = time.monotonic()

    def look(progress) -> None:
        memory.append(
            [progress.stage, progress.done, round(time.monotonic() - start), round(resident_mb())]
        )

    config = TrainingConfig(
        epochs=1,
        split={"kind": "random", "train": 0.9, "val": 0.05, "test": 0.05},
        targets=tuple(dataset.targets)[:1],
        **json.loads(settings),
    )
    result = train(dataset, config, output, progress=look, on_error="skip")
    step = max(1, len(memory) // 40)
    return {
        "crystals": n,
        "of": len(open(stored)),
        "settings": json.loads(settings),
        "wall_s": round(time.monotonic() - start),
        **used(),
        "failures": len(result.failures),
        "memory_mb": memory[::step],
    }


PARTS = {f.__name__: f for f in (build, read, million, features, epoch)}


# -------------------------------------------------------------------------------- putting together


def bench_build(options, scratch: Path) -> dict:
    found = {}
    for name, table in (("jarvis", JARVIS), *LARGE.items()):
        source = options.data / f"{table}.jsonl.gz"
        one = run("build", source, scratch / name, 1)
        found[name] = {"one_process": one, "read": run("read", scratch / name)}
        if name == "qmof":
            found[name]["two_processes"] = run("build", source, scratch / f"{name}-two", 2)
    return found


def bench_million(options, scratch: Path) -> dict:
    return run("million", scratch / "million")


def bench_epoch(options, scratch: Path) -> dict:
    found = {}
    for name, table in LARGE.items():
        run("build", options.data / f"{table}.jsonl.gz", scratch / name, 1)
        found[name] = run(
            "epoch", scratch / name, scratch / f"{name}-run", options.share, options.settings
        )
    return found


def bench_rivals(options, scratch: Path) -> dict:
    table = scratch / "thousand.jsonl"
    with gzip.open(options.data / f"{JARVIS}.jsonl.gz", "rt", encoding="utf-8") as file:
        table.write_text("".join(islice(file, 1000)), encoding="utf-8")
    found: dict = {"crystals": 1000}
    ours = run("build", table, scratch / "store", 1)
    found["potnet"] = {
        "store": {"seconds": ours["cpu_s"], "bytes": size_of(scratch / "store")},
        "sums": run("features", table),
    }
    for name in ("alignn", "matgl"):
        python = getattr(options, f"{name}_python")
        if python:
            folder = scratch / name
            folder.mkdir()
            script = HERE / "rivals" / f"prepare_{name}.py"
            command = [python, str(script), str(table), str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name] = json.loads(done.stdout.splitlines()[-1])
    return found


def bench_formats(options, scratch: Path) -> dict:
    found: dict = {"crystals": 4096}
    for name, table in (("jarvis", JARVIS), ("qmof", LARGE["qmof"])):
        source = options.data / f"{table}.jsonl.gz"
        command = [options.formats_python or sys.executable, str(HERE / "data_formats.py")]
        command += [str(source), str(scratch)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout)
    return found


BENCHES = {
    "formats": bench_formats,
    "build": bench_build,
    "million": bench_million,
    "epoch": bench_epoch,
    "rivals": bench_rivals,
}


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        print(json.dumps(PARTS[sys.argv[2]](*sys.argv[3:])))
        return
    import potnet
    from potnet.files import atomic_write

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=sorted(BENCHES))
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "data.json")
    parser.add_argument("--share", type=float, default=1.0, help="of the crystals, in epoch")
    parser.add_argument("--settings", default='{"device": "cpu"}', help="of epoch, as JSON")
    for name in ("alignn", "matgl", "formats"):
        parser.add_argument(f"--{name}-python", default="")
    options = parser.parse_args()
    for part in options.parts:
        with tempfile.TemporaryDirectory() as scratch:
            found = BENCHES[part](options, Path(scratch))
        results = json.loads(options.output.read_text("utf-8")) if options.output.exists() else {}
        machine = {"cores": os.cpu_count(), "machine": platform.machine()}
        results |= {"potnet": potnet.__version__, "machine": machine, part: found}
        with atomic_write(options.output) as file:
            json.dump(results, file, indent=1)
        print(json.dumps({part: found}, indent=1))


if __name__ == "__main__":
    main()
