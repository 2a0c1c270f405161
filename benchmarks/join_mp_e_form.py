"""Give the entries of MatBench's mp_e_form the crystals of mp_gap, where they are surely the same.

The file of mp_e_form has no structures here. A table with the columns ``mp_e_form_id``,
``mp_gap_id`` and ``e_form`` names the entries whose composition and space group occur once in both
tasks. ``potnet benchmark matbench-mp-e-form`` reads what this writes, takes the published folds by
the ids, and lists the entries that are left out.

python benchmarks/join_mp_e_form.py mp_gap.jsonl.gz table.csv.gz -o mp_e_form.jsonl.gz
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from pathlib import Path

from potnet.files import atomic_write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("crystals", type=Path, help="The entries of mp_gap, JSON Lines.")
    parser.add_argument("table", type=Path, help="mp_e_form_id, mp_gap_id, e_form, CSV.")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    with gzip.open(given.table, "rt", encoding="utf-8", newline="") as file:
        entries = {row["mp_gap_id"]: row for row in csv.DictReader(file)}
    with (
        gzip.open(given.crystals, "rt", encoding="utf-8") as crystals,
        atomic_write(given.output, "wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
    ):
        for line in crystals:
            crystal = json.loads(line)
            entry = entries.get(crystal["id"])
            if entry is None:
                continue
            record = {key: crystal[key] for key in ("lattice", "species", "frac_coords")}
            record |= {"id": entry["mp_e_form_id"], "targets": {"e_form": float(entry["e_form"])}}
            packed.write(json.dumps(record).encode() + b"\n")


if __name__ == "__main__":
    main()
