"""CPU time and error of the three lattice sums per ordered pair, on one core.

Each crystal is repeated to a batch that takes about 0.2 s of CPU time; planning is included,
nothing is cached between runs. "published" is the recorded time of the published code per ordered
pair at its shipped setting R = 3 (0.67 ms on one core of an AMD EPYC, Zen 5), a reference figure,
not measured here.

    python benchmarks/bench_sums.py [--smallest] [--output results.json]
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import potnet
from potnet.files import atomic_write
from potnet.sums import Coulomb, London, Pauli, ewald, fast

HERE = Path(__file__).parent
REFERENCE = HERE.parent / "tests" / "reference" / "lattice_sums.json"
POTENTIALS = (Coulomb(), London(), Pauli())
TOLERANCES = (1e-4, 1e-6, 1e-8, 1e-10)
PUBLISHED_US = 670.0
RUN_S = 0.2


def sum_torch(positions, cells, n_atoms, tolerance):
    with torch.no_grad():
        x, c = torch.from_numpy(positions), torch.from_numpy(cells)
        return ewald.evaluate(x, c, n_atoms, POTENTIALS, tolerance)[0].numpy()


def sum_fast(positions, cells, n_atoms, tolerance):
    return fast.pair_sums(positions, cells, n_atoms, POTENTIALS, tolerance=tolerance)[0]


PATHS: dict[str, Callable] = {"torch": sum_torch, "fast": sum_fast}


def cpu_name() -> str:
    """Return what the system calls the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def measure(crystal: dict, path: str, tolerance: float, repeats: int) -> dict:
    """Return the time per ordered pair and the largest error of one crystal."""
    positions = np.array(crystal["positions"], dtype=float)
    cell = np.array(crystal["cell"], dtype=float)
    n = len(positions)
    evaluate = PATHS[path]

    def run(size: int) -> float:
        batch = (np.tile(positions, (size, 1)), np.tile(cell, (size, 1, 1)), np.full(size, n))
        start = time.process_time()
        evaluate(*batch, tolerance)
        return time.process_time() - start

    values = evaluate(positions, cell[None], np.array([n]), tolerance).reshape(n, n, 3)
    error = max(np.abs(values[p[0], p[1]] - p[2:]).max() for p in crystal["pairs"])
    size = 1
    while (seconds := run(size)) < RUN_S / 4 and size < 50_000:
        size *= 4
    size = max(1, min(50_000, round(size * RUN_S / seconds)))
    times = [run(size) / size / n**2 * 1e6 for _ in range(repeats)]
    return {
        "n_atoms": n,
        "batch": size,
        "median_us": statistics.median(times),
        "min_us": min(times),
        "max_error": error,
        "published_over_min": PUBLISHED_US / min(times),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smallest", action="store_true", help="one crystal, one repeat, no file")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "sums.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    crystals = json.loads(REFERENCE.read_text())["cells"]
    names = [name for name in crystals if not name.startswith("random")]
    tolerances, repeats = TOLERANCES, 7
    if arguments.smallest:
        names, tolerances, repeats = ["perovskite-5"], (1e-6,), 1

    rows = []
    print(f"{cpu_name()}, one core; CPU us per ordered pair, all three sums, planning included")
    print(f"{'crystal':14}{'N':>4} {'path':6}{'tolerance':>10}{'median':>10}{'min':>10}", end="")
    print(f"{'max error':>11}{'published / min':>17}")
    for name in names:
        for tolerance in tolerances:
            for path in PATHS:
                row = measure(crystals[name], path, tolerance, repeats)
                assert row["max_error"] <= tolerance, (name, path, tolerance, row)
                rows.append({"crystal": name, "path": path, "tolerance": tolerance, **row})
                print(
                    f"{name:14}{row['n_atoms']:4} {path:6}{tolerance:10.0e}{row['median_us']:10.3f}"
                    f"{row['min_us']:10.3f}{row['max_error']:11.1e}"
                    f"{row['published_over_min']:17.0f}",
                    flush=True,
                )
    if arguments.smallest:
        return
    result = {
        "version": potnet.__version__,
        "cpu": cpu_name(),
        "threads": 1,
        "clock": "process CPU time",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "command": " ".join(["python", *sys.argv]),
        "published": "recorded reference figure of the published code, R = 3, per ordered pair",
        "published_us": PUBLISHED_US,
        "rows": rows,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(arguments.output) as file:
        file.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
