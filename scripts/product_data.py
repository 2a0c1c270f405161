"""Prepare all data at hand for the models that users get.

Benchmarks hold crystals back, so that methods can be compared; whoever asks about Al2O3 wants a
model that knows Al2O3. Here only what validation needs is held back, whole compositions, so that
errors are those on new ones. The choice is made by a hash of the composition: it is the same in
every file, and what is held back at 2 % is so at 10 %.

The network of the Materials Project goes on from the benchmarks' one, which has learned from most
of these crystals. What validates it must be new to both: ``--learned`` and ``--without`` name what
``scripts/materials_project_data.py`` was given, and no composition is held back that could have
been among what it kept for training. Oxides and nitrides are nine in ten of the others, hence
shares of their own for them and for the rest, which make both alike in number.

    python scripts/product_data.py matbench_mp_gap.jsonl.gz -o product/mp.jsonl.gz \\
        --target gap=gap_pbe:eV --join e_form=mp_e_form_to_mp_gap_exact.csv.gz:eV/atom \\
        --learned mp_structures.jsonl.gz --without jarvis.jsonl.gz --max-atoms 40 \\
        --held-back 40 --held-back-oxides-nitrides 6
    python scripts/product_data.py matbench_elastic.jsonl.gz -o product/moduli.jsonl.gz \\
        --power bulk_modulus=log10_K_VRH:GPa --power shear_modulus=log10_G_VRH:GPa
    python scripts/product_data.py matbench_phonons.jsonl.gz -o product/phonons.jsonl.gz \\
        --target last_phdos_peak=last_phdos_peak:1/cm
    python scripts/product_data.py matbench_jdft2d.jsonl.gz -o product/layers.jsonl.gz \\
        --target exfoliation_en=exfoliation_en:meV/atom

A network that a benchmark goes on from (``benchmarks/sweeps/pretraining.yaml``) must not have seen
a composition that is tested; ``--new-to`` names the datasets whose compositions stay away:

    python scripts/product_data.py matbench_mp_gap.jsonl.gz -o pretraining.jsonl.gz \\
        --target gap=gap_pbe:eV --join e_form=mp_e_form_to_mp_gap_exact.csv.gz:eV/atom \\
        --max-atoms 20 --held-back 3 --new-to matbench_phonons.jsonl.gz matbench_jdft2d.jsonl.gz \\
        matbench_perovskites.jsonl.gz matbench_elastic.jsonl.gz

The files are JSON Lines of {id, lattice, species, frac_coords, targets}; a table to join has the
columns mp_gap_id and NAME. Then ``potnet benchmark benchmarks/sweeps/product_mp.yaml --data
product/mp.jsonl.gz -o runs/product-mp``, and so on.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from materials_project_data import MAX_ATOMS, composition, held_back, is_for_validation, records

from potnet.files import atomic_write

Assignment = tuple[str, str, str]
Composition = tuple[tuple[str, int], ...]


def assignment(text: str) -> Assignment:
    """Return name, column and unit of ``NAME=COLUMN:UNIT``."""
    name, _, rest = text.partition("=")
    column, _, unit = rest.rpartition(":")
    if not (name and column and unit):
        raise argparse.ArgumentTypeError(f"must be NAME=COLUMN:UNIT, got {text!r}")
    return name, column, unit


def joined(assignments: list[Assignment]) -> dict[str, dict[str, float]]:
    """Return the values of each table by id."""
    tables = {}
    for name, path, _ in assignments:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            tables[name] = {row["mp_gap_id"]: float(row[name]) for row in csv.DictReader(file)}
    return tables


def learned(structures: str | None, without: str | None) -> set[Composition]:
    """Return the compositions that the benchmarks' network may have been trained on."""
    if structures is None or without is None:
        return set()
    forbidden = held_back(without)
    return {
        composition(record["species"])
        for record in records(structures)
        if len(record["species"]) <= MAX_ATOMS and not is_for_validation(record["id"])
    } - forbidden


def is_held_back(species: list[str], options: argparse.Namespace, seen: set[Composition]) -> bool:
    """Return whether the composition is for validation."""
    found = composition(species)
    if found in seen:
        return False
    percent = options.held_back
    if options.held_back_oxides_nitrides is not None and {"O", "N"} & set(species):
        percent = options.held_back_oxides_nitrides
    text = "".join(f"{symbol}{n}" for symbol, n in found)
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 100 < percent


def prepared(
    record: dict[str, Any],
    options: argparse.Namespace,
    tables: dict[str, dict[str, float]],
    seen: set[Composition],
) -> dict[str, Any]:
    """Return a record with the targets that were asked for, in their units, and its part."""
    found = record["targets"]
    targets = {name: found[column] for name, column, _ in options.target if column in found}
    targets |= {name: 10 ** found[column] for name, column, _ in options.power if column in found}
    targets |= {
        name: table[record["id"]] for name, table in tables.items() if record["id"] in table
    }
    targets = {name: value for name, value in targets.items() if value is not None}
    units = {name: u for name, _, u in options.target + options.power + options.join}
    crystal = {key: record[key] for key in ("id", "lattice", "species", "frac_coords")}
    part = "val" if is_held_back(record["species"], options, seen) else "train"
    return {
        **crystal,
        "targets": targets,
        "units": {name: units[name] for name in targets},
        "split": part,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("entries")
    for name in ("--target", "--power", "--join"):
        parser.add_argument(name, action="append", default=[], type=assignment)
    parser.add_argument("--held-back", type=int, default=10, help="percent of the compositions")
    parser.add_argument("--held-back-oxides-nitrides", type=int, help="percent of theirs")
    parser.add_argument("--learned", metavar="STRUCTURES", help="what a network has learned from")
    parser.add_argument("--without", metavar="DATA", help="what was kept from that network")
    parser.add_argument("--new-to", metavar="DATA", nargs="+", default=[], help="what is tested")
    parser.add_argument("--max-atoms", type=int, default=300)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    tables, seen = joined(options.join), learned(options.learned, options.without)
    tested = {composition(r["species"]) for path in options.new_to for r in records(path)}
    counts: Counter[str] = Counter()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write(options.output, "wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as file,
    ):
        for record in records(options.entries):
            if len(record["species"]) > options.max_atoms:
                counts[f"above {options.max_atoms} atoms"] += 1
                continue
            if composition(record["species"]) in tested:
                counts["of a composition that is tested"] += 1
                continue
            line = prepared(record, options, tables, seen)
            if not line["targets"]:
                counts["without a target"] += 1
                continue
            counts[line["split"]] += 1
            file.write(f"{json.dumps(line)}\n".encode())
    print(f"{options.output}: " + "; ".join(f"{n:,} {what}" for what, n in counts.items()))


if __name__ == "__main__":
    main()
