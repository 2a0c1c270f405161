"""Containers for ragged crystals: random access, size and memory, for the first 4096 of a table.

    python benchmarks/data_formats.py TABLE.jsonl.gz SCRATCH

Needs safetensors, pyarrow, lmdb and h5py. Prints JSON: for each container the bytes per crystal,
the processor time of writing (s) and of reading one crystal in random order (µs, the least of
repeats), and how much the process grew while reading (MB).
"""

import gzip
import json
import mmap
import random
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np

N = 4096
SHARD = 2048
TYPES = {"F64": np.float64, "I64": np.int64, "U8": np.uint8}


def rows_of(table):
    """Return (id, numbers, positions, cell, text) of each crystal."""
    with gzip.open(table, "rt", encoding="utf-8") as file:
        for line in islice(file, N):
            record = json.loads(line)
            cell = np.array(record["lattice"], float)
            # What stands for an element does not matter here: a byte does.
            numbers = np.array([ord(s[0]) for s in record["species"]], np.uint8)
            positions = np.array(record["frac_coords"], float) @ cell
            yield record["id"], numbers, positions, cell, json.dumps(record["targets"])


def offsets(items):
    return np.cumsum([0] + [len(item) for item in items])


def write_safetensors(path, rows):
    from safetensors.numpy import save_file

    path.mkdir()
    for start in range(0, len(rows), SHARD):
        ids, numbers, positions, cells, texts = zip(*rows[start : start + SHARD], strict=True)
        ids, texts = [[x.encode() for x in column] for column in (ids, texts)]
        arrays = {
            "atom_offsets": offsets(numbers),
            "numbers": np.concatenate(numbers),
            "positions": np.concatenate(positions),
            "cells": np.stack(cells),
            "id_offsets": offsets(ids),
            "ids": np.frombuffer(b"".join(ids), np.uint8),
            "text_offsets": offsets(texts),
            "texts": np.frombuffer(b"".join(texts), np.uint8),
        }
        save_file(arrays, path / f"{start:06d}.safetensors")


def read_safetensors(path):
    shards = []
    for file_path in sorted(path.iterdir()):
        with open(file_path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start = 8 + int.from_bytes(data[:8], "little")
        arrays = {}
        for key, about in json.loads(data[8:start]).items():
            count, place = int(np.prod(about["shape"])), start + about["data_offsets"][0]
            array = np.frombuffer(data, TYPES[about["dtype"]], count, place)
            arrays[key] = array.reshape(about["shape"])
        shards.append(arrays)

    def get(k):
        shard, row = shards[k // SHARD], k % SHARD
        a, b = shard["atom_offsets"][row : row + 2]
        c, d = shard["id_offsets"][row : row + 2]
        e, f = shard["text_offsets"][row : row + 2]
        id, text = bytes(shard["ids"][c:d]).decode(), bytes(shard["texts"][e:f])
        return id, shard["numbers"][a:b], shard["positions"][a:b], shard["cells"][row], text

    return get


def table_of(rows):
    import pyarrow as pa

    ids, numbers, positions, cells, texts = zip(*rows, strict=True)
    return pa.table(
        {
            "id": ids,
            "numbers": pa.array(numbers, pa.list_(pa.uint8())),
            "positions": pa.array([x.ravel() for x in positions], pa.list_(pa.float64())),
            "cell": pa.array([x.ravel() for x in cells], pa.list_(pa.float64())),
            "text": texts,
        }
    )


def write_arrow(path, rows):
    import pyarrow as pa

    table = table_of(rows)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=SHARD)


def from_columns(batch, row):
    return (
        batch["id"][row].as_py(),
        batch["numbers"][row].values.to_numpy(),
        batch["positions"][row].values.to_numpy().reshape(-1, 3),
        batch["cell"][row].values.to_numpy(),
        batch["text"][row].as_py(),
    )


def read_arrow(path):
    import pyarrow as pa

    file = pa.ipc.open_file(pa.memory_map(str(path)))
    batches = [file.get_batch(k) for k in range(file.num_record_batches)]
    return lambda k: from_columns(batches[k // SHARD], k % SHARD)


def write_parquet(path, rows):
    import pyarrow.parquet as pq

    pq.write_table(table_of(rows), path, row_group_size=256)


def read_parquet(path):
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path, memory_map=True)
    return lambda k: from_columns(file.read_row_group(k // 256), k % 256)


def write_lmdb(path, rows):
    import lmdb

    with lmdb.open(str(path), map_size=2**32) as store, store.begin(write=True) as work:
        for k, (id, numbers, positions, cell, text) in enumerate(rows):
            head = len(id).to_bytes(2, "little") + len(numbers).to_bytes(4, "little")
            body = cell.tobytes() + positions.tobytes() + numbers.tobytes()
            work.put(b"%08d" % k, head + body + id.encode() + text.encode())


def read_lmdb(path):
    import lmdb

    work = lmdb.open(str(path), readonly=True, lock=False).begin(buffers=True)

    def get(k):
        value = work.get(b"%08d" % k)
        n_id, n = int.from_bytes(value[:2], "little"), int.from_bytes(value[2:6], "little")
        text = bytes(value[78 + 25 * n :])
        cell = np.frombuffer(value, np.float64, 9, 6)
        positions = np.frombuffer(value, np.float64, 3 * n, 78).reshape(-1, 3)
        numbers = np.frombuffer(value, np.uint8, n, 78 + 24 * n)
        return text[:n_id].decode(), numbers, positions, cell, text[n_id:]

    return get


def write_hdf5(path, rows):
    import h5py

    with h5py.File(path, "w") as file:
        for k, (id, numbers, positions, cell, text) in enumerate(rows):
            group = file.create_group(str(k))
            group["numbers"], group["positions"], group["cell"] = numbers, positions, cell
            group.attrs["id"], group.attrs["text"] = id, text


def read_hdf5(path):
    import h5py

    file = h5py.File(path, "r")

    def get(k):
        group = file[str(k)]
        arrays = (group[key][()] for key in ("numbers", "positions", "cell"))
        return group.attrs["id"], *arrays, group.attrs["text"]

    return get


FORMATS = {
    "safetensors": (write_safetensors, read_safetensors),
    "arrow": (write_arrow, read_arrow),
    "parquet": (write_parquet, read_parquet),
    "lmdb": (write_lmdb, read_lmdb),
    "hdf5": (write_hdf5, read_hdf5),
}


def resident_mb():
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise SystemExit("no VmRSS")


def measure_reading(name, path):
    get = FORMATS[name][1](path)
    before = resident_mb()
    places = random.Random(0).choices(range(N), k=500)
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for place in places:
            get(place)
        best = min(best, (time.process_time() - start) / len(places) * 1e6)
    print(json.dumps({"read_us": round(best, 1), "grew_mb": round(resident_mb() - before, 1)}))


def main():
    if sys.argv[1] == "--read":
        measure_reading(sys.argv[2], Path(sys.argv[3]))
        return
    table, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    rows, found = list(rows_of(table)), {}
    for name, (write, _) in FORMATS.items():
        path = scratch / f"{name}-{table.name}"
        start = time.process_time()
        write(path, rows)
        seconds = time.process_time() - start
        files = [path] if path.is_file() else path.rglob("*")
        n_bytes = sum(f.stat().st_blocks * 512 for f in files if f.is_file())
        # A process of its own: what others have read must not count.
        command = [sys.executable, __file__, "--read", name, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = {
            "bytes_per_crystal": round(n_bytes / len(rows)),
            "write_s": round(seconds, 2),
            **json.loads(done.stdout),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
