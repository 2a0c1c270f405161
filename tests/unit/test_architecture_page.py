"""The page on architecture is true: every path and name on it exists, and every room is on it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
MAP = re.search(r"^```text\n(.*?)^```", PAGE, re.M | re.S)[1]
# A path under src/ or the root, with a name in it after a colon.
NAMED = re.findall(r"`((?:latticesums|potnet|tests|docs)/[\w/.]*?)(?::(\w+))?`", PAGE)


def rooms_of_the_map() -> list[Path]:
    """Return the path at the beginning of each line of the map."""
    found, folder = [], ROOT
    for line in MAP.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = ROOT / name
        found.append(folder / name if line.startswith(" ") else folder)
    return found


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[":".join(pair) for pair in NAMED])
def test_a_path_and_a_name_of_the_page_exist(path: str, name: str) -> None:
    found = [root / path for root in (ROOT / "src", ROOT) if (root / path).exists()]
    assert found, path
    if name:
        tree = ast.parse(found[0].read_text("utf-8"))
        defined = {node.name for node in tree.body if hasattr(node, "name")}
        assert name in defined


def test_every_place_of_the_map_exists() -> None:
    assert len(NAMED) > 40
    assert [str(path) for path in rooms_of_the_map() if not path.exists()] == []
    files = {path.name for path in (ROOT / "src").rglob("*.py")}
    assert set(re.findall(r"\w+\.py", MAP)) <= files


def test_every_room_is_on_the_map() -> None:
    package = ROOT / "src" / "potnet"
    rooms = {path for path in package.iterdir() if any(path.glob("*.py"))}
    rooms |= {path for path in package.glob("*.py") if path.stem != "__init__"}
    listed = set(rooms_of_the_map())
    missing = sorted(path.name for path in rooms - listed)
    assert not missing, "Give each a line on the map, in docs/architecture.md and README.md."


def test_the_readme_has_the_same_map_and_the_page_is_short() -> None:
    assert MAP in (ROOT / "README.md").read_text("utf-8")
    assert len(PAGE.splitlines()) <= 120
