"""Text from outside does no harm where it is shown or written, and stays what it was if it can."""

import csv
import io

import matplotlib.pyplot as plt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potnet.text import MAX_FILE_NAME, csv_cell, csv_text, file_name, plot_text, printable

HOSTILE = [
    "\x1b]0;OWNED\x07\x1b[2J\x1b[31mred\x1b[8m",
    "a\r\nb\tc",
    "user\u202etxt.exe",
    "half \ud800 of a character",
    "\x00nul",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "@SUM(A1)",
    "../../../esc/aped",
    "..\\windows",
    "c" * 5000,
    "price_$_per_$",
    "cost_$_{ $",
    r"\$already$",
    "con",
    "",
    "\u00e9" * 200,
    "a/b",
    "a:b",
]

anything = st.text(st.characters(codec=None, exclude_categories=())) | st.sampled_from(HOSTILE)


@given(anything)
def test_printable_text_is_one_line_that_any_encoding_of_unicode_takes(text):
    found = printable(text)
    assert found.isprintable()
    found.encode("utf-8")
    assert printable(found) == found
    assert len(printable(text, 20)) <= 20


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_plain_text_stays_as_it_is(text):
    assert printable(text) == text


@given(anything)
def test_no_cell_of_a_table_begins_a_formula_and_numbers_stay(text):
    found = csv_cell(text)
    assert not found.startswith(("=", "@", "\t", "\r"))
    assert csv_cell(found) == found
    assert csv_text(found) in (printable(text), printable(text)[1:])
    written = io.StringIO()
    csv.writer(written).writerow([found])
    assert next(csv.reader(io.StringIO(written.getvalue()))) == [found]


@pytest.mark.parametrize("text", ["-1.5", "+2", "1e-300", "-inf", "nan", "mp-149", "Na-Cl"])
def test_numbers_and_plain_ids_are_cells_as_they_are(text):
    assert csv_cell(text) == text


@given(anything)
def test_a_file_name_is_one_name_in_one_folder(text):
    name = file_name(text)
    assert name == file_name(text)
    assert not set(name) & set('/\\:*?"<>|\0')
    assert name.isprintable()
    assert not name.startswith(".")
    assert 0 < len(name.encode()) <= MAX_FILE_NAME + 9


def test_two_names_never_share_a_file():
    texts = [*HOSTILE, "a-b", "a?b", "c" * 4999, "-a-b", "esc-aped", ".a-b"]
    assert len({file_name(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("name", ["band_gap", "log10(K_VRH)", "gap pbe", "energy (eV)", "a.b"])
def test_plain_names_are_file_names_as_they_are(name):
    assert file_name(name) == name


@pytest.mark.parametrize("text", HOSTILE)
def test_matplotlib_draws_whatever_a_column_is_called(text):
    figure = plt.figure(figsize=(1, 1))
    try:
        figure.suptitle(plot_text(text))
        figure.canvas.draw()
    finally:
        plt.close(figure)
