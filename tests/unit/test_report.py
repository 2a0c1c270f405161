"""Plots and the HTML report."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from potnet.report import Report, learning_curve, parity_plot, png, residual_histogram, versions

TARGET = np.linspace(-1, 2, 50)
PREDICTION = TARGET + 0.25 * np.where(np.arange(50) % 2, 1, -1)


class Outline(HTMLParser):
    """Collect what a page holds: tags that balance, text, and addresses that it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in {"meta", "img"}:
            self.open.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in {"src", "href"}]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def outline(report: Report) -> Outline:
    page = Outline()
    page.feed(report.to_html())
    page.close()
    return page


def test_parity_plot_states_the_mean_absolute_error_with_its_unit() -> None:
    figure = parity_plot(TARGET, PREDICTION, name="formation energy", unit="eV/atom")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["MAE 0.25 eV/atom\n50 crystals"]
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlabel() == "reference (eV/atom)"


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [0.0, 0.0, 0.0]])
def test_plots_take_values_without_spread(values: list[float]) -> None:
    assert png(parity_plot(values, values, name="x")).startswith(b"\x89PNG")
    assert png(residual_histogram(values, values, name="x")).startswith(b"\x89PNG")


def test_plots_refuse_arrays_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="equally long"):
        parity_plot([1.0, 2.0], [1.0], name="x")
    with pytest.raises(ValueError, match="not empty"):
        residual_histogram([], [], name="x")


def test_residual_histogram_counts_every_crystal_or_says_how_many_are_outside() -> None:
    prediction = TARGET.copy()
    prediction[0] += 1000
    figure = residual_histogram(TARGET, prediction, name="x", unit="GPa")
    counted = sum(bar.get_height() for bar in figure.axes[0].patches)
    assert counted == 49
    assert [text.get_text() for text in figure.axes[0].texts] == ["2.0 % outside"]


def test_learning_curve_marks_the_best_epoch() -> None:
    curves = {"train": [1.0, 0.5, 0.2], "validation": [1.1, 0.6, 0.7]}
    figure = learning_curve([1, 2, 3], curves, best=2)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["train", "validation", "best: epoch 2"]
    assert figure.axes[0].get_yscale() == "log"
    assert learning_curve([1], {"loss": [0.0]}).axes[0].get_yscale() == "linear"


def test_the_same_figure_gives_the_same_bytes() -> None:
    first, second = (png(parity_plot(TARGET, PREDICTION, name="x")) for _ in range(2))
    assert first == second


def full_report() -> Report:
    report = Report("A <model>", "Lead & more.")
    report.tiles({"test MAE": "0.03 eV/atom"})
    report.heading("Worst crystals")
    report.table(["id", "error"], [["<script>alert(1)</script>", 0.123456], ["b", 2.0]], "Worst")
    report.text("Text")
    report.pairs({"epochs": 1200, "ema": True})
    report.figures({"parity": parity_plot(TARGET, PREDICTION, name="x")})
    return report


def test_report_is_well_formed_and_loads_nothing() -> None:
    page = outline(full_report())
    assert page.open == []
    assert len(page.addresses) == 1
    assert page.addresses[0].startswith("data:image/png;base64,")
    assert not re.search(r"https?://|url\(|@import", full_report().to_html())


def test_report_escapes_what_it_is_given() -> None:
    page = outline(full_report())
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text
    assert {"A <model>", "Lead & more.", "0.1235", "1,200", "True"} <= set(page.text)


def test_report_appears_whole(tmp_path) -> None:
    path = tmp_path / "report.html"
    full_report().write(path)
    assert path.read_text("utf-8") == full_report().to_html()
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_versions_name_what_a_result_depends_on() -> None:
    assert {"potnet", "torch", "numpy", "python", "machine"} <= versions().keys()
