"""A million crystals through an epoch of training: rate, and memory that does not grow with them.

    python benchmarks/million_epoch.py    # writes benchmarks/results/million_epoch.json

Random crystals of one to three atoms are written to a Parquet folder; the default network passes
over them once, with features on disk. For each number of crystals this happens in a process of its
own, which looks at its memory twice a second: what it has for itself (anonymous), and what it has
of files that are mapped, which the system takes back whenever it needs the room.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from potnet.crystal import Crystal
from potnet.data import ParquetFolder, Record, open
from potnet.files import atomic_write
from potnet.training import Progress, TrainingConfig, train

RESULT = Path(__file__).parent / "results" / "million_epoch.json"
SIZES = (100_000, 1_000_000)
ELEMENTS = (3, 8, 9, 11, 12, 13, 14, 16, 17, 20, 22, 26)
SPLIT = {"kind": "random", "train": 0.98, "val": 0.01, "test": 0.01}
SETTINGS: dict[str, Any] = {"epochs": 1, "batch_size": 1024, "device": "cpu", "split": SPLIT}
SETTINGS |= {"feature_memory": 0, "threads": 1, "members": 1}


def made_up(n: int) -> Iterator[Record]:
    """Yield different crystals with an energy that follows from elements and volume."""
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]])
    pbc = np.ones(3, bool)
    for k in range(n):
        n_atoms = int(rng.integers(1, 4))
        cell = np.diag(rng.uniform(3.5, 5.5, 3))
        positions = (corners[:n_atoms] + rng.uniform(-0.05, 0.05, (n_atoms, 3))) @ cell
        numbers = rng.choice(ELEMENTS, n_atoms)
        # What is measured is training, not the checks of a crystal.
        crystal = Crystal.restored(numbers, positions, cell, pbc, f"made-up-{k}")
        energy = float(numbers.mean() / 10 - 20 * n_atoms / np.linalg.det(cell))
        yield Record(crystal.id, crystal, {"energy": energy}, units={"energy": "eV/atom"})


class Memory(threading.Thread):
    """Looks at the memory of this process until it is told to stop (Linux).

    Attributes:
        seen: Seconds since the beginning, and MB: anonymous, of files.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[tuple[float, int, int]] = []
        self._begun, self._over = time.monotonic(), threading.Event()

    def run(self) -> None:
        """Look twice a second."""
        while not self._over.wait(0.5):
            lines = Path("/proc/self/status").read_text("ascii").splitlines()
            kb = {line.split(":")[0]: int(line.split()[1]) for line in lines if "kB" in line}
            sizes = (round(kb[name] / 1024) for name in ("RssAnon", "RssFile"))
            self.seen.append((time.monotonic() - self._begun, *sizes))

    def peaks(self, start: float, stop: float) -> dict[str, int]:
        """Return the peaks between two times since the beginning."""
        seen = [(own, files) for at, own, files in self.seen if start <= at <= stop]
        own, files = (max((sizes[k] for sizes in seen), default=0) for k in (0, 1))
        return {"own_mb": own, "mapped_mb": files}

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self.join()


def measured(n: int, scratch: Path) -> dict[str, Any]:
    """Write ``n`` crystals, train on them, and return what it took."""
    folder = ParquetFolder.create(scratch / "data")
    start = time.monotonic(), time.process_time()
    folder.append(made_up(n))
    written = time.monotonic() - start[0], time.process_time() - start[1]
    memory = Memory()
    memory.start()
    marks = [("start", time.monotonic(), time.process_time())]

    def note(progress: Progress) -> None:
        if progress.stage == "training" or progress.done == progress.total:
            marks.append((progress.stage, time.monotonic(), time.process_time()))

    dataset = open(scratch / "data")
    config = TrainingConfig(**SETTINGS, feature_folder=scratch / "features")
    result = train(dataset, config, scratch / "run", progress=note)
    marks.append(("end", time.monotonic(), time.process_time()))
    memory.stop()
    stages = {}
    for (_, wall, cpu), (name, later, cpu_later) in zip(marks, marks[1:], strict=False):
        peaks = memory.peaks(wall - marks[0][1], later - marks[0][1])
        stages[name] = {
            "wall_s": round(later - wall, 1),
            "cpu_s": round(cpu_later - cpu, 1),
            "crystals_per_cpu_s": round(n / (cpu_later - cpu)),
            **peaks,
        }
    stages["validation, calibration, model"] = stages.pop("end")
    sizes = {
        name: round(sum(f.stat().st_size for f in (scratch / name).rglob("*.*")) / 1e6)
        for name in ("data", "features")
    }
    return {
        "crystals": n,
        "written_wall_cpu_s": [round(x, 1) for x in written],
        "stages": stages,
        "peak": memory.peaks(0, np.inf),
        "on_disk_mb": sizes,
        "mae": result.metrics["test"]["energy"]["mae"],
    }


def main() -> None:
    """Measure each size in a process of its own, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--inside", action="store_true", help="measure the first size here")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.inside:
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(measured(options.sizes[0], Path(scratch))))
        return
    results: dict[str, Any] = {
        "what": "one epoch over random crystals of one to three atoms in a Parquet folder",
        "settings": SETTINGS,
        "command": "python benchmarks/million_epoch.py",
        "potnet": version("potnet"),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "runs": {},
    }
    for n in options.sizes:
        command = [sys.executable, __file__, "--inside", "--sizes", str(n)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results["runs"][str(n)] = json.loads(done.stdout.splitlines()[-1])
        results["load_after"] = os.getloadavg()[0]
        with atomic_write(options.output) as file:
            json.dump(results, file, indent=1)
        print(json.dumps(results["runs"][str(n)], indent=1))


if __name__ == "__main__":
    main()
