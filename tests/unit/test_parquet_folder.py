"""Folders of Parquet files: what goes in comes out, in order, whole, once, in little memory."""

import hashlib
import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import potnet.data as data
from potnet.crystal import Crystal
from potnet.data import ParquetFolder, Record, build, ids, manifest, parquet_folder, shard
from potnet.errors import DataError, Failure

# A cubic cell whose atom count and size tell records apart.
SIDE = 4.0


def made_up(k: int) -> Record:
    """Return record ``k`` of a made-up dataset: ids, sizes, targets, labels all differ."""
    n = 1 + k % 5
    positions = np.arange(3 * n).reshape(n, 3) * 0.7 + 1e-3 * k
    crystal = Crystal(
        np.arange(1, n + 1), positions, (SIDE * n + k % 7) * np.eye(3), id=f"crystal-{k}"
    )
    return Record(
        crystal.id,
        crystal,
        {"gap": 0.5 * k, **({"energy": -1.0 * k} if k % 3 else {})},
        ("train", "val", "test")[k % 3],
        {"functional": "PBE", "page": k},
        {"gap": "eV"},
    )


def same(a: Record, b: Record) -> bool:
    """Whether two records agree, their coordinates to the last bit."""
    names = ("numbers", "positions", "cell", "pbc")
    arrays = all(np.array_equal(getattr(a.crystal, n), getattr(b.crystal, n)) for n in names)
    infos = dict(a.crystal.info) == dict(b.crystal.info)
    return arrays and infos and replace(a, crystal=b.crystal) == b


