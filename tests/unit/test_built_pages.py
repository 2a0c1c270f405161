"""Formulas of the documentation need no script, and its pages no network."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("sphinx")
pytest.importorskip("quickjs")


def extension(name: str):
    path = ROOT / "docs" / "_ext" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"docs_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def formulas():
    return extension("formulas")


@pytest.fixture(scope="module")
def offline():
    return extension("offline")


def tex_of_the_pages() -> list[tuple[str, bool]]:
    found = []
    for page in sorted((ROOT / "docs").glob("*.md")):
        text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.M | re.S)
        found += [(tex, True) for tex in re.findall(r"\$\$(.+?)\$\$", text, re.S)]
        text = re.sub(r"\$\$.+?\$\$", "", text, flags=re.S)
        found += [(tex, False) for tex in re.findall(r"\$([^$]+?)\$", text)]
    return found


def test_every_formula_of_the_pages_is_drawn_without_its_tex(formulas, offline, tmp_path) -> None:
    tex = tex_of_the_pages()
    assert len(tex) > 300
    page = tmp_path / "page.html"
    page.write_text("".join(formulas.render(part.strip(), display) for part, display in tex))
    assert list(offline.faults(page)) == []
    assert page.read_text().count("<math") == len(tex)


def test_a_formula_that_is_wrong_is_an_error(formulas) -> None:
    with pytest.raises(formulas.quickjs.JSException, match="ParseError"):
        formulas.render(r"\frac{a", True)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a.html", '<script src="https://cdn.example/mathjax.js"></script>', "loads https://cdn"),
        ("a.html", '<link rel="stylesheet" href="//fonts.example/a.css">', "loads //fonts"),
        ("a.html", '<img src="http://example/picture.png">', "loads http://example"),
        ("a.html", '<style>@import "https://example/a.css";</style>', "loads https://example"),
        ("a.html", '<p style="background: url(https://example/a.png)">', "loads https://example"),
        ("a.css", '@font-face { src: url("https://example/font.woff2") }', "loads https://example"),
        ("a.html", r"<p>The sum \(\frac{a}{b}\)</p>", r"shows TeX: \("),
        ("a.html", "<div>$$ a^2 $$</div>", "shows TeX: $$"),
    ],
)
def test_pages_that_need_a_network_or_show_tex_are_named(
    offline, tmp_path, name, text, fault
) -> None:
    (tmp_path / name).write_text(text)
    assert fault in "\n".join(offline.faults(tmp_path / name))


def test_pages_that_stand_alone_pass(offline, tmp_path) -> None:
    page = tmp_path / "a.html"
    page.write_text(
        '<link rel="stylesheet" href="_static/a.css"><a href="https://example">out</a>'
        '<code>\\frac</code><script>var tex = "$$"</script><img src="a.png">'
    )
    assert list(offline.faults(page)) == []


def test_style_sheet_of_formulas_names_the_fonts_that_are_there() -> None:
    static = ROOT / "docs" / "_katex" / "static"
    urls = set(re.findall(r"url\(([^)]+)\)", (static / "katex.min.css").read_text()))
    assert urls == {f"fonts/{path.name}" for path in (static / "fonts").iterdir()}
