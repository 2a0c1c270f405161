"""Make src/potnet/data/embedded/elastic.jsonl.gz from the table in the matminer 0.3.9 package.

    python scripts/make_elastic_dataset.py [--sdist matminer-0.3.9.tar.gz]

The source package is fetched from PyPI with pip unless it is given, its SHA-256 is checked, and
the table is read as text: nothing of the package is installed or run. The output depends on the
package alone, to the last byte.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from potnet.files import atomic_write

SDIST = "matminer-0.3.9.tar.gz"
SHA256 = "3faf9e83464f3d48f68a759bf476ad24da4c8c3e950c8f340cb917d3bb906400"
TABLE = "matminer-0.3.9/matminer/datasets/elastic_tensor.csv"
OUTPUT = Path(__file__).parents[1] / "src/potnet/data/embedded/elastic.jsonl.gz"


def fetch(folder: Path) -> Path:
    """Download the source package with pip and return its path."""
    command = "download --no-deps --no-binary :all: --no-build-isolation matminer==0.3.9 -d"
    subprocess.run([sys.executable, "-m", "pip", *command.split(), str(folder)], check=True)
    return folder / SDIST


def rows(sdist: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of the table in the package, after its line of reference."""
    content = sdist.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{sdist}: SHA-256 must be {SHA256}, got {found}.")
    with tarfile.open(fileobj=io.BytesIO(content)) as package:
        file = package.extractfile(TABLE)
        if file is None:
            raise SystemExit(f"{sdist}: must hold {TABLE}.")
        lines = io.StringIO(file.read().decode("utf-8"))
    csv.field_size_limit(2**27)
    lines.readline()
    yield from csv.DictReader(lines)


def record(row: dict[str, str]) -> dict[str, Any]:
    """Return one crystal with its targets; the POSCAR column has the cell in direct coordinates."""
    lines = row["poscar"].splitlines()
    scale = float(lines[1])
    lattice = [[round(scale * float(x), 8) for x in line.split()] for line in lines[2:5]]
    symbols, counts = lines[5].split(), [int(n) for n in lines[6].split()]
    if not lines[7].lower().startswith("d"):
        raise SystemExit(f"{row['material_id']}: coordinates must be direct, got {lines[7]!r}.")
    species = [s for s, n in zip(symbols, counts, strict=True) for _ in range(n)]
    sites = [[float(x) for x in line.split()[:3]] for line in lines[8 : 8 + len(species)]]
    if len(sites) != len(species) or len(species) != int(row["nsites"]):
        raise SystemExit(f"{row['material_id']}: sites must number {row['nsites']}.")
    return {
        "id": row["material_id"],
        "lattice": lattice,
        "species": species,
        "frac_coords": sites,
        "targets": {
            "bulk_modulus": round(float(row["K_VRH"]), 3),
            "shear_modulus": round(float(row["G_VRH"]), 3),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sdist", type=Path, help="the package, if it is here already")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        records = [record(row) for row in rows(arguments.sdist or fetch(Path(folder)))]
    records.sort(key=lambda r: int(r["id"].removeprefix("mp-")))
    text = "".join(json.dumps(r, separators=(",", ":")) + "\n" for r in records)
    with atomic_write(arguments.output, "wb") as file:
        file.write(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{arguments.output}: {len(records)} crystals, {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
