"""Compiled code that is damaged, or of others, is compiled again and never run."""

import importlib.util
import logging
import os
import sys

import numba
import pytest

from latticesums.compiled import machine_code

SOURCE = """
from numba import types
from latticesums.compiled.jit import entry

def function(x):
    return 2.0 * x

doubled = entry(function, types.float64(types.float64))
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Import the function anew, as a new process would, with its cache in ``tmp_path``."""
    file = tmp_path / "doubling.py"
    file.write_text(SOURCE)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))

    def start():
        spec = importlib.util.spec_from_file_location("doubling", file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "doubling", module)
        spec.loader.exec_module(module)
        return module.doubled

    return start


def hits(function) -> int:
    assert function.ctypes(21.0) == 42.0
    return function.cache_hits


def cached(tmp_path):
    return sorted(path for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_compiled_code_is_found_on_the_disk_again(start):
    assert hits(start()) == 0
    assert hits(start()) == 1


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", ["emptied", "cut", "one byte changed"])
def test_a_damaged_file_is_compiled_again_and_replaced(start, tmp_path, suffix, damage):
    hits(start())
    for path in cached(tmp_path):
        if path.suffix == suffix:
            content = path.read_bytes()
            middle = len(content) // 2
            changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            path.write_bytes({"emptied": b"", "cut": content[:-100]}.get(damage, changed))
    assert hits(start()) == 0
    assert hits(start()) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners and modes on this system")
def test_what_others_could_have_written_is_not_run(start, tmp_path, caplog):
    hits(start())
    for path in cached(tmp_path):
        path.chmod(0o666)
    with caplog.at_level(logging.WARNING, "latticesums"):
        assert hits(start()) == 0
    assert "must be writable by its owner alone" in caplog.text
    assert hits(start()) == 1, "the file was replaced by one of this user"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners and modes on this system")
def test_an_open_umask_leaves_no_file_that_others_can_write(start, tmp_path):
    before = os.umask(0)
    try:
        hits(start())
    finally:
        os.umask(before)
    assert hits(start()) == 1


def test_a_full_disk_costs_the_cache_alone(start, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    assert hits(start()) == 0


@pytest.mark.parametrize("damage", ["emptied", "cut", "of others"])
def test_machine_code_that_is_damaged_or_of_others_is_made_again(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(machine_code, "_folders", lambda: [tmp_path])
    made = []

    def make() -> bytes:
        made.append(1)
        return b"machine code"

    for _ in range(2):
        assert machine_code._stored("kernel.o", make) == b"machine code"
    assert len(made) == 1
    file = tmp_path / "kernel.o"
    content = file.read_bytes()
    if damage == "of others":
        file.chmod(0o666)
    else:
        file.write_bytes(content[:-20] if damage == "cut" else b"")
    if damage != "of others" or hasattr(os, "geteuid"):
        for _ in range(2):
            assert machine_code._stored("kernel.o", make) == b"machine code"
        assert len(made) == 2
        assert [path.name for path in tmp_path.iterdir()] == ["kernel.o"]


def test_machine_code_is_made_where_no_folder_takes_it(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(machine_code, "_folders", lambda: [tmp_path / "file"])
    assert machine_code._stored("kernel.o", lambda: b"machine code") == b"machine code"
