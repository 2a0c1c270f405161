"""What a cluster does with files, without a cluster but for one short test."""

import json
import os
from dataclasses import replace
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from potnet import write
from potnet.cli import app
from potnet.cluster import Predictor
from potnet.cluster.addresses import OutputFolder, find_sources, local_copy
from potnet.cluster.predict import _claim, _unfinished
from potnet.cluster.shard import Settings, ShardWorker
from potnet.errors import ConfigError
from potnet.sheet import make_sheet

needs_ray = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture
def inputs(salts, tmp_path) -> Path:
    """Three files, one of them with a row that is no crystal."""
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(2):
        rows = [
            {"id": c.id, "numbers": c.numbers.tolist(), "positions": c.positions.tolist()}
            | {"cell": (c.cell * (1 + 0.01 * k)).tolist()}
            for c in salts
        ]
        if k:
            rows[3]["numbers"] = [3, 300]
        parquet.write_table(pa.Table.from_pylist(rows), folder / f"p{k}.parquet")
    write(salts[:5], folder / "frames.extxyz")
    return folder


def worker(settings: Settings, output: object) -> ShardWorker:
    from importlib.metadata import version

    key = settings.key(settings.maker())
    return ShardWorker(settings, str(output), key, version("potnet"))


def predicted(archive: Path, *words: object) -> None:
    """Predict on one machine."""
    words = ("predict", *words, "-m", archive, "--workers", 1)
    assert CliRunner().invoke(app, list(map(str, words))).exit_code in (0, 3)


@pytest.mark.parametrize("careful", [False, True])
def test_a_shard_has_the_bytes_of_one_machine_at_any_address(
    inputs, small_archive, tmp_path, careful
) -> None:
    settings = Settings((str(small_archive),))
    memory = fsspec.filesystem("memory")
    memory.put(str(inputs), "/crystals", recursive=True)
    for target, given in (
        (str(tmp_path / "out"), str(inputs)),
        ("memory://out", "memory://crystals"),
    ):
        shards, places = worker(settings, target), find_sources([f"{given}/*"])
        assert [source.name for source in places] == ["frames.extxyz", "p0", "p1"]
        counts = [shards.predict(s.address, s.name, careful)[:2] for s in places]
        assert counts == [(5, 0), (12, 0), (11, 1)]
        for source in places:
            file = "frames.extxyz" if source.name.startswith("frames") else f"{source.name}.parquet"
            predicted(small_archive, inputs / file, "-o", tmp_path / "one.parquet")
            with local_copy(f"{target}/{source.name}.parquet") as made:
                assert made.read_bytes() == (tmp_path / "one.parquet").read_bytes()
        with local_copy(f"{target}/_errors/p1.csv") as made:
            assert made.read_text() == (tmp_path / "errors.csv").read_text()
            assert "p1.parquet, row 4" in made.read_text()
    memory.rm("/out", recursive=True)
    memory.rm("/crystals", recursive=True)


def test_a_table_that_is_not_complete_does_not_take_its_place(
    inputs, small_archive, tmp_path, monkeypatch
) -> None:
    shards = worker(Settings((str(small_archive),), kind="csv"), tmp_path / "out")
    source = find_sources([str(inputs / "p1.parquet")])[0]
    with monkeypatch.context() as broken:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        broken.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            shards.predict(source.address, source.name)
    assert not list((tmp_path / "out").rglob("*.csv"))
    shards.predict(source.address, source.name)
    assert (tmp_path / "out" / "p1.csv").exists()
    assert (tmp_path / "out" / "_errors" / "p1.csv").exists()
    shards.predict(find_sources([str(inputs / "p0.parquet")])[0].address, "p1")
    assert not (tmp_path / "out" / "_errors" / "p1.csv").exists()


