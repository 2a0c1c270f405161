"""The page that ``potnet check`` writes of a dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from potnet.crystal.elements import SYMBOLS
from potnet.errors import FAILURE_COLUMNS
from potnet.report.page import Report, versions
from potnet.report.plots import BLUE, GREY, empty_figure, labelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from potnet.checks import CheckResult, TargetSummary

SHOWN = 100  # rows of a table
NOBLE = (0, 2, 10, 18, 36, 54, 86, 118)


def dataset_report(found: CheckResult, path: str | os.PathLike[str]) -> None:
    """Write what was found in a dataset as one HTML file."""
    n = len(found.ids)
    problems = sum(finding.severity == "problem" for finding in found.findings)
    report = Report(
        f"Check of {found.name}",
        f"{n:,} crystals can be used. "
        + (f"{problems} problems to look at before training." if problems else "No problems."),
    )
    report.tiles(
        {
            "crystals": f"{n:,}",
            "refused": f"{len(found.failures):,}",
            "elements": f"{len(found.elements)}",
            "targets": f"{len(found.columns)}",
            "there several times": f"{sum(len(g.rows) for g in found.duplicates if g.same):,}",
        }
    )
    if found.findings:
        report.heading("Findings")
        rows = [[f.severity, f.kind, f.text] for f in found.findings]
        report.table(["weight", "kind", "what"], rows)
    if found.failures:
        report.heading("Refused")
        shown = [[f.id, f.stage, f.reason] for f in found.failures[:SHOWN]]
        report.table(FAILURE_COLUMNS, shown, _of(len(shown), len(found.failures)))
    if n:
        report.heading("Crystals")
        figures = {"elements": element_table_plot(found.elements)}
        report.figures(figures)
        report.figures(
            {
                "atoms in the cell": histogram(found.n_atoms, name="atoms in the cell", log=True),
                "volume per atom": histogram(
                    found.volume_per_atom, name="volume per atom", unit="Å³"
                ),
            }
        )
    if found.columns:
        report.heading("Targets")
        report.table(
            ["target", "unit", "known", "missing", "least", "median", "mean", "largest", "std"],
            [_summary(column) for column in found.columns],
        )
        report.figures(
            {c.name: histogram(c.known, name=c.name, unit=c.unit) for c in found.columns}
        )
        _outliers(report, found)
    if found.splits:
        report.heading("Splits")
        rows = [
            [name or "all targets", *(int((labels == part).sum()) for part in _PARTS)]
            for name, labels in found.splits.items()
        ]
        report.table(["split", *_PARTS], rows)
    _duplicates(report, found)
    report.heading("Versions")
    report.pairs(versions())
    report.write(path)


_PARTS = ("train", "val", "test")


def _summary(column: TargetSummary) -> list[object]:
    x = column.known
    numbers = [x.min(), np.median(x), x.mean(), x.max(), x.std()]
    return [column.name, column.unit, len(x), column.n_missing, *(float(v) for v in numbers)]


def _outliers(report: Report, found: CheckResult) -> None:
    rows = [
        [c.name, found.ids[k], found.formulas[k], float(c.values[k]), c.unit, why]
        for c in found.columns
        for why, ks in (("cannot be", c.impossible), ("far out", c.outliers))
        for k in ks
    ]
    if rows:
        header = ["target", "id", "formula", "value", "unit", "why"]
        report.table(header, rows[:SHOWN], _of(min(SHOWN, len(rows)), len(rows)))


def _duplicates(report: Report, found: CheckResult) -> None:
    if not found.duplicates:
        return
    report.heading("The same crystal several times")
    rows = []
    for group in found.duplicates[:SHOWN]:
        formula = found.formulas[group.rows[0]]
        ids = ", ".join(found.ids[k] for k in group.rows[:10])
        more = f" and {len(group.rows) - 10} more" if len(group.rows) > 10 else ""
        leaks = ", ".join(name or "all targets" for name in group.leaks)
        members = [(c.name, c.values[list(group.rows)]) for c in found.columns]
        values = "; ".join(
            f"{name} {np.nanmin(x):.4g} to {np.nanmax(x):.4g}"
            for name, x in members
            if np.isfinite(x).any()
        )
        equal = "equal" if group.same else "nearly equal"
        rows.append([formula, equal, ids + more, leaks, values])
    header = ["formula", "how", "ids", "leaks in the split of", "values"]
    report.table(header, rows, _of(len(rows), len(found.duplicates)))


def _of(shown: int, n: int) -> str:
    return f"The first {shown:,} of {n:,}." if shown < n else ""


def histogram(values: ArrayLike, *, name: str, unit: str = "", log: bool = False) -> Figure:
    """Return the distribution of ``values``, on logarithmic axes of counts where tails are long.

    Args:
        values: Finite values, shape (n,).
        name: What they are, for the title.
        unit: Their unit, for the axis.
        log: Bins that grow with the value, which must be positive.
    """
    x = np.asarray(values, dtype=float)
    figure, axes = empty_figure(name, width=4.8, height=3.2)
    low, high = float(x.min()), float(x.max())
    n_bins = int(np.clip(2 * np.sqrt(len(x)), 10, 60))
    if log and high > low:
        bins = np.geomspace(low, high + 0.5, n_bins).tolist()
        axes.set_xscale("log")
    else:
        bins = np.linspace(low, high, n_bins).tolist() if high > low else [low - 0.5, low + 0.5]
    counts, _, _ = axes.hist(x, bins=bins, color=BLUE, alpha=0.85)
    if np.max(counts) > 50 * max(float(np.median(counts)), 1.0):
        axes.set_yscale("log")
    axes.set_xlabel(labelled(name, unit))
    axes.set_ylabel("crystals")
    return figure


def element_table_plot(counts: Mapping[str, int]) -> Figure:
    """Return the periodic table with the number of crystals that have each element."""
    figure = Figure(figsize=(9.8, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set(xlim=(0, 18), ylim=(9.6, 0), aspect="equal")
    norm = LogNorm(1, max(counts.values(), default=1) + 1)
    colours = colormaps["YlGnBu"]
    for number in range(1, 119):
        column, row = _place(number)
        symbol = SYMBOLS[number]
        count = counts.get(symbol, 0)
        colour = colours(0.85 * float(norm(count))) if count else "#f3f4f6"
        dark = bool(count) and float(norm(count)) > 0.6
        _cell(axes, column, row, symbol, count, colour, "white" if dark else "#1f2937")
    return figure


def _cell(
    axes: Axes, column: int, row: float, symbol: str, count: int, colour: object, ink: str
) -> None:
    axes.add_patch(Rectangle((column + 0.03, row + 0.03), 0.94, 0.94, color=colour, linewidth=0))  # type: ignore[arg-type]
    ink = ink if count else GREY
    axes.text(column + 0.5, row + 0.42, symbol, ha="center", va="center", fontsize=9, color=ink)
    if count:
        text = f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k"
        axes.text(column + 0.5, row + 0.78, text, ha="center", va="center", fontsize=5.5, color=ink)


def _place(number: int) -> tuple[int, float]:
    """Return column and row of an element in the usual form of the table, f block below."""
    period = int(np.searchsorted(NOBLE, number)) - 1
    from_left, from_right = number - NOBLE[period] - 1, NOBLE[period + 1] - number
    if period >= 5 and 2 <= from_left <= 16 and from_right >= 15:
        return from_left, period + 2.6
    left = from_left < (1 if period == 0 else 2)
    return (from_left if left else 17 - from_right), float(period)
