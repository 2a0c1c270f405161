"""Equations of the theory page: numbered once and in order, and what the code cites exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "theory.md").read_text("utf-8")
NUMBERS = [int(number) for number in re.findall(r"\\tag\{(\d+)\}", PAGE)]
CODE = [
    path
    for folder in ("src", "tests", "benchmarks", "scripts", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != Path(__file__)
]
CITED = re.compile(r"\beqs?\.\s*\(?(\d+(?:(?:,|\s+and|\s+to|-)\s*\d+)*)")


def cited(text: str) -> list[int]:
    """Return the numbers of the equations that comments and docstrings name."""
    return [int(n) for match in CITED.findall(text) for n in re.findall(r"\d+", match)]


def test_equations_are_numbered_once_and_in_order() -> None:
    assert len(NUMBERS) > 30
    assert list(range(1, len(NUMBERS) + 1)) == NUMBERS


@pytest.mark.parametrize("text", ["eq. 3", "(eqs. 3 and 7)", "eqs. 3, 4 to 7", "docs, eq. (3)"])
def test_citations_are_found(text: str) -> None:
    assert cited(text)[0] == 3


def test_every_equation_that_the_code_cites_is_on_the_page() -> None:
    found = {path: cited(path.read_text("utf-8")) for path in CODE}
    assert sum(map(len, found.values())) > 20
    missing = {str(path): set(n) - set(NUMBERS) for path, n in found.items()}
    assert not any(missing.values()), {path: n for path, n in missing.items() if n}


def test_every_section_that_the_code_cites_is_on_the_page() -> None:
    headings = re.findall(r"^#+ (.+)$", PAGE, re.M)
    texts = [re.sub(r"\s+(# )?", " ", path.read_text("utf-8")) for path in CODE]
    named = [name for text in texts for name in re.findall(r'theory\.md, "([^"]+)"', text)]
    assert named
    assert [name for name in named if not any(h.startswith(name) for h in headings)] == []


def test_the_page_refers_to_equations_that_it_has() -> None:
    prose = re.sub(r"\$\$.*?\$\$|\$[^$]+?\$|```.*?```|`[^`]*`", "", PAGE, flags=re.S)
    numbers = {int(number) for number in re.findall(r"\((\d{1,2})\)", prose)}
    assert numbers
    assert numbers <= set(NUMBERS)
