"""Tables from anywhere: one bad row costs no other, a small file fills no memory and no time."""

import builtins
import json
import pickle  # noqa: TID251  (to write what the product must read without it)
import sqlite3
import time
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow as pa
import pytest
from pyarrow import parquet

import potnet.data as data
from potnet.checks import check_records
from potnet.data import Record, opening
from potnet.data.public.pickled import plain_data
from potnet.data.readers import rows as reader_rows
from potnet.errors import DataError, Failure

SALT = {
    "numbers": [11, 17],
    "positions": [[0, 0, 0], [2.1, 2.1, 2.1]],
    "cell": [[4.2, 0, 0], [0, 4.2, 0], [0, 0, 4.2]],
}
POSCAR = "x\n1\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\ndirect\n0 0 0\n.5 .5 .5\n"
EXCEPTIONS = [
    value
    for name, value in vars(builtins).items()
    if isinstance(value, type)
    and issubclass(value, Exception)
    and not issubclass(value, (Warning, UnicodeError, BaseExceptionGroup))
]


def lines(path: Path, *records: object) -> Path:
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def read(path: Path, **settings) -> tuple[list[Record], list[Failure]]:
    items = list(data.iter_records(path, **settings))
    good = [item for item in items if isinstance(item, Record)]
    bad = [item for item in items if isinstance(item, Failure)]
    assert all("\n" not in failure.reason for failure in bad)
    return good, bad


# ------------------------------------------------------------------------------------- one wall


@pytest.mark.parametrize("kind", EXCEPTIONS, ids=lambda kind: kind.__name__)
def test_whatever_goes_wrong_with_a_row_costs_that_row_alone(tmp_path, monkeypatch, kind):
    path = lines(tmp_path / "set.jsonl", *({"id": f"r{k}", **SALT, "y": k} for k in range(3)))
    for module, name in ((reader_rows, "_crystal"), (reader_rows, "_sorted_out")):
        real = getattr(module, name)

        def broken(value, *rest, real=real):
            if value in ({"y": 1}, rest and rest[0] == "r1") or rest == ("r1",):
                raise kind
            return real(value, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, broken)
            good, bad = read(path)
        assert [record.id for record in good] == ["r0", "r2"]
        assert kind.__name__ in bad[0].reason
        assert "set.jsonl, line 2: must be a row that can be read" in bad[0].reason


@pytest.mark.parametrize("kind", EXCEPTIONS, ids=lambda kind: kind.__name__)
def test_whatever_breaks_a_reader_ends_it_with_a_reason(tmp_path, monkeypatch, kind):
    path = lines(tmp_path / "set.jsonl", {"id": "r0", **SALT})

    def rows(where):
        yield from real(where)
        raise kind

    real = opening.rows_of
    monkeypatch.setattr(opening, "rows_of", rows)
    if issubclass(kind, StopIteration):
        pytest.skip("a generator turns it into a RuntimeError")
    good, bad = read(path)
    assert len(good) == len(bad) == 1
    assert kind.__name__ in bad[0].reason


ODD = [
    None,
    [],
    {},
    "x",
    5,
    -1,
    True,
    1e308,
    10**400,
    [None] * 2,
    [[[]]],
    {"a": {"b": None}},
    "9" * 999,
]


@pytest.mark.parametrize("key", ["id", *SALT, "pbc", "y", "split", "units", "targets", "info"])
def test_any_value_in_any_place_is_a_record_or_a_reason(tmp_path, key):
    odd = [{"id": f"odd{k}", **SALT, key: value} for k, value in enumerate(ODD)]
    path = lines(tmp_path / "set.jsonl", {"id": "first", **SALT}, *odd, {"id": "last", **SALT})
    good, bad = read(path)
    assert len(good) + len(bad) == len(ODD) + 2
    assert [good[0].id, good[-1].id] == ["first", "last"]


def test_words_of_any_type_are_kept_in_what_is_built(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["id", "poscar", "when", "y"])
    book.active.append(["a", POSCAR, np.datetime64("2020-01-01").astype(object), 1.0])
    book.save(tmp_path / "set.xlsx")
    assert data.build(tmp_path / "set.xlsx", tmp_path / "built")[0].info["when"].startswith("2020")


# ----------------------------------------------------------------------------------- one budget


def test_a_workbook_with_rows_far_apart_is_refused_in_time(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["id", "poscar"])
    book.active.cell(1_000_000, 1, "far")
    book.save(tmp_path / "set.xlsx")
    (failure,) = read(tmp_path / "set.xlsx")[1]
    assert "rows must follow each other, got more than 100000 empty ones after row 1" in (
        failure.reason
    )


