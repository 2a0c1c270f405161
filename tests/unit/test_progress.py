"""How many rows a source has is known before they are read, as well as its file can tell."""

import bz2
import gzip
import json
import lzma
import random
import zipfile
from pathlib import Path

import pytest
from sources import SOURCES

from potnet.data.readers import rows_of
from potnet.data.readers.progress import ReadingProgress

N_ROWS = 2000


def zipped(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("table.jsonl", content)


PACKERS = {
    "": Path.write_bytes,
    ".gz": lambda path, content: path.write_bytes(gzip.compress(content)),
    ".bz2": lambda path, content: path.write_bytes(bz2.compress(content, 1)),
    ".xz": lambda path, content: path.write_bytes(lzma.compress(content, preset=0)),
    ".zip": zipped,
}


@pytest.mark.parametrize("suffix", PACKERS)
def test_the_bytes_that_were_read_tell_how_many_rows_there_are(tmp_path, suffix):
    rng = random.Random(0)
    noise = [[rng.random() for _ in range(40)] for _ in range(N_ROWS)]
    records = ({"id": str(k), "atoms": {}, "noise": row} for k, row in enumerate(noise))
    path = tmp_path / f"table.jsonl{suffix}"
    PACKERS[suffix](path, "\n".join(map(json.dumps, records)).encode())
    estimates = {}
    with ReadingProgress() as progress:
        for _ in progress.counted(rows_of(path)):
            estimates[progress.rows] = progress.total
    assert progress.total == N_ROWS
    late = [estimates[k] for k in range(N_ROWS * 3 // 5, N_ROWS * 3 // 4)]
    assert late == pytest.approx([N_ROWS] * len(late), rel=0.3)
    assert all(total is None or total >= rows for rows, total in estimates.items())


@pytest.mark.parametrize("name", [n for n in SOURCES if ".parquet" in n or ".db" in n])
def test_formats_that_count_their_rows_tell_it_at_once(tmp_path, name):
    path = tmp_path / name.partition(":")[0]
    SOURCES[name](path)
    with ReadingProgress() as progress:
        rows = progress.counted(rows_of(path))
        next(rows)
        assert progress.total == 2


def test_progress_follows_nothing_that_is_read_outside_of_it(tmp_path):
    path = tmp_path / "table.jsonl"
    path.write_text('{"id": 1, "atoms": {}}\n' * 10_000)
    with ReadingProgress() as progress:
        pass
    next(rows_of(path))
    assert progress.total is None
