"""CPU time and true error of the lattice sums per ordered pair, on one core, beside other codes.

    python benchmarks/bench_sums.py                        # potnet alone, and its scaling
    python benchmarks/bench_sums.py --rivals ENVS --setup  # make the rivals' environments, and run
    python benchmarks/bench_sums.py --rivals ENVS          # run them, too
    python benchmarks/bench_sums.py --device cuda          # crystals per second of the torch path

potnet sums 1/r, r^-6 and exp(-3r) together; a crystal is repeated to a batch of about 0.2 s,
planning is included and nothing is cached. The rivals sum one potential; they run in environments
of their own, ``ENVS/NAME`` made of ``rivals/NAME-requirements.txt``, and have their neighbour
lists, their parameters and their compilation for nothing (``rivals/sums_job.py``). Times are
processor times, the least of some repeats, so that other programs on the machine count little.

"published" is the code of the published PotNet, which is not run here: its recorded time on another
machine, scaled by that of pymatgen's Ewald matrix on both machines (the median over the crystals).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import potnet
from latticesums import Coulomb, London, Pauli, differentiable
from latticesums.compiled import sums as fast
from potnet.benchmark.scoring import processor_name
from potnet.files import atomic_write

HERE = Path(__file__).parent
REFERENCE = HERE.parent / "tests" / "latticesums" / "lattice_sums.json"
RESULTS = HERE / "results"
POTENTIALS = (Coulomb(), London(), Pauli())
TOLERANCES = (1e-4, 1e-6, 1e-8, 1e-12)
SCALED_TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12)
SCALED_ATOMS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
RIVALS = ("epsteinlib", "torch-pme", "jax-pme", "pymatgen")
RUN_S = 0.2

#: Recorded on one core of an AMD EPYC (Zen 5): us per ordered pair of the published code at its
#: shipped setting R = 3, and of pymatgen's Ewald matrix with six digits.
PUBLISHED_US = {
    "NaCl-2": 752, "perovskite-5": 667, "quartz-9": 667, "spinel-14": 674, "cell-40": 670,
    "cell-100": 685, "cell-200": 680, "aniso-3x3x30": 626, "skew-20deg": 663,
}  # fmt: skip
PYMATGEN_US = {
    "NaCl-2": 140.9, "perovskite-5": 25.2, "quartz-9": 6.3, "spinel-14": 4.1, "cell-40": 1.9,
    "aniso-3x3x30": 7.6, "skew-20deg": 11.5,
}  # fmt: skip

#: Atoms of the crystals of JARVIS-DFT (oxides and nitrides): every 2.5 % of the distribution.
JARVIS_ATOMS = (
    1, 3, 3, 4, 4, 5, 5, 5, 6, 6, 7, 8, 8, 9, 10, 10, 11, 12, 12, 13, 14,
    14, 15, 16, 16, 18, 18, 19, 20, 20, 22, 22, 24, 24, 25, 28, 28, 30, 36, 44, 140,
)  # fmt: skip


def sum_torch(positions, cells, n_atoms, tolerance):
    with torch.no_grad():
        x, c = torch.from_numpy(positions), torch.from_numpy(cells)
        return differentiable.evaluate(x, c, n_atoms, POTENTIALS, tolerance)[0].numpy()


def sum_fast(positions, cells, n_atoms, tolerance):
    return fast.pair_sums(positions, cells, n_atoms, POTENTIALS, tolerance=tolerance)[0]


PATHS: dict[str, Callable] = {"torch": sum_torch, "fast": sum_fast}


def least_us(
    positions: np.ndarray, cell: np.ndarray, path: str, tolerance: float, repeats: int
) -> dict:
    """Return the size of the batch, and the median and least time per ordered pair."""
    n, evaluate = len(positions), PATHS[path]

    def run(size: int) -> float:
        batch = (np.tile(positions, (size, 1)), np.tile(cell, (size, 1, 1)), np.full(size, n))
        start = time.process_time()
        evaluate(*batch, tolerance)
        return time.process_time() - start

    run(1)
    size = 1
    while (seconds := run(size)) < RUN_S / 4 and size < 50_000:
        size *= 4
    size = max(1, min(50_000, round(size * RUN_S / seconds)))
    times = [run(size) / size / n**2 * 1e6 for _ in range(repeats)]
    return {"batch": size, "median_us": statistics.median(times), "min_us": min(times)}


def measure(crystal: dict, path: str, tolerance: float, repeats: int) -> dict:
    """Return the time per ordered pair and the largest error of one reference crystal."""
    positions = np.array(crystal["positions"], dtype=float)
    cell = np.array(crystal["cell"], dtype=float)
    n = len(positions)
    values = PATHS[path](positions, cell[None], np.array([n]), tolerance).reshape(n, n, 3)
    error = max(np.abs(values[p[0], p[1]] - p[2:]).max() for p in crystal["pairs"])
    return {
        "n_atoms": n,
        **least_us(positions, cell, path, tolerance, repeats),
        "max_error": float(error),
    }


def random_crystal(n_atoms: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and a slightly skewed cell of 20 Å^3 per atom, on a shaken grid."""
    rng = np.random.default_rng(seed)
    edge = (20.0 * n_atoms) ** (1 / 3)
    cell = edge * (np.eye(3) + rng.uniform(-0.1, 0.1, (3, 3)))
    side = int(np.ceil(n_atoms ** (1 / 3)))
    grid = np.array(list(np.ndindex(side, side, side)))
    chosen = rng.permutation(len(grid))[:n_atoms]
    return (grid[chosen] + rng.uniform(-0.15, 0.15, (n_atoms, 3))) / side @ cell, cell