def test_a_view_in_place_of_a_table_of_ase_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "set.db") as database:
        database.execute(
            "CREATE VIEW systems AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 "
            "FROM n) SELECT id, x'' numbers, x'' positions, x'' cell, 0 pbc, '' key_value_pairs "
            "FROM n"
        )
    (failure,) = read(tmp_path / "set.db")[1]
    assert "`systems` of a database of ASE must be a table, got a view" in failure.reason


@pytest.mark.parametrize("nested", [False, True])
def test_repeated_text_in_a_parquet_file_fills_no_memory(tmp_path, nested):
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), ["x" * 4_000_000])
    if nested:
        text = pa.ListArray.from_arrays(pa.array(range(2001), pa.int32()), text)
    table = pa.table({"cif": ["x"] * 2000, "note": text})
    parquet.write_table(table, tmp_path / "set.parquet", compression="zstd")
    assert (tmp_path / "set.parquet").stat().st_size < 50_000
    failures = read(tmp_path / "set.parquet")[1]
    assert "rows must hold at most 256 MiB of text, got more" in failures[-1].reason


def test_repeated_numbers_in_a_parquet_file_fill_no_memory(tmp_path):
    n = 40_000_000
    lists = pa.ListArray.from_arrays(pa.array([0, n], pa.int32()), pa.array(np.zeros(n)))
    table = pa.table({"cif": ["x"], "note": lists})
    parquet.write_table(table, tmp_path / "set.parquet", compression="zstd")
    failures = read(tmp_path / "set.parquet")[1]
    assert "must not swell more than 200 times" in failures[-1].reason


def test_more_rows_than_bytes_are_refused(tmp_path):
    table = pa.table({"cif": pa.nulls(500_000, pa.string())})
    parquet.write_table(table, tmp_path / "set.parquet")
    (failure,) = read(tmp_path / "set.parquet")[1]
    assert "the file must have no more rows than bytes, got 500000 rows" in failure.reason


@pytest.mark.parametrize("name", ["set.jsonl", "set.json"])
@pytest.mark.parametrize("bomb", ["[]," * 4_500_000 + "[]", "[" * 100_000])
def test_lists_without_end_fill_no_memory(tmp_path, name, bomb):
    (tmp_path / name).write_text(f'{{"id": "a", "atoms": [{bomb}]}}')
    (failure,) = read(tmp_path / name)[1]
    assert "must be JSON, got text that is not (" in failure.reason


def test_a_whole_number_of_any_length_is_one_sentence(tmp_path):
    (tmp_path / "set.jsonl").write_text('{"id": "a", "y": ' + "9" * 10_000 + "}\n")
    (failure,) = read(tmp_path / "set.jsonl")[1]
    assert "set.jsonl, line 1" in failure.reason


def least_time(action) -> float:
    times = []
    for _ in range(3):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return min(times)


LONG = {
    "columns": lambda n: f"id,poscar,{','.join(f'c{k}' for k in range(n))}\n",
    "the same name": lambda n: f"id,poscar,{'a,' * n}y\n",
    "brackets": lambda n: f"id,poscar,y {'(' * n}\n",
    "units": lambda n: f"id,poscar,y ({'a/' * n})\n",
    "spaces in a unit": lambda n: f"id,poscar,y (eV{' ' * n}/x)\n",
    "digits": lambda n: f'id,poscar,y\na,"{POSCAR}",{"9" * n}x\n',
    "digits after a point": lambda n: f'id;poscar;y\na;"{POSCAR}";1,{"9" * n}x\n',
    "spaces": lambda n: f'id;poscar;y\na;"{POSCAR}";{" " * n}x\n',
    "an id": lambda n: f'id,poscar,y\n{"a" * n},"{POSCAR}",1\n',
}


@pytest.mark.parametrize("kind", LONG)
def test_four_times_as_much_text_takes_about_four_times_as_long(tmp_path, kind):
    times = []
    for n in (20_000, 80_000):
        path = tmp_path / f"{n}.csv"
        path.write_text(LONG[kind](n))
        times.append(least_time(lambda path=path: read(path)))
    assert times[1] < 10 * times[0] + 0.05


@pytest.mark.parametrize(
    "content",
    [
        # Thirty lists, each of which names the one before twice: a billion items from 200 bytes.
        pickle.dumps((lambda x: [x := [x, x] for _ in range(30)][-1])([1]), 4),
        pickle.dumps((lambda x: [x.append(x), x][1])([]), 4),
        pickle.dumps([np.empty((10**8, 0))], 4),
    ],
    ids=["doubled", "in itself", "empty arrays"],
)
def test_a_pickled_file_that_asks_for_endless_data_is_refused(tmp_path, content):
    (tmp_path / "set.pkl").write_bytes(content)
    with pytest.raises(DataError, match="must be a pickled list of plain data, got"):
        plain_data(tmp_path / "set.pkl")


