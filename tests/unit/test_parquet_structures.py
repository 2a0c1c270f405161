"""Crystals in Parquet files are read like those of any other format."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from potnet import read
from potnet.data import ParquetFolder, Record
from potnet.errors import Failure, StructureError
from potnet.io import Pieces, scan


def rows_of(crystals) -> list[dict]:
    return [
        {
            "id": crystal.id,
            "numbers": crystal.numbers.tolist(),
            "positions": crystal.positions.tolist(),
            "cell": crystal.cell.tolist(),
            "pbc": crystal.pbc.tolist(),
            "gap": 1.0,
        }
        for crystal in crystals
    ]


def write(rows, path, drop=()) -> None:
    parquet.write_table(pa.Table.from_pylist(rows).drop_columns(list(drop)), path)


def test_a_table_gives_the_crystals_that_were_written(salts, tmp_path) -> None:
    path = tmp_path / "salts.parquet"
    write(rows_of(salts * 30)[:300], path)
    found = list(Pieces(path))
    assert [piece.name for piece in found] == [c.id for c in salts * 25]
    assert found[-1].share == 1
    crystals = [crystal for piece in found for _, crystal in piece.found()]
    for crystal, salt in zip(crystals, salts * 25, strict=True):
        assert np.array_equal(crystal.positions, salt.positions)
        assert np.array_equal(crystal.cell, salt.cell)
        assert crystal.id == salt.id


def test_ids_and_periodicity_may_be_left_out(salts, tmp_path) -> None:
    write(rows_of(salts[:2]), tmp_path / "x.parquet", ["id", "pbc"])
    crystals = read(tmp_path / "x.parquet")
    assert [crystal.id for crystal in crystals] == ["x#1", "x#2"]
    assert all(crystal.pbc.all() for crystal in crystals)


def test_a_bad_row_is_named_and_the_others_are_read(salts, tmp_path) -> None:
    rows = rows_of(salts[:4])
    rows[1]["cell"] = [[0.0, 0.0, 0.0]] * 3
    rows[2]["positions"] = None
    write(rows, tmp_path / "x.parquet")
    found = list(scan(tmp_path / "x.parquet"))
    assert [isinstance(item, Failure) for item in found] == [False, True, True, False]
    assert [item.id for item in found] == [salt.id for salt in salts[:4]]
    assert "x.parquet, row 2: " in found[1].reason
    assert "`positions` must be there, got none" in found[2].reason


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"PAR1 no table PAR1", "must be Parquet"), (None, "must have the columns numbers,")],
)
def test_another_file_is_refused_in_one_sentence(salts, tmp_path, content, message) -> None:
    path = tmp_path / "x.parquet"
    if content is None:
        write(rows_of(salts[:2]), path, ["numbers"])
    else:
        path.write_bytes(content)
    with pytest.raises(StructureError, match=message):
        read(path)


def test_a_file_of_a_built_dataset_is_such_a_table(salts, tmp_path) -> None:
    ParquetFolder.create(tmp_path / "set").append(Record(c.id, c, {"gap": 1.0}) for c in salts)
    found = read(tmp_path / "set" / "000000.parquet")
    assert [(c.id, c.formula) for c in found] == [(c.id, c.formula) for c in salts]
