"""Pack known crystals and their reference values into the index that comes with potnet.

    python scripts/make_known_index.py matbench_mp_gap.jsonl.gz \\
        --formation-energy mp_e_form_to_mp_gap_exact.csv.gz \\
        --ids matbench_mp_gap_to_mpid.parquet --moduli matbench_elastic.jsonl.gz \\
        --structures mp_structures.jsonl.gz

The crystals are those of MatBench's mp_gap with its gaps and mp_is_metal; formation energies come
by their rows, space groups and ids of the Materials Project by a table of matches. Ids of the table
are kept if the structure of that id is the same by formula, fingerprint and volume; crystals
without such an id get that of the likest structure, if no other one is nearly as like. Moduli
belong to crystals of another task of MatBench: they are given to the crystals that are the same.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from potnet.crystal import Crystal
from potnet.errors import StructureError
from potnet.known.fingerprint import fingerprint
from potnet.known.index import INDEX, KnownCrystals, composition

SAME_STRUCTURE = 0.01  # of the fingerprint: the tasks of MatBench took the same cells
SAME_VOLUME = 0.003
OWN_STRUCTURE, OWN_VOLUME = 0.06, 0.06  # the Materials Project has relaxed many of them again
MAX_ATOMS = 300


def records(path: Path) -> Iterator[tuple[dict[str, Any], Crystal]]:
    """Yield the records of a file of JSON Lines with their crystals."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for record in map(json.loads, file):
            keys = ("id", "lattice", "species", "frac_coords")
            yield record, Crystal.from_any({key: record[key] for key in keys})


def formation_energies(path: Path) -> dict[str, float]:
    """Return formation energies by id of the gap task."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return {row["mp_gap_id"]: float(row["e_form"]) for row in csv.DictReader(file)}


def identities(path: Path) -> dict[str, tuple[int, int]]:
    """Return number in the Materials Project, 0 if not certain, and space group by id."""
    table = pyarrow.parquet.read_table(path, columns=["mbid", "mp_id", "match", "spg_num"])
    found = {}
    for row in table.to_pylist():
        is_certain = (row["mp_id"] or "").startswith("mp-") and row["match"][:5] != "multi"
        number = int(row["mp_id"][3:]) if is_certain else 0
        found[row["mbid"]] = (number, int(row["spg_num"]))
    return found


def gather(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Return a row for each crystal of the gap task."""
    energies, ids = formation_energies(arguments.formation_energy), identities(arguments.ids)
    rows = []
    for number, (record, crystal) in enumerate(records(arguments.gaps), 1):
        mp_number, space_group = ids.get(record["id"], (0, 0))
        rows.append(
            {
                "composition": composition(crystal),
                "id": mp_number or -number,
                "row": number,
                "space_group": space_group,
                "n_atoms": crystal.n_atoms,
                "volume": crystal.volume / crystal.n_atoms,
                "print": fingerprint(crystal),
                "gap": record["targets"]["gap_pbe"],
                "is_metal": record["targets"]["is_metal"],
                "formation_energy": energies.get(record["id"], np.nan),
                "bulk_modulus": np.nan,
                "shear_modulus": np.nan,
            }
        )
    # Neighbours in this order have many bytes in common.
    rows.sort(key=lambda row: (len(row["composition"]), row["composition"], row["volume"]))
    table = {key: np.array([row[key] for row in rows]) for key in rows[0] if key != "composition"}
    compositions = [row["composition"] for row in rows]
    table["sizes"] = np.array([len(c) for c in compositions])
    table["elements"] = np.array([number for c in compositions for number, _ in c])
    table["counts"] = np.array([count for c in compositions for _, count in c])
    return table


def add_moduli(table: dict[str, np.ndarray], path: Path) -> int:
    """Give moduli to the crystals that have them, and return how many were given."""
    known = KnownCrystals(table)
    n_given = 0
    for record, crystal in records(path):
        if found := known.alike(crystal, SAME_STRUCTURE, SAME_VOLUME):
            row, logs = found[0][0], record["targets"]
            table["bulk_modulus"][row] = 10 ** logs["log10_K_VRH"]
            table["shear_modulus"][row] = 10 ** logs["log10_G_VRH"]
            n_given += 1
    return n_given


def check_ids(table: dict[str, np.ndarray], path: Path) -> int:
    """Correct ids by the structures that have them, and return how many are certain.

    An id that no structure confirms becomes that of MatBench's row: -1 less its number in the file.
    Structures that cannot be crystals, such as one with atoms closer than 0.5 Å, confirm none.
    """
    known = KnownCrystals(table)
    refused = []
    candidates: defaultdict[int, list[tuple[float, int]]] = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for record in map(json.loads, file):
            prefix, _, number = record["id"].partition("-")
            if prefix == "mp" and len(record["species"]) <= MAX_ATOMS:
                keys = ("id", "lattice", "species", "frac_coords")
                try:
                    crystal = Crystal.from_any({key: record[key] for key in keys})
                except StructureError as error:
                    refused.append(str(error))
                    continue
                for row, apart in known.alike(crystal, OWN_STRUCTURE, OWN_VOLUME):
                    candidates[row].append((apart, int(number)))
    for reason in refused:
        print(f"left out: {reason}")
    return assign_ids(table, candidates)


def assign_ids(
    table: dict[str, np.ndarray], candidates: Mapping[int, list[tuple[float, int]]]
) -> int:
    """Give each row the id that its candidates allow; see :func:`check_ids`."""
    for row, number in enumerate(table["id"].tolist()):
        found = sorted(candidates.get(row, []))
        if number > 0 and number in {other for _, other in found}:
            continue
        is_clear = found and (len(found) == 1 or found[1][0] > 2 * found[0][0] + 0.01)
        table["id"][row] = found[0][1] if is_clear else -table["row"][row]
    return int((table["id"] > 0).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("gaps", type=Path)
    parser.add_argument("--formation-energy", type=Path, required=True)
    parser.add_argument("--ids", type=Path, required=True)
    parser.add_argument("--moduli", type=Path, required=True)
    parser.add_argument("--structures", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, default=INDEX)
    arguments = parser.parse_args()
    table = gather(arguments)
    n_moduli = add_moduli(table, arguments.moduli)
    n_ids = check_ids(table, arguments.structures)
    KnownCrystals(table).save(arguments.output)
    size = arguments.output.stat().st_size / 1e6
    n_energies = int(np.isfinite(table["formation_energy"]).sum())
    print(
        f"{arguments.output}: {len(table['id']):,} crystals, {n_ids:,} with an id, "
        f"{n_energies:,} with formation energy, {n_moduli:,} with moduli, {size:.2f} MB"
    )


if __name__ == "__main__":
    main()
