"""Whatever is done to a table, it is read or refused with a sentence; nothing else escapes."""

import gzip
import json
import random
from collections.abc import Callable

import numpy as np
import pytest

from potnet import data
from potnet.errors import PotNetError

RECORD = {
    "id": "a",
    "lattice": [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]],
    "species": ["Fe", "O"],
    "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
    "targets": {"y": 1.5},
    "split": "train",
}
POSCAR = "x\n1.0\n4 0 0\n0 4 0\n0 0 4\nFe O\n1 1\ndirect\n0 0 0\n.5 .5 .5\n"


def lines() -> str:
    return "".join(json.dumps({**RECORD, "id": str(k)}) + "\n" for k in range(3))


def split_table() -> str:
    structure = {key: RECORD[key] for key in ("lattice", "species", "frac_coords")}
    rows = [[structure, 1.0], [structure, 2.0]]
    return json.dumps({"index": ["a", "b"], "columns": ["structure", "y"], "data": rows})


def comma_table() -> str:
    return f'id,structure,y,split\na,"{POSCAR}",1.0,train\nb,"{POSCAR}",,test\n'


def frames() -> str:
    header = 'Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 y=1.5 pbc="T T T"'
    return f"2\n{header}\nFe 0 0 0\nO 2 2 2\n" * 2


TABLES: dict[str, Callable[[], str]] = {
    "set.jsonl": lines,
    "set.json": split_table,
    "set.csv": comma_table,
    "set.extxyz": frames,
}
TOKENS = ["", "nan", "inf", "-1", "null", "{}", "[]", '"', ",", "\n", "\0", "é", "1e999", "[[", "}"]


def mutated(text: str, rng: random.Random) -> bytes:
    """Return ``text`` with a few pieces cut, doubled or replaced."""
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(text) + 1)
        stop = min(len(text), start + rng.choice([0, 1, 3, 20]))
        piece = rng.choice([*TOKENS, text[start:stop] * 2])
        text = text[:start] + piece + text[stop:]
    content = text.encode()
    if rng.random() < 0.1:
        content = content[: rng.randrange(len(content) + 1)] + b"\xff\xfe"
    return content


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_mutated_tables_are_read_or_refused(tmp_path, name, on_error):
    rng = random.Random(f"{name} {on_error}")
    path = tmp_path / name
    refused = 0
    for _ in range(60):
        path.write_bytes(mutated(TABLES[name](), rng))
        try:
            dataset = data.open(path, on_error=on_error)
        except PotNetError:
            refused += 1
        else:
            assert len(dataset) >= 1
            assert all(not np.isinf(column).any() for column in dataset.targets.values())
    assert 0 < refused < 60


@pytest.mark.parametrize("keep", [0, 1, 15, -20])
def test_a_damaged_gzip_file_is_refused(tmp_path, keep):
    path = tmp_path / "set.jsonl.gz"
    path.write_bytes(gzip.compress(lines().encode())[:keep])
    with pytest.raises(PotNetError, match="set"):
        data.open(path)


def test_nested_beyond_measure_is_refused(tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text("[" * 100_000)
    with pytest.raises(PotNetError, match="must be JSON"):
        data.open(path)
