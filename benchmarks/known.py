"""How surely a known crystal is recognised, and how rarely another one is taken for it.

    python benchmarks/known.py matbench_mp_gap.jsonl.gz --relaxed mp_structures.jsonl.gz

Crystals of the index are written down in other ways (rotated, shifted, reordered, as supercells in
a random basis), and shaken: each atom is moved by a normal displacement of so many percent of the
edge of the cube that an atom fills, the cell strained by as much. ``--relaxed`` are structures of
the Materials Project of 2025, many of them relaxed with another functional: those whose id the
index has for certain are looked up. Pairs of different crystals of one formula say how often the
index and pymatgen's StructureMatcher differ about what is the same. Writes ``results/known.json``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import potnet
from potnet.files import atomic_write
from potnet.known import load_known
from potnet.known.index import EXACT, INDEX, SAME_STRUCTURE, SAME_VOLUME

HERE = Path(__file__).parent
NOISE = (0.0, 0.5, 1.0, 2.0)  # percent
MAX_ATOMS = 60


def crystals(path: Path, step: int, first: int = 0) -> Iterator[potnet.Crystal]:
    """Yield every ``step``-th crystal of a file of JSON Lines."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file):
            if number % step == first:
                record = json.loads(line)
                if len(record["species"]) <= MAX_ATOMS:
                    keys = ("id", "lattice", "species", "frac_coords")
                    yield potnet.Crystal.from_any({key: record[key] for key in keys})


def rewritten(crystal: potnet.Crystal, rng: np.random.Generator, noise: float) -> potnet.Crystal:
    """Return the crystal in another cell, orientation and order, shaken by ``noise``."""
    matrix = rng.integers(-1, 2, (3, 3))
    while not 0 < abs(round(float(np.linalg.det(matrix)))) <= 3:
        matrix = rng.integers(-1, 2, (3, 3))
    other = crystal.supercell(matrix)
    strain = np.eye(3) + noise * rng.normal(size=(3, 3)) / 2
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = rng.permutation(other.n_atoms)
    edge = (other.volume / other.n_atoms) ** (1 / 3)
    positions = other.positions @ strain + noise * edge * rng.normal(size=(other.n_atoms, 3))
    return potnet.Crystal(
        other.numbers[order],
        ((positions + rng.normal(size=3)) @ rotation)[order],
        other.cell @ strain @ rotation,
    )


def recall(sample: list[potnet.Crystal]) -> dict[str, float]:
    """Return the share that is recognised, by noise in percent."""
    rng, known = np.random.default_rng(0), load_known()
    return {
        f"{noise:g}": float(
            np.mean([bool(known.match(rewritten(c, rng, noise / 100))) for c in sample])
        )
        for noise in NOISE
    }


def recall_of_relaxed(path: Path, step: int) -> dict[str, Any]:
    """Return how often structures of another functional find their own id."""
    known = load_known()
    ids = {f"mp-{number}" for number in known._table["id"].tolist() if number > 0}
    found = [[m.id for m in known.match(c)] for c in crystals(path, step) if c.id in ids]
    same = [c.id for c in crystals(path, step) if c.id in ids]
    hits = [id in matches for id, matches in zip(same, found, strict=True)]
    return {"n": len(hits), "finds_its_own_id": float(np.mean(hits))}


def agreement(path: Path, n_pairs: int) -> dict[str, Any]:
    """Return how index and StructureMatcher judge pairs of crystals of one formula.

    The index is asked about the first of each pair: with it, as it is, and as if it did not have
    it. Does it take the second one for it?
    """
    from pymatgen.core.structure_matcher import StructureMatcher

    groups: defaultdict[str, list[potnet.Crystal]] = defaultdict(list)
    for crystal in crystals(path, 1):
        if len(groups[crystal.formula]) < 2 and crystal.n_atoms <= 20:
            groups[crystal.formula].append(crystal)
    pairs = [group for group in groups.values() if len(group) == 2]
    chosen = np.random.default_rng(0).permutation(len(pairs))[:n_pairs]
    matcher, known = StructureMatcher(), load_known()
    same = np.zeros(len(chosen), dtype=bool)
    taken = np.zeros((len(chosen), 2), dtype=bool)
    for place, k in enumerate(chosen):
        a, b = pairs[k]
        same[place] = matcher.fit(a.to_pymatgen(), b.to_pymatgen())
        own, other = (known.alike(c, EXACT, SAME_VOLUME)[0][0] for c in (a, b))
        found = np.array(known.alike(a, SAME_STRUCTURE, SAME_VOLUME)).reshape(-1, 2)
        for case, is_there in enumerate((True, False)):
            left = found[(found[:, 0] != own) | is_there]
            taken[place, case] = other in known.same(a, left[:, 0].astype(np.int64), left[:, 1])
    return {"pairs": len(chosen), "same_for_the_matcher": int(same.sum())} | {
        name: {
            "same_for_both": int((same & taken[:, case]).sum()),
            "same_for_the_index_alone": int((~same & taken[:, case]).sum()),
            "false_matches": float(taken[~same, case].mean()),
        }
        for case, name in enumerate(("if_the_crystal_is_in_the_index", "if_it_is_not"))
    }


def timing(sample: list[potnet.Crystal]) -> dict[str, float]:
    """Return processor times in milliseconds."""
    known = load_known()
    known.nearest(sample[0])
    found = {}
    for name, ask in (("match", known.match), ("nearest", known.nearest)):
        start = time.process_time()
        for crystal in sample:
            ask(crystal)
        found[f"{name}_ms"] = 1e3 * (time.process_time() - start) / len(sample)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("gaps", type=Path)
    parser.add_argument("--relaxed", type=Path, required=True)
    parser.add_argument("--step", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=1_000)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "known.json")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    start = time.process_time()
    n_known = len(load_known())
    load_time = 1e3 * (time.process_time() - start)
    sample = list(crystals(options.gaps, options.step))
    found = {
        "crystals": n_known,
        "megabytes": INDEX.stat().st_size / 1e6,
        "same_structure": SAME_STRUCTURE,
        "same_volume": SAME_VOLUME,
        "load_ms": load_time,
        "n": len(sample),
        "recall_by_noise_in_percent": recall(sample),
        "relaxed_with_another_functional": recall_of_relaxed(options.relaxed, options.step),
        "pairs_of_one_formula": agreement(options.gaps, options.pairs),
        **timing(sample),
    }
    with atomic_write(options.output) as file:
        file.write(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
