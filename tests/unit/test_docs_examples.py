"""Every Python block of the README and the documentation, and every example script, runs."""

import re
import runpy
import shlex
import shutil
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest
from typer.main import get_command

from potnet.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TABLES = sorted((ROOT / "benchmarks" / "results" / "suites").glob("*.md"))
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


PAGES_WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own that has what the pages speak of: the bundled example crystals."""
    shutil.copytree(ROOT / "examples" / "crystals", tmp_path / "examples" / "crystals")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("bundled_models")
@pytest.mark.parametrize("page", PAGES_WITH_PYTHON, ids=lambda page: page.name)
def test_python_blocks_of_a_page_run_one_after_the_other(page: Path, workplace: Path) -> None:
    names: dict[str, object] = {"__name__": page.stem}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)


@pytest.mark.usefixtures("bundled_models", "workplace")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_example_scripts_run_and_draw(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("agg")
    monkeypatch.setattr("sys.argv", [str(script)])
    try:
        runpy.run_path(str(script), run_name="__main__")
        assert plt.get_fignums()
    finally:
        plt.close("all")


def test_the_readme_shows_python() -> None:
    assert blocks(ROOT / "README.md", "python")


def commands() -> list[str]:
    """Return every line of a shell block that calls potnet."""
    pages = [block for page in PAGES + TABLES for block in blocks(page, "bash")]
    lines = [line for block in pages for line in block.split("\n")]
    return sorted({line.split("#")[0].strip() for line in lines if line.startswith("potnet ")})


@pytest.mark.parametrize("line", commands())
def test_commands_of_the_pages_parse(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)  # a page may name a GPU
    group = get_command(app)
    _, name, *arguments = shlex.split(line)
    command = group.commands[name]  # type: ignore[attr-defined]
    with command.make_context(name, arguments):
        pass