def scaling(repeats: int) -> dict[str, list[dict]]:
    """Return how the cost goes with atoms at the tolerance 1e-6, and with the tolerance."""
    atoms, tolerances = [], []
    for n_atoms in SCALED_ATOMS:
        for path in PATHS:
            row = least_us(*random_crystal(n_atoms), path, 1e-6, repeats)
            atoms.append({"n_atoms": n_atoms, "path": path, "tolerance": 1e-6, **row})
            print(f"{n_atoms:5} atoms {path:6}{row['min_us']:10.4f} us", flush=True)
    crystals = json.loads(REFERENCE.read_text())["cells"]
    for name in ("quartz-9", "cell-40"):
        for tolerance in SCALED_TOLERANCES:
            for path in PATHS:
                row = measure(crystals[name], path, tolerance, repeats)
                tolerances.append({"crystal": name, "path": path, "tolerance": tolerance, **row})
    return {"atoms": atoms, "tolerances": tolerances}


def make_environment(folder: Path, name: str) -> None:
    """Make the environment of a rival from its pinned requirements."""
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    if name in ("torch-pme", "nvalchemi"):  # the build for CPUs, as in the Makefile
        wheel = f"torch=={torch.__version__}"
        subprocess.run([*pip, wheel], check=False)
    requirements = HERE / "rivals" / f"{name}-requirements.txt"
    subprocess.run([*pip, "-r", str(requirements)], check=True)


