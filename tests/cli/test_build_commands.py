"""Stores on the command line: built, verified, and taken wherever data are."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from potnet.cli import app
from potnet.data import ParquetFolder


def potnet_cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Thirty rock salts with a modulus, and a thirty-first that cannot be one."""
    path = tmp_path_factory.mktemp("data") / "salts.jsonl"
    records = [
        {
            "id": f"salt-{k}",
            "lattice": [[0, a, a], [a, 0, a], [a, a, 0]],
            "species": ["Na" if k % 2 else "Li", "Cl" if k % 3 else "F"],
            "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
            "targets": {"bulk_modulus": 10.0 + k},
        }
        for k, a in enumerate(2.4 + 0.02 * k for k in range(30))
    ]
    records.append({**records[0], "id": "bad", "species": ["Na", "Xx"]})
    path.write_text("\n".join(map(json.dumps, records)))
    return path


@pytest.fixture(scope="module")
def stored(table) -> Path:
    folder = table.parent / "store"
    result = potnet_cli("datasets", "build", table, "-o", folder)
    assert result.exit_code == 3, result.output
    assert "30 crystals" in result.output
    return folder


def test_build_says_what_was_skipped_and_does_not_build_twice(table, stored):
    assert "bad,read," in (stored / "_errors.csv").read_text()
    again = potnet_cli("datasets", "build", table, "-o", stored, "--workers", 2)
    assert "30 crystals" in again.output
    assert len(ParquetFolder(stored)) == 30


def test_verify_reads_every_byte(stored):
    whole = potnet_cli("datasets", "verify", stored)
    assert whole.exit_code == 0
    assert "30 crystals, 1 failures, version" in whole.output
    shard = stored / "000000.parquet"
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    damaged = potnet_cli("datasets", "verify", stored)
    content[40] ^= 1
    shard.write_bytes(content)
    assert damaged.exit_code == 1
    assert "must be as it was written, got changed bytes" in damaged.output


def test_no_store_is_one_sentence(tmp_path):
    result = potnet_cli("datasets", "verify", tmp_path)
    assert result.exit_code == 1
    assert "a dataset of Parquet files must have a readable _potnet.json" in result.output


def test_every_command_that_takes_data_takes_a_store(stored, tmp_path):
    # The crystal that the store does not have is told again.
    assert "30 good, 1 refused" in potnet_cli("check", stored).output
    rows = tmp_path / "rows.csv"
    result = potnet_cli("predict", stored, "-m", "bulk-modulus", "-o", rows)
    assert result.exit_code == 0, result.output
    assert len(rows.read_text().splitlines()) == 1 + 2 * 30  # density and modulus of each
    result = potnet_cli("evaluate", stored, "-m", "bulk-modulus")
    assert result.exit_code == 3, result.output  # one crystal is not in the store
    assert "bulk_modulus" in result.output
    small = ["--epochs", 1, "--set", "network_settings={width: 8, vectors: 4, n_layers: 1}"]
    result = potnet_cli("train", stored, "-o", tmp_path / "run", "-t", "bulk_modulus", *small)
    assert result.exit_code == 3, result.output
    assert (tmp_path / "run" / "model" / "model.json").exists()
    assert "bad,read," in (tmp_path / "run" / "errors.csv").read_text()
