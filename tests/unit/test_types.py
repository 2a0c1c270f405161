"""The packages carry their types, and the file that pyright checks in strict mode is complete."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
USE = ROOT / "tests" / "typing" / "public_face.py"


@pytest.mark.parametrize("package", ["potnet", "latticesums"])
def test_every_public_name_is_used_in_the_strictly_checked_file(package: str) -> None:
    used = {
        node.attr
        for node in ast.walk(ast.parse(USE.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == package
    }
    assert USE.read_text("utf-8").startswith("# pyright: strict\n")
    assert not set(import_module(package).__all__) - used


@pytest.mark.parametrize("package", ["potnet", "latticesums"])
def test_the_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / "src" / package / "py.typed").is_file()
