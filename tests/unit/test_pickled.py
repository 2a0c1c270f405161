"""Plain data is read out of pickled files, and nothing in them is run."""

import os
import pickle  # noqa: TID251  (to write what the product must read without it)
from fractions import Fraction

import numpy as np
import pytest

from potnet.data.public.pickled import plain_data
from potnet.errors import DataError

RECORDS = [
    {
        "id": "mp-1",
        "bulk modulus": 2.25,
        "atoms": {
            "lattice_mat": [[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]],
            "coords": [[0.0, 0.0, 0.0]],
            "elements": ["Po"],
            "cartesian": False,
            "props": [""],
        },
        "more": [None, True, -3, 2**40, (1, 2, 3, 4), {}, [], (), "é", b"\x00\xff", 1e-300],
    }
] * 3


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_out_as_it_went_in(tmp_path, protocol):
    path = tmp_path / "set.pkl"
    records = [RECORDS[0], {**RECORDS[0], "more": ["x"] * 300}]
    if protocol < 3:  # bytes need a function there that Python 3 finds elsewhere
        records[0] = {**records[0], "more": records[0]["more"][:9]}
    path.write_bytes(pickle.dumps(records, protocol))
    found = plain_data(path)
    assert found[0]["more"][4] == [1, 2, 3, 4]
    records[0]["more"][4:8] = found[0]["more"][4:8]  # tuples come as lists
    assert found == records


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        np.array(1.75),
        np.float64(1.75),
        np.float32(1.75),
        np.int64(-7),
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([1.5, 2.5], dtype=">f8"),
    ],
    ids=repr,
)
def test_numbers_of_numpy_are_decoded(tmp_path, value, protocol):
    path = tmp_path / "set.pkl"
    path.write_bytes(pickle.dumps([{"y": value}], protocol))
    assert plain_data(path) == [{"y": value.tolist()}]


class Dangerous:
    def __reduce__(self):
        return os.system, ("touch was-run",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Dangerous(), r"the name '(posix|nt).system', which may be code"),
        (Fraction(1, 2), "the name 'fractions.Fraction'"),
        (np.array([Dangerous()]), "the type 'O8'"),
        (np.array(["text"]), "the type 'U4'"),
        (np.float64, "the name 'numpy.float64'"),
        ({1, 2}, "the instruction EMPTY_SET"),
    ],
    ids=["system", "object", "objects in an array", "words in an array", "a class", "a set"],
)
def test_code_is_refused_by_name_and_never_run(tmp_path, monkeypatch, value, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "set.pkl"
    path.write_bytes(pickle.dumps([value], 4))
    with pytest.raises(DataError, match=message):
        plain_data(path)
    assert not (tmp_path / "was-run").exists()


def test_damaged_files_are_refused_wherever_they_break(tmp_path):
    whole = pickle.dumps(RECORDS + [{"y": np.array(1.5)}], 4)
    path = tmp_path / "set.pkl"
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        content = bytearray(whole[: generator.integers(1, len(whole))])
        content[generator.integers(len(content))] ^= 1 << generator.integers(8)
        path.write_bytes(bytes(content))
        with pytest.raises(DataError, match="must be a pickled list of plain data"):
            plain_data(path)
        refused += 1
    assert refused == 400
