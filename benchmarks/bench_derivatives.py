"""Energies of charges and derivatives of sums: one call each, processor times.

    python benchmarks/bench_derivatives.py

Rock salt with displaced atoms. ``energy`` returns energy, potentials, forces and stress of charges;
``pair_sums`` the three default sums of all pairs and, by a backward pass, the derivatives of a
random loss by positions and cell: by formulas, and for comparison by the tape of torch. Errors are
those against a fifth of the tolerance, or the tape. One thread; the least of some repeats.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from bench_sums import RESULTS, write
from rivals.sums_job import least_time

from latticesums import Atoms, differentiable, energy, fixed_plan, formulas, resolve
from potnet.benchmark.scoring import processor_name

DEFAULTS = resolve(("coulomb", "london", "pauli"))
TOLERANCE = 1e-6


def rock_salt(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions, cell and charges of n^3 cubes of eight atoms."""
    places = np.stack(np.meshgrid(*[np.arange(2 * n)] * 3, indexing="ij"), -1).reshape(-1, 3)
    charges = np.where(places.sum(1) % 2 == 0, 1.0, -1.0)
    moved = 2.82 * places + np.random.default_rng(0).normal(0, 0.1, places.shape)
    return moved, 5.64 * n * np.eye(3), charges


def energy_row(n: int) -> dict:
    """Return the times of an energy, with and without a plan that is kept, in ms."""
    positions, cell, charges = rock_salt(n)
    plan = fixed_plan(Atoms(positions, cell), "coulomb", charges=charges, tolerance=TOLERANCE)
    found = energy(positions, cell, charges, tolerance=TOLERANCE)
    exact = energy(positions, cell, charges, tolerance=0.2 * TOLERANCE)

    def plain() -> None:
        energy(positions, cell, charges, tolerance=TOLERANCE)

    def planned() -> None:
        energy(positions, cell, charges, tolerance=TOLERANCE, plan=plan)

    return {
        "what": "energy, forces, stress",
        "n_atoms": len(positions),
        "ms": least_time(plain, 5, 0.3) * 1e3,
        "ms_with_a_fixed_plan": least_time(planned, 5, 0.3) * 1e3,
        "error": abs(found.energy.item() - exact.energy.item()),
    }


def pairs_row(n: int) -> dict:
    """Return the times of sums with a backward pass, by formulas and by the tape, in ms."""
    positions, cell, _ = rock_salt(n)
    number = np.array([len(positions)])
    loss = torch.from_numpy(np.random.default_rng(1).normal(size=(number[0] ** 2, 3)))
    slopes, times = [], []
    for evaluate in (formulas.evaluate, differentiable.evaluate):

        def both(evaluate=evaluate) -> torch.Tensor:
            x = torch.tensor(positions, requires_grad=True)
            a = torch.tensor(cell[None], requires_grad=True)
            values, _ = evaluate(x, a, number, DEFAULTS, TOLERANCE)
            return torch.autograd.grad(values, (x, a), loss)[0]

        slopes.append(both())
        times.append(least_time(both, 5, 0.3) * 1e3)
    return {
        "what": "pair sums, forth and back",
        "n_atoms": len(positions),
        "ms": times[0],
        "ms_by_the_tape": times[1],
        "difference": float((slopes[0] - slopes[1]).abs().max()),
    }


def main() -> None:
    torch.set_num_threads(1)
    rows = [energy_row(n) for n in (1, 2, 4)] + [pairs_row(n) for n in (1, 2)]
    load = os.getloadavg()[0]
    print(f"{processor_name()}, one core, load {load:.0f}; tolerance {TOLERANCE:g}\n")
    print("| what | atoms | ms | otherwise, ms | error |\n|---|---|---|---|---|")
    for row in rows:
        other = row.get("ms_by_the_tape", row.get("ms_with_a_fixed_plan"))
        error = row.get("error", row.get("difference"))
        print(f"| {row['what']} | {row['n_atoms']} | {row['ms']:.2f} | {other:.2f} | {error:.0e} |")
    write(
        RESULTS / "sums_derivatives.json",
        {"clock": "process CPU time", "load": load, "tolerance": TOLERANCE, "rows": rows},
    )


if __name__ == "__main__":
    main()