def test_what_is_done_is_what_has_a_table_that_is_newer(inputs, tmp_path) -> None:
    folder, sources = OutputFolder(str(tmp_path / "out")), find_sources([str(inputs)])
    assert _unfinished(sources, folder, "parquet") == sources
    with folder.writing("p0.parquet") as made:
        made.write_text("done")
    (tmp_path / "out" / ".p1.parquet.0123.tmp").write_text("of a run that was killed")
    names = [source.name for source in _unfinished(sources, folder, "parquet")]
    assert names == ["frames.extxyz", "p1"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["p0.parquet"]
    later = [replace(source, modified=source.modified + 1e6) for source in sources]
    assert _unfinished(later, folder, "parquet") == later


def test_a_folder_of_other_tables_is_refused(tmp_path) -> None:
    folder = OutputFolder(str(tmp_path / "out"))
    _claim(folder, {"sheet": "one"})
    _claim(folder, {"sheet": "one"})
    assert json.loads((tmp_path / "out" / "_potnet.json").read_text()) == {"sheet": "one"}
    with pytest.raises(ConfigError, match="must be those of the same models"):
        _claim(folder, {"sheet": "two"})
    with pytest.raises(ConfigError, match=r"must be empty or hold .*, got out/_potnet.json"):
        _claim(OutputFolder(str(tmp_path)), {"sheet": "one"})


def test_inputs_are_found_as_they_are_named(inputs, tmp_path) -> None:
    deep = inputs / "deeper" / "p0.parquet"
    deep.parent.mkdir()
    deep.write_bytes((inputs / "p0.parquet").read_bytes())
    (inputs / "_hidden.parquet").write_bytes(b"")
    (inputs / "notes.txt").write_text("no structure")
    names = ["frames.extxyz", "p0", "p1"]
    assert [s.name for s in find_sources([str(inputs)])] == names
    assert [s.name for s in find_sources([str(inputs)], recursive=True)] == ["deeper/p0", *names]
    assert [s.name for s in find_sources([f"{inputs}/**/*.parquet"])] == ["deeper/p0", "p0", "p1"]
    assert [s.address for s in find_sources([f"file://{deep}"])] == [str(deep)]
    with pytest.raises(ConfigError, match="must have a table of its own, got two for p0"):
        find_sources([str(inputs), str(deep)])
    with pytest.raises(ConfigError, match=r"none\.parquet: an input must be a file, .* got none"):
        find_sources([str(tmp_path / "none.parquet")])
    with pytest.raises(ConfigError, match="the address must be one that fsspec opens"):
        find_sources(["nowhere://x/*.parquet"])


def test_a_worker_with_other_models_is_refused(inputs, small_archive, tmp_path) -> None:
    settings = Settings((str(small_archive),))
    with pytest.raises(ConfigError, match="must have the same potnet and the same models"):
        ShardWorker(settings, str(tmp_path), settings.key(settings.maker()), "0.0.0").load()
    with pytest.raises(ConfigError, match="must have the same potnet and the same models"):
        ShardWorker(settings, str(tmp_path), "another", "0.1.0").load()


@pytest.mark.parametrize("as_table", [True, False])
def test_batches_of_ray_data_have_the_rows_of_a_sheet(
    inputs, small_archive, salts, as_table
) -> None:
    table = parquet.read_table(inputs / "p1.parquet")
    batch = table if as_table else table.to_pydict()
    found = Predictor([str(small_archive)])(batch).to_pylist()
    bad = [row for row in found if row["failure"]]
    assert [row["id"] for row in bad] == [salts[3].id]
    assert "row 4" in bad[0]["failure"]
    good = [c.replace(cell=c.cell * 1.01) for c in salts if c.id != salts[3].id]
    sheet = make_sheet(good, models=[str(small_archive)])
    expected = [row.record() | {"failure": None} for row in sheet]
    assert [row for row in found if not row["failure"]] == expected


def test_a_command_for_a_cluster_needs_a_folder_and_no_page(inputs, tmp_path) -> None:
    words = ["predict", str(inputs), "--cluster", "auto"]
    for more in ([], ["-o", str(tmp_path / "out"), "--html", str(tmp_path / "x.html")]):
        result = CliRunner().invoke(app, [*words, *more])
        assert result.exit_code == 1
        assert "`--cluster` must have a folder for its tables" in result.stderr


@needs_ray
@pytest.mark.timeout(600)
def test_a_cluster_of_this_machine_makes_the_tables_of_one_process(
    inputs, small_archive, tmp_path
) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'potnet[cluster]'")
    out = tmp_path / "out"
    words = ["predict", str(inputs), "-m", str(small_archive), "-o", str(out)]
    words += ["--cluster", "local", "--workers", "1", "--shards", "csv"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 3, result.output
    assert "28 crystals, 3 tables" in result.stdout
    for name in ("frames.extxyz", "p0.parquet", "p1.parquet"):
        predicted(small_archive, inputs / name, "-o", tmp_path / "one.csv")
        made = out / f"{name.removesuffix('.parquet')}.csv"
        assert made.read_bytes() == (tmp_path / "one.csv").read_bytes()
    (out / "p0.csv").unlink()
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "12 crystals, 3 tables, 2 of which were there already" in result.stdout
    listed = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    tables = {"frames.extxyz.csv", "p0.csv", "p1.csv"}
    assert listed == {"_potnet.json", "_lock", "_errors/p1.csv", *tables}
