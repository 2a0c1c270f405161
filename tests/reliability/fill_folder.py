"""A writer to be killed: ``python fill_folder.py build|append FOLDER [--die-at CALL] [TABLE]``.

``--die-at 7`` kills the process, without any chance to clean up, in the seventh call of
``os.fsync`` (a file is written but not in place) or ``os.replace`` (before it happens).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from killing import die_at

from potnet.crystal import Crystal
from potnet.data import ParquetFolder, Record, build, building, parquet_folder, shard

N_RECORDS = 120


def record(k: int) -> Record:
    """Return record ``k``."""
    positions = [[0.01 * k, 0, 0], [2, 2, 2]]
    size = 4 + 0.1 * k
    crystal = Crystal([11, 17], positions, [[size, 0, 0], [0, 4, 0], [0, 0, 4]], id=f"id-{k}")
    return Record(crystal.id, crystal, {"energy": float(k)})


def make_shards_small() -> None:
    """Let a few records need several shards."""
    parquet_folder.SHARD_RECORDS, parquet_folder.CHUNK, building.CHUNK = 16, 5, 5
    shard.GROUP = 7


def append(folder: Path) -> None:
    """Append what is missing, five records at a time."""
    kept = ParquetFolder(folder) if ParquetFolder.exists(folder) else ParquetFolder.create(folder)
    for start in range(len(kept), N_RECORDS, 5):
        kept.append(record(k) for k in range(start, min(start + 5, N_RECORDS)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["build", "append"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("table", nargs="?", type=Path)
    parser.add_argument("--die-at", type=int)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    make_shards_small()
    if arguments.die_at:
        die_at(arguments.die_at)
    if arguments.what == "append":
        append(arguments.folder)
    else:
        build(arguments.table, arguments.folder, workers=arguments.workers)


if __name__ == "__main__":
    main()