# -------------------------------------------------------------------------- names and numbers


def test_names_with_escape_sequences_are_shown_and_kept_as_escapes(tmp_path):
    path = tmp_path / "set.csv"
    path.write_text(f'id,poscar,\x1b[31my\na,"{POSCAR}",1.5\n')
    (record,), _ = read(path)
    assert record.targets == {"\\x1b[31my": 1.5}
    assert read(path, targets="\x1b[31my")[0][0].targets == {"\\x1b[31my": 1.5}
    path.write_text(f'id,poscar\n\x1b]0;x\x07,"{POSCAR}"\n')
    (failure,) = read(path)[1]
    assert failure.id.isprintable()


@pytest.mark.parametrize("words", [("True", "False"), ("yes", "no"), (True, False)])
def test_two_classes_that_were_asked_for_are_one_and_zero(tmp_path, words):
    rows = ({"id": f"r{k}", **SALT, "y": words[k % 2]} for k in range(6))
    path = lines(tmp_path / "set.jsonl", *rows)
    assert data.open(path, targets="y").targets["y"].tolist() == [1, 0] * 3
    assert not data.open(path).targets
    read_as = [str(word) if isinstance(word, str) else str(word).lower() for word in words]
    assert data.open(path).words["y"].tolist() == read_as * 3


@pytest.mark.parametrize("value", [1e101, -1e302, 1e400, "1e302"])
def test_numbers_beyond_all_measure_are_refused(tmp_path, value):
    path = lines(tmp_path / "set.jsonl", {"id": "a", **SALT, "y": value})
    (failure,) = read(path)[1]
    assert "target 'y' must be a finite number of at most 1e+100" in failure.reason


def test_paths_of_windows_are_found_and_lead_nowhere_else(tmp_path):
    (tmp_path / "structs").mkdir()
    (tmp_path / "structs" / "a.vasp").write_text(POSCAR)
    (tmp_path / "set.csv").write_text(
        "id,path,y\na,structs\\a.vasp,1\nb,..\\structs\\a.vasp,1\nc,C:\\a.vasp,2\nd,\\etc\\x,3\n"
    )
    good, bad = read(tmp_path / "set.csv")
    assert [record.id for record in good] == ["a"]
    assert all("must lie in the folder of the table" in failure.reason for failure in bad)
    assert len(bad) == 3


def test_a_target_asked_for_twice_is_one(tmp_path):
    path = lines(tmp_path / "set.jsonl", {"id": "a", **SALT, "y": 1.0})
    assert list(data.open(path, targets=["y", "y"]).targets) == ["y"]


def test_a_folder_of_cgcnn_without_header_is_read(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.vasp").write_text(POSCAR)
    (tmp_path / "id_prop.csv").write_text("a,1.5\nb,2.5\n")
    assert data.open(tmp_path).targets["target"].tolist() == [1.5, 2.5]


def test_an_assumed_unit_is_told(tmp_path, caplog):
    path = lines(tmp_path / "set.jsonl", {"id": "a", **SALT, "y": 1.0, "e (eV)": 2.0})
    data.open(path, units={"y": "GPa"})
    assert "names no unit of 'y', its values are taken to be GPa" in caplog.text
    caplog.clear()
    csv = tmp_path / "set.csv"
    csv.write_text(f'id,poscar,e (eV)\na,"{POSCAR}",1\n')
    data.open(csv, units={"e (eV)": "meV"})
    assert "taken to be" not in caplog.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0] * 6, "y: all 6 values are 0 GPa: nothing can be learned"),
        ([1.0] * 6, "y: all 6 values are 1 GPa: nothing can be learned"),
        ([1e-13] * 6, "y: all 6 values are 1e-13 GPa: nothing can be learned"),
        ([0.0] * 5 + [1.0], "y: one of two values is that of only 1 crystals"),
        ([k * 1e-13 for k in range(6)], None),
        ([k / 2 for k in range(6)], None),
    ],
)
def test_columns_that_teach_nothing_are_told(tmp_path, values, message):
    def salt(k: int, value: float) -> dict:
        cell = [[4.2 + k / 10, 0, 0], [0, 4.2, 0], [0, 0, 4.2]]
        return {"id": f"r{k}", **SALT, "cell": cell, "y": value}

    path = lines(tmp_path / "set.jsonl", *(salt(k, value) for k, value in enumerate(values)))
    found = check_records(data.iter_records(path), units={"y": "GPa"})
    texts = [finding.text for finding in found.findings if finding.kind == "constant"]
    assert [text.startswith(message) for text in texts] == ([True] if message else [])
