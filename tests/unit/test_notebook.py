"""Crystals and tables as notebooks show them."""

import html
import json
import re

import pytest

from potnet import Crystal
from potnet.errors import Failure
from potnet.prediction.rows import SHOWN, Prediction, Predictions
from potnet.sheet import Row, Sheet

HOSTILE = "</script><script>alert(1)</script>"


def scene_of(text: str) -> dict:
    page = html.unescape(re.search(r'srcdoc="([^"]*)"', text)[1])  # type: ignore[index]
    return json.loads(re.search(r"const scene = (\{.*?\});", page)[1])  # type: ignore[index]


def test_a_crystal_is_drawn_with_its_cell_and_the_bonds_through_the_boundary(salts) -> None:
    scene = scene_of(salts[4]._repr_html_())
    assert len(scene["edges"]) == 12
    assert len(scene["bonds"]) == 6
    assert len(scene["points"]) == len(scene["radii"]) + 8
    assert len(scene["radii"]) > 2, "atoms of other cells that bonds reach"
    assert all(max(bond) < len(scene["radii"]) for bond in scene["bonds"])


def test_what_a_file_said_is_only_text_in_a_notebook() -> None:
    crystal = Crystal([14], [[0, 0, 0]], [[3, 0, 0], [0, 3, 0], [0, 0, 3]], id=HOSTILE)
    text = crystal._repr_html_()
    assert "<script" not in text, "scripts stand in the frame alone, as an attribute"
    assert text.count("<iframe") == 1
    assert 'sandbox="allow-scripts"' in text
    assert not re.search(r"https?://", html.unescape(text)), "nothing is loaded"


def test_a_large_cell_is_told_in_words(salts) -> None:
    assert "<iframe" not in salts[4].supercell([8, 8, 8])._repr_html_()


def test_tables_show_their_rows_and_what_failed() -> None:
    nan = float("nan")
    rows = [Prediction(HOSTILE, "gap", 1.23456, nan, nan, "eV", ("a < b",))] * (SHOWN + 1)
    text = Predictions(rows, [Failure("x", "read", HOSTILE)])._repr_html_()
    assert "<script" not in text
    assert "1.235" in text
    assert text.count("<tr>") == SHOWN + 1
    assert f"The first {SHOWN} of {SHOWN + 1}" in text
    assert "1 could not be used" in text


@pytest.mark.parametrize("value", [1.5, float("nan")])
def test_a_sheet_shows_value_and_known_value(value) -> None:
    row = Row("a", "NaCl", 2, "", "band_gap", 5.0, 4.0, 6.0, "eV", reference=value, note="known: b")
    text = Sheet([row])._repr_html_()
    assert "band_gap" in text
    assert ("1.5" in text) == (value == value)
