"""Reports of several runs: all folds together, and how the error falls with the crystals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter

from potnet.report.page import Report
from potnet.report.plots import BLUE, GREY, ORANGE, empty_figure, labelled
from potnet.report.run import Compared, add_properties, close_report, save_figure
from potnet.text import file_name
from potnet.training.run_folder import RunFolder
from potnet.training.series import read_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from potnet.training.series import CrossValidation, LearningCurve


def folds_report(found: CrossValidation) -> Path:
    """Write plots and ``report.html`` of all folds into the folder of the series; return it."""
    folder = found.output
    targets = json.loads((folder / "all" / "run.json").read_text("utf-8"))["targets"]
    names = [target["name"] for target in targets]
    report = Report(
        f"All folds: {', '.join(names)}",
        "Each crystal was predicted by a network that has not seen it. The model has then learned "
        "from all crystals.",
    )
    compared = []
    for target in targets:
        if target["name"] in found.metrics:
            path = RunFolder(folder).predictions("test", target["name"], several=len(names) > 1)
            rows = [row for row in read_table(path) if row[1] == row[1]]
            ids = tuple(row[0] for row in rows)
            true, said = (np.array([row[k] for row in rows]) for k in (1, 2))
            metrics = found.metrics[target["name"]]
            about = "crystals, never trained on"
            pair = (target["name"], target["unit"])
            compared.append(Compared(*pair, ids, true, said, metrics, about))
    add_properties(report, compared, found.metrics, folder)
    report.heading("Folds")
    rows = [
        [name, *(f"{error:.4g}" for error in m["folds"]), m["fold_mean"], m["fold_std"]]
        for name, m in found.metrics.items()
        if "folds" in m
    ]
    n_folds = len(rows[0]) - 3 if rows else 0
    header = ["mean absolute error", *(f"fold {k}" for k in range(n_folds)), "mean", "std"]
    report.table(header, rows)
    return close_report(report, folder)


def curve_report(found: LearningCurve, units: Mapping[str, str]) -> Path:
    """Write the plot and ``report.html`` of a learning curve into its folder; return it."""
    report = Report(
        f"Learning curve: {', '.join(found.laws)}",
        "The same test crystals, ever more crystals to learn from. Bars and bands are 90 % "
        "intervals; beyond the last point the law is an assumption.",
    )
    for name, law in found.laws.items():
        report.heading(name)
        report.text(law.sentence(name))
        figure = power_law_plot(found, name, units.get(name, ""))
        several = f"-{file_name(name)}" * (len(found.laws) > 1)
        save_figure(figure, found.output / f"learning-curve{several}.png")
        report.figures({f"{name}: error by training crystals": figure})
        rows: list[list[Any]] = [
            [size, error, f"{low:.4g} to {high:.4g}"]
            for size, error, low, high in zip(
                found.sizes, found.errors[name], law.low, law.high, strict=True
            )
        ]
        report.table(["training crystals", "mean absolute error", "90 % interval"], rows)
        needed = [
            [f"{100 * n.reduction:.0f} % less"] + [_count(x) for x in (n.crystals, n.low, n.high)]
            for n in law.needed
        ]
        report.table(["error", "crystals needed", "from", "to"], needed, "If the law goes on")
    return close_report(report, found.output)


def power_law_plot(found: LearningCurve, name: str, unit: str = "") -> Figure:
    """Return errors by the number of training crystals, and the law through them."""
    law, errors = found.laws[name], np.array(found.errors[name])
    figure, axes = empty_figure(f"{name}: how more crystals help", width=6.4, height=4.4)
    bars = np.abs(np.array([law.low, law.high]) - errors)
    axes.errorbar(found.sizes, errors, bars, fmt="o", color=BLUE, capsize=3, label="measured")
    inside = np.geomspace(found.sizes[0], found.sizes[-1], 50)
    beyond = np.geomspace(found.sizes[-1], 8 * found.sizes[-1], 50)
    label = f"n^{-law.exponent:+.2f}"
    axes.plot(inside, law.at(inside), color=ORANGE, label=label)
    axes.plot(beyond, law.at(beyond), color=ORANGE, linestyle="--", label="if it goes on")
    axes.axvline(found.sizes[-1], color=GREY, linewidth=0.8, linestyle=":")
    axes.set(xscale="log", yscale="log")
    plain = FuncFormatter(lambda value, _: f"{value:,.10g}")
    axes.xaxis.set_major_formatter(plain)
    axes.set_xlabel("training crystals")
    axes.set_ylabel(labelled("mean absolute error", unit))
    axes.legend(frameon=False)
    return figure


def _count(value: float) -> str:
    return f"{value:,.0f}" if value < 1e9 else "cannot be told"