def run_rival(environments: Path, name: str, job: dict, setup: bool, limit: float) -> list[dict]:
    """Return the rows of one rival, nothing if it has no environment or takes too long."""
    folder = environments / name
    python = folder / "bin" / "python"
    if setup and not python.exists():
        make_environment(folder, name)
    if not python.exists():
        print(f"{name}: no environment {folder}; make it with --setup")
        return []
    script = HERE / "rivals" / f"{name.replace('-', '_')}_rival.py"
    threads = {k: "1" for k in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    with tempfile.TemporaryDirectory() as scratch:
        order, rows = Path(scratch) / "job.json", Path(scratch) / "rows.json"
        order.write_text(json.dumps(job), encoding="utf-8")
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | threads
        try:
            subprocess.run(
                [str(python), str(script), str(order), str(rows)],
                check=True,
                env=environment,
                timeout=limit,
            )
        except subprocess.TimeoutExpired:
            print(f"{name}: not done after {limit:.0f} s; see --limit")
        return json.loads(rows.read_text(encoding="utf-8")) if rows.exists() else []


def speed_of_this_machine(rival_rows: list[dict]) -> float | None:
    """Return by how much pymatgen's Ewald matrix is slower here than where it was recorded."""
    ratios = [
        row["us"] / PYMATGEN_US[row["crystal"]]
        for row in rival_rows
        if row["tool"] == "pymatgen" and row["tolerance"] == 1e-6 and row["crystal"] in PYMATGEN_US
    ]
    return statistics.median(ratios) if ratios else None


def crystals_per_second(device: str, repeats: int, n_crystals: int = 10_000) -> list[dict]:
    """Return crystals per second of the torch path on a device, sizes as in JARVIS-DFT."""
    rng = np.random.default_rng(0)
    sizes = np.interp(rng.random(n_crystals), np.linspace(0, 1, len(JARVIS_ATOMS)), JARVIS_ATOMS)
    counts = np.maximum(np.rint(sizes), 1).astype(np.int64)
    crystals = [random_crystal(n, seed) for seed, n in enumerate(counts.tolist())]
    positions = torch.tensor(np.concatenate([x for x, _ in crystals]), device=device)
    cells = torch.tensor(np.array([c for _, c in crystals]), device=device)
    rows = []
    for tolerance in TOLERANCES[:3]:
        times = []
        for _ in range(repeats + 1):  # the first one warms up
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            start = time.perf_counter()
            with torch.no_grad():
                differentiable.evaluate(positions, cells, counts, POTENTIALS, tolerance)
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        rate = n_crystals / min(times[1:])
        rows.append({"tolerance": tolerance, "crystals_per_second": rate})
        print(f"{tolerance:.0e}: {rate:,.0f} crystals/s", flush=True)
    return rows


def write(path: Path, content: dict) -> None:
    head = {
        "version": potnet.__version__,
        "cpu": processor_name(),
        "threads": 1,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "command": " ".join(["python", *sys.argv]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(json.dumps(head | content, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smallest", action="store_true", help="one crystal, one repeat, no file")
    parser.add_argument("--rivals", type=Path, metavar="ENVS", help="folder of environments")
    parser.add_argument("--setup", action="store_true", help="make environments that are missing")
    parser.add_argument("--limit", type=float, default=3600, help="seconds for one rival")
    parser.add_argument("--device", default="cpu", help="cuda: crystals per second on it")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.device != "cpu":
        name = torch.cuda.get_device_name(arguments.device)
        rows = crystals_per_second(arguments.device, arguments.repeats)
        write(arguments.output or RESULTS / "sums_gpu.json", {"device": name, "rows": rows})
        return
    crystals = json.loads(REFERENCE.read_text())["cells"]
    names = [name for name in crystals if not name.startswith("random")]
    tolerances, repeats = TOLERANCES, arguments.repeats
    if arguments.smallest:
        names, tolerances, repeats = ["perovskite-5"], (1e-6,), 1

    rival_rows = []
    if arguments.rivals is not None:
        job = {"cells": {name: crystals[name] for name in names}, "tolerances": tolerances}
        job |= {"repeats": min(repeats, 5), "seconds": 0.15}
        for name in RIVALS:
            print(f"{name} ...", flush=True)
            rival_rows += run_rival(arguments.rivals, name, job, arguments.setup, arguments.limit)
    slower = speed_of_this_machine(rival_rows)

    rows = []
    print(
        f"{processor_name()}, one core; CPU us per ordered pair, all three sums, planning included"
    )
    print(
        f"{'crystal':14}{'N':>4} {'path':6}{'tolerance':>10}{'median':>10}{'min':>10}{'error':>11}"
    )
    for name in names:
        for tolerance in tolerances:
            for path in PATHS:
                row = measure(crystals[name], path, tolerance, repeats)
                assert row["max_error"] <= tolerance, (name, path, tolerance, row)
                if slower is not None:
                    row["published_us"] = PUBLISHED_US[name] * slower
                    row["published_over_min"] = row["published_us"] / row["min_us"]
                rows.append({"crystal": name, "path": path, "tolerance": tolerance, **row})
                print(
                    f"{name:14}{row['n_atoms']:4} {path:6}{tolerance:10.0e}{row['median_us']:10.3f}"
                    f"{row['min_us']:10.3f}{row['max_error']:11.1e}",
                    flush=True,
                )
    if arguments.smallest:
        return
    content = {
        "clock": "process CPU time",
        "published": "recorded time of the published code, R = 3, per ordered pair, times slower",
        "slower_than_recorded": slower,
        "rows": rows,
        "rivals": rival_rows,
        "scaling": scaling(repeats),
    }
    write(arguments.output or RESULTS / "sums.json", content)


if __name__ == "__main__":
    main()