@pytest.fixture
def small_shards(monkeypatch):
    """Make shards so small that a few records need several."""
    monkeypatch.setattr(parquet_folder, "SHARD_RECORDS", 10)
    monkeypatch.setattr(parquet_folder, "CHUNK", 4)
    monkeypatch.setattr(shard, "GROUP", 3)
    monkeypatch.setattr("potnet.data.building.CHUNK", 4)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of 60 crystals, two of which cannot be used and one of which repeats an id."""
    path = tmp_path / "table.jsonl"
    lines = []
    for k in range(60):
        record = made_up(k % 59)
        crystal = record.crystal
        record = {
            "id": record.id,
            "lattice": crystal.cell.tolist(),
            "species": crystal.symbols,
            "frac_coords": crystal.scaled_positions.tolist(),
            "targets": dict(record.targets),
            "split": record.split,
            "source": "made up",
        }
        if k in (7, 31):
            record["species"][0] = "Xx"
        lines.append(json.dumps(record))
    path.write_text("\n".join(lines))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != manifest.LOCK}


# ------------------------------------------------------------------------------ what is kept


def test_entries_come_back_to_the_last_bit_in_order(tmp_path, small_shards):
    records = [made_up(k) for k in range(37)]
    kept = ParquetFolder.create(tmp_path / "s")
    kept.append(records)
    again = ParquetFolder(tmp_path / "s")
    assert len(again) == 37
    assert all(same(a, b) for a, b in zip(again, records, strict=True))
    order = np.random.default_rng(0).permutation(37).tolist()
    assert all(same(again[k], records[k]) for k in order)
    assert again.units == {"gap": "eV"}
    assert again.place("crystal-30") == 30
    with pytest.raises(KeyError):
        again.place("crystal-37")
    with pytest.raises(IndexError, match="below 37"):
        again[37]


def test_open_directions_labels_by_target_and_crystal_info_are_kept(tmp_path):
    slab = Crystal([6], [[0, 0, 0]], SIDE * np.eye(3), pbc=[True, True, False], info={"a": [1, 2]})
    record = Record("slab", slab.replace(id="slab"), {}, {"gap": "test", "energy": "train"}, {})
    kept = ParquetFolder.create(tmp_path / "s")
    kept.append([record])
    assert same(kept[0], record)
    assert kept[0].split == {"gap": "test", "energy": "train"}


def test_arrays_of_a_stored_crystal_are_read_only(tmp_path):
    kept = ParquetFolder.create(tmp_path / "s")
    kept.append([made_up(0)])
    for name in ("numbers", "positions", "cell", "pbc"):
        assert not getattr(kept.crystal(0), name).flags.writeable


def test_a_folder_opens_as_the_dataset_it_was_built_from(tmp_path, table):
    build(table, tmp_path / "s")
    stored, read = data.open(tmp_path / "s"), data.open(table, on_error="skip")
    assert stored.ids == read.ids
    assert stored.sha256 == read.sha256
    assert stored.units == read.units
    assert stored.splits.keys() == read.splits.keys()
    for name, labels in read.splits.items():
        assert stored.splits[name].tolist() == labels.tolist()
    assert len(stored.failures) == len(read.failures) == 3
    assert dict(stored.crystals[4].info) == dict(read.crystals[4].info) == {"source": "made up"}
    part = np.array([50, 3, 17])
    assert stored.subset(part).sha256 == read.subset(part).sha256
    chosen = data.open(tmp_path / "s", targets="energy", units={"energy": "eV"})
    assert (list(chosen.targets), chosen.units["energy"]) == (["energy"], "eV")
    with pytest.raises(DataError, match="targets must be columns of the data"):
        data.open(tmp_path / "s", targets="volume")


def test_official_folds_are_kept(tmp_path):
    kept = ParquetFolder.create(tmp_path / "s")
    kept.append(replace(made_up(k), split=f"fold{k % 4}" if k else None) for k in range(9))
    found = data.open(tmp_path / "s")
    assert found.folds is not None
    assert found.folds.tolist() == [-1, 1, 2, 3, 0, 1, 2, 3, 0]
    assert not found.splits


def test_stored_targets_are_converted(tmp_path):
    kept = ParquetFolder.create(tmp_path / "s")
    kept.append(made_up(k) for k in range(6))
    found = data.open(tmp_path / "s", units={"gap": "meV"})
    assert found.units["gap"] == "meV"
    assert found.targets["gap"].tolist() == [500.0 * k for k in range(6)]
    (record, *_) = list(data.iter_records(tmp_path / "s", units={"gap": "meV"}))[2:]
    assert (record.targets["gap"], record.units["gap"]) == (1000.0, "meV")


def test_iterating_over_a_folder_yields_its_records_and_failures(tmp_path, table):
    build(table, tmp_path / "s")
    items, read = list(data.iter_records(tmp_path / "s")), list(data.iter_records(table))
    assert [x.id for x in items if isinstance(x, Record)] == [
        f"crystal-{k}" for k in range(59) if k not in (7, 31)
    ]
    assert sum(isinstance(x, Failure) for x in items) == 3
    assert sum(isinstance(x, Failure) for x in read) == 2  # the id that repeats is no failure yet


def test_what_cannot_be_used_is_listed_with_its_reason(tmp_path, table):
    kept = build(table, tmp_path / "s")
    assert [f.id for f in kept.failures] == ["crystal-7", "crystal-31", "crystal-0"]
    assert "Xx" in kept.failures[0].reason
    assert "ids must not repeat" in kept.failures[2].reason
    lines = (tmp_path / "s" / "_errors.csv").read_text().splitlines()
    assert lines[0] == "id,stage,reason"
    assert len(lines) == 4


def test_a_target_has_one_unit(tmp_path):
    kept = ParquetFolder.create(tmp_path / "s")
    kept.append([made_up(0)])
    with pytest.raises(DataError, match="'gap' must have one unit, got 'eV' and 'Ha'"):
        kept.append([replace(made_up(1), units={"gap": "Ha"})])
    assert len(ParquetFolder(tmp_path / "s")) == 1


# -------------------------------------------------------------------------- building, appending


def test_appending_fills_the_last_shard_and_keeps_what_was_there(tmp_path, small_shards):
    kept = ParquetFolder.create(tmp_path / "s")
    early = None
    for k in range(0, 33, 3):
        kept.append(made_up(i) for i in range(k, k + 3))
        early = early or ParquetFolder(tmp_path / "s")
    assert len(list((tmp_path / "s").glob("*.parquet"))) <= 4
    assert len(early) == 3
    assert all(same(early[k], made_up(k)) for k in range(3))
    early.refresh()
    assert [record.id for record in early] == [f"crystal-{k}" for k in range(33)]


def test_an_id_that_is_there_is_refused_or_listed(tmp_path):
    kept = ParquetFolder.create(tmp_path / "s")
    kept.append([made_up(0), made_up(1)])
    with pytest.raises(DataError, match="ids must not repeat"):
        kept.append([made_up(2), made_up(1)])
    assert len(kept) == 2
    kept.append([made_up(2), made_up(1), made_up(2)], on_error="skip")
    assert kept.ids == ["crystal-0", "crystal-1", "crystal-2"]
    assert [f.id for f in kept.failures] == ["crystal-1", "crystal-2"]


def test_many_ids_are_found_beyond_the_recent_ones(monkeypatch):
    monkeypatch.setattr(ids, "RECENT", 8)
    index = ids.Ids()
    for start in range(0, 100, 5):
        assert index.add([f"id-{k}" for k in range(start, start + 5)]) == []
    assert index.find([f"id-{k}" for k in range(100)]).tolist() == list(range(100))
    assert index.add(["new", "id-3", "new"]) == [1, 2]
    assert index.find(["none"]).tolist() == [-1]


def test_two_processes_build_the_same_bytes_as_one(tmp_path, table, small_shards):
    build(table, tmp_path / "one")
    build(table, tmp_path / "two", workers=2)
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    shards = [name for name in one if name.endswith(".parquet")]
    assert len(shards) > 3
    assert all(one[name] == two[name] for name in shards)


class Stop(Exception):
    pass


def test_an_interrupted_build_goes_on_where_it_was(tmp_path, table, small_shards):
    rows = []

    def stop(done: int, total: int | None) -> None:
        rows.append(done)
        if done >= 25:
            raise Stop

    with pytest.raises(Stop):
        build(table, tmp_path / "s", progress=stop)
    halfway = ParquetFolder(tmp_path / "s")
    assert not halfway.is_complete
    assert 0 < len(halfway) < 57
    resumed = []
    finished = build(table, tmp_path / "s", progress=lambda *seen: resumed.append(seen))
    assert resumed[0][0] > rows[-1]
    assert resumed[-1] == (60, 60)
    assert finished.is_complete
    assert finished.version == build(table, tmp_path / "whole").version
    before = contents(tmp_path / "s")
    build(table, tmp_path / "s")  # complete: nothing happens
    assert contents(tmp_path / "s") == before


def test_another_source_is_appended(tmp_path, table):
    other = tmp_path / "other.jsonl"
    other.write_text(table.read_text().replace("crystal-", "other-"))
    build(table, tmp_path / "s")
    kept = build(other, tmp_path / "s")
    assert len(kept) == 2 * 57
    assert kept.place("other-5") == 57 + 5
    assert kept.is_complete


def test_a_source_that_changed_is_not_mixed_with_what_it_was(tmp_path, table):
    build(table, tmp_path / "s")
    table.write_text(table.read_text() + "\n")
    with pytest.raises(DataError, match="must stay as they were"):
        build(table, tmp_path / "s")


def test_a_folder_with_files_does_not_become_a_dataset(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="folder of a new dataset must be empty"):
        ParquetFolder.create(tmp_path)


def test_only_one_writes_at_a_time_and_readers_read_meanwhile(tmp_path, small_shards):
    kept = ParquetFolder.create(tmp_path / "s")
    faults, done = [], threading.Event()

    def read() -> None:
        seen = 0
        while not done.is_set():
            found = ParquetFolder(tmp_path / "s")
            if len(found) < seen or any(not same(found[k], made_up(k)) for k in range(len(found))):
                faults.append(len(found))
            seen = len(found)

    reader = threading.Thread(target=read)
    reader.start()
    with parquet_folder.Writer(kept) as writer:
        for k in range(0, 60, 3):
            writer.add(shard.Shard.of([made_up(i) for i in range(k, k + 3)]))
            if k == 30:
                with pytest.raises(DataError, match="only one process may write"):
                    ParquetFolder(tmp_path / "s").append([made_up(99)])
    done.set()
    reader.join()
    assert not faults
    assert len(ParquetFolder(tmp_path / "s")) == 60


def test_what_may_not_stay_in_memory_is_read_again(tmp_path, small_shards, monkeypatch):
    kept = ParquetFolder.create(tmp_path / "s")
    kept.append(made_up(k) for k in range(60))
    group = ParquetFolder(tmp_path / "s")._files[0].group_bytes(0)
    monkeypatch.setattr(parquet_folder, "CACHE_BYTES", 3 * group)
    kept = ParquetFolder(tmp_path / "s")
    for k in (0, 59, 31, 0, 12, 45, 59):
        assert same(kept[k], made_up(k))
        assert np.array_equal(kept.crystal(k).positions, made_up(k).crystal.positions)
        assert 1 <= len(kept._groups) <= 4
    assert kept._cached == sum(kept._files[k].group_bytes(g) for k, g in kept._groups)
    kept.append([made_up(60)])  # into the last file, which was read before
    assert same(kept[60], made_up(60))


def test_a_shard_that_changes_after_it_was_let_go_is_not_believed(
    tmp_path, small_shards, monkeypatch
):
    kept = ParquetFolder.create(tmp_path / "s")
    kept.append(made_up(k) for k in range(60))
    monkeypatch.setattr(parquet_folder, "CACHE_BYTES", 1)
    assert same(kept[3], made_up(3))
    assert same(kept[59], made_up(59))
    path = tmp_path / "s" / "000000.parquet"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="000000.parquet: must be as it was written"):
        kept[3]


# ------------------------------------------------------------------------------------- damage


@pytest.fixture
def damaged(tmp_path, small_shards) -> Path:
    """A folder of several files, to be damaged."""
    kept = ParquetFolder.create(tmp_path / "s")
    kept.append(made_up(k) for k in range(40))
    assert kept.verify() == []
    return tmp_path / "s"


def test_every_flipped_byte_of_a_shard_is_found(damaged):
    path = damaged / "000001.parquet"
    whole = path.read_bytes()
    for place in np.random.default_rng(1).integers(len(whole), size=60).tolist():
        bad = bytearray(whole)
        bad[place] ^= 1 << place % 8
        path.write_bytes(bad)
        with pytest.raises(DataError, match="000001.parquet: |one of its|format must be") as e:
            list(ParquetFolder(damaged))
        assert "\n" not in str(e.value)
    path.write_bytes(whole)
    assert ParquetFolder(damaged).verify() == []


def test_verify_names_the_shard_with_changed_bytes(damaged):
    path = damaged / "000002.parquet"
    bad = bytearray(path.read_bytes())
    bad[40] ^= 4
    path.write_bytes(bad)
    seen = []
    (fault,) = ParquetFolder(damaged).verify(lambda *step: seen.append(step))
    assert "000002.parquet: must be as it was written, got changed bytes" in fault
    assert seen[-1] == (len(seen), len(seen))


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_truncated_shard_is_named_on_opening(damaged, size):
    path = damaged / "000001.parquet"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match="000001.parquet: must be as it was written"):
        ParquetFolder(damaged)


@pytest.mark.parametrize("name", ["000000", "000001", "000003"])
def test_a_missing_shard_is_noticed(damaged, name):
    (damaged / f"{name}.parquet").unlink()
    with pytest.raises(DataError, match="all files of a dataset must be there"):
        ParquetFolder(damaged)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}'])
def test_a_damaged_manifest_is_refused(damaged, text):
    (damaged / manifest.MANIFEST).write_text(text)
    with pytest.raises(DataError, match=r"must have a readable _potnet.json"):
        ParquetFolder(damaged)


def test_a_later_format_is_left_to_later_versions(damaged):
    found = json.loads((damaged / manifest.MANIFEST).read_text())
    (damaged / manifest.MANIFEST).write_text(json.dumps({**found, "format": 99}))
    with pytest.raises(DataError, match="format must be 2, got 99"):
        ParquetFolder(damaged)


# ------------------------------------------------------------------------- read by other tools


def test_any_reader_of_parquet_opens_the_folder_as_one_table(tmp_path, small_shards):
    kept = ParquetFolder.create(tmp_path / "s")
    kept.append(made_up(k) for k in range(37))
    frame = pd.read_parquet(tmp_path / "s")
    assert frame["id"].tolist() == kept.ids
    np.testing.assert_array_equal(frame["gap"], kept.column("gap"))
    np.testing.assert_array_equal(frame["energy"], kept.column("energy"))
    assert frame["energy"].isna().sum() == 13
    for k in (0, 20, 36):
        crystal, row = made_up(k).crystal, frame.iloc[k]
        np.testing.assert_array_equal(row["numbers"], crystal.numbers)
        np.testing.assert_array_equal(np.stack(row["positions"]), crystal.positions)
        np.testing.assert_array_equal(np.stack(row["cell"]), crystal.cell)
        assert row["pbc"].tolist() == [True] * 3
        assert row["split"] == made_up(k).split
        assert json.loads(row["info"]) == {"functional": "PBE", "page": k}


def test_a_single_file_is_a_table_that_potnet_reads_too(tmp_path):
    ParquetFolder.create(tmp_path / "s").append(made_up(k) for k in range(5))
    found = data.open(tmp_path / "s" / "000000.parquet", targets=["gap"])
    assert found.ids == tuple(f"crystal-{k}" for k in range(5))
    np.testing.assert_array_equal(found.crystals[3].positions, made_up(3).crystal.positions)


@pytest.mark.parametrize(
    "name", ["cell", "split", "id", "info", "target cell", "split of x", "a.b"]
)
def test_a_target_may_be_called_like_a_column_of_the_crystal(tmp_path, name):
    record = replace(made_up(1), targets={name: 1.5, "x": 2.0}, split={"x": "test"}, units={})
    kept = ParquetFolder.create(tmp_path / "s")
    kept.append([record])
    assert same(kept[0], record)
    assert kept.column(name).tolist() == [1.5]
    found = data.open(tmp_path / "s", targets=[name, "x"])
    assert found.targets[name].tolist() == [1.5]
    assert found.splits["x"].tolist() == ["test"]


def crafted(folder: Path, **columns) -> Path:
    """Replace columns of the first file by others, with the checksum that belongs to them."""
    path = folder / "000000.parquet"
    table = parquet.read_table(path)
    for name, values in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, [values])
    parquet.write_table(table, path)
    found = json.loads((folder / manifest.MANIFEST).read_text())
    found["sha256"][path.name] = [hashlib.sha256(path.read_bytes()).hexdigest()]
    (folder / manifest.MANIFEST).write_text(json.dumps(found))
    return folder


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"numbers": [[0], [1, 2]]}, "an atomic number that no element has"),
        ({"numbers": [[119], [1, 2]]}, "an atomic number that no element has"),
        ({"numbers": [[], [1, 2]]}, "lists whose lengths do not fit"),
        ({"numbers": [[1, 2], [1]]}, "lists whose lengths do not fit"),
        ({"numbers": [None, [1, 2]]}, "nulls in a column"),
        ({"numbers": [[None], [1, 2]]}, "nulls in a list"),
        ({"positions": [[[0.0, 0, 0]], [[0.0, 0], [0.0, 0, 0, 0]]]}, "lists whose lengths"),
        ({"positions": [[[np.nan, 0, 0]], [[0.0, 0, 0], [1.0, 0, 0]]]}, "not finite"),
        ({"cell": [[[1.0, 0, 0]] * 3, np.eye(3).tolist()]}, "that span no volume"),
        ({"cell": [np.eye(3).tolist(), [[np.inf, 0, 0]] * 3]}, "not finite"),
        ({"cell": [np.eye(3).tolist(), [[1.0, 0, 0]]]}, "lists whose lengths"),
        ({"pbc": [[True], [True] * 3]}, "lists whose lengths"),
        ({"positions": [None, [[0.0, 0, 0], None]]}, "nulls in a column"),
        ({"id": ["a", None]}, "nulls in a column"),
    ],
)
def test_a_crafted_file_is_refused_in_one_sentence(tmp_path, columns, message):
    kept = ParquetFolder.create(tmp_path / "s")
    kept.append([made_up(0), made_up(1)])
    types = {"numbers": shard._CRYSTAL["numbers"], "positions": shard._CRYSTAL["positions"]}
    arrays = {k: pa.array(v, types.get(k)) for k, v in columns.items()}
    found = ParquetFolder(crafted(tmp_path / "s", **arrays))
    for read in (lambda: found[0], lambda: list(found), lambda: found.crystal(1)):
        with pytest.raises(DataError, match=f"000000.parquet: must hold crystals, got .*{message}"):
            read()
    (fault,) = found.verify()
    assert "must hold crystals" in fault


@pytest.mark.parametrize("name", ["id", "gap", "split", "info", "cell", "numbers"])
def test_a_column_of_another_type_is_refused_on_opening(tmp_path, name):
    kept = ParquetFolder.create(tmp_path / "s")
    kept.append([made_up(0), made_up(1)])
    crafted(tmp_path / "s", **{name: pa.array([b"a", b"b"])})
    with pytest.raises(DataError, match=f"column '{name}' must be .*, got binary"):
        ParquetFolder(tmp_path / "s")


@pytest.mark.parametrize("info", ["{", "[]", "7", '{"a": ' + "[" * 10**5])
def test_crafted_words_are_refused_in_one_sentence(tmp_path, info):
    kept = ParquetFolder.create(tmp_path / "s")
    kept.append([made_up(0), made_up(1)])
    found = ParquetFolder(crafted(tmp_path / "s", info=pa.array([info, None])))
    for read in (lambda: found[0], lambda: list(found), lambda: found.crystal(0)):
        with pytest.raises(DataError, match="000000.parquet: `info` must be a JSON object"):
            read()
    assert same(found[1], replace(made_up(1), info={}))


@pytest.mark.parametrize(
    "about",
    [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 2, "units": 3}', b"\xff", b'{"format": {}}'],
)
def test_a_footer_that_somebody_else_wrote_is_refused_in_one_sentence(tmp_path, about):
    ParquetFolder.create(tmp_path / "s").append([made_up(0)])
    path = tmp_path / "s" / "000000.parquet"
    table = parquet.read_table(path).replace_schema_metadata({"potnet": about})
    parquet.write_table(table, path)
    with pytest.raises(DataError, match="000000.parquet: (must be as it was|format must be 2)"):
        ParquetFolder(tmp_path / "s")
