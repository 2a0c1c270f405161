"""The package keeps its shape: one-way imports, a quick start, nothing forbidden."""

import ast
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import potnet

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "potnet"

# Each part and the parts that it may import. Nothing may import what stands after it.
ALLOWED: dict[str, set[str]] = {"errors": set(), "files": set()}
ALLOWED["crystal"] = {"errors"}
ALLOWED["stability"] = {"crystal", "errors"}
ALLOWED["io"] = {"crystal", "errors", "files"}
ALLOWED["sums"] = {"errors"}
ALLOWED["data"] = {"io", *ALLOWED["io"]}
ALLOWED["checks"] = {"data", "sums", *ALLOWED["data"]}
ALLOWED["features"] = {"sums", "io", *ALLOWED["io"]}
ALLOWED["models"] = {"features", *ALLOWED["features"]}
ALLOWED["prediction"] = {"models", *ALLOWED["models"]}
ALLOWED["training"] = {"prediction", "data", *ALLOWED["prediction"]}
ALLOWED["report"] = {"checks", "training", "data", *ALLOWED["training"]}
ALLOWED["regressor"] = {"training", "data", *ALLOWED["training"]}
ALLOWED["demo"] = {"report", *ALLOWED["report"]}
ALLOWED["benchmark"] = {"training", "data", *ALLOWED["training"]}
ALLOWED["cli"] = {"demo", "benchmark", *ALLOWED["demo"], *ALLOWED["benchmark"]}

HEAVY = ("torch", "ase", "matplotlib", "numba", "rich", "gemmi", "pydantic", "scipy", "moyopy")


def sources() -> list[Path]:
    """Return every Python file of potnet."""
    return sorted(PACKAGE.rglob("*.py"))


def sources_of_sums() -> list[Path]:
    """Return every Python file of latticesums."""
    return sorted((ROOT / "src" / "latticesums").rglob("*.py"))


def part_of(path: Path) -> str:
    """Return the part of the package that a file belongs to: ``models/potnet.py`` to models."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """Return the parts of potnet that a file imports anywhere, also inside functions."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            modules.add(".".join((*_package_of(path, node.level), node.module or "")))
        elif isinstance(node, ast.ImportFrom) and node.module == "potnet":
            modules.update(f"potnet.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    return {name.split(".")[1] for name in modules if name.startswith("potnet.")}


def _package_of(path: Path, level: int) -> tuple[str, ...]:
    parts = path.relative_to(PACKAGE.parent).parts
    return parts[: len(parts) - level]


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        pytest.skip("the public face names every part, lazily")
    assert part in ALLOWED, f"the new part {part!r} needs its place in ALLOWED"
    assert imported_parts(path) - {part} <= ALLOWED[part]


def test_the_order_of_imports_has_no_circle() -> None:
    for part, below in ALLOWED.items():
        assert all(part not in ALLOWED[name] for name in below)


@pytest.mark.parametrize("path", sources_of_sums(), ids=lambda p: p.stem)
def test_the_sums_know_nothing_of_potnet(path: Path) -> None:
    assert "potnet" not in path.read_text("utf-8")


@pytest.mark.parametrize("path", [*sources(), *sources_of_sums()], ids=str)
def test_sources_never_pickle_print_or_swallow_errors(path: Path) -> None:
    text = path.read_text("utf-8")
    for pattern in (r"\bpickle\b", r"torch\.(load|save)\(", r"^\s*print\(", r"except Exception"):
        assert not re.search(pattern, text, re.MULTILINE), pattern


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def fastest(command: list[str], repeats: int = 5) -> float:
    """Return the least processor time of a command in seconds: other programs do not count."""
    times = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(times)


def test_importing_potnet_imports_nothing_heavy() -> None:
    code = "import sys, potnet; print(*sorted(m.split('.')[0] for m in sys.modules))"
    assert not set(run_python(code).split()) & {*HEAVY, "numpy"}


def test_the_command_line_starts_without_torch() -> None:
    code = "import sys, potnet.cli; print(*sorted(m.split('.')[0] for m in sys.modules))"
    assert not set(run_python(code).split()) & {"torch", "ase", "matplotlib", "numba", "numpy"}


def test_potnet_imports_within_300_milliseconds() -> None:
    start = fastest([sys.executable, "-c", "pass"])
    assert fastest([sys.executable, "-c", "import potnet"]) - start <= 0.3


def test_help_appears_within_half_a_second() -> None:
    command = Path(sys.executable).with_name("potnet")
    assert fastest([str(command), "--help"]) <= 0.5


@pytest.mark.parametrize("name", potnet.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(potnet, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        potnet.nonsense  # noqa: B018
