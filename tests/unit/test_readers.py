"""Every source of crystals is read row by row, and says what it held."""

import gzip
import io
import json
import tracemalloc

import pytest

from potnet import data
from potnet.data.readers.json_stream import JsonStream
from potnet.errors import DataError, Failure


def record(id="a", length=4.0, **rest):
    cell = [[length, 0, 0], [0, length, 0], [0, 0, length]]
    return {"id": id, "lattice": cell, "species": ["Fe"], "frac_coords": [[0, 0, 0]], **rest}


def jsonl(*records):
    return "".join(json.dumps(item) + "\n" for item in records)


def test_scan_yields_entries_and_goes_on_after_a_bad_row(tmp_path):
    path = tmp_path / "set.jsonl"
    rows = [
        record("good", targets={"y": 1.5}, split="train", functional="PBE"),
        record("small", length=0.1),
        record("last", targets={"y": None}),
    ]
    path.write_text(jsonl(*rows) + "{broken\n")
    first, small, last, broken = data.scan(path, units={"y": "eV"})
    assert (first.id, first.crystal.id, first.split) == ("good", "good", "train")
    assert first.targets == {"y": 1.5}
    assert first.units == {"y": "eV"}
    assert first.info == {"functional": "PBE"}
    assert last.id == "last"
    assert isinstance(small, Failure)
    assert isinstance(broken, Failure)
    assert small.id == "small"
    assert small.reason.startswith("set.jsonl, line 2: small: `cell` must repeat after at least")
    assert broken.reason.startswith("set.jsonl, line 4: must be JSON")


def test_scan_asks_for_targets_by_name(tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text(jsonl(record(targets={"y": "high", "z": 1})))
    (failure,) = data.scan(path, targets="y")
    assert "target 'y' must be a finite number or missing, got 'high'" in failure.reason
    (entry,) = data.scan(path, targets="z")
    assert (entry.targets, entry.info) == ({"z": 1.0}, {"y": "high"})
    with pytest.raises(DataError, match=r"columns of the data \(y, z\), got 'x'"):
        list(data.scan(path, targets="x"))


def test_a_file_that_breaks_off_ends_with_a_failure(tmp_path):
    path = tmp_path / "set.jsonl.gz"
    whole = gzip.compress(jsonl(*(record(f"r{k}", 3 + k / 997) for k in range(5000))).encode())
    path.write_bytes(whole[:-2000])
    *entries, failure = data.scan(path)
    assert 3000 < len(entries) < 5000
    assert "must be readable, got EOFError" in failure.reason


@pytest.mark.parametrize("chunk", [1, 2, 7, 1000])
def test_json_is_the_same_piece_by_piece(chunk):
    whole = [1.5e3, -12, 'a\\u00e9 " \\ \n', None, True, {"k": [[], {}, "x"]}, [1, [2, "]"]], 7]
    stream = JsonStream(io.StringIO(f" {json.dumps(whole, indent=1)} "), "set.json", chunk)
    assert list(stream.items()) == whole
    stream.end()
    table = JsonStream(io.StringIO(json.dumps({"a": 1, "b": whole, "c": {}})), "set.json", chunk)
    assert {key: table.value() for key in table.names()} == {"a": 1, "b": whole, "c": {}}


@pytest.mark.parametrize("name", ["set.jsonl", "set.json"])
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path, name):
    def peak(n_rows):
        path = tmp_path / name
        rows = [record(f"r{k}", note="x" * 1000) for k in range(n_rows)]
        path.write_text(jsonl(*rows) if name == "set.jsonl" else json.dumps(rows))
        tracemalloc.start()
        count = sum(1 for _ in data.scan(path))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == n_rows
        return found

    peak(100)
    assert peak(8000) < peak(4000) * 1.2
