"""One public call against one, and batch against batch: sums as users ask for them.

    python benchmarks/bench_calls.py --rivals ENVS [--setup]

``latticesums.lattice_sums(crystal, tolerance=1e-6)`` takes arrays and returns 1/r, r^-6 and
exp(-3r) of all pairs with their bounds, planning included. A rival's call returns its 1/r of all
pairs, and has its neighbour list, its parameters and its compilation for nothing, as in
``bench_sums.py``, whose environments these are. Batches are of copies of a crystal:
``lattice_sums(crystals)`` against the batches of a rival that has any. One thread each, processor
times, the least of some repeats, those of latticesums before and after the others; errors against
30 digits beside.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from bench_sums import REFERENCE, RESULTS, run_rival, write
from rivals.sums_job import least_time

from latticesums import Atoms, lattice_sums
from potnet.benchmark.scoring import processor_name

NAMES = ("NaCl-2", "perovskite-5", "quartz-9", "cell-40", "cell-200", "aniso-3x3x30")
RIVALS = ("pymatgen", "torch-pme", "jax-pme", "nvalchemi")
#: Crystals of a batch; jax-pme sums over each atom of each of them.
BATCHES = {"NaCl-2": 256, "perovskite-5": 128, "quartz-9": 64, "cell-40": 8, "aniso-3x3x30": 16}
TOLERANCE = 1e-6


def own_row(name: str, crystal: dict) -> dict:
    """Return the time of a call and of a crystal in a batch, µs, and the largest error."""
    positions, cell = np.array(crystal["positions"], dtype=float), np.array(crystal["cell"])
    atoms, n = Atoms(positions, cell), len(positions)
    values = lattice_sums(atoms, tolerance=TOLERANCE).values
    error = max(np.abs(values[p[0], p[1]] - p[2:]).max() for p in crystal["pairs"])
    calls = max(1, 2000 // n**2)
    size = max(2, 20_000 // n**2)

    def many() -> None:
        for _ in range(calls):
            lattice_sums(atoms, tolerance=TOLERANCE)

    batch = [atoms] * size
    return {
        "crystal": name,
        "n_atoms": n,
        "tool": "latticesums",
        "call_us": least_time(many, 7, 0.3) / calls * 1e6,
        "batch_us": least_time(lambda: lattice_sums(batch, tolerance=TOLERANCE), 7, 0.3)
        / size
        * 1e6,
        "max_error": float(error),
    }


def table(rows: list[dict]) -> str:
    """Return a line for each crystal: µs of a call, and how many times as long the others take."""
    own = {row["crystal"]: row for row in rows if row["tool"] == "latticesums"}
    tools = [t for t in RIVALS if any(row["tool"] == t for row in rows)]
    lines = [
        "| cell | atoms | latticesums, one call | latticesums, in a batch | "
        + " | ".join(f"{tool}, one call" for tool in tools)
        + " |",
        "|---|---|" + "---|" * (2 + len(tools)),
    ]
    for name, row in own.items():
        cells = [f"{row['call_us']:,.0f} µs ({row['max_error']:.0e})", f"{row['batch_us']:,.1f} µs"]
        for tool in tools:
            found = [r for r in rows if r["tool"] == tool and r["crystal"] == name]
            cells.append(_against(row, found[0]) if found else "–")
        lines.append(f"| {name} | {row['n_atoms']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _against(own: dict, other: dict) -> str:
    """Return the time of another tool, its error, and how many times as long it takes."""
    call = other["call_us"]
    text = f"{call:,.0f} µs ({other['max_error']:.0e}), {call / own['call_us']:,.0f} times"
    if other.get("batch_us"):
        times = other["batch_us"] / own["batch_us"]
        text += f"; in a batch {other['batch_us']:,.0f} µs, {times:,.0f} times"
    return text


def own_rows(crystals: dict, before: list[dict]) -> list[dict]:
    """Return the rows of latticesums, each time the lesser of this run and the one before."""
    rows = [own_row(name, crystal) for name, crystal in crystals.items()]
    for row, old in zip(rows, before, strict=False):
        for key in ("call_us", "batch_us"):
            row[f"{key}_runs"] = [old[key], row[key]]
            row[key] = min(row[key], old[key])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rivals", type=Path, metavar="ENVS", help="folder of environments")
    parser.add_argument("--setup", action="store_true", help="make environments that are missing")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one rival")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    crystals = json.loads(REFERENCE.read_text())["cells"]
    crystals = {name: crystals[name] for name in NAMES}
    rows, own = [], own_rows(crystals, [])
    if arguments.rivals is not None:
        job = {"cells": crystals, "tolerances": [TOLERANCE], "repeats": 5, "seconds": 0.15}
        job["batches"] = BATCHES
        for name in RIVALS:
            found = run_rival(arguments.rivals, name, job, arguments.setup, arguments.limit)
            rows += [
                {**row, "call_us": row["us"] * row["n_atoms"] ** 2}
                for row in found
                if row["potential"] == "coulomb"
            ]
        own = own_rows(crystals, own)
    rows = own + rows
    print(f"{processor_name()}, one core; tolerance {TOLERANCE:g}; true errors in brackets\n")
    print(table(rows))
    write(RESULTS / "sums_calls.json", {"clock": "process CPU time", "rows": rows})


if __name__ == "__main__":
    main()
